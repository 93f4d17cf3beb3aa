import itertools

import cv2
import numpy as np
import pytest

import isp.levels
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.levels import apply_tables, curve_table, site_tables
from pipeline.errors import InputError
from pipeline.frame import Frame

ORDERS = ("rggb", "bggr", "grbg", "gbrg")
PLAIN = {"white_balance": "fixed", "curve": "points"}  # linear light in, linear codes out


def mosaic_from(rgb, order):
    """(H, W) from (H, W, 3), each site its own color."""
    out = np.empty(rgb.shape[:2], rgb.dtype)
    for site, letter in enumerate(order):
        top, left = divmod(site, 2)
        out[top::2, left::2] = rgb[top::2, left::2, "rgb".index(letter)]
    return out


def flat(levels, order, size=(16, 24), dtype=np.uint16):
    return mosaic_from(np.broadcast_to(np.array(levels, dtype), (*size, 3)), order)


def develop(image, encoding, width=0, stamp_ns=0, **options):
    frame = Frame(image, stamp_ns, encoding, 3, "left", width)
    return ClassicalIsp(IspConfig(**options)).process(frame)


@pytest.mark.parametrize("demosaic", ["bilinear", "edge_aware"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", ["8", "10", "12", "14", "16", "10p", "12p"])
@pytest.mark.parametrize("matrix", [False, True])
def test_every_order_and_depth_gives_each_color_its_own_level(pack, order, bits, demosaic, matrix):
    depth = int(bits.rstrip("p"))
    light = np.array([0.8, 0.5, 0.2])
    levels = np.rint(light * ((1 << depth) - 1)).astype(int)
    mosaic = flat(levels, order, dtype=np.uint8 if depth == 8 else np.uint16)
    image, width = mosaic, 0
    if bits.endswith("p"):
        packed, width = pack(mosaic, depth, step=40), 24
        image = np.frombuffer(packed, np.uint8).reshape(16, 40)
    mix = np.array([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.3, 0.0, 0.7]]) if matrix else np.eye(3)
    frame = develop(
        image,
        f"bayer_{order}{bits}",
        width,
        demosaic=demosaic,
        color_matrix=tuple(mix.ravel()),
        **PLAIN,
    )
    expected = 255 * mix @ (levels / ((1 << depth) - 1))
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (16, 24, 3)
    assert np.abs(frame.image - expected).max() <= 0.51


@pytest.mark.parametrize("order", ORDERS)
def test_a_picture_is_reconstructed_where_it_stood(order):
    """A demosaic with a shifted pattern would displace or recolor the gradient and the disc."""
    y, x = np.mgrid[0:64, 0:96]
    rgb = np.stack([2 * x, 3 * y, 255 - x - y], axis=-1).astype(np.uint8)
    rgb[(x - 60) ** 2 + (y - 30) ** 2 < 150] = (200, 30, 90)
    picture = develop(mosaic_from(rgb, order), f"bayer_{order}8", **PLAIN).image
    error = np.abs(picture.astype(int) - rgb)[4:-4, 4:-4]
    assert np.median(error) <= 1
    assert error.mean() < 3


def test_the_order_option_corrects_a_wrong_encoding():
    mosaic = flat((200, 100, 50), "gbrg", dtype=np.uint8)
    picture = develop(mosaic, "bayer_rggb8", order="gbrg", **PLAIN).image
    assert picture[8, 8].tolist() == [200, 100, 50]


def test_black_and_white_level_are_exact_for_every_value():
    black, white = (64.0, 60.0, 68.0, 71.5), 3900.0
    values = np.arange(1 << 12)
    expected = [np.rint(255 * np.clip((values - b) / (white - b), 0, 1)) for b in black]
    mosaic = values.astype(np.uint16).repeat(2)[None].repeat(4, axis=0)
    coded = np.empty(mosaic.shape, np.uint8)
    curve = curve_table("points", 1.0, (0.0, 1.0))
    apply_tables(mosaic, site_tables(12, 0, black, white, (1.0,) * 4, curve), coded)
    for site in range(4):
        found = coded[site // 2, site % 2 :: 2].astype(int)
        wrong = found != expected[site]
        assert np.abs(found - expected[site]).max() <= 1
        assert wrong.mean() < 2e-3  # an exact half rounds either way
        assert found[int(black[site])] == 0
        assert found[int(white) :].tolist() == [255] * (4096 - int(white))


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.4])
def test_gamma_follows_its_formula(gamma):
    for value in (1, 30, 100, 255):
        picture = develop(
            np.full((8, 8), value, np.uint8),
            "bayer_rggb8",
            white_balance="fixed",
            curve="gamma",
            gamma=gamma,
        ).image
        assert np.abs(picture - 255 * (value / 255) ** (1 / gamma)).max() <= 0.51


