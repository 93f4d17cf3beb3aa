"""Whether an ISP gives the same picture twice, and how much a still scene flickers."""

from typing import NamedTuple

import numpy as np

from evaluation.isp_quality import IspRow
from isp.sensor import LEVELS, PROFILES, bayer
from pipeline.frame import Frame

_FRAMES = 12
_SIZE = (320, 240)


class Steadiness(NamedTuple):
    """same: one frame twice gives the same picture. flicker: of a still scene at night, the
    standard deviation over time of the picture's mean, in codes of 255."""

    same: bool
    flicker: float

    def sentence(self) -> str:
        """For people."""
        same = "the same frame twice is the same picture" if self.same else "the same frame differs"
        return f"{same}; a still scene at night flickers by {self.flicker:.3f} codes of 255"


def steadiness(row: IspRow, sensor: str) -> Steadiness:
    """On a still scene of blocks of color, at night, with new noise in every frame."""
    profile = PROFILES[sensor]
    rng = np.random.default_rng(0)
    blocks = rng.uniform(0.05, 0.9, (_SIZE[1] // 40, _SIZE[0] // 40, 3)).astype(np.float32)
    light = np.kron(blocks, np.ones((40, 40, 1), np.float32))
    develop = row.make(profile, lambda size: (size[0] // 2, size[1] // 2))
    means, last = [], None
    for k in range(_FRAMES):
        raw = bayer(light, profile, *LEVELS["night"], np.random.default_rng([1, k]))
        last = Frame(raw, k * 33_000_000, f"bayer_rggb{profile.bits}")
        means.append(develop(last).mean())
    assert last is not None
    same = bool(np.array_equal(develop(last), develop(last)))
    return Steadiness(same, float(np.std(means)))
