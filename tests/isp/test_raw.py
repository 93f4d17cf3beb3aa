import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.raw import (
    BayerEncoding,
    _srgb_from_camera,
    mosaic_of,
    read_dump,
    read_raw_file,
    site_names,
)
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.images import frame_from_bytes


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("size", [(16, 6), (1284, 720)])
def test_unpacking_returns_what_a_slow_packer_packed(pack, bits, padding, size):
    width, height = size
    values = np.random.default_rng(bits).integers(0, 1 << bits, (height, width), dtype=np.uint16)
    step = width * bits // 8 + padding
    data = pack(values, bits, step)
    frame = frame_from_bytes(data, size, step, f"bayer_gbrg{bits}p", False, 7, 0)
    assert frame.size == size
    assert frame.stamp_ns == 7
    np.testing.assert_array_equal(mosaic_of(frame), values)


def test_unpacking_a_view_that_skips_columns_and_rows(pack):
    values = np.random.default_rng(1).integers(0, 1 << 12, (8, 8), dtype=np.uint16)
    packed = np.frombuffer(pack(values, 12, 12), np.uint8).reshape(8, 12)
    spread = np.zeros((16, 24), np.uint8)
    spread[::2, ::2] = packed
    frame = Frame(spread[::2, ::2], 0, "bayer_rggb12p", width=8)
    np.testing.assert_array_equal(mosaic_of(frame), values)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6, 7])
def test_unpacked_rows_honor_step_and_byte_order(big_endian, padding):
    values = np.random.default_rng(2).integers(0, 1 << 14, (4, 6), dtype=np.uint16)
    step = 12 + padding
    data = b"".join(
        row.astype(">u2" if big_endian else "<u2").tobytes() + b"\xee" * padding for row in values
    )
    frame = frame_from_bytes(data, (6, 4), step, "bayer_bggr14", big_endian, 0, 0)
    np.testing.assert_array_equal(mosaic_of(frame), values)
    plain = ClassicalIsp().process(Frame(values, 0, "bayer_bggr14"))
    np.testing.assert_array_equal(ClassicalIsp().process(frame).image, plain.image)


def test_mirrored_and_transposed_views_are_developed_as_they_look():
    values = np.random.default_rng(4).integers(0, 256, (16, 24), dtype=np.uint8)
    for view in (values[::-1], values[:, ::-1], values.T, values[:, 2:-2]):
        seen = ClassicalIsp().process(Frame(view, 0, "bayer_grbg8")).image
        copied = ClassicalIsp().process(Frame(view.copy(), 0, "bayer_grbg8")).image
        np.testing.assert_array_equal(seen, copied)


def test_names_of_the_sites_follow_the_order():
    assert site_names("rggb") == ("R", "Gr", "Gb", "B")
    assert site_names("bggr") == ("B", "Gb", "Gr", "R")
    assert site_names("grbg") == ("Gr", "R", "B", "Gb")
    assert site_names("gbrg") == ("Gb", "B", "R", "Gr")


@pytest.mark.parametrize("name", ["bayer_rggb9", "bayer_rgbg8", "bayer_rggb16p", "yuv422", "", 3])
def test_an_unknown_encoding_is_named(name):
    with pytest.raises(InputError, match=r"is no Bayer RAW: give bayer_"):
        BayerEncoding.parse(name)


@pytest.mark.parametrize(
    ("nbytes", "width", "height", "encoding", "step", "text"),
    [
        (95, 8, 6, "bayer_rggb16", 0, "holds 95 bytes, a 8x6 picture"),
        (97, 8, 6, "bayer_rggb16", 0, "holds 97 bytes"),
        (0, 8, 6, "bayer_rggb8", 0, "holds 0 bytes"),
        (35, 7, 5, "bayer_rggb8", 0, "give an even height"),
        (42, 8, 6, "bayer_rggb8", 7, "step of 7"),
        (60, 6, 6, "bayer_rggb10p", 0, "multiple of 4"),
        (48, -8, -6, "bayer_rggb8", 0, "give an even height"),
        (48, 1 << 20, 6, "bayer_rggb8", 0, "each 4 to 16384"),
        (48, 8, 6, "bayer_rggb8", -8, "holds 48 bytes"),
        (48, 8, 6, "yuyv", 0, "is no Bayer RAW"),
    ],
)
def test_a_dump_of_another_size_is_refused(tmp_path, nbytes, width, height, encoding, step, text):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(nbytes))
    with pytest.raises(InputError, match=text):
        read_dump(path, width, height, encoding, step)


