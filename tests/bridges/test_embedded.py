"""The embedded world behind the port, where it differs from the others: its town repeats."""

import numpy as np

from bridges.embedded import EmbeddedSimulator
from bridges.follow import FollowConfig, behind, follow, true_sight
from bridges.simulator import Sensor, SensorKind
from bridges.world import WorldConfig
from evaluation.follow_target import choose_target
from pipeline.objects import ObjectClass


def test_two_uavs_that_part_each_keep_the_target_that_they_follow():
    world = EmbeddedSimulator(WorldConfig(seed=1, rate_hz=10.0, vehicles=20))
    options, told, pairs = FollowConfig(), {}, []
    for k in range(2):
        target = choose_target(world, k)
        uav = world.spawn(ObjectClass.UAV, behind(world.moment, target, options))
        body = Sensor(SensorKind.ODOMETRY, f"body{k}", uav)
        world.listen(body, lambda r: told.__setitem__(r.sensor, r.value))
        pairs.append((uav, target))
        world.tick()
    assert pairs[0][1] != pairs[1][1]
    before = [world.moment.pose(target)[:3, 3] for _, target in pairs]
    apart = 0.0
    for _ in range(400):
        for k, (uav, target) in enumerate(pairs):
            sight = true_sight(world.moment, uav, target)
            for control in follow(sight, told[f"body{k}"], options):
                world.apply(uav, control)
        moment = world.tick()
        now = [moment.pose(target)[:3, 3] for _, target in pairs]
        assert max(np.linalg.norm(a - b) for a, b in zip(before, now, strict=True)) < 3
        before, apart = now, max(apart, float(np.linalg.norm(now[0] - now[1])))
    assert apart > 150  # half of the town, so that another copy was nearer to the first
