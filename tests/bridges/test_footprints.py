"""Rectangles on the ground against a dense sampling of points."""

import numpy as np
import pytest

from bridges.footprints import area, convex_parts, corners, overlaps, rectangle


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


def inside(polygon, points):
    """(N,) by counting crossings of a ray."""
    x, y = points.T
    a, b = polygon, np.roll(polygon, -1, axis=0)
    spans = (a[:, 1] > y[:, None]) != (b[:, 1] > y[:, None])
    at = a[:, 0] + (y[:, None] - a[:, 1]) / (b[:, 1] - a[:, 1] + 1e-15) * (b[:, 0] - a[:, 0])
    return (spans & (x[:, None] < at)).sum(axis=1) % 2 == 1


@pytest.mark.parametrize("seed", range(6))
def test_convex_parts_cover_a_jagged_polygon_exactly(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 15))
    radii = rng.uniform(2, 9, 15)
    star = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    parts = convex_parts(star)
    assert len(parts) == 13
    assert np.isclose(sum(area(p) for p in parts), area(star))
    points = rng.uniform(-9, 9, (3000, 2))
    counted = np.sum([inside(p, points) for p in parts], axis=0)
    assert np.array_equal(counted, inside(star, points).astype(int))


def test_a_convex_quadrangle_stays_whole_and_a_dart_does_not():
    assert len(convex_parts(np.array([[0.0, 0], [4, 0], [5, 3], [0, 2]]))) == 1
    dart = np.array([[0.0, 0], [4, 0], [1, 1], [0, 4]])
    assert sorted(len(p) for p in convex_parts(dart)) == [3, 3]
