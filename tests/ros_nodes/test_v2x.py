"""V2X nodes as real processes over real DDS and UDP, and how they take bad input."""

import itertools
import os
import socket
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
own = pytest.importorskip("leadsight_msgs.msg", reason="leadsight_msgs is not built")
pytest.importorskip("nav_msgs", reason="nav_msgs is not installed (the ros extra)")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from nav_msgs.msg import Odometry, Path  # noqa: E402
from rich.console import Console  # noqa: E402
from sensor_msgs.msg import CameraInfo, LaserScan  # noqa: E402

from comms.codec import SELF_ID  # noqa: E402
from comms.envelope import MTU  # noqa: E402
from comms.fusion import Fused  # noqa: E402
from leadsight.v2x_pki import run_v2x_pki  # noqa: E402
from pipeline.errors import InputError  # noqa: E402
from pipeline.objects import MAX_OBJECTS, ObjectClass, Objects  # noqa: E402
from pipeline.pose import Pose  # noqa: E402
from ros_nodes import messages, object_messages, qos  # noqa: E402
from ros_nodes.v2x_link import TOPIC, air  # noqa: E402
from tests.comms import test_ground as ground  # noqa: E402
from tests.ros_nodes.test_conversions import wire  # noqa: E402
from tests.ros_nodes.test_nodes import connected, now_ns  # noqa: E402

STAMP = 1_700_000_000_123_456_789
SECOND = 10**9
_ports = itertools.count(42_000 + os.getpid() * 8 % 10_000)


def objects(stamp_ns, places, ids=None, velocity=(0.0, 0.0, 0.0)):
    """Cars that stand or move at some places."""
    n = len(places)
    return Objects(
        stamp_ns, stamp_ns, np.arange(n, dtype=np.int32) if ids is None else np.int32(ids),
        np.zeros(n, np.uint32), np.array(places, float).reshape(n, 3),
        np.tile(np.array(velocity), (n, 1)), np.zeros(n), np.tile([4.5, 1.8, 1.5], (n, 1)),
        np.tile(np.diag([0.04] * 3 + [0.09] * 3), (n, 1, 1)),
        np.full(n, ObjectClass.CAR, np.uint8), np.full(n, 0.9), np.full(n, stamp_ns),
    )  # fmt: skip


def odometry(stamp_ns, x=0.0, y=0.0, yaw=0.0, speed=0.0, frame="map"):
    message = Odometry(header=messages.header(stamp_ns, frame), child_frame_id="base_link")
    message.pose.pose.position.x, message.pose.pose.position.y = x, y
    message.pose.pose.orientation.w = float(np.cos(yaw / 2))
    message.pose.pose.orientation.z = float(np.sin(yaw / 2))
    message.twist.twist.linear.x = speed
    message.pose.covariance[[0, 7, 14, 35]] = 0.01, 0.02, 0.03, 1e-5
    return message


def scan(**given):
    told = {
        "angle_min": -np.pi, "angle_increment": np.pi / 180, "range_max": 80.0,
        "ranges": np.full(360, 20.0, np.float32).tolist(), **given,
    }  # fmt: skip
    return LaserScan(header=messages.header(STAMP, "base_link"), **told)


# conversions


def fused(n=3):
    rng = np.random.default_rng(4)
    found = objects(STAMP, rng.uniform(-90, 90, (n, 3)))
    ends = np.cumsum(rng.integers(1, 4, n)).astype(np.uint32)
    return Fused(found, rng.integers(0, 2**32, ends[-1] if n else 0).astype(np.uint32), ends)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_fused_objects_and_their_sources_survive_the_message(n):
    given = fused(n)
    found = object_messages.fused_of(wire(object_messages.objects_message(given, "map")), "map")
    for name in Objects.__dataclass_fields__:
        np.testing.assert_allclose(
            getattr(found.objects, name), getattr(given.objects, name), rtol=1e-6
        )
    np.testing.assert_array_equal(found.sources, given.sources)
    np.testing.assert_array_equal(found.ends, given.ends)


def test_without_sources_the_stations_are_the_sources():
    message = object_messages.objects_message(fused(3), "map")
    message.sources, message.source_ends = [], []
    message.stations = [0, 7, 9]
    found = object_messages.fused_of(message, "map")
    assert found.sources.tolist() == [0, 7, 9] and found.ends.tolist() == [1, 2, 3]


def set_(name, index, value):
    def spoil(message):
        getattr(message, name)[index] = value

    return spoil


