"""Recordings of every form, stored outputs, and what is wrong with some of them."""

import csv
import io
import json
import re
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from evaluation.bags import IMAGE, Bag, BagWriter, open_bag_sequence, typestore
from evaluation.clock import Latency
from evaluation.evaluate import Evaluation, evaluate
from evaluation.online import ReplaySource, TrackerSource, offline, online
from evaluation.replay import find_outputs, open_replay
from evaluation.sequences import Sequence, open_sequence, read_boxes
from evaluation.sources import find_sequences, open_any
from isp.classical import ClassicalIsp
from perception.tracker import TrackerConfig, make_tracker
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import Tracks, TrackStatus
from prediction.predictor import PredictorConfig

MS = 1_000_000


def to_bag(sequence: Sequence, path, topic="image"):
    """What ``leadsight convert`` writes."""
    with BagWriter(path) as bag:
        for k in range(len(sequence)):
            frame, box = sequence.frames.read(k), sequence.truth[k]
            bag.frame(topic, frame)
            if np.isfinite(box).all():
                bag.tracks(
                    "truth",
                    Tracks.single(
                        frame.stamp_ns, frame.stamp_ns, k, frame.size, box, 1, TrackStatus.TRACKED
                    ),
                )
    return path


def figures(sequence, name, models="", latency_ms=70):
    tracker = make_tracker(TrackerConfig(name=name, models=models))
    source = TrackerSource(name, tracker, ClassicalIsp(), sequence)
    results = evaluate(
        [(sequence, source)], [Latency(latency_ms * MS)], ["kalman"], PredictorConfig(), 200_000
    )
    return Evaluation(results, {}).to_json()


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "  "])
def test_otb_folders_are_read_whatever_separates_their_numbers(otb, separator):
    file = otb / "groundtruth_rect.txt"
    file.write_text(file.read_text().replace(",", separator))
    sequence = open_any(otb)
    assert len(sequence) == 24 and sequence.name == "square"
    assert sequence.truth[3].tolist() == [22, 18, 36, 28]
    assert sequence.stamps_ns[:3].tolist() == [0, 33_333_333, 66_666_667]
    frame = sequence.frames.read(2)
    assert (frame.size, frame.encoding, frame.stamp_ns) == ((160, 120), "bgr8", 66_666_667)


def test_pictures_are_read_in_the_order_of_their_numbers(tmp_path):
    for k in range(12):
        cv2.imwrite(str(tmp_path / f"frame{k}.png"), np.full((16, 16, 3), k, np.uint8))
    (tmp_path / "gt.txt").write_text("1,1,5,5\n" * 12)
    sequence = open_any(tmp_path)
    assert [int(sequence.frames.read(k).image[0, 0, 0]) for k in range(12)] == list(range(12))


def test_a_video_with_a_box_file_has_its_own_rate(otb, tmp_path):
    path = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (160, 120))
    for file in sorted((otb / "img").iterdir()):
        video.write(cv2.imread(str(file)))
    video.release()
    sequence = open_any(path, otb / "groundtruth_rect.txt")
    assert len(sequence) == 24 and np.diff(sequence.stamps_ns)[0] == 50 * MS
    picture = cv2.imread(str(otb / "img" / "0006.png")).astype(int)
    assert np.abs(sequence.frames.read(5).image - picture).mean() < 10
    assert np.diff(open_any(path, otb / "groundtruth_rect.txt", fps=10.0).stamps_ns)[0] == 100 * MS


def test_frames_can_be_read_backwards(otb):
    frames = open_any(otb).frames
    forward = [frames.read(k).image.copy() for k in (3, 9)]
    assert np.array_equal(frames.read(3).image, forward[0])
    assert np.array_equal(frames.read(9).image, forward[1])


def test_a_folder_of_sequences_gives_each(otb, tmp_path):
    root = tmp_path / "set"
    for name in ("b", "a"):
        shutil.copytree(otb, root / name)
    (root / "notes").mkdir()
    to_bag(open_any(otb), root / "c.mcap")
    assert [p.name for p in find_sequences(root)] == ["a", "b", "c.mcap"]


def test_a_converted_bag_holds_the_same_pictures_stamps_and_truth(otb, tmp_path):
    folder = open_any(otb)
    bag = open_any(to_bag(folder, tmp_path / "square.mcap"))
    np.testing.assert_array_equal(bag.stamps_ns, folder.stamps_ns)
    np.testing.assert_array_equal(bag.truth, folder.truth)
    for k in (0, 11, 23):
        assert np.array_equal(bag.frames.read(k).image, folder.frames.read(k).image)


