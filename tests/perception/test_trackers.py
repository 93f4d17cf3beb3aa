"""Every tracker follows a target, notices its loss, and refuses what it cannot use."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.sequences import open_sequence
from perception.target import TargetTracker
from perception.tracker import OPENCV, OPENCV_NANO, SIAMESE, TRACKERS, TrackerConfig, make_tracker
from pipeline.box import iou
from pipeline.clock import SimClock
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import TrackStatus


def made(name, request):
    """A tracker; the networks need their files, or the test skips."""
    models = "" if name in OPENCV else request.getfixturevalue("models")
    return make_tracker(TrackerConfig(name=name, models=models))


@pytest.mark.parametrize("name", TRACKERS)
def test_follows_a_textured_square_over_textured_ground(name, scene, request):
    tracker = made(name, request)
    first = tracker.start(scene.frame(0), scene.box(0))
    assert first.status == TrackStatus.TRACKED and first.box.tolist() == scene.box(0).tolist()
    for k in range(1, 21):
        answer = tracker.update(scene.frame(k))
        assert iou(answer.box, scene.box(k)) > 0.55, f"frame {k}"
        assert answer.status != TrackStatus.LOST
        assert 0 <= answer.score <= 1
    assert iou(answer.box, scene.box(0)) < 0.1


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("start", [(2, 1), (140, 90), (266, 198)])
def test_told_where_to_look_it_finds_a_target_that_has_jumped(name, start, scene, request):
    """From the picture's corners too, where the surroundings come into view only later."""
    tracker = made(name, request)
    box = np.array([*start, 52.0, 40.0])
    tracker.start(scene.frame(0, at=box), box)
    for k, place in enumerate([(140, 90), (30, 180), (250, 20), (100, 150)], 1):
        box = np.array([*place, 52.0, 40.0])
        near = box + [5, -4, 0, 0]
        answer = tracker.update(scene.frame(k, at=box), near)
        assert iou(answer.box, box) > 0.5, f"jump {k}"
        assert answer.status != TrackStatus.LOST


@pytest.mark.parametrize("name", ["csrt", "kcf"])
def test_a_place_far_outside_the_picture_or_a_picture_of_another_size_is_survived(name, scene):
    tracker = make_tracker(TrackerConfig(name=name))
    box = scene.box(0)
    tracker.start(scene.frame(0), box)
    assert tracker.update(scene.frame(0), box + [9000, -9000, 0, 0]).status != TrackStatus.TRACKED
    small = Frame(scene.frame(0).image[:90, :100].copy(), 1)
    tracker.update(small, box)
    answer = tracker.update(scene.frame(0), box)
    assert iou(answer.box, box) > 0.6


@pytest.mark.parametrize("name", OPENCV)
def test_a_target_that_vanishes_is_lost_within_four_answers(name, scene, request):
    tracker = made(name, request)
    tracker.start(scene.frame(0), scene.box(0))
    for k in range(1, 12):
        assert tracker.update(scene.frame(k)).status != TrackStatus.LOST
    gone = [tracker.update(scene.frame(k, visible=False)).status for k in range(12, 16)]
    assert TrackStatus.LOST in gone and TrackStatus.TRACKED not in gone


@pytest.mark.parametrize("name", SIAMESE)
def test_networks_that_always_say_yes_doubt_at_once_and_mostly_report_the_loss(
    name, scene_of, request
):
    tracker = made(name, request)
    lost = 0
    for seed in range(6):
        scene = scene_of(seed)
        tracker.start(scene.frame(0), scene.box(0))
        for k in range(1, 12):
            assert tracker.update(scene.frame(k)).status != TrackStatus.LOST
        gone = [tracker.update(scene.frame(k, visible=False)).status for k in range(12, 16)]
        assert TrackStatus.TRACKED not in gone[:2]
        lost += TrackStatus.LOST in gone
    assert lost >= 4