def whole(name, value):
    return lambda message: setattr(message, name, value)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda m: setattr(m.header, "frame_id", "odom"), "v2x.frame_id is 'map'"),
        (lambda m: setattr(m.header.stamp, "sec", -1), "is no time"),
        (whole("ids", [1] * (MAX_OBJECTS + 1)), "allowed are"),
        (whole("positions", [0.0] * 8), "holds 8 values"),
        (whole("covariances", []), "holds 0 values"),
        (set_("positions", 4, float("nan")), "positions"),
        (set_("positions", 4, 1e300), "positions"),
        (set_("velocities", 0, float("inf")), "velocities"),
        (set_("yaws", 0, float("inf")), "yaws"),
        (set_("covariances", 0, -1.0), "variance is below 0"),
        (set_("covariances", 1, 5.0), "positive semidefinite"),
        (set_("covariances", 1, float("nan")), "covariances"),
        (set_("classes", 2, 200), "classes"),
        (set_("quality", 2, 1.5), "quality"),
        (set_("source_ends", 0, 2**32 - 1), "source_ends must rise"),
        (whole("sources", [1]), "source_ends must rise"),
        (whole("source_ends", [1]), "holds 1 values"),
        (set_("stations", 1, 12), "own perception only"),
        (set_("ids", 1, 0), "twice"),
    ],
)
def test_objects_that_cannot_be_are_refused(spoil, says):
    message = object_messages.objects_message(fused(3), "map")
    spoil(message)
    with pytest.raises(InputError, match=says):
        object_messages.objects_of(message, "map")


def test_odometry_gives_yaw_and_velocity_in_the_fixed_frame():
    pose = object_messages.pose_of(odometry(STAMP, 3.0, 4.0, np.radians(120), 10.0), "map")
    assert abs(pose.yaw - np.radians(120)) < 1e-9
    np.testing.assert_allclose(pose.velocity, [-5, 10 * np.sin(np.radians(120)), 0], atol=1e-9)
    np.testing.assert_allclose(np.diag(pose.covariance), [0.01, 0.02, 0.03, 1e-5])
    assert (pose.stamp_ns, pose.frame_id) == (STAMP, "map")


def test_a_pitched_vehicle_flies_upward():
    message = odometry(STAMP, speed=10.0)
    turn = message.pose.pose.orientation  # 30° nose up, which is negative about y
    turn.w, turn.y = float(np.cos(np.radians(15))), -float(np.sin(np.radians(15)))
    velocity = object_messages.pose_of(message, "map").velocity
    np.testing.assert_allclose(velocity, [10 * np.cos(np.radians(30)), 0, 5], atol=1e-9)


def test_an_odometry_without_covariance_is_not_taken_as_exact():
    message = odometry(STAMP)
    message.pose.covariance[:] = 0
    assert (np.diag(object_messages.pose_of(message, "map").covariance) > 0).all()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda m: setattr(m.header, "frame_id", "odom"), "v2x.frame_id"),
        (lambda m: setattr(m.pose.pose.orientation, "w", 0.0), "normalize"),
        (lambda m: setattr(m.pose.pose.orientation, "x", float("nan")), "normalize"),
        (lambda m: setattr(m.pose.pose.position, "y", float("nan")), "position"),
        (lambda m: setattr(m.twist.twist.linear, "x", 1e9), "velocity"),
        (lambda m: m.pose.covariance.__setitem__(0, float("inf")), "covariance"),
        (lambda m: m.pose.covariance.__setitem__(35, -1.0), "below 0"),
    ],
)
def test_an_odometry_that_cannot_be_is_refused(spoil, says):
    message = odometry(STAMP)
    spoil(message)
    with pytest.raises(InputError, match=says):
        object_messages.pose_of(message, "map")


def path(points, stamp_ns=STAMP, times_s=None):
    message = Path(header=messages.header(stamp_ns, "map"))
    for k, (x, y) in enumerate(points):
        pose = PoseStamped()
        if times_s is not None:
            pose.header = messages.header(stamp_ns + round(times_s[k] * SECOND), "map")
        pose.pose.position.x, pose.pose.position.y = x, y
        message.poses.append(pose)
    return message


def test_a_timed_path_keeps_its_times():
    found = object_messages.plan_of(
        path([(0, 0), (3, 4), (9, 9)], times_s=(0, 1.5, 4)), "map", 9, 0
    )
    np.testing.assert_allclose(found.times_s, [0, 1.5, 4])
    np.testing.assert_allclose(found.points, [[0, 0], [3, 4], [9, 9]])
    assert found.stamp_ns == STAMP


