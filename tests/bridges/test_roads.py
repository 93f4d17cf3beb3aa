"""Who drives is on asphalt and who walks beside the road is not, in both traffic worlds."""

import cv2
import numpy as np
import pytest

from bridges.roads import ASPHALT, WALK
from bridges.sumo import SumoConfig, SumoTraffic
from bridges.traffic import KinematicTraffic, TrafficConfig
from pipeline.objects import ObjectClass

CELL = 0.25


def painted(roads, surface):
    """A mask of a surface, and the corner that it begins at."""
    low = np.concatenate([s.line for s in roads.strips]).min(axis=0) - 30
    high = np.concatenate([s.line for s in roads.strips]).max(axis=0) + 30
    mask = np.zeros(np.ceil((high - low) / CELL).astype(int)[::-1], np.uint8)
    for strip in roads.strips:
        if strip.surface == surface:
            line = np.round((strip.line - low) / CELL).astype(np.int32)
            cv2.polylines(mask, [line], False, 1, max(1, round(strip.width / CELL)))
    for area in roads.areas:
        if area.surface == surface:
            cv2.fillPoly(mask, [np.round((area.outline - low) / CELL).astype(np.int32)], 1)
    return mask, low


def share_on(roads, surface, points):
    mask, low = painted(roads, surface)
    column, row = np.round((points - low) / CELL).astype(int).T
    return mask[row, column].mean()


def places(world, kinds, steps=60):
    found = []
    for _ in range(steps):
        s = world.step()
        found.append(s.positions[np.isin(s.classes, kinds), :2])
    return np.concatenate(found)


def test_the_kinematic_town_is_paved_where_it_is_used():
    world = KinematicTraffic(TrafficConfig(blocks=3, people=30), seed=2)
    assert share_on(world.roads, ASPHALT, places(world, (4, 5, 6, ObjectClass.CYCLIST))) > 0.999
    assert share_on(world.roads, WALK, places(world, (ObjectClass.PERSON,))) > 0.6
    for house in world.buildings:
        assert share_on(world.roads, ASPHALT, house.footprint) == 0
    assert len(world.roads.markings) > 100


def test_sumo_s_network_is_paved_where_it_is_used():
    pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    config = SumoConfig(grid=3, vehicles=22, people=20, warm_up_s=8.0, uavs=0)
    world = SumoTraffic(config, seed=2)
    try:
        assert share_on(world.roads, ASPHALT, places(world, (4, 5, 6))) > 0.98
        assert share_on(world.roads, WALK, places(world, (ObjectClass.PERSON,))) > 0.6
        assert len(world.roads.markings) > 50
    finally:
        world.close()
