"""How large things of each class are, and which class a detector's label means."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

_TYPICAL = {
    ObjectClass.UNKNOWN: (3.0, 1.5, 1.5),
    ObjectClass.PERSON: (0.5, 0.5, 1.7),
    ObjectClass.CYCLIST: (1.8, 0.6, 1.7),
    ObjectClass.MOTORCYCLE: (2.1, 0.8, 1.6),
    ObjectClass.CAR: (4.5, 1.85, 1.6),
    ObjectClass.TRUCK: (8.0, 2.5, 3.2),
    ObjectClass.BUS: (11.5, 2.55, 3.2),
    ObjectClass.ANIMAL: (0.9, 0.4, 0.7),
    ObjectClass.UAV: (0.6, 0.6, 0.3),
    ObjectClass.OBSTACLE: (1.0, 1.0, 1.0),
}
_SPREAD = {
    ObjectClass.UNKNOWN: 0.5, ObjectClass.PERSON: 0.1, ObjectClass.CYCLIST: 0.1,
    ObjectClass.MOTORCYCLE: 0.15, ObjectClass.CAR: 0.12, ObjectClass.TRUCK: 0.25,
    ObjectClass.BUS: 0.12, ObjectClass.ANIMAL: 0.4, ObjectClass.UAV: 0.5,
    ObjectClass.OBSTACLE: 0.6,
}  # fmt: skip
TYPICAL: FloatArray = np.array([_TYPICAL[c] for c in ObjectClass])
"""(classes, 3) m: length, width, height."""
SPREAD: FloatArray = np.array([_SPREAD[c] for c in ObjectClass])
"""(classes,) sigma of any side, as a share of it."""

SMALLEST, LARGEST = 0.1, 100.0
"""m, of sizes on the scale on which they travel."""
SIZE_STEPS = 126
_SIZE_STEP = float(np.log(LARGEST / SMALLEST) / SIZE_STEPS)

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
)  # fmt: skip
"""Names of COCO's labels as detectors number them, from 0 on; the rest, from the backpack on, is of
no class of ours."""
_NAMES = {
    ObjectClass.PERSON: "person people pedestrian",
    ObjectClass.CYCLIST: "bicycle cyclist rider tricycle awning-tricycle",
    ObjectClass.MOTORCYCLE: "motorcycle motorbike motor motorcyclist",
    ObjectClass.CAR: "car van",
    ObjectClass.TRUCK: "truck",
    ObjectClass.BUS: "bus",
    ObjectClass.ANIMAL: "cat dog horse sheep cow elephant bear zebra giraffe animal",
    ObjectClass.OBSTACLE: "obstacle bench fire_hydrant cone barrier",
}
CLASS_OF = {name.replace("_", " "): c for c, names in _NAMES.items() for name in names.split()}
ALOFT = ("airplane", "bird", "kite", "traffic light", "stop sign", "uav", "drone")
"""Names of what does not stand on the ground."""
_ALOFT = -1


def classes_of(
    labels: npt.NDArray[np.int16], names: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """``ObjectClass`` of each label, (N,), UNKNOWN where no name tells; and whether it is of what
    stands on the ground, (N,)."""
    table = np.array(
        [_ALOFT if n in ALOFT else CLASS_OF.get(n, ObjectClass.UNKNOWN) for n in names]
        + [ObjectClass.UNKNOWN],
        np.int16,
    )
    inside = (labels >= 0) & (labels < len(names))
    found = table[np.where(inside, labels, len(names))]
    grounded = found != _ALOFT
    return np.where(grounded, found, ObjectClass.UNKNOWN).astype(np.uint8), grounded


def names_of(labels: Sequence[str]) -> tuple[str, ...]:
    """A detector's names, in the order of its labels; ``("coco",)`` stands for COCO's.

    Raises:
        InputError: none, or more than labels can number.
    """
    if tuple(labels) == ("coco",):
        return COCO
    if not 0 < len(labels) < 1 << 15:
        raise InputError(f"ground.labels: {len(labels)} names; give coco, or one a label in order")
    return tuple(name.strip().lower() for name in labels)


def across(lengths: FloatArray, widths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and sigma of how far a box on the ground reaches in a direction of which nothing is
    known: of L|cos| + W|sin|."""
    mean = 2 / np.pi * (lengths + widths)
    square = (lengths**2 + widths**2) / 2 + 2 / np.pi * lengths * widths
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def steps_of(sizes: FloatArray) -> npt.NDArray[np.int64]:
    """Of sizes, m, on a scale of ``SIZE_STEPS`` steps of 5.6 %, at whose ends they saturate."""
    sizes = np.clip(sizes, SMALLEST, LARGEST)
    return np.rint(np.log(sizes / SMALLEST) / _SIZE_STEP).astype(np.int64)


def sizes_of(steps: npt.NDArray[np.int64]) -> FloatArray:
    """m, of what ``steps_of`` gave."""
    return np.asarray(SMALLEST * np.exp(_SIZE_STEP * np.clip(steps, 0, SIZE_STEPS)))