def test_an_untimed_path_is_followed_at_the_present_speed_as_far_as_a_request_reaches():
    long = [(5.0 * k, 0.0) for k in range(400)]
    found = object_messages.plan_of(path(long), "map", 10.0, 0)
    np.testing.assert_allclose(found.points[:, 0], 10 * found.times_s)
    assert len(found.times_s) == 32 and 25 <= found.times_s[-1] <= 25.5
    assert object_messages.plan_of(path(long, 0), "map", 0.0, STAMP).stamp_ns == STAMP
    assert object_messages.plan_of(path([]), "odom", 10.0, 0) is None


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (path([(0, float("nan"))]), "not finite"),
        (path([(0, 0), (1, 1), (2, 2)], times_s=(0, 2, 1)), "stamps fall"),
        (path([(0, 0)] * 10_001), "allowed are"),
    ],
)
def test_a_path_that_cannot_be_is_refused(message, says):
    with pytest.raises(InputError, match=says):
        object_messages.plan_of(message, "map", 1.0, 0)


# nodes


class Agent:
    """A vehicle: publishers of what its node hears, and what the node says."""

    def __init__(self, ros, name, station, *parameters):
        self.ros, self.name = ros, name
        self.process = ros.start(
            "v2x", f"v2x.station:={station}", *parameters, arguments=("-r", f"__ns:=/{name}")
        )
        self.fused = ros.heard(own.ObjectArray, f"/{name}/v2x/objects")
        self.objects = ros.node.create_publisher(
            own.ObjectArray, f"/{name}/objects", qos.results(1)
        )
        self.odometry = ros.node.create_publisher(Odometry, f"/{name}/odometry", qos.results(1))
        self.plan = ros.node.create_publisher(Path, f"/{name}/plan", qos.results(1))
        for publisher in (self.objects, self.odometry, self.plan):
            connected(ros, publisher)

    def perceive(self, places, x, frame="map"):
        stamp_ns = now_ns()
        self.odometry.publish(odometry(stamp_ns, x, frame=frame))
        self.ros.spin(lambda: False, 0.01)
        found = Fused.alone(objects(stamp_ns, places))
        self.objects.publish(object_messages.objects_message(found, frame))

    def newest(self):
        return object_messages.fused_of(self.fused[-1], "map") if self.fused else None


def knows(agent, place, station):
    """Whether an agent knows an object near a place from a station."""
    found = agent.newest()
    if found is None:
        return False
    near = np.linalg.norm(found.objects.positions - place, axis=1) < 1.0
    begins = np.append(0, found.ends[:-1])
    return any(
        station in found.sources[begins[row] : found.ends[row]] for row in np.flatnonzero(near)
    )


def diagnostics(ros):
    found: dict[str, DiagnosticStatus] = {}
    ros.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: found.update({s.name: s for s in m.status}), 10
    )
    return found


def value(status, name, key):
    return next((v.value for v in status[name].values if v.key == key), None)


def test_what_one_vehicle_sees_arrives_fused_at_the_others_in_one_domain(ros):
    agents = [Agent(ros, f"a{k}", k) for k in (1, 2, 3)]
    status = diagnostics(ros)
    spans = ros.heard(own.Span, "/a1/v2x/span")
    hidden, mine = (60.0, 8.0, 0.0), (30.0, -8.0, 0.0)

    def step():
        agents[0].perceive([hidden], 0.0)
        agents[1].perceive([mine], 20.0)
        agents[2].perceive([], -20.0)
        ros.spin(lambda: False, 0.05)
        return all(knows(a, hidden, 1) for a in agents[1:]) and knows(agents[0], mine, 2)

    assert ros.spin(step), [a.process.text() for a in agents]
    assert knows(agents[1], mine, 0) and knows(agents[1], (0.0, 0.0, 0.0), 1)
    found = agents[1].newest().objects
    assert found.stamp_ns > found.ready_ns > 0  # for the moment of use, 50 ms ahead
    assert SELF_ID not in found.ids[found.stations == 0]
    assert ros.spin(lambda: step() and spans and "/a2/v2x/exchange" in status)
    assert ros.spin(lambda: step() and value(status, "/a2/v2x/exchange", "peers") == "2")
    assert int(value(status, "/a2/v2x/exchange", "sent payload [B]")) > 0
    assert int(value(status, "/a2/v2x/exchange", "rejected: own")) > 0
    assert 0 < float(value(status, "/a2/v2x/exchange", "age p95 [ms]")) < 2000


