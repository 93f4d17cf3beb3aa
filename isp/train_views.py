"""Views of pictures through simulated sensors: what an ISP is trained on."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from isp.config import IDENTITY
from isp.grid import FloatImage, Linear, features, measured_noise, thumbnail
from isp.operators import color_mix
from isp.sensor import HELD_BACK, PROFILES, linear_light, record
from pipeline.errors import InputError

GRID = (416, 312)
"""Width and height of the grid that is trained on; 4:3 as most cameras."""
VIEW = (640, 480)
"""Of a view in pixels, each of which is a 2×2 block of the mosaic."""
CROP = 255
"""Sides of the part that a tracker looks at, without averaging."""
SCALES = (0.85, 1.0, 1.3)
"""Of the mosaic's size, so that the number of pixels that a cell averages varies."""
KNOWN = 0.7
"""Of the cameras come with a color matrix."""
SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PICTURES = 100_000
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shot:
    """One view through one sensor.

    planes: (3, h, w) on the grid. features: (4, 64, 64). noise: (2,). crop: (3, 255, 255) of the
    mosaic's blocks. clean: the same part of the picture, (3, 255, 255) uint8 RGB. mix: (3, 2) of
    the color matrix that the camera is known by.
    """

    planes: FloatImage
    features: FloatImage
    noise: FloatImage
    crop: FloatImage
    clean: Picture
    mix: FloatImage


def read_pictures(folders: list[Path]) -> list[Path]:
    """The pictures in some folders and below, by name.

    Raises:
        InputError: a folder holds none.
    """
    found = []
    for folder in folders:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise InputError(
                f"{folder}: holds no picture; give a folder with {', '.join(SUFFIXES)}"
            )
        found += paths
    return found[:MAX_PICTURES]


def read_picture(path: Path) -> Picture:
    """(H, W, 3) uint8 RGB.

    Raises:
        InputError: it is no picture.
    """
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise InputError(f"{path}: is no picture that OpenCV reads; leave it out")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def random_view(picture: Picture, rng: np.random.Generator) -> Picture:
    """A part of the picture of the grid's aspect, mirrored or not, (480, 640, 3)."""
    height, width = picture.shape[:2]
    aspect = VIEW[0] / VIEW[1]
    w = min(width, height * aspect) * rng.uniform(0.6, 1)
    h = w / aspect
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    part = picture[int(y) : max(round(y + h), int(y) + 1), int(x) : max(round(x + w), int(x) + 1)]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    way = cv2.INTER_AREA if w > VIEW[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(part), VIEW, interpolation=way), np.uint8)


def random_shot(view: Picture, rng: np.random.Generator, day: bool) -> Shot:
    """A view as a sensor drawn at random sees it, at a brightness drawn at random."""
    names = [name for name in PROFILES if name != HELD_BACK]
    profile = PROFILES[names[rng.integers(len(names))]]
    light = linear_light(view, profile)
    light *= np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)  # other illuminants
    light *= np.float32(np.exp(rng.normal(0, 0.15)))
    scale = SCALES[rng.integers(len(SCALES))]
    seen = view
    if scale != 1:
        size = (round(VIEW[0] * scale), round(VIEW[1] * scale))
        light = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_LINEAR), np.float32)
        seen = np.asarray(cv2.resize(view, size), np.uint8)
    exposure = float(np.exp(rng.uniform(*np.log([0.5, 1.1] if day else [0.02, 1]))))
    gain = float(np.clip(exposure**-1.2 * np.exp(rng.normal(0, 0.5)), 1, 24))
    sites = np.stack([light[..., c] for c in (0, 1, 1, 2)])
    counts = record(sites, profile, exposure, gain, rng).astype(np.float32)
    counts -= profile.black
    counts /= profile.white - profile.black
    x, y = (int(rng.integers(n - CROP)) for n in (light.shape[1], light.shape[0]))
    part = counts[:, y : y + CROP, x : x + CROP]
    planes = np.stack([cv2.resize(p, GRID, interpolation=cv2.INTER_AREA) for p in counts])
    linear = Linear.of(_three(planes), planes[1] - planes[2])
    small = thumbnail(linear)
    return Shot(
        linear.planes,
        features(small),
        np.array(measured_noise(small), np.float32),
        _three(part),
        seen[y : y + CROP, x : x + CROP].transpose(2, 0, 1),
        color_mix(profile.matrix if rng.random() < KNOWN else IDENTITY),
    )


def _three(sites: FloatImage) -> FloatImage:
    """R, G, G, B → R, G, B."""
    return np.stack([sites[0], (sites[1] + sites[2]) / 2, sites[3]])


def stacked(arrays: list[npt.NDArray[np.generic]]) -> torch.Tensor:
    """A batch of arrays as floats."""
    return torch.from_numpy(np.stack(arrays)).float()
