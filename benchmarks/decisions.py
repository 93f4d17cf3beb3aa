"""How many decisions are right and in time, over scenes that nothing was learned from.

    python -m benchmarks.decisions [--scenes 10000] [--deadlines 5 10 33 100]

Right: action, target, direction, speed, risk and reason are all those of the look-ahead, which the
decoder was taught by. ``learned``: kinds of scenes as in the training, drawn anew; ``held out``:
kinds (merging, queues, swarms) that were not in it. In time: handed over by the deadline, wall
clock, on a busy machine too. Goodput: right, in time and not the policy's own. Rows: the rule
policy alone; the decoder without a thought, with one as long as the deadline lets it, the same one
token after the other, with votes; and what the look-ahead itself takes. One thread, one scene after
the other.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.progress import track

from evaluation.decisions import Decide, Examination, Score, by_look_ahead, examination, examine
from llm_edge import scenarios
from llm_edge.fast import FastConfig, shipped
from llm_edge.policy import Policy
from llm_edge.reasoner import Answer, Reasoner, ReasonerConfig
from llm_edge.scene import Scene
from pipeline.clock import WallClock
from pipeline.errors import InputError

PAPERS = {"learned": scenarios.KINDS, "held out": scenarios.HELD_OUT}


def by_policy(scene: Scene, deadline_ns: int) -> Answer:
    """The rule policy alone."""
    return Answer(Policy(scene).decide(scene.at_ns), True, 0)


def looked_ahead(scene: Scene, deadline_ns: int) -> Answer:
    """The look-ahead itself, however long it takes."""
    return Answer(by_look_ahead(scene), True, 0)


def row(name: str, paper: str, deadline_ms: float, s: Score) -> str:
    """One line of the table in Markdown."""
    shares = (s.valid, s.in_time, s.right, s.action, s.fallback, s.goodput)
    return (
        f"| {name} | {paper} | {deadline_ms:g} | "
        + " | ".join(f"{100 * share:.2f}" for share in shares)
        + f" | {s.tokens:.1f} | {s.p50_ms:.2f} / {s.p99_ms:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=10_000, help="of each paper")
    parser.add_argument("--deadlines", type=float, nargs="+", default=[5, 10, 33, 100], help="ms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--votes", type=int, default=4)
    parser.add_argument("--model", type=Path, default=None, help="a decoder of yours, .onnx")
    args = parser.parse_args()
    try:
        model = args.model or shipped()
    except InputError as error:
        parser.error(str(error))
    clock = WallClock()

    def reasoner(**options: object) -> Reasoner:
        fast = FastConfig(model=str(model), **options)  # type: ignore[arg-type]
        return Reasoner(ReasonerConfig(), clock, fast)

    plain, thinking, voting = reasoner(thought=False), reasoner(), reasoner(votes=args.votes)
    undrafted = reasoner(drafts=False)
    fixed: list[tuple[str, Decide]] = [
        ("rule policy", by_policy), ("no thought", plain.decide), ("look-ahead", looked_ahead),
    ]  # fmt: skip
    longest = max(args.deadlines)
    rows: list[tuple[str, float, Decide]] = [(name, longest, decide) for name, decide in fixed]
    rows += [("thought", ms, thinking.decide) for ms in args.deadlines]
    rows += [("thought, no drafts", longest, undrafted.decide)]
    rows += [(f"{args.votes} votes", longest, voting.decide)]
    print(
        "| decided by | scenes | deadline ms | valid % | in time % | right % | action % | "
        "fallback % | goodput % | thought's tokens | ms p50 / p99 |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for title, kinds in PAPERS.items():
        paper: Examination = examination(args.seed, args.scenes, kinds)
        for name, ms, decide in rows:
            shown = _progress(f"{title}, {name}")
            score = examine(decide, paper, round(ms * 1e6), clock.now_ns, shown)
            print(row(name, title, ms, score), flush=True)


def _progress(title: str) -> Callable:  # type: ignore[type-arg]
    return lambda scenes: track(scenes, description=title, transient=True)


if __name__ == "__main__":
    main()
