"""Who flies a simulated UAV while nobody else does: after its target, by the truth; and who points
the tracker at that target."""

import time
from typing import Any

import numpy as np
from leadsight_msgs.srv import Select
from rclpy.node import Node

from bridges.follow import FollowConfig, behind, follow, true_sight
from bridges.simulator import Control, SeenBoxes, Simulator
from evaluation.follow_target import choose_target
from pipeline.errors import InputError
from pipeline.objects import ObjectClass
from ros_nodes.simulator_vehicle import Vehicle

SELECT_AGAIN_S = 0.5


class Pilot:
    """Spawns a UAV behind a target. number: its id."""

    def __init__(
        self,
        node: Node,
        simulator: Simulator,
        prefix: str,
        seed: int,
        follow: FollowConfig,
        flies: bool,
        service: str,
    ) -> None:
        """
        Raises:
            InputError: nobody to follow, or the simulator refuses the UAV.
        """
        self.prefix = prefix
        self._follow = follow
        self._flies = flies
        self._target_id = choose_target(simulator, seed)
        pose = behind(simulator.moment, self._target_id, follow)
        self.number = simulator.spawn(ObjectClass.UAV, pose, prefix.rstrip("/") or "uav")
        self._select = node.create_client(Select, prefix + service) if service else None
        self._select_at = 0.0

    def controls(self, vehicle: Vehicle) -> tuple[Control, ...]:
        """By the truth; none once somebody else has commanded."""
        if not self._flies or vehicle.commanded or vehicle.odometry is None:
            return ()
        moment, own = vehicle.odometry
        try:
            return follow(true_sight(moment, self.number, self._target_id), own, self._follow)
        except InputError:  # the target is gone: hover
            return ()

    def point_out(self, seen: SeenBoxes | None) -> None:
        """Tell the tracker where the target is, until it has taken it."""
        if self._select is None or seen is None or time.monotonic() < self._select_at:
            return
        rows = np.flatnonzero(seen.ids == self._target_id)
        if len(rows) and self._select.service_is_ready():
            self._select_at = time.monotonic() + SELECT_AGAIN_S
            request = Select.Request(box=seen.boxes[rows[0]], stamp_ns=0, detection_id=-1)
            self._select.call_async(request).add_done_callback(self._selected)

    def _selected(self, future: Any) -> None:
        if future.result().success:
            self._select = None