def test_srgb_curve_and_points_follow_their_formulas():
    def code(value, **options):
        image = np.full((8, 8), value, np.uint16)
        return develop(image, "bayer_rggb16", white_balance="fixed", **options).image[4, 4, 1]

    for light in (0.001, 0.02, 0.2, 0.7, 1.0):
        linear = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
        assert abs(code(round(65535 * light), curve="srgb") - 255 * linear) <= 0.52
    points = (0.0, 0.6, 0.9, 1.0)
    assert code(65535 // 3, curve="points", curve_points=points) == 153
    assert abs(code(65535 // 2, curve="points", curve_points=points) - 255 * 0.75) <= 0.51


@pytest.mark.parametrize("justified", ["auto", "given"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_left_and_right_justified_pixels_give_the_same_picture(bits, side, justified):
    rng = np.random.default_rng(bits)
    mosaic = rng.integers(0, 1 << bits, (32, 48), dtype=np.uint16)
    expected = develop(mosaic, f"bayer_rggb{bits}", black_level=(31.0,)).image
    contained = mosaic << (16 - bits) if side == "left" else mosaic
    options = {"bits": bits, "black_level": (31.0,)}
    if justified == "given":
        options["justified"] = side
    np.testing.assert_array_equal(develop(contained, "bayer_rggb16", **options).image, expected)


def test_a_dark_frame_keeps_the_justification_that_was_found():
    camera = ClassicalIsp(IspConfig(bits=12, **PLAIN))
    dark = Frame(np.full((16, 16), 16, np.uint16), 1, "bayer_rggb16")  # 1 of 12 bits, or 16
    assert camera.process(dark).image[8, 8, 0] == 1  # nothing known yet: right
    camera.process(Frame(np.full((16, 16), 0x8000, np.uint16), 2, "bayer_rggb16"))
    assert camera.process(dark).image[8, 8, 0] == 0
    camera.reset()
    assert camera.process(dark).image[8, 8, 0] == 1


def test_pixels_above_the_given_bits_are_named():
    image = np.random.default_rng(0).integers(0, 1 << 16, (32, 32), dtype=np.uint16)
    with pytest.raises(InputError, match=r"more than 12 bits .*: set isp\.bits"):
        develop(image, "bayer_rggb16", bits=12)


@pytest.mark.parametrize("order", ORDERS)
def test_saturated_light_stays_white_through_balance_and_matrix(order):
    mosaic = flat((4095, 4095, 4095), order)
    matrix = (1.6, -0.4, -0.2, -0.3, 1.6, -0.3, 0.0, -0.5, 1.5)
    options = {"white_balance": "fixed", "wb_gains": (2.1, 1.0, 1.7)}
    for extra in ({}, {"color_matrix": matrix}):
        assert (develop(mosaic, f"bayer_{order}12", **options, **extra).image == 255).all()


def test_a_matrix_mixes_linear_light_before_the_curve():
    mosaic = flat((3000, 2000, 1000), "rggb")
    matrix = np.array([[1.5, -0.3, -0.2], [-0.2, 1.4, -0.2], [0.1, -0.5, 1.4]])
    picture = develop(
        mosaic,
        "bayer_rggb12",
        white_balance="fixed",
        curve="gamma",
        gamma=2.2,
        color_matrix=tuple(matrix.ravel()),
    ).image
    expected = 255 * np.clip(matrix @ (np.array([3000, 2000, 1000]) / 4095), 0, 1) ** (1 / 2.2)
    assert np.abs(picture[8, 8] - expected).max() <= 0.6


@pytest.mark.parametrize("encoding", ["bayer_grbg8", "bayer_grbg12"])
@pytest.mark.parametrize("matrix", [False, True])
def test_radial_shading_is_undone(encoding, matrix):
    bits = int(encoding[10:])
    y, x = np.mgrid[-1:1:120j, -1:1:160j]
    r2 = (160**2 * x**2 + 120**2 * y**2) / (160**2 + 120**2)
    gain = 1 + 0.5 * r2 + 0.25 * r2**2
    black, light = 0.05 * (1 << bits), 0.6 * (1 << bits)
    mosaic = np.rint(black + light / gain).astype(np.uint8 if bits == 8 else np.uint16)
    options = {
        "black_level": (round(black),),
        "color_matrix": (0.9, 0.1, 0, 0, 1, 0, 0, 0, 1) if matrix else IspConfig.color_matrix,
        **PLAIN,
    }
    shaded = develop(mosaic, encoding, **options).image
    picture = develop(mosaic, encoding, lens_shading_radial=(0.5, 0.25), **options).image
    assert np.ptp(shaded.astype(int)) > 60
    assert np.ptp(picture.astype(int)) <= (4 if bits == 8 else 1)


def test_a_shading_table_has_a_gain_for_each_site(tmp_path):
    path = tmp_path / "gains.npy"
    table = np.ones((3, 5, 4)) * [1.5, 1.2, 1.2, 1.1]  # R, Gr, Gb, B
    table[:, -1] *= 2
    np.save(path, table)
    for order in ORDERS:
        picture = develop(
            flat((300, 400, 500), order, (30, 40)),
            f"bayer_{order}12",
            lens_shading_table=str(path),
            **PLAIN,
        ).image
        left, right = picture[15, 4].astype(float), picture[15, 37].astype(float)
        np.testing.assert_allclose(left, np.array([450, 480, 550]) / 4095 * 255, atol=0.6)
        assert (right / left > 1.6).all()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((4, 4, 3)),
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.full((4, 4), 65.0),
        np.ones(7),
        np.ones((4, 4), complex),
        np.array([["a"]]),
        np.ones((1, 4)),
    ],
)
def test_a_bad_shading_table_is_refused(tmp_path, array):
    path = tmp_path / "gains.npy"
    np.save(path, array)
    with pytest.raises(InputError, match=r"gains\.npy: "):
        develop(flat((9, 9, 9), "rggb"), "bayer_rggb12", lens_shading_table=str(path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00\xff\xff", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["lens_shading_table", "defect_map"])
def test_a_file_that_is_no_array_is_refused(tmp_path, content, name):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npy: "):
        develop(flat((9, 9, 9), "rggb"), "bayer_rggb12", **{name: str(path)})


def test_pickled_arrays_are_never_loaded(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"is no plain \.npy array"):
        develop(flat((9, 9, 9), "rggb"), "bayer_rggb12", defect_map=str(path))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"black_level": (1.0, 2.0)}, "black_level: 2 numbers"),
        ({"black_level": (-1.0,)}, "black_level: -1.0 is out of range"),
        ({"black_level": (float("nan"),)}, "not finite"),
        ({"black_level": (300.0,), "white_level": 200.0}, "white_level: 200"),
        ({"wb_gains": (1.0, 1.0)}, "wb_gains: 2 numbers"),
        ({"wb_gains": (1.0, 0.0, 1.0)}, "out of range"),
        ({"color_matrix": (1.0,) * 8}, "color_matrix: 8 numbers"),
        ({"color_matrix": (float("inf"),) + (0.0,) * 8}, "not finite"),
        ({"curve_points": (0.5,)}, "curve_points: 1 numbers"),
        ({"curve_points": (0.0, 0.7, 0.6)}, "curve_points"),
        ({"gamma": 0.0}, "gamma: 0.0 is out of range"),
        ({"bits": 7}, "bits: 7 is out of range"),
        ({"bits": 17}, "bits: 17 is out of range"),
        ({"order": "rgb"}, "none of auto, rggb"),
        ({"demosaic": "vng"}, "none of bilinear"),
    ],
)
def test_an_option_out_of_range_is_named(options, text):
    with pytest.raises(InputError, match=text):
        IspConfig(**options)


@pytest.mark.parametrize(
    ("encoding", "options", "text"),
    [
        ("bayer_rggb12", {"bits": 14}, "isp.bits is 14"),
        ("bayer_rggb12", {"white_level": 5000.0}, "do not fit 12 bits"),
        ("bayer_rggb10", {"black_level": (1023.0,)}, "do not fit 10 bits"),
        ("bayer_rggb12", {"lens_shading_radial": (-2.0,)}, "lens_shading_radial"),
    ],
)
def test_levels_that_the_encoding_cannot_hold_are_named(encoding, options, text):
    with pytest.raises(InputError, match=text):
        develop(flat((9, 9, 9), "rggb"), encoding, **options)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_a_finished_picture_passes_unchanged(encoding):
    image = np.zeros((5, 7) if encoding == "mono8" else (5, 7, 3), np.uint8)
    frame = Frame(image, 4, encoding)
    assert ClassicalIsp().process(frame) is frame


def test_the_same_stream_gives_the_same_bits_and_new_pictures():
    rng = np.random.default_rng(5)
    frames = [
        Frame(rng.integers(0, 4096, (64, 96), dtype=np.uint16), 33_000_000 * i, "bayer_grbg12", i)
        for i in range(5)
    ]
    kept = [frame.image.copy() for frame in frames]
    options = {"defect_threshold": 0.2, "black_level": (64.0,)}
    runs = [[ClassicalIsp(IspConfig(**options))] for _ in range(2)]
    first, second = ([run[0].process(frame) for frame in frames] for run in runs)
    runs[0][0].reset()
    third = [runs[0][0].process(frame) for frame in frames]
    for a, b, c in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.image, c.image)
    for a, b in itertools.combinations([f.image for f in first], 2):
        assert not np.shares_memory(a, b)
    for frame, image, developed in zip(frames, kept, first, strict=True):
        np.testing.assert_array_equal(frame.image, image)  # the camera's picture is not touched
        assert (developed.stamp_ns, developed.index, developed.encoding, developed.frame_id) == (
            frame.stamp_ns,
            frame.index,
            "rgb8",
            frame.frame_id,
        )


