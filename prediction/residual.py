"""A small network's correction of the interacting filters, in continuous time.

Each axis is corrected alone, by the same network. With f the size of the target's recent motion
(root mean square of its last velocities, box sides per second), s the side and Δt the horizon::

    position = filters' + s f Δt tanh(g),   g = (net(u, e) − net(−u, e)) / 2
    variance = filters' × exp(2 h),         h = the even part of the net's other output

u: the last velocities, the filters' and their last residual, of this axis and of its partner (y of
x, h of w), all over f. e: logarithms of f, of the times between observations, of Δt and of the
filters' sigmas; the number of observations, which pair of axes it is, and the weight of the last
kind of motion. So the correction turns round with the motion, grows with the target and its speed,
is never more than the motion seen, and is zero for a target at rest; a network whose last layer is
zero is ``prediction.imm``. Past ``LONGEST_S`` ahead, further than it was trained, it grows no more.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.box import FloatArray, to_center
from prediction.imm import ImmPredictor, ImmState
from prediction.kalman import doubled_sides
from prediction.predictor import MIN_SIDE_PX, Estimates, IntArray, PredictorConfig, StatusArray
from prediction.weights import load_weights

DEPTH = 5
"""Observations looked at, the newest included."""
ODD = 2 * (DEPTH + 1)
EVEN = DEPTH + 7
WIDTH = 80
LONGEST_S = 0.6
SHAPES = {
    "w1": (ODD + EVEN, WIDTH),
    "b1": (WIDTH,),
    "w2": (WIDTH, WIDTH),
    "b2": (WIDTH,),
    "w3": (WIDTH, 2),
    "b3": (2,),
}
_FLOOR = 0.02
"""Motion under this many sides per second counts as this."""
_MOST = 6.0
"""Bound on an input of the network."""
MOST_LOG_RATIO = 2.0
"""Bound on h, so that the sigma stays within a factor of e² of the filter's."""
_PARTNER = np.array([1, 0, 3, 2])


@dataclass(frozen=True)
class ResidualState(ImmState):
    """A filter's state, and the last observations, newest last.

    stamps_ns: (N, DEPTH) int64. boxes: (N, DEPTH, 4), centered. ``count`` says how many are filled.
    """

    stamps_ns: IntArray
    boxes: FloatArray


class ResidualPredictor:
    """The interacting filters with a learned correction."""

    def __init__(self, config: PredictorConfig) -> None:
        self._weights = load_weights("residual", config.model, SHAPES)
        self._config = config
        self._filters = ImmPredictor(config)

    def blank(self, n: int) -> ResidualState:
        return with_history(self._filters.blank(n))

    def observe(
        self, state: ResidualState, stamp_ns: IntArray, boxes: FloatArray, status: StatusArray
    ) -> ResidualState:
        return observe(self._filters, state, stamp_ns, boxes, status)

    def predict(self, state: ResidualState, valid_at_ns: IntArray) -> Estimates:
        boxes, variances, status = self._filters.predict(state, valid_at_ns)
        dt = (valid_at_ns - state.stamp_ns[:, None]) * 1e-9
        dt = np.clip(dt, 0, min(LONGEST_S, self._config.max_horizon_ms * 1e-3))
        inputs, unit = network_inputs(state, dt)
        turned = np.concatenate([-inputs[..., :ODD], inputs[..., ODD:]], axis=-1)
        out = network(self._weights, np.stack([inputs, turned]))
        moved = np.tanh((out[0, ..., 0] - out[1, ..., 0]) / 2) * unit
        log_ratio = np.clip((out[0, ..., 1] + out[1, ..., 1]) / 2, -MOST_LOG_RATIO, MOST_LOG_RATIO)
        centered = to_center(boxes) + moved
        centered[..., 2:] = np.maximum(centered[..., 2:], MIN_SIDE_PX)
        centered[..., :2] -= centered[..., 2:] / 2
        return Estimates(centered, variances * np.exp(2 * log_ratio), status)


def with_history(state: ImmState) -> ResidualState:
    """A filter's state without past observations."""
    n = len(state.count)
    return ResidualState(
        **vars(state), stamps_ns=np.zeros((n, DEPTH), np.int64), boxes=np.zeros((n, DEPTH, 4))
    )


