"""A Bayer sensor: from a rendered picture to RAW numbers with photon and read noise."""

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

_ORDERS = ("rggb", "bggr", "grbg", "gbrg")
ENCODINGS = tuple(f"bayer_{order}{bits}" for bits in (8, 10, 12, 14) for order in _ORDERS)
_BGR = {"b": 0, "g": 1, "r": 2}
_RESPONSE = {"b": 0.62, "g": 1.0, "r": 0.56}
_FULL_WELL = 11_000.0
_READ_NOISE = 3.5
_DISPLAY_GAMMA = 2.2
_TILE_UNIT = 1 << 11
_SIGMA_UNIT = 1 << 3


class BayerSensor:
    """Samples the color filter array and adds Poisson-Gaussian noise.

    Noise after Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting for
    single-image raw-data": its variance is (signal + read²) in electrons. Draws come from one
    prepared tile, at an offset that (seed, index) picks.

    exposure: light collected, 1 fills the well at white. gain: amplification, 1 fills the range
    at a full well. noise: factor on the standard deviation, 0 for a perfect sensor.
    """

    def __init__(
        self,
        encoding: str,
        size: tuple[int, int],
        seed: int,
        exposure: float = 1.0,
        gain: float = 1.0,
        noise: float = 1.0,
    ) -> None:
        if encoding not in ENCODINGS:
            raise InputError(f"encoding {encoding!r:.40}: give one of {', '.join(ENCODINGS)}")
        self.encoding = encoding
        order, bits = encoding[6:10], int(encoding[10:])
        self.white_level = (1 << bits) - 1
        self.black_level = 1 << (bits - 6)
        self._dtype = np.uint8 if bits == 8 else np.uint16
        self._seed = seed
        self._noisy = noise > 0
        scale = (self.white_level - self.black_level) / _FULL_WELL * gain
        linear = (np.arange(256) / 255.0) ** _DISPLAY_GAMMA
        self._sites = []
        for i, color in enumerate(order):
            electrons = _FULL_WELL * exposure * _RESPONSE[color] * linear
            mean = np.minimum(self.black_level + electrons * scale, self.white_level)
            sigma = noise * scale * np.sqrt(electrons + _READ_NOISE**2)
            self._sites.append(
                (
                    slice(i // 2, None, 2),
                    slice(i % 2, None, 2),
                    _BGR[color],
                    np.round(mean).astype(np.int16),
                    np.round(np.minimum(sigma * _SIGMA_UNIT, 32767)).astype(np.int16),
                )
            )
        rows, columns = size[1] // 2, size[0] // 2
        # Kept between frames: fresh memory costs more in page faults than the arithmetic.
        self._level = np.empty((rows, columns), np.uint8)
        self._value = np.empty((rows, columns), np.int16)
        self._deviation = np.empty((rows, columns), np.int16)
        self._span = 256
        if self._noisy:
            rng = np.random.default_rng((seed, 2))
            tile = rng.standard_normal((rows + self._span, columns + self._span), np.float32)
            self._tile = np.clip(np.round(tile * _TILE_UNIT), -32768, 32767).astype(np.int16)

    def expose(self, bgr: npt.NDArray[np.uint8], index: int) -> npt.NDArray[np.generic]:
        """(H, W, 3 or 4) uint8, display-coded → a new (H, W) RAW, uint8 or uint16."""
        raw = np.empty(bgr.shape[:2], self._dtype)
        out = raw if raw.dtype == np.uint8 else raw.view(np.int16)
        level, value, deviation = self._level, self._value, self._deviation
        height, width = level.shape
        offsets = np.random.default_rng((self._seed, 3, index)).integers(0, self._span, (4, 2))
        unit = 1 / (_SIGMA_UNIT * _TILE_UNIT)
        for (rows, columns, channel, mean, sigma), (y, x) in zip(self._sites, offsets, strict=True):
            np.copyto(level, bgr[rows, columns, channel])
            cv2.LUT(level, mean, dst=value)
            if self._noisy:
                cv2.LUT(level, sigma, dst=deviation)
                tile = self._tile[y : y + height, x : x + width]
                cv2.multiply(deviation, tile, dst=deviation, scale=unit, dtype=cv2.CV_16S)
                cv2.add(value, deviation, dst=value)
                np.clip(value, 0, self.white_level, out=value)
            np.copyto(out[rows, columns], value, casting="unsafe")
        return raw
