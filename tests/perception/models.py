"""Small detector files."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Node = tuple[str, list[str], str, dict[str, Any]]
SIDE = 64


def save(
    path: Path,
    nodes: list[Node],
    constants: dict[str, Any],
    outputs: tuple[str, ...] = ("y0",),
    shape: tuple[Any, ...] = (1, 3, SIDE, SIDE),
    answer: tuple[int, ...] | None = None,
) -> str:
    """A model file of one input x. nodes: kind, inputs, output and attributes of each. answer: the
    outputs' shape, where it is told."""
    graph = helper.make_graph(
        [helper.make_node(kind, given, [out], **options) for kind, given, out, options in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, answer) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, path)
    return str(path)


def model(path: Path, outputs: list[Any], shape: tuple[Any, ...] = (1, 3, SIDE, SIDE)) -> str:
    """A file that answers every picture with the same arrays."""
    nodes: list[Node] = [
        ("ReduceMean", ["x"], "m", {"keepdims": 0}),
        ("Mul", ["m", "zero"], "none", {}),
        *(("Add", [f"c{k}", "none"], f"y{k}", {}) for k in range(len(outputs))),
    ]
    constants = {f"c{k}": output.astype(np.float32) for k, output in enumerate(outputs)}
    names = tuple(f"y{k}" for k in range(len(outputs)))
    return save(path, nodes, {"zero": np.float32(0), **constants}, names, shape)


def looking(path: Path) -> str:
    """A detector of YOLOX's outputs, for training on: one convolution of the picture."""
    weight = np.random.default_rng(0).normal(0, 0.002, (7, 3, 8, 8))
    nodes: list[Node] = [
        ("Conv", ["x", "w"], "c", {"strides": [8, 8]}),
        ("Sigmoid", ["c"], "s", {}),
        ("Reshape", ["s", "shape"], "r", {}),
        ("Transpose", ["r"], "y0", {"perm": [0, 2, 1]}),
    ]
    shape = np.array([1, 7, (SIDE // 8) ** 2], np.int64)
    constants = {"w": weight.astype(np.float32), "shape": shape}
    return save(path, nodes, constants, answer=(1, (SIDE // 8) ** 2, 7))


def bright(path: Path, size: tuple[int, int], target: tuple[int, int], label: int = 0) -> str:
    """A detector, of layout yolov8, of what is brighter than 150 all over a window of the target's
    width and height, anywhere in pictures of that size. Scores are (mean gray − 150) / 105.

    Windows overlap, so give it an ``nms_iou`` near 0.
    """
    width, height = target
    columns, rows = size[0] - width + 1, size[1] - height + 1
    x, y = np.meshgrid(np.arange(columns) + width / 2, np.arange(rows) + height / 2)
    boxes = np.stack([x, y, np.full(x.shape, width), np.full(x.shape, height)])
    nodes: list[Node] = [
        ("ReduceMean", ["x"], "gray", {"axes": [1], "keepdims": 1}),
        ("AveragePool", ["gray"], "mean", {"kernel_shape": [height, width], "strides": [1, 1]}),
        ("Reshape", ["mean", "flat"], "row", {}),
        ("Sub", ["row", "dark"], "above", {}),
        ("Div", ["above", "range"], "ratio", {}),
        ("Relu", ["ratio"], "score", {}),
        ("Mul", ["score", "which"], "scores", {}),
        ("Concat", ["boxes", "scores"], "y0", {"axis": 1}),
    ]
    constants = {
        "flat": np.array([1, 1, -1], np.int64),
        "dark": np.float32(150 / 255),
        "range": np.float32(105 / 255),
        "which": np.eye(8, dtype=np.float32)[label][None, :, None],
        "boxes": boxes.reshape(1, 4, -1).astype(np.float32),
    }
    return save(path, nodes, constants, shape=(1, 3, size[1], size[0]))
