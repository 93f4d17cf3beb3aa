import contextlib
import io

import cv2
import numpy as np
import pytest

from evaluation.data import data_root, find_data
from perception.detector import Detector, DetectorConfig
from perception.layouts import LAYOUTS
from pipeline.config import build
from pipeline.errors import InputError
from pipeline.frame import Frame
from tests.perception.models import SIDE, bright, model, save

CLASSES = 5
SIZE = (200, 100)
"""A picture twice as wide as high: at 64 pixels it is 64×32, the rest is padding."""
BOX = np.array([50.0, 20, 40, 30])
"""In the picture, x y w h; in an input of 64 pixels at the top left all of it is 0.32 of that."""


def placed(resize, side=SIDE):
    """BOX in input pixels, corners, as each way of resizing puts it there."""
    low, high = BOX[:2], BOX[:2] + BOX[2:]
    if resize == "stretch":
        scale = np.array([side / SIZE[0], side / SIZE[1]])
        return np.concatenate([low * scale, high * scale])
    scale, offset = side / SIZE[0], np.zeros(2)
    if resize == "center":
        offset[1] = (side - scale * SIZE[1]) / 2
    return np.concatenate([low * scale + offset, high * scale + offset])


def cells():
    """(84, 3): column, row and stride of each cell of a 64-pixel input."""
    return np.array(
        [(x, y, s) for s in (8, 16, 32) for y in range(SIDE // s) for x in range(SIDE // s)]
    )


def logit(p):
    return np.log(p / (1 - p))


def answers(layout, label=2, score=0.9):
    """Outputs of that layout that hold BOX once."""
    corners = placed(LAYOUTS[layout].resize)
    center, sides = (corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]
    if layout == "yolox":
        out, grid = np.zeros((1, 84, 5 + CLASSES)), cells()
        k = 84 - 5  # a cell of the stride 32 or 16
        offset = center / grid[k, 2] - grid[k, :2]
        out[0, k] = [*offset, *np.log(sides / grid[k, 2]), score, *np.eye(CLASSES)[label]]
        return [out]
    if layout == "yolov5":
        out = np.zeros((1, 84, 5 + CLASSES))
        out[0, 7] = [*center, *sides, score, *np.eye(CLASSES)[label]]
        return [out]
    if layout == "yolov8":
        out = np.zeros((1, 4 + CLASSES, 84))
        out[0, :, 7] = [*center, *sides, *score * np.eye(CLASSES)[label]]
        return [out]
    if layout == "end2end":
        out = np.zeros((1, 3, 6))
        out[0, 2] = [*corners, score, label]
        return [out]
    if layout == "nanodet":
        counts, grid, bins = (64, 16, 4), cells(), 8
        scores = np.zeros((84, CLASSES))
        spread = np.full((84, 4, bins), -50.0)
        middle = (grid[:, :2] + 0.5) * grid[:, 2:]
        k = int(np.argmin(np.abs(middle[:64] - center).sum(axis=1)))
        scores[k, label] = score
        distance = np.concatenate([middle[k] - corners[:2], corners[2:] - middle[k]]) / 8
        low = np.floor(distance).astype(int)
        for side in range(4):  # the mean of two neighboring bins is the distance
            part = np.clip(distance[side] - low[side], 1e-6, 1 - 1e-6)
            spread[k, side, low[side] : low[side] + 2] = np.log([1 - part, part])
        cut = np.cumsum(counts)[:-1]
        return [
            *(part[None] for part in np.split(scores, cut)),
            *(part.reshape(1, -1, 4 * bins) for part in np.split(spread, cut)),
        ]
    out = np.zeros((1, 5 + CLASSES, 4, 4))
    out[0, 3:5] = -9
    column, row = np.floor(center / 16).astype(int)
    offset = np.arctanh(center / 16 - [column, row])
    out[0, :, row, column] = [
        score, *offset, *logit(sides / SIDE), *score * np.eye(CLASSES)[label],
    ]  # fmt: skip
    return [out]


def frame(encoding="bgr8", value=90):
    shape = SIZE[::-1] if encoding == "mono8" else (*SIZE[::-1], 3)
    return Frame(np.full(shape, value, np.uint8), 77, encoding, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_finds_the_box_in_the_pictures_own_pixels(layout, tmp_path):
    path = model(tmp_path / "m.onnx", answers(layout))
    found = Detector(DetectorConfig(model=path, layout=layout)).detect(frame())
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], BOX, atol=0.05)
    assert found.scores[0] == pytest.approx(0.9, abs=1e-5)
    assert found.labels.tolist() == [2]
    assert (found.stamp_ns, found.frame_index, found.image_size) == (77, 5, SIZE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", LAYOUTS)
def test_another_files_outputs_are_refused_with_the_layouts_that_there_are(layout, other, tmp_path):
    if other == layout or {layout, other} == {"yolox", "yolov5"}:
        pytest.skip("outputs of the same shape")
    path = model(tmp_path / "other.onnx", answers(other))
    with pytest.raises(InputError, match=rf"other.onnx: gives .* layout {layout} is .*yolox"):
        Detector(DetectorConfig(model=path, layout=layout))


@pytest.mark.parametrize("side", [96, 160])
def test_sides_that_the_file_leaves_open_are_the_configured_ones(side, tmp_path):
    out = np.zeros((1, 20, 5 + CLASSES))
    corners = placed("center", side)
    out[0, 0] = [*(corners[:2] + corners[2:]) / 2, *corners[2:] - corners[:2], 1, 1, 0, 0, 0, 0]
    path = model(tmp_path / "m.onnx", [out], ("n", 3, "h", "w"))
    detector = Detector(DetectorConfig(model=path, layout="yolov5", input_px=side))
    assert detector.input_size == (side, side)
    np.testing.assert_allclose(detector.detect(frame()).boxes[0], BOX, atol=0.05)


def test_duplicates_go_within_a_class_only_and_the_best_are_kept(tmp_path):
    out = np.zeros((1, 40, 5 + CLASSES))
    for k in range(10):
        x = 6.0 * (k // 2)  # pairs at the same place, of one class from the second pair on
        label = 1 if k else 3
        out[0, k] = [x + 20, 24, 6, 12, 0.5 + 0.04 * k, *np.eye(CLASSES)[label]]
    path = model(tmp_path / "m.onnx", [out])
    config = DetectorConfig(model=path, layout="yolov5")
    found = Detector(config).detect(frame())
    assert len(found) == 6
    assert found.labels.tolist().count(3) == 1
    assert (np.diff(found.scores) < 0).all()
    best = Detector(DetectorConfig(model=path, layout="yolov5", max_detections=2)).detect(frame())
    np.testing.assert_allclose(best.scores, [0.86, 0.78], atol=1e-6)
    only = Detector(DetectorConfig(model=path, layout="yolov5", classes=(3,))).detect(frame())
    assert only.labels.tolist() == [3]
    sure = Detector(DetectorConfig(model=path, layout="yolov5", min_score=0.8)).detect(frame())
    np.testing.assert_allclose(sure.scores, [0.86], atol=1e-6)


def test_what_the_model_says_outside_of_the_picture_or_without_area_is_left_away(tmp_path):
    out = np.zeros((1, 20, 6))
    out[0, :4] = [
        [-40, 10, -20, 30, 0.9, 0],
        [50, 30, 50, 40, 0.9, 0],
        [60, 20, 90, 60, 0.9, 0],
        [30, 40, 20, 20, 0.9, 0],
    ]
    path = model(tmp_path / "m.onnx", [out])
    found = Detector(DetectorConfig(model=path, layout="end2end")).detect(frame())
    np.testing.assert_allclose(found.boxes, [[187.5, 12.5, 12.5, 87.5]])


def test_thousands_of_candidates_become_few_detections_in_one_answer(tmp_path):
    rng = np.random.default_rng(0)
    out = np.zeros((1, 20_000, 5 + CLASSES))
    out[0, :, :2] = rng.uniform(8, 56, (20_000, 2))
    out[0, :, 2:4] = rng.uniform(2, 20, (20_000, 2))
    out[0, :, 4:] = rng.uniform(0.5, 1, (20_000, 1 + CLASSES))
    path = model(tmp_path / "m.onnx", [out])
    found = Detector(DetectorConfig(model=path, layout="yolov5", max_detections=50)).detect(frame())
    assert len(found) == 50


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8"])
def test_the_model_gets_its_channels_in_its_order_and_scaled(order, encoding, tmp_path):
    nodes = [  # scores are the means of the three channels
        ("ReduceMean", ["x"], "means", {"axes": [2, 3], "keepdims": 0}),
        ("Unsqueeze", ["means", "two"], "column", {}),
        ("Mul", ["column", "ones"], "scores", {}),
        ("Concat", ["boxes", "scores"], "y0", {"axis": 1}),
    ]
    constants = {
        "two": np.array([2], np.int64),
        "ones": np.ones((1, 1, 9), np.float32),
        "boxes": np.repeat(np.float32([32, 32, 20, 20])[None, :, None], 9, axis=2),
    }
    path = save(tmp_path / "m.onnx", nodes, constants)
    blue_green_red = np.array([200, 100, 10], np.uint8)
    pixel = {"bgr8": blue_green_red, "rgb8": blue_green_red[::-1], "bgra8": [*blue_green_red, 9]}
    image = np.tile(np.array(pixel[encoding], np.uint8), (64, 64, 1))
    config = DetectorConfig(
        model=path, layout="yolov8", channels=order,
        mean=(0.0, 0.0, 0.0), std=(200.0, 210.0, 220.0),
    )  # fmt: skip
    found = Detector(config).detect(Frame(image, 0, encoding))
    values = blue_green_red if order == "bgr" else blue_green_red[::-1]
    scaled = values / [200.0, 210.0, 220.0]
    assert found.labels.tolist() == [int(np.argmax(scaled))]
    assert found.scores[0] == pytest.approx(scaled.max(), abs=1e-5)


def test_an_answer_that_is_no_number_is_refused_and_the_next_one_is_not(tmp_path):
    nodes = [  # NaN for pictures brighter than 150
        ("ReduceMean", ["x"], "m", {"keepdims": 0}),
        ("Sub", ["limit", "m"], "left", {}),
        ("Sqrt", ["left"], "root", {}),
        ("Mul", ["root", "zero"], "none", {}),
        ("Add", ["c0", "none"], "y0", {}),
    ]
    constants = {
        "zero": np.float32(0),
        "limit": np.float32(150),
        "c0": answers("yolox")[0].astype(np.float32),
    }
    path = save(tmp_path / "m.onnx", nodes, constants)
    detector = Detector(DetectorConfig(model=path))
    with pytest.raises(InputError, match="answers frame 5 with what is no number"):
        detector.detect(frame(value=250))
    assert len(detector.detect(frame())) == 1


def test_hostile_files_are_one_line_that_names_them(tmp_path):
    def refused(path, match, **options):
        with pytest.raises(InputError, match=match) as caught:
            Detector(DetectorConfig(model=str(path), **options))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    refused(tmp_path / "none.onnx", "model cannot be read")
    refused(tmp_path, "model cannot be read")
    (tmp_path / "text.onnx").write_text("not a model")
    refused(tmp_path / "text.onnx", "onnxruntime cannot load it")
    whole = tmp_path / "cut.onnx"
    model(whole, answers("yolox"))
    whole.write_bytes(whole.read_bytes()[:-200])
    refused(whole, "onnxruntime cannot load it")
    out = answers("yolox")
    for name, shape in (("gray", (1, 1, 64, 64)), ("last", (1, 64, 64, 3)), ("flat", (1, 3, 64)),
                        ("batch", (4, 3, 64, 64)), ("huge", (1, 3, 64, 100_000))):  # fmt: skip
        model(tmp_path / f"{name}.onnx", out, shape)
        refused(tmp_path / f"{name}.onnx", "wants ")
    model(tmp_path / "nan.onnx", [np.full((1, 84, 10), np.nan)])
    refused(tmp_path / "nan.onnx", "a blank picture with what is no number")
    huge = tmp_path / "large.onnx"
    with huge.open("wb") as file:
        file.truncate((256 << 20) + 1)
    refused(huge, "over 256 MiB")


def test_a_real_network_finds_what_is_in_the_picture(tmp_path):
    path = bright(tmp_path / "bright.onnx", (96, 64), (12, 8), label=5)
    image = np.full((64, 96, 3), 40, np.uint8)
    for x, y in ((10, 5), (50, 30), (80, 50)):
        image[y : y + 8, x : x + 12] = 250
    config = DetectorConfig(model=path, layout="yolov8", min_score=0.6, nms_iou=0.0)
    found = Detector(config).detect(Frame(image, 0))
    order = np.argsort(found.boxes[:, 0])
    np.testing.assert_allclose(
        found.boxes[order], [[10, 5, 12, 8], [50, 30, 12, 8], [80, 50, 12, 8]], atol=1e-4
    )
    assert found.labels.tolist() == [5, 5, 5]


def test_a_frame_that_is_no_picture_is_refused(tmp_path):
    detector = Detector(DetectorConfig(model=model(tmp_path / "m.onnx", answers("yolox"))))
    with pytest.raises(InputError, match="put the ISP stage before"):
        detector.detect(Frame(np.zeros((64, 64), np.uint16), 0, "bayer_rggb12"))


def test_options_come_from_the_same_names_as_everywhere():
    made = build(
        {"detector": DetectorConfig}, None, ["detector.layout=yolov8", "detector.classes=[2, 7]"]
    )
    assert made["detector"].classes == (2, 7)
    for wrong in (
        "detector.layout=ssd",
        "detector.mean=[1.0]",
        "detector.std=[1.0, 0.0, 1.0]",
        "detector.min_score=2",
    ):
        with pytest.raises(InputError):
            build({"detector": DetectorConfig}, None, [wrong])


MEASURED = {
    "yolox_nano_416": ("yolox", 33.7),
    "nanodet_m_320": ("nanodet", 25.0),
    "fastestdet_352": ("fastestdet", 18.8),
}
"""mAP in percent of these files on all 128 pictures, as published with them."""


@pytest.mark.parametrize("name", MEASURED)
def test_published_detectors_reach_their_figures(name):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (the mot extra)")
    layout, published = MEASURED[name]
    file = find_data("models", "detectors", f"{name}.onnx")
    pictures = find_data("data", "isp", "labelled", "images", "val2017")
    labels = find_data("data", "isp", "labelled", "object_detection", "labels", "val2017")
    if file is None or pictures is None or labels is None:
        pytest.skip(f"no {name}.onnx or labelled pictures in {data_root()}; set LEADSIGHT_DATA")
    detector = Detector(DetectorConfig(model=str(file), layout=layout, min_score=0.05))
    # 48 of the 128: their own figure lies within 3 points of the whole's.
    assert mean_precision(detector, sorted(pictures.glob("*.jpg"))[:48], labels) > published - 4


def mean_precision(detector, pictures, labels):
    """COCO AP 0.5:0.95 in percent over labelled pictures, YOLO box files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, truth, found = [], [], []
    for i, path in enumerate(pictures):
        image = cv2.imread(str(path))
        sides = np.array([*image.shape[1::-1]] * 2, np.float64)
        images.append({"id": i, "width": image.shape[1], "height": image.shape[0]})
        text = labels / f"{path.stem}.txt"
        for line in text.read_text().splitlines() if text.exists() else []:
            label, *box = (float(v) for v in line.split())
            x, y, w, h = np.array(box) * sides
            truth.append(
                {"id": len(truth) + 1, "image_id": i, "category_id": int(label), "iscrowd": 0,
                 "bbox": [x - w / 2, y - h / 2, w, h], "area": w * h}
            )  # fmt: skip
        answer = detector.detect(Frame(image, i))
        found += [
            {"image_id": i, "category_id": label, "bbox": box, "score": score}
            for box, score, label in zip(
                answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(), strict=True
            )
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": k} for k in range(80)]
        coco.dataset = {"images": images, "annotations": truth, "categories": categories}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return 100 * judge.stats[0]