@pytest.mark.parametrize(
    ("image", "encoding", "width", "text"),
    [
        (np.zeros((6, 8), np.uint16), "bayer_rggb8", 0, "holds uint16"),
        (np.zeros((6, 8), np.uint8), "bayer_rggb12", 0, "holds uint8"),
        (np.zeros((6, 8), np.float32), "bayer_rggb16", 0, "holds float32"),
        (np.zeros((6, 8, 3), np.uint8), "bayer_rggb8", 0, r"\(6, 8, 3\)"),
        (np.zeros((6, 7), np.uint8), "bayer_rggb8", 0, "even height"),
        (np.zeros((5, 8), np.uint8), "bayer_rggb8", 0, "even height"),
        (np.zeros((0, 0), np.uint8), "bayer_rggb8", 0, "even height"),
        (np.zeros((2, 2), np.uint8), "bayer_rggb8", 0, "4 to"),
        (np.zeros((6, 9), np.uint8), "bayer_rggb10p", 8, "needs 10"),
        (np.zeros((6, 8), np.uint8), "bayer_rggb10p", 0, "says no width|needs 10"),
        (np.zeros((6, 8), np.uint8), "bayer_rggb8", 12, "needs 12"),
        (None, "bayer_rggb8", 0, "NoneType"),
        ([[1, 2], [3, 4]], "bayer_rggb8", 0, "list"),
        (np.zeros((6, 8), np.uint8), "jpeg", 0, "is no Bayer RAW"),
        (np.zeros((6, 8), np.uint16), "mono16", 0, "is no Bayer RAW"),
        (np.zeros((6, 8), np.uint8), "rgb8", 0, "channel"),
        (np.zeros((6, 8, 3), np.float32), "bgr8", 0, "channel"),
        (np.zeros((0, 8), np.uint8), "mono8", 0, "channel"),
    ],
)
def test_a_hostile_frame_gets_one_line_and_the_next_is_developed(image, encoding, width, text):
    isp = ClassicalIsp()
    good = Frame(np.full((6, 8), 90, np.uint8), 5, "bayer_rggb8", 1)
    isp.process(good)
    with pytest.raises(InputError, match=text) as caught:
        isp.process(Frame(image, 0, encoding, 9, width=width))
    assert "\n" not in str(caught.value)
    assert isp.process(good).image.shape == (6, 8, 3)


def test_a_dump_is_read_and_a_truncated_one_refused(tmp_path):
    values = np.random.default_rng(3).integers(0, 1 << 10, (4, 6), dtype=np.uint16)
    path = tmp_path / "a.raw"
    path.write_bytes(values.tobytes())
    np.testing.assert_array_equal(read_dump(path, 6, 4, "bayer_rggb10").image, values)
    path.write_bytes(values.tobytes()[:-1])
    with pytest.raises(InputError, match=r"a\.raw: holds 47 bytes, a 6x4 picture .* 48"):
        read_dump(path, 6, 4, "bayer_rggb10")
    with pytest.raises(InputError, match="cannot be read"):
        read_dump(tmp_path / "missing.raw", 6, 4, "bayer_rggb10")


def test_without_rawpy_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(InputError, match=r"pip install '\.\[raw\]'"):
        read_raw_file(tmp_path / "a.dng")


def test_no_camera_file_is_refused(tmp_path):
    pytest.importorskip("rawpy")
    path = tmp_path / "a.dng"
    for content in (b"", b"II*\0" + bytes(200), bytes(range(256)) * 20):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no camera RAW"):
            read_raw_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_raw_file(tmp_path / "missing.dng")


