"""The GGUF tier: a valid decision or a reason, by the deadline, and nothing read twice."""

import threading

import numpy as np
import pytest

from llm_edge.decision import Source
from llm_edge.decision import parse as parse_decision
from llm_edge.isolation import IsolationConfig
from llm_edge.slow import Slow, SlowConfig, make
from llm_edge.worker import Work, Worker
from pipeline.clock import WallClock
from pipeline.errors import InputError
from tests.llm_edge.answerers import proceed
from tests.llm_edge.crowds import MS, NOW, crowd
from tests.llm_edge.gguf_models import CHATML, needs, tiny_gguf

needs("llama_cpp", "gguf", "llguidance")
CLOCK = WallClock()
LONG = 60_000


@pytest.fixture
def slow():
    made = []

    def start(template="", **options):
        values = {"context": 2048, "prompt_tokens": 1300, **options}
        made.append(Slow(SlowConfig(model=str(tiny_gguf(template)), **values), CLOCK))
        return made[-1]

    yield start
    for one in made:
        one.close()


def ask(made, scene=None, ms=LONG):
    scene = crowd() if scene is None else scene
    return made.answer(scene, CLOCK.now_ns() + ms * MS)


@pytest.mark.parametrize(
    "options",
    [{}, {"thought_tokens": 20}, {"tools": True}, {"tools": True, "thought_tokens": 9},
     {"template": CHATML}, {"examples": 0}],
)  # fmt: skip
def test_every_way_to_an_answer_ends_in_a_valid_decision(slow, options):
    made = slow(**options)
    for n, seed in ((6, 1), (0, 2)):
        scene = crowd(n, seed=seed)
        reply = ask(made, scene)
        assert reply.why == ""
        assert parse_decision(reply.decision.to_json(), scene) == reply.decision
        assert reply.decision.source is Source.GGUF
        assert reply.decision.valid_until_ns == NOW + 1000 * MS
        assert reply.figures["forwards"] <= 14
        assert reply.figures["answer_tokens"] > 40
        assert 0 < reply.figures["ttft_ms"] < reply.figures["took_ms"]
        if "thought_tokens" in options:
            assert 0 < reply.figures["thought_tokens"] <= options["thought_tokens"]


def test_the_same_scene_gets_the_same_answer_whatever_came_before(slow):
    made, fresh = slow(), slow()
    first = ask(fresh).decision
    for seed in (4, 5, 6):
        ask(made, crowd(seed=seed))
    assert ask(made).decision == first


def fed(made):
    """Counts tokens that the engine reads from now on."""
    counts = []
    read = made._engine.feed
    made._engine.feed = lambda tokens: counts.append(len(tokens)) or read(tokens)
    return counts


def test_what_stands_still_is_read_once(slow):
    made = slow()
    standing = ask(made).figures["standing_tokens"]
    counts = fed(made)
    figures = ask(made, crowd(seed=2)).figures
    assert sum(counts) <= figures["prompt_tokens"] + figures["answer_tokens"] + 20 - standing


def test_idle_time_reads_what_the_next_prompt_begins_with(slow):
    made = slow()
    made.prepare(crowd(seed=9))
    counts = fed(made)
    figures = ask(made).figures
    assert sum(counts) <= (
        figures["prompt_tokens"] + figures["answer_tokens"] + 20 - figures["standing_tokens"]
    )


@pytest.mark.parametrize("ms", [0, -50])
def test_a_deadline_that_is_over_is_not_begun(slow, ms):
    reply = ask(slow(), ms=ms)
    assert (reply.decision, reply.why) == (None, "the deadline is over")


def test_at_the_deadline_it_is_cut_off_and_answers_the_next_one(slow):
    made = slow(prompt_tokens=1500)
    scene = crowd(500)
    reply = ask(made, scene, ms=10)
    assert (reply.decision, reply.why) == (None, "cut off at the deadline")
    assert ask(made, scene).decision is not None


class Stepping:
    """A clock that goes on by a fifth of a second whenever it is read."""

    step_ns = 200 * MS

    def __init__(self):
        self.ns = NOW

    def now_ns(self):
        self.ns += self.step_ns
        return self.ns


def test_a_thought_ends_in_time_for_the_answer():
    clock = Stepping()
    made = make(clock, model=str(tiny_gguf()), context=4096, thought_tokens=2000)
    for k in range(3):
        deadline_ns = clock.ns + LONG * MS
        reply = made.answer(crowd(seed=k), deadline_ns)
        assert reply.decision is not None
        assert reply.figures["thought_cut"] == 1
        assert 50 < reply.figures["thought_tokens"] < 300
        assert clock.ns < deadline_ns + 5 * clock.step_ns
    made.close()


def test_a_cancel_from_another_thread_ends_it_and_an_idle_one_does_nothing(slow):
    made = slow(context=4096, thought_tokens=2000)
    made.cancel()
    timer = threading.Timer(0.05, made.cancel)
    timer.start()
    reply = ask(made)
    assert (reply.decision, reply.why) == (None, "canceled")
    made.cancel()
    made.prepare(crowd())
    assert made._prefix.tokens.size > 0


def test_a_solved_scene_becomes_the_example_of_its_like(slow):
    made = slow(prompt_tokens=1700)
    bare = ask(made).figures["prompt_tokens"]
    made.learn(crowd(seed=7), proceed(crowd(seed=7)))
    assert ask(made).figures["prompt_tokens"] > bare
    assert slow(examples=0).learn(crowd(), proceed(crowd())) is None


def test_a_prompt_that_the_context_cannot_hold_is_one_reason(slow):
    made = slow(context=512, prompt_tokens=256)
    reply = ask(made)
    assert reply.decision is None
    assert "the target alone take" in reply.why


def test_no_model_is_refused():
    with pytest.raises(InputError, match="give a GGUF file"):
        make(CLOCK)


def test_a_context_that_leaves_no_room_for_a_prompt_is_refused():
    with pytest.raises(InputError, match="leaves 212 for the prompt"):
        make(CLOCK, model=str(tiny_gguf()), context=512, thought_tokens=100 - 1)


def test_it_runs_in_a_process_of_its_own_under_sched_idle():
    options = {"model": str(tiny_gguf()), "context": 4096, "prompt_tokens": 2500}
    isolation = IsolationConfig(scheduling="idle", memory_mb=1500)
    worker = Worker(Work("llm_edge.slow:make", options), CLOCK, isolation)
    assert worker.ready.wait(30)
    worker.prepare(crowd())
    reply = worker.ask(crowd(), CLOCK.now_ns() + LONG * MS)
    worker.close()
    assert reply.decision is not None
    assert worker.missed == ()


def test_a_model_that_cannot_be_loaded_there_is_one_reason(tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf().read_bytes()[:5000])
    worker = Worker(Work("llm_edge.slow:make", {"model": str(path)}), CLOCK)
    for _ in range(1000):
        if worker.why.startswith("failed"):
            break
        worker._closed.wait(0.02)
    assert str(path) in worker.ask(crowd(), CLOCK.now_ns() + MS * 100).why
    worker.close()


def test_answers_stay_valid_for_many_scenes(slow):
    made = slow(prompt_tokens=900)
    rng = np.random.default_rng(0)
    for seed in range(8):
        scene = crowd(int(rng.integers(0, 90)), blind=int(rng.integers(0, 60)), seed=seed)
        assert ask(made, scene).decision is not None
