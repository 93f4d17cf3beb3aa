"""What vehicles, people and quadrotors look like: meshes that fill a given size exactly.

Each body has two parts: ``paint``, in a color of its own, and ``trim`` (glass, tires, lights),
whose texture is a palette.
"""

from functools import lru_cache

import numpy as np

from bridges.meshes import Mesh, MeshBuilder, Texel
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass

PALETTE: dict[str, tuple[int, int, int]] = {
    "glass": (38, 48, 58), "tire": (24, 24, 26), "light": (245, 240, 215), "rear": (170, 22, 18),
    "gray": (120, 122, 125), "skin": (205, 160, 130), "cloth": (44, 52, 78),
    "cargo": (214, 214, 208),
}  # fmt: skip
"""rgb of the trim."""
PAINTS = np.array(
    [
        (0.88, 0.88, 0.87), (0.70, 0.71, 0.73), (0.10, 0.10, 0.11), (0.36, 0.38, 0.41),
        (0.10, 0.20, 0.48), (0.68, 0.08, 0.07), (0.08, 0.30, 0.20), (0.90, 0.72, 0.10),
        (0.82, 0.36, 0.08), (0.30, 0.52, 0.70), (0.55, 0.45, 0.34), (0.40, 0.08, 0.22),
    ]
)  # fmt: skip
_BUS_PAINTS = np.array([(0.85, 0.68, 0.08), (0.72, 0.10, 0.08), (0.16, 0.36, 0.62)])
CARS = (
    (-0.86, 0.42, -0.62, 0.08),  # station wagon
    (-0.66, 0.40, -0.36, 0.08),  # saloon
    (-0.95, 0.50, -0.80, 0.20),  # off-road car
    (-0.80, 0.55, -0.40, 0.24),  # small car
)
"""Where the glass begins and ends, below and above, in halves of the length from the middle."""
_WITHOUT_WHEELS = np.array([1.0, 0.975, 1.0])
_UAV_PAINTS = np.array([(0.95, 0.45, 0.05), (0.95, 0.95, 0.95), (0.15, 0.75, 0.75)])


def texel(name: str) -> Texel:
    """Where in the palette's texture a color stands."""
    return (list(PALETTE).index(name) + 0.5) / len(PALETTE), 0.5


def shapes_of(kind: int) -> int:
    """How many shapes a class has."""
    return len(CARS) if kind == ObjectClass.CAR else 1


def shape_of(kind: int, actor_id: int) -> int:
    """Which of the shapes of its class an actor has for ever."""
    return _drawn(actor_id + 17) % shapes_of(kind)


def _drawn(number: int) -> int:
    return ((number * 2654435761) & 0xFFFFFFFF) >> 9


def paint_of(kind: int, actor_id: int) -> FloatArray:
    """(4,) rgba that an actor has for ever."""
    special = {int(ObjectClass.BUS): _BUS_PAINTS, int(ObjectClass.UAV): _UAV_PAINTS}
    choices = special.get(kind, PAINTS)
    return np.append(choices[_drawn(actor_id) % len(choices)], 1.0)


@lru_cache(maxsize=512)
def body(kind: int, size: tuple[float, float, float], shape: int = 0) -> tuple[Mesh, Mesh]:
    """Paint and trim of a class, its middle at 0; size: m, length, width and height."""
    paint, trim = MeshBuilder(), MeshBuilder()
    half = np.array(size) / 2
    if kind in (ObjectClass.PERSON, ObjectClass.ANIMAL):
        _person(paint, trim, half)
    elif kind in (ObjectClass.CYCLIST, ObjectClass.MOTORCYCLE):
        _rider(paint, trim, half)
    elif kind == ObjectClass.UAV:
        _quadrotor(paint, trim, half)
    elif kind == ObjectClass.BUS:
        _bus(paint, trim, half)
    elif kind == ObjectClass.TRUCK and size[2] < 3.0:
        _van(paint, trim, half)
    elif kind == ObjectClass.TRUCK:
        _truck(paint, trim, half)
    elif kind == ObjectClass.CAR:
        _car(paint, trim, half, CARS[shape % len(CARS)])
    else:
        paint.block((-half[0], half[0]), (-half[1], half[1]), (-half[2], half[2]))
        trim.block(
            (-half[0], half[0]), (-half[1], half[1]), (-half[2], 0.1 - half[2]), texel("gray")
        )
    return paint.build(), trim.build()


def _wheels(trim: MeshBuilder, half: FloatArray, axles: tuple[float, ...], radius: float) -> None:
    for x in axles:
        for side in (-1, 1):
            y = side * (half[1] - 0.11)
            trim.wheel((x * half[0], y, radius - half[2]), radius, 0.22, texel("tire"))


