"""Advice on exposure: which way it goes, what it keeps to, and a camera that follows it settles."""

import math
from dataclasses import replace

import numpy as np
import pytest

from isp.config import IspConfig
from isp.exposure import (
    CameraState,
    ExposureAdvisor,
    ExposureConfig,
    Reason,
    SpeedMeter,
    best_exposure,
)
from isp.sensor import PROFILES, bayer
from isp.task_aware import Choice, Light, TaskAwareIsp
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import Tracks, TrackStatus

MS = 1_000_000
WIDTH = 640


def seen(
    stamp_ns: int, level: float = 0.18, bright: float = 0.5, clipped: float = 0.0, slope=2e-4
) -> Choice:
    """What the ISP says of a gray frame."""
    levels = np.full(3, level, np.float32)
    return Choice(stamp_ns, {}, (slope, 1e-8), lambda: Light(levels, bright, clipped), "")


def target(stamp_ns: int, x: float, identity: int = 3, width: int = WIDTH, **changes) -> Tracks:
    box = np.array([x, 40.0, 30.0, 20.0])
    made = Tracks.single(stamp_ns, stamp_ns, 0, (width, 480), box, 1, TrackStatus.TRACKED, identity)
    return replace(made, **changes)


def advised(speed: float | None = None, state=(5e-3, 2.0), config=None, **frame):
    """The first advice, on a target of ``speed`` px/s."""
    advisor = ExposureAdvisor(config)
    advisor.camera = CameraState(*state) if state else None
    for k in range(20 if speed is not None else 0):
        advisor.see(target(k * 33 * MS, speed * k * 0.033))
    advice = advisor.advise(20 * 33 * MS, WIDTH, seen(20 * 33 * MS, **frame))
    assert advice is not None
    return advice


def test_a_faster_target_is_exposed_shorter_with_more_gain() -> None:
    free = ExposureConfig(max_step=16, max_gain=1000, deadband=0.001)
    found = [advised(speed, config=free) for speed in (30, 100, 300, 1000, 3000)]
    times, gains = [a.exposure_s for a in found], [a.gain for a in found]
    assert times == sorted(times, reverse=True) and len(set(times)) == 5
    assert gains == sorted(gains) and len(set(gains)) == 5
    assert found[-1].reason == Reason.BLUR
    np.testing.assert_allclose([a.exposure_s * a.gain for a in found], 5e-3 * 2.0)
    np.testing.assert_allclose([a.blur_px for a in found], [0.15, 0.5, 1.5, 5, 15], rtol=0.01)


def test_noise_asks_for_a_longer_exposure() -> None:
    free = ExposureConfig(max_step=16, deadband=0.001)
    found = [advised(100, (2e-3, 8.0), free, slope=s).exposure_s for s in (1e-5, 1e-4, 1e-3, 1e-2)]
    assert found == sorted(found) and found[0] < found[-1]
    assert advised(20, (2e-3, 8.0), slope=1e-2).reason == Reason.NOISE


def test_the_best_exposure_is_the_least_of_blur_and_noise() -> None:
    config, rng = ExposureConfig(), np.random.default_rng(0)
    for _ in range(200):
        now, noise, speed = np.exp(rng.uniform(*np.log([[1e-4, 1e-3, 1], [0.1, 1, 5000]]))).tolist()

        def cost(t, now=now, noise=noise, speed=speed):
            blur = speed * t / config.blur_px
            return blur**2 + noise**2 * now / (t * config.noise_ratio**2)

        best = best_exposure(now, noise, speed, config)
        assert cost(best) < min(cost(best * 0.99), cost(best * 1.01))
    assert best_exposure(0.01, 0.1, 0.0, config) == math.inf


def test_darker_means_more_light_and_brighter_less() -> None:
    factors = [advised(level=level).factor for level in (0.01, 0.1, 0.18, 0.3, 0.9)]
    assert factors == pytest.approx([1.5, 1.5, 1.0, 1 / 1.5, 1 / 1.5])
    assert [advised(level=x).reason for x in (0.02, 0.4)] == [Reason.DARK, Reason.BRIGHT]


def test_clipped_highlights_pull_the_level_down() -> None:
    bright = advised(level=0.18, bright=1.0, clipped=0.05)
    assert bright.reason == Reason.HIGHLIGHTS
    assert bright.factor < 0.8
    worse = advised(level=0.18, bright=1.0, clipped=0.3, config=ExposureConfig(max_step=16))
    assert worse.factor < bright.factor
    # A level below the target is not raised into the highlights, either.
    assert advised(level=0.05, bright=0.89).factor == pytest.approx(1.0, abs=0.02)
    assert advised(level=1.0, bright=1.0, clipped=1.0).factor == pytest.approx(1 / 1.5)