@pytest.mark.parametrize("name", ["mosse", "kcf", "csrt", "opencv-nano-v2", "nanotrack-v3"])
def test_an_occluder_is_not_taken_for_the_target_and_the_target_is_found_again(
    name, scene, request
):
    tracker = made(name, request)
    tracker.start(scene.frame(0), scene.box(0))
    for k in range(1, 12):
        tracker.update(scene.frame(k))
    occluded = scene.frame(12)
    x, y, w, h = scene.box(12).astype(int)
    board = np.random.default_rng(9).integers(0, 255, (13, 16, 3)).astype(np.uint8)
    occluded.image[y - 6 : y + h + 6, x - 6 : x + w + 6] = cv2.resize(board, (w + 12, h + 12))
    statuses = [tracker.update(occluded).status for _ in range(5)]
    assert statuses[-1] == TrackStatus.LOST and TrackStatus.TRACKED not in statuses
    again = [tracker.update(scene.frame(12)).status for _ in range(25)]
    assert again[-1] == TrackStatus.TRACKED


@pytest.mark.parametrize("name", sorted({*TRACKERS} - {"mil"}))
def test_an_appearance_that_changes_slowly_is_no_loss(name, scene, request):
    tracker = made(name, request)
    tracker.start(scene.frame(0), scene.box(0))
    other = np.random.default_rng(5).integers(0, 255, (7, 9, 3)).astype(np.uint8)
    other = cv2.resize(other, (52, 40), interpolation=cv2.INTER_CUBIC)
    for k in range(1, 36):
        changed = cv2.addWeighted(scene.target, 1 - 0.018 * k, other, 0.018 * k, 0)
        answer = tracker.update(scene.frame(k, target=changed))
        assert answer.status != TrackStatus.LOST, f"frame {k}"


@pytest.mark.parametrize("name", TRACKERS)
def test_start_takes_a_new_target_after_a_loss(name, scene, request):
    tracker = made(name, request)
    tracker.start(scene.frame(0), scene.box(0))
    for _ in range(1, 9):
        tracker.update(scene.frame(0, visible=False))
    tracker.start(scene.frame(10), scene.box(10))
    answer = tracker.update(scene.frame(11))
    assert answer.status == TrackStatus.TRACKED and iou(answer.box, scene.box(11)) > 0.6


