"""Along and aside of a path, against circles and lines where both are known."""

import numpy as np
import pytest

from llm_edge.way import KEPT, Way
from pipeline.errors import InputError

ORIGIN = np.zeros(2)


def test_a_circle_is_unrolled():
    angle = np.linspace(0, np.pi, 400)
    way = Way(50 * np.stack([np.sin(angle), 1 - np.cos(angle)], axis=1), ORIGIN, 0.0)
    theta, radius = np.array([0.3, 1.0, 2.0]), np.array([50.0, 46.0, 53.0])
    places = np.stack([radius * np.sin(theta), 50 - radius * np.cos(theta)], axis=1)
    along, aside, tangents = way.place(places)
    np.testing.assert_allclose(along, 50 * theta, atol=0.03)
    np.testing.assert_allclose(aside, 50 - radius, atol=0.03)  # it turns left
    np.testing.assert_allclose(tangents, np.stack([np.cos(theta), np.sin(theta)], 1), atol=0.01)


def test_the_ends_go_on_straight():
    way = Way(np.array([[0.0, 0], [10, 0], [10, 10]]), ORIGIN, 0.0)
    along, aside, _ = way.place(np.array([[-5.0, 1], [12, 30]]))
    np.testing.assert_allclose(along, [-5, 40])
    np.testing.assert_allclose(aside, [1, -2])


@pytest.mark.parametrize("path", [None, np.zeros((0, 2)), np.zeros((1, 2)), np.ones((7, 2))])
def test_without_a_path_it_is_straight_ahead(path):
    way = Way(path, np.array([3.0, 4.0]), np.pi / 2)
    along, aside, _ = way.place(np.array([[1.0, 9.0]]))
    np.testing.assert_allclose([along[0], aside[0]], [5, 2])


def test_a_long_path_is_cut_and_thinned_and_means_the_same():
    x = np.linspace(0, 5000, 10_000)
    way = Way(np.stack([x, 0 * x], axis=1), np.array([2500.0, 0]), 0.0)
    along, aside, _ = way.place(np.array([[2500.0, 0], [2600, 4], [2650, -8]]))
    np.testing.assert_allclose(np.diff(along), [100, 50])
    np.testing.assert_allclose(aside, [0, 4, -8], atol=1e-9)
    assert len(way._starts) < KEPT


@pytest.mark.parametrize(
    "path", [np.zeros((10_001, 2)), np.zeros((3, 3)), np.array([[0, np.nan]]), np.full((2, 2), 1e9)]
)
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(InputError, match="path"):
        Way(path, ORIGIN, 0.0)
