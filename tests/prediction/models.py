"""Small models with random weights, so that the learned predictors can be tested on their own."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prediction import pvt, residual

HEADS = 5


def write_model(path: Path, constants: dict[str, np.ndarray]) -> str:
    """An ONNX file that holds these constants."""
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()]
    shown = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [shown], [], tensors
    )
    onnx.save(helper.make_model(graph), path)
    return str(path)


def constants(name: str, scale: float = 0.3) -> dict[str, np.ndarray]:
    """Random constants of a model, float64."""
    rng = np.random.default_rng(6)
    shapes = {"residual": residual.SHAPES, "pvt-motion": pvt.SHAPES}[name]
    return {
        key: rng.normal(0, scale, [HEADS if side == "heads" else side for side in shape])
        for key, shape in shapes.items()
    }
