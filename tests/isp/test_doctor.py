"""What a RAW is, found from its pixels alone: real files, and the embedded world in every kind."""

from pathlib import Path

import numpy as np
import pytest

from bridges.world import AerialWorld, WorldConfig
from evaluation.data import find_data
from isp.bayer_order import _CUES, guess_order, red_features, site_planes
from isp.classical import IspConfig
from isp.doctor import SURE, examine
from isp.dump_layout import guess_layouts
from isp.raw import ORDERS
from pipeline.errors import InputError

REAL = {
    "iisp_Indoor1_2592x1536_8bit_GRBG": ("grbg", 8, 12.0),
    "iisp_Outdoor1_2592x1536_8bit_GRBG": ("grbg", 8, 12.0),
    "iisp_Outdoor2_2592x1536_8bit_GRBG": ("grbg", 8, 12.0),
    "iisp_Outdoor3_2592x1536_8bit_GRBG": ("grbg", 8, 12.0),
    "iisp_Outdoor4_2592x1536_8bit_GRBG": ("grbg", 8, 12.0),
    "mush_DSC_1339_768x512_rggb": ("rggb", 14, 600.0),
    "openisp_test_1920x1080": ("rggb", 10, 0.0),
}
"""Order, bits and black level, as the files' makers say; the size stands in most names."""
SIZES = {"iisp": (2592, 1536), "mush": (768, 512), "open": (1920, 1080)}
SWAPPED = {"rggb": "bggr", "bggr": "rggb", "grbg": "gbrg", "gbrg": "grbg"}


@pytest.fixture
def dump(request):
    path = find_data("data", "isp", "raw", f"{request.param}.raw")
    if path is None:
        pytest.skip(f"no {request.param}.raw; set LEADSIGHT_DATA")
    return request.param, path.read_bytes()


@pytest.fixture(scope="module")
def world():
    """(bits) → (mosaic in order rggb, black level)."""
    made = {}

    def render(bits):
        if bits not in made:
            config = WorldConfig(encoding=f"bayer_rggb{bits}", width=960, height=540, seed=3)
            made[bits] = AerialWorld(config).render(4).frame.image
        return made[bits], float(1 << (bits - 6))

    return render


def crop_to(mosaic, order):
    """The same picture, starting at the site that makes its order ``order``."""
    top, left = {"rggb": (0, 0), "grbg": (0, 1), "gbrg": (1, 0), "bggr": (1, 1)}[order]
    height, width = (n - 2 for n in mosaic.shape)
    return np.ascontiguousarray(mosaic[top : top + height, left : left + width])


@pytest.mark.parametrize("dump", REAL, indirect=True)
def test_a_real_dump_gives_size_bits_justification_black_and_green_untold(dump):
    name, data = dump
    order, bits, black = REAL[name]
    layout = guess_layouts(data)[0]
    assert layout.size == SIZES[name[:4]]
    found = examine(layout.read(data))
    assert found.problem == ""
    assert (found.bits.bits, found.bits.justified) == (bits, "right")
    assert abs(found.black.level - black) < max(2, 0.003 * (1 << bits))
    assert found.black.at_most >= found.black.level
    assert found.order.green > 0.99
    assert set(found.order.ranked[:2]) == {order, SWAPPED[order]}


@pytest.mark.parametrize("dump", REAL, indirect=True)
def test_red_of_a_real_dump_is_right_or_called_unsure(dump):
    name, data = dump
    found = examine(guess_layouts(data)[0].read(data))
    assert found.order.ranked[0] == REAL[name][0] or found.order.red < 0.7


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("justified", ["right", "left"])
def test_the_world_in_every_order_depth_and_justification(world, order, bits, justified):
    mosaic, black = world(bits)
    if justified == "left":
        mosaic = mosaic.astype(np.uint16) << (16 - bits)
    found = examine(crop_to(mosaic, order))
    assert found.problem == ""
    assert found.order.ranked[0] == order and found.order.green > 0.99
    assert found.bits.bits == bits
    assert found.options["justified"] == (
        "left" if mosaic.dtype != np.uint8 and justified == "left" else "right"
    )
    assert abs(found.black.level - black) < 0.006 * (1 << bits)
    IspConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.options.items()})


def test_a_flip_changes_the_order_as_it_does_in_the_sensor(world):
    mosaic, _ = world(12)
    for view, order in (
        (mosaic[:, ::-1], "grbg"),
        (mosaic[::-1], "gbrg"),
        (mosaic[::-1, ::-1], "bggr"),
        (mosaic.T, "rggb"),
    ):
        assert set(examine(view).order.ranked[:2]) == {order, SWAPPED[order]}


def test_swapping_red_and_blue_turns_every_cue_around(world):
    mosaic, black = world(12)
    light = (site_planes(mosaic) - black) / 4095
    usable = light.max(axis=0) < 0.9
    here, there = (red_features(light, usable, order) for order in ("rggb", "bggr"))
    np.testing.assert_allclose(here, -there, atol=1e-9)
    guess = guess_order(site_planes(mosaic), black, 4095)
    assert sum(guess.probabilities.values()) == pytest.approx(1)
    assert list(guess.cues) == list(_CUES)
    logit = sum(guess.cues.values())
    assert guess.red == pytest.approx(1 / (1 + np.exp(-logit)))