@pytest.mark.parametrize("name", ["kcf", "nanotrack-v3"])
@pytest.mark.parametrize(
    ("box", "says"),
    [
        ([400, 10, 20, 20], "outside the 320x240"),
        ([-30, 10, 20, 20], "outside the 320x240"),
        ([10, 10, 0, 20], "no area"),
        ([10, 10, 20, -5], "no area"),
        ([10, float("nan"), 20, 20], "four finite numbers"),
        ([10, 10, float("inf"), 20], "four finite numbers"),
        ([10, 10, 20], "four finite numbers"),
        ([-1e7, 10, 1e7 + 5, 20], "over twice the size"),
        ([0, 0, 1e300, 1e300], "over twice the size"),
    ],
)
def test_a_box_that_cannot_be_is_refused_in_one_line(name, box, says, scene, request):
    with pytest.raises(InputError, match=says) as caught:
        made(name, request).start(scene.frame(0), np.array(box, np.float64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize(
    "box",
    [
        [10, 10, 1, 1],
        [10, 10, 3, 3],
        [-50, -50, 60, 60],
        [-300, 10, 301, 4],
        [318, 238, 10, 10],
        [0, 0, 320, 240],
        [-100, -100, 600, 450],
    ],
)
def test_a_strange_box_is_tracked_or_refused_but_never_hangs_or_crashes(name, box, scene, request):
    if name == "csrt" and box[2] > 300 and box[3] > 100:
        pytest.skip("CSRT takes seconds on boxes as large as the image")
    tracker = made(name, request)
    try:
        tracker.start(scene.frame(0), np.array(box, np.float64))
    except InputError as error:
        assert "\n" not in str(error) and "give" in str(error)
    else:
        assert np.isfinite(tracker.update(scene.frame(1)).box).all()


@pytest.mark.parametrize("name", ["kcf", "nanotrack-v3"])
@pytest.mark.parametrize(
    "bad",
    [
        Frame(np.zeros((40, 40), np.uint8), 0, "bayer_rggb8"),
        Frame(np.zeros((40, 40, 3), np.uint16), 0, "bgr8"),
        Frame(np.zeros((40, 40), np.uint8), 0, "rgb8"),
        Frame(np.zeros((0, 40, 3), np.uint8), 0, "bgr8"),
        Frame(np.zeros((40, 40, 3), np.uint8), 0, "yuv422"),
    ],
)
def test_a_frame_that_is_no_picture_is_refused_and_the_next_one_is_tracked(
    name, bad, scene, request
):
    tracker = made(name, request)
    with pytest.raises(InputError):
        tracker.start(bad, np.array([2.0, 2, 20, 20]))
    tracker.start(scene.frame(0), scene.box(0))
    with pytest.raises(InputError, match="frame 0"):
        tracker.update(bad)
    assert iou(tracker.update(scene.frame(1)).box, scene.box(1)) > 0.6


def test_update_before_start_says_so():
    with pytest.raises(InputError, match="call start"):
        make_tracker(TrackerConfig(name="kcf")).update(Frame(np.zeros((9, 9, 3), np.uint8), 0))


@pytest.mark.parametrize("encoding", ["mono8", "rgba8", "bgra8"])
@pytest.mark.parametrize("name", ["kcf", "nanotrack-v2"])
def test_other_eight_bit_encodings_are_tracked_too(name, encoding, scene, request):
    codes = {
        "mono8": cv2.COLOR_BGR2GRAY,
        "rgba8": cv2.COLOR_BGR2RGBA,
        "bgra8": cv2.COLOR_BGR2BGRA,
    }
    tracker = made(name, request)

    def frame(k):
        picture = scene.frame(k)
        return replace(
            picture, image=cv2.cvtColor(picture.image, codes[encoding]), encoding=encoding
        )

    tracker.start(frame(0), scene.box(0))
    for k in range(1, 11):
        answer = tracker.update(frame(k))
    assert iou(answer.box, scene.box(10)) > 0.5 and answer.status == TrackStatus.TRACKED


def as_rgb(frame):
    return replace(frame, image=np.ascontiguousarray(frame.image[..., ::-1]), encoding="rgb8")


@pytest.mark.parametrize("name", [*SIAMESE, *OPENCV_NANO])
def test_networks_follow_a_real_car_and_do_not_care_for_the_channel_order(name, s0601, models):
    sequence = open_sequence(*s0601)
    config = TrackerConfig(name=name, models=models)
    bgr, rgb = make_tracker(config), make_tracker(config)
    bgr.start(sequence.frames.read(0), sequence.truth[0])
    rgb.start(as_rgb(sequence.frames.read(0)), sequence.truth[0])
    overlaps = []
    for k in range(1, 22):
        frame = sequence.frames.read(k)
        a, b = bgr.update(frame), rgb.update(as_rgb(frame))
        np.testing.assert_array_equal(a.box, b.box)
        assert (a.score, a.status) == (b.score, b.status)
        overlaps.append(float(iou(a.box, sequence.truth[k])))
    assert np.mean(overlaps) > 0.5 and a.status == TrackStatus.TRACKED


def broken(models: str, version: str, how: str, folder: Path) -> Path:
    """A copy of the model files with one thing wrong."""
    files = {
        part: next((Path(models) / f"nanotrack{version}").glob(f"*{part}*.onnx"))
        for part in ("backbone", "head")
    }
    content = {part: file.read_bytes() for part, file in files.items()}
    if how.startswith("truncated"):
        part = how.split()[1]
        content[part] = content[part][: len(content[part]) // 2]
    elif how == "swapped":
        content = {"backbone": content["head"], "head": content["backbone"]}
    elif how == "two heads":
        content["backbone"] = content["head"]
    elif how == "two backbones":
        content["head"] = content["backbone"]
    elif how == "empty":
        content["backbone"] = b""
    elif how == "of another version":
        other = next((Path(models) / "nanotrackv1").glob("*backbone*.onnx"))
        content["backbone"] = other.read_bytes()
    target = folder / f"nanotrack{version}"
    target.mkdir(parents=True)
    for part, file in files.items():
        if how != f"no {part}":
            (target / file.name).write_bytes(content[part])
    return folder


HOWS = [
    "truncated backbone",
    "truncated head",
    "swapped",
    "two heads",
    "two backbones",
    "empty",
    "no backbone",
    "no head",
]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("nanotrack-v3", how) for how in [*HOWS, "of another version"]),
        *(("opencv-nano-v2", how) for how in HOWS),
    ],
)
def test_model_files_that_do_not_serve_are_named_in_one_line(name, how, models, tmp_path):
    version = name.rsplit("-", 1)[-1]
    folder = broken(models, version, how, tmp_path)
    with pytest.raises(InputError, match=f"nanotrack{version}") as caught:
        make_tracker(TrackerConfig(name=name, models=str(folder)))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("models", ["", "/nowhere/at/all"])
