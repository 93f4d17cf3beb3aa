"""Forecasts for a moment of which only the distribution is known.

A predictor says where a target is at a moment. When a consumer acts is known as Q equally probable
moments t, so the target then is a mixture of what the predictor says of each, and by the laws of
total expectation and variance::

    mean = E[m(t)]        covariance = E[P(t)] + cov(m(t))

in which x, y, w and h, independent at one moment, go together: they share the time.

What a filter says of itself is not yet how far the target is from it. The model here is
P = share · filter's + (error · side)². The share is how far each target's answers so far were off,
over what the filter expected (``Misfit``): a drive that serves a filter's gain is not the motion's
own spread, which for a car on a straight road is a tenth of it. The second term is what the
tracker's box differs from the true one, which no filter sees, since it stays from answer to answer.
Errors are heavy-tailed, a Student-t of ``FREEDOM`` degrees over all four, sides in their logarithm.
The constants come from real trackers' stored answers by maximum likelihood
(benchmarks/calibration.py --fit).

The region of probability p grows each side of the mean box in proportion to that side's spread, up
to where share p of a fixed set of sample boxes, with time and place drawn together, lies inside.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray, from_center, to_center
from pipeline.errors import InputError
from pipeline.span import Horizon, Origin
from pipeline.tracks import Forecasts, ForecastStatus
from prediction.latency import LEVELS, MAX_AGE_NS
from prediction.predictor import (
    MIN_SIDE_PX,
    Estimates,
    IntArray,
    PredictorConfig,
    StatusArray,
)

RATIO = 1.9
"""Share of a predictor's variance, over the misfit of its answers."""
MISFIT, MISFIT_WEIGHT = 0.1, 2.0
"""Before any answer, and how many answers that counts as."""
MEMORY = 0.9
"""What an older answer's misfit weighs, over that of the answer after it."""
FREEDOM = 4.0
SAMPLES = 1024
CHUNK = 64
"""Targets whose samples are in memory at once."""
MAX_LOG_GROWTH = 2.0
MAX_PROBABILITY = 0.995
"""Beyond it the samples, and what is known of real errors, say little."""
NO_REGIONS: Mapping[str, float] = {}


def moments(horizon: int | Horizon, stamp_ns: int, ready_ns: int) -> IntArray:
    """(Q,) equally probable moments in ns, rising, at which a consumer acts on a forecast.

    horizon: a lead over ``stamp_ns`` that is known, or what the latency monitor knows. stamp_ns: of
    the frame. ready_ns: when the forecast is made, so that what would be over by then cannot be. A
    forecast that is made before its frame, or over 60 s after it, is of another clock than its
    frame, and only the median past the frame's stamp is left.
    """
    if not isinstance(horizon, Horizon):
        return np.array([stamp_ns + horizon], np.int64)
    times, elapsed = np.array(horizon.quantiles_ns, np.int64), ready_ns - stamp_ns
    if not len(times) or not 0 <= elapsed <= MAX_AGE_NS:
        return np.array([stamp_ns + horizon.ns], np.int64)
    if horizon.origin == Origin.FORECAST:
        return np.asarray(ready_ns + times)
    return np.asarray(stamp_ns + still_possible(times, elapsed))


def still_possible(times: IntArray, elapsed: int) -> IntArray:
    """(Q,) quantiles of a distribution, given its quantiles ``times`` (Q,) and that ``elapsed`` has
    gone by; ``elapsed`` itself where all of it is over."""
    if elapsed <= times[0]:
        return times
    levels = LEVELS if len(times) == len(LEVELS) else (np.arange(len(times)) + 0.5) / len(times)
    over = np.interp(elapsed, times, levels)
    left = np.interp(over + (1 - over) * levels, levels, times)
    return np.maximum(np.rint(left).astype(np.int64), elapsed)


