"""A valid decision by its deadline: the rule policy at once, the shipped decoder in milliseconds,
larger models where there is time for them.

The policy's decision is ready before anything else is asked, judges what every model decides, and
stands in at the deadline when nothing better is there. A larger model's answer goes before the
decoder's, which always runs beside it.
"""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass, replace
from functools import partial
from threading import Event
from typing import Protocol

from llm_edge.answerer import Answerer, Reply
from llm_edge.decision import Decision, Source
from llm_edge.fast import Fast, FastConfig
from llm_edge.isolation import IsolationConfig
from llm_edge.policy import Policy
from llm_edge.remote import Remote, RemoteConfig
from llm_edge.rhythm import Pacer, Rhythm, RhythmConfig
from llm_edge.scene import Scene
from llm_edge.slow import Slow, SlowConfig
from llm_edge.thread_worker import ThreadWorker
from llm_edge.worker import Work, Worker
from pipeline.clock import Clock
from pipeline.config import Config, option

MAX_WAIT_NS = 3_600_000_000_000
LESSONS = frozenset((Source.THOUGHT, Source.GGUF, Source.REMOTE))
"""Whose decisions serve as examples."""
_OVER = "the deadline is over"

Feedback = Callable[[str, int], None]
"""Told the stage that was reached and how many tokens a thought had."""


