"""Traffic of SUMO (Lopez et al. 2018, ITSC), in this process through ``libsumo``, or by TraCI.

A SUMO that runs elsewhere with whatever it simulates; or a scenario that somebody made (a
``.sumocfg``: its network, demand and additional files); or a grid of streets with vehicles,
cyclists and people on foot who never leave it. Houses fill the room between roads
(bridges/blocks.py). UAVs are no part of SUMO: each circles over an equipped vehicle and follows it.

libsumo holds one simulation a process: close one world before another is made.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zlib import crc32

import numpy as np

from bridges.actors import BODY, Building, Snapshot, checked_horizon, joined
from bridges.blocks import fill_blocks
from bridges.roads import Roads, network_roads
from bridges.sumo_session import QUIET, SumoActors, SumoServer, SumoSession
from pipeline.box import FloatArray
from pipeline.config import Config, option
from pipeline.errors import InputError, first_line
from pipeline.objects import ObjectClass

_MAX_CONFIG_BYTES = 1 << 20
_SLOWEST_PLAN = 2.0
"""m/s: a plan goes on as fast at least, also of who waits at a light."""
_TYPES = """<additional>
<vType id="car" vClass="passenger" length="4.6" width="1.8" height="1.5" sigma="0.4"/>
<vType id="truck" vClass="truck" length="8.5" width="2.45" height="3.5" maxSpeed="11"/>
<vType id="bus" vClass="bus" length="12" width="2.55" height="3.2" maxSpeed="11"/>
<vType id="bicycle" vClass="bicycle" length="1.8" width="0.65" height="1.75" maxSpeed="5.5"/>
<vType id="person" vClass="pedestrian" length="0.5" width="0.6" height="1.72"/>
</additional>
"""


@dataclass(frozen=True)
class SumoConfig(Config):
    """SUMO's options; those from ``grid`` to ``lights`` are for generated grids only."""

    step_s: float = option(0.1, "Seconds a step.", low=0.01, high=0.1)
    warm_up_s: float = option(30.0, "Simulated before time 0.", low=0, high=36_000)
    equipped: float = option(0.3, "Share of vehicles with V2X.", low=0, high=1)
    uavs: int = option(1, "UAVs, equipped.", low=0, high=8)
    altitude_m: float = option(50.0, "Height of UAVs.", low=10, high=150)
    grid: int = option(5, "Crossings along each side.", low=2, high=20)
    spacing_m: float = option(100.0, "Meters from crossing to crossing.", low=60, high=500)
    lanes: int = option(1, "Lanes in each direction.", low=1, high=3)
    vehicles: int = option(50, "Vehicles, always as many.", low=1, high=1000)
    people: int = option(20, "People on foot, always as many.", low=0, high=500)
    trucks: float = option(0.1, "Share of trucks.", low=0, high=0.3)
    buses: float = option(0.05, "Share of buses.", low=0, high=0.3)
    bicycles: float = option(0.05, "Share of bicycles.", low=0, high=0.3)
    lights: bool = option(False, "Traffic lights at crossings.")