def test_vehicles_over_udp_hear_each_other_too_and_a_plan_is_sent(ros):
    ports = []
    while len(ports) < 2:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            ports.append(next(_ports))
            probe.bind(("127.0.0.1", ports[-1]))
    first, second = (
        Agent(ros, f"u{k}", k, f"v2x.link:=udp://127.0.0.1:{there}?listen={here}")
        for k, here, there in ((1, *ports), (2, *reversed(ports)))
    )
    status = diagnostics(ros)
    hidden = (60.0, 8.0, 0.0)

    def step():
        first.perceive([hidden], 0.0)
        second.perceive([], 20.0)
        second.plan.publish(path([(20.0, 0.0), (80.0, 0.0)], now_ns()))
        ros.spin(lambda: False, 0.05)
        return knows(second, hidden, 1)

    assert ros.spin(step), first.process.text() + second.process.text()
    assert ros.spin(
        lambda: (
            step()
            and "/u2/v2x/exchange" in status
            and int(value(status, "/u2/v2x/exchange", "sent request [B]")) > 0
        )
    )


def test_a_vehicle_that_perceives_nothing_hears_the_others_and_tells_of_itself(ros):
    seeing, blind = Agent(ros, "b1", 1), Agent(ros, "b2", 2)
    hidden = (60.0, 8.0, 0.0)

    def step():
        seeing.perceive([hidden], 0.0)
        blind.odometry.publish(odometry(now_ns(), 20.0))
        ros.spin(lambda: False, 0.05)
        return knows(blind, hidden, 1) and knows(seeing, (20.0, 0.0, 0.0), 2)

    assert ros.spin(step), blind.process.text()


def test_signed_vehicles_fuse_each_other_and_nothing_unsigned_or_of_another_root(ros, tmp_path):
    for name in ("ours", "theirs"):
        run_v2x_pki(tmp_path / name, 3, 1.0, None, (), Console(quiet=True))
    trust = f"v2x.trust:={tmp_path / 'ours/trust'}"

    def keys(root, k):
        return f"v2x.credentials:={tmp_path / root / f'station-{k}'}"

    first, second = (Agent(ros, f"s{k}", k, trust, keys("ours", k)) for k in (1, 2))
    crook = Agent(ros, "s3", 3, keys("theirs", 3))
    bare = Agent(ros, "s4", 4)
    status = diagnostics(ros)
    hidden, false = (60.0, 8.0, 0.0), (45.0, -9.0, 0.0)

    def step():
        first.perceive([hidden], 0.0)
        second.perceive([], 20.0)
        crook.perceive([false], 10.0)
        bare.perceive([(20.0, 20.0, 0.0)], -30.0)
        ros.spin(lambda: False, 0.05)
        counts = "/s2/v2x/exchange" in status and [
            value(status, "/s2/v2x/exchange", f"rejected: {reason}")
            for reason in ("unsigned", "certificate")
        ]
        return knows(second, hidden, 1) and counts and all(counts)

    assert ros.spin(step), second.process.text()
    assert not {3, 4} & set(second.newest().sources.tolist())
    assert value(status, "/s2/v2x/exchange", "signatures") == "required"


def test_bad_input_of_any_kind_is_counted_and_own_perception_goes_on(ros):
    agent = Agent(ros, "c1", 1)
    status = diagnostics(ros)
    line = "/c1/v2x/exchange"
    on_air = ros.node.create_publisher(own.V2xMessage, TOPIC, air())
    connected(ros, on_air)
    mine = (30.0, -8.0, 0.0)
    assert ros.spin(lambda: agent.perceive([mine], 0.0) or knows(agent, mine, 0))
    rng = np.random.default_rng(5)
    for size in [0, 1, 5, 60, 200, MTU, MTU + 1, 100_000]:
        for head in (0, 1, 2, 77):
            data = bytes([head]) + rng.bytes(size) if size else b""
            on_air.publish(own.V2xMessage(data=list(data)))
        ros.spin(lambda: False, 0.02)
    spoilt = object_messages.objects_message(Fused.alone(objects(now_ns(), [mine])), "map")
    spoilt.positions[0] = float("nan")
    agent.objects.publish(spoilt)
    agent.odometry.publish(odometry(now_ns(), frame="odom"))
    agent.plan.publish(path([(0, float("nan"))]))
    heard = len(agent.fused)
    assert ros.spin(
        lambda: agent.perceive([mine], 0.0) or (len(agent.fused) > heard and knows(agent, mine, 0))
    )
    assert ros.spin(lambda: line in status and value(status, line, "rejected: oversize"))
    assert int(value(status, line, "rejected: version")) >= 4
    assert int(value(status, line, "received")) == 0
    text = agent.process.text()
    for says in ("positions", "v2x.frame_id", "Path"):
        assert says in text
    assert "Traceback" not in text


