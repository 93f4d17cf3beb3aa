"""Cells that a peer's plan needs, and peers' cells brought to one moment on one grid.

Channel 0 of a cell is how surely it is occupied. What stands where a peer tells of an object moves
as that object does; all else stays. So a late map of moving things is set right without knowing
what its channels mean.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from comms.alignment import Align
from comms.features import MAX_SIDE, Features
from comms.peers import Peer
from comms.request import Request
from comms.statures import TYPICAL
from pipeline.box import FloatArray
from pipeline.objects import Objects

MAX_REQUESTS = 16
"""Corridors that are looked at, the nearest ones."""
MAX_CELLS_SENT = 16_384
STILL = 0.25
"""Of a cell's side: what moves less need not be moved."""
MAX_PAIRS = 1 << 17
"""Of a cell and an object that may own it, of one peer; what is more stays where it was."""
MAX_CELLS = 1 << 17
"""That are looked at, of all peers, newest maps first."""


def wanted(features: Features, requests: Sequence[Request], here: FloatArray) -> Features:
    """The cells in peers' corridors, those nearest to where their plans begin first.

    here: (2,) m, this station's place; what is farther than one message reaches is left out.
    """
    at = np.floor(here / features.cell_m)
    within = np.abs(features.cells - at).max(axis=1, initial=0) < MAX_SIDE // 2 - 1
    features = features.selected(np.flatnonzero(within))
    begins = np.array([r.plan.points[0] for r in requests]).reshape(-1, 2)
    order = np.argsort(np.linalg.norm(begins - here, axis=1), kind="stable")[:MAX_REQUESTS]
    urgency = np.full(len(features), np.inf)
    centers = features.centers()
    for k in order.tolist():
        plan = requests[k].plan
        line = np.concatenate([plan.points, plan.points[-1:]])
        low, high = line.min(axis=0) - plan.width_m, line.max(axis=0) + plan.width_m
        rows = np.flatnonzero(((centers >= low) & (centers <= high)).all(axis=1))
        rows = rows[features.selected(rows).along(line, plan.width_m)]
        away = np.linalg.norm(centers[rows] - plan.points[0], axis=1)
        urgency[rows] = np.minimum(urgency[rows], away)
    rows = np.argsort(urgency, kind="stable")[:MAX_CELLS_SENT]
    return features.selected(rows[np.isfinite(urgency[rows])])


def gathered(
    peers: Sequence[Peer], at_ns: int, align: Align, here: FloatArray, range_m: float
) -> Features | None:
    """What peers told, at ``at_ns``: the bias of each one's pose taken out, objects moved on; of
    cells that fall onto each other, the one that is most surely occupied. None: nothing was told.

    here: (2,) m; nothing farther than ``range_m`` from it. Peers whose cells have another side or
    number of channels than the newest ones are left out: they mean something else.
    """
    heard = [(p, p.features) for p in peers if p.features is not None and len(p.features)]
    if not heard:
        return None
    heard.sort(key=lambda pair: -pair[1].stamp_ns)
    side, channels = heard[0][1].cell_m, heard[0][1].values.shape[1]
    cells, values, room = [], [], MAX_CELLS
    for peer, features in heard:
        room -= len(features)
        if features.cell_m == side and features.values.shape[1] == channels and room >= 0:
            points = _moved(features, peer, at_ns, align)
            near = np.linalg.norm(points - here, axis=1) <= range_m
            cells.append(np.floor(points[near] / side).astype(np.int32))
            values.append(features.values[near])
    all_cells, all_values = np.concatenate(cells), np.concatenate(values)
    order = np.argsort(-np.clip(all_values[:, 0], 0, 1), kind="stable")
    _, first = np.unique(_keys(all_cells[order]), return_index=True)
    rows = order[first]
    return Features(at_ns, side, all_cells[rows], all_values[rows])


def _moved(features: Features, peer: Peer, at_ns: int, align: Align) -> FloatArray:
    """(K, 2) m, the cells' centers at ``at_ns``."""
    points = features.centers()
    then = align(peer.objects, peer.stamps_ns, features.stamp_ns)
    shift = align(peer.objects, peer.stamps_ns, at_ns).positions[:, :2] - then.positions[:, :2]
    moves = np.linalg.norm(shift, axis=1) > STILL * features.cell_m
    owner = _owners(features, then.selected(moves))
    shifts = np.concatenate([shift[moves], np.zeros((1, 2))])
    away = points - peer.features_from
    turned = np.stack([-away[:, 1], away[:, 0]], axis=1)
    return np.asarray(points + shifts[owner] + peer.bias[:2] + peer.bias[2] * turned)


def _owners(features: Features, objects: Objects) -> npt.NDArray[np.intp]:
    """(K,) row of the object in whose box, and half a cell around it, a cell's center lies; −1:
    none. Where the heading is not known, it is that of the velocity."""
    side = features.cell_m
    yaws = np.where(
        np.isfinite(objects.yaws),
        objects.yaws,
        np.arctan2(objects.velocities[:, 1], objects.velocities[:, 0]),
    )
    c, s = np.cos(yaws), np.sin(yaws)
    sizes = np.where(objects.sizes > 0, objects.sizes, TYPICAL[objects.classes])[:, :2]
    half = sizes / 2 + side / 2
    around = np.abs(np.stack([c, s], 1)) * half[:, :1] + np.abs(np.stack([s, c], 1)) * half[:, 1:]
    low = np.floor((objects.positions[:, :2] - around) / side).astype(np.int64)
    high = np.floor((objects.positions[:, :2] + around) / side).astype(np.int64)
    width, height = (high - low + 1).T
    counts = width * height
    counts[np.cumsum(counts) > MAX_PAIRS] = 0
    of = np.repeat(np.arange(len(objects)), counts)
    nth = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    i, j = low[of, 0] + nth % width[of], low[of, 1] + nth // width[of]

    away = (np.stack([i, j], axis=1) + 0.5) * side - objects.positions[of, :2]
    along = np.abs(away[:, 0] * c[of] + away[:, 1] * s[of])
    across = np.abs(away[:, 1] * c[of] - away[:, 0] * s[of])
    inside = np.flatnonzero((along <= half[of, 0]) & (across <= half[of, 1]))
    nearest_last = inside[np.argsort(-np.hypot(along, across)[inside], kind="stable")]
    keys, whose = np.unique(_keys(features.cells), return_inverse=True)
    wanted_keys = _keys(np.stack([i, j], axis=1)[nearest_last])
    at = np.minimum(np.searchsorted(keys, wanted_keys), len(keys) - 1)
    hit = keys[at] == wanted_keys
    owner = np.full(len(keys), -1)
    owner[at[hit]] = of[nearest_last[hit]]
    return np.asarray(owner[whose])


def _keys(cells: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(K,) one number a cell."""
    wide = cells.astype(np.int64)
    return np.asarray(wide[:, 0] * 2**32 + wide[:, 1])
