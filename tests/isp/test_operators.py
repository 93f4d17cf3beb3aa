import cv2
import numpy as np
import pytest

from isp.config import IDENTITY
from isp.grid import Linear
from isp.operators import FIELD, Operators, Parameters, color_mix, default_parameters
from isp.sensor import PROFILES

GRID = (104, 78)
PLAIN = {
    "gains": (1.0, 1.0, 1.0),
    "exponents": (1.0, 1.0, 1.0),
    "saturation": 1.0,
    "toe": 1e-6,
    "strengths": (0.0, 0.0, 0.0),
    "field": np.zeros((2, FIELD, FIELD), np.float32),
    "slope": 0.0,
    "floor": 1e-6,
}


def apply(planes, **options):
    """(h, w, 3) as ints."""
    planes = np.ascontiguousarray(planes, np.float32)
    linear = Linear.of(planes, np.zeros(planes.shape[1:], np.float32))
    out = Operators(planes.shape[:0:-1])(linear, Parameters(**{**PLAIN, **options}))
    assert out.dtype == np.uint8
    return out.astype(int)


def picture(rng, exposure, slope, floor):
    """(3, h, w) patches of color with their noise."""
    patches = rng.random((13, 17, 3), np.float32) * np.float32(exposure)
    light = cv2.resize(patches, GRID, interpolation=cv2.INTER_NEAREST)
    light += np.sqrt(slope * light + floor) * rng.standard_normal(light.shape, np.float32)
    return np.ascontiguousarray(light.transpose(2, 0, 1))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exposure", [1.0, 0.2, 0.02])
def test_training_and_camera_develop_alike_by_day_and_in_deep_night(exposure, seed):
    torch = pytest.importorskip("torch", reason="torch is not installed (the train extra)")
    from isp.task_aware import parameters_of
    from isp.train_network import develop

    rng = np.random.default_rng([seed, 4])
    gain = exposure**-1.2
    slope, floor = gain / 20_000, (2.5e-4 + 8e-5 * gain) ** 2
    planes = picture(rng, exposure, slope, floor)
    given = np.concatenate(
        [
            np.exp(rng.normal(0, 1, 3)).clip(0.1, 64) * exposure**-0.5,
            np.exp(rng.uniform(-0.8, 0.8, 3)) / 2.2,
            np.exp(rng.uniform(-1, 1, 1)),
            0.002 * np.exp(rng.uniform(-2.5, 2.5, 1)),
            2 * np.exp(rng.uniform(-2.5, 2.5, 3)),
        ]
    ).astype(np.float32)
    field = rng.uniform(-2, 2, (2, FIELD, FIELD)).astype(np.float32)
    matrix = PROFILES["small-12"].matrix if seed % 2 else IDENTITY
    batch = [planes, np.array([slope, floor], np.float32), given, field, color_mix(matrix)]
    trained = develop(*(torch.from_numpy(a)[None] for a in batch))[0].numpy() * 255
    parameters = parameters_of(given.tolist(), field, slope, floor)
    found = Operators(GRID, matrix)(Linear.of(planes, planes[1]), parameters)
    assert 10 < found.mean() < 250
    assert np.abs(found - trained.transpose(1, 2, 0)).max() <= 1


def test_without_shrink_a_gray_picture_stays_as_it_is():
    gray = np.random.default_rng(5).random(GRID[::-1], np.float32)
    out = apply(np.stack([gray] * 3))
    assert np.abs(out - 255 * gray[..., None]).max() <= 0.51


def test_without_shrink_smooth_color_stays_as_it_is():
    y, x = np.mgrid[0:78, 0:104] / 104
    planes = np.stack([0.1 + 0.7 * x, 0.8 - 0.5 * y, 0.3 + 0.3 * x * y])
    out = apply(planes)
    assert np.abs(out - 255 * planes.transpose(1, 2, 0))[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize("level", [0.05, 0.5])
def test_a_flat_field_keeps_a_tenth_of_its_variance_and_its_level(level):
    rng, sigma = np.random.default_rng(6), 0.02
    deviation = np.sqrt([2, 1, 2])[:, None, None]  # of one site, and of two
    planes = level + sigma * deviation * rng.standard_normal((3, 78, 104))
    given = {"floor": sigma**2, "exponents": (1.0,) * 3}
    before, after = apply(planes, **given), apply(planes, strengths=(4.0,) * 3, **given)
    assert after.var() < before.var() / 10
    assert abs(after.mean() - 255 * level) < 1


def test_an_edge_above_the_noise_keeps_its_place_and_its_height():
    rng, sigma = np.random.default_rng(7), 0.01
    planes = np.full((3, 78, 104), 0.2)
    planes[:, :, 50:] = 0.6
    planes += sigma * rng.standard_normal(planes.shape)
    out = apply(planes, strengths=(2.0,) * 3, floor=sigma**2).mean(axis=(0, 2))
    assert abs(out[49] - 51) < 8
    assert abs(out[50] - 153) < 8
    assert abs(out[53:].mean() - out[:47].mean() - 102) < 1


def test_gain_exponent_and_toe_follow_their_formula():
    levels = np.array([0.1, 0.2, 0.05])
    gains, exponents, toe = np.array([1.5, 1.0, 2.0]), np.array([0.5, 0.4, 0.6]), 0.003
    planes = np.broadcast_to(levels[:, None, None], (3, 78, 104))
    field = np.stack([np.full((FIELD, FIELD), 0.5), np.full((FIELD, FIELD), -0.3)])
    out = apply(
        planes, gains=tuple(gains), exponents=tuple(exponents), toe=toe,
        field=field.astype(np.float32),
    )  # fmt: skip
    code = ((levels * gains + toe) * 2**0.5) ** (exponents * 2**-0.3) - toe**exponents
    assert np.abs(out - 255 * code).max() <= 0.51


@pytest.mark.parametrize("level", [-0.01, 0.0, 1.0, 100.0])
@pytest.mark.parametrize("strength", [0.0, 50.0])
def test_a_black_and_a_saturated_picture_are_black_and_white(level, strength):
    planes = np.full((3, 78, 104), level)
    for floor in (1e-10, 1e-3):
        out = apply(planes, strengths=(strength,) * 3, floor=floor, toe=0.002)
        assert np.abs(out - (255 if level > 0 else 0)).max() <= 1


def test_the_same_frame_gives_the_same_bits_whatever_came_before():
    rng = np.random.default_rng(8)
    first, second = (picture(rng, exposure, 1e-4, 1e-6) for exposure in (0.5, 0.05))
    parameters = default_parameters(np.array([0.2, 0.3, 0.25], np.float32), (1e-4, 1e-6))
    operators = Operators(GRID)
    before = operators(Linear.of(first, first[1]), parameters)
    kept = before.copy()
    operators(Linear.of(second, second[1]), parameters)
    np.testing.assert_array_equal(before, kept)  # a new array each time
    np.testing.assert_array_equal(operators(Linear.of(first, first[1]), parameters), kept)
