from pathlib import Path

import numpy as np
import pytest

from evaluation.bags import BagWriter
from evaluation.mot_sequences import CAR, PERSON, find_mot_sequences, open_mot_sequence
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.tracks import Tracks
from tests.evaluation.town import FRAMES, TARGET, mot_challenge, visdrone


def test_mot_challenge_counts_from_one_and_ignores_what_its_benchmark_ignores(tmp_path):
    mot_challenge(tmp_path / "a")
    (path,) = find_mot_sequences(tmp_path / "a")
    sequence = open_mot_sequence(path)
    assert len(sequence) == FRAMES
    assert np.diff(sequence.stamps_ns)[0] == 40_000_000, "25 a second, as seqinfo.ini says"
    first = sequence.rows(0)
    assert sequence.ids[first].tolist() == [3, 4, 90, 91]
    np.testing.assert_allclose(sequence.boxes[first][0], [10, 12, *TARGET])
    assert sequence.ignored[first].tolist() == [False, False, True, True]
    assert set(sequence.labels.tolist()) == {PERSON}
    assert sequence.ids[sequence.rows(20)].tolist() == [3, 4, 7]
    assert sequence.frames.read(20).stamp_ns == sequence.stamps_ns[20]


def test_boxes_of_2015_have_no_classes(tmp_path):
    path = mot_challenge(tmp_path / "a")
    (path / "gt" / "gt.txt").write_text("1,1,11,21,30,40,1,-1,-1,-1\n2,1,12,22,30,40,1,-1,-1,-1\n")
    sequence = open_mot_sequence(path)
    assert not sequence.ignored.any() and sequence.frame.tolist() == [0, 1]


def test_visdrone_has_coco_classes_and_ignored_regions(tmp_path):
    visdrone(tmp_path, "uav1")
    visdrone(tmp_path, "uav2")
    paths = find_mot_sequences(tmp_path)
    assert [p.name for p in paths] == ["uav1", "uav2"]
    assert find_mot_sequences(tmp_path / "sequences" / "uav2") == [paths[1]]
    sequence = open_mot_sequence(paths[1], fps=20)
    assert np.diff(sequence.stamps_ns)[0] == 50_000_000
    first = sequence.rows(0)
    np.testing.assert_allclose(sequence.boxes[first][0], [10, 12, *TARGET])
    assert sequence.labels[first].tolist() == [CAR, CAR, -1]
    assert sequence.ignored[first].tolist() == [False, False, True]
    assert sequence.ignored[sequence.rows(1)].tolist() == [False, False, True], "a tricycle"


def test_a_bag_with_a_truth_of_many(tmp_path):
    image = np.zeros((60, 80, 3), np.uint8)
    with BagWriter(tmp_path / "many.mcap") as bag:
        for k in range(4):
            stamp = 5 + 40 * k
            bag.frame("image", Frame(image, stamp, index=k))
            ids = np.arange(k, dtype=np.int32) + 8
            boxes = np.array([[10.0 * i, 5, 8, 9] for i in range(k)]).reshape(-1, 4)
            bag.tracks("truth", Tracks(
                stamp, stamp, k, (80, 60), ids, boxes, np.ones(k, np.float32),
                np.zeros(k, np.uint8), ids.astype(np.int16) - 8,
            ))  # fmt: skip
    (path,) = find_mot_sequences(tmp_path / "many.mcap")
    sequence = open_mot_sequence(path)
    assert sequence.stamps_ns.tolist() == [5, 45, 85, 125]
    assert sequence.frame.tolist() == [1, 2, 2, 3, 3, 3]
    assert sequence.ids[sequence.rows(3)].tolist() == [8, 9, 10]
    assert sequence.labels[sequence.rows(3)].tolist() == [0, 1, 2]
    np.testing.assert_allclose(sequence.boxes[sequence.rows(2)][1], [10, 5, 8, 9])


def test_the_embedded_world_is_the_same_for_a_seed():
    (path,) = find_mot_sequences(Path("world"))
    a, b = (open_mot_sequence(path, seed=4, seconds=1.0) for _ in range(2))
    assert a.key == b.key != open_mot_sequence(path, seed=5, seconds=1.0).key
    assert len(a) == 30 and a.ignored.any() and len(np.unique(a.ids)) > 3
    assert {CAR, PERSON} <= set(a.labels.tolist())
    picture = a.frames.read(2)
    assert picture.stamp_ns == a.stamps_ns[2]
    np.testing.assert_array_equal(picture.image, b.frames.read(2).image)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "does not hold numbers"),
        ("1,1,2,3,4\n", "does not hold numbers"),
        ("1,1,2,3,4,5,1,1,1\n1,1,2\n", "does not hold numbers"),
        ("1,1,2,3,nan,5,1,1,1\n", "does not hold numbers"),
        ("a,b,c,d,e,f\n", "does not hold numbers"),
        ("1,1,1e30,3,4,5,1,1,1\n", "beyond 1e9"),
        ("9999,1,2,3,4,5,1,1,1\n", "no true boxes that count"),
        ("1,1,2,3,4,5,0,1,1\n", "no true boxes that count"),
    ],
)
def test_truth_that_cannot_be_used_is_one_line(text, match, tmp_path):
    path = mot_challenge(tmp_path / "a")
    (path / "gt" / "gt.txt").write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        open_mot_sequence(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_recording_names_the_forms_that_are(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        find_mot_sequences(tmp_path / "nothing")
    with pytest.raises(InputError, match="MOTChallenge"):
        find_mot_sequences(tmp_path)
    path = mot_challenge(tmp_path / "a")
    (path / "seqinfo.ini").write_text("frameRate\n")
    with pytest.raises(InputError, match="give --fps"):
        open_mot_sequence(path)
