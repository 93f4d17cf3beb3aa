"""Clocks, boxes, frames, tracks and forecasts."""

import struct
import time
import zlib

import numpy as np
import pytest

from pipeline.box import as_box, from_center, iou, to_center
from pipeline.clock import SimClock, WallClock
from pipeline.errors import InputError, first_line
from pipeline.frame import Frame
from pipeline.images import compressed_frame
from pipeline.tracks import Forecasts, Tracks, TrackStatus


def test_the_wall_clock_is_near_the_epoch_s_time_and_never_goes_back():
    clock = WallClock()
    assert abs(clock.now_ns() - time.time_ns()) < 1_000_000_000
    times = [clock.now_ns() for _ in range(1000)]
    assert times == sorted(times)
    assert all(isinstance(t, int) for t in times)


def test_the_simulated_clock_stands_until_told_to_go_on():
    clock = SimClock(5)
    assert clock.now_ns() == clock.now_ns() == 5
    clock.advance_to(5)
    clock.advance_to(12)
    assert clock.now_ns() == 12
    with pytest.raises(ValueError, match="12 ns cannot go back to 11 ns"):
        clock.advance_to(11)


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ([1, 2, 3], "give four finite numbers"),
        ([1, 2, 3, float("nan")], "give four finite numbers"),
        ([1, 2, float("inf"), 3], "give four finite numbers"),
        ("1,2,3,4", "give four finite numbers"),
        (None, "give four finite numbers"),
        ([[1, 2, 3, 4]], "give four finite numbers"),
        ([1, 2, 0, 4], "has no area"),
        ([1, 2, 3, -4], "has no area"),
        ([64, 2, 3, 4], "lies outside the 64x48 image"),
        ([-5, 2, 5, 4], "lies outside"),
        ([1, -9, 5, 4], "lies outside"),
    ],
)
def test_a_bad_box_is_named(box, text):
    with pytest.raises(InputError, match=text):
        as_box(box, (64, 48))


def test_a_box_that_sticks_out_is_kept_and_copied():
    given = np.array([-3.0, 40.0, 10.0, 20.0])
    box = as_box(given, (64, 48))
    np.testing.assert_array_equal(box, given)
    assert not np.shares_memory(box, given)


def test_iou_is_exact_and_broadcasts():
    a = np.array([[0.0, 0.0, 4.0, 6.0], [10.0, 10.0, 2.0, 2.0], [0.0, 0.0, np.nan, 1.0]])
    found = iou(a, np.array([2.0, 3.0, 4.0, 6.0]))
    np.testing.assert_allclose(found, [6 / 42, 0.0, np.nan])
    assert iou(np.array([1.0, 2.0, 0.0, 0.0]), np.array([1.0, 2.0, 0.0, 0.0])) == 0
    assert iou(a[:, None], a[None]).shape == (3, 3)


def test_centers_go_there_and_back():
    boxes = np.array([[10.0, 20.0, 4.0, 6.0], [0.0, -2.0, 3.0, 8.0]])
    np.testing.assert_array_equal(to_center(boxes), [[12, 23, 4, 6], [1.5, 2, 3, 8]])
    np.testing.assert_array_equal(from_center(to_center(boxes)), boxes)
    assert boxes[0, 0] == 10.0


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_frames_convert_to_bgr(encoding):
    red, green, blue = 200, 100, 30
    planes = {"r": red, "g": green, "b": blue, "a": 255}
    if encoding == "mono8":
        image = np.full((4, 6), 77, np.uint8)
        bgr = [77, 77, 77]
    else:
        image = np.full((4, 6, len(encoding) - 1), [planes[c] for c in encoding[:-1]], np.uint8)
        bgr = [blue, green, red]
    frame = Frame(image, 1, encoding)
    assert frame.size == (6, 4)
    assert (frame.bgr() == bgr).all()
    assert (frame.bgr() is image) == (encoding == "bgr8")


