"""What other stations told, newest state of each object, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from comms.envelope import ClockQuality, Envelope
from comms.features import Features
from comms.reasons import Reason, Rejected
from comms.request import Request
from pipeline.box import FloatArray
from pipeline.objects import ObjectClass, Objects, joined
from pipeline.pose import Pose

MAX_OBJECTS_EACH = 256
MAX_CELLS_EACH, MAX_VALUES_EACH = 8192, 1 << 17
"""Of the feature layer, from one station."""
MAX_PEERS = 256
MAX_TOLD = 2048
"""Objects of all peers together that are looked at."""
MAX_REQUESTS = 16
_LONGEST = {
    ObjectClass.PERSON: 2.0, ObjectClass.CYCLIST: 3.0, ObjectClass.MOTORCYCLE: 3.5,
    ObjectClass.CAR: 8.0, ObjectClass.TRUCK: 26.0, ObjectClass.BUS: 26.0, ObjectClass.ANIMAL: 4.0,
}  # fmt: skip
LARGEST: FloatArray = np.array(
    [[_LONGEST.get(c, 10.0), min(_LONGEST.get(c, 10.0), 4.0), 10.0] for c in ObjectClass]
)
"""(classes, 3) m: length, width, height; nobody is believed to have seen a larger one."""
LEAST_VARIANCE: FloatArray = np.diag([0.05, 0.05, 0.05, 0.1, 0.1, 0.1]) ** 2
"""m², m²/s²: added to what anybody says of a place and a velocity."""
AGREED, DISAGREED = 2.0, 0.5
"""Evidence for and against a station before any."""
LOSS_MEMORY = 0.05
ENOUGH, ENOUGH_SENT = 3, 5
"""Messages of a station that came, and that it sent, which tell the share that is lost."""
MAX_GAP = 50
"""Of a sequence; a larger one is a station that began anew, or an old message."""
FLOOR_M, FLOOR_RAD = 0.1, 0.003
"""No claim of a pose is believed to be better."""
_FLOOR: FloatArray = np.diag([FLOOR_M, FLOOR_M, FLOOR_RAD]) ** 2
_PLANE = np.ix_([0, 1, 3], [0, 1, 3])


@dataclass
class Peer:
    """One other station.

    objects: of time 0; ``stamps_ns`` (N,) says which moment each state speaks for. origins: (N, 2)
    m, where the station said it was then. claimed: (3, 3), what it says of its pose's error over
    x, y and yaw. bias: (3,), by how much its pose is off as far as known, and bias_covariance;
    agreed, disagreed: evidence for and against it, fading, as of assessed_ns; 0: never. fit: share
    of what it places in our free view that is there. doubt: factor on the sigmas claimed, where
    nothing fits within them. features: the newest cells that it told, from (2,) m, where it said it
    was then.
    """

    station: int
    objects: Objects = field(default_factory=lambda: Objects.none(0))
    stamps_ns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    origins: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    pose: Pose | None = None
    clock: ClockQuality = ClockQuality.UNKNOWN
    request: Request | None = None
    heard_ns: int = 0
    claimed: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    bias: FloatArray = field(default_factory=lambda: np.zeros(3))
    bias_covariance: FloatArray | None = None
    assessed_ns: int = 0
    agreed: float = AGREED
    disagreed: float = DISAGREED
    fit: float = 1.0
    doubt: float = 1.0
    received: int = 0
    features: Features | None = None
    features_from: FloatArray = field(default_factory=lambda: np.zeros(2))
    _sequence: int = -1
    _missed: float = 0.0
    _came: float = 1.0

    @property
    def loss(self) -> float:
        """Share of its latest messages that did not come."""
        return self._missed / (self._missed + self._came)

    @property
    def counted(self) -> bool:
        """Whether ``loss`` is of enough messages to go by."""
        return self.received >= ENOUGH and self._missed + self._came > ENOUGH_SENT

    @property
    def trust(self) -> float:
        """In 0 to 1."""
        return self.agreed / (self.agreed + self.disagreed)

    def hear(self, envelope: Envelope, now_ns: int) -> None:
        """Note a message of any kind: pose, clock, and what was lost before it."""
        if self.pose is None or envelope.capture_ns >= self.pose.stamp_ns:
            self.pose, self.clock = envelope.pose, envelope.clock
            self.claimed = envelope.pose.covariance[_PLANE] + _FLOOR
        gap = (envelope.sequence - self._sequence) % 2**32 if self._sequence >= 0 else 0
        if 0 < gap <= MAX_GAP:
            kept = (1 - LOSS_MEMORY) ** gap
            missed = (1 - LOSS_MEMORY - kept) / LOSS_MEMORY
            self._missed, self._came = kept * self._missed + missed, kept * self._came + 1
        elif gap >= 2**31 and self._missed >= 1:  # it came late, and had counted as missed
            self._missed, self._came = self._missed - 1, self._came + 1
        if gap < 2**31:
            self._sequence = envelope.sequence
        self.heard_ns, self.received = now_ns, self.received + 1

    def put(self, envelope: Envelope, *told: Objects) -> None:
        """Take in what a message tells: its states replace older ones of the same objects."""
        ids = [i for part in told for i in part.ids.tolist()]
        if len(set(ids)) < len(ids):  # an id twice: the first one counts
            whole = joined(told)
            told = (whole.selected(np.unique(whole.ids, return_index=True)[1]),)
            ids = told[0].ids.tolist()
        keep = ~_among(self.objects.ids.tolist(), set(ids))
        newer = self.stamps_ns > envelope.capture_ns
        if newer.any():
            keep |= newer
            take = ~_among(ids, set(self.objects.ids[newer].tolist()))
            told = (joined(told).selected(take),)
        kept = int(keep.sum())
        if kept:
            told = (self.objects.selected(keep), *told)
        objects = joined(told, stamp_ns=0)  # new arrays, ours to change
        sizes, classes = objects.sizes[kept:], objects.classes[kept:]
        np.minimum(sizes, LARGEST[classes], out=sizes)
        objects.covariances[kept:] += LEAST_VARIANCE
        stamps = np.full(len(objects), envelope.capture_ns)
        stamps[:kept] = self.stamps_ns[keep]
        origins = np.empty((len(objects), 2))
        origins[:kept], origins[kept:] = self.origins[keep], envelope.pose.position[:2]
        self.objects, self.stamps_ns, self.origins = objects, stamps, origins
        if len(objects) > MAX_OBJECTS_EACH:
            self.keep(np.sort(np.argsort(self.stamps_ns, kind="stable")[-MAX_OBJECTS_EACH:]))

    def put_features(self, envelope: Envelope, features: Features) -> None:
        """Take in a message of cells: pieces of one moment add up, older ones change nothing.

        Raises:
            Rejected: more than is kept of one station; a piece with other cells than those of the
                same moment.
        """
        known = self.features
        if known is not None and features.stamp_ns < known.stamp_ns:
            return
        if known is not None and features.stamp_ns == known.stamp_ns:
            kinds = [(f.cell_m, f.values.shape[1]) for f in (known, features)]
            if kinds[0] != kinds[1]:
                raise Rejected(Reason.MALFORMED, "pieces of one moment with unlike cells")
            features = replace(
                features,
                cells=np.concatenate([known.cells, features.cells]),
                values=np.concatenate([known.values, features.values]),
            )
        if len(features) > MAX_CELLS_EACH or features.values.size > MAX_VALUES_EACH:
            raise Rejected(Reason.OVERSIZE, f"over {MAX_CELLS_EACH} cells of one moment")
        self.features, self.features_from = features, envelope.pose.position[:2]

    def keep(self, rows: npt.NDArray[np.generic]) -> None:
        """Only these; (N,) bool or indices."""
        self.objects = self.objects.selected(rows)
        self.stamps_ns, self.origins = self.stamps_ns[rows], self.origins[rows]


def _among(ids: Sequence[int], known: set[int]) -> npt.NDArray[np.bool_]:
    """(N,) of few ids, which of them are known: numpy's ``isin`` takes ten times as long."""
    return np.fromiter((i in known for i in ids), np.bool_, len(ids))