def _lights(trim: MeshBuilder, half: FloatArray, z: float, size: float = 0.16) -> None:
    for side in (-1, 1):
        y = sorted((side * (half[1] - 0.1), side * (half[1] - 0.55)))
        trim.block((half[0] - 0.05, half[0]), y, (z, z + size), texel("light"))
        trim.block((-half[0], -half[0] + 0.05), y, (z, z + size), texel("rear"))


def _under(trim: MeshBuilder, half: FloatArray) -> None:
    """The dark between wheels."""
    a, w, h = half
    trim.block((-0.97 * a, 0.97 * a), (-0.97 * w, 0.97 * w), (0.06 - h, 0.22 - h), texel("tire"))


def _car(
    paint: MeshBuilder, trim: MeshBuilder, half: FloatArray,
    cabin: tuple[float, float, float, float],
) -> None:  # fmt: skip
    a, w, h = half * _WITHOUT_WHEELS
    floor, belt = 0.2 - h, 0.16 * h
    x = (-a + 0.02, a - 0.02)
    paint.block(x, (-w, w), (floor, 0.55 * belt - 0.1))
    paint.block((*x, -a + 0.1, a - 0.16), (-w, w, -0.94 * w, 0.94 * w), (0.55 * belt - 0.1, belt))
    rear, front, rear_top, front_top = (a * v for v in cabin)
    roof = h - 0.06
    trim.block(
        (rear, front, rear_top, front_top), (-0.9 * w, 0.9 * w, -0.74 * w, 0.74 * w),
        (belt, roof), texel("glass"),
    )  # fmt: skip
    paint.block((rear_top - 0.03, front_top + 0.03), (-0.75 * w, 0.75 * w), (roof, h))
    sides = (-0.91 * w, 0.91 * w, -0.75 * w, 0.75 * w)
    middle, middle_top = (rear + front) / 2, (rear_top + front_top) / 2
    paint.block((middle - 0.06, middle + 0.06, middle_top - 0.06, middle_top + 0.06), sides,
                (belt, roof))  # fmt: skip
    paint.block((rear + 0.12, rear + 0.5, rear_top + 0.04, rear_top + 0.2), sides, (belt, roof))
    _under(trim, half)
    _wheels(trim, half, (-0.6, 0.62), 0.33)
    _lights(trim, half, -0.15 * h - 0.1)
    trim.block((-a, a), (-0.7 * w, 0.7 * w), (floor - 0.02, floor + 0.16), texel("gray"))


def _van(paint: MeshBuilder, trim: MeshBuilder, half: FloatArray) -> None:
    a, w, h = half * _WITHOUT_WHEELS
    floor, belt = 0.25 - h, 0.1 * h
    paint.block((-a, 0.52 * a), (-w, w, -0.95 * w, 0.95 * w), (floor, h))
    paint.block((0.52 * a, a, 0.52 * a, 0.93 * a), (-w, w), (floor, belt))
    wind = (0.52 * a, 0.92 * a, 0.52 * a, 0.64 * a)
    trim.block(wind, (-0.96 * w, 0.96 * w, -0.88 * w, 0.88 * w), (belt, h - 0.1), texel("glass"))
    paint.block((0.5 * a, 0.64 * a), (-0.88 * w, 0.88 * w), (h - 0.1, h))
    _under(trim, half)
    _wheels(trim, half, (-0.62, 0.64), 0.35)
    _lights(trim, half, -0.3 * h)


def _truck(paint: MeshBuilder, trim: MeshBuilder, half: FloatArray) -> None:
    a, w, h = half * _WITHOUT_WHEELS
    floor = 0.5 - h
    cab = a - 1.9
    trim.block((-a, cab - 0.25), (-w, w), (floor + 0.5, h - 0.03), texel("cargo"))
    trim.block((-a, a - 0.1), (-0.4 * w, 0.4 * w), (floor, floor + 0.5), texel("gray"))
    top = h - 0.25 * min(1.0, h)
    paint.block((cab, a, cab, a - 0.1), (-0.97 * w, 0.97 * w), (floor, top))
    paint.block((-a + 0.4, cab - 0.6), (-0.18 * w, 0.18 * w), (h - 0.06, h))
    middle = (floor + top) / 2
    trim.block((a - 0.3, a + 0.0), (-0.88 * w, 0.88 * w), (middle, top - 0.25), texel("glass"))
    for side in (-1, 1):
        y = sorted((side * 0.9 * w, side * 0.99 * w))
        trim.block((cab + 0.5, a - 0.4), y, (middle, top - 0.3), texel("glass"))
    _under(trim, half)
    _wheels(trim, half, (-0.68, -0.4, 0.72), 0.5)
    _lights(trim, half, floor + 0.2)


