"""An agent's own perception: repeatable, as noisy as it says, and honestly filtered."""

from dataclasses import fields, replace

import numpy as np
import pytest

from bridges.actors import Snapshot
from bridges.sight import OwnSight, SightConfig
from comms.motion import MetricFilter
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

EXACT = SightConfig(
    noise_m=0.0, noise_per_m=0.0, yaw_noise_deg=0.0, size_noise=0.0, miss=0.0, miss_far=0.0,
    ghosts_hz=0.0,
)  # fmt: skip


def moment(k=0, n=40):
    """Actor 1 at 5, -3 with n others round it, all on straight courses; 0.1 s a step."""
    rng = np.random.default_rng(8)
    positions = np.column_stack([rng.uniform(-60, 60, (n, 2)), np.full(n, 0.8)])
    positions[0] = 5, -3, 0.8
    velocities = np.column_stack([rng.uniform(-9, 9, (n, 2)), np.zeros(n)])
    return Snapshot(
        k * 100_000_000,
        np.arange(1, n + 1, dtype=np.int32),
        np.full(n, ObjectClass.CAR, np.uint8),
        positions + velocities * k * 0.1,
        velocities,
        np.arctan2(velocities[:, 1], velocities[:, 0]),
        np.tile([4.5, 1.8, 1.5], (n, 1)),
        np.arange(n) < 3,
    )


def detect_all(sight, s):
    return sight.detect(s, np.ones(len(s)))


def test_detections_depend_on_seed_agent_and_moment_only():
    s = moment()
    one = detect_all(OwnSight(SightConfig(), 3, 1), s)
    late = OwnSight(SightConfig(), 3, 1)
    late.detect(moment(7), np.zeros(40))
    two = detect_all(late, s)
    for field in fields(one):
        if field.name != "pose":
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name))
    fewer = s.selected(np.arange(40) != 20)
    three = detect_all(OwnSight(SightConfig(), 3, 1), fewer)
    assert np.array_equal(three.positions[:10], one.positions[:10])
    assert not np.array_equal(detect_all(OwnSight(SightConfig(), 4, 1), s).positions[:1],
                              one.positions[:1])  # fmt: skip
    other = detect_all(OwnSight(SightConfig(), 3, 2), s)
    common = np.intersect1d(one.truth_ids, other.truth_ids)[1:]
    assert not np.array_equal(
        one.ids[np.isin(one.truth_ids, common)], other.ids[np.isin(other.truth_ids, common)]
    )


def test_without_noise_detections_are_the_truth_but_never_the_agent_itself():
    s = moment()
    found = detect_all(OwnSight(EXACT, 3, 1), s)
    near = np.linalg.norm(s.positions - s.positions[0], axis=1) <= EXACT.range_m
    near[0] = False
    assert np.array_equal(found.truth_ids, s.ids[near])
    assert np.allclose(found.positions, s.positions[near])
    assert np.allclose(found.pose.position, s.positions[0])
    assert np.allclose(found.pose.velocity, s.velocities[0])


def test_ids_are_the_agents_own_and_stay_with_the_actor():
    sight, names = OwnSight(SightConfig(), 3, 1), {}
    for k in range(30):
        found = detect_all(sight, moment(k))
        real = found.truth_ids > 0
        for truth, own in zip(found.truth_ids[real], found.ids[real], strict=True):
            assert names.setdefault(int(truth), int(own)) == own
    assert len(set(names.values())) == len(names)
    assert not set(names.items()) & {(k, k) for k in names}


def test_noise_misses_and_ghosts_are_as_configured():
    config = replace(SightConfig(), ghosts_hz=2.0)
    sight, scaled, missed, possible, ghosts = OwnSight(config, 11, 1), [], 0, 0, set()
    for k in range(300):
        s = replace(moment(0), stamp_ns=k * 100_000_000)
        found = detect_all(sight, s)
        real = found.truth_ids > 0
        error = found.positions[real, :2] - s.positions[found.truth_ids[real] - 1, :2]
        scaled.append(error / found.sigmas[real, None])
        away = np.linalg.norm(s.positions - s.positions[0], axis=1)
        inside = (away <= config.range_m).sum() - 1
        possible, missed = possible + inside, missed + inside - real.sum()
        ghosts |= set(found.ids[~real].tolist())
    assert abs(np.concatenate(scaled).std() - 1) < 0.02
    assert config.miss < missed / possible < config.miss_far
    assert 40 < len(ghosts) < 80  # 2 a second in 30 s


def test_what_is_hidden_or_far_is_not_detected():
    s = moment()
    shares = np.where(np.arange(40) % 2, 0.14, 0.9)
    found = OwnSight(EXACT, 3, 1).detect(s, shares)
    assert ((found.truth_ids - 1) % 2 == 0).all() and len(found) > 5
    assert len(OwnSight(replace(EXACT, range_m=2.0), 3, 1).detect(s, np.ones(40))) == 0


def test_objects_of_detections_have_the_noise_that_they_say_and_no_velocity():
    found = detect_all(OwnSight(SightConfig(), 3, 1), moment(4))
    objects = found.objects()
    assert objects.stamp_ns == 400_000_000 == objects.measured_ns[0]
    assert np.array_equal(objects.ids, found.ids)
    assert np.array_equal(objects.positions, found.positions)
    for axis in (0, 1):
        assert np.allclose(objects.covariances[:, axis, axis], found.sigmas**2)
    assert not objects.velocities.any() and not objects.stations.any()


def test_filter_finds_velocities_and_its_covariance_is_honest():
    config = replace(EXACT, noise_m=0.3, noise_per_m=0.0)
    errors = []
    for seed in range(12):
        sight, own = OwnSight(config, seed, 1), MetricFilter()
        for k in range(25):
            s = moment(k)
            found = detect_all(sight, s)
            objects = own.observe(found.objects())
        truth = {int(i): t - 1 for i, t in zip(found.ids, found.truth_ids, strict=True)}
        rows = [truth[int(i)] for i in objects.ids if int(i) in truth]
        objects = objects.selected(np.isin(objects.ids, list(truth)))
        z = np.hstack([objects.positions[:, :2] - s.positions[rows, :2],
                       objects.velocities[:, :2] - s.velocities[rows, :2]])  # fmt: skip
        P = objects.covariances[:, [0, 1, 3, 4]][:, :, [0, 1, 3, 4]]
        errors.append(np.einsum("ni,nij,nj->n", z, np.linalg.inv(P), z))
        assert np.abs(z[:, 2:]).mean() < 0.6 and np.abs(z[:, :2]).mean() < 0.25
    nees = np.concatenate(errors)
    assert 1.5 < nees.mean() < 4.4  # 4 were it all noise; straight courses need less


def test_an_agent_that_is_gone_is_an_input_error():
    with pytest.raises(InputError, match="actor 77"):
        detect_all(OwnSight(EXACT, 0, 77), moment())
