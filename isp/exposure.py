"""Advice for the camera's driver: how long to expose, and how much to amplify.

A longer exposure gathers more light, so that noise sinks, and lets a moving target blur. The advice
weighs both, then sets the gain so that the picture keeps its level. Nothing here sets a camera.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from isp.smoothing import Smoother
from isp.task_aware import Choice, Light
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError
from pipeline.tracks import Tracks, TrackSource, TrackStatus

_DARKEST = 1e-4  # a level below is not told from this one
_SPEED_TIME_NS = 200_000_000
_KEPT_NS = 1_000_000_000  # a target not seen for longer has no speed any more
_FAST_SHARE = 0.75
_CLIPPED_WEIGHT = 4  # how bright what is clipped really is, nobody sees: the more the farther
_PERIOD_SHARE = 0.95  # frames do not come on the nanosecond
_SETTLED = 1 / 3  # of the deadband: so near the level has to come once it moves


@dataclass(frozen=True)
class ExposureConfig(Config):
    """Options of the advice on exposure."""

    enabled: bool = option(True, "Whether advice is given; it needs isp.mode task_aware.")
    target_level: float = option(
        0.18, "Mean level to aim at, part of the range from black to white.", low=0.005, high=0.8
    )
    bright_level: float = option(
        0.9, "Level under which 99 % of the picture shall stay.", low=0.1, high=0.95
    )
    blur_px: float = option(
        1.5, "Blur of the target that weighs as much as noise_ratio does.", low=0.01, high=100
    )
    noise_ratio: float = option(
        0.03,
        "Standard deviation over level, on the detector's grid, that weighs as blur_px does.",
        low=1e-4,
        high=10,
    )
    speed_px_s: float = option(
        100.0, "Speed that is assumed while no target's is known.", low=0, high=1e5
    )
    min_ms: float = option(0.05, "Shortest exposure of the camera.", low=1e-4, high=1e4)
    max_ms: float = option(20.0, "Longest exposure to advise.", low=1e-4, high=1e4)
    max_gain: float = option(16.0, "Highest gain to advise; the lowest is 1.", low=1, high=1e4)
    max_step: float = option(
        1.5, "Factor by which light or exposure time change at once, at most.", low=1.01, high=16
    )
    deadband: float = option(
        0.15, "Part by which they may be off before anything changes.", low=0.001, high=1
    )
    period_ms: float = option(
        100.0, "Time between two advices; longer than the camera takes to follow.", low=0, high=1e4
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_ms > self.max_ms:
            raise InputError(f"min_ms: {self.min_ms:g} lies above max_ms {self.max_ms:g}")


class Reason(IntEnum):
    """What the advice is for."""

    HOLD = 0
    """As it is: near enough."""
    DARK = 1
    BRIGHT = 2
    HIGHLIGHTS = 3
    """The brightest parts are or would be clipped."""
    BLUR = 4
    """The target moves too fast for so long an exposure."""
    NOISE = 5
    """It is noisy, and the target slow enough for a longer exposure."""
    LIMIT = 6
    """As good as the limits allow: the level stays off its target."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """What the driver says that the camera does. exposure_s: seconds. gain: 1 is none.

    Raises:
        InputError: either is no number above 0, or beyond reason.
    """

    exposure_s: float
    gain: float

    def __post_init__(self) -> None:
        for name, limit in (("exposure_s", 1e3), ("gain", 1e6)):
            value = getattr(self, name)
            if not 0 < value <= limit:  # as NaN is not
                raise InputError(
                    f"exposure: {name} is {value:g}, give a number above 0, at most {limit:g}"
                )


@dataclass(frozen=True, slots=True)
class Advice:
    """For the frame of ``stamp_ns``.

    exposure_s, gain: to set; NaN where the present ones are not known. factor: by which their
    product should change. level: mean of the picture; clipped: share of it at the white level;
    noise: standard deviation over level. blur_px: the target's way during the present exposure; NaN
    where that is not known.
    """

    stamp_ns: int
    exposure_s: float
    gain: float
    factor: float
    level: float
    clipped: float
    noise: float
    blur_px: float
    reason: Reason


class SpeedMeter:
    """How fast targets move, from their boxes in successive frames."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all targets."""
        self._last: dict[int, tuple[int, FloatArray]] = {}
        self._velocities: dict[int, Smoother] = {}
        self._stamp_ns = self._measured_ns = 0
        self._width = 1
        self._speed = math.nan

    def update(self, tracks: Tracks) -> None:
        """Take the targets of one frame; one before the last starts anew.

        Velocities are smoothed over 0.2 s, so that boxes that tremble do not count as fast.
        """
        if tracks.stamp_ns < self._stamp_ns:
            self.reset()
        elif tracks.stamp_ns == self._stamp_ns and self._last:
            return
        self._stamp_ns, self._width = tracks.stamp_ns, max(1, tracks.image_size[0])
        seen = (tracks.status == TrackStatus.TRACKED) & (tracks.source != TrackSource.PREDICTED)
        centers = tracks.boxes[:, :2] + tracks.boxes[:, 2:] / 2
        speeds = []
        for identity, center in zip(tracks.ids[seen].tolist(), centers[seen], strict=True):
            stamp_ns, before = self._last.get(identity, (tracks.stamp_ns, center))
            elapsed_ns = tracks.stamp_ns - stamp_ns
            if 0 < elapsed_ns <= _KEPT_NS:
                smoother = self._velocities.setdefault(identity, Smoother(_SPEED_TIME_NS))
                velocity = smoother.update(tracks.stamp_ns, (center - before) * (1e9 / elapsed_ns))
                assert velocity is not None
                speeds.append(float(np.hypot(*velocity)))
            self._last[identity] = tracks.stamp_ns, center
        oldest_ns = tracks.stamp_ns - _KEPT_NS
        for identity in [i for i, (at_ns, _) in self._last.items() if at_ns < oldest_ns]:
            del self._last[identity]
            self._velocities.pop(identity, None)
        if speeds:
            self._speed = float(np.quantile(speeds, _FAST_SHARE))
            self._measured_ns = tracks.stamp_ns

    def speed(self, stamp_ns: int, width: int) -> float:
        """px/s, in a picture of ``width`` px, that three of four targets do not exceed; NaN where
        none was measured in the second before ``stamp_ns``."""
        if stamp_ns - self._measured_ns > _KEPT_NS:
            return math.nan
        return self._speed * width / self._width


