"""The pilot who knows the truth: what he does when there is nobody to follow."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")

from bridges.follow import FollowConfig
from bridges.mujoco_traffic import EmptyTown
from bridges.simulator import Aim, Moment, SeenBoxes, Sensor, SensorKind, Velocity
from bridges.traffic import TrafficConfig
from bridges.traffic_simulator import TrafficSimulator, town_simulator
from pipeline.errors import InputError
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


class Asked:
    """A service that was asked, in place of a tracker's; a node that has it."""

    def __init__(self):
        self.requests = []

    def create_client(self, kind, name):
        return self

    def service_is_ready(self):
        return True

    def call_async(self, request):
        self.requests.append(request)
        return self

    def add_done_callback(self, done):
        self.done = done


def test_a_target_is_pointed_out_in_a_picture_that_the_tracker_has_once_the_camera_is_on_it():
    town = town_simulator(TrafficConfig(blocks=2, vehicles=12, people=4, parked=6))
    asked = Asked()
    pilot = Pilot(asked, town, "", 0, FollowConfig(), Options(select_service="tracker/select"))

    def see(x, stamp_ns):
        box = np.array([[x, 50.0, 20.0, 20.0]])
        target = np.array([pilot._target_id], np.int32)
        pilot.point_out(SeenBoxes(target, target, box, np.ones(1)), (160, 120), stamp_ns)

    for k in range(20):  # it comes in from the side
        see(4.0 * k, k)
    first = next(k for k in range(20) if 4.0 * k + 10 > 40)
    assert [r.stamp_ns for r in asked.requests] == [first]
    assert asked.requests[0].box[0] == 4.0 * first
    asked.done(SimpleNamespace(result=lambda: SimpleNamespace(success=True)))
    pilot._select_at = 0.0
    see(70.0, 99)
    assert len(asked.requests) == 1


def test_where_nobody_drives_a_uav_is_there_for_who_flies_it_himself():
    empty = TrafficSimulator("an empty town", EmptyTown(2, 0.1, 0))
    with pytest.raises(InputError, match="pilot: false"):
        Pilot(None, empty, "", 0, FollowConfig(), Options())
    pilot = Pilot(None, empty, "", 0, FollowConfig(altitude_m=33.0), Options(pilot=False))
    assert empty.tick().pose(pilot.number)[2, 3] == pytest.approx(33.0, abs=0.1)
