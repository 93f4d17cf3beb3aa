"""The assembled stack in real time: the latency loop is closed and faults do not stop it."""

import time
from dataclasses import replace

import numpy as np
import pytest

from bridges.world import AerialWorld, WorldConfig
from isp.exposure import CameraState
from leadsight.stack import CONFIGS, Stack
from perception.ego import GyroUse
from pipeline import config
from pipeline.clock import WallClock
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.imu import ImuSamples, calibration_yaml
from pipeline.span import LatencyStatus, Span
from pipeline.tracks import TrackStatus
from tests.perception.models import bright

MS = 1_000_000


@pytest.fixture(scope="module")
def world():
    """Ten RAW frames of the embedded world and the target's box in the first."""
    made = AerialWorld(WorldConfig(seed=2, width=320, height=192, rate_hz=30.0))
    shots = [made.render(k) for k in range(10)]
    box = shots[0].boxes[shots[0].ids.tolist().index(made.target_id)]
    return [shot.frame for shot in shots], box


class Live:
    """A running stack and all it says."""

    def __init__(self, box, *settings):
        self.clock = WallClock()
        self.tracks, self.forecasts, self.errors = [], [], []
        configs = config.build(CONFIGS, assignments=["tracker.name=mosse", *settings])
        self.stack = Stack(
            configs,
            self.clock,
            on_tracks=self.tracks.append,
            on_forecasts=self.forecasts.append,
            on_error=lambda stage, text: self.errors.append((stage, text)),
        )
        if box is not None:
            self.stack.tracker.select(box)
        self.stack.start()

    def feed(self, frames, seconds, hz=20.0):
        """Frames stamped as they are fed; back and forth, so that the scene never jumps."""
        loop = [*frames, *frames[-2:0:-1]]
        for k in range(round(seconds * hz)):
            self.stack.feed(replace(loop[k % len(loop)], stamp_ns=self.clock.now_ns()))
            time.sleep(1 / hz)

    def lead_ms(self, n=1):
        """How far the newest forecasts speak past their frames' stamps."""
        return [(f.valid_at_ns[0] - f.stamp_ns) / MS for f in self.forecasts[-n:]]


def test_forecasts_follow_the_measured_horizon_within_a_second_of_a_slowdown(world):
    frames, box = world
    live = Live(box, "fusion.enabled=false")
    live.feed(frames, 1.5)
    before = float(np.median(live.lead_ms(10)))
    report = live.stack.report()
    assert all(stage.status == LatencyStatus.ESTIMATED for stage in report.stages)
    assert before == pytest.approx(report.horizons[0].ns / MS, abs=10)
    live.stack.tracker.extra_delay_s = 0.1
    live.feed(frames, 1.0)
    after = live.lead_ms()[0]
    live.stack.stop()
    assert 85 < after - before < 190
    assert live.errors == []
    ages = [(f.ready_ns - f.stamp_ns) / MS for f in live.forecasts[-3:]]
    assert after == pytest.approx(np.median(ages), abs=60)
    assert live.stack.counts()["tracker"].dropped > 0


def test_a_slow_tracker_does_not_slow_tracks_or_lengthen_horizons(world):
    frames, box = world
    live = Live(box)
    live.stack.tracker.extra_delay_s = 0.3
    live.feed(frames, 2.0)
    live.stack.stop()
    assert live.errors == []
    counts = live.stack.counts()
    assert counts["tracker"].handled < 10 < 30 < len(live.tracks) <= counts["predictor"].handled
    assert len(live.forecasts) == len(live.tracks)
    late_ms = [(t.stamp_ns - t.answered_ns[0]) / MS for t in live.tracks]
    assert max(late_ms) > 250
    assert np.median([(t.ready_ns - t.stamp_ns) / MS for t in live.tracks]) < 50
    assert live.lead_ms()[0] < 100
    assert all(t.variances.min() > 0 for t in live.tracks)