@pytest.mark.parametrize("state", [(1e-6, 1.0), (1e-4, 0.2), (5e-3, 2.0), (0.5, 100.0), None])
def test_limits_and_steps_hold_whatever_the_frame(state) -> None:
    config, rng = ExposureConfig(min_ms=0.1, max_ms=10, max_gain=8), np.random.default_rng(1)
    for _ in range(200):
        level, bright, clipped = rng.random(3).tolist()
        speed = float(np.exp(rng.uniform(0, 10)))
        advice = advised(
            speed, state, config, level=level**4 - 0.01, bright=bright, clipped=clipped
        )
        if state is None:
            assert math.isnan(advice.exposure_s) and math.isnan(advice.gain)
            assert 1 / 1.5 - 1e-9 <= advice.factor <= 1.5 + 1e-9
        else:
            assert 1e-4 <= advice.exposure_s <= 1e-2 and 1 <= advice.gain <= 8
            if 1e-4 <= state[0] <= 1e-2:
                assert 1 / 1.5 - 1e-9 <= advice.exposure_s / state[0] <= 1.5 + 1e-9


def test_out_of_reach_says_so() -> None:
    assert advised(500, (2e-3, 16.0), level=0.01).reason == Reason.DARK  # longer, for the noise
    assert advised(state=(2e-2, 16.0), level=0.01).reason == Reason.LIMIT
    assert advised(state=(5e-5, 1.0), level=0.9).reason == Reason.LIMIT


def test_too_much_light_without_gain_shortens_the_exposure() -> None:
    advice = advised(0.0, (5e-3, 1.0), level=0.6)
    assert advice.gain == pytest.approx(1.0)
    assert advice.exposure_s == pytest.approx(5e-3 / 1.5)


