"""Whether a region of probability p holds its target in share p of its uses, and what that costs.

    python -m benchmarks.calibration [--every 3] [--sequences N] [--jitter 1.0] [--data UAV20L]
    python -m benchmarks.calibration --online [--clips N]
    python -m benchmarks.calibration --fit [--every 12 | --online]

The tracker's latency and the planner's that acts on the forecasts are log-normal; the more
``--jitter``, the heavier the tail of the planner's. "known", "distribution" and "median" are what
the forecast was told of the moment of use. Without an option: stored outputs of UAVDT, on which
nothing was tuned. ``--online``: NanoTrack v3 truly online on the clips under data/tracking/frames;
its own errors were chosen on UAV123's. ``--fit`` prints the constants that make the true boxes of
UAV123 and UAV20L most likely, while the tracker is on its target; with ``--online``, those of
UAV123's clips, and how constants that were fit on the other clips do on each. "on target": share
of the uses whose answer overlaps the truth of its own frame by half; a target that is lost is not
where any filter thinks, which "all" shows.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

from benchmarks.latency_recovery import clips as recorded_clips
from evaluation.calibration import (
    KNOWLEDGE,
    PROBABILITIES,
    Uses,
    carried_uses,
    contains,
    joined,
    predicted_uses,
)
from evaluation.clock import Latency
from evaluation.data import find_data
from evaluation.metrics import success_value
from evaluation.online import ReplaySource, TrackerSource
from evaluation.replay import find_outputs, open_replay
from evaluation.scale import Recording
from evaluation.sequences import Sequence
from evaluation.sources import open_any
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.propagator import PropagatorConfig
from perception.tracker import TrackerConfig, make_tracker
from pipeline.box import from_center
from pipeline.errors import InputError
from prediction.horizon import FREEDOM, Outlook
from prediction.predictor import PREDICTORS, PredictorConfig
from prediction.two_rate import FusionConfig

LATENCIES_S = (0.047, 0.1, 0.17)
TRACKER_JITTER = 0.3
PLANNER_S, PLANNER_JITTER = 0.08, 0.5
NO_ERROR = {"tracker_center_error": 0.0, "tracker_size_error": 0.0}
NANOTRACK = {"tracker_center_error": 0.05, "tracker_size_error": 0.14}
HEAD_P = " | ".join(f"p = {p:g}" for p in PROBABILITIES)
HEAD = (
    f"| latency | predictor | moment of use | {HEAD_P} | area at .9 | AUC | on target | all at .9 |"
)
RULE = "| --- | --- | --- |" + " ---: |" * (len(PROBABILITIES) + 4)


def latency(seconds: float) -> Latency:
    return Latency.of_seconds(seconds, TRACKER_JITTER)


def rest(jitter: float) -> Latency:
    """The planner's; another seed than the tracker's, so that the two are independent."""
    return Latency.of_seconds(PLANNER_S, jitter, seed=1)


def recorded(dataset: str, sequences: int | None) -> list[tuple[Sequence, ReplaySource]]:
    """A data set's sequences with the stored outputs of all trackers.

    Raises:
        SystemExit: it is not here.
    """
    outputs = find_data("data", "tracking", "raw", dataset)
    if outputs is None:
        raise SystemExit(f"no outputs of {dataset}; set LEADSIGHT_DATA to the folder of data/")
    return open_replay(find_outputs([outputs]))[:sequences]


def stored(
    cases: list[tuple[Sequence, ReplaySource]],
    seconds: float,
    acting: Latency,
    config: PredictorConfig,
    every: int,
) -> tuple[Uses, Counter[str]]:
    """Uses of a predictor on all of them, and what was left out."""
    parts, left = [], Counter[str]()
    for case in cases:
        uses, without = predicted_uses(*case, latency(seconds), acting, config, every)
        parts.append(uses)
        left += without
    return joined(parts), left


def rows(uses: Uses, seconds: float, name: str) -> Iterator[str]:
    """Lines of the table."""
    own = uses.of(uses.on_target)
    for k, knowledge in enumerate(KNOWLEDGE):
        cells = [f"{c:.3f}" for c in own.inside[:, k].mean(axis=0)]
        at = PROBABILITIES.index(0.9)
        cells += [
            f"{np.nanmedian(own.area[:, k, at]):.2f}",
            f"{success_value(own.overlap[:, k]).mean():.3f}",
            f"{uses.on_target.mean():.0%} of {len(uses)}",
            f"{uses.inside[:, k, at].mean():.3f}",
        ]
        yield f"| {seconds * 1e3:.0f} ms | {name} | {knowledge} | {' | '.join(cells)} |"


def likelihood(uses: Uses, share: float, center: float, size: float, freedom: float) -> float:
    """Mean log-density of the truth by the model of ``prediction.horizon``, places in box sides."""
    sides = np.concatenate([uses.centers[:, 2:], uses.centers[:, 2:]], axis=1)
    error = (uses.truth - uses.centers) / sides
    error[:, 2:] = np.log(uses.truth[:, 2:] / uses.centers[:, 2:])
    var = share * uses.variances / sides**2 + np.array([center, center, size, size]) ** 2
    var *= (freedom - 2) / freedom  # so that shares and errors are those of the whole variance
    distance = (error**2 / var).sum(axis=1)
    constant = gammaln(freedom / 2 + 2) - gammaln(freedom / 2) - 2 * np.log(freedom * np.pi)
    density = -np.log(var).sum(axis=1) / 2 - (freedom / 2 + 2) * np.log1p(distance / freedom)
    return float(constant + density.mean())


def fit(uses: dict[str, Uses], freedom: float) -> tuple[dict[str, float], float, float, float]:
    """For each predictor what to multiply its motion's share by; the tracker's errors of center and
    size; the log-density. The uses are of forecasts without a tracker's error."""

    def cost(logs: np.ndarray) -> float:
        *shares, center, size = np.exp(logs)
        each = [
            likelihood(u, s, center, size, freedom)
            for u, s in zip(uses.values(), shares, strict=True)
        ]
        return -float(np.mean(each))

    start = np.log([1.0] * len(uses) + [0.1, 0.2])
    found = minimize(cost, start, method="L-BFGS-B")
    *shares, center, size = np.exp(found.x).tolist()
    return dict(zip(uses, shares, strict=True)), center, size, -float(found.fun)