def test_a_calibrated_gyroscope_is_used_beside_the_frames(tmp_path):
    world = AerialWorld(WorldConfig(seed=2, width=320, height=192, rate_hz=20.0, gyro_hz=400.0))
    path = tmp_path / "camchain-imucam.yaml"
    path.write_text(calibration_yaml(*world.calibration))
    box = world.truth(0).boxes[world.target_id]
    live = Live(box, f"propagator.calibration={path}")
    assert live.stack.gyro().use == GyroUse.NO_SAMPLES
    begin = live.clock.now_ns()
    for k in range(16):
        samples = world.gyro(world.stamp_ns(k - 1), world.stamp_ns(k))
        live.stack.feed_imu(ImuSamples(samples.stamps_ns + begin, samples.rates))
        frame = world.render(k).frame
        live.stack.feed(replace(frame, stamp_ns=begin + frame.stamp_ns))
        time.sleep(0.05)
    live.stack.stop()
    report = live.stack.gyro()
    assert live.errors == []
    assert report.use == GyroUse.USED and report.fine, str(report)
    assert report.counts.used > 15 * 20 > 0 == report.counts.other_clock
    assert len(live.forecasts) > 8


def test_a_calibration_that_cannot_be_read_is_refused_at_the_start(tmp_path):
    configs = config.build(CONFIGS, assignments=[f"propagator.calibration={tmp_path}/none.yaml"])
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        Stack(configs, WallClock())


def test_bad_frames_are_counted_and_the_stream_goes_on(world):
    frames, box = world
    live = Live(box)
    live.feed(frames[:1], 0.2)
    seen = len(live.forecasts)
    for bad in (
        Frame(np.zeros((4, 4), np.uint8), 0, "bayer_what8"),
        Frame(np.zeros((0, 0), np.uint16), 0, "bayer_rggb12"),
        Frame(np.zeros((9, 9, 7), np.uint8), 0, "rgb8"),
    ):
        live.stack.feed(replace(bad, stamp_ns=live.clock.now_ns()))
        time.sleep(0.05)
    live.feed(frames, 0.4)
    live.stack.stop()
    failed = {stage: count.failed for stage, count in live.stack.counts().items()}
    assert failed["isp"] + failed["tracker"] == 3
    assert sum(failed.values()) == len(live.errors)
    assert len(live.forecasts) > seen
    assert all("\n" not in text for _, text in live.errors)


def test_what_was_on_its_way_when_time_jumped_back_leaves_no_ghost(world):
    frames, box = world
    live = Live(box)
    live.feed(frames, 0.5)
    live.stack.tracker.extra_delay_s = 0.3
    live.feed(frames[:1], 0.1)
    old = live.forecasts[-1].ids.tolist()
    assert old == [0]
    past = live.clock.now_ns() - 3_600_000 * MS
    live.stack.feed(replace(frames[0], stamp_ns=past))
    time.sleep(0.5)
    assert live.stack.jumps == 1
    assert all(f.stamp_ns > past + 1_000_000 * MS for f in live.forecasts), "no target, no forecast"
    assert live.stack.report().horizons[0].status != LatencyStatus.ESTIMATED
    live.stack.tracker.extra_delay_s = 0.0
    live.stack.tracker.select(box)
    for k in range(1, 6):
        live.stack.feed(replace(frames[0], stamp_ns=past + 33 * k * MS))
        time.sleep(0.1)
    live.stack.stop()
    assert live.forecasts[-1].ids.tolist() == [1] and live.stack.jumps == 1