@pytest.mark.parametrize("field", ["exposure_s", "gain"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_camera_state_that_cannot_be_is_one_clear_line(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field} is .*give a number above 0") as error:
        CameraState(**{"exposure_s": 0.01, "gain": 1.0, field: value})
    assert "\n" not in str(error.value)


def test_without_a_camera_state_advice_is_relative() -> None:
    advice = advised(state=None, level=0.12)
    assert math.isnan(advice.exposure_s) and math.isnan(advice.gain) and math.isnan(advice.blur_px)
    assert advice.factor == pytest.approx(1.5)


def test_near_enough_is_held_and_a_move_goes_on_until_it_has_settled() -> None:
    advisor = ExposureAdvisor()

    def factor(k: int, level: float) -> float:
        advice = advisor.advise(k * 100 * MS, WIDTH, seen(k * 100 * MS, level))
        assert advice is not None
        return advice.factor

    assert factor(0, 0.18 / 1.12) == 1.0  # inside the deadband of 15 %
    assert factor(1, 0.18 / 1.2) == pytest.approx(1.2)
    assert factor(2, 0.18 / 1.12) == pytest.approx(1.12)  # not yet settled
    assert factor(3, 0.18 / 1.04) == 1.0
    assert factor(4, 0.18 / 1.12) == 1.0


def test_advice_comes_at_its_period_and_only_where_wanted() -> None:
    advisor = ExposureAdvisor(ExposureConfig(period_ms=100))
    came = [advisor.advise(k * 33 * MS, WIDTH, seen(k * 33 * MS)) is not None for k in range(10)]
    assert [k for k, c in enumerate(came) if c] == [0, 3, 6, 9]  # 99 ms are a period of 100
    assert advisor.advise(0, WIDTH, seen(0)) is not None  # time went back
    assert advisor.advise(10**10, WIDTH, None) is None
    assert ExposureAdvisor(ExposureConfig(enabled=False)).advise(0, WIDTH, seen(0)) is None
    assert advisor.advise(10**10, WIDTH, seen(10**10 - 1)) is None  # of an earlier frame


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="min_ms: 5 lies above max_ms 1"):
        ExposureConfig(min_ms=5, max_ms=1)


def test_speed_is_the_targets_and_does_not_depend_on_the_frame_rate() -> None:
    for period_ms in (5, 33, 100, 400):
        meter = SpeedMeter()
        for k in range(2000 // period_ms):
            meter.update(target(k * period_ms * MS, 0.25 * k * period_ms))
        assert meter.speed(2000 * MS, WIDTH) == pytest.approx(250, rel=0.01), period_ms
        assert meter.speed(2000 * MS, 2 * WIDTH) == pytest.approx(500, rel=0.01)
        assert math.isnan(meter.speed(4000 * MS, WIDTH))


def test_a_trembling_box_is_not_fast_and_lost_or_guessed_ones_do_not_count() -> None:
    meter, rng = SpeedMeter(), np.random.default_rng(2)
    for k in range(60):
        meter.update(target(k * 33 * MS, 100 + rng.normal(0, 0.5)))
    assert meter.speed(60 * 33 * MS, WIDTH) < 15  # 0.5 px from frame to frame are 21 px/s
    meter = SpeedMeter()
    for k in range(10):
        lost = target(k * 33 * MS, 50 * k, status=np.array([TrackStatus.LOST], np.uint8))
        meter.update(lost)
    assert math.isnan(meter.speed(10 * 33 * MS, WIDTH))


def test_a_new_identity_and_a_jump_back_are_no_movement() -> None:
    meter = SpeedMeter()
    meter.update(target(0, 0, identity=1))
    meter.update(target(33 * MS, 600, identity=2))
    assert math.isnan(meter.speed(33 * MS, WIDTH))
    meter.update(target(10 * MS, 0, identity=2))
    assert math.isnan(meter.speed(33 * MS, WIDTH))


def scene(rng: np.random.Generator, lamp: float = 0.0):
    """(192, 256, 3) light, smooth shapes of contrast 30; a lamp fills that share of it."""
    import cv2

    coarse = np.exp(rng.uniform(np.log(0.02), np.log(0.6), (6, 8, 3))).astype(np.float32)
    light = cv2.resize(coarse, (256, 192), interpolation=cv2.INTER_CUBIC).clip(0.01)
    light[:, : round(256 * lamp)] = 20.0
    return light


def follow(light, state, speed, frames, config=None, seed=0, delay=0):
    """A camera that follows the advice, ``delay`` frames late, at 10 frames a second.

    Full well at white is reached by light 1 in 10 ms at gain 1.
    """
    profile, rng = PROFILES["small-12"], np.random.default_rng(seed)
    advisor = ExposureAdvisor(config or ExposureConfig(speed_px_s=speed))
    isp = TaskAwareIsp(IspConfig(mode="task_aware", bits=12, black_level=(64.0,)))
    waiting, rows = [state] * (delay + 1), []
    for k in range(frames):
        exposure_s, gain = waiting.pop(0)
        raw = bayer(light, profile, exposure_s / 10e-3 * gain, gain, rng)
        isp.develop(Frame(raw, k * 100 * MS, "bayer_rggb16", k), ())
        advisor.camera = CameraState(exposure_s, gain)
        advice = advisor.advise(k * 100 * MS, raw.shape[1], isp.chosen)
        waiting.append((advice.exposure_s, advice.gain))
        rows.append(advice)
    return rows


@pytest.mark.parametrize("state", [(5e-5, 1.0), (2e-2, 16.0), (1e-3, 4.0)])
@pytest.mark.parametrize("speed", [0.0, 100.0, 1500.0])
def test_a_camera_that_follows_comes_to_its_level_and_stays(state, speed) -> None:
    config = ExposureConfig(speed_px_s=speed, max_gain=64)
    rows = follow(scene(np.random.default_rng(3)) * 0.3, state, speed, 40, config)
    levels = [r.level for r in rows]
    arrived = next(k for k, level in enumerate(levels) if abs(level / 0.18 - 1) < 0.16)
    assert arrived <= 25  # 2.5 s, from up to a factor of 700 off
    assert all(r.reason == Reason.HOLD for r in rows[-8:])  # settled: no oscillation
    np.testing.assert_allclose(levels[-8:], 0.18, rtol=0.16)


def test_at_its_limits_the_camera_is_left_alone() -> None:
    rows = follow(scene(np.random.default_rng(3)) * 0.1, (5e-3, 16.0), 1500.0, 30)
    assert {r.reason for r in rows[-10:]} == {Reason.LIMIT}
    assert len({(r.exposure_s, r.gain) for r in rows[-10:]}) == 1


def test_a_camera_that_lags_overshoots_by_one_step_at_most_and_settles() -> None:
    rows = follow(scene(np.random.default_rng(3)) * 0.3, (5e-5, 1.0), 100.0, 60, delay=1)
    assert max(r.level for r in rows) < 0.18 * 1.6  # one step too many at most
    assert all(r.reason == Reason.HOLD for r in rows[-8:])


def test_a_lamp_does_not_make_the_camera_swing() -> None:
    rows = follow(scene(np.random.default_rng(4), lamp=0.1), (5e-3, 2.0), 100.0, 60)
    assert len({(r.exposure_s, r.gain) for r in rows[-15:]}) == 1
    assert rows[-1].clipped < 0.15


def test_the_same_frames_give_the_same_advice() -> None:
    light = scene(np.random.default_rng(5))
    assert follow(light, (1e-3, 1.0), 100.0, 6) == follow(light, (1e-3, 1.0), 100.0, 6)


def test_black_and_saturated_frames_give_sane_advice() -> None:
    isp = TaskAwareIsp(IspConfig(mode="task_aware", bits=12, black_level=(64.0,)))
    for value, wanted in ((0, 1.5), (64, 1.5), (4095, 1 / 1.5)):
        isp.reset()
        isp.develop(Frame(np.full((64, 96), value, np.uint16), 0, "bayer_rggb16"), ())
        advisor = ExposureAdvisor(ExposureConfig(speed_px_s=0))
        advisor.camera = CameraState(5e-3, 4.0)
        advice = advisor.advise(0, 96, isp.chosen)
        assert advice.factor == pytest.approx(wanted), value
        assert np.isfinite([advice.exposure_s, advice.gain, advice.noise]).all()