@pytest.mark.parametrize(
    ("image", "encoding", "text"),
    [
        (np.zeros((4, 6), np.uint8), "bayer_rggb8", "put the ISP stage before it"),
        (np.zeros((4, 6), np.uint8), "jpeg", "'jpeg'"),
        (np.zeros((4, 6), np.uint8), "bgr8", "give uint8 with 3"),
        (np.zeros((4, 6, 3), np.uint16), "bgr8", "holds uint16"),
        (np.zeros((0, 6, 3), np.uint8), "bgr8", "give uint8"),
    ],
)
def test_a_frame_that_is_no_picture_is_named(image, encoding, text):
    frame = Frame(image, 1, encoding, index=41)
    with pytest.raises(InputError, match=text) as caught:
        frame.bgr()
    assert "frame 41" in str(caught.value)


def png(width, height, rows=2):
    """A gray PNG whose header says this size, with a few of its rows."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(rows * (width + 1)))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_compressed_pictures_are_bounded_like_others():
    assert compressed_frame(png(9, 2), 7, 0).size == (9, 2)
    for data in (png(20_000, 2), png(60_000, 60_000), png(1 << 24, 2), b"", b"no picture"):
        with pytest.raises(InputError, match=r"image of|compressed image") as caught:
            compressed_frame(data, 7, 0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"), [("\n a\nb", "a"), ("", "KeyError"), ("x" * 999, "x" * 200)]
)
def test_a_foreign_error_is_quoted_in_one_short_line(text, line):
    error = KeyError() if not text else ValueError(text)
    assert first_line(error) == line


def tracks(n=3, **changes):
    values = {
        "stamp_ns": 1,
        "ready_ns": 2,
        "frame_index": 0,
        "image_size": (64, 48),
        "ids": np.arange(n, dtype=np.int32),
        "boxes": np.ones((n, 4)),
        "scores": np.full(n, 0.5, np.float32),
        "status": np.zeros(n, np.uint8),
        "labels": np.full(n, -1, np.int16),
    }
    return Tracks(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"boxes": np.ones((2, 4))}, r"Tracks.boxes has shape \(2, 4\), not \(3, 4\)"),
        ({"boxes": np.ones((3, 5))}, "Tracks.boxes"),
        ({"scores": np.ones(4, np.float32)}, "Tracks.scores"),
        ({"status": np.full(3, 7, np.uint8)}, "Tracks.status holds 7"),
        ({"boxes": np.full((3, 4), np.nan)}, "not finite"),
        ({"scores": np.full(3, np.inf, np.float32)}, "not finite"),
        ({"labels": np.zeros((3, 1), np.int16)}, "Tracks.labels"),
    ],
)
def test_tracks_of_unequal_length_or_worth_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        tracks(**changes)


def test_tracks_may_be_none_one_or_many():
    assert len(tracks(0)) == 0
    assert len(tracks(3)) == 3
    one = Tracks.single(1, 2, 5, (64, 48), np.array([1, 2, 3, 4.0]), 0.9, TrackStatus.LOST, 7)
    assert (one.ids.tolist(), one.status.tolist(), one.boxes.shape) == ([7], [2], (1, 4))


def test_forecasts_are_validated_and_found_by_consumer():
    def made(**changes):
        values = {
            "stamp_ns": 1,
            "ready_ns": 2,
            "consumers": ("control", "display"),
            "valid_at_ns": np.array([5, 9]),
            "ids": np.arange(3, dtype=np.int32),
            "boxes": np.ones((2, 3, 4)),
            "covariances": np.ones((2, 3, 4, 4)),
            "status": np.zeros((2, 3), np.uint8),
        }
        return Forecasts(**{**values, **changes})

    assert made().of("display") == 1
    with pytest.raises(InputError, match="'radio': configured are control, display"):
        made().of("radio")
    for name, array in (
        ("valid_at_ns", np.array([5])),
        ("boxes", np.ones((3, 2, 4))),
        ("covariances", np.ones((2, 3, 4))),
        ("status", np.zeros((2, 2), np.uint8)),
    ):
        with pytest.raises(InputError, match=f"Forecasts.{name}"):
            made(**{name: array})