def test_the_color_matrix_undoes_the_camera_and_keeps_white():
    camera_from_srgb = np.array([[0.7, 0.2, 0.1], [0.25, 0.6, 0.15], [0.05, 0.3, 0.65]])
    xyz_from_srgb = np.array(  # IEC 61966-2-1
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    sensitivity = np.diag([0.5, 1.0, 0.7])  # what white balance takes out
    matrix = _srgb_from_camera(sensitivity @ camera_from_srgb @ np.linalg.inv(xyz_from_srgb))
    np.testing.assert_allclose(np.reshape(matrix, (3, 3)) @ camera_from_srgb, np.eye(3), atol=2e-3)
    assert _srgb_from_camera(np.zeros((3, 3))) is None


@pytest.mark.parametrize(
    ("dng", "dump", "size", "encoding", "shift"),
    [
        ("mush_768x512", "mush_DSC_1339_768x512_rggb", (768, 512), "bayer_rggb14", 0),
        ("openisp_chart_1920x1080", "openisp_test_1920x1080", (1920, 1080), "bayer_rggb10", 0),
        (
            "iisp_Outdoor4_2592x1536",
            "iisp_Outdoor4_2592x1536_8bit_GRBG",
            (2592, 1536),
            "bayer_grbg8",
            2,
        ),
    ],
)
def test_a_dng_holds_the_dump_bit_by_bit(isp_data, dng, dump, size, encoding, shift):
    pytest.importorskip("rawpy")
    path = isp_data / "dng" / f"{dng}.dng"
    if not path.exists():
        pytest.skip(f"no {path}")
    frame, metadata = read_raw_file(path)
    plain = read_dump(isp_data / "raw" / f"{dump}.raw", *size, encoding)
    assert frame.encoding[:10] == encoding[:10]
    np.testing.assert_array_equal(frame.image, plain.image.astype(np.uint16) << shift)
    assert metadata.white_level > max(metadata.black_level)
    config = IspConfig(white_balance="fixed").with_metadata(metadata)
    picture = ClassicalIsp(config).process(frame)
    assert picture.image.shape == (size[1], size[0], 3)
    assert config.wb_gains == metadata.as_shot_gains
    assert 5 < picture.image.mean() < 250


@pytest.mark.parametrize(
    ("name", "width", "height", "encoding", "black"),
    [
        ("iisp_Indoor1_2592x1536_8bit_GRBG", 2592, 1536, "bayer_grbg8", 12.0),
        ("iisp_Outdoor2_2592x1536_8bit_GRBG", 2592, 1536, "bayer_grbg8", 12.0),
        ("mush_DSC_1339_768x512_rggb", 768, 512, "bayer_rggb14", 600.0),
        ("openisp_test_1920x1080", 1920, 1080, "bayer_rggb10", 0.0),
    ],
)
def test_real_raw_has_its_camera_s_order(isp_data, name, width, height, encoding, black):
    """A wrong order makes a checkerboard: neighbors differ most where the order is wrong."""
    path = isp_data / "raw" / f"{name}.raw"
    if not path.exists():
        pytest.skip(f"no {path}")
    frame = read_dump(Path(path), width, height, encoding)
    roughness = {}
    for order in ("rggb", "bggr", "grbg", "gbrg"):
        config = IspConfig(order=order, black_level=(black,), white_balance="white_patch")
        picture = ClassicalIsp(config).process(frame).image.astype(np.int16)
        roughness[order] = np.abs(np.diff(picture[..., 1], axis=1)).mean()
    true_order = encoding[6:10]
    green_swapped = {"rggb": "grbg", "grbg": "rggb"}[true_order]
    assert roughness[true_order] < roughness[green_swapped]


def test_metadata_keeps_what_the_camera_did_not_say():
    from isp.raw import RawMetadata

    config = IspConfig(wb_gains=(2.0, 1.0, 1.5), white_balance="fixed")
    metadata = RawMetadata((1.0, 2.0, 3.0, 4.0), 900.0, None, None)
    made = config.with_metadata(metadata)
    assert made == dataclasses.replace(config, black_level=(1.0, 2.0, 3.0, 4.0), white_level=900.0)
