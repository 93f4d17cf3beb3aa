"""A forward model of a camera's sensor: display pictures to Bayer RAW, for training and measuring.

The tone curve is undone, colors and balance are brought to the sensor's own, then light is sampled
behind the Bayer filter with photon and read noise (Foi et al. 2008, "Practical Poissonian-Gaussian
noise modeling and fitting for single-image raw-data") and counted. The way back through the color
pipeline follows Brooks et al., CVPR 2019, "Unprocessing images for learned raw denoising".

Levels are parts of the range between black and white. ``exposure`` is the level that white comes
to; ``gain`` is the amplification that it took, which makes the noise of that level.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SensorProfile:
    """A kind of sensor.

    full_well: electrons at white where the gain is 1. read_floor, read_slope: standard deviation
    of the read noise is read_floor + read_slope · gain. matrix: linear sRGB from balanced camera
    RGB, row by row; rows sum to 1. balance: gains of R and B that make white gray.
    """

    name: str
    bits: int
    black: int
    full_well: float
    read_floor: float
    read_slope: float
    matrix: tuple[float, ...] = field(repr=False)
    balance: tuple[float, float]

    @property
    def white(self) -> int:
        """Counts at saturation."""
        return (1 << self.bits) - 1

    def noise(self, gain: float) -> tuple[float, float]:
        """Slope and floor: a pixel of level x has the variance slope · x + floor."""
        return gain / self.full_well, (self.read_floor + self.read_slope * gain) ** 2


PROFILES = {
    p.name: p
    for p in (
        SensorProfile(
            "small-12", 12, 64, 6000, 5e-4, 1.6e-4,
            (1.80, -0.60, -0.20, -0.25, 1.55, -0.30, 0.00, -0.50, 1.50), (2.0, 1.7),
        ),
        SensorProfile(
            "global-shutter-10", 10, 32, 10_000, 8e-4, 1.2e-4,
            (1.50, -0.30, -0.20, -0.20, 1.40, -0.20, 0.02, -0.37, 1.35), (1.6, 1.9),
        ),
        SensorProfile(
            "starlight-14", 14, 512, 15_000, 2e-4, 1.1e-4,
            (1.65, -0.55, -0.10, -0.35, 1.70, -0.35, 0.05, -0.60, 1.55), (2.3, 1.5),
        ),
        SensorProfile(
            "compact-12", 12, 240, 4500, 7e-4, 2.2e-4,
            (1.95, -0.75, -0.20, -0.15, 1.35, -0.20, 0.02, -0.30, 1.28), (1.8, 2.1),
        ),
    )
}  # fmt: skip
"""Plausible ones, of no particular product. Training leaves ``HELD_BACK`` out."""
HELD_BACK = "compact-12"
LEVELS = {"day": (1.0, 1), "dusk": (0.3, 4), "night": (0.1, 16), "deep": (0.03, 16)}
"""Exposure and gain of levels of light, for measuring."""


def linear_light(srgb: npt.NDArray[np.uint8], profile: SensorProfile) -> FloatImage:
    """(H, W, 3) uint8 sRGB → (H, W, 3) what the sensor's filters let through, 1 at white.

    Bright parts are blended to white before the balance is undone, so that they stay neutral.
    """
    code = np.arange(256) / 255
    table = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    camera_from_srgb = np.linalg.inv(np.reshape(profile.matrix, (3, 3))).astype(np.float32)
    light = table.astype(np.float32)[srgb] @ camera_from_srgb.T
    np.clip(light, 0, 1, out=light)
    gains = np.array([profile.balance[0], 1, profile.balance[1]], np.float32)
    bright = np.clip((light.mean(axis=2, keepdims=True) - 0.9) / 0.1, 0, 1) ** 2
    return np.asarray(light * np.maximum(1 / gains * (1 - bright) + bright, 1 / gains))


def record(
    light: FloatImage,
    profile: SensorProfile,
    exposure: float,
    gain: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """Counts of pixels that see ``light`` (any shape), with noise, between 0 and white."""
    slope, floor = profile.noise(gain)
    level = np.minimum(light * np.float32(exposure), 1)
    sigma = np.sqrt(slope * level + np.float32(floor))
    level += sigma * rng.standard_normal(level.shape, np.float32)
    level *= profile.white - profile.black
    level += profile.black
    np.rint(level, out=level)
    return np.asarray(np.clip(level, 0, profile.white, out=level), np.uint16)


def bayer(
    light: FloatImage,
    profile: SensorProfile,
    exposure: float,
    gain: float,
    rng: np.random.Generator,
    order: str = "rggb",
) -> npt.NDArray[np.uint16]:
    """(H, W, 3) light → (H, W) counts behind the filter ``order``; H and W are even."""
    return record(_filtered(light, order), profile, exposure, gain, rng)


def _filtered(light: FloatImage, order: str | Sequence[str]) -> FloatImage:
    out = np.empty(light.shape[:2], np.float32)
    for site, color in enumerate(order):
        rows, columns = slice(site // 2, None, 2), slice(site % 2, None, 2)
        out[rows, columns] = light[rows, columns, "rgb".index(color)]
    return out