def print_fit(uses: dict[str, Uses]) -> None:
    uses = {name: u.of(u.on_target) for name, u in uses.items()}
    print("| degrees of freedom | " + " | ".join(uses) + " | center | size | log-density |")
    print("| ---: |" + " ---: |" * (len(uses) + 3))
    for freedom in (3, 4, 5, 6, 8):
        shares, *rest = fit(uses, freedom)
        cells = [*(f"{s:.3f}" for s in shares.values()), *(f"{r:.4f}" for r in rest)]
        print(f"| {freedom} | {' | '.join(cells)} |", flush=True)


def held(uses: Uses, share: float, center: float, size: float) -> np.ndarray:
    """(P,) shares of uses whose region would hold with other constants, the moment known. The uses
    are of forecasts without a tracker's error."""
    sides = np.concatenate([uses.centers[:, 2:], uses.centers[:, 2:]], axis=1)
    variances = share * uses.variances + (np.repeat([center, size], 2) * sides) ** 2
    status = np.zeros((len(uses), 1), np.uint8)
    regions = Outlook(uses.centers[:, None], variances[:, None], status).regions(PROBABILITIES)
    return np.asarray(contains(regions, from_center(uses.truth)).mean(axis=1))


def print_left_out(clips: dict[str, list[Uses]]) -> None:
    """Each clip's coverage by constants that were fit on the other clips; the mean over clips."""
    clips = {name: [u.of(u.on_target) for u in parts] for name, parts in clips.items()}
    shares: dict[str, list[np.ndarray]] = {name: [] for name in clips}
    for k in range(len(next(iter(clips.values())))):
        others = {name: joined(parts[:k] + parts[k + 1 :]) for name, parts in clips.items()}
        motion, center, size, _ = fit(others, FREEDOM)
        for name, parts in clips.items():
            if len(parts[k]):
                shares[name].append(held(parts[k], motion[name], center, size))
    print("\n| each clip by constants of the others | " + HEAD_P + " |")
    print("| --- |" + " ---: |" * len(PROBABILITIES))
    for name, each in shares.items():
        print(f"| {name} | {' | '.join(f'{c:.3f}' for c in np.mean(each, axis=0))} |")