class SumoTraffic:
    """A world of SUMO; ``TrafficWorld``. Same configuration, scenario and seed, same history."""

    def __init__(
        self,
        config: SumoConfig | None = None,
        seed: int = 0,
        scenario: Path | None = None,
        server: str = "",
    ) -> None:
        """scenario: a .sumocfg; None: a generated grid. server: host:port of a SUMO that runs
        already; its steps are as long as it was told, and its time 0 is after the warm-up.

        Raises:
            InputError: SUMO is missing, busy, or refuses the scenario; or there is no such server,
                or both are given.
        """
        self._config = config = config or SumoConfig()
        self.step_s = config.step_s
        self._seed = seed
        self._rng = np.random.default_rng([seed, 0x50])
        if server and scenario is not None:
            raise InputError("give a scenario, or a server that has one already, and not both")
        self._session: SumoSession | SumoServer = SumoServer(server) if server else SumoSession()
        self._api: Any = self._session.api
        self._edges: list[str] = []
        try:
            if isinstance(self._session, SumoSession):
                self._start(self._session, scenario)
            with self._session.asking():
                self.step_s = float(self._api.simulation.getDeltaT())
                self.buildings: tuple[Building, ...] = fill_blocks(self._roads(), self._rng)
                self._begin(config)
        except BaseException:
            self._session.close()
            raise

    def _start(self, session: SumoSession, scenario: Path | None) -> None:
        if scenario is None:
            self._edges = self._start_grid(session)
            return
        files = scenario_files(scenario, session.folder)
        # libsumo may bring the process down on what the program refuses in words.
        session.run("sumo", *files, "--end", "0", "--route-steps", "0", *QUIET)
        session.start(self.step_s, self._seed, *files)

    def _begin(self, config: SumoConfig) -> None:
        remote = isinstance(self._session, SumoServer)
        self._actors = SumoActors(
            self._api, self.step_s, config.uavs + 1, self._takes_part, subscribes=remote
        )
        self._links: dict[str, Any] = {}
        low, high = self._api.simulation.getNetBoundary()
        middle = (np.array(low) + np.array(high)) / 2
        self._centers = np.tile(middle, (config.uavs, 1))
        self._phases = self._rng.uniform(0, 2 * np.pi, config.uavs)
        self._radii = self._rng.uniform(15, 40, config.uavs)
        steps = round(config.warm_up_s / self.step_s)
        self._stamp_ns = -steps * round(self.step_s * 1e9)
        self._now = self._read()
        while self._stamp_ns < 0:
            self.step()

    @cached_property
    def roads(self) -> Roads:
        """What is on the ground."""
        with self._session.asking():
            return network_roads(self._api)

    def snapshot(self) -> Snapshot:
        return self._now

    def step(self) -> Snapshot:
        with self._session.asking():
            if self._edges:
                self._keep_going()
            self._api.simulationStep()
            self._stamp_ns += round(self.step_s * 1e9)
            self._follow()
            self._now = self._read()
        return self._now

    def close(self) -> None:
        self._session.close()

    def _read(self) -> Snapshot:
        return joined([self._fleet(), self._actors.read(self._stamp_ns)])

    def _takes_part(self, number: int, name: str) -> bool:
        """A share of all vehicles, the same ones whatever the rest of the configuration."""
        drawn = crc32(f"{self._seed} {name}".encode())
        return drawn < self._config.equipped * 2**32

    # The grid.

    def _start_grid(self, s: SumoSession) -> list[str]:
        c = self._config
        kind = "traffic_light" if c.lights else "priority"
        s.run(
            "netgenerate", "--grid", "--grid.number", str(c.grid), "--grid.length",
            str(c.spacing_m), "--default.lanenumber", str(c.lanes), "--default.speed", "13.8",
            "--default-junction-type", kind, "--sidewalks.guess", "--crossings.guess",
            "--no-turnarounds", "--seed", str(self._seed), "-o", "grid.net.xml",
        )  # fmt: skip
        (s.folder / "types.add.xml").write_text(_TYPES)
        s.start(
            self.step_s, self._seed, "-n", str(s.folder / "grid.net.xml"),
            "-a", str(s.folder / "types.add.xml"),
        )  # fmt: skip
        edges = [e for e in self._api.edge.getIDList() if not e.startswith(":")]
        chances = [c.trucks, c.buses, c.bicycles, 1 - c.trucks - c.buses - c.bicycles]
        kinds = self._rng.choice(["truck", "bus", "bicycle", "car"], c.vehicles, p=chances)
        for k, kind in enumerate(kinds.tolist()):
            self._api.route.add(f"r{k}", self._rng.choice(edges, 2, replace=False).tolist())
            self._api.vehicle.add(f"v{k}", f"r{k}", typeID=kind, departPos="random_free")
        for k in range(c.people):
            first, last = self._rng.choice(edges, 2, replace=False).tolist()
            at = float(self._rng.uniform(0.2, 0.8)) * self._api.lane.getLength(f"{first}_0")
            self._api.person.add(f"p{k}", first, at, typeID="person")
            self._walk(f"p{k}", first, last)
        return edges

    def _walk(self, person: str, first: str, last: str) -> None:
        stages = self._api.simulation.findIntermodalRoute(first, last, pType="person")
        edges = stages[0].edges if stages else (first,)
        middle = self._api.lane.getLength(f"{edges[-1]}_0") / 2
        self._api.person.appendWalkingStage(person, edges, middle)

    def _keep_going(self) -> None:
        """Give everybody who is about to arrive another place to go."""
        vehicle, person = self._api.vehicle, self._api.person
        for name in vehicle.getIDList():
            if vehicle.getRouteIndex(name) >= len(vehicle.getRoute(name)) - 1:
                here = vehicle.getRoute(name)[-1]
                vehicle.changeTarget(name, self._other(here))
        for name in person.getIDList():
            if person.getRemainingStages(name) <= 1:
                last = person.getStage(name).edges[-1]
                self._walk(name, last, self._other(last))

    def _other(self, edge: str) -> str:
        """Any edge but this one and its opposite."""
        while True:
            found = self._edges[int(self._rng.integers(len(self._edges)))]
            if found not in (edge, edge[len(edge) // 2 :] + edge[: len(edge) // 2]):
                return found

    def _roads(self) -> list[tuple[FloatArray, float]]:
        """Middle line and half width of every lane, and the outline of every junction."""
        lane, junction, roads = self._api.lane, self._api.junction, []
        for name in lane.getIDList():
            roads.append((np.array(lane.getShape(name)), lane.getWidth(name) / 2))
        for name in junction.getIDList():
            if name.startswith(":"):  # inside another one, without an outline
                continue
            outline = np.array(junction.getShape(name)).reshape(-1, 2)
            if len(outline) > 2:
                spokes = np.stack([outline, np.tile(outline.mean(0), (len(outline), 1))], 1)
                roads.append((spokes.reshape(-1, 2), 2.0))
        return roads

    # UAVs.

    def _follow(self) -> None:
        """Each center of a circle moves after its vehicle, at most at 13 m/s."""
        before = self._now
        followed = np.flatnonzero(before.equipped & (before.classes != ObjectClass.UAV))
        for k in range(min(len(self._centers), len(followed))):
            way = before.positions[followed[k], :2] - self._centers[k]
            far = float(np.linalg.norm(way))
            self._centers[k] += way * min(1.0, 13.0 * self.step_s / max(far, 1e-9))

    def _flight(self, seconds: FloatArray) -> FloatArray:
        """(..., U, 2) where the UAVs are on their circles, the centers as they are now."""
        angle = self._phases + 8.0 / self._radii * seconds[..., None]
        around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        points: FloatArray = self._centers + self._radii[:, None] * around
        return points

    def _fleet(self) -> Snapshot:
        """The UAVs now."""
        n, c = self._config.uavs, self._config
        seconds = self._stamp_ns * 1e-9
        now, soon = self._flight(np.array([seconds, seconds + self.step_s]))
        velocity = (soon - now) / self.step_s
        return Snapshot(
            self._stamp_ns, np.arange(1, n + 1, dtype=np.int32),
            np.full(n, ObjectClass.UAV, np.uint8),
            np.column_stack([now, np.full(n, c.altitude_m)]),
            np.column_stack([velocity, np.zeros(n)]),
            np.arctan2(velocity[:, 1], velocity[:, 0]), np.tile(BODY[ObjectClass.UAV], (n, 1)),
            np.ones(n, bool),
        )  # fmt: skip

    # Plans.

    def plan(self, actor_id: int, horizon_s: float) -> tuple[FloatArray, FloatArray]:
        """The route ahead at the speed of now, at least 2 m/s; people walk straight on."""
        s = self._now
        row = s.row(actor_id)
        steps = round(checked_horizon(horizon_s) / self.step_s)
        times = np.arange(steps + 1, dtype=np.float64) * self.step_s
        here, velocity = s.positions[row, :2], s.velocities[row, :2]
        if s.classes[row] == ObjectClass.UAV:
            return times, self._flight(times + self._stamp_ns * 1e-9)[:, actor_id - 1]
        if s.classes[row] == ObjectClass.PERSON:
            return times, here + times[:, None] * velocity
        speed = max(float(np.linalg.norm(velocity)), _SLOWEST_PLAN)
        name = self._actors.names[actor_id]
        front = here + 0.5 * s.sizes[row, 0] * np.array([np.cos(s.yaws[row]), np.sin(s.yaws[row])])
        route = self._route_ahead(name, speed * horizon_s + s.sizes[row, 0])
        line = np.concatenate([here[None], front[None], route])
        return times, _along(line, speed * times)

    def _route_ahead(self, name: str, meters: float) -> FloatArray:
        """(K, 2) the middles of the lanes ahead of a vehicle's front."""
        vehicle, lane_api = self._api.vehicle, self._api.lane
        lane, at = vehicle.getLaneID(name), vehicle.getLanePosition(name)
        route, index = vehicle.getRoute(name), vehicle.getRouteIndex(name)
        shapes, left = [_rest(np.array(lane_api.getShape(lane)), at)], meters + at
        while left > 0:
            left -= lane_api.getLength(lane)
            if lane.startswith(":"):
                link = self._link(lane, None)
            elif index + 1 < len(route):
                link = self._link(lane, route[index + 1])
                index += link is not None
            else:
                break
            if link is None:
                break
            lane = link[4] or link[0]
            shapes.append(np.array(lane_api.getShape(lane)))
        return np.concatenate(shapes)

    def _link(self, lane: str, edge: str | None) -> Any:
        """The connection from a lane to an edge; from a lane beside it where it has none."""
        if lane not in self._links:
            self._links[lane] = self._api.lane.getLinks(lane)
        links = self._links[lane]
        if edge is None:
            return links[0] if links else None
        found = [k for k in links if k[0].rpartition("_")[0] == edge]
        if not found:
            here = lane.rpartition("_")[0]
            for k in range(self._api.edge.getLaneNumber(here)):
                found += [
                    link
                    for link in self._api.lane.getLinks(f"{here}_{k}")
                    if link[0].rpartition("_")[0] == edge
                ]
        return found[0] if found else None


def scenario_files(config: Path, folder: Path) -> tuple[str, ...]:
    """SUMO's arguments for what a .sumocfg reads, linked into ``folder``.

    So whatever its additional files make SUMO write lands in ``folder``, not beside the scenario.

    Raises:
        InputError: no such file, no .sumocfg, or a file that it names is missing.
    """
    try:
        if config.stat().st_size > _MAX_CONFIG_BYTES:
            raise InputError(f"{config}: over {_MAX_CONFIG_BYTES} bytes is no .sumocfg")
        root = ElementTree.fromstring(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{config}: cannot be read ({error.strerror}); give a .sumocfg") from None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{config}: is no .sumocfg ({first_line(error)})") from None
    arguments: list[str] = []
    for tag, flag in (("net-file", "-n"), ("additional-files", "-a"), ("route-files", "-r")):
        names = [n for e in root.iter(tag) for n in e.get("value", "").split(",") if n.strip()]
        linked: list[str] = []
        for name in names:
            source = (config.parent / name.strip()).resolve()
            if not source.is_file():
                raise InputError(f"{config}: names {name.strip():.80}, which is not there")
            target = folder / f"{len(arguments)}-{len(linked)}-{source.name}"
            target.symlink_to(source)
            linked.append(str(target))
        if linked:
            arguments += [flag, ",".join(linked)]
    if "-n" not in arguments:
        raise InputError(f"{config}: names no net-file; give a .sumocfg that does")
    return tuple(arguments)


def _rest(line: FloatArray, at: float) -> FloatArray:
    """What of a polyline lies behind ``at`` m of it."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.concatenate([_along(line, np.array([at])), line[length > at]])


def _along(line: FloatArray, distances: FloatArray) -> FloatArray:
    """(K, 2) the points at distances along a polyline, its last point beyond its end."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    x, y = (np.interp(distances, length, line[:, k]) for k in (0, 1))
    points: FloatArray = np.stack([x, y], axis=1)
    return points
