"""The five processes together; benchmarks/ros_transport.py prints the full figures."""

import itertools
import os

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs", reason="leadsight_msgs is not built")

from benchmarks import ros_transport


def test_the_horizon_follows_a_slowed_tracker_over_dds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 40))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    found = ros_transport.measure(8.0, "mosse", 640, 360, tell=lambda text: None)
    assert found.sent > 200
    assert 0.9 * found.sent < found.received <= found.sent
    assert found.transport_ms[0] < 15
    assert found.transport_ms == tuple(sorted(found.transport_ms))
    medians = [found.age_ms[stage][0] for stage in ros_transport.STAGES]
    assert all(a < b for a, b in itertools.pairwise(medians))
    assert all(median <= p99 for median, p99 in found.age_ms.values())
    assert 60 < found.horizon_after_ms - found.horizon_before_ms < 200
    assert found.half_ms <= found.reaction_ms < 2000