def test_missing_models_are_told_with_the_option_that_gives_them(models):
    with pytest.raises(InputError, match="--models"):
        make_tracker(TrackerConfig(name="nanotrack-v3", models=models))


def test_the_stage_takes_a_selection_from_another_thread_on_its_next_frame(scene):
    stage = TargetTracker(TrackerConfig(name="kcf"), SimClock(77))
    assert stage.process(scene.frame(0)) is None
    ids = []
    thread = threading.Thread(target=lambda: ids.append(stage.select(scene.box(1).tolist())))
    thread.start()
    thread.join()
    first = stage.process(scene.frame(1))
    assert first.ids.tolist() == ids == [0] and first.boxes[0].tolist() == scene.box(1).tolist()
    assert (first.stamp_ns, first.ready_ns, first.frame_index) == (33_000_000, 77, 1)
    second = stage.process(scene.frame(2))
    assert iou(second.boxes[0], scene.box(2)) > 0.6

    assert stage.select(scene.box(3)) == 1
    assert stage.process(scene.frame(3)).ids.tolist() == [1]
    stage.reset()
    assert stage.process(scene.frame(4)) is None


def test_many_threads_selecting_get_ids_of_their_own_while_frames_go_on(scene):
    stage = TargetTracker(TrackerConfig(name="mosse"), SimClock())
    ids: list[int] = []

    def select():
        for _ in range(20):
            ids.append(stage.select(scene.box(0)))

    threads = [threading.Thread(target=select) for _ in range(4)]
    for thread in threads:
        thread.start()
    for k in range(10):
        stage.process(scene.frame(k % 3))
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(range(80))
    assert stage.process(scene.frame(0)).ids.tolist() == [79]


def test_a_selection_outside_the_picture_is_refused_and_the_stage_goes_on(scene):
    stage = TargetTracker(TrackerConfig(name="kcf"), SimClock())
    with pytest.raises(InputError, match="outside the 320x240"):
        stage.select([400, 5, 9, 9], (320, 240))
    stage.select([400, 5, 9, 9])
    with pytest.raises(InputError, match="outside the 320x240"):
        stage.process(scene.frame(0))
    assert stage.process(scene.frame(1)) is None
    stage.select(scene.box(2))
    assert len(stage.process(scene.frame(2))) == 1


@pytest.mark.parametrize("name", ["csrt", "kcf", "mil", "mosse"])
def test_two_runs_in_one_process_give_the_same_boxes(name, scene):
    runs = []
    for _ in range(2):
        tracker = make_tracker(TrackerConfig(name=name))
        tracker.start(scene.frame(0), scene.box(0))
        runs.append([tracker.update(scene.frame(k)).box.tolist() for k in range(1, 12)])
    assert runs[0] == runs[1]
