"""The fast tier, with a decoder that has learned nothing: whatever it says, form and time hold."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from llm_edge import scenarios
from llm_edge.decision import Source, parse
from llm_edge.fast import Fast, FastConfig
from llm_edge.words import FIELDS
from pipeline.clock import SimClock, WallClock
from pipeline.errors import InputError
from tests.llm_edge.crowds import crowd
from tests.llm_edge.decoders import checkpoint, onnx_file, spoken

S = 10**9
SCENES = scenarios.scenes_of(
    scenarios.draw(np.random.default_rng(1), 36, (*scenarios.KINDS, *scenarios.HELD_OUT))
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return spoken(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def make(file):
    made = []

    def factory(clock=None, **options):
        made.append(Fast(FastConfig(model=str(file), **options), clock or WallClock()))
        return made[-1]

    yield factory
    for fast in made:
        fast.close()


def asked(fast, scene, seconds=10.0, clock=None):
    now_ns = (clock or WallClock()).now_ns()
    return fast.answer(scene, now_ns + round(seconds * S))


@pytest.mark.parametrize("options", [{}, {"votes": 3}, {"thought": False}])
def test_whatever_it_says_is_a_decision_on_the_scene(make, options):
    fast = make(**options)
    for scene in SCENES:
        reply = asked(fast, scene)
        assert reply.decision is not None, reply.why
        again = parse(reply.decision.to_json(), scene)
        assert (again.action, again.target) == (reply.decision.action, reply.decision.target)


def test_with_time_the_thought_is_complete_and_without_thought_there_is_none(make):
    replies = [asked(make(), scene) for scene in SCENES[:20]]
    assert all(r.decision.source is Source.THOUGHT for r in replies)
    assert any(r.figures["thought_tokens"] > 3 for r in replies)
    plain = [asked(make(thought=False), scene) for scene in SCENES[:20]]
    assert all(r.decision.source is Source.FAST for r in plain)
    assert all(r.figures["thought_tokens"] == 0 for r in plain)


@pytest.mark.parametrize("thought", [True, False])
def test_drafts_save_calls_and_change_no_decision(make, thought):
    drafted, plain = make(thought=thought), make(thought=thought, drafts=False)
    saved = 0
    for scene in SCENES:
        one, other = asked(drafted, scene), asked(plain, scene)
        assert one.decision == other.decision
        assert one.figures["thought_tokens"] == other.figures["thought_tokens"]
        assert one.figures["calls"] <= other.figures["calls"]
        saved += other.figures["calls"] - one.figures["calls"]
        if not thought:
            assert other.figures["calls"] == len(FIELDS)
    assert saved > 0


def test_the_same_scene_gets_the_same_answer_whatever_was_asked_before(tmp_path):
    file = spoken(tmp_path, quantized=True)  # as it ships: the tokens of a call share a scale
    fast, other = (Fast(FastConfig(model=str(file)), WallClock()) for _ in range(2))
    first = [asked(fast, scene).decision for scene in SCENES]
    again = [asked(fast, scene).decision for scene in SCENES for _ in range(2)]
    assert again[::2] == again[1::2] == first
    assert [asked(other, scene).decision for scene in SCENES[::-1]] == first[::-1]
    fast.close()
    other.close()


class Counted(SimClock):
    """A clock on which each look takes a tenth of a millisecond."""

    def now_ns(self):
        self.advance_to(super().now_ns() + 100_000)
        return super().now_ns()


def hurried(fast, clock):
    """Scenes and what they got in so little time that some thoughts are cut, however fast this
    machine is by the calibration."""
    pairs = [(s, asked(fast, s, ms * 1e-3, clock)) for s in SCENES[:12]
             for ms in (1, 1.4, 1.8, 2.2, 2.6, 3, 4)]  # fmt: skip
    return [(scene, reply) for scene, reply in pairs if reply.decision is not None]


def test_a_thought_is_closed_when_its_time_is_over(make):
    clock = Counted(1)
    fast = make(clock=clock, drift=False)
    cut = [(s, r) for s, r in hurried(fast, clock) if r.decision.source is Source.FAST]
    assert cut
    for scene, reply in cut:
        whole = asked(fast, scene, 10.0, clock)
        assert whole.decision.source is Source.THOUGHT
        assert reply.figures["thought_tokens"] <= whole.figures["thought_tokens"]
    assert any(r.figures["thought_tokens"] for _, r in cut)


def test_a_deadline_that_is_over_or_too_near_gets_a_reason(make):
    fast = make()
    assert "over" in fast.answer(SCENES[0], WallClock().now_ns() - S).why
    assert "fits" in asked(fast, SCENES[0], 2e-4).why


def test_a_slow_moment_is_forgotten_where_nothing_is_tried_any_more(make):
    fast = make()
    for _ in range(60):
        fast._drift.observe(1e6, 1e8)
    assert asked(fast, SCENES[0], 0.05).decision is None
    replies = (asked(fast, SCENES[0], 0.05) for _ in range(1000))
    assert any(reply.decision is not None for reply in replies)


def test_a_stall_between_calls_is_forgotten_too(make):
    fast = make()
    fast._between_ns = 1e9
    assert asked(fast, SCENES[0], 0.05).decision is None
    replies = (asked(fast, SCENES[0], 0.05) for _ in range(1000))
    assert any(reply.decision is not None for reply in replies)


def test_the_cache_gives_the_same_scene_the_same_answer_and_says_so(make):
    fast = make(cache_ms=60_000.0)
    now = WallClock().now_ns()
    scene = replace(SCENES[3], at_ns=now, seen_ns=now)
    first, second = asked(fast, scene).decision, asked(fast, scene).decision
    assert second == replace(first, source=Source.CACHE)
    renamed = replace(scene, ids=scene.ids + 100, target=-1)
    assert asked(fast, renamed).decision.source is not Source.CACHE


def test_a_cached_answer_ages_by_the_world_s_time(make):
    fast = make(cache_ms=300.0)
    early = replace(SCENES[3], at_ns=5 * S, seen_ns=5 * S)  # a simulated clock's
    assert asked(fast, early).decision.source is not Source.CACHE
    soon, late = (replace(early, at_ns=5 * S + ahead) for ahead in (S // 5, S))
    again = asked(fast, soon).decision
    assert again.source is Source.CACHE and again.valid_until_ns == soon.at_ns + S
    assert asked(fast, late).decision.source is not Source.CACHE


def test_a_vehicle_that_is_twice_as_fast_gets_no_other_one_s_cached_speed(make):
    fast, other = make(cache_ms=60_000.0), make()
    for scene in SCENES[:12]:
        p, twice = scene.platform, [2.0, 1.0]
        faster = replace(
            scene, speed_mps=2 * scene.speed_mps, cruise_mps=2 * scene.cruise_mps,
            positions=scene.positions * twice, velocities=scene.velocities * twice,
            sizes=scene.sizes * twice, blind=scene.blind * twice,
            platform=replace(p, limit_mps=2 * p.limit_mps, brake_mps2=2 * p.brake_mps2,
                             size_m=(2 * p.size_m[0], p.size_m[1])),
        )  # fmt: skip
        asked(fast, scene)
        assert asked(fast, faster).decision == asked(other, faster).decision


def test_a_cut_thought_is_not_kept_for_who_has_more_time(make):
    clock = Counted(1)
    fast = make(clock=clock, drift=False, cache_ms=60_000.0)
    cut = [scene for scene, reply in hurried(fast, clock) if reply.decision.source is Source.FAST]
    assert cut
    whole = {Source.THOUGHT, Source.CACHE}  # kept of a longer deadline
    assert {asked(fast, s, 10.0, clock).decision.source for s in cut} <= whole


def test_it_is_cut_off_from_another_thread_and_answers_again(make):
    fast = make()
    fast.cancel()  # nothing runs: it is not for the next question
    assert asked(fast, SCENES[1]).decision is not None
    stop = threading.Event()

    def cancels():
        while not stop.is_set():
            fast.cancel()
            time.sleep(0.0003)

    thread = threading.Thread(target=cancels)
    thread.start()
    replies = [asked(fast, SCENES[k % len(SCENES)]) for k in range(200)]
    stop.set()
    thread.join()
    assert {r.why for r in replies} <= {"", "canceled"} and any(r.why for r in replies)
    asked(fast, SCENES[1])
    assert asked(fast, SCENES[1]).decision is not None


def test_an_engine_that_fails_is_a_reason(make):
    fast = make()
    fast._engine.close()
    assert "closed" in asked(fast, SCENES[1]).why or "rewind" in asked(fast, SCENES[1]).why


def test_five_hundred_objects_are_decided_on(make):
    scene = crowd(n=500, blind=64)
    assert parse(asked(make(), scene).decision.to_json(), scene)


def test_a_model_of_other_words_or_none_is_one_line(tmp_path):
    with pytest.raises(InputError, match="words are not this version's"):
        Fast(FastConfig(model=str(onnx_file(tmp_path, checkpoint()))), WallClock())
    with pytest.raises(InputError, match="nowhere"):
        Fast(FastConfig(model=str(tmp_path / "nowhere.onnx")), WallClock())
