"""The study of ISPs: labels read, rows compared on the same RAW, figures and refusals."""

import numpy as np
import pytest
from PIL import Image

from evaluation.isp_quality import (
    Labeled,
    Study,
    Trained,
    classical_rows,
    column,
    expose,
    read_labeled,
    run_unit,
    seen,
    task_aware,
)
from evaluation.isp_steady import steadiness
from isp.sensor import LEVELS, PROFILES
from perception.detector import Detector, DetectorConfig
from pipeline.errors import InputError
from tests.perception.models import bright

PROFILE = PROFILES["small-12"]
SIZE, TARGET = (64, 48), (16, 12)


def write(place, count=3):
    """Dark pictures with one white target each, at the middle of a quarter."""
    (place / "images").mkdir()
    (place / "labels").mkdir()
    for k in range(count):
        picture = np.full((SIZE[1], SIZE[0], 3), 30, np.uint8)
        x, y = 8 + 12 * k, 10 + 6 * k
        picture[y : y + TARGET[1], x : x + TARGET[0]] = 250
        Image.fromarray(picture).save(place / "images" / f"{k}.png")
        box = ((x + 8) / SIZE[0], (y + 6) / SIZE[1], TARGET[0] / SIZE[0], TARGET[1] / SIZE[1])
        text = "0 " + " ".join(f"{v:.6f}" for v in box)
        (place / "labels" / f"{k}.txt").write_text(text + "\n")
    return place / "images", place / "labels"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")
    place = tmp_path_factory.mktemp("study")
    images, labels = write(place)
    detector = DetectorConfig(
        model=bright(place / "bright.onnx", SIZE, TARGET), layout="yolov8", nms_iou=0.0,
        min_score=0.05,
    )  # fmt: skip
    return Study(
        images, labels, (detector,), (Trained("task-aware", ("",)),), ("day", "night"), 2,
        PROFILE.name,
    )  # fmt: skip


def test_labels_become_boxes_in_pixels(tmp_path):
    first = read_labeled(*write(tmp_path))[0]
    np.testing.assert_allclose(first.boxes, [[8, 10, 16, 12]], atol=1e-3)
    assert first.labels.tolist() == [0] and first.rgb.shape == (48, 64, 3)
    assert len(read_labeled(tmp_path / "images", tmp_path / "labels", limit=2)) == 2


@pytest.mark.parametrize("text", ["0 a b c d", "0 0.5 0.5", "0 nan 0.5 0.1 0.1"])
def test_a_file_that_is_no_list_of_boxes_is_named(text, tmp_path):
    folders = write(tmp_path)
    (tmp_path / "labels" / "1.txt").write_text(text)
    with pytest.raises(InputError, match=r"1\.txt: is no list"):
        read_labeled(*folders)


def test_pictures_without_labels_are_refused(tmp_path):
    images, _ = write(tmp_path)
    with pytest.raises(InputError, match="no picture with labels"):
        read_labeled(images, tmp_path / "nowhere")


def test_raw_has_twice_the_size_and_follows_the_seed():
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    picture = Labeled("a", rgb, np.empty((0, 4)), np.empty(0, np.int16))
    a, b, c = (expose(picture, PROFILE, LEVELS["night"], (seed,)) for seed in (0, 0, 1))
    assert a.size == (60, 40) and a.encoding == "bayer_rggb12"
    assert np.array_equal(a.image, b.image) and not np.array_equal(a.image, c.image)


@pytest.mark.parametrize("row", classical_rows(), ids=lambda row: row.name)
def test_a_classical_row_gives_a_picture_that_a_change_of_light_changes(row):
    rgb = np.random.default_rng(0).integers(20, 220, (48, 64, 3), np.uint8)
    picture = Labeled("a", rgb, np.empty((0, 4)), np.empty(0, np.int16))
    develop = row.make(PROFILE, lambda size: (64, 48))
    day, night = (develop(expose(picture, PROFILE, LEVELS[n], (0,))) for n in ("day", "night"))
    assert day.dtype == np.uint8 and day.shape[2] == 3 and day.std() > 5
    assert not np.array_equal(day, night)


def test_what_is_seen_in_a_small_view_is_told_in_the_pictures_pixels(study):
    picture = read_labeled(study.images, study.labels)[0]
    found = seen(Detector(study.detectors[0]), picture, picture.rgb)
    np.testing.assert_allclose(found.boxes[0], picture.boxes[0], atol=1.5)


def test_figures_of_a_column_follow_from_its_units(study):
    found = {unit: run_unit(study, unit) for unit in study.units() if unit.level == "day"}
    made = column(study, 0, "day", found)
    assert set(made.ap) == {row.name for row in study.rows(0)}
    assert made.ap[made.best] == max(made.ap[row.name] for row in classical_rows())
    gain = made.gains["task-aware"]
    assert gain.mean == pytest.approx(made.ap["task-aware"] - made.ap[made.best], abs=1e-6)
    assert gain.low <= gain.mean <= gain.high
    assert all(spread >= 0 for spread in made.spread.values())


def test_the_shipped_isp_gives_the_same_picture_twice_and_hardly_flickers():
    found = steadiness(task_aware("task-aware", ""), PROFILE.name)
    assert found.same and found.flicker < 1.0