def test_a_converted_bag_gives_bit_identical_figures(otb, tmp_path):
    folder = open_any(otb)
    bag = open_any(to_bag(folder, tmp_path / "square.mcap"))
    found = figures(folder, "kcf")
    assert found == figures(bag, "kcf")
    row = json.loads(found)["rows"][0]
    assert row["offline_auc"] > row["auc"] > 0


def test_a_sampled_latency_does_not_depend_on_a_recordings_name_or_form(otb, tmp_path):
    file = otb / "groundtruth_rect.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:9], "nan,nan,3,4", *lines[10:]]))
    folder = open_any(otb)
    bag = open_any(to_bag(folder, tmp_path / "other name.mcap"))
    latency = Latency(70 * MS, 0.5, seed=3)
    schedules = [online_frames(s, latency) for s in (folder, bag)]
    assert schedules[0] == schedules[1]
    file.write_text("\n".join(["11,12,36,28", *lines[1:]]))
    assert open_any(otb).key != folder.key


def online_frames(sequence, latency):
    """What a run reports of its schedule."""
    source = ReplaySource(("perfect",), sequence.truth[None].copy())
    (run,) = online(sequence, source, latency, PredictorConfig(name="none"), 0)
    return run.age_ns.tolist()


def test_a_converted_real_clip_gives_bit_identical_figures_with_nanotrack(data, tmp_path):
    models = data("models", "nanotrackv3").parent
    clip = data("data", "tracking", "frames", "UAVDT", "S0601")
    folder = open_sequence(clip, data("data", "tracking", "gt", "UAVDT", "S0601_gt.txt"))
    bag = open_any(to_bag(folder, tmp_path / "S0601.mcap"))
    config = str(models)
    assert figures(folder, "nanotrack-v3", config, 170) == figures(bag, "nanotrack-v3", config, 170)


def sqlite_bag(folder, count=5, encoding="rgb8", step=192, jump=False, size=(64, 48)):
    store = typestore()
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        camera = writer.add_connection("/cam/image", IMAGE, typestore=store)
        for k in range(count):
            stamp = (5 - k if jump and k == 3 else k) * 40 * MS + 10**9
            header = store.types["std_msgs/msg/Header"](
                stamp=store.types["builtin_interfaces/msg/Time"](
                    sec=stamp // 10**9, nanosec=stamp % 10**9
                ),
                frame_id="cam",
            )
            message = store.types[IMAGE](
                header=header,
                height=size[1],
                width=size[0],
                encoding=encoding,
                is_bigendian=0,
                step=step,
                data=np.full(48 * 192, k, np.uint8),
            )
            writer.write(camera, k * 40 * MS, store.serialize_cdr(message, IMAGE))
    return folder


def test_sqlite_bags_are_read_as_folder_and_as_file(tmp_path):
    folder = sqlite_bag(tmp_path / "bag")
    truth = tmp_path / "gt.txt"
    truth.write_text("1,2,30,40\n" * 5)
    for path in (folder, next(folder.glob("*.db3"))):
        sequence = open_any(path, truth)
        assert sequence.stamps_ns.tolist() == [10**9 + k * 40 * MS for k in range(5)]
        frame = sequence.frames.read(4)
        assert (frame.encoding, frame.size, int(frame.image[0, 0, 0])) == ("rgb8", (64, 48), 4)


def refused(call, *names):
    """The one line of the InputError, which names what it is about."""
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for name in names:
        assert re.search(name, text), text
    return text


def read_all(path, truth=None):
    sequence = open_any(path, truth)
    return [sequence.frames.read(k) for k in range(len(sequence))]


def test_a_bag_whose_time_jumps_back_is_named_with_the_frame(tmp_path):
    folder = sqlite_bag(tmp_path / "bag", jump=True)
    truth = tmp_path / "gt.txt"
    truth.write_text("1,2,30,40\n" * 5)
    refused(lambda: open_any(folder, truth), "bag", "jumps back at frame 3")


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "yuv422"},
        {"size": (640, 480)},
        {"size": (2**31, 2)},
        {"size": (0, 48)},
        {"step": 5},
    ],
)
def test_pictures_that_their_header_belies_are_refused(options, tmp_path):
    folder = sqlite_bag(tmp_path / "bag", **options)
    truth = tmp_path / "gt.txt"
    truth.write_text("1,2,30,40\n" * 5)
    refused(lambda: read_all(folder, truth), "bag: /cam/image")


