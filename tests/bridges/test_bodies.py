"""What is drawn of bodies fills their sizes, and the town's meshes face outward."""

import numpy as np
import pytest

from bridges.actors import BODY, Building
from bridges.bodies import CARS, body, paint_of, shape_of
from bridges.meshes import MeshBuilder, crown, dashes
from bridges.roads import Roads, beside, street_roads, zebra
from bridges.streets import houses, make_streets
from bridges.surfaces import textures
from bridges.town import town_meshes
from pipeline.objects import ObjectClass


def volume(mesh):
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    return float((np.cross(a, b) * c).sum() / 6)


@pytest.mark.parametrize("kind", ObjectClass)
@pytest.mark.parametrize("shape", range(len(CARS)))
def test_a_body_fills_its_size_and_faces_outward(kind, shape):
    size = tuple(1.03 * v for v in BODY.get(kind, (2.0, 1.0, 1.2)))
    paint, trim = body(kind, size, shape)
    both = np.concatenate([paint.vertices, trim.vertices])
    assert np.allclose(both.max(axis=0), np.array(size) / 2, atol=0.02)
    assert np.allclose(both.min(axis=0), -np.array(size) / 2, atol=0.02)
    for mesh in (paint, trim):
        assert volume(mesh) > 0 and np.allclose(np.linalg.norm(mesh.normals, axis=1), 1)
        corners = mesh.vertices[mesh.faces]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((flat * mesh.normals[mesh.faces[:, 0]]).sum(axis=1) > 0).all()


def test_actors_keep_paint_and_shape_and_differ():
    paints = {tuple(paint_of(ObjectClass.CAR, i)) for i in range(1, 60)}
    assert len(paints) > 6
    assert {shape_of(ObjectClass.CAR, i) for i in range(1, 60)} == set(range(len(CARS)))
    assert (paint_of(4, 7) == paint_of(4, 7)).all() and shape_of(ObjectClass.BUS, 5) == 0


def test_textures_have_no_seam():
    for name, picture in textures().items():
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        if name in ("ground", "yard", "leaves", "cycle"):
            inner = np.abs(np.diff(picture.astype(int), axis=0)).mean()
            seam = np.abs(picture[0].astype(int) - picture[-1]).mean()
            assert seam < 2 * inner + 2


def test_a_crown_is_closed():
    corners, texture = crown(np.random.default_rng(0))
    builder = MeshBuilder()
    builder.faces(corners, texture)
    assert 1.5 < volume(builder.build()) < 6.0


def test_dashes_and_lines_beside():
    line = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    assert np.allclose(beside(line, 1.0), [[0, 1], [9, 1], [9, 10]])
    pieces = dashes(line, 2.0)
    assert sum(np.linalg.norm(b - a) for a, b in pieces) == pytest.approx(10.0, abs=2.0)
    assert len(dashes(line, 0.0)) == 2
    bars = zebra(np.array([[0.0, 0.0], [6.0, 0.0]]), 2.0)
    assert len(bars) == 6 and np.allclose(np.diff(bars[0].line, axis=0), [[0, 2]])


def test_a_town_of_odd_houses_stands_and_trees_keep_off_the_road():
    streets = make_streets(2, 90.0)
    corner = np.array([[0, 0], [20, 0], [20, 8], [8, 8], [8, 20], [0, 20.0]]) + 30
    buildings = (*houses(streets, np.random.default_rng(1)), Building(corner, 9.0))
    made = town_meshes(buildings, street_roads(streets), 60, np.random.default_rng(2))
    assert {"ground", "asphalt", "paint", "walk", "yard", "cycle", "leaves", "shade"} <= made.keys()
    leaves = made["leaves"].vertices
    from_street = np.abs((leaves[:, :2] + 45) % 90 - 45).min(axis=1)
    inside = ((leaves[:, :2] > 0) & (leaves[:, :2] < 180)).all(axis=1)
    assert (from_street[inside] > 3.0).all()
    bare = town_meshes((), Roads(), 0, np.random.default_rng(2))
    assert bare.keys() == {"ground"}
