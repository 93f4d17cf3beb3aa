"""One V2X station: own perception in, messages out; messages in, fused objects out.

Knows no clock and no socket: times and datagrams are handed in. Nothing that comes in raises.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from comms import codec, feature_layer, request
from comms.alignment import ALIGN, Align, predict
from comms.belief import Belief
from comms.budget import Budget, Rows
from comms.certificates import CERTIFICATE_BYTES
from comms.config import V2xConfig
from comms.consistency import LEAST_TRUST, assess, told_by
from comms.envelope import (
    HEADER_BYTES,
    MAX_TTL_MS,
    MTU,
    Body,
    ClockQuality,
    Content,
    Envelope,
    Layer,
    pack,
)
from comms.features import Features
from comms.features import decode as decode_cells
from comms.features import encode as encode_cells
from comms.fusion import Fused, fuse
from comms.gate import Gate
from comms.motion import horizontal, predicted
from comms.peers import Peer, Peers
from comms.reasons import Reason, Rejected
from comms.request import Plan, Sight
from comms.selectors import Scene, make_selector
from comms.signing import (
    ASKING,
    HINT_BYTES,
    MAX_ASKED,
    OVERHEAD_BYTES,
    UNSIGNED,
    WITH_CERTIFICATE,
    Signer,
    frame_unsigned,
    hint_of,
    split,
)
from comms.turning import TurnRates, along_chord
from pipeline.errors import InputError
from pipeline.objects import ObjectClass, Objects, joined
from pipeline.pose import Pose

FEATURE_LEVEL = 0.5
"""Of what may be saved up: what is above, after the objects, is for features."""
REQUEST_SHARE = 0.05
"""Of the budget, at most, for requests."""
CERTIFICATE_SHARE = 0.1
"""The same for certificates that go along more often since much is lost."""
SILENT_NS = 5_000_000_000
AGES = 512


@dataclass(frozen=True, slots=True)
class Report:
    """A station's counters.

    sent_bytes: by kind: payload (of objects), header, signature, request, features. sent, received:
    messages. peers: heard lately. loss: of the messages of all peers. age_ns: quantiles 50, 95
    and 99 % of the age of what was fused. rejected: by reason. distrusted: peers not fused.
    unsure: objects, of all fusions, that were left out since their places were not sure enough.
    """

    sent_bytes: dict[str, int]
    sent: int
    received: int
    peers: int
    loss: float
    age_ns: tuple[int, int, int]
    rejected: dict[str, int]
    distrusted: int
    unsure: int


class Station:
    """Not thread-safe.

    config: what to share. gate: checks what comes in. signer: None sends unsigned. align: how late
    data come to the moment of fusion; ``config.alignment`` where not given. clock: quality of this
    station's clock. copies: how often the link sends each datagram; all of them count.
    """

    def __init__(
        self,
        config: V2xConfig,
        gate: Gate,
        signer: Signer | None = None,
        align: Align | None = None,
        clock: ClockQuality = ClockQuality.NTP,
        copies: int = 1,
    ) -> None:
        if signer is not None and signer.station != config.station:
            raise InputError(
                f"v2x.station is {config.station}, the certificate is of station {signer.station}; "
                "set v2x.station, or give that station's credentials"
            )
        self.config = config
        self._gate, self._signer, self._clock, self._copies = gate, signer, clock, copies
        self._align = align or ALIGN[config.alignment]
        self._selector = make_selector(config)
        self._content = Content[config.content.upper()]
        kind = ObjectClass[config.vehicle_class.upper()]
        self._body = Body(kind, config.length_m, config.width_m, config.height_m)
        self._budget = Budget(
            config.budget_bytes_s,
            copies * (self._most_overhead() + 1 + codec.head_bytes(self._content)),
            copies * codec.object_bytes(self._content),
            config.reserved_share,
        )
        if signer is not None and config.budget_bytes_s:
            share = CERTIFICATE_SHARE * config.budget_bytes_s / copies
            signer.least_ns = max(signer.least_ns, round(1e9 * CERTIFICATE_BYTES / share))
        self._sequence: int | None = None
        self._sent = Counter[str]()
        self._rejected = Counter[str]()
        self._messages = self._received = self._unsure = 0
        self.reset()

    def reset(self) -> None:
        """Forget all but the counters: the clock jumped, or a new run begins."""
        self._peers = Peers(round(self.config.ttl_ms * 1e6))
        self._belief = Belief(self.config.ttl_ms * 1e-3, self.config.max_sigma_m)
        self._own: Objects | None = None
        self._pose: Pose | None = None
        self._plan: Plan | None = None
        self._sight: Sight | None = None
        self._features: Features | None = None
        self._turns = TurnRates()
        self._budget.reset()
        self._sent_ns = self._requested_ns = -(10**18)
        self._ages: deque[int] = deque(maxlen=AGES)
        self._delays: deque[int] = deque(maxlen=AGES)

    # own perception

    def see(
        self,
        own: Objects,
        pose: Pose,
        plan: Plan | None = None,
        sight: Sight | None = None,
        features: Features | None = None,
    ) -> None:
        """The newest of this vehicle: what it perceives, where it is, where it means to go and how
        far its view is free, as of ``own.stamp_ns``; and a map of cells, of its own moment, which
        is sent once at most; None keeps the last one.

        Raises:
            InputError: a pose in another frame than ``config.frame_id``.
        """
        if pose.frame_id != self.config.frame_id:
            raise InputError(
                f"pose in frame {pose.frame_id!r:.40}, v2x.frame_id is "
                f"{self.config.frame_id!r:.40}: stations that share must share a frame"
            )
        self._own, self._pose, self._plan, self._sight = own, pose, plan, sight
        self._peers.forget(own.stamp_ns, SILENT_NS)
        self._features = self._features if features is None else features
        anchored = joined([own, self._itself(own.stamp_ns)])
        if self.config.sender_prediction:
            self._turns.observe(anchored)
        peers = self._telling()
        if peers:
            told = told_by(peers, own.stamp_ns, self._align, pose)
            assess(peers, told, anchored, pose, sight, own.stamp_ns)

    def _itself(self, at_ns: int) -> Objects:
        """This vehicle as an object."""
        assert self._pose is not None
        return predicted(codec.sender(self._pose, self._body), at_ns)

    # out

    def outgoing(self, now_ns: int) -> list[bytes]:
        """Datagrams to send now, within the budget; none while there is nothing to tell."""
        self._budget.fill(now_ns)
        if self._own is None or self._pose is None or not self._budget.bytes_s:
            return []
        if now_ns - self._sent_ns < 0.99e9 / self.config.rate_hz:
            return []
        if self._signer is not None:
            self._signer.loss = self.loss
        wish = self._due_request(now_ns, self._own.stamp_ns)
        tells = self._may_send(Layer.OBJECTS)
        out = self._objects(now_ns, wish) if tells else []
        if wish and not out and (self._overdue(wish, now_ns) or not tells):
            pose = self._pose_at(self._own.stamp_ns)
            out = [self._message(Layer.REQUEST, wish, pose, now_ns)]
            self._sent["request"] += len(wish)
        if wish and out:
            self._requested_ns = now_ns
        out += self._cells(now_ns)
        if out:
            self._sent_ns = now_ns
        return out

    def _cells(self, now_ns: int) -> list[bytes]:
        """Messages of features in peers' corridors, from what the budget has left over."""
        own, bits = self._features, self.config.feature_bits
        room = self._budget.left - FEATURE_LEVEL * self._budget.most
        requests = [] if self._pose is None else self._peers.requests(now_ns, self._pose.position)
        overhead = self._overhead(now_ns)
        if own is None or not bits or not requests or room <= overhead:
            return []
        if not self._may_send(Layer.FEATURES):
            return []
        if not 0 <= now_ns - own.stamp_ns <= self.config.ttl_ms * 1e6:
            return []
        pose = self._pose_at(own.stamp_ns)
        try:
            cells = feature_layer.wanted(own, requests, pose.position[:2])
            payloads = encode_cells(cells, bits, MTU - overhead)
        except InputError:  # of cells that no message holds: objects must not suffer
            return []
        costs = np.cumsum([self._copies * (overhead + len(p)) for p in payloads])
        payloads = payloads[: int(np.searchsorted(costs, room, "right"))]
        out = [self._message(Layer.FEATURES, payload, pose, now_ns) for payload in payloads]
        self._sent["features"] += sum(map(len, payloads))
        if out:
            self._features = None
        return out

    def _may_send(self, layer: Layer) -> bool:
        """Whether this station's certificate, where it has one, is for a layer."""
        return self._signer is None or layer in self._signer.layers

    def _overhead(self, now_ns: int) -> int:
        """Of the next message around its payload."""
        if self._signer is None:
            return HEADER_BYTES + OVERHEAD_BYTES[UNSIGNED]
        return HEADER_BYTES + self._signer.overhead(now_ns)

    def _most_overhead(self) -> int:
        """The same with certificate and asks."""
        if self._signer is None:
            return self._overhead(0)
        return HEADER_BYTES + OVERHEAD_BYTES[WITH_CERTIFICATE] + 1 + HINT_BYTES * MAX_ASKED

    def _due_request(self, now_ns: int, capture_ns: int) -> bytes:
        """The payload of a request in a message of ``capture_ns``, if one is due and there are
        bytes for it; else nothing."""
        plan = self._plan
        if (
            plan is None
            or not self._selector.asks
            or not self._may_send(Layer.REQUEST)
            or now_ns - plan.stamp_ns > plan.times_s[-1] * 1e9
        ):
            return b""
        payload = request.encode(plan, self._sight, self._pose_at(capture_ns), capture_ns)
        late = now_ns - self._requested_ns >= 1e9 * self._request_period(payload)
        return (
            payload
            if late and self._copies * (self._overhead(now_ns) + len(payload)) <= self._budget.left
            else b""
        )

    def _request_period(self, payload: bytes) -> float:
        """s between requests, of which objects must not suffer."""
        share = REQUEST_SHARE * self.config.budget_bytes_s
        return max(self.config.request_s, self._copies * len(payload) / share)

    def _overdue(self, payload: bytes, now_ns: int) -> bool:
        """Whether a request that found no message of objects to travel with goes alone."""
        return now_ns - self._requested_ns >= 2e9 * self._request_period(payload)

    def _objects(self, now_ns: int, wish: bytes) -> list[bytes]:
        """Messages of objects; the first one carries a request as well."""
        assert self._own is not None
        at_ns = self._own.stamp_ns
        objects = joined([self._itself(at_ns), self._own])
        first = np.sort(np.unique(objects.ids, return_index=True)[1])
        objects = objects.selected(first)  # an id that is this vehicle's own, or is there twice
        pose = self._pose_at(at_ns)
        near = np.linalg.norm(objects.positions - pose.position, axis=1) <= self.config.range_m
        objects = objects.selected(near & (objects.quality >= self.config.min_quality))
        delay_s, loss = self._delay_s(), self.loss
        belief = self._belief.of(objects, at_ns, delay_s)
        requests = self._peers.requests(now_ns, pose.position)
        scene = Scene(
            objects, belief, self._heard(at_ns), pose, requests, at_ns, delay_s, loss,
            len(requests) < len(self._peers.of),
        )  # fmt: skip
        around = self._overhead(now_ns) + 1 + codec.head_bytes(self._content)
        each = codec.capacity(self._content, MTU - self._overhead(now_ns) - 1 - len(wish))
        extra = len(wish) * self._copies
        chosen = self._budget.choose(
            self._selector.choose(scene), extra, each, around * self._copies
        )
        if not len(chosen):
            return []
        if self.config.sender_prediction:
            objects = along_chord(objects, self._turns.of(objects.ids), delay_s)
        out: list[bytes] = []
        told = [np.zeros(1, np.intp)]  # this vehicle itself is in every envelope
        rows = chosen[chosen > 0]
        while len(rows) or not out:
            part, payload = self._fitting(objects, rows, pose, len(wish), now_ns)
            if payload is None:
                break
            content = bytes([len(wish)]) + wish + payload
            out.append(self._message(Layer.OBJECTS, content, pose, now_ns))
            self._sent["request"] += len(wish)
            wish = b""
            told.append(part)
            rows = rows[len(part) :]
        if out:
            self._belief.told(objects, belief, np.concatenate(told), loss)
        return out

    def _fitting(
        self, objects: Objects, rows: Rows, pose: Pose, wish: int, now_ns: int
    ) -> tuple[Rows, bytes | None]:
        """The first of the rows that one message holds, and its payload; None if there is no
        message in what is left of the budget. wish: bytes of a request."""
        around = self._overhead(now_ns) + 1 + wish
        room = min(MTU, int(self._budget.left / self._copies)) - around
        # Some more than usually fit, of which some are taken off: sizes differ.
        count = min(len(rows), codec.capacity(self._content, int(1.2 * room)))
        while room > 0 and (count or not len(rows)):
            payload = codec.encode(
                objects.selected(rows[:count]), pose, pose.stamp_ns, self._content,
                self.config.station,
            )  # fmt: skip
            if len(payload) <= room:
                return rows[:count], payload
            if not count:
                break
            count = min(count - 1, int(count * room / len(payload)))
        return rows[:0], None

    def _message(self, layer: Layer, payload: bytes, pose: Pose, now_ns: int) -> bytes:
        if self._sequence is None:  # ahead of what this station may have sent before it restarted
            self._sequence = now_ns // 1_000_000 % 2**32
        envelope = Envelope(
            self.config.station, self._sequence, pose.stamp_ns,
            min(round(self.config.ttl_ms), MAX_TTL_MS), pose, self._clock, layer, self._content,
            self._body, payload,
        )  # fmt: skip
        self._sequence = (self._sequence + 1) % 2**32
        packed = pack(envelope)
        data = self._signer.sign(packed, now_ns) if self._signer else frame_unsigned(packed)
        self._messages += 1
        self._budget.spend(len(data) * self._copies)
        self._sent["payload"] += len(payload)
        self._sent["header"] += HEADER_BYTES
        self._sent["signature"] += len(data) - len(packed)
        return data

    def _pose_at(self, at_ns: int) -> Pose:
        assert self._pose is not None
        pose = self._pose
        dt = (at_ns - pose.stamp_ns) * 1e-9
        return replace(pose, stamp_ns=at_ns, position=pose.position + dt * pose.velocity)

    def _heard(self, at_ns: int) -> Objects:
        """What others told of late, as far as receivers will use it."""
        peers = [p for p in self._telling() if p.trust >= LEAST_TRUST]
        if not peers:
            return Objects.none(at_ns)
        stamps = np.concatenate([p.stamps_ns for p in peers])
        heard = predict(joined([p.objects for p in peers]), stamps, at_ns)
        use = heard.quality >= self.config.min_quality
        return heard.selected(use & (horizontal(heard.covariances) <= self.config.max_sigma_m))

    def _telling(self) -> list[Peer]:
        """Peers of which objects are known."""
        assert self._pose is not None
        return self._peers.telling(self._pose.position)

    def _delay_s(self) -> float:
        """Measured from the capture of others' data to their arrival here: what ours will have."""
        return float(np.median(self._delays)) * 1e-9 if self._delays else 0.0

    # in

    def incoming(self, data: bytes, now_ns: int) -> Envelope | None:
        """A datagram; whatever is wrong with it is counted under its reason. What was taken."""
        try:
            envelope = self._gate.admit(data, now_ns)
            self._take(envelope, now_ns)
            if self._signer is not None and data[0] & ASKING:
                self._signer.heard(split(data).asked, self._gate.verifies)
            return envelope
        except Rejected as rejected:
            self._rejected[rejected.reason.value] += 1
            if rejected.reason is Reason.UNKNOWN_SIGNER and self._signer is not None:
                framed = split(data)
                self._signer.ask(hint_of(framed.signer))
                self._signer.heard(framed.asked, False)
        except InputError:
            self._rejected[Reason.MALFORMED.value] += 1
        return None

    def _take(self, envelope: Envelope, now_ns: int) -> None:
        objects = wish = cells = None
        payload = envelope.payload
        if envelope.layer == Layer.OBJECTS:
            length = payload[0] if payload else 0
            wish = request.decode(payload[1 : 1 + length], envelope) if length else None
            objects = codec.decode(payload[1 + length :], envelope)
        elif envelope.layer == Layer.REQUEST:
            wish = request.decode(payload, envelope)
        elif envelope.layer == Layer.FEATURES:
            cells = decode_cells(payload, envelope)
        known = envelope.station in self._peers.of
        peer = self._peers.get(envelope.station)
        if peer is None:
            raise Rejected(Reason.STATIONS, f"over {len(self._peers.of)} stations at once")
        if not known and self._signer is not None:
            self._signer.met()
        peer.hear(envelope, now_ns)
        self._received += 1
        if cells is None:  # maps take longer to make
            self._delays.append(max(0, now_ns - envelope.capture_ns))
        itself = codec.sender(envelope.pose, envelope.body, envelope.station)
        peer.put(envelope, *([itself, objects] if objects else [itself]))
        if cells is not None:
            peer.put_features(envelope, cells)
        if wish is not None and (
            peer.request is None or peer.request.plan.stamp_ns <= wish.plan.stamp_ns
        ):
            peer.request = wish

    # fused

    def fused(self, valid_at_ns: int, now_ns: int) -> Fused:
        """Own perception and what others told, at any moment near now; own perception alone while
        nothing else is known, nothing at all before any."""
        self._peers.forget(now_ns, SILENT_NS)
        if self._own is None or self._pose is None:
            return Fused.alone(Objects.none(valid_at_ns))
        own = predicted(self._own, valid_at_ns).derived(ready_ns=now_ns)
        peers = self._telling()
        told = told_by(peers, valid_at_ns, self._align, self._pose)
        for peer in peers:
            self._ages.extend((valid_at_ns - peer.stamps_ns).tolist())
        fused = fuse(
            own, peers, told, self._pose, self._sight,
            size=(self.config.length_m, self.config.width_m),
            kind=ObjectClass[self.config.vehicle_class.upper()],
            range_m=self.config.range_m, max_sigma_m=self.config.max_sigma_m,
            min_quality=self.config.min_quality,
        )  # fmt: skip
        self._unsure += fused.unsure
        return fused

    def features(self, valid_at_ns: int, now_ns: int) -> Features | None:
        """What trusted peers told of their cells, at any moment near now, in this station's frame
        (comms/feature_layer.py); None while nobody told any."""
        self._peers.forget(now_ns, SILENT_NS)
        if self._pose is None:
            return None
        peers = [p for p in self._peers.of.values() if p.trust >= LEAST_TRUST]
        here = self._pose.position[:2]
        return feature_layer.gathered(peers, valid_at_ns, self._align, here, self.config.range_m)

    @property
    def peers(self) -> Mapping[int, Peer]:
        """Stations that were heard lately, by number."""
        return self._peers.of

    @property
    def loss(self) -> float:
        """Share of the messages of a peer that did not arrive, as their sequences show: the median
        of the trusted ones."""
        peers = [p.loss for p in self._peers.of.values() if p.counted and p.trust >= LEAST_TRUST]
        return float(np.median(peers)) if peers else 0.0

    def report(self) -> Report:
        """Counters so far."""
        ages = np.array(self._ages or [0], np.int64)
        p50, p95, p99 = (int(v) for v in np.percentile(ages, (50, 95, 99)))
        sent = {k: self._copies * v for k, v in self._sent.items()}
        kinds = {k: sent.get(k, 0) for k in ("header", "signature", "request", "features")}
        objects = sent.get("payload", 0) - kinds["request"] - kinds["features"]
        return Report(
            {"payload": objects, **kinds},
            self._messages, self._received, len(self._peers.of), self.loss, (p50, p95, p99),
            dict(self._rejected), sum(bool(p.trust < LEAST_TRUST) for p in self._peers.of.values()),
            self._unsure,
        )  # fmt: skip
