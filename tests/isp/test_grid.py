import numpy as np
import pytest

import isp.grid
from isp.grid import THUMBNAIL, GridSampler, Linear, features, measured_noise, thumbnail
from isp.sensor import PROFILES, bayer

ORDERS = ("rggb", "bggr", "grbg", "gbrg")
SIZES = [
    ((320, 180), (104, 58)),  # repeats along and down
    ((110, 74), (46, 32)),  # no common divisor
    ((64, 48), (32, 24)),  # a cell is a block
    ((96, 64), (16, 16)),
]


def area_mean(plane, cells):
    """The plainest that there is: every value as often as there are cells, then whole means."""
    for axis, count in enumerate(cells):
        many = np.repeat(np.moveaxis(plane, axis, 0), count, axis=0)
        plane = np.moveaxis(many.reshape(count, -1, *many.shape[1:]).mean(axis=1), 0, axis)
    return plane


def plain(mosaic, grid, order, black, white):
    """R, G, B and the difference of the greens in float64."""
    sites = [mosaic[site // 2 :: 2, site % 2 :: 2].astype(float) for site in range(4)]
    level = [
        area_mean((s - b) / (white - b), grid[::-1]) for s, b in zip(sites, black, strict=True)
    ]
    one, two = [site for site in range(4) if order[site] == "g"]
    red, blue = order.index("r"), order.index("b")
    greens = level[one] - level[two]
    return np.stack([level[red], (level[one] + level[two]) / 2, level[blue]]), greens


def noise_mosaic(size, bits, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if bits == 8 else np.uint16
    return rng.integers(0, 1 << bits, size[::-1]).astype(dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("size", "grid"), SIZES)
def test_a_cell_is_the_area_mean_of_the_mosaic_with_each_site_s_black_level(size, grid, order):
    mosaic, black = noise_mosaic(size, 12), [64.0, 60.0, 70.0, 55.0]
    found = GridSampler(size, grid, order, black, 4095.0)(mosaic)
    planes, greens = plain(mosaic, grid, order, black, 4095.0)
    np.testing.assert_allclose(found.planes, planes, atol=1e-6)
    np.testing.assert_allclose(2 * np.sqrt(found.sampled[3]), np.abs(greens), atol=1e-6)


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (10, 6), (12, 4), (14, 2), (16, 0)])
def test_every_depth_and_justification_gives_the_same_levels(bits, shift):
    (size, grid), white = SIZES[0], float((1 << bits) - 1)
    mosaic, black = noise_mosaic(size, bits), [0.02 * white] * 4
    found = GridSampler(size, grid, "grbg", black, white)(mosaic << shift, shift)
    planes, _ = plain(mosaic, grid, "grbg", black, white)
    np.testing.assert_allclose(found.planes, planes, atol=1e-6)


def test_bands_and_rows_with_a_stride_change_nothing(monkeypatch):
    (size, grid), mosaic = SIZES[0], noise_mosaic((340, 180), 12)
    whole = GridSampler(size, grid, "rggb", [64.0] * 4, 4095.0)(mosaic[:, :320].copy())
    monkeypatch.setattr(isp.grid, "_BAND_BYTES", 20_000)
    sampler = GridSampler(size, grid, "rggb", [64.0] * 4, 4095.0)
    assert len(sampler._bands) > 1
    for _ in range(2):  # nothing of the frame before stays
        np.testing.assert_array_equal(sampler(mosaic[:, :320]).planes, whole.planes)


@pytest.mark.parametrize("grid", [(104, 78), (130, 64), (40, 30)])
def test_a_thumbnail_holds_area_means_and_the_greens_variance(grid):
    rng = np.random.default_rng(1)
    planes = rng.random((3, *grid[::-1]), np.float32)
    greens = rng.normal(0, 0.1, grid[::-1]).astype(np.float32)
    small = thumbnail(Linear.of(planes, greens))
    assert small.shape == (4, THUMBNAIL, THUMBNAIL)
    if min(grid) >= THUMBNAIL:
        for found, plane in zip(small, [*planes, greens**2 / 4], strict=True):
            expected = area_mean(plane.astype(float), (THUMBNAIL, THUMBNAIL))
            np.testing.assert_allclose(found, expected, atol=1e-6)


def smooth_light(size):
    """(H, W, 3) from dark to bright, without edges."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    ramp = 0.03 + 0.9 * (x / size[0] + y / size[1]) / 2
    return np.stack([0.6 * ramp, ramp, 0.8 * ramp], axis=-1)


@pytest.mark.parametrize("gain", [1, 4, 16])
@pytest.mark.parametrize("name", PROFILES)
def test_noise_is_measured_within_a_third_of_the_sensor_s(name, gain):
    profile, size, grid = PROFILES[name], (960, 540), (416, 234)
    exposure = gain**-0.5
    mosaic = bayer(smooth_light(size), profile, exposure, gain, np.random.default_rng(2))
    sampler = GridSampler(size, grid, "rggb", [profile.black] * 4, profile.white)
    slope, floor = measured_noise(thumbnail(sampler(mosaic)))
    true_slope, true_floor = profile.noise(gain)
    share = area_mean(np.eye(15), (13, 15))  # 15 blocks to 13 cells, along and down
    kept = (share**2).sum(axis=1).mean() ** 2 / 2  # two greens
    for level in (0.1 * exposure, 0.3 * exposure, 0.8 * exposure):
        truth = kept * (true_slope * level + true_floor)
        assert 0.67 < (slope * level + floor) / truth < 1.33, level


def test_noise_does_not_depend_on_how_equal_levels_are_sorted():
    rng = np.random.default_rng(3)
    level = rng.integers(-3, 40, THUMBNAIL**2).astype(np.float32) / 64
    level = np.maximum(level, 0)
    expected = np.argsort(level, kind="stable")
    np.testing.assert_array_equal(isp.grid._ranks(level), expected)


@pytest.mark.parametrize("level", [-0.01, 0.0, 1.0])
def test_a_picture_of_one_level_has_finite_features_and_noise(level):
    planes = np.full((3, 90, 160), level, np.float32)
    small = thumbnail(Linear.of(planes, np.zeros((90, 160), np.float32)))
    assert np.isfinite(features(small)).all()
    slope, floor = measured_noise(small)
    assert slope >= 0
    assert floor > 0
