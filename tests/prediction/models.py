"""Small models with random weights, so that the learned predictors can be tested on their own."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prediction import pvt, pvt_visual, residual
from prediction.pvt_visual import SEARCH, TEMPLATE

HEADS = 5
FEATURES = 6
SHAPES = {
    "residual": residual.SHAPES,
    "pvt-motion": pvt.SHAPES,
    "pvt-visual": pvt_visual.VISUAL_SHAPES,
    "pvt-joint": pvt_visual.JOINT_SHAPES,
}
FREE = {"heads": HEADS, "features": FEATURES}


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
    return {
        key: rng.normal(0, scale, [FREE.get(side, side) for side in shape])
        for key, shape in SHAPES[name].items()
    }


def write_views(
    path: Path, name: str = "clip", count: int = 12, features: int = 5, **changes: Any
) -> Path:
    """A file as ``evaluation.views`` writes it: recordings of targets that step left or right by
    chance, where the region searched shows which way the next step goes.

    changes: arrays to put in, or None to leave one away.
    """
    arrays = {}
    for seed in range(count):
        rng = np.random.default_rng(seed)
        steps = rng.choice([-6.0, 6.0], 40)
        x = 300 + np.concatenate([[0], np.cumsum(steps)[:-1]])
        truth = np.stack([x, x * 0 + 80, x * 0 + 30, x * 0 + 20], axis=1)
        template = rng.normal(0, 0.1, (features, TEMPLATE, TEMPLATE)) + 1
        search = rng.normal(0, 0.1, (40, features, SEARCH, SEARCH))
        half = SEARCH // 2
        search[steps < 0, :, :, :half] += 1
        search[steps > 0, :, :, half:] += 1
        run: dict[str, Any] = {
            "stamps_ns": np.arange(40) * 33_000_000,
            "truth": truth.astype(np.float32),
            "frames": np.arange(40),
            "boxes": truth.astype(np.float32),
            "status": np.zeros(40, np.uint8),
            "template": template.astype(np.float16),
            "search": search.astype(np.float16),
            **changes,
        }
        arrays |= {f"{name}{seed}/1/{k}": v for k, v in run.items() if v is not None}
    np.savez(path, **arrays)
    return path
