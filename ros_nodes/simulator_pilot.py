"""Who flies a simulated UAV while nobody else does: after its target, by the truth; and who points
the tracker at that target."""

import time
from collections import deque
from typing import Any, Protocol

import numpy as np
from leadsight_msgs.srv import Select
from rclpy.node import Node

from bridges.follow import FollowConfig, behind, follow, true_sight
from bridges.simulator import Aim, Control, SeenBoxes, Simulator, SimulatorError, Velocity, pose_of
from evaluation.follow_target import choose_target
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from ros_nodes.simulator_vehicle import Vehicle

SELECT_AGAIN_S = 0.5
STEADY = 6
"""Pictures on end with the target in their middle, before it is pointed out in the first of them:
by then the tracker has that one, and the camera turns no more."""


class PilotOptions(Protocol):
    """Of the node's."""

    @property
    def pilot(self) -> bool: ...
    @property
    def carrier(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def select_service(self) -> str: ...


class Pilot:
    """Puts a vehicle into the simulator: a UAV behind a target, or a car. number: its id."""

    def __init__(
        self,
        node: Node,
        simulator: Simulator,
        name: str,
        seed: int,
        follow: FollowConfig,
        options: PilotOptions,
    ) -> None:
        """
        Raises:
            InputError: nobody for the pilot to follow, or the simulator refuses the vehicle.
        """
        self.prefix = f"{name}/" if name else ""
        self._follow = follow
        self._flies = options.pilot and options.carrier == "uav"
        self._target_id = -1
        self._aim = Aim(0.0, -0.5)
        if options.carrier == "car":
            self.number = _car(simulator, seed, name or options.role)
        else:
            pose = pose_of(np.array([0.0, 0.0, follow.altitude_m]))
            try:
                self._target_id = choose_target(simulator, seed)
                pose = behind(simulator.moment, self._target_id, follow)
            except SimulatorError:
                raise
            except InputError as error:
                if options.pilot:
                    raise InputError(f"{error}, or simulator.pilot: false") from None
            self.number = simulator.spawn(ObjectClass.UAV, pose, name or options.role)
        service = options.select_service
        self._select = node.create_client(Select, self.prefix + service) if service else None
        self._select_at = 0.0
        self._pointed: deque[tuple[int, FloatArray]] = deque(maxlen=STEADY)

    def controls(self, vehicle: Vehicle) -> tuple[Control, ...]:
        """By the truth; none once somebody else has commanded."""
        if not self._flies or vehicle.commanded or vehicle.odometry is None:
            return ()
        moment, own = vehicle.odometry
        try:
            sight = true_sight(moment, self.number, self._target_id)
        except InputError:  # the target is gone: hover, and look where it was
            return Velocity(np.zeros(3)), self._aim
        speed, aim = follow(sight, own, self._follow)
        self._aim = Aim(aim.azimuth, aim.elevation)
        return speed, aim

    def point_out(self, seen: SeenBoxes | None, size: tuple[int, int], stamp_ns: int) -> None:
        """Tell the tracker where the target is, until it has taken it. size: of the picture of
        that stamp."""
        if self._select is None or seen is None:
            return
        rows = np.flatnonzero(seen.ids == self._target_id)
        if not (len(rows) and _central(seen.boxes[rows[0]], size)):
            self._pointed.clear()
            return
        self._pointed.append((stamp_ns, seen.boxes[rows[0]]))
        if len(self._pointed) < STEADY or time.monotonic() < self._select_at:
            return
        if self._select.service_is_ready():
            self._select_at = time.monotonic() + SELECT_AGAIN_S
            stamp_ns, box = self._pointed[0]
            request = Select.Request(box=box, stamp_ns=stamp_ns, detection_id=-1)
            self._select.call_async(request).add_done_callback(self._selected)

    def _selected(self, future: Any) -> None:
        if future.result().success:
            self._select = None


def _central(box: FloatArray, size: tuple[int, int]) -> bool:
    """Whether a box's middle lies in the inner half of a picture, and all of it inside."""
    middle, picture = box[:2] + box[2:] / 2, np.array(size)
    inside = (box[:2] > 0).all() and (box[:2] + box[2:] < picture).all()
    return bool(inside and (np.abs(middle - picture / 2) < picture / 4).all())


def _car(simulator: Simulator, seed: int, role: str) -> int:
    """The one that was asked for by its role, or a new one where there is room.

    Raises:
        InputError: the simulator spawns no cars, or there is no room.
    """
    if getattr(simulator, "role_id", 0):
        return int(simulator.role_id)  # type: ignore[attr-defined]
    places = simulator.places() if hasattr(simulator, "places") else np.eye(4)[None]
    problem = InputError(f"{simulator.name}: the town has no place for a vehicle")
    for k in range(len(places)):
        try:
            return simulator.spawn(ObjectClass.CAR, places[(seed + k) % len(places)], role)
        except SimulatorError:
            raise
        except InputError as error:
            problem = error
    raise problem