def _bus(paint: MeshBuilder, trim: MeshBuilder, half: FloatArray) -> None:
    a, w, h = half * _WITHOUT_WHEELS
    floor, low, high = 0.3 - h, -0.05 * h, 0.68 * h
    paint.block((-a, a), (-w, w), (floor, low))
    trim.block((-a + 0.02, a - 0.02), (-0.985 * w, 0.985 * w), (low, high), texel("glass"))
    paint.block((-a, a), (-w, w, -0.93 * w, 0.93 * w), (high, h - 0.12))
    for x in np.linspace(-a + 0.06, a - 0.1, 8).tolist():
        paint.block((x - 0.06, x + 0.1), (-w, w), (low, high))
    trim.block((-0.7 * a, -0.25 * a), (-0.6 * w, 0.6 * w), (h - 0.12, h), texel("gray"))
    trim.block((0.2 * a, 0.5 * a), (-0.5 * w, 0.5 * w), (h - 0.12, h - 0.02), texel("cargo"))
    _under(trim, half)
    _wheels(trim, half, (-0.55, 0.6), 0.48)
    _lights(trim, half, floor + 0.2, 0.2)


def _person(paint: MeshBuilder, trim: MeshBuilder, half: FloatArray) -> None:
    a, w, h = half
    hip, neck = -0.06 * h, 0.66 * h
    for side in (-1, 1):
        y = sorted((side * 0.08 * w, side * 0.62 * w))
        x = (-a, 0.3 * a) if side < 0 else (-0.3 * a, a)
        trim.block((*x, -0.4 * a, 0.4 * a), y, (-h, hip), texel("cloth"))
        y = sorted((side * 0.72 * w, side * w))
        paint.block((-0.3 * a, 0.3 * a), y, (hip + 0.05, neck - 0.06))
    paint.block(
        (-0.4 * a, 0.4 * a, -0.45 * a, 0.45 * a), (-0.6 * w, 0.6 * w, -0.74 * w, 0.74 * w),
        (hip, neck),
    )  # fmt: skip
    trim.wheel((0.0, 0.0, (neck + h) / 2 - 0.02), 0.11, h - neck - 0.04, texel("skin"), axis=2)
    trim.wheel((-0.01, 0.0, h - 0.04), 0.12, 0.08, texel("tire"), axis=2)


def _rider(paint: MeshBuilder, trim: MeshBuilder, half: FloatArray) -> None:
    a, w, h = half
    radius = min(0.34, 0.36 * a)
    for x in (-a + radius, a - radius):
        trim.wheel((x, 0.0, radius - h), radius, 0.06, texel("tire"))
    trim.block((-0.55 * a, 0.55 * a), (-0.04, 0.04), (-0.45 * h, -0.3 * h), texel("gray"))
    trim.block((0.42 * a, 0.5 * a), (-w, w), (0.08 * h, 0.14 * h), texel("gray"))
    for side in (-1, 1):
        y = sorted((side * 0.1 * w, side * 0.5 * w))
        trim.block((-0.1 * a, 0.15 * a, -0.25 * a, 0.1 * a), y, (-0.6 * h, 0.1 * h), texel("cloth"))
    paint.block(
        (-0.3 * a, 0.02 * a, 0.0, 0.28 * a), (-0.6 * w, 0.6 * w, -0.7 * w, 0.7 * w),
        (0.05 * h, 0.68 * h),
    )  # fmt: skip
    trim.wheel((0.17 * a, 0.0, 0.8 * h), 0.12, 0.32 * h, texel("skin"), axis=2)
    trim.wheel((0.17 * a, 0.0, h - 0.05), 0.14, 0.1, texel("rear"), axis=2)


def _quadrotor(paint: MeshBuilder, trim: MeshBuilder, half: FloatArray) -> None:
    a, w, h = half
    paint.block((-0.4 * a, 0.42 * a), (-0.26 * w, 0.26 * w), (-0.1 * h, 0.5 * h))
    trim.block((-0.3 * a, 0.3 * a), (-0.2 * w, 0.2 * w), (0.5 * h, 0.72 * h), texel("gray"))
    radius = 0.42 * min(a, w)
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (a - radius), sy * (w - radius)
            trim.wheel((x, y, 0.9 * h), radius, 0.2 * h, texel("tire"), axis=2)
            foot = (x - 0.03, x + 0.03), (y - 0.03, y + 0.03)
            trim.block(*foot, (-h, 0.8 * h), texel("gray"))
        arm = sorted((sx * 0.1 * a, sx * (a - radius)))
        paint.block(arm, (-(w - radius), w - radius), (0.1 * h, 0.3 * h))
    trim.wheel((0.35 * a, 0.0, -0.4 * h), 0.35 * h, 0.5 * h, texel("glass"))
