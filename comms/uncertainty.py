"""Covariances in few bytes, never smaller than they were.

A covariance travels as one logarithmic 8-bit code for each standard deviation and an 8-bit
correlation for each pair that is kept; the other pairs are taken for uncorrelated. What was rounded
or left out is made good by enlarging all deviations by as many steps of the code as it takes until
``sent − true`` is positive semi-definite, so that a receiver is never told more certainty than
there is. Beyond the end of the scale (``MAX_SIGMA``) a deviation saturates.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

MIN_SIGMA = 1e-3
"""What code 0 says, in m, m/s or rad."""
MAX_SIGMA = 3162.0
"""What code 255 says; a `Pose` allows no greater variance than 1e7, its square."""
STEP = float(np.log(MAX_SIGMA / MIN_SIGMA) / 255)
"""Of the natural logarithm, a code: 8.9 %."""
_MIN_EIGENVALUE = 0.05
"""Of a correlation matrix before its entries are rounded."""
_TABLE = np.minimum(MIN_SIGMA * np.exp(STEP * np.arange(256)), MAX_SIGMA)

Pairs = Sequence[tuple[int, int]]
Codes = npt.NDArray[np.uint8]
Correlations = npt.NDArray[np.int8]


def encode(covariances: FloatArray, pairs: Pairs) -> tuple[Codes, Correlations]:
    """(N, d, d) → (N, d) codes of the deviations, (N, len(pairs)) correlations in 1/127.

    The covariances are finite; one that is no covariance (not symmetric, or indefinite) comes out
    as one that bounds it as far as the scale goes.
    """
    p = (covariances + covariances.swapaxes(1, 2)) / 2
    sigma = np.sqrt(np.clip(np.diagonal(p, axis1=1, axis2=2), MIN_SIGMA**2, MAX_SIGMA**2))
    p = np.clip(p / (sigma[:, :, None] * sigma[:, None, :]), -1e6, 1e6)
    first, second = [i for i, _ in pairs], [j for _, j in pairs]
    rho = np.clip(p[:, first, second], -1, 1)
    lowest = np.linalg.eigvalsh(_correlation(rho, pairs, p.shape[1]))[:, :1]
    rho *= np.minimum(1, (1 - _MIN_EIGENVALUE) / np.maximum(1 - lowest, 1e-9))
    correlations = np.rint(127 * rho).astype(np.int8)

    codes = np.ceil(np.log(sigma / MIN_SIGMA) / STEP - 1e-9)
    sent = MIN_SIGMA * np.exp(STEP * codes)
    p *= sigma[:, :, None] * sigma[:, None, :] / (sent[:, :, None] * sent[:, None, :])
    lower = np.linalg.cholesky(_correlation(correlations / 127, pairs, p.shape[1]))
    p = np.linalg.solve(lower, np.linalg.solve(lower, p).swapaxes(1, 2))
    factor = np.linalg.eigvalsh((p + p.swapaxes(1, 2)) / 2)[:, -1:]
    codes += np.ceil(np.log(np.maximum(factor, 1)) / (2 * STEP) - 1e-9)
    return np.clip(codes, 0, 255).astype(np.uint8), correlations


def decode(codes: Codes, correlations: Correlations, pairs: Pairs) -> FloatArray:
    """(N, d, d) covariances, positive definite.

    Raises:
        ValueError: correlations that no covariance has.
    """
    matrix = _correlation(correlations / 127, pairs, codes.shape[1])
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError("correlations that contradict each other") from None
    sigma: FloatArray = _TABLE[codes]
    matrix *= sigma[:, :, None] * sigma[:, None, :]
    return matrix


def _correlation(rho: npt.NDArray[Any], pairs: Pairs, d: int) -> FloatArray:
    matrix = np.tile(np.eye(d), (len(rho), 1, 1))
    for k, (i, j) in enumerate(pairs):
        matrix[:, i, j] = matrix[:, j, i] = rho[:, k]
    return matrix
