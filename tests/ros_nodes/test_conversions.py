"""Messages and dataclasses say the same; messages that make no sense are refused."""

import array
from dataclasses import astuple, replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
own = pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from isp.exposure import Advice, CameraState, Reason  # noqa: E402
from pipeline.errors import InputError  # noqa: E402
from pipeline.frame import Frame  # noqa: E402
from pipeline.span import (  # noqa: E402
    Horizon,
    LatencyReport,
    LatencyStatus,
    Origin,
    Span,
    StageLatency,
)
from pipeline.tracks import MAX_TARGETS, Forecasts, Tracks  # noqa: E402
from ros_nodes import messages  # noqa: E402

STAMP = 1_700_000_000_123_456_789


def wire(message):
    from rclpy.serialization import deserialize_message, serialize_message

    return deserialize_message(serialize_message(message), type(message))


def tracks(n: int) -> Tracks:
    rng = np.random.default_rng(n)
    return Tracks(
        STAMP,
        STAMP + 7,
        3,
        (640, 360),
        np.arange(n, dtype=np.int32) + 5,
        rng.random((n, 4)),
        rng.random(n, np.float32),
        (np.arange(n) % 3).astype(np.uint8),
        np.arange(n, dtype=np.int16) - 1,
    )


def same(a: object, b: object) -> None:
    for name in type(a).__slots__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_tracks_survive_the_wire(n: int) -> None:
    same(messages.tracks_of(wire(messages.tracks_message(tracks(n), "camera"))), tracks(n))


@pytest.mark.parametrize(("h", "n"), [(0, 0), (2, 0), (2, 3)])
def test_forecasts_survive_the_wire(h: int, n: int) -> None:
    rng = np.random.default_rng(1)
    forecasts = Forecasts(
        STAMP,
        STAMP + 9,
        tuple(f"c{i}" for i in range(h)),
        STAMP + np.arange(h, dtype=np.int64),
        np.arange(n, dtype=np.int32),
        rng.random((h, n, 4)),
        rng.random((h, n, 4, 4)),
        rng.integers(0, 4, (h, n)).astype(np.uint8),
        np.full(h, 0.9),
        np.where(np.arange(n)[:, None] == 1, np.nan, rng.random((h, n, 4))),
    )
    same(messages.forecasts_of(wire(messages.forecasts_message(forecasts, "camera"))), forecasts)


def test_spans_and_reports_survive_the_wire() -> None:
    span = Span("isp", STAMP, STAMP + 1, STAMP + 5, 2)
    assert messages.span_of(wire(messages.span_message(span))) == span
    report = LatencyReport(
        STAMP,
        (
            StageLatency("isp", LatencyStatus.STALE, 1, 2, 3, 4, 5, 0.5, 6),
            StageLatency("tracker", LatencyStatus.ESTIMATED, 7, 8, 9, 10, 11, 12.5, 13),
        ),
        (
            Horizon("control", 14, LatencyStatus.PRIOR, (7, 21), Origin.STAMP),
            Horizon("planner", 15, LatencyStatus.ESTIMATED, (2, 2), Origin.FORECAST),
        ),
    )
    assert messages.report_of(wire(messages.report_message(report))) == report
    medians = replace(report, horizons=(Horizon("control", 14, LatencyStatus.PRIOR),))
    assert messages.report_of(wire(messages.report_message(medians))) == medians
    mixed = replace(report, horizons=(report.horizons[1], medians.horizons[0]))
    found = messages.report_of(wire(messages.report_message(mixed))).horizons
    assert (found[0], found[1].quantiles_ns) == (report.horizons[1], (14, 14))


def test_counters_stop_at_the_most_that_a_message_holds() -> None:
    assert messages.span_message(Span("isp", STAMP, STAMP, STAMP, 2**40)).dropped == 2**32 - 1
    stage = StageLatency("isp", LatencyStatus.ESTIMATED, 1, 2, 3, 4, 5, 0.5, 2**40)
    report = messages.report_message(LatencyReport(STAMP, (stage,), ()))
    assert list(wire(report).drops) == [2**32 - 1]