class ExposureAdvisor:
    """Advises on one camera; one thread uses it."""

    def __init__(self, config: ExposureConfig | None = None) -> None:
        self.config = config or ExposureConfig()
        self.camera: CameraState | None = None
        """What the camera does now; None where nobody says, so that advice is relative."""
        self._meter = SpeedMeter()
        self._moving = False
        self._last_ns: int | None = None

    def reset(self) -> None:
        """Forget the stream; what the camera does stays known."""
        self._meter.reset()
        self._moving = False
        self._last_ns = None

    def see(self, tracks: Tracks) -> None:
        """Take the targets of one frame, for their speed."""
        self._meter.update(tracks)

    def advise(self, stamp_ns: int, width: int, chosen: Choice | None) -> Advice | None:
        """Advice from what the ISP saw in a frame of ``width`` px; None where that was no RAW or
        was not measured, the last advice is younger than ``period_ms``, or none is wanted."""
        if not self.config.enabled or chosen is None or chosen.stamp_ns != stamp_ns:
            return None
        if (
            self._last_ns is not None
            and 0 <= stamp_ns - self._last_ns < _PERIOD_SHARE * self.config.period_ms * 1e6
        ):
            return None
        self._last_ns = stamp_ns
        seen = chosen.light()
        level = float(np.dot((0.25, 0.5, 0.25), seen.levels))
        known = max(level, _DARKEST)
        noise = math.sqrt(chosen.noise[0] * known + chosen.noise[1]) / known
        light, reason = self._light(known, seen)
        speed = self._meter.speed(stamp_ns, width)
        if math.isnan(speed):
            speed = self.config.speed_px_s
        exposure_s = gain = blur_px = math.nan
        camera = self.camera  # which another thread may tell
        if camera is None:
            moves = self._moves(light, 1.0)
            light, reason = (self._stepped(light), reason) if moves else (1.0, Reason.HOLD)
        else:
            blur_px = speed * camera.exposure_s
            exposure_s, gain, reason = self._settings(camera, light, noise, speed, reason)
            light = exposure_s * gain / (camera.exposure_s * camera.gain)
        return Advice(
            stamp_ns, exposure_s, gain, light, level, seen.clipped, noise, blur_px, reason
        )

    def _light(self, level: float, seen: Light) -> tuple[float, Reason]:
        """The factor on exposure time times gain that the levels ask for."""
        wanted = self.config.target_level / level
        allowed = self.config.bright_level / (
            max(seen.bright, _DARKEST) * (1 + _CLIPPED_WEIGHT * seen.clipped)
        )
        if allowed < min(wanted, 1.0):
            return allowed, Reason.HIGHLIGHTS
        factor = min(wanted, allowed)
        return factor, Reason.DARK if factor > 1 else Reason.BRIGHT

    def _settings(
        self, camera: CameraState, light: float, noise: float, speed: float, reason: Reason
    ) -> tuple[float, float, Reason]:
        """Exposure time and gain to set, and why."""
        config, total = self.config, camera.exposure_s * camera.gain
        low, high = config.min_ms * 1e-3, config.max_ms * 1e-3
        best = min(max(best_exposure(camera.exposure_s, noise, speed, config), low), high)
        # Where even without gain there is too much light, time has to give way.
        best = max(min(best, total * light), low)
        reached = best * min(max(total * light / best, 1.0), config.max_gain) / total
        inside = low <= camera.exposure_s <= high and 1 <= camera.gain <= config.max_gain
        near = abs(math.log(light)) <= math.log1p(config.deadband)
        if not self._moves(reached, best / camera.exposure_s) and inside:
            return camera.exposure_s, camera.gain, Reason.HOLD if near else Reason.LIMIT
        turn = self._stepped(best / camera.exposure_s)
        exposure_s = min(max(camera.exposure_s * turn, low), high)
        gain = min(max(total * self._stepped(light) / exposure_s, 1.0), config.max_gain)
        if near:
            reason = Reason.BLUR if turn < 1 else Reason.NOISE
        return exposure_s, gain, reason

    def _moves(self, light: float, turn: float) -> bool:
        """Whether these factors on light and time are worth a step: not while both are near enough,
        and once they were not, until they have settled."""
        off = max(abs(math.log(light)), abs(math.log(turn)) / 2)
        band = math.log1p(self.config.deadband) * (_SETTLED if self._moving else 1)
        self._moving = off > band
        return self._moving

    def _stepped(self, factor: float) -> float:
        return min(max(factor, 1 / self.config.max_step), self.config.max_step)


def best_exposure(exposure_s: float, noise: float, speed: float, config: ExposureConfig) -> float:
    """Seconds t that make (speed · t / blur_px)² + (noise(t) / noise_ratio)² least; inf at rest.

    noise: standard deviation over level at the present ``exposure_s``. It falls with the square
    root of the light, noise(t)² = noise² · exposure_s / t, so the least lies where the derivative
    2 speed² t / blur_px² − noise² exposure_s / (noise_ratio t)² is 0.
    """
    if speed <= 0:
        return math.inf
    weighed = noise * config.blur_px / (config.noise_ratio * speed)
    return float((weighed * weighed * exposure_s / 2) ** (1 / 3))