def test_a_consumer_that_reports_itself_gets_the_region_for_its_own_time(world):
    frames, box = world
    live = Live(
        box,
        "latency.stages=[isp, tracker, predictor, planner]",
        "latency.consumers=[control, planner]",
        "latency.consumer_stage=[predictor, planner]",
        "latency.consumer_extra_ms=[3.0, 0.0]",
        "latency.consumer_prior_ms=[50.0, 400.0]",
        "latency.consumer_probability=[0.0, 0.9]",
    )
    live.feed(frames, 0.5)
    end = 0
    for k, f in enumerate(live.forecasts[-6:]):
        end = max(end + 1, f.ready_ns + (180 + 40 * (k % 2)) * MS)  # its spans end in order
        live.stack.report_span(Span("planner", f.stamp_ns, f.ready_ns, end))
    with pytest.raises(InputError, match="'gripper'"):
        live.stack.report_span(Span("gripper", 0, 0, 1))
    with pytest.raises(InputError, match="speaks for itself"):
        live.stack.report_span(Span("predictor", 0, 0, live.clock.now_ns() + 1000 * MS))
    ahead = live.clock.now_ns() + 100_000 * MS
    with pytest.raises(InputError, match="over a minute from now"):
        live.stack.report_span(Span("planner", ahead, ahead, ahead + 1))
    live.feed(frames, 0.3)
    live.stack.stop()
    assert live.errors == []
    last = live.forecasts[-1]
    ahead_ms = (last.valid_at_ns - last.ready_ns) / MS
    assert ahead_ms[last.of("control")] == pytest.approx(3.0, abs=1e-3)
    assert 150 < ahead_ms[last.of("planner")] < 225
    assert last.probabilities.tolist() == [0.0, 0.9]
    assert np.isnan(last.regions[0]).all()
    region, forecast = last.regions[1, 0], last.boxes[1, 0]
    assert (region[:2] < forecast[:2]).all() and (region[2:] > forecast[2:]).all()


class Squares:
    """Bright textured squares on a dark textured ground, and a detector file that finds them."""

    def __init__(self, folder):
        rng = np.random.default_rng(3)
        self.ground = rng.integers(0, 110, (120, 200, 3)).astype(np.uint8)
        self.square = rng.integers(190, 255, (20, 28, 3)).astype(np.uint8)
        self.places = [(20, 20), (120, 30), (60, 80)]
        model = bright(folder / "bright.onnx", (200, 120), (28, 20), label=2)
        self.settings = [
            f"detector.model={model}", "detector.layout=yolov8", "detector.nms_iou=0.0",
            "detector.min_score=0.5",
        ]  # fmt: skip

    def frame(self, *shown, shift=0):
        image = self.ground.copy()
        for i in shown:
            x, y = self.places[i]
            image[y : y + 20, x + shift : x + shift + 28] = self.square
        return Frame(image, 0)


@pytest.fixture
def squares(tmp_path):
    return Squares(tmp_path)


@pytest.mark.parametrize("fusion", ["true", "false"])
def test_with_a_detector_all_targets_are_tracked_and_forecast(squares, fusion):
    live = Live(None, *squares.settings, f"fusion.enabled={fusion}")
    live.feed([squares.frame(0, 1, shift=k) for k in range(12)], 1.0)
    live.stack.stop()
    assert live.errors == []
    tracks, forecasts = live.tracks[-1], live.forecasts[-1]
    assert tracks.ids.tolist() == forecasts.ids.tolist() == [0, 1]
    assert tracks.labels.tolist() == [2, 2]
    assert sorted(tracks.boxes[:, 1].round().tolist()) == [20, 30]
    assert tracks.ready_ns > tracks.stamp_ns
    assert live.stack.report().horizons[0].status == LatencyStatus.ESTIMATED


def test_a_slow_detector_does_not_slow_tracks(squares):
    live = Live(None, *squares.settings)
    live.stack.tracker.extra_delay_s = 0.3
    live.feed([squares.frame(0, 1, shift=k) for k in range(12)], 2.5)
    live.stack.stop()
    assert live.errors == []
    assert live.stack.counts()["tracker"].handled < 12
    assert len(live.tracks) > 25, "they begin with the second answer"
    assert all(t.ids.tolist() == [0, 1] for t in live.tracks[1:])


def test_a_target_chosen_from_detections_is_tracked_alone_until_it_is_lost(squares):
    live = Live(None, *squares.settings, "tracker.name=csrt", "association.forget_ms=200.0")
    both = [squares.frame(0, 1)]
    live.feed(both, 0.5)
    assert live.tracks[-1].ids.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"detection_id 7: no such target .*; there are 0, 1"):
        live.stack.select_detection(7)
    assert live.stack.select_detection(1) == 1
    live.feed(both, 0.8)
    assert live.tracks[-1].ids.tolist() == [1]
    assert live.tracks[-1].status[0] == TrackStatus.TRACKED
    live.feed([squares.frame(2)], 1.5)
    live.stack.stop()
    assert live.errors == []
    assert live.tracks[-1].ids.tolist() == [2], "an identity of its own"