def test_without_odometry_own_perception_still_comes_out_and_nothing_is_sent(ros):
    agent = Agent(ros, "d1", 1)
    on_air = ros.heard(own.V2xMessage, TOPIC)
    mine = (30.0, -8.0, 0.0)

    def step():
        found = Fused.alone(objects(now_ns(), [mine]))
        agent.objects.publish(object_messages.objects_message(found, "map"))
        ros.spin(lambda: False, 0.05)
        return knows(agent, mine, 0)

    assert ros.spin(step)
    assert ros.spin(lambda: "no odometry" in agent.process.text())
    assert on_air == []


def test_time_that_jumps_back_starts_afresh_and_goes_on(ros):
    agent = Agent(ros, "j1", 1)
    mine = (30.0, -8.0, 0.0)
    assert ros.spin(lambda: agent.perceive([mine], 0.0) or knows(agent, mine, 0))
    place = (70.0, 8.0, 0.0)

    def step():
        stamp_ns = now_ns() - 3600 * SECOND
        agent.odometry.publish(odometry(stamp_ns))
        ros.spin(lambda: False, 0.02)
        found = Fused.alone(objects(stamp_ns, [place]))
        agent.objects.publish(object_messages.objects_message(found, "map"))
        ros.spin(lambda: False, 0.05)
        return knows(agent, place, 0) and not knows(agent, mine, 0)

    assert ros.spin(step), agent.process.text()
    assert "jumped back" in agent.process.text()
    assert "Traceback" not in agent.process.text()