def test_truth_whose_boxes_do_not_fit_its_ids_is_refused(tmp_path):
    with BagWriter(tmp_path / "odd.mcap") as bag:
        bag.frame("image", Frame(np.zeros((8, 8, 3), np.uint8), 10**9))
        good = Tracks.single(10**9, 10**9, 0, (8, 8), np.ones(4), 1, TrackStatus.TRACKED)
        object.__setattr__(good, "boxes", np.ones((1, 3)))
        bag.tracks("truth", good)
    refused(lambda: open_any(tmp_path / "odd.mcap"), r"odd\.mcap", "3 numbers in boxes for 1 ids")


def test_a_bag_without_camera_or_with_several_says_what_it_holds(otb, tmp_path):
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 10**9)
    tracks = Tracks.single(10**9, 10**9, 0, (8, 8), np.ones(4), 1, TrackStatus.TRACKED)
    with BagWriter(tmp_path / "none.mcap") as bag:
        bag.tracks("truth", tracks)
    refused(lambda: open_any(tmp_path / "none.mcap"), "none.mcap", "truth")
    with BagWriter(tmp_path / "two.mcap") as bag:
        bag.frame("left", frame)
        bag.frame("right", frame)
    refused(lambda: open_any(tmp_path / "two.mcap"), "left, right", "--topic")
    refused(lambda: open_any(tmp_path / "two.mcap", topic="up"), "no camera topic up")
    refused(lambda: open_any(tmp_path / "two.mcap", topic="left"), "no topic truth", "--gt")


def test_a_damaged_bag_is_one_line_wherever_the_damage_is(otb, tmp_path):
    good = to_bag(open_any(otb), tmp_path / "good.mcap").read_bytes()
    bad = tmp_path / "bad.mcap"
    rng = np.random.default_rng(0)
    for end in (0, 1, 8, 50, len(good) // 2, len(good) - 1):
        bad.write_bytes(good[:end])
        refused(lambda: read_all(bad), r"bad\.mcap")
    for _ in range(20):
        damaged = bytearray(good)
        for place in rng.integers(0, 3000, 8):
            damaged[place] = rng.integers(0, 256)
        bad.write_bytes(damaged)
        try:
            read_all(bad)
        except InputError as error:
            assert "bad" in str(error) and "\n" not in str(error)


def test_a_missing_bag_and_a_taken_name_are_told(tmp_path):
    refused(lambda: Bag(tmp_path / "no.mcap"), r"no\.mcap", "no such bag")
    refused(lambda: open_bag_sequence(tmp_path / "no.mcap"), "no such bag")
    (tmp_path / "there.mcap").write_bytes(b"")
    refused(lambda: BagWriter(tmp_path / "there.mcap"), "--overwrite")
    refused(lambda: BagWriter(tmp_path / "bag.db3"), r"\.mcap")


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "a.mcap"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_bag_that_cannot_be_finished_or_opened_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    for name in ("close", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(Writer, name, full)
            refused(lambda: BagWriter(tmp_path / "a.mcap").__exit__(None, None, None), "No space")
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "dir.mcap").mkdir()
    refused(lambda: BagWriter(tmp_path / "dir.mcap", overwrite=True), r"dir\.mcap: is a folder")
    with BagWriter(tmp_path / "late.mcap"):
        (tmp_path / "late.mcap").write_bytes(b"old")
    assert Bag(tmp_path / "late.mcap").topics() == {}


def test_the_error_in_the_block_goes_before_that_of_closing(tmp_path, monkeypatch):
    monkeypatch.setattr(Writer, "close", lambda writer: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(RuntimeError, match="mine"), BagWriter(tmp_path / "a.mcap"):
        raise RuntimeError("mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stamp_ns", [-1, 2**31 * 10**9])
def test_a_stamp_that_ros_cannot_hold_is_refused(stamp_ns, tmp_path):
    def write():
        with BagWriter(tmp_path / "a.mcap") as bag:
            bag.frame("image", Frame(np.zeros((8, 8, 3), np.uint8), stamp_ns))

    refused(write, r"a\.mcap", "a stamp of")
    assert list(tmp_path.iterdir()) == []


def test_the_last_stamp_that_ros_can_hold_is_written(tmp_path):
    stamp_ns = 2**31 * 10**9 - 1
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.frame("image", Frame(np.zeros((8, 8, 3), np.uint8), stamp_ns))
    assert [f.stamp_ns for f in Bag(tmp_path / "a.mcap").frames("image")] == [stamp_ns]


def test_empty_and_missing_folders_are_told(tmp_path, otb):
    (tmp_path / "empty").mkdir()
    refused(lambda: find_sequences(tmp_path / "empty"), "empty", "pictures")
    refused(lambda: open_any(tmp_path / "empty"), "holds no pictures")
    refused(lambda: find_sequences(tmp_path / "gone"), "gone", "no such")
    (otb / "groundtruth_rect.txt").unlink()
    refused(lambda: open_any(otb), "square", "--gt")
    (otb / "img" / "0003.png").write_bytes(b"no picture")
    (otb / "gt.txt").write_text("1,2,3,4\n" * 24)
    refused(lambda: read_all(otb), r"0003\.png")


@pytest.mark.parametrize(
    "first", ["nan,nan,nan,nan", "5,5,0,9", "5,5,9,-1"], ids=["nan", "no width", "negative"]
)
def test_truth_that_begins_without_a_target_is_refused(otb, first):
    file = otb / "groundtruth_rect.txt"
    file.write_text("\n".join([first, *file.read_text().splitlines()[1:]]))
    refused(lambda: open_any(otb), "square", "first true box")


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "1,2,3,inf", "1,2,3,4\n1,2,3,4,5"])
def test_a_box_file_that_is_none_is_named_with_its_line(text, tmp_path):
    file = tmp_path / "gt.txt"
    file.write_text(text)
    refused(lambda: read_boxes(file), r"gt\.txt")


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_frame_rate_that_cannot_be_is_refused_not_replaced(otb, fps):
    refused(lambda: open_any(otb, fps=fps), "--fps")


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def forged(shape):
    """An archive whose member claims to be of a shape that its bytes are not."""
    header, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(64))
    return file.getvalue()


def bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as out:
        for _ in range(300):
            out.write(bytes(1 << 20))
    return file.getvalue()


BAD_ARCHIVES = {
    "empty": b"",
    "text": b"1,2,3,4\n",
    "other shape": npz(a=np.zeros((3, 5))),
    "text array": npz(a=np.array(["x"])),
    "pickled objects": npz(a=np.array([{"x": 1}], object)),
    "no arrays": npz(),
    "other length": npz(a=np.ones((3, 4))),
    "no truth": npz(b=np.ones((24, 4))),
    "forged 29 TiB": forged((10**12, 4)),
    "forged overflow": forged((2**62, 2**62)),
    "forged negative": forged((-1, 4)),
}


@pytest.mark.parametrize("kind", [*BAD_ARCHIVES, "bomb"])
def test_stored_outputs_that_are_none_are_refused(kind, tmp_path):
    (tmp_path / "a.txt").write_text("1,2,30,40\n" * 24)
    file = tmp_path / "tracker.npz"
    file.write_bytes(bomb() if kind == "bomb" else BAD_ARCHIVES[kind])
    refused(lambda: open_replay([file], tmp_path), "tracker|no truth|neither")


def test_replay_offline_scores_equal_the_published_index(data):
    folder = data("data", "tracking", "raw", "UAVDT")
    with (folder.parent / "INDEX.tsv").open() as lines:
        published = {
            row["tracker"]: (float(row["offline_AUC"]), float(row["offline_DP20"]))
            for row in csv.DictReader(lines, delimiter="\t")
            if row["dataset"] == "UAVDT"
        }
    names = ["ARCF", "SiamFC_off", "KCF_off"]
    files = [file for file in find_outputs([folder]) if file.stem in names]
    scores: dict[str, list] = {name: [] for name in names}
    for sequence, source in open_replay(files):
        for name, found in zip(
            source.trackers, offline(sequence, source, lambda n: None), strict=True
        ):
            scores[name].append((found.auc, found.dp))
    for name in names:
        assert len(scores[name]) == 50
        np.testing.assert_allclose(np.mean(scores[name], axis=0), published[name], atol=0.005)
