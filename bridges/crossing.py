"""An ego that drives up to a crossing where it cannot see who comes: a closed loop on SUMO.

The ego comes from the south and has to let cross traffic pass. A house at each corner hides the
cross street, or a parked truck hides somebody who steps out from behind it. Seeded: who it is, from
which side, how fast, and how much before or after the ego it reaches the place where their ways
meet; more traffic behind and ahead of it. Cross traffic has priority and does not brake for the
ego. Others who can see: the oncoming vehicle, which waits at the crossing and has V2X, perhaps a
UAV above, perhaps the hidden one itself.

SUMO moves all vehicles, the ego with the speed that it is told, within what brakes and engine do;
somebody on foot walks on without looking. Contact is that of the bodies' rectangles.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bridges.actors import BODY, Building, Snapshot, checked_horizon, joined
from bridges.footprints import overlaps, rectangle
from bridges.sumo_session import SumoActors, SumoSession
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.objects import ObjectClass

KINDS = ("car", "bicycle", "person")
LANE = 1.75
"""Half of a lane's width: the middle of a lane from the middle of the road, m."""
ARM_M = 260.0
BRAKE, ENGINE = 6.5, 2.0
"""m/s² that the ego can do."""
PASSED_M = 25.0
LONGEST_S = 40.0
TTC_HORIZON_S = 5.0
_EGO, _HIDDEN = "ego", "hidden"
_STATIC_ID, _WALKER_ID, _UAV_ID, _FIRST_ID = 1, 2, 3, 4
_NODES = f"""<nodes><node id="c" x="0" y="0" type="priority"/>
<node id="s" x="0" y="-{ARM_M}"/><node id="n" x="0" y="{ARM_M}"/>
<node id="w" x="-{ARM_M}" y="0"/><node id="e" x="{ARM_M}" y="0"/></nodes>"""
_EDGES = (
    "<edges>"
    + "".join(
        f'<edge id="{a}{b}" from="{a}" to="{b}" numLanes="1" width="3.5" speed="30" '
        f'priority="{9 if x in "we" else 1}"/>'
        for x in "snwe"
        for a, b in ((x, "c"), ("c", x))
    )
    + "</edges>"
)
_TYPES = """<additional>
<vType id="ego" length="4.6" width="1.8" height="1.5" accel="20" decel="20" emergencyDecel="20"/>
<vType id="car" length="4.6" width="1.8" height="1.5" sigma="0" jmIgnoreJunctionFoeProb="1"/>
<vType id="oncoming" length="4.6" width="1.8" height="1.5" sigma="0"/>
<vType id="bicycle" vClass="bicycle" length="1.8" width="0.65" height="1.75" sigma="0"
 jmIgnoreJunctionFoeProb="1"/>
</additional>"""


