"""Rectangles on the ground against a dense sampling of points."""

import numpy as np

from bridges.footprints import area, corners, overlaps, rectangle


def test_overlap_of_rectangles_equals_dense_sampling():
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 81)] * 2), axis=-1).reshape(-1, 2)
    size, yaw = np.array([4.6, 1.9, 1.5]), 0.7
    middles, yaws = rng.uniform(-4, 4, (400, 2)), rng.uniform(-4, 4, 400)
    sizes = rng.uniform(0.5, 6, (400, 3))
    found = overlaps(np.zeros(2), yaw, size, middles, yaws, sizes)
    for k in range(400):
        points = inverse(spread(grid, middles[k], yaws[k], sizes[k]), np.zeros(2), yaw)
        inside = (np.abs(points) <= size[:2] / 2).all(axis=1).any()
        mine = inverse(spread(grid, np.zeros(2), yaw, size), middles[k], yaws[k])
        inside |= (np.abs(mine) <= sizes[k, :2] / 2).all(axis=1).any()
        shrunk = overlaps(np.zeros(2), yaw, size * 0.95, middles[k : k + 1], yaws[k : k + 1],
                          sizes[k : k + 1] * 0.95)[0]  # fmt: skip
        assert found[k] or not inside
        assert inside or not shrunk
    assert 60 < found.sum() < 340


def spread(grid, middle, yaw, size):
    c, s = np.cos(yaw), np.sin(yaw)
    return middle + (grid * size[:2]) @ np.array([[c, s], [-s, c]])


def inverse(points, middle, yaw):
    c, s = np.cos(yaw), np.sin(yaw)
    return (points - middle) @ np.array([[c, -s], [s, c]])


def test_corners_run_counter_clockwise_round_the_middle():
    found = corners(np.array([[3.0, -2.0]]), np.array([0.4]), np.array([[4.0, 2.0, 1.0]]))[0]
    assert np.allclose(found.mean(axis=0), (3, -2))
    assert np.isclose(area(found), 8.0)
    assert np.isclose(area(rectangle(np.array([1, 2]), np.array([4, 7]))), 15.0)
