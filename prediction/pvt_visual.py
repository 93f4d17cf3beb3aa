"""The visual and the joint idea of PVT++ on the features that a Siamese tracker computes anyway.

A search region was cut out around the target's last box, so the backbone's features of it show how
far the target has moved since and how it turns, before the box says so. As in PVT++ (Li et al.,
ICCV 2023) template and search features are projected, correlated channel by channel, encoded, mixed
over the last three steps, and decoded by one head a frame of horizon, in units of the mean motion
p; "pvt-joint" decodes the motion branch of ``prediction.pvt`` and the visual one together. Smaller
than published, so that a prediction stays within 0.3 ms: projections of one cell to 16 channels
instead of 3 × 3 to 64, and a linear encoder of the whole correlation map instead of convolutions
over time, height and width.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.tracks import View
from prediction.constant import History
from prediction.predictor import IntArray, StatusArray
from prediction.pvt import MOTIONS, SHAPES, PvtMotion, decoded, encoded, layer_norm, mixed, motions
from prediction.weights import Shapes

CHANNELS = 16
TEMPLATE, SEARCH = 8, 16
"""Cells along a side of NanoTrack's features."""
MAP = SEARCH - TEMPLATE + 1
WIDTH = 64
_VISUAL: dict[str, tuple[int | str, ...]] = {
    "template_w": (CHANNELS, "features"),
    "search_w": (CHANNELS, "features"),
    "map_w": (CHANNELS * MAP * MAP, WIDTH),
    "map_b": (WIDTH,),
    "map_scale": (WIDTH,),
    "map_shift": (WIDTH,),
    "map_time_w": (WIDTH, WIDTH, 3),
    "map_time_b": (WIDTH,),
}
VISUAL_SHAPES: Shapes = _VISUAL | {
    k: v for k, v in SHAPES.items() if not k.startswith(("encode_", "time_"))
}
JOINT_SHAPES: Shapes = _VISUAL | SHAPES | {"decode_w": (2 * WIDTH, 32)}


@dataclass(frozen=True)
class VisualState(History):
    """A history, and what was seen at the end of each of its last motions.

    seen: (N, MOTIONS, WIDTH), newest last; zeros where nothing was handed over.
    """

    seen: FloatArray


class PvtVisual(PvtMotion):
    """Predicts from what the tracker's network saw. Without ``see`` it has seen nothing."""

    name = "pvt-visual"
    shapes = VISUAL_SHAPES

    def blank(self, n: int) -> VisualState:
        return VisualState(**vars(super().blank(n)), seen=np.zeros((n, MOTIONS, WIDTH)))

    def observe(  # type: ignore[override]
        self, state: VisualState, stamp_ns: IntArray, boxes: FloatArray, status: StatusArray
    ) -> VisualState:
        new = super().observe(state, stamp_ns, boxes, status)
        taken = (new.stamps_ns[:, -1] != state.stamps_ns[:, -1]) | (new.count != state.count)
        shifted = np.concatenate([state.seen[:, 1:], np.zeros_like(state.seen[:, :1])], axis=1)
        seen = np.where(taken[:, None, None], shifted, state.seen)
        return VisualState(**vars(new), seen=seen)

    def see(self, state: VisualState, row: int, stamp_ns: int, view: View) -> VisualState:
        """Add what the network saw for the observation of that stamp, where it was taken.

        Raises:
            InputError: a view of another network than the model was trained on.
        """
        if state.stamps_ns[row, -1] != stamp_ns:
            return state
        seen = state.seen.copy()
        seen[row, -1] = look(self._weights, view)
        return VisualState(**{**vars(state), "seen": seen})

    def _heads(self, state: History) -> FloatArray:
        assert isinstance(state, VisualState)
        moved, frames = motions(state, self._period_s)
        return decoded(self._weights, self._mean(state, moved, frames), moved, frames)

    def _mean(self, state: VisualState, moved: FloatArray, frames: FloatArray) -> FloatArray:
        """(N, D): what is decoded."""
        w = self._weights
        return mixed(state.seen, w["map_time_w"], w["map_time_b"])


class PvtJoint(PvtVisual):
    """Predicts from what the network saw and from the boxes."""

    name = "pvt-joint"
    shapes = JOINT_SHAPES

    def _mean(self, state: VisualState, moved: FloatArray, frames: FloatArray) -> FloatArray:
        w = self._weights
        by_boxes = mixed(encoded(w, moved, frames), w["time_w"], w["time_b"])
        return np.concatenate([by_boxes, super()._mean(state, moved, frames)], axis=1)


def look(weights: dict[str, FloatArray], view: View) -> FloatArray:
    """(WIDTH,): one view by itself."""
    w = weights
    features = w["search_w"].shape[1]
    if (view.template.shape, view.search.shape) != (
        (features, TEMPLATE, TEMPLATE),
        (features, SEARCH, SEARCH),
    ):
        raise InputError(
            f"predictor.model: trained on {features} features of {TEMPLATE} and {SEARCH} cells, "
            f"the tracker's are {view.template.shape} and {view.search.shape}; give the tracker "
            "that it was trained on"
        )
    template, search = view.template.astype(np.float64), view.search.astype(np.float64)
    maps = correlation(w["template_w"], w["search_w"], template, search)
    encoding = maps.ravel() @ w["map_w"] + w["map_b"]
    return np.maximum(layer_norm(encoding, w["map_scale"], w["map_shift"]), 0)


def correlation(
    template_w: FloatArray, search_w: FloatArray, template: FloatArray, search: FloatArray
) -> FloatArray:
    """(CHANNELS, MAP, MAP): projected, then correlated channel by channel, mean over the cells."""
    small = (template_w @ template.reshape(len(template), -1)).reshape(-1, TEMPLATE, TEMPLATE)
    large = (search_w @ search.reshape(len(search), -1)).reshape(-1, SEARCH, SEARCH)
    # For one product of matrices: each row of the template at each shift along x …
    shifted = np.zeros((len(small), TEMPLATE, SEARCH, MAP))
    for x in range(MAP):
        shifted[:, :, x : x + TEMPLATE, x] = small
    # … and the rows of the region that lie below it at each shift along y.
    rows = np.lib.stride_tricks.sliding_window_view(large, TEMPLATE, 1).transpose(0, 1, 3, 2)
    maps = rows.reshape(-1, MAP, TEMPLATE * SEARCH) @ shifted.reshape(len(small), -1, MAP)
    return np.asarray(maps / TEMPLATE**2)