def test_without_16_bit_lookup_in_opencv_the_picture_is_the_same(monkeypatch):
    image = np.random.default_rng(6).integers(0, 4096, (64, 96), dtype=np.uint16)
    matrix = {"color_matrix": (1.2, -0.1, -0.1, 0, 1, 0, 0, 0, 1)}
    expected = [develop(image, "bayer_bggr12", **o).image for o in ({}, matrix)]
    monkeypatch.setattr(isp.levels, "LUT_READS_16_BIT", False)
    for options, picture in zip(({}, matrix), expected, strict=True):
        np.testing.assert_array_equal(develop(image, "bayer_bggr12", **options).image, picture)


def test_a_stream_may_change_its_size_and_encoding():
    camera = ClassicalIsp()
    small = Frame(np.full((16, 16), 50, np.uint8), 0, "bayer_rggb8")
    large = Frame(np.full((32, 48), 900, np.uint16), 1, "bayer_gbrg12")
    assert camera.process(small).size == (16, 16)
    assert camera.process(large).size == (48, 32)
    assert camera.process(small).size == (16, 16)


def test_opencv_agrees_on_a_random_mosaic():
    mosaic = np.random.default_rng(7).integers(0, 256, (40, 60), dtype=np.uint8)
    np.testing.assert_array_equal(
        develop(mosaic, "bayer_rggb8", **PLAIN).image, cv2.cvtColor(mosaic, cv2.COLOR_BayerRGGB2RGB)
    )


def test_shading_keeps_gray_gray_where_black_levels_differ():
    black = (50.0, 200.0, 200.0, 400.0)
    mosaic = np.empty((32, 32), np.uint16)
    for site, level in enumerate(black):
        mosaic[site // 2 :: 2, site % 2 :: 2] = round(level + (1023 - level) / 2)
    fixed = {"black_level": black, "white_balance": "fixed", "curve": "gamma", "gamma": 1.0}
    plain = ClassicalIsp(IspConfig(**fixed)).process(Frame(mosaic, 0, "bayer_rggb10"))
    shaded = ClassicalIsp(IspConfig(**fixed, lens_shading_radial=(1e-6,)))
    out = shaded.process(Frame(mosaic, 0, "bayer_rggb10")).image.astype(int)
    assert np.abs(out - plain.image.astype(int)).max() <= 1
