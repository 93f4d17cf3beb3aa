"""The cache answers for what it was told, as long as it holds; the nearest solved scene is that."""

from dataclasses import replace

import numpy as np
import pytest

from llm_edge.cache import Case, DecisionCache, SolvedScenes, features
from llm_edge.decision import Source
from llm_edge.scene import Mission
from pipeline.errors import InputError
from tests.llm_edge.answerers import proceed
from tests.llm_edge.crowds import MS, NOW, crowd

DECISION = proceed(crowd(), valid_until_ns=NOW + 700 * MS)


def test_what_was_put_comes_back_marked_while_it_holds():
    cache = DecisionCache(4, 300 * MS)
    cache.put(b"a", DECISION, NOW)
    assert cache.get(b"a", NOW + 300 * MS) == replace(DECISION, source=Source.CACHE)
    assert cache.get(b"b", NOW) is None
    assert cache.get(b"a", NOW + 301 * MS) is None
    assert len(cache) == 0


def test_it_never_outlives_the_decision_nor_answers_before_it_was_made():
    cache = DecisionCache(4, 10_000 * MS)
    cache.put(b"a", DECISION, NOW)
    assert cache.get(b"a", NOW + 701 * MS) is None
    cache.put(b"a", DECISION, NOW)
    assert cache.get(b"a", NOW - 1) is None
    assert cache.get(b"a", NOW) is None


def test_a_cached_answer_does_not_renew_itself():
    cache = DecisionCache(4, 300 * MS)
    cache.put(b"a", DECISION, NOW)
    again = cache.get(b"a", NOW + 200 * MS)
    cache.put(b"a", again, NOW + 200 * MS)
    assert cache.get(b"a", NOW + 400 * MS) is None


def test_it_is_bounded_and_drops_what_was_not_used():
    cache = DecisionCache(2, 300 * MS)
    cache.put(b"a", DECISION, NOW)
    cache.put(b"b", DECISION, NOW)
    cache.get(b"a", NOW)
    cache.put(b"c", DECISION, NOW)
    assert [cache.get(k, NOW) is None for k in (b"a", b"b", b"c")] == [False, True, False]


@pytest.mark.parametrize("size", [0, -1])
def test_no_room_is_refused(size):
    with pytest.raises(InputError):
        DecisionCache(size)
    with pytest.raises(InputError):
        SolvedScenes(size)


def test_the_nearest_is_the_same_scene_seen_a_little_differently():
    rng = np.random.default_rng(1)
    kept = SolvedScenes(64)
    assert kept.nearest(crowd()) is None
    scenes = [crowd(5, seed=k) for k in range(50)]
    for scene in scenes:
        kept.add(Case(scene, proceed(scene)))
    for scene in scenes:
        moved = replace(scene, positions=scene.positions + rng.normal(0, 0.02, (5, 2)))
        found, away = kept.nearest(moved)
        assert found.scene is scene
        assert 0 <= away < 0.2
        assert kept.nearest(scene)[1] == 0


def test_the_oldest_go_first():
    kept = SolvedScenes(3)
    scenes = [crowd(5, seed=k) for k in range(5)]
    for scene in scenes:
        kept.add(Case(scene, proceed(scene)))
    assert len(kept) == 3
    assert [kept.nearest(s)[0].scene is s for s in scenes] == [False, False, True, True, True]


def test_moments_of_one_situation_take_one_place():
    kept = SolvedScenes(8)
    first = crowd(5, seed=1)
    kept.add(Case(first, proceed(first)))
    other = crowd(5, seed=2)
    for k in range(30):
        moment = replace(other, positions=other.positions + 0.01 * k)
        kept.add(Case(moment, proceed(moment)))
    assert len(kept) == 2
    assert kept.nearest(first)[0].scene is first
    assert kept.nearest(other)[0].scene is moment


def test_features_are_bounded_and_tell_missions_apart():
    for n in (0, 1, 4, 500):
        made = features(crowd(n, seed=n))
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert np.abs(made).max() <= 40
    assert (features(crowd()) != features(crowd(mission=Mission.HOLD))).any()