def test_a_dark_frame_tells_black_and_no_order():
    rng = np.random.default_rng(0)
    frame = np.clip(rng.normal(64, 3, (240, 320)), 0, 1023).astype(np.uint16)
    found = examine(frame)
    assert found.order is None and "dark frame" in found.problem
    assert found.black.level == pytest.approx(63.5, abs=0.2)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("black", "every pixel is 0"),
        ("white", "every pixel is 1023"),
        ("saturated", "of the pixels are saturated"),
        ("noise", "noise but no picture"),
        ("mono", "a gray picture"),
        ("quad", "a quad Bayer sensor"),
        ("slanted", "rows slant by"),
        ("torn", "rows do not continue"),
    ],
)
def test_what_has_no_order_is_said_in_one_line(world, kind, text):
    mosaic, _ = world(10)
    rng = np.random.default_rng(1)
    height, width = mosaic.shape
    flat = mosaic.ravel()
    shapes = {
        "black": lambda: np.zeros((64, 64), np.uint16),
        "white": lambda: np.full((64, 64), 1023, np.uint16),
        "saturated": lambda: np.where(rng.random(mosaic.shape) < 0.7, 1023, mosaic).astype("u2"),
        "noise": lambda: rng.integers(0, 4096, (240, 320), dtype=np.uint16),
        "mono": lambda: (mosaic[::2, ::2] // 2 + mosaic[1::2, 1::2] // 2).astype(np.uint16),
        "quad": lambda: _quad(mosaic),
        "slanted": lambda: flat[: (width - 2) * (height - 2)].reshape(height - 2, width - 2),
        "torn": lambda: flat[: 700 * 600].reshape(600, 700),
    }
    found = examine(shapes[kind]())
    assert found.order is None and text in found.problem and "\n" not in found.problem
    assert "order" not in found.options


def _quad(mosaic):
    """Every color of a Bayer block spread over 2×2 pixels."""
    return np.repeat(np.repeat(mosaic[:300, :400], 2, axis=0), 2, axis=1)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [[1, 2]],
        np.zeros((64, 64), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((8, 640), np.uint8),
        np.zeros((0, 0), np.uint16),
        np.broadcast_to(np.uint8(0), (40, 20_000)),
    ],
)
def test_what_is_no_mosaic_is_refused_in_one_line(bad):
    with pytest.raises(InputError) as caught:
        examine(bad)
    assert "\n" not in str(caught.value)


def test_bits_that_are_given_are_kept_unless_they_cannot_be(world):
    mosaic, _ = world(10)
    assert examine(mosaic, 12).bits.bits == 12
    assert examine(mosaic << 6, 12).bits.shift == 4
    for picture, bits in ((mosaic, 8), (world(8)[0], 10)):
        with pytest.raises(InputError, match="bits cannot be"):
            examine(picture, bits)


def test_hot_pixels_are_counted_and_do_not_move_the_findings(world):
    mosaic, black = world(12)
    clean = examine(mosaic)
    rng = np.random.default_rng(2)
    hot = mosaic.copy()
    rows, columns = rng.integers(4, 500, 200), rng.integers(4, 900, 200)
    hot[rows, columns] = 4095
    found = examine(hot)
    assert 150 < found.hot - clean.hot < 210
    assert found.order.ranked == clean.order.ranked
    assert (found.bits.bits, found.bits.justified) == (12, "right")
    assert abs(found.black.level - black) < 0.006 * 4096


def test_constant_columns_at_the_end_are_padding(world):
    mosaic, _ = world(10)
    found = examine(np.pad(mosaic, ((0, 0), (0, 16)), constant_values=0xEE))
    assert (found.padding, found.size) == (16, (960, 540))
    assert found.order.ranked == examine(mosaic).order.ranked


def test_a_scene_without_anything_dark_gives_a_black_level_of_at_most(world):
    mosaic, _ = world(12)
    bright = (mosaic // 4 + 2400).astype(np.uint16)
    found = examine(bright)
    assert not found.black.known and "at most" in found.black.why
    assert found.black.level <= found.black.at_most < bright.min() + 200


def test_a_dark_left_justified_picture_is_told_from_a_right_justified_one(world):
    mosaic, _ = world(12)
    dim = np.minimum(mosaic, 900) << 4
    found = examine(dim.astype(np.uint16))
    assert (found.bits.bits, found.bits.justified) == (12, "left")


@pytest.mark.parametrize("seed", range(4))
def test_red_of_a_world_is_right_or_called_unsure(seed):
    config = WorldConfig(encoding="bayer_gbrg12", width=960, height=540, seed=seed)
    found = examine(AerialWorld(config).render(0).frame.image)
    assert found.order.green > 0.99
    assert found.order.ranked[0] == "gbrg" or found.order.red < SURE


def test_the_real_files_named_here_are_all_there_are():
    folder = find_data("data", "isp", "raw")
    if folder is None:
        pytest.skip("no RAW files; set LEADSIGHT_DATA")
    assert {p.stem for p in Path(folder).glob("*.raw")} == set(REAL)