def observe(
    filters: ImmPredictor,
    state: ResidualState,
    stamp_ns: IntArray,
    boxes: FloatArray,
    status: StatusArray,
) -> ResidualState:
    """The filter's new state, and the observation behind the others where the filter took it."""
    new = filters.observe(state, stamp_ns, boxes, status)
    taken = (new.stamp_ns != state.stamp_ns) | (new.count != state.count)
    stamps = np.concatenate([state.stamps_ns[:, 1:], stamp_ns[:, None]], axis=1)
    history = np.concatenate([state.boxes[:, 1:], to_center(boxes)[:, None]], axis=1)
    return ResidualState(
        **vars(new),
        stamps_ns=np.where(taken[:, None], stamps, state.stamps_ns),
        boxes=np.where(taken[:, None, None], history, state.boxes),
    )


def network_inputs(state: ResidualState, dt: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inputs (N, m, 4, ODD + EVEN) and the correction's unit s f Δt, (N, m, 4) in px, for dt (N, m)
    in s from the last observation."""
    n, m = dt.shape
    position, velocity, pp, vv = (
        (values * state.weight).sum(axis=1)
        for values in (state.position, state.velocity, state.pp, state.vv)
    )
    sides = doubled_sides(position)
    steps = np.arange(DEPTH - 1)
    # Steps before the filter began repeat its first one.
    first = np.clip(DEPTH - state.count, 0, DEPTH - 2)
    index = np.maximum(steps, first[:, None])
    gaps = np.take_along_axis(np.diff(state.stamps_ns, axis=1), index, axis=1) * 1e-9
    gaps = np.where(state.count[:, None] > 1, np.clip(gaps, 1e-3, 1.0), 0.1)
    moved = np.take_along_axis(np.diff(state.boxes, axis=1), index[..., None], axis=1)
    moving = (state.count > 1)[:, None]
    rates = moved * (moving[..., None] / (gaps[..., None] * sides[:, None]))
    velocity = velocity / sides
    squares = ((rates**2).sum(axis=1) + velocity**2) / DEPTH
    size = np.sqrt((squares + squares[:, _PARTNER]) / 2 + _FLOOR**2)  # (N, 4)
    offset = moving * (state.boxes[:, -1] - position) / (sides * gaps[:, -1:])
    own = np.concatenate([rates, velocity[:, None], offset[:, None]], axis=1) / size[:, None]
    own = own.transpose(0, 2, 1)  # (N, 4, DEPTH + 1)

    inputs = np.empty((n, m, 4, ODD + EVEN))
    inputs[..., : DEPTH + 1] = own[:, None]
    inputs[..., DEPTH + 1 : ODD] = own[:, None, _PARTNER]
    inputs[..., ODD : ODD + DEPTH - 1] = np.log(gaps / 0.1)[:, None, None]
    even = inputs[..., ODD + DEPTH - 1 :]
    even[..., 0] = np.log(np.maximum(dt, 1e-3) / 0.1)[..., None]
    even[..., 1] = np.log(size)[:, None]
    even[..., 2] = np.log(size[:, [2, 3, 0, 1]])[:, None]
    even[..., 3] = np.log(np.sqrt(pp) / sides / 0.03)[:, None]
    even[..., 4] = np.log(np.sqrt(vv) / sides / size)[:, None]
    even[..., 5] = np.minimum(state.count, 2 * DEPTH)[:, None, None] / DEPTH - 1
    even[..., 6] = [-1, -1, 1, 1]
    even[..., 7] = state.weight[:, None, -1]
    unit = (sides * size)[:, None] * dt[..., None]
    return np.clip(inputs, -_MOST, _MOST), unit


def network(weights: dict[str, FloatArray], inputs: FloatArray) -> FloatArray:
    """(…, 2): g before its odd part is taken, and h before its even part is."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    hidden = np.tanh(rows @ weights["w1"] + weights["b1"])
    hidden = np.tanh(hidden @ weights["w2"] + weights["b2"])
    return (hidden @ weights["w3"] + weights["b3"]).reshape(*inputs.shape[:-1], 2)