@pytest.mark.parametrize(
    ("encoding", "shape", "dtype"),
    [
        ("rgb8", (4, 6, 3), np.uint8),
        ("mono8", (4, 6), np.uint8),
        ("bayer_rggb12", (4, 6), np.uint16),
        ("bayer_grbg16", (4, 6), np.uint16),
    ],
)
def test_pictures_survive_the_wire(encoding: str, shape: tuple[int, ...], dtype: type) -> None:
    image = np.arange(np.prod(shape), dtype=dtype).reshape(shape) * dtype(3)
    sent = messages.image_of(Frame(image, STAMP, encoding, 0, "nose"))
    assert sent.data.itemsize * len(sent.data) == image.nbytes
    frame = messages.frame_of(wire(sent), 9)
    np.testing.assert_array_equal(frame.image, image)
    assert (frame.stamp_ns, frame.encoding, frame.index, frame.frame_id) == (
        STAMP,
        encoding,
        9,
        "nose",
    )


def test_a_cut_out_of_a_picture_is_sent_whole() -> None:
    image = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    sent = messages.image_of(Frame(image[2:10, 4:12], STAMP, "mono8"))
    np.testing.assert_array_equal(messages.frame_of(sent, 0).image, image[2:10, 4:12])


def test_padding_at_the_end_of_rows_is_honored_without_a_copy() -> None:
    message = messages.image_of(Frame(np.arange(40, dtype=np.uint8).reshape(4, 10), 0, "mono8"))
    message.width = 7
    frame = messages.frame_of(message, 0)
    np.testing.assert_array_equal(frame.image, np.arange(40).reshape(4, 10)[:, :7])
    message.data[0] = 99
    assert frame.image[0, 0] == 99


def bad_time(message):
    message.header.stamp.nanosec = 10**9


def short_boxes(message):
    message.boxes = array.array("d", [1.0])


def nan_box(message):
    message.boxes[1] = float("nan")


def wrong_status(message):
    message.status[0] = 77


def wrong_source(message):
    message.source[0] = 3


def answer_from_the_future(message):
    message.answered_ns[0] = 2**62


def negative_variance(message):
    message.variances[3] = -1.0


def too_many(message):
    message.ids = array.array("i", [0]) * 100_000


@pytest.mark.parametrize(
    "spoil",
    [
        bad_time,
        short_boxes,
        nan_box,
        wrong_status,
        wrong_source,
        answer_from_the_future,
        negative_variance,
        too_many,
    ],
)
def test_tracks_that_make_no_sense_are_refused(spoil) -> None:
    message = messages.tracks_message(tracks(2), "camera")
    messages.tracks_of(message)
    spoil(message)
    with pytest.raises(InputError, match=r"TrackArray|Tracks|stamp"):
        messages.tracks_of(message)


def test_tracks_of_a_sender_that_leaves_the_new_fields_empty() -> None:
    message = messages.tracks_message(tracks(2), "camera")
    message.source, message.answered_ns = array.array("B"), array.array("q")
    message.variances = array.array("d")
    found = messages.tracks_of(message)
    assert found.source.tolist() == [0, 0]
    assert found.answered_ns.tolist() == [found.stamp_ns] * 2
    assert np.isnan(found.variances).all()


def test_forecasts_hold_no_more_targets_than_tracks_may() -> None:
    n = MAX_TARGETS + 1
    message = own.ForecastArray(ids=array.array("i", range(n)))
    with pytest.raises(InputError, match=f"{n} targets, allowed are {MAX_TARGETS}"):
        messages.forecasts_of(message)


def test_forecasts_of_a_sender_that_leaves_the_new_fields_empty() -> None:
    message = own.ForecastArray(
        consumers=["a"],
        valid_at_ns=array.array("q", [STAMP]),
        ids=array.array("i", [4]),
        boxes=array.array("d", [1.0, 2, 3, 4]),
        covariances=array.array("d", np.eye(4).ravel()),
        status=array.array("B", [0]),
    )
    found = messages.forecasts_of(wire(message))
    assert found.probabilities.tolist() == [0.0] and np.isnan(found.regions).all()
    for spoil in (
        {"probabilities": array.array("d", [1.0])},
        {"probabilities": array.array("d", [-0.1])},
        {"probabilities": array.array("d", [float("nan")])},
        {"probabilities": array.array("d", [0.5, 0.5])},
        {"regions": array.array("d", [1.0, 2, 3, float("nan")])},
        {"regions": array.array("d", [1.0, 2, 3, float("inf")])},
        {"regions": array.array("d", [1.0, 2, 3])},
    ):
        bad = wire(message)
        for name, value in spoil.items():
            setattr(bad, name, value)
        with pytest.raises(InputError, match="ForecastArray"):
            messages.forecasts_of(bad)