def test_it_speaks_for_the_moment_that_the_latency_report_names(ros):
    agent = Agent(ros, "e1", 1, "v2x_node.consumer:=planner")
    reports = ros.node.create_publisher(own.LatencyReport, "/e1/latency", qos.results(1))
    connected(ros, reports)
    report = own.LatencyReport(
        consumers=["control", "planner"], horizon_ns=[SECOND // 9, SECOND], horizon_status=[0, 0]
    )

    def step():
        reports.publish(report)
        ros.spin(lambda: False, 0.02)
        agent.perceive([(30.0, 0.0, 0.0)], 0.0)
        ros.spin(lambda: False, 0.03)
        found = agent.newest()
        return found and found.objects.stamp_ns - found.objects.measured_ns[0] == SECOND

    assert ros.spin(step)


class Flyer(Agent):
    """A UAV that looks down 40° by its own attitude, and has tracks instead of objects."""

    def __init__(self, ros, name, station, *parameters):
        super().__init__(ros, name, station, *parameters)
        self.tracks = ros.node.create_publisher(own.TrackArray, f"/{name}/tracks", qos.results(1))
        self.info = ros.node.create_publisher(CameraInfo, f"/{name}/camera_info", qos.results(1))
        for publisher in (self.tracks, self.info):
            connected(ros, publisher)

    def look(self, place, camera=ground.CAMERA, tracks=None):
        stamp_ns = now_ns()
        turn, half = odometry(stamp_ns), np.radians(40) / 2
        turn.pose.pose.position.z = 30.0
        turn.pose.pose.orientation.w = float(np.cos(half))
        turn.pose.pose.orientation.y = float(np.sin(half))
        axes = ground.rotation_of(np.array([0, 2 * half, 0])) @ ground.OPTICAL
        box = ground.box_of(place[:2], 0.3, ground.CAR, np.array([0, 0, 30.0]), axes)
        if camera is not None:
            self.info.publish(messages.camera_message(camera, stamp_ns, "camera"))
        self.odometry.publish(turn)
        self.ros.spin(lambda: False, 0.01)
        found = ground.tracks([box], stamp_ns=stamp_ns) if tracks is None else tracks(stamp_ns)
        self.tracks.publish(messages.tracks_message(found, "camera"))
        self.ros.spin(lambda: False, 0.05)


def test_tracks_of_a_uav_are_placed_on_the_ground_and_told(ros):
    flyer, listener = Flyer(ros, "g1", 1), Agent(ros, "g2", 2)
    status = diagnostics(ros)
    place = (36.0, 5.0, 0.8)

    def step():
        flyer.look(place)
        listener.perceive([], 10.0)
        return knows(listener, place, 1) and knows(flyer, place, 0)

    assert ros.spin(step), flyer.process.text()
    cut = ground.tracks([[0.0, 10, 40, 40]])
    line = "/g1/v2x/exchange"
    assert ros.spin(
        lambda: (
            flyer.look(place, tracks=lambda ns: replace(cut, stamp_ns=ns, answered_ns=None))
            or (line in status and value(status, line, "boxes left out: cut"))
        )
    )

    def spoilt():
        flyer.look(place)
        flyer.tracks.publish(own.TrackArray(header=messages.header(now_ns()), ids=[1]))  # no boxes
        return "TrackArray" in flyer.process.text()

    assert ros.spin(spoilt)
    assert ros.spin(step), flyer.process.text()


def test_objects_go_before_tracks_and_tracks_without_a_camera_cost_a_line(ros):
    flyer = Flyer(ros, "h1", 1)
    mine, tracked = (30.0, -8.0, 0.0), (36.0, 5.0, 0.8)
    assert ros.spin(
        lambda: (
            flyer.look(tracked, camera=None)
            or "without a calibrated camera_info" in flyer.process.text()
        )
    )

    def both():
        flyer.perceive([mine], 0.0)
        flyer.look(tracked)
        return knows(flyer, mine, 0) and not knows(flyer, tracked, 0)

    assert ros.spin(both)
    assert ros.spin(lambda: flyer.look(tracked) or knows(flyer, tracked, 0)), flyer.process.text()
    assert ros.spin(both)
    assert "jumped back" not in flyer.process.text()


def test_tracks_can_be_taken_always_or_never(ros):
    always = Flyer(ros, "i1", 1, "v2x_node.tracks:=always")
    never = Flyer(ros, "i2", 2, "v2x_node.tracks:=never", "v2x.link:=udp://127.0.0.1:41999")
    mine, tracked = (30.0, -8.0, 0.0), (36.0, 5.0, 0.8)

    def step():
        always.perceive([mine], 0.0)
        for flyer in (always, never):
            flyer.look(tracked)
        return knows(always, tracked, 0)

    assert ros.spin(step), always.process.text()
    for _ in range(12):
        step()
    assert not knows(always, mine, 0)
    assert not knows(never, tracked, 0)


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("ground.labels:=[]", "ground.labels"),
        ("ground.camera_rpy_deg:=[1.0]", "give three"),
        ("v2x.link:=tcp://1.2.3.4:5", "give ros"),
        ("v2x.station:=0", "v2x.station"),
        ("v2x.trust:=/no/such/folder", "/no/such/folder"),
        ("v2x.credentials:=/no/such/folder", "/no/such/folder"),
        ("v2x.selector:=best", "v2x.selector"),
    ],
)
def test_a_station_that_cannot_be_is_one_line_and_status_2(ros, parameter, says):
    process = ros.start("v2x", parameter)
    assert process.popen.wait(15) == 2
    assert process.text().count("\n") == 1, process.text()
    assert says in process.text()


def test_a_scan_tells_how_far_the_view_is_free_by_sector():
    ranges = np.full(360, np.inf, np.float32)
    ranges[182] = 7.5  # two degrees to the left of ahead
    pose = Pose(STAMP, np.array([100.0, 50.0, 0.0]), np.pi / 2)
    sight = object_messages.sight_of(wire(scan(ranges=ranges.tolist())), pose)
    assert sight.margins(np.array([[99.65, 60.0]]))[0] == pytest.approx(-2.5, abs=0.02)
    assert sight.margins(np.array([[110.0, 51.0]]))[0] == pytest.approx(70.0, abs=0.1)
    half = object_messages.sight_of(wire(scan(ranges=[30.0] * 180)), pose)
    assert (half.free_m > 0).sum() in (18, 19) and (half.free_m == 0).sum() in (17, 18)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranges": []}, {"angle_increment": 0.0}, {"range_max": float("inf")},
        {"range_max": -1.0}, {"angle_min": float("nan")},
    ],
)  # fmt: skip
def test_a_scan_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="LaserScan"):
        object_messages.sight_of(wire(scan(**wrong)), Pose(STAMP, np.zeros(3), 0.0))
