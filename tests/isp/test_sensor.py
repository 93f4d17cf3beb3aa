"""The sensor's forward model: levels, noise as the profile says, counts within bounds."""

import numpy as np
import pytest

from isp.sensor import HELD_BACK, PROFILES, bayer, linear_light, record

EVERY = sorted(PROFILES)


@pytest.mark.parametrize("name", EVERY)
def test_noise_has_the_variance_that_the_profile_says(name):
    profile, rng = PROFILES[name], np.random.default_rng(0)
    for exposure, gain in ((0.5, 1), (0.1, 16), (0.03, 16)):
        counts = record(np.ones((400, 400), np.float32), profile, exposure, gain, rng)
        level = (counts.astype(float) - profile.black) / (profile.white - profile.black)
        slope, floor = profile.noise(gain)
        rounding = 1 / 12 / (profile.white - profile.black) ** 2
        assert level.mean() == pytest.approx(exposure, rel=0.01)
        assert level.var() == pytest.approx(slope * exposure + floor + rounding, rel=0.06)


@pytest.mark.parametrize("name", EVERY)
def test_white_stays_neutral_and_black_is_black(name):
    profile = PROFILES[name]
    white = linear_light(np.full((2, 2, 3), 255, np.uint8), profile)
    np.testing.assert_allclose(white, 1, atol=1e-3)
    assert not linear_light(np.zeros((2, 2, 3), np.uint8), profile).any()
    gray = linear_light(np.full((1, 1, 3), 100, np.uint8), profile)[0, 0]
    gains = np.array([profile.balance[0], 1, profile.balance[1]])
    np.testing.assert_allclose(gray * gains, gray[1], rtol=1e-3)


@pytest.mark.parametrize("order", ["rggb", "bggr", "grbg", "gbrg"])
def test_each_site_sees_its_color(order):
    light = np.zeros((4, 6, 3), np.float32)
    light[:] = (0.2, 0.5, 0.8)
    profile = PROFILES["starlight-14"]
    counts = bayer(light, profile, 1.0, 0.0, np.random.default_rng(0), order)
    level = (counts - profile.black) / (profile.white - profile.black)
    for site, color in enumerate(order):
        wanted = light[0, 0, "rgb".index(color)]
        np.testing.assert_allclose(level[site // 2 :: 2, site % 2 :: 2], wanted, atol=2e-3)


def test_counts_stay_within_the_bits_and_follow_the_seed():
    profile = PROFILES["global-shutter-10"]
    light = np.random.default_rng(1).uniform(-1, 4, (40, 40, 3)).clip(0).astype(np.float32)
    a, b, other = (
        bayer(light, profile, 1.0, 200.0, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert a.dtype == np.uint16 and a.max() == profile.white and a.min() == 0
    assert np.array_equal(a, b) and not np.array_equal(a, other)


def test_one_sensor_is_held_back_and_unlike_the_others():
    held = PROFILES[HELD_BACK]
    for profile in PROFILES.values():
        if profile is not held:
            assert profile.balance != held.balance and profile.black != held.black
