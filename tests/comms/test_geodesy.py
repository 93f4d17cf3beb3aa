"""The local frame on the earth."""

import numpy as np
import pytest

from comms.geodesy import Origin
from pipeline.errors import InputError


def test_there_and_back_is_exact_over_ten_kilometers():
    rng = np.random.default_rng(0)
    for _ in range(20):
        origin = Origin(rng.uniform(-80, 80), rng.uniform(-180, 180), rng.uniform(-100, 3000))
        points = rng.uniform(-10_000, 10_000, (50, 3))
        assert np.abs(origin.to_local(origin.to_wgs84(points)) - points).max() < 1e-6


def test_axes_are_east_north_and_up():
    origin = Origin(44.49, 11.34, 60.0)
    there = origin.to_wgs84(np.array([[0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100.0]]))
    assert np.allclose(there[0], (44.49, 11.34, 60))
    # A second of latitude is 30.9 m; one of longitude that times the cosine.
    assert there[2, 0] - 44.49 == pytest.approx(100 / 111_120, rel=2e-3)
    assert there[1, 1] - 11.34 == pytest.approx(100 / 111_320 / np.cos(np.radians(44.49)), rel=2e-3)
    assert there[3, 2] == pytest.approx(160)


@pytest.mark.parametrize("wrong", [(91, 0), (0, 181), (0, 0, 1e5), (float("nan"), 0)])
def test_a_place_that_is_not_on_the_earth_is_refused(wrong):
    with pytest.raises(InputError, match="origin"):
        Origin(*wrong)
