"""The motion model of PVT++ (Li et al., ICCV 2023), written from its description.

Inputs are the last three motions m = (Δx/w, Δy/h, ln w'/w, ln h'/h) and m/Δ, with Δ the number of
frames between them. One head a horizon of 1, 2 … N whole frames gives the motion since the last
box in units of p = mean |m/Δ|. Times become frames by ``frame_period_ms``; between whole frames the
heads are interpolated, and beyond the last one its motion per frame goes on.
"""

import numpy as np

from pipeline.box import FloatArray
from prediction.constant import History, NoPredictor
from prediction.predictor import (
    MIN_SIDE_PX,
    Estimates,
    IntArray,
    PredictorConfig,
    forecast_status,
)
from prediction.weights import Shapes, load_weights

MOTIONS = 3
SHAPES: dict[str, tuple[int | str, ...]] = {
    "encode_w": (8, 64),
    "encode_b": (64,),
    "encode_scale": (64,),
    "encode_shift": (64,),
    "time_w": (64, 64, 3),
    "time_b": (64,),
    "decode_w": (64, 32),
    "decode_b": (32,),
    "head_w": ("heads", 32, 32),
    "head_b": ("heads", 1, 32),
    "head_scale": (32,),
    "head_shift": (32,),
    "out_w": (32, 4),
    "out_b": (4,),
}
LAYER_NORM_EPSILON = 1e-5
_MOST = 4.0
"""Bound on a predicted motion, in box sides or ln side."""


class PvtMotion(NoPredictor):
    """Moves the last box by what the network says of its horizon in frames."""

    depth = MOTIONS + 1
    name = "pvt-motion"
    shapes: Shapes = SHAPES

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__(config)
        self._weights = load_weights(self.name, config.model, self.shapes)
        self._period_s = config.frame_period_ms * 1e-3

    def predict(self, state: History, valid_at_ns: IntArray) -> Estimates:
        dt = (valid_at_ns - state.stamps_ns[:, -1:]) * 1e-9
        reach = np.clip(dt, 0, self._config.max_horizon_ms * 1e-3)
        heads = self._heads(state)
        moved = np.where(
            (state.count > 1)[:, None, None], at_horizon(heads, reach / self._period_s), 0
        )
        moved = np.clip(moved, -_MOST, _MOST)
        last = state.boxes[:, -1:]
        sides = np.maximum(last[..., 2:], MIN_SIDE_PX)
        boxes = np.empty_like(moved)
        boxes[..., 2:] = np.maximum(sides * np.exp(moved[..., 2:]), MIN_SIDE_PX)
        boxes[..., :2] = last[..., :2] + moved[..., :2] * sides - boxes[..., 2:] / 2
        status = forecast_status(self._config, dt, state.count > 1, state.status)
        return Estimates(boxes, self._variances(sides, reach[..., None]), status)

    def _heads(self, state: History) -> FloatArray:
        """(N, heads, 4), the motion after 1, 2 … frames."""
        return network(self._weights, *motions(state, self._period_s))


def motions(state: History, period_s: float) -> tuple[FloatArray, FloatArray]:
    """The last motions (N, 3, 4) and their lengths in frames (N, 3).

    Motions that are not known yet repeat the oldest known one.
    """
    first = np.clip(state.boxes.shape[1] - state.count, 0, MOTIONS - 1)
    index = np.maximum(np.arange(MOTIONS), first[:, None])
    known = (state.count > 1)[:, None]
    gaps = np.take_along_axis(np.diff(state.stamps_ns, axis=1), index, axis=1) * 1e-9
    sides = np.maximum(state.boxes[..., 2:], MIN_SIDE_PX)
    moved = np.concatenate(
        [np.diff(state.boxes[..., :2], axis=1) / sides[:, :-1], np.diff(np.log(sides), axis=1)], 2
    )
    moved = np.take_along_axis(moved, index[..., None], axis=1)
    return (
        np.where(known[..., None], moved, 0.0),
        np.where(known, np.maximum(gaps / period_s, 1e-2), 1.0),
    )


def network(weights: dict[str, FloatArray], moved: FloatArray, frames: FloatArray) -> FloatArray:
    """(N, heads, 4): the motion after 1, 2 … frames. Batch norms are folded into the weights."""
    steps = encoded(weights, moved, frames)
    return decoded(weights, mixed(steps, weights["time_w"], weights["time_b"]), moved, frames)


def encoded(weights: dict[str, FloatArray], moved: FloatArray, frames: FloatArray) -> FloatArray:
    """(N, 3, 64): each motion by itself."""
    w = weights
    step = np.concatenate([moved, moved / frames[..., None]], axis=-1) @ w["encode_w"]
    return np.maximum(layer_norm(step + w["encode_b"], w["encode_scale"], w["encode_shift"]), 0)


def mixed(steps: FloatArray, time_w: FloatArray, time_b: FloatArray) -> FloatArray:
    """(N, 64) from the three steps (N, 3, 64): a convolution over time and its mean."""
    padded = np.zeros((len(steps), MOTIONS + 2, steps.shape[2]))
    padded[:, 1:-1] = steps
    taps = [padded[:, k : k + MOTIONS] @ time_w[:, :, k].T for k in range(3)]
    return np.asarray(np.maximum(taps[0] + taps[1] + taps[2] + time_b, 0).mean(axis=1))


def decoded(
    weights: dict[str, FloatArray], mean: FloatArray, moved: FloatArray, frames: FloatArray
) -> FloatArray:
    """(N, heads, 4) from what was seen, (N, D), in units of the mean motion."""
    w = weights
    narrow = np.maximum(mean @ w["decode_w"] + w["decode_b"], 0)
    head = narrow @ w["head_w"] + w["head_b"]  # (heads, N, 32)
    head = np.maximum(layer_norm(head, w["head_scale"], w["head_shift"]), 0)
    found = (head @ w["out_w"] + w["out_b"]).transpose(1, 0, 2)
    return np.asarray(found * np.abs(moved / frames[..., None]).mean(axis=1)[:, None])


def at_horizon(heads: FloatArray, frames: FloatArray) -> FloatArray:
    """(N, m, 4) from heads (N, H, 4) at frames (N, m): interpolated, then the last one's rate."""
    count = heads.shape[1]
    known = np.concatenate([np.zeros_like(heads[:, :1]), heads], axis=1)
    below = np.minimum(np.floor(frames), count - 1).astype(np.int64)
    share = np.minimum(frames - below, 1)[..., None]
    low = np.take_along_axis(known, below[..., None], axis=1)
    high = np.take_along_axis(known, below[..., None] + 1, axis=1)
    return np.asarray((low + share * (high - low)) * np.maximum(frames / count, 1)[..., None])


def layer_norm(x: FloatArray, scale: FloatArray, shift: FloatArray) -> FloatArray:
    """Over the last axis."""
    x = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((x * x).mean(axis=-1, keepdims=True) + LAYER_NORM_EPSILON)
    return np.asarray(x / deviation * scale + shift)
