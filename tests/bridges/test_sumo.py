"""SUMO's worlds: frames and centers right, repeatable, one at a time; made nets and Bologna."""

from dataclasses import fields

import numpy as np
import pytest

from bridges.sumo import SumoConfig, SumoTraffic, scenario_files
from evaluation.data import find_data
from pipeline.errors import InputError
from pipeline.objects import ObjectClass

pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
pytest.importorskip("sumo", reason="SUMO is not installed (the sumo extra)")

CONFIG = SumoConfig(grid=3, vehicles=22, people=8, warm_up_s=12.0, spacing_m=90.0)


@pytest.fixture
def grid():
    world = SumoTraffic(CONFIG, seed=5)
    yield world
    world.close()


def test_snapshot_has_centers_and_east_based_yaws(grid):
    """Against SUMO's own front bumper and clock-wise angle, and against the motion itself."""
    s = grid.snapshot()
    names = grid._actors.names
    for row in np.flatnonzero(np.isin(s.classes, (2, 4, 5, 6))):
        name = names[int(s.ids[row])]
        length = grid._api.vehicle.getLength(name)
        heading = np.array([np.cos(s.yaws[row]), np.sin(s.yaws[row])])
        front = s.positions[row, :2] + heading * length / 2
        assert np.allclose(front, grid._api.vehicle.getPosition(name))
        compass = np.degrees(np.arctan2(heading[0], heading[1])) % 360
        assert np.isclose(compass, grid._api.vehicle.getAngle(name) % 360)
        assert np.isclose(s.positions[row, 2], grid._api.vehicle.getHeight(name) / 2)
    history = [s] + [grid.step() for _ in range(80)]
    points = np.array([s.positions for s in history])
    velocities = np.array([s.velocities for s in history])
    error = np.diff(points, axis=0) / 0.1 - (velocities[1:] + velocities[:-1]) / 2
    cars = s.classes == ObjectClass.CAR
    assert np.linalg.norm(velocities[:, cars], axis=2).mean() > 2
    assert np.quantile(np.linalg.norm(error[:, cars], axis=2), 0.95) < 0.45


def test_same_seed_gives_the_same_history_and_nobody_leaves(grid):
    first = [grid.step() for _ in range(150)]
    grid.close()
    again = SumoTraffic(CONFIG, seed=5)
    try:
        for old in first:
            new = again.step()
            for field in fields(new):
                assert np.array_equal(getattr(new, field.name), getattr(old, field.name))
        assert len(new) == 22 + 8 + 1
        assert (new.classes == ObjectClass.PERSON).sum() == 8
        assert 2 <= new.equipped.sum() <= 15 and new.equipped[new.classes == 8].all()
        assert not new.equipped[new.classes == ObjectClass.PERSON].any()
        assert (np.diff(new.ids) > 0).all() and new.stamp_ns == 15_000_000_000
    finally:
        again.close()


def test_vehicles_stay_on_their_plans(grid):
    for _ in range(20):
        grid.step()
    s = grid.snapshot()
    rows = np.flatnonzero(np.isin(s.classes, (4, 5, 6)))
    plans = {int(i): grid.plan(int(i), 5.0)[1] for i in s.ids[rows]}
    for row in rows:
        points = plans[int(s.ids[row])]
        assert points.shape == (51, 2) and np.allclose(points[0], s.positions[row, :2])
    apart = []
    for _ in range(30):
        later = grid.step()
        for actor, points in plans.items():
            here = later.positions[later.row(actor), :2]
            apart.append(np.linalg.norm(points - here, axis=1).min())
    assert np.quantile(apart, 0.95) < 1.5


def test_uav_circles_above_an_equipped_vehicle_and_its_plan_is_a_circle(grid):
    for _ in range(100):
        s = grid.step()
    followed = np.flatnonzero(s.equipped & (s.classes != ObjectClass.UAV))[0]
    assert np.linalg.norm(s.positions[0, :2] - s.positions[followed, :2]) < 90
    assert s.classes[0] == ObjectClass.UAV and s.positions[0, 2] == CONFIG.altitude_m
    _, points = grid.plan(int(s.ids[0]), 2.0)
    assert np.allclose(points[0], s.positions[0, :2])
    assert 10 < np.linalg.norm(np.diff(points, axis=0), axis=1).sum() < 20


def test_houses_keep_off_every_body(grid):
    assert len(grid.buildings) > 10
    history = [grid.step() for _ in range(60)]
    points = np.concatenate([s.positions[s.classes != ObjectClass.UAV, :2] for s in history])
    for house in grid.buildings:
        low, high = house.footprint.min(axis=0), house.footprint.max(axis=0)
        assert not ((points > low) & (points < high)).all(axis=1).any()


def test_a_second_world_is_refused_while_one_is_open_and_given_after(grid):
    with pytest.raises(InputError, match="close the other world"):
        SumoTraffic(CONFIG, seed=6)
    grid.step()
    grid.close()
    SumoTraffic(CONFIG, seed=6).close()


def test_bad_scenarios_are_input_errors_and_leave_sumo_free(tmp_path):
    config = tmp_path / "mine.sumocfg"
    for text, match in (
        ("<nothing", "is no .sumocfg"),
        ("<configuration/>", "names no net-file"),
        ('<c><net-file value="none.net.xml"/></c>', "which is not there"),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=match):
            SumoTraffic(CONFIG, scenario=config)
    (tmp_path / "bad.net.xml").write_text("<net>this is none")
    config.write_text('<c><net-file value="bad.net.xml"/></c>')
    with pytest.raises(InputError, match="sumo refuses"):
        SumoTraffic(CONFIG, scenario=config)
    with pytest.raises(InputError, match="cannot be read"):
        SumoTraffic(CONFIG, scenario=tmp_path / "missing.sumocfg")
    SumoTraffic(CONFIG, seed=6).close()


def test_a_scenarios_files_are_linked_away_from_where_sumo_writes(tmp_path):
    scenario = tmp_path / "scenario"
    scenario.mkdir()
    for name in ("a.net.xml", "b.rou.xml", "c.rou.xml"):
        (scenario / name).write_text("<x/>")
    (scenario / "mine.sumocfg").write_text(
        '<c><input><net-file value="a.net.xml"/><route-files value="b.rou.xml, c.rou.xml"/></input>'
        '<output><tripinfo-output value="t.xml"/></output></c>'
    )
    place = tmp_path / "place"
    place.mkdir()
    net, net_file, routes, route_files = scenario_files(scenario / "mine.sumocfg", place)
    assert (net, routes) == ("-n", "-r") and net_file.startswith(str(place))
    assert len(route_files.split(",")) == 2 and "/t.xml" not in net_file + route_files


def test_bologna_runs_and_writes_nothing_beside_its_files():
    config = find_data("data", "v2x", "sumo_bologna", "run.sumocfg")
    if config is None:
        pytest.skip("Bologna's network is not here (LEADSIGHT_DATA)")
    before = sorted(p.name for p in config.parent.iterdir())
    world = SumoTraffic(SumoConfig(warm_up_s=15.0), seed=1, scenario=config)
    try:
        s = [world.step() for _ in range(30)][-1]
        assert len(s) > 30 and ObjectClass.BUS in s.classes and len(world.buildings) > 500
        some = int(s.ids[np.flatnonzero(s.classes == ObjectClass.CAR)[0]])
        assert len(world.plan(some, 3.0)[1]) == 31
    finally:
        world.close()
    assert sorted(p.name for p in config.parent.iterdir()) == before
