"""Houses between roads: off every road, beside every road, and never in each other."""

from itertools import pairwise

import numpy as np
import pytest

from bridges.blocks import FAR_M, LONGEST, SETBACK_M, fill_blocks
from pipeline.errors import InputError

ROADS = [
    (np.array([[0.0, 0], [150, 0]]), 3.0),
    (np.array([[40.0, -80], [70, 90], [160, 140]]), 5.0),
]


def test_houses_keep_off_roads_and_line_them():
    houses = fill_blocks(ROADS, np.random.default_rng(3))
    assert len(houses) > 20
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 2), axis=-1).reshape(-1, 2)
    nearest = []
    for line, half in ROADS:
        t = np.linspace(0, 1, 400)[:, None]
        road = np.concatenate([a + t * (b - a) for a, b in pairwise(line)])
        for house in houses:
            low, high = house.footprint.min(axis=0), house.footprint.max(axis=0)
            points = low + grid * (high - low)
            apart = np.linalg.norm(points[:, None] - road[None], axis=2)
            assert apart.min() > half + SETBACK_M - 0.3
            nearest.append(apart.min() - half)
    nearest = np.array(nearest).reshape(2, -1)
    assert (nearest < SETBACK_M + 8).sum(axis=1).min() >= 3
    assert (nearest.min(axis=0) < FAR_M).all()


def test_houses_do_not_overlap_and_are_of_a_house_s_size():
    houses = fill_blocks(ROADS, np.random.default_rng(3))
    low = np.array([h.footprint.min(axis=0) for h in houses])
    high = np.array([h.footprint.max(axis=0) for h in houses])
    meet = (low[:, None] < high[None]).all(-1) & (low[None] < high[:, None]).all(-1)
    assert meet.sum() == len(houses)
    assert (high - low).max() <= LONGEST * 4 and (high - low).min() > 4
    other = fill_blocks(ROADS, np.random.default_rng(4))
    assert [h.height for h in other] != [h.height for h in houses]


def test_no_roads_or_a_continent_of_them_is_an_input_error():
    with pytest.raises(InputError, match="no roads"):
        fill_blocks([], np.random.default_rng(0))
    for wide in (1e6, float("nan")):
        with pytest.raises(InputError, match="8 km"):
            fill_blocks([(np.array([[0.0, 0], [wide, wide]]), 3.0)], np.random.default_rng(0))
