"""The pilot who knows the truth: what he does when there is nobody to follow."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from bridges.follow import FollowConfig
from bridges.simulator import Aim, Moment, Sensor, SensorKind, Velocity
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import town_simulator
from ros_nodes.simulator_pilot import Pilot


@dataclass
class Options:
    pilot: bool = True
    carrier: str = "uav"
    role: str = "uav"
    select_service: str = ""


def test_a_target_that_is_gone_leaves_the_craft_hovering_and_its_gimbal_at_rest():
    town = town_simulator(TrafficConfig(blocks=2, vehicles=12, people=4, parked=6))
    pilot = Pilot(None, town, "", 0, FollowConfig(), Options())
    told = []
    town.listen(Sensor(SensorKind.ODOMETRY, "body", pilot.number), lambda r: told.append(r.value))
    moment = town.tick()
    vehicle = SimpleNamespace(commanded=False, odometry=(moment, told[-1]))
    speed, aim = pilot.controls(vehicle)
    assert np.linalg.norm(speed.linear) > 1 and aim.azimuth_rate
    alone = moment.actors.ids == pilot.number
    moment = Moment(
        moment.frame, moment.actors.selected(alone), moment.poses[alone], moment.rates[alone]
    )
    vehicle.odometry = moment, told[-1]
    speed, rest = pilot.controls(vehicle)
    assert isinstance(speed, Velocity) and not speed.linear.any() and not speed.yaw_rate
    assert rest == Aim(aim.azimuth, aim.elevation)
