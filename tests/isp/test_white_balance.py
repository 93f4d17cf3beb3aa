import math

import numpy as np
import pytest

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.white_balance import GainSmoother, gray_world, white_patch
from pipeline.frame import Frame


def gray_scene(tint, seed=0, size=(96, 128)):
    """An RGGB mosaic, 12 bits, of gray texture under light of the given color."""
    rng = np.random.default_rng(seed)
    gray = rng.uniform(0.05, 0.5, (size[0] // 2, size[1] // 2)).repeat(2, 0).repeat(2, 1)
    light = np.empty(size)
    for site, channel in enumerate((0, 1, 1, 2)):
        light[site // 2 :: 2, site % 2 :: 2] = tint[channel]
    return np.rint(64 + gray * light * (4095 - 64)).astype(np.uint16)


@pytest.mark.parametrize("method", ["gray_world", "white_patch"])
def test_a_tinted_gray_scene_becomes_gray(method):
    tint = np.array([0.5, 1.0, 0.8])
    isp = ClassicalIsp(IspConfig(white_balance=method, black_level=(64.0,)))
    picture = isp.process(Frame(gray_scene(tint), 0, "bayer_rggb12")).image
    np.testing.assert_allclose(isp.gains, tint.max() / tint, rtol=0.02)
    channels = picture.reshape(-1, 3).mean(axis=0)
    assert np.ptp(channels) < 2


def test_white_patch_finds_the_lamp_where_most_of_the_scene_is_green():
    light = np.tile([0.1, 0.4, 0.1], (1000, 1))
    light[:50] = [0.45, 0.9, 0.6]
    light[50:60] = 1.0  # saturated, says nothing
    np.testing.assert_allclose(white_patch(light.T, 8.0), [2.0, 1.0, 1.5], rtol=0.3)
    np.testing.assert_allclose(white_patch(light[:60].T, 8.0), [2.0, 1.0, 1.5], rtol=1e-6)
    assert gray_world(light.T, 8.0)[0] > 3


@pytest.mark.parametrize("method", [gray_world, white_patch])
def test_nothing_to_see_is_no_measurement(method):
    assert method(np.ones((3, 1000)), 8.0) is None  # saturated
    assert method(np.zeros((3, 1000)), 8.0) is None
    assert method(np.full((3, 1000), -0.01), 8.0) is None
    assert method(np.empty((3, 0)), 8.0) is None


def test_gains_are_limited():
    light = np.tile([0.01, 0.5, 0.25], (100, 1))
    np.testing.assert_allclose(gray_world(light.T, 6.0), [6.0, 1.0, 2.0])


@pytest.mark.parametrize("interval_ms", [10, 40, 70])
def test_a_step_is_followed_with_the_time_constant_at_any_frame_rate(interval_ms):
    smoother = GainSmoother(280e6)
    smoother.update(0, np.array([1.0, 1.0, 1.0]))
    for stamp_ms in range(interval_ms, 280 + 1, interval_ms):
        gains = smoother.update(stamp_ms * 1_000_000, np.array([3.0, 1.0, 0.5]))
    share = np.log(gains[[0, 2]]) / np.log([3.0, 0.5])
    np.testing.assert_allclose(share, 1 - math.exp(-1), rtol=1e-9)


def test_the_stream_changes_smoothly_and_arrives():
    isp = ClassicalIsp(IspConfig(black_level=(64.0,), wb_time_constant_ms=200.0))
    before, after = gray_scene((0.5, 1.0, 0.8)), gray_scene((0.9, 1.0, 0.4), seed=1)
    isp.process(Frame(before, 0, "bayer_rggb12"))
    reds = []
    for i in range(1, 61):
        isp.process(Frame(after, i * 33_000_000, "bayer_rggb12", i))
        reds.append(isp.gains[0])
    steps = np.diff(np.log([2.0, *reds]))
    assert (steps <= 0).all()
    assert np.abs(steps).max() < 1.1 * abs(math.log(2.0 * 0.9)) * -math.expm1(-33 / 200)
    np.testing.assert_allclose(isp.gains, [1 / 0.9, 1.0, 2.5], rtol=0.02)
    at_200_ms = math.log(reds[5] / 2.0) / math.log(1 / 0.9 / 2.0)
    assert abs(at_200_ms - (1 - math.exp(-1))) < 0.03


def test_a_clock_that_jumps_back_starts_anew_and_darkness_keeps_the_balance():
    smoother = GainSmoother(1e9)
    smoother.update(10_000_000_000, np.array([2.0, 1.0, 1.0]))
    np.testing.assert_allclose(smoother.update(10_500_000_000, None), [2.0, 1.0, 1.0])
    np.testing.assert_allclose(smoother.update(5, np.array([4.0, 1.0, 3.0])), [4.0, 1.0, 3.0])
    smoother.reset()
    np.testing.assert_allclose(smoother.update(6, None), 1.0)