@dataclass(frozen=True)
class ReasonerConfig(Config):
    """Who is asked, and where they run."""

    fast: str = option(
        "auto",
        "Where the shipped decoder runs: on the caller's thread, in its own process, or nowhere; "
        "auto: a node in a process, else inline.",
        choices=("auto", "inline", "process", "none"),
    )
    slow: str = option(
        "process", "Where the GGUF model runs, if there is one.", choices=("process", "thread")
    )
    slow_memory_mb: int = option(
        4096, "Memory of its own that the GGUF model's process may take; 0 for no cap.",
        low=0, high=1 << 20,
    )  # fmt: skip
    pace_slow: bool = option(
        True, "Stop the GGUF model's process, not a thread, while the tracker is expected to work."
    )
    reserve_ms: float = option(
        0.3, "Kept before the deadline to judge and hand over an answer.", low=0, high=1000
    )
    wake_ms: float = option(
        5.0, "Kept as well where others are waited for, a quarter of the time at most: on a busy "
        "machine a wake-up is late.", low=0, high=1000,
    )  # fmt: skip
    valid_ms: float = option(1000.0, "A decision of the policy holds for so long.", low=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """decision: by whomever. met: whether it was there by the deadline. why: what came of those
    that were asked and not taken, a clause each; empty where the best one asked was taken.
    thought_tokens, votes: of the decoder. ttft_ns: until its first logits; token_ns: of its
    time a token that it said; 0 where it did not answer. refused: whether the policy let a decision
    of a model not pass."""

    decision: Decision
    met: bool
    took_ns: int
    why: str = ""
    thought_tokens: int = 0
    votes: int = 0
    ttft_ns: int = 0
    token_ns: int = 0
    refused: bool = False


class Host(Protocol):
    """Where an ``Answerer`` runs; see ``Worker``."""

    ready: Event
    why: str

    def submit(self, scene: Scene, deadline_ns: int) -> "Future[Reply]": ...

    def prepare(self, scene: Scene) -> None: ...

    def learn(self, scene: Scene, decision: Decision) -> None: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class Reasoner:
    """One scene at a time, on one thread; only ``cancel`` and ``tiers`` are for any other.

    rhythm: to be told when the tracker works, on the reasoner's clock; None where nothing is
    stopped meanwhile. prepares: whether anybody makes use of ``prepare`` and ``learn``.

    Raises:
        InputError: the decoder runs inline and its model cannot be read, or the endpoint is none.
    """

    def __init__(
        self,
        config: ReasonerConfig,
        clock: Clock,
        fast: FastConfig | None = None,
        slow: SlowConfig | None = None,
        remote: RemoteConfig | None = None,
        rhythm: RhythmConfig | None = None,
    ) -> None:
        self._config, self._clock = config, clock
        self._inline: Answerer | None = None
        self._hosts: dict[str, Host] = {}
        self._canceled = False
        self.rhythm: Rhythm | None = None
        self._pacer: Pacer | None = None
        if remote is not None and remote.url:
            self._hosts["remote"] = ThreadWorker(partial(Remote, remote, clock), clock)
        if slow is not None and slow.model:
            self._hosts["gguf"] = self._slow_host(slow, rhythm)
        self.prepares = "gguf" in self._hosts
        if config.fast in ("auto", "inline"):
            self._inline = Fast(fast or FastConfig(), clock)
        elif config.fast == "process":
            work = Work("llm_edge.fast:make", asdict(fast or FastConfig()))
            self._hosts["fast"] = Worker(work, clock, IsolationConfig())

    def _slow_host(self, slow: SlowConfig, rhythm: RhythmConfig | None) -> Host:
        if self._config.slow == "thread":
            return ThreadWorker(
                partial(Slow, slow, self._clock), self._clock, IsolationConfig(scheduling="idle")
            )
        apart = IsolationConfig(scheduling="idle", memory_mb=self._config.slow_memory_mb)
        worker = Worker(Work("llm_edge.slow:make", asdict(slow)), self._clock, apart)
        if self._config.pace_slow:
            self.rhythm = Rhythm(rhythm)
            self._pacer = Pacer(worker, self.rhythm, self._clock)
        return worker

    def decide(self, scene: Scene, deadline_ns: int, feedback: Feedback | None = None) -> Answer:
        """The best decision that is there by the deadline, on the reasoner's clock.

        feedback: called on this thread as stages are reached.
        """
        begun_ns = self._clock.now_ns()
        self._canceled = False
        policy = Policy(scene)
        own = policy.decide(scene.at_ns + round(self._config.valid_ms * 1e6))
        tell = feedback or _nothing
        tell("policy", 0)
        until_ns = min(deadline_ns, begun_ns + MAX_WAIT_NS) - round(self._config.reserve_ms * 1e6)
        if until_ns <= begun_ns:
            late = _OVER if deadline_ns <= begun_ns else "the deadline is too near to reason"
            met = self._clock.now_ns() <= deadline_ns
            return self._finished(Answer(own, met, 0, late), begun_ns)
        wake_ns = min(self._config.wake_ms * 1e6, (until_ns - begun_ns) / 4)
        others_ns = until_ns - round(wake_ns)
        asked = {name: host.submit(scene, others_ns) for name, host in self._hosts.items()}
        replies: dict[str, Reply] = {}
        if self._inline is not None:
            replies["fast"] = self._inline.answer(scene, until_ns)
            tell("fast", int(replies["fast"].figures.get("thought_tokens", 0)))
        for name, answer in asked.items():
            replies[name] = self._awaited(name, answer, others_ns)
            tell(name, int(replies[name].figures.get("thought_tokens", 0)))
        decision, why, refused = self._best(policy, own, replies)
        figures = replies.get("fast", Reply(None)).figures
        met = self._clock.now_ns() <= deadline_ns
        answer_ = Answer(
            decision, met, 0, why, int(figures.get("thought_tokens", 0)),
            int(figures.get("votes", 0)), round(figures.get("ttft_ms", 0.0) * 1e6),
            round(figures.get("token_ms", 0.0) * 1e6), refused,
        )  # fmt: skip
        return self._finished(answer_, begun_ns)

    def _awaited(self, name: str, answer: "Future[Reply]", until_ns: int) -> Reply:
        while not self._canceled:
            left_ns = until_ns - self._clock.now_ns()
            try:
                return answer.result(min(max(left_ns, 0) * 1e-9, 0.05))
            except FutureTimeoutError:
                if left_ns <= 0:
                    break
        self._hosts[name].cancel()
        return Reply(None, "canceled" if self._canceled else "no answer by the deadline")

    def _best(
        self, policy: Policy, own: Decision, replies: dict[str, Reply]
    ) -> tuple[Decision, str, bool]:
        """The first that the policy lets pass, of the largest model first."""
        why, refused = [], False
        for name in ("remote", "gguf", "fast"):
            reply = replies.get(name)
            if reply is None:
                continue
            if reply.decision is None:
                why.append(f"{name}: {reply.why}")
                continue
            against = policy.refuses(reply.decision, own)
            if not against:
                return reply.decision, "; ".join(why), refused
            refused = True
            why.append(f"{name}: refused, {against}")
        return own, "; ".join(why), refused

    def _finished(self, answer: Answer, begun_ns: int) -> Answer:
        return replace(answer, took_ns=self._clock.now_ns() - begun_ns)

    def prepare(self, scene: Scene) -> None:
        """Let the GGUF model read what the next scene will begin with, while nothing is asked."""
        if "gguf" in self._hosts:
            self._hosts["gguf"].prepare(scene)

    def learn(self, scene: Scene, answer: Answer) -> None:
        """What came of a scene, as an example for the GGUF model where it is good enough: made by a
        complete thought or a larger model, and let pass by the policy."""
        if "gguf" in self._hosts and answer.decision.source in LESSONS:
            self._hosts["gguf"].learn(scene, answer.decision)

    def cancel(self) -> None:
        """From any thread: what runs now ends soon, with the policy's decision."""
        self._canceled = True
        if self._inline is not None:
            self._inline.cancel()
        for host in self._hosts.values():
            host.cancel()

    def tiers(self) -> dict[str, str]:
        """Each that is asked: "ready", or why it is not."""
        states = {n: "ready" if h.ready.is_set() else h.why for n, h in self._hosts.items()}
        return states if self._inline is None else {**states, "fast": "ready"}

    def close(self) -> None:
        """End every engine and its process."""
        if self._pacer is not None:
            self._pacer.close()
        for host in self._hosts.values():
            host.close()
        if self._inline is not None:
            self._inline.close()


def _nothing(stage: str, tokens: int) -> None:
    pass