@dataclass(frozen=True)
class Misfit:
    """How far answers about N targets were off, over the variance that was expected of them.

    total: (N,) squares of the center's part, in sigmas, older ones fading. weight: (N,), of how
    many answers that is.
    """

    total: FloatArray
    weight: FloatArray

    @classmethod
    def blank(cls, n: int) -> "Misfit":
        """Of n targets without an answer."""
        return cls(np.zeros(n), np.zeros(n))

    def shares(self) -> FloatArray:
        """(N,) of the predictor's variances, what is the motion's."""
        known = self.total + MISFIT * MISFIT_WEIGHT
        return np.asarray(RATIO * known / (self.weight + MISFIT_WEIGHT))

    def after(
        self,
        expected: Estimates,
        boxes: FloatArray,
        stays: npt.NDArray[np.bool_],
        config: PredictorConfig,
    ) -> "Misfit":
        """With one more answer for each target.

        expected: (N, 1) of the moment of the answers. boxes: (N, 4), x y w h. stays: (N,), those
        whose answer tells nothing. One that jumps beyond the filter's gate begins anew.
        """
        centers = to_center(expected.boxes[:, 0])
        sides = np.concatenate([centers[:, 2:], centers[:, 2:]], axis=1)
        noise = np.repeat([config.center_noise, config.size_noise], 2) * sides
        squares = (to_center(boxes) - centers) ** 2 / (expected.variances[:, 0] + noise**2)
        stays = stays | (expected.status[:, 0] != ForecastStatus.OK)
        goes_on = squares.sum(axis=1) <= config.gate**2
        total = np.where(goes_on, MEMORY * self.total + squares[:, :2].mean(axis=1), 0)
        weight = np.where(goes_on, MEMORY * self.weight + 1, 0)
        return Misfit(
            np.where(stays, self.total, total),
            np.where(stays, self.weight, weight),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """N targets at one moment, which is one of Q equally probable ones, in order.

    centers: (N, Q, 4) float64, x_center y_center w h in pixels at each of them. variances:
    (N, Q, 4), of the target about them in pixels². status: (N, Q) uint8, ``ForecastStatus``.
    """

    centers: FloatArray
    variances: FloatArray
    status: StatusArray

    @classmethod
    def of(
        cls, estimates: Estimates, share: float | FloatArray, config: PredictorConfig
    ) -> "Outlook":
        """What a predictor says of each moment, with the tracker's own error.

        share: of the predictor's variances, what is the motion's; of all targets or (N,).
        """
        centers = to_center(estimates.boxes)
        sides = np.concatenate([centers[..., 2:], centers[..., 2:]], axis=-1)
        error = np.repeat([config.tracker_center_error, config.tracker_size_error], 2)
        motion = np.reshape(share, (-1, 1, 1)) * estimates.variances
        return cls(centers, motion + (error * sides) ** 2, estimates.status)

    def mean(self) -> FloatArray:
        """(N, 4) x_center y_center w h."""
        return np.asarray(self.centers.mean(axis=1))

    def covariances(self) -> FloatArray:
        """(N, 4, 4) of x_center, y_center, w, h in pixels²."""
        apart = self.centers - self.mean()[:, None]
        along = apart.transpose(0, 2, 1) @ apart / apart.shape[1]
        return np.asarray(along + self.variances.mean(axis=1)[..., None] * np.eye(4))

    def middle_status(self) -> StatusArray:
        """(N,) status at the middle moment."""
        return np.asarray(self.status[:, self.status.shape[1] // 2])

    def regions(self, probabilities: Sequence[float]) -> FloatArray:
        """(P, N, 4) x y w h: the boxes that contain the whole target with each probability.

        NaN where the target is STALE or LOST: how far it may have gone is not known then. The box
        is not cut at the image's edge.

        Raises:
            InputError: a probability that is not above 0 and at most 0.995.
        """
        for p in probabilities:
            if not 0 < p <= MAX_PROBABILITY:
                raise InputError(f"a region of {p}: give above 0, at most {MAX_PROBABILITY}")
        at = [math.ceil(p * SAMPLES) - 1 for p in probabilities]
        mean, spread = self._sides()
        needs = np.empty((len(at), len(mean)))
        for rows in self._chunks():
            drawn = self._needs(rows, spread)
            drawn.partition(at, axis=1)
            needs[:, rows] = drawn[:, at].T
        sides = mean + needs[..., None] * spread
        regions = np.concatenate([-sides[..., :2], sides[..., 2:] + sides[..., :2]], axis=-1)
        regions[:, self.middle_status() >= ForecastStatus.STALE] = np.nan
        return regions

    def _chunks(self) -> Iterator[slice]:
        """All targets, a bounded number at a time."""
        return (slice(k, k + CHUNK) for k in range(0, len(self.centers), CHUNK))

    def _sides(self) -> tuple[FloatArray, FloatArray]:
        """(N, 4) mean place of each side, as ``_outward`` gives it, and its standard deviation."""
        sides = _outward(self.centers)
        mean = sides.mean(axis=1)
        apart = sides - mean[:, None]
        own = self.variances[..., :2] + self.variances[..., 2:] / 4
        spread = (apart * apart + np.concatenate([own, own], axis=-1)).mean(axis=1)
        return mean, np.sqrt(spread)

    def _needs(self, rows: slice, spread: FloatArray) -> npt.NDArray[np.float32]:
        """(n, SAMPLES): how many spreads, (N, 4), the mean box must grow to contain each sample of
        some of the targets."""
        # x, y, w, h first and the samples last, in single precision about the mean: numpy is quick
        # along long rows.
        whole = self.centers[rows].transpose(2, 0, 1)
        mean = whole.mean(axis=2, keepdims=True)
        centers = (whole - mean).astype(np.float32)
        sigmas = np.sqrt(self.variances[rows]).transpose(2, 0, 1).astype(np.float32)
        moments = whole.shape[2]
        if moments > 1:
            nearest, before, share = _between(moments)
            steps = (centers[..., 1:] - centers[..., :-1]).take(before, axis=2)
            centers = centers.take(before, axis=2) + share * steps
            sigmas = sigmas.take(nearest, axis=2)
        drawn = _DRAWS[:, None] * sigmas
        half = (mean[2:] / 2).astype(np.float32)
        sides = np.maximum(centers[2:] + 2 * half, MIN_SIDE_PX)
        beyond = sides / 2 * np.exp(np.minimum(drawn[2:] / sides, MAX_LOG_GROWTH)) - half
        moved = centers[:2] + drawn[:2]
        scale = (1 / spread[rows].T[..., None]).astype(np.float32)
        most = np.maximum((beyond - moved) * scale[:2], (beyond + moved) * scale[2:])
        return np.asarray(np.maximum(most[0], most[1]))


def forecasts(
    outlook: Callable[[IntArray], Outlook],
    ids: npt.NDArray[np.int32],
    stamp_ns: int,
    ready_ns: int,
    horizons: Mapping[str, int | Horizon],
    probabilities: Mapping[str, float],
) -> Forecasts:
    """All targets for every consumer, by one call of ``outlook``.

    horizons: of each consumer, as ``moments`` takes it. probabilities: of the regions, for the
    consumers that ask for one.
    """
    each = [moments(horizon, stamp_ns, ready_ns) for horizon in horizons.values()]
    whole = outlook(np.concatenate([np.empty(0, np.int64), *each]))
    ends = np.cumsum([0, *map(len, each)]).tolist()
    h, n = len(each), len(ids)
    boxes, covariances = np.empty((h, n, 4)), np.empty((h, n, 4, 4))
    status, valid_at = np.empty((h, n), np.uint8), np.empty(h, np.int64)
    asked, regions = np.zeros(h), np.full((h, n, 4), np.nan)
    for row, (consumer, times) in enumerate(zip(horizons, each, strict=True)):
        part = slice(ends[row], ends[row + 1])
        own = Outlook(whole.centers[:, part], whole.variances[:, part], whole.status[:, part])
        boxes[row], covariances[row] = from_center(own.mean()), own.covariances()
        status[row] = own.middle_status()
        valid_at[row] = times[0] + round(float((times - times[0]).mean()))
        asked[row] = probabilities.get(consumer, 0.0)
        if asked[row]:
            (regions[row],) = own.regions([asked[row]])
    return Forecasts(
        stamp_ns,
        ready_ns,
        tuple(horizons),
        valid_at,
        ids,
        boxes,
        covariances,
        status,
        asked,
        regions,
    )


def _outward(centered: FloatArray) -> FloatArray:
    """(..., 4): how far left, up, right and down the sides of boxes lie."""
    center, half = centered[..., :2], centered[..., 2:] / 2
    return np.concatenate([half - center, half + center], axis=-1)


@lru_cache(8)
def _between(count: int) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    """Where the samples' times, (SAMPLES,) each, lie among ``count`` moments: the nearest one, the
    one before, and the share of the way to the next. Places go on in a line from one to the next,
    and past the outermost."""
    at = _TIMES * count - 0.5
    before = np.clip(at.astype(np.int64), 0, count - 2)
    return np.rint(at).astype(np.int64), before, (at - before).astype(np.float32)


def _evenly(dimensions: int, count: int) -> FloatArray:
    """(count, dimensions) points that fill the unit cube evenly: Roberts' R sequence, a Kronecker
    lattice by powers of the generalized golden ratio."""
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return np.asarray((0.5 + np.arange(1, count + 1)[:, None] * steps) % 1)


def _draws() -> tuple[FloatArray, npt.NDArray[np.float32]]:
    """(SAMPLES,) evenly spread in [0, 1), and (4, SAMPLES) of Student-t, variance 1."""
    points = _evenly(6, SAMPLES)
    normal = np.vectorize(NormalDist().inv_cdf)(points[:, :4])
    x = np.arange(0.005, 100, 0.01)
    density = x ** (FREEDOM / 2 - 1) * np.exp(-x / 2)
    chi_square = np.interp(points[:, 4], np.cumsum(density) / density.sum(), x + 0.005)
    drawn = normal * np.sqrt((FREEDOM - 2) / chi_square)[:, None]
    return points[:, 5], np.ascontiguousarray(drawn.T, np.float32)


_TIMES, _DRAWS = _draws()
