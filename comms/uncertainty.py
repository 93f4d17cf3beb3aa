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
"""Of the natural logarithm, a code: 6 %."""
_MIN_EIGENVALUE = 0.1
"""Of a correlation matrix before its entries are rounded."""
_TABLE = np.minimum(MIN_SIGMA * np.exp(STEP * np.arange(256)), MAX_SIGMA)
_SIGMAS = _TABLE.tolist()

Pairs = Sequence[tuple[int, int]]
Codes = npt.NDArray[np.uint8]
Correlations = npt.NDArray[np.int8]


def encode(covariances: FloatArray, pairs: Pairs) -> tuple[Codes, Correlations]:
    """(N, d, d) → (N, d) codes of the deviations, (N, len(pairs)) correlations in 1/127.

    The covariances are finite; one that is no covariance (not symmetric, or indefinite) comes out
    as one that bounds it as far as the scale goes.
    """
    sigma, normal = normalized(covariances)
    correlations = rounded_correlations(normal, pairs, 127)
    codes = np.ceil(np.log(sigma / MIN_SIGMA) / STEP - 1e-9)
    sent = MIN_SIGMA * np.exp(STEP * codes)
    factor = excess(
        normal, sigma, sent, correlation_matrix(correlations / 127, pairs, sigma.shape[1])
    )
    codes += np.ceil(np.log(np.maximum(factor, 1)) / (2 * STEP) - 1e-9)[:, None]
    return np.clip(codes, 0, 255).astype(np.uint8), correlations.astype(np.int8)


def decode(codes: Codes, correlations: Correlations, pairs: Pairs) -> FloatArray:
    """(N, d, d) covariances, positive definite.

    Raises:
        ValueError: correlations that no covariance has.
    """
    matrix: FloatArray = correlation_matrix(correlations / 127, pairs, codes.shape[1])
    if not _possible(matrix, correlations, pairs):
        raise ValueError("correlations that contradict each other")
    sigma: FloatArray = _TABLE[codes]
    matrix *= sigma[:, :, None] * sigma[:, None, :]
    return matrix


def decode_pose(codes: Sequence[int], correlation: int) -> FloatArray:
    """(4, 4) of x, y, z and yaw, of which only x and y are correlated: ``decode`` of one.

    Raises:
        ValueError: a correlation that no covariance has.
    """
    if not -127 < correlation < 127:
        raise ValueError("a correlation of 1 or more")
    x, y, z, yaw = (_SIGMAS[code] for code in codes)
    both = correlation / 127 * (x * y)
    return np.array(
        [[x * x, both, 0, 0], [both, y * y, 0, 0], [0, 0, z * z, 0], [0, 0, 0, yaw * yaw]]
    )


def _possible(matrix: FloatArray, correlations: Correlations, pairs: Pairs) -> bool:
    """Whether all are positive definite."""
    if len({axis for pair in pairs for axis in pair}) == 2 * len(pairs):  # no axis in two pairs
        return bool(correlations.max() < 127 and correlations.min() > -127)
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def normalized(covariances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(N, d) deviations within the scale, and (N, d, d) what is left divided by them."""
    p = (covariances + covariances.swapaxes(1, 2)) / 2
    sigma = np.sqrt(np.clip(np.diagonal(p, axis1=1, axis2=2), MIN_SIGMA**2, MAX_SIGMA**2))
    return sigma, np.clip(p / (sigma[:, :, None] * sigma[:, None, :]), -1e6, 1e6)


def rounded_correlations(normal: FloatArray, pairs: Pairs, units: int) -> npt.NDArray[np.int64]:
    """(N, len(pairs)) correlations in 1/units, such that with no others the matrix is positive
    definite; ``normal`` is of ``normalized``."""
    rho = np.clip(normal[:, [i for i, _ in pairs], [j for _, j in pairs]], -1, 1)
    lowest = np.linalg.eigvalsh(correlation_matrix(rho, pairs, normal.shape[1]))[:, :1]
    rho *= np.minimum(1, (1 - _MIN_EIGENVALUE) / np.maximum(1 - lowest, 1e-9))
    return np.rint(units * rho).astype(np.int64)


def excess(
    normal: FloatArray, sigma: FloatArray, sent: FloatArray, correlation: FloatArray
) -> FloatArray:
    """(N,) by which factor the covariance of the deviations ``sent`` must grow to bound the true
    one, of which ``normalized`` made ``sigma`` and ``normal``; at most 1: it does."""
    ratio = sigma / sent
    p = normal * (ratio[:, :, None] * ratio[:, None, :])
    lower = np.linalg.cholesky(correlation)
    p = np.linalg.solve(lower, np.linalg.solve(lower, p).swapaxes(1, 2)).astype(np.float64)
    return np.linalg.eigvalsh((p + p.swapaxes(1, 2)) / 2)[:, -1].astype(np.float64)


def correlation_matrix(rho: npt.NDArray[Any], pairs: Pairs, d: int) -> FloatArray:
    """(N, d, d) with ones on the diagonal and ``rho`` (N, len(pairs)) at the pairs."""
    matrix = np.empty((len(rho), d, d))
    matrix[:] = np.eye(d)
    for k, (i, j) in enumerate(pairs):
        matrix[:, i, j] = matrix[:, j, i] = rho[:, k]
    return matrix
