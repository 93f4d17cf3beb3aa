"""Annotated videos can be read back and show what they were given."""

import cv2
import numpy as np
import pytest

from evaluation.video import PREDICTED, STALE, TRUTH, AnnotatedVideo, draw_box
from pipeline.errors import InputError

SIZE = (320, 180)


def _frame(k: int = 0) -> np.ndarray:
    rng = np.random.default_rng(k)
    return cv2.resize(rng.integers(60, 120, (18, 32, 3), np.uint8), SIZE)


def _read(path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        found, picture = capture.read()
        if not found:
            return pictures
        pictures.append(picture)


def test_video_is_read_back_with_its_frames_rate_and_boxes(tmp_path):
    path = tmp_path / "run.mp4"
    boxes = {
        "truth": np.array([60.0, 100, 50, 40]),
        "stale": np.array([140.0, 100, 50, 40]),
        "predicted": np.array([220.0, 100, 50, 40]),
    }
    with AnnotatedVideo(path, SIZE, 12.5) as video:
        for k in range(23):
            video.write(_frame(k), **boxes, age_ms=33.0 * k)
    assert video.frames == 23
    pictures = _read(path)
    assert len(pictures) == 23 and pictures[0].shape == (180, 320, 3)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    for name, color in (("truth", TRUTH), ("stale", STALE), ("predicted", PREDICTED)):
        x, y, w, _ = boxes[name].astype(int)
        edge = pictures[0][y - 1 : y + 2, x + 8 : x + w - 8].reshape(-1, 3).astype(int)
        assert np.abs(edge - color).max(-1).min() < 70, name


def test_legend_says_the_age(tmp_path):
    path = tmp_path / "run.mp4"
    box = np.array([200.0, 100, 40, 30])
    with AnnotatedVideo(path, SIZE, 30) as video:
        for age_ms in (10.0, 888.0):
            video.write(np.full((180, 320, 3), 100, np.uint8), stale=box, age_ms=age_ms)
    first, second = (p[:40, :170].astype(int) for p in _read(path))
    assert first.min() < 60 and first.max() > 170
    assert np.abs(first - second).max() > 60


def test_picture_given_is_not_changed(tmp_path):
    picture = _frame()
    kept = picture.copy()
    with AnnotatedVideo(tmp_path / "run.mp4", SIZE, 30) as video:
        video.write(picture, truth=np.array([10.0, 10, 50, 50]), note="frame 3")
    assert np.array_equal(picture, kept)


def test_absent_and_absurd_boxes_do_not_stop_the_video(tmp_path):
    picture = np.zeros((180, 320, 3), np.uint8)
    draw_box(picture, None, TRUTH)
    draw_box(picture, np.full(4, np.nan), TRUTH)
    assert not picture.any()
    draw_box(picture, np.array([-1e300, 20.0, 2e300, 40.0]), TRUTH)
    assert picture.any()
    with AnnotatedVideo(tmp_path / "run.mp4", SIZE, 30) as video:
        video.write(picture, truth=np.full(4, np.nan), stale=np.array([1e12, 0, 5, 5]))
        video.write(picture)
    assert len(_read(tmp_path / "run.mp4")) == 2


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 1e9])
def test_absurd_rate_is_refused(tmp_path, fps):
    with pytest.raises(InputError, match="frames a second"):
        AnnotatedVideo(tmp_path / "run.mp4", SIZE, fps)


def test_path_that_cannot_be_written_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="missing"):
        AnnotatedVideo(tmp_path / "missing" / "run.mp4", SIZE, 30)


@pytest.mark.parametrize(
    "picture", [np.zeros((90, 160, 3), np.uint8), np.zeros((180, 320), np.uint8)]
)
def test_frame_of_another_size_is_refused(tmp_path, picture):
    with AnnotatedVideo(tmp_path / "run.mp4", SIZE, 30) as video, pytest.raises(InputError):
        video.write(picture)