def test_a_box_that_is_chosen_gets_an_identity_that_no_detection_has(squares):
    live = Live(None, *squares.settings, "tracker.name=csrt")
    live.feed([squares.frame(0, 1)], 0.4)
    assert live.stack.tracker.select([120, 30, 28, 20], (200, 120)) == 2
    live.feed([squares.frame(0, 1)], 0.3)
    live.stack.stop()
    assert live.tracks[-1].ids.tolist() == [2]


def test_without_a_detector_there_is_nothing_to_choose_from(world):
    _, box = world
    with pytest.raises(InputError, match="no detector runs here"):
        Live(box).stack.select_detection(0)


def test_a_detector_file_that_is_missing_is_told_at_once():
    with pytest.raises(InputError, match=r"nothing.onnx: model cannot be read"):
        Live(None, "detector.model=nothing.onnx")


def task_aware(tmp_path, *settings, camera=None, **callbacks):
    """A stack with a detector that wants 80 pixels, two bright things in its picture, what it sees
    and what it says."""
    y, x = np.mgrid[0:120, 0:160]
    light = 0.02 + 0.0001 * x + 0.0001 * y
    for left, top in ((16, 20), (96, 64)):
        light[top : top + 20, left : left + 28] = 0.9
    raw = np.rint(64 + light * 4031).astype(np.uint16)
    model = bright(tmp_path / "bright.onnx", (80, 60), (14, 10), label=2)
    options = [
        *("tracker.name=mosse", "isp.mode=task_aware", "isp.bits=12", "isp.black_level=[64]"),
        *(f"detector.model={model}", "detector.layout=yolov8", "detector.nms_iou=0.01"),
    ]
    images, tracks, errors = [], [], []
    clock = WallClock()
    stack = Stack(
        config.build(CONFIGS, assignments=[*options, *settings]),
        clock,
        on_image=images.append,
        on_tracks=tracks.append,
        on_error=lambda stage, text: errors.append((stage, text)),
        **callbacks,
    )
    stack.tell_exposure(camera)
    stack.start()
    for _ in range(12):
        stack.feed(Frame(raw, clock.now_ns(), "bayer_rggb16"))
        time.sleep(0.04)
    stack.stop()
    return images, tracks, errors


def test_the_detector_gets_a_view_of_its_own_and_the_others_the_whole_picture(tmp_path):
    images, tracks, errors = task_aware(tmp_path)
    assert errors == []
    assert {i.size for i in images} == {(160, 120)}
    assert {i.detail.size for i in images} == {(80, 60)}
    assert {(d.stamp_ns, d.index) for d in (i.detail for i in images)} == {
        (i.stamp_ns, i.index) for i in images
    }
    boxes = tracks[-1].boxes
    assert tracks[-1].image_size == (160, 120)
    np.testing.assert_allclose(
        boxes[np.argsort(boxes[:, 0])], [[16, 20, 28, 20], [96, 64, 28, 20]], atol=5
    )


def test_the_stack_advises_on_exposure_from_its_own_tracks(tmp_path):
    advice = []
    task_aware(tmp_path, on_exposure=advice.append)
    assert 3 <= len(advice) <= 6  # ten a second
    assert all(np.isnan(a.exposure_s) for a in advice)
    advice.clear()
    task_aware(tmp_path, camera=CameraState(0.004, 2.0), on_exposure=advice.append)
    assert advice[-1].exposure_s > 0.004  # nothing moves
    assert advice[-1].blur_px < 0.1


def test_a_bad_model_is_said_once_and_the_stack_goes_on(tmp_path):
    images, tracks, errors = task_aware(tmp_path, f"isp.model={tmp_path}/none.onnx")
    assert len(errors) == 1 and errors[0][0] == "isp"
    assert "none.onnx: cannot be read" in errors[0][1]
    assert len(images) > 5 and len(tracks[-1]) == 2
