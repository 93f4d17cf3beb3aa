"""Late data at the moment of fusion: predicted, in whole steps, or as they were."""

import numpy as np
import pytest

from comms.alignment import ALIGN, keep_stale, predict, predict_floored
from comms.motion import predicted
from tests.comms.made import MS, NOW, objects
from tests.comms.scenes import things

MOVING = things([(0, 0)] * 4, (10.0, 0.0))
DELAYS_MS = np.array([0, 99, 250, 1000])
STAMPS = NOW - DELAYS_MS * MS


def test_each_object_is_carried_over_its_own_delay():
    out = predict(MOVING, STAMPS, NOW)
    assert out.stamp_ns == NOW
    np.testing.assert_allclose(out.positions[:, 0], DELAYS_MS / 100)
    alone = objects(np.random.default_rng(1), 30)
    same = predict(alone, np.full(30, alone.stamp_ns), NOW + 700 * MS)
    np.testing.assert_allclose(same.covariances, predicted(alone, NOW + 700 * MS).covariances)


def test_whole_steps_leave_up_to_a_tenth_of_a_second_out():
    out = predict_floored(MOVING, STAMPS, NOW)
    np.testing.assert_allclose(out.positions[:, 0], [0, 0, 2, 10])


def test_stale_data_stay_where_they_were_and_as_sure():
    out = keep_stale(MOVING, STAMPS, NOW + 5)
    assert out.stamp_ns == NOW + 5
    assert (out.positions == MOVING.positions).all()
    assert (out.covariances == MOVING.covariances).all()


@pytest.mark.parametrize("name", ALIGN)
def test_nothing_is_late_where_there_is_no_delay(name):
    some = objects(np.random.default_rng(2), 20)
    out = ALIGN[name](some, np.full(20, NOW), NOW)
    np.testing.assert_array_equal(out.positions, some.positions)
    np.testing.assert_allclose(out.covariances, some.covariances)