def online(
    models: Path | None, clips: int | None, acting: Latency, fit: bool
) -> dict[str, dict[tuple[float, str], list[Uses]]]:
    """Of each set of clips, each latency's and predictor's uses by clip."""
    found: dict[str, dict[tuple[float, str], list[Uses]]] = {}
    config = PredictorConfig(**(NO_ERROR if fit else NANOTRACK))
    tracker = TrackerConfig(name="nanotrack-v3", models=str(models or ""))
    for title, units in recorded_clips([tracker.name]).items():
        left = Counter[str]()
        for unit in units[:clips]:
            assert isinstance(unit, Recording)
            sequence = open_any(unit.path, unit.truth)
            source = TrackerSource(
                tracker.name, make_tracker(tracker), ClassicalIsp(IspConfig()), sequence
            )
            for seconds in LATENCIES_S:
                given = (sequence, source, latency(seconds), acting)
                runs = {
                    name: partial(predicted_uses, *given, replace(config, name=name))
                    for name in ("kalman", "imm")
                }
                runs["two-rate"] = partial(
                    carried_uses, *given, config, FusionConfig(), PropagatorConfig()
                )
                for name, run in runs.items():
                    uses, without = run()
                    found.setdefault(title, {}).setdefault((seconds, name), []).append(uses)
                    left += without
        print(f"{title}, left out: {dict(left)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--online", action="store_true")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--data", default="UAVDT", choices=["UAVDT", "UAV123", "UAV20L"])
    parser.add_argument("--every", type=int, default=3, help="of stored uses, one in so many")
    parser.add_argument("--sequences", type=int, help="of a data set, the first so many")
    parser.add_argument("--clips", type=int, help="of a set of clips, the first so many")
    parser.add_argument(
        "--jitter",
        type=float,
        default=PLANNER_JITTER,
        help="standard deviation of the logarithm of the planner's latency, 0 to 2",
    )
    parser.add_argument("--predictors", nargs="+", default=["kalman", "imm"], choices=PREDICTORS)
    parser.add_argument("--models", type=Path, default=find_data("models"))
    args = parser.parse_args()
    try:
        acting = rest(args.jitter)
    except InputError as error:
        parser.error(str(error))
    if args.online:
        found = online(args.models, args.clips, acting, args.fit)
        if args.fit:
            by = found["10 Hz"]
            clips = {
                name: [
                    joined(list(of)) for of in zip(*(by[s, name] for s in LATENCIES_S), strict=True)
                ]
                for name in dict.fromkeys(name for _, name in by)
            }
            print_fit({name: joined(each) for name, each in clips.items()})
            if len(next(iter(by.values()))) > 1:
                print_left_out(clips)
            return
        for title, by in found.items():
            print(f"\n{title}\n\n{HEAD}\n{RULE}")
            for (seconds, name), uses in by.items():
                print("\n".join(rows(joined(uses), seconds, name)), flush=True)
    elif args.fit:
        parts: dict[str, list[Uses]] = {name: [] for name in args.predictors}
        for dataset in ("UAV123", "UAV20L"):
            cases = recorded(dataset, args.sequences)
            for name, seconds in product(args.predictors, LATENCIES_S):
                config = PredictorConfig(name=name, **NO_ERROR)
                parts[name].append(stored(cases, seconds, acting, config, args.every)[0])
        print_fit({name: joined(of) for name, of in parts.items()})
    else:
        cases = recorded(args.data, args.sequences)
        print(f"{HEAD}\n{RULE}")
        left, wider = Counter[str](), []
        for name, seconds in product(args.predictors, LATENCIES_S):
            config = PredictorConfig(name=name)
            uses, without = stored(cases, seconds, acting, config, args.every)
            left += without
            print("\n".join(rows(uses, seconds, name)), flush=True)
            own = uses.of(uses.on_target)
            wider.append(float(np.median(own.truth[:, 2] / own.centers[:, 2])))
        print(f"left out: {dict(left)}")
        print(f"true width over the forecast's, median: {min(wider):.3f} to {max(wider):.3f}")


if __name__ == "__main__":
    main()