def test_reports_of_a_sender_that_leaves_the_new_fields_empty() -> None:
    message = own.LatencyReport(
        consumers=["a"], horizon_ns=array.array("q", [5]), horizon_status=array.array("B", [0])
    )
    (found,) = messages.report_of(wire(message)).horizons
    assert found == Horizon("a", 5, LatencyStatus.ESTIMATED)


def test_reports_that_make_no_sense_are_refused() -> None:
    good = own.LatencyReport(
        consumers=["a", "b"],
        horizon_ns=array.array("q", [5, 6]),
        horizon_status=array.array("B", [0, 1]),
        horizon_origin=array.array("B", [0, 1]),
        horizon_quantiles_ns=array.array("q", [1, 2, 3, 4, 4, 9]),
    )
    assert [h.quantiles_ns for h in messages.report_of(good).horizons] == [(1, 2, 3), (4, 4, 9)]
    for spoil in (
        {"horizon_ns": array.array("q", [-1, 6])},
        {"horizon_ns": array.array("q", [5, 10**18])},
        {"horizon_ns": array.array("q", [])},
        {"horizon_status": array.array("B", [9, 0])},
        {"horizon_origin": array.array("B", [0])},
        {"horizon_origin": array.array("B", [0, 2])},
        {"horizon_quantiles_ns": array.array("q", [1])},
        {"horizon_quantiles_ns": array.array("q", [1, 2, 3])},
        {"horizon_quantiles_ns": array.array("q", [1, -2])},
        {"horizon_quantiles_ns": array.array("q", [1, 2, 4, 3])},
        {"horizon_quantiles_ns": array.array("q", [1, 60 * 10**9 + 1])},
        {"horizon_quantiles_ns": array.array("q", [-(2**63), 2**63 - 1] * 2)},
        {"horizon_quantiles_ns": array.array("q", range(130))},
        {"horizon_quantiles_ns": array.array("q", [0]) * 1_000_000},
        {"consumers": []},
        {"stages": ["isp"]},
    ):
        message = wire(good)
        for name, value in spoil.items():
            setattr(message, name, value)
        with pytest.raises(InputError, match="LatencyReport"):
            messages.report_of(message)


@pytest.mark.parametrize("known", [True, False])
def test_advice_on_exposure_survives_the_wire(known: bool) -> None:
    setting = (0.004, 2.5) if known else (np.nan, np.nan)
    blur = 1.25 if known else np.nan
    advice = Advice(STAMP, *setting, 1.5, 0.125, 0.0625, 0.03125, blur, Reason.BLUR)
    message = wire(messages.exposure_message(advice, "nose"))
    assert message.header.frame_id == "nose"
    fields = astuple(advice)[1:]
    names = ("exposure_s", "gain", "factor", "level", "clipped", "noise", "blur_px", "reason")
    np.testing.assert_equal([getattr(message, name) for name in names], fields)
    assert messages.stamp_of(message.header) == STAMP


def test_exposures_that_make_no_sense_are_refused() -> None:
    advice = Advice(STAMP, 0.004, 2.5, 1.5, 0.125, 0.0, 0.03, 1.0, Reason.HOLD)
    good = messages.exposure_message(advice, "nose")
    assert messages.camera_state_of(good) == CameraState(0.004, 2.5)
    for spoil in (
        {"exposure_s": 0.0},
        {"exposure_s": float("nan")},
        {"gain": 0.0},
        {"gain": -1.0},
        {"gain": float("inf")},
    ):
        bad = wire(good)
        for name, value in spoil.items():
            setattr(bad, name, value)
        with pytest.raises(InputError, match=r"[Ee]xposure|gain") as error:
            messages.camera_state_of(bad)
        assert "\n" not in str(error.value)
    for spoilt in (replace(advice, factor=0.0), replace(advice, noise=float("nan"))):
        with pytest.raises(InputError, match="advice on exposure"):
            messages.exposure_message(spoilt, "nose")
    good.gain = 0.0
    with pytest.raises(InputError, match="gain is 0, give a number above 0"):
        messages.camera_state_of(good)