class Peers:
    """All other stations that were heard of lately. Not thread-safe."""

    def __init__(self, ttl_ns: int) -> None:
        self._ttl_ns = ttl_ns
        self.of: dict[int, Peer] = {}

    def get(self, station: int) -> Peer | None:
        """The station's record, a new one if there is room for it; None else."""
        peer = self.of.get(station)
        if peer is None and len(self.of) < MAX_PEERS:
            peer = self.of[station] = Peer(station)
        return peer

    def forget(self, now_ns: int, silent_ns: int) -> None:
        """Drop states past their time, and stations that fell silent."""
        for station in [s for s, p in self.of.items() if now_ns - p.heard_ns > silent_ns]:
            del self.of[station]
        for peer in self.of.values():
            fresh = now_ns - peer.stamps_ns <= self._ttl_ns
            if not fresh.all():
                peer.keep(fresh)
            if peer.features is not None and now_ns - peer.features.stamp_ns > self._ttl_ns:
                peer.features = None

    def telling(self, here: FloatArray) -> list[Peer]:
        """Peers of which objects are known. Where all tell of too many, each keeps those that are
        nearest to ``here`` (3,)."""
        peers = [p for p in self.of.values() if len(p.objects)]
        if sum(len(p.objects) for p in peers) > MAX_TOLD:
            quota = max(1, MAX_TOLD // len(peers))
            for peer in peers:
                if len(peer.objects) > quota:
                    away = ((peer.objects.positions - here) ** 2).sum(axis=1)
                    peer.keep(np.sort(np.argsort(away, kind="stable")[:quota]))
        return peers

    def requests(self, now_ns: int, here: FloatArray) -> list[Request]:
        """Those that are not over, of the stations that are nearest to ``here`` (3,)."""
        found = [
            (float(np.linalg.norm(p.pose.position - here)), p.station, p.request)
            for p in self.of.values()
            if p.request is not None and p.pose is not None
            and now_ns - p.request.plan.stamp_ns <= self._ttl_ns
        ]  # fmt: skip
        return [request for _, _, request in sorted(found)[:MAX_REQUESTS]]