@dataclass(frozen=True)
class CrossingConfig(Config):
    """The closed-loop scene's options."""

    step_s: float = option(0.05, "Seconds a step.", low=0.02, high=0.1)
    cruise_mps: float = option(12.0, "What the ego wishes to drive.", low=4, high=20)
    spread_s: float = option(1.0, "How much earlier or later the other comes.", low=0, high=10)
    equipped: float = option(0.3, "Chance of others to have V2X.", low=0, high=1)
    uav: float = option(0.5, "Chance of a UAV above the crossing.", low=0, high=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a step came to.

    collision: the ego touches somebody now. ttc_s: seconds until it would, were all to keep their
    velocities; at most 5. passed: the ego is 25 m behind the crossing. over: nothing more comes.
    """

    snapshot: Snapshot
    collision: bool
    ttc_s: float
    passed: bool
    over: bool


class Crossing:
    """One encounter; a ``TrafficWorld`` whose ``step`` takes the ego's speed."""

    _network = ""

    def __init__(self, seed: int, config: CrossingConfig | None = None) -> None:
        """
        Raises:
            InputError: SUMO is missing or busy.
        """
        self._config = config = config or CrossingConfig()
        self.step_s = config.step_s
        rng = np.random.default_rng([seed, 0xC055])
        self._draw(rng)
        self._session = SumoSession()
        self._api: Any = self._session.api
        try:
            self._start(seed, rng)
        except BaseException:
            self._session.close()
            raise

    def _draw(self, rng: np.random.Generator) -> None:
        """All that is random but the traffic: kind, distances, times, houses."""
        c = self._config
        self.kind = KINDS[int(rng.choice(3, p=[0.5, 0.15, 0.35]))]
        self.start_m = float(rng.uniform(65, 90))
        late = float(rng.uniform(-c.spread_s, c.spread_s))
        corner = rng.uniform(5.5, 9.0, (4, 2))
        height = rng.uniform(6, 16, 4)
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        if self.kind == "person":  # the truck hides them, not the house
            corner[1] = 8.0, 14.0
        self.buildings = tuple(
            Building(rectangle(np.minimum(sign * at, sign * 60), np.maximum(sign * at, sign * 60)),
                     float(h))
            for sign, at, h in zip(signs, corner, height, strict=True)
        )  # fmt: skip
        self._walks = self.kind == "person"
        self._truck = self._walks or bool(rng.random() < 0.4)
        self._truck_y = float(rng.uniform(-26, -19))
        walker_y = self._truck_y + 4.25 + float(rng.uniform(0.6, 1.5))
        self._from_west = bool(rng.random() < 0.5)
        meet_y = walker_y if self._walks else (-LANE if self._from_west else LANE)
        self._meet_s = (self.start_m + meet_y) / c.cruise_mps + late
        self._walker = np.array([6.4, walker_y])
        self._walk_mps = float(rng.uniform(1.2, 2.0))
        speed = rng.uniform(8, 14) if self.kind == "car" else rng.uniform(4, 6)
        self._hidden_mps = float(speed)
        self._uav_at: FloatArray | None = None
        spot = rng.uniform((-20, -20, 40), (20, 20, 60))
        if rng.random() < c.uav:
            self._uav_at = spot

    def _start(self, seed: int, rng: np.random.Generator) -> None:
        c, s = self._config, self._session
        (s.folder / "t.add.xml").write_text(_TYPES)
        if not Crossing._network:  # the same one in every encounter
            (s.folder / "n.nod.xml").write_text(_NODES)
            (s.folder / "e.edg.xml").write_text(_EDGES)
            s.run("netconvert", "-n", "n.nod.xml", "-e", "e.edg.xml", "-o", "x.net.xml",
                  "--no-turnarounds", "--offset.disable-normalization")  # fmt: skip
            Crossing._network = (s.folder / "x.net.xml").read_text()
        (s.folder / "x.net.xml").write_text(Crossing._network)
        s.start(self.step_s, seed % 2**31, "-n", str(s.folder / "x.net.xml"), "-a",
                str(s.folder / "t.add.xml"), "--collision.action", "none",
                "--time-to-teleport", "-1")  # fmt: skip
        known = {_EGO, "oncoming0"} | ({_HIDDEN} if rng.random() < c.equipped else set())
        draws = rng.random(32)
        self._actors = SumoActors(
            self._api, self.step_s, _FIRST_ID,
            lambda number, name: name in known or bool(draws[number % 32] < c.equipped),
        )  # fmt: skip
        self._add(_EGO, "ego", "sc", "cn", self.start_m, c.cruise_mps)
        self._api.vehicle.setSpeedMode(_EGO, 0)
        self._api.vehicle.setLaneChangeMode(_EGO, 0)
        self._api.vehicle.setSpeed(_EGO, c.cruise_mps)
        near, far = ("w", "e") if self._from_west else ("e", "w")
        if not self._walks:
            middle = LANE if self._from_west else -LANE
            away = self._meet_s * self._hidden_mps - middle * (1 if self._from_west else -1)
            self._add(_HIDDEN, self.kind, f"{near}c", f"c{far}", away - 0.5, self._hidden_mps)
        for k in range(int(rng.integers(1, 3))):
            away = float(rng.uniform(25, 45)) + 45 * k
            self._add(f"oncoming{k}", "oncoming", "nc", "cs", away, 6.0)
            self._api.vehicle.setMaxSpeed(f"oncoming{k}", 11.0)
        for k in range(int(rng.integers(0, 3))):  # far behind the hidden one, on either side
            arm = "we"[int(rng.integers(2))]
            self._add(f"other{k}", "car", f"{arm}c", f"c{'ew'['we'.index(arm)]}",
                      float(rng.uniform(170, 195)) + 30 * k, 11.0)  # fmt: skip
        self._stamp_ns = -round(self.step_s * 1e9)
        self._speed = c.cruise_mps
        self._begun = False
        self.step(c.cruise_mps)
        self.ego_id = self._actors.ids[_EGO]
        self._begun = True

    def _add(self, name: str, kind: str, first: str, last: str, away: float, mps: float) -> None:
        """A vehicle whose middle is ``away`` m before the crossing's middle at time 0."""
        length = 1.8 if kind == "bicycle" else 4.6
        at = ARM_M - away + length / 2 - mps * self.step_s
        self._api.route.add(name, [first, last])
        self._api.vehicle.add(
            name, name, typeID=kind, departPos=f"{at:.3f}", departSpeed=f"{mps:.3f}"
        )
        self._api.vehicle.setMaxSpeed(name, mps if kind != "ego" else 30.0)
        self._api.vehicle.setSpeedFactor(name, 1.0)

    @property
    def path(self) -> FloatArray:
        """(2, 2) m: the ego's way, straight on."""
        return np.array([[LANE, -ARM_M], [LANE, ARM_M]])

    @property
    def free_s(self) -> float:
        """Seconds that the ego needs with nobody in its way."""
        return (self.start_m + PASSED_M) / self._config.cruise_mps

    def snapshot(self) -> Snapshot:
        return self._now

    def step(self, ego_speed: float) -> Moment:
        """Drive on; the ego brakes or speeds up towards ``ego_speed`` m/s as hard as it can."""
        wished = ego_speed if np.isfinite(ego_speed) else 0.0
        low, high = self._speed - BRAKE * self.step_s, self._speed + ENGINE * self.step_s
        self._speed = float(np.clip(wished, max(low, 0.0), high))
        self._api.vehicle.setSpeed(_EGO, self._speed)
        self._session.step()
        self._stamp_ns += round(self.step_s * 1e9)
        self._now = joined([*self._standing(), self._actors.read(self._stamp_ns)])
        if not self._begun:
            return Moment(self._now, False, TTC_HORIZON_S, False, False)
        return self._judge()

    def plan(self, actor_id: int, horizon_s: float) -> tuple[FloatArray, FloatArray]:
        """Straight on at the speed of now; the ego's is at least 3 m/s."""
        s = self._now
        row = s.row(actor_id)
        steps = round(checked_horizon(horizon_s) / self.step_s)
        times = np.arange(steps + 1, dtype=np.float64) * self.step_s
        velocity = s.velocities[row, :2]
        if actor_id == self.ego_id:
            velocity = np.array([0.0, max(self._speed, 3.0)])
        return times, s.positions[row, :2] + times[:, None] * velocity

    def close(self) -> None:
        self._session.close()

    def _standing(self) -> list[Snapshot]:
        """The parked truck, who walks, and the UAV, where there are any."""
        seconds = self._stamp_ns * 1e-9
        found: list[tuple[int, ObjectClass, Any, tuple[float, float], float, bool]] = []
        if self._truck:
            found.append((_STATIC_ID, ObjectClass.TRUCK, (4.85, self._truck_y, 1.75), (0, 0),
                          np.pi / 2, False))  # fmt: skip
        if self._walks:
            walked = self._walk_mps * (seconds - self._meet_s) + self._walker[0] - LANE
            x = self._walker[0] - np.clip(walked, 0.0, 12.0)
            moving = self._walk_mps * (0 < walked < 12)
            found.append((_WALKER_ID, ObjectClass.PERSON, (x, self._walker[1], 0.86), (-moving, 0),
                          np.pi, False))  # fmt: skip
        if self._uav_at is not None:
            found.append((_UAV_ID, ObjectClass.UAV, self._uav_at, (0, 0), 0.0, True))
        return [
            Snapshot(
                self._stamp_ns, np.array([i], np.int32), np.array([kind], np.uint8),
                np.array([position], float), np.array([[*velocity, 0.0]]), np.array([yaw], float),
                np.array([BODY[kind]]), np.array([equipped]),
            )
            for i, kind, position, velocity, yaw, equipped in found
        ]  # fmt: skip

    def _judge(self) -> Moment:
        s = self._now
        ego = s.row(self.ego_id)
        others = np.flatnonzero((s.ids != self.ego_id) & (s.classes != ObjectClass.UAV))
        ttc = time_to_collision(s, ego, others)
        passed = bool(s.positions[ego, 1] >= PASSED_M)
        over = passed or ttc == 0 or self._stamp_ns >= LONGEST_S * 1e9
        return Moment(s, ttc == 0, ttc, passed, bool(over))


def time_to_collision(
    s: Snapshot, ego: int, others: Any, horizon_s: float = TTC_HORIZON_S
) -> float:
    """Seconds until the ego's rectangle touches another's, all at constant velocity; to 0.05 s.

    ego, others: rows of ``s``. ``horizon_s`` where none would within it.
    """
    times = np.arange(0.0, horizon_s, 0.05)
    if not len(others):
        return horizon_s
    relative = s.velocities[others, :2] - s.velocities[ego, :2]
    middles = s.positions[others, None, :2] + relative[:, None] * times[:, None]
    reach = (np.hypot(*s.sizes[others, :2].T) + np.hypot(*s.sizes[ego, :2])) / 2
    apart = np.linalg.norm(middles - s.positions[ego, :2], axis=2)
    who, when = np.nonzero(apart <= reach[:, None])
    if not len(who):
        return horizon_s
    rows = others[who]
    touch = overlaps(
        s.positions[ego, :2], float(s.yaws[ego]), s.sizes[ego], middles[who, when], s.yaws[rows],
        s.sizes[rows],
    )  # fmt: skip
    return float(times[when[touch]].min()) if touch.any() else horizon_s
