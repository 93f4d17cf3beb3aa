"""``leadsight raw-doctor`` as a user calls it: findings, options that fit, one line for errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridges.world import AerialWorld, WorldConfig
from evaluation.bags import BagWriter
from evaluation.data import find_data
from isp.config import IspConfig
from leadsight.raw_source import parse_size, read_source, source_of
from pipeline import config
from pipeline.errors import InputError
from pipeline.frame import Frame

ROOT = Path(__file__).parents[2]
SIZE = (800, 600)


def doctor(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "leadsight", "raw-doctor", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def mosaic():
    world = WorldConfig(encoding="bayer_rggb12", width=SIZE[0], height=SIZE[1], seed=3)
    return AerialWorld(world).render(4).frame.image


def test_a_dump_gives_findings_options_and_the_sheet(mosaic, tmp_path):
    (tmp_path / "frame.raw").write_bytes((mosaic << 4).tobytes())
    done = doctor("frame.raw", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("800x600, 16-bit pixels, step 1600", "rggb", "12", "left", "the two greens agree"):
        assert text in done.stdout
    sheet = cv2.imread(str(tmp_path / "raw-doctor.png"))
    assert sheet.shape[1] > 2 * 600
    arguments = re.findall(r"--set '?([^\s']+)", done.stdout)
    options = config.build({"isp": IspConfig}, assignments=arguments)["isp"]
    assert (options.order, options.bits, options.justified) == ("rggb", 12, "left")
    assert abs(options.black_level[0] - 64) < 20
    text = re.search(r"^/\*\*:\n(?:  .*\n)+", done.stdout, re.MULTILINE)
    (tmp_path / "isp.yaml").write_text(text[0])
    assert config.build({"isp": IspConfig}, tmp_path / "isp.yaml")["isp"] == options


def test_the_chosen_candidate_is_framed_and_looks_like_no_other(mosaic, tmp_path):
    (tmp_path / "frame.raw").write_bytes(mosaic.tobytes())
    assert doctor("frame.raw", "-o", "four.jpg", cwd=tmp_path).returncode == 0
    sheet = cv2.imread(str(tmp_path / "four.jpg")).astype(int)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    tiles = [sheet[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    green = [int((tile[4:8, 20:-20, 1] - tile[4:8, 20:-20, 2]).max()) for tile in tiles]
    assert green[0] > 80 and max(green[1:]) < 30
    for k, first in enumerate(tiles):
        for second in tiles[k + 1 :]:
            assert np.abs(first[80:-80, 80:-80] - second[80:-80, 80:-80]).mean() > 3


@pytest.mark.parametrize("kind", ["npy", "png", "tiff", "raw", "raw10p", "bag", "mono bag"])
def test_every_source_gives_the_same_mosaic(mosaic, tmp_path, kind):
    path = tmp_path / f"a.{kind.split()[-1].replace('raw10p', 'raw').replace('bag', 'mcap')}"
    told, values, said = {}, mosaic, ""
    if kind == "npy":
        np.save(path, mosaic)
    elif kind in ("png", "tiff"):
        assert cv2.imwrite(str(path), mosaic)
    elif kind == "raw":
        path.write_bytes(mosaic.tobytes())
        told = {"size": SIZE}
    elif kind == "raw10p":
        values = mosaic >> 2
        path.write_bytes(pack_10(values))
        told = {"pixel": "10p"}
    else:
        said = "" if kind == "mono bag" else "grbg"
        encoding = "mono16" if kind == "mono bag" else "bayer_grbg16"
        with BagWriter(path) as bag:
            bag.frame("/nose/raw", Frame(mosaic, 5, encoding))
    source = read_source(path, **told)
    np.testing.assert_array_equal(source.mosaic, values)
    assert source.said.order == said
    assert source.bits == (10 if kind == "raw10p" else 0)


def pack_10(values):
    """MIPI RAW10: four high bytes, then one with the low bits of all four."""
    groups = values.reshape(-1, 4)
    low = (groups & 3) << np.array([0, 2, 4, 6], np.uint16)
    return np.column_stack([groups >> 2, low.sum(axis=1)]).astype(np.uint8).tobytes()


def test_what_the_message_says_wrongly_is_reported(mosaic, tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.frame("/nose/raw", Frame(mosaic, 5, "bayer_grbg16"))
    done = doctor("a.mcap", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "It says grbg itself, another green diagonal: trust the pixels" in done.stdout
    assert "It says 16 bits itself, the pixels show 12" in done.stdout


@pytest.mark.parametrize(
    ("dng", "order", "bits"),
    [
        ("iisp_Outdoor4_2592x1536", "grbg", 10),
        ("mush_768x512", "rggb", 14),
        ("openisp_chart_1920x1080", "rggb", 10),
    ],
)
def test_a_dng_is_examined_by_its_pixels_and_then_compared(tmp_path, dng, order, bits):
    pytest.importorskip("rawpy")
    path = find_data("data", "isp", "dng", f"{dng}.dng")
    if path is None:
        pytest.skip(f"no {dng}.dng; set LEADSIGHT_DATA")
    done = doctor(path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"isp.bits={bits} " in done.stdout
    assert "bits itself" not in done.stdout and "black level of" not in done.stdout
    assert "another green diagonal" not in done.stdout
    swapped = "red and blue swapped" in done.stdout
    assert swapped != (f"isp.order={order}" in done.stdout)
    assert not swapped or "trust it rather than this guess" in done.stdout


def _write(kind, mosaic, path):
    rng = np.random.default_rng(0)
    contents = {
        "empty": b"",
        "cut": mosaic.tobytes()[:-777],
        "text": b"This is no RAW file, whatever its name.\n" * 2000,
        "random": rng.bytes(mosaic.nbytes),
        "black": bytes(mosaic.nbytes),
        "dark": np.clip(rng.normal(64, 3, SIZE[::-1]), 0, 4095).astype(np.uint16).tobytes(),
        "saturated": np.full(SIZE, 4095, np.uint16).tobytes(),
        "gray": cv2.GaussianBlur(mosaic, (0, 0), 5).tobytes(),
    }
    path.write_bytes(contents[kind])


@pytest.mark.parametrize(
    ("kind", "told", "text"),
    [
        ("empty", [], "0 bytes are no picture"),
        ("cut", [], "cut short or has a header"),
        ("text", [], "it holds text, no RAW"),
        ("random", [], "no width makes a picture"),
        ("random", ["--size", "800x600"], "noise but no picture"),
        ("black", ["--size", "800x600", "--bits", "12"], "every pixel is 0"),
        ("dark", ["--size", "800x600", "--bits", "12"], "a dark frame"),
        ("saturated", ["--size", "800x600", "--bits", "12"], "every pixel is 4095"),
        ("gray", [], "a gray picture"),
        ("gray", ["--size", "many"], "give WIDTHxHEIGHT"),
        ("gray", ["--bits", "11"], "give one of 8, 10"),
        ("gray", ["--size", "3x3"], "do not hold a size of 3x3|fit"),
        ("gray", ["--step", "-4"], "--step"),
    ],
)
def test_bad_input_is_one_line_and_status_2(mosaic, tmp_path, kind, told, text):
    _write(kind, mosaic, tmp_path / "frame.raw")
    done = doctor("frame.raw", *told, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(text, done.stderr) and done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "raw-doctor.png").exists()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("missing.raw", None, "no such file"),
        ("a.npy", b"nothing", "is no array"),
        ("a.png", b"nothing", "cannot be decoded"),
        ("a.dng", b"nothing", "is no camera RAW|needs rawpy"),
        ("a.mcap", b"nothing", "is no rosbag2"),
        ("folder", "folder", "is a folder and no bag"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, text):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=text) as caught:
        read_source(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.raw"
    with path.open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(InputError, match="more than any picture"):
        read_source(path)


def test_pictures_that_are_developed_already_are_refused(tmp_path):
    color = np.zeros((64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), color)
    with pytest.raises(InputError, match="developed already"):
        read_source(tmp_path / "a.png")
    with pytest.raises(InputError, match="/nose: is bgr8, developed already"):
        source_of(Frame(color, 0, "bgr8"), "/nose")
    np.save(tmp_path / "a.npy", color.astype(np.float32))
    done = doctor("a.npy", cwd=tmp_path)
    assert done.returncode == 2 and "of uint8 or uint16" in done.stderr


def test_a_size_is_read_as_people_write_it():
    assert parse_size("1920x1080") == parse_size("1920X1080") == (1920, 1080)
    for bad in ("", "1920", "-3x4", "1920x1080x3", "x"):
        with pytest.raises(InputError, match="give WIDTHxHEIGHT"):
            parse_size(bad)


def test_a_topic_without_ros_is_one_line(tmp_path):
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text("import sys\nsys.modules['rclpy'] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "leadsight", "raw-doctor", "/camera/raw"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "a topic needs ROS 2" in done.stderr and done.stderr.count("\n") == 1


def test_help_teaches_with_an_example(tmp_path):
    done = doctor("--help", cwd=tmp_path)
    assert "leadsight raw-doctor frame.raw --size 1920x1080" in " ".join(done.stdout.split())


@pytest.mark.parametrize("given", [("--size", "640x480"), ("--step", "1300")])
def test_a_topic_says_its_own_size_and_step(given, tmp_path):
    done = doctor("/camera/raw", *given, cwd=tmp_path)
    assert done.returncode == 2
    assert "a message says its own size and step" in done.stderr
