"""Every sequence × tracker × latency × predictor, and what came of it."""

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from evaluation.clock import Latency
from evaluation.metrics import Score, gap_recovered, mean_curve
from evaluation.online import Progress, Run, Source, TrackerSource, offline, online
from evaluation.sequences import Sequence
from evaluation.two_rate import is_two_rate, two_rate
from perception.propagator import PropagatorConfig
from prediction.predictor import VISUAL, PredictorConfig
from prediction.two_rate import FusionConfig

NONE = "none"
WALL = "measured"
MEASURES = ("offline_auc", "offline_dp", "auc", "dp", "sigma_auc", "sigma_dp")


@dataclass(frozen=True)
class Row:
    """One tracker, latency and predictor, averaged over sequences (each counts alike).

    auc, dp: at σ = 0 (La0). sigma_auc, sigma_dp: mean over σ = 0 … 1 frame (La_σ).
    gap_auc, gap_dp: share of what latency costs that the predictor won back; NaN where it costs
    nothing.
    """

    tracker: str
    latency: str
    predictor: str
    sequences: int
    offline_auc: float
    offline_dp: float
    auc: float
    dp: float
    sigma_auc: float
    sigma_dp: float
    gap_auc: float
    gap_dp: float


@dataclass
class SequenceResult:
    """One tracker on one sequence: its offline score and every online run."""

    tracker: str
    sequence: Sequence
    offline: Score
    runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    """(latency label, predictor) → run."""

    def gap(self, latency: str, predictor: str, measure: str = "auc") -> float:
        """Share of the AUC or DP lost to latency that the predictor won back; NaN without loss."""
        of = attrgetter(measure)
        run, none = self.runs[latency, predictor], self.runs[latency, NONE]
        return gap_recovered(of(run.la0), of(none.la0), of(self.offline))

    def full(self) -> "SequenceResult":
        """This result with the boxes and ages of every frame, which a stored one leaves on disk."""
        return self


@dataclass
class Evaluation:
    """All results, with what is needed to repeat them."""

    results: list[SequenceResult]
    settings: dict[str, object]

    def rows(self) -> list[Row]:
        """One row a tracker, latency and predictor."""
        rows = []
        for tracker in dict.fromkeys(r.tracker for r in self.results):
            results = [r for r in self.results if r.tracker == tracker]
            for latency, predictor in results[0].runs:
                rows.append(_row(tracker, latency, predictor, results))
        return rows

    def curve(self, tracker: str, latency: str, predictor: str, name: str) -> np.ndarray:
        """Mean ``success`` (21,) or ``precision`` (51,) curve at σ = 0."""
        runs = [r.runs[latency, predictor] for r in self.results if r.tracker == tracker]
        return mean_curve([getattr(run.la0, name) for run in runs])

    def to_json(self) -> str:
        """All figures, and nothing that differs between two runs of the same input."""
        document = {
            "settings": self.settings,
            "rows": [asdict(row) for row in self.rows()],
            "sequences": [
                {
                    "tracker": r.tracker,
                    "sequence": r.sequence.name,
                    "frames": len(r.sequence),
                    "offline": {"auc": r.offline.auc, "dp": r.offline.dp},
                    "runs": [
                        {
                            "latency": latency,
                            "predictor": predictor,
                            "auc": run.la0.auc,
                            "dp": run.la0.dp,
                            "sigma_auc": float(run.auc.mean()),
                            "sigma_dp": float(run.dp.mean()),
                            "gap_auc": r.gap(latency, predictor, "auc"),
                            "gap_dp": r.gap(latency, predictor, "dp"),
                            "frames_seen": run.seen,
                            "mean_age_ms": run.mean_age_ns * 1e-6,
                        }
                        for (latency, predictor), run in r.runs.items()
                    ],
                }
                for r in self.results
            ],
        }
        return json.dumps(without_nan(document), indent=1)


def evaluate(
    cases: Iterable[tuple[Sequence, Source]],
    latencies: list[Latency | None],
    predictors: list[str],
    config: PredictorConfig,
    predictor_cost_ns: int,
    progress: Progress = lambda n: None,
    fusion: FusionConfig = FusionConfig(),  # noqa: B008 (frozen)
    propagator: PropagatorConfig = PropagatorConfig(),  # noqa: B008 (frozen)
) -> list[SequenceResult]:
    """Run all combinations; a None among the latencies is this machine's wall clock.

    Among the predictors "two-rate", or "two-rate+" and a predictor's name, carries the answers.

    The row of no predictor is always there, since the gap is measured from it. ``progress`` is told
    the frames done.
    """
    results = []
    for sequence, source in cases:
        if isinstance(source, TrackerSource):
            source.keep_views = not set(predictors).isdisjoint(VISUAL)
        scores = offline(sequence, source, progress)
        found = [
            SequenceResult(tracker, sequence, offline_score)
            for tracker, offline_score in zip(source.trackers, scores, strict=True)
        ]
        for latency in latencies:
            label = WALL if latency is None else latency.label
            for predictor in dict.fromkeys([NONE, *predictors]):
                if is_two_rate(predictor):
                    runs = two_rate(
                        sequence, source, latency, predictor, config, fusion, propagator, progress
                    )
                else:
                    cost_ns = 0 if predictor == NONE else predictor_cost_ns
                    chosen = replace(config, name=predictor)
                    runs = online(sequence, source, latency, chosen, cost_ns, progress)
                for result, run in zip(found, runs, strict=True):
                    result.runs[label, predictor] = run
        results += found
    return results


def mean_rows(rows: list[Row]) -> list[Row]:
    """One row a latency and predictor: the mean over trackers, gaps of the means."""

    def means(latency: str, predictor: str) -> dict[str, float]:
        mine = [r for r in rows if (r.latency, r.predictor) == (latency, predictor)]
        return {name: float(np.mean([getattr(r, name) for r in mine])) for name in MEASURES}

    title = f"mean of {len({row.tracker for row in rows})}"
    found = []
    for latency, predictor in dict.fromkeys((row.latency, row.predictor) for row in rows):
        mean, none = means(latency, predictor), means(latency, NONE)
        gaps = [gap_recovered(mean[m], none[m], mean[f"offline_{m}"]) for m in ("auc", "dp")]
        found.append(Row(title, latency, predictor, rows[0].sequences, *mean.values(), *gaps))
    return found


def environment() -> dict[str, str]:
    """Versions that can change figures."""
    import cv2
    import onnxruntime

    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write the figures."""
    path.write_text(evaluation.to_json() + "\n", encoding="utf-8")


def _row(tracker: str, latency: str, predictor: str, results: list[SequenceResult]) -> Row:
    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    runs = [r.runs[latency, predictor] for r in results]
    none = [r.runs[latency, NONE] for r in results]
    offline_auc, offline_dp = (mean(getattr(r.offline, m) for r in results) for m in ("auc", "dp"))
    auc, dp = (mean(getattr(run.la0, m) for run in runs) for m in ("auc", "dp"))
    none_auc, none_dp = (mean(getattr(run.la0, m) for run in none) for m in ("auc", "dp"))
    return Row(
        tracker,
        latency,
        predictor,
        len(results),
        offline_auc,
        offline_dp,
        auc,
        dp,
        mean(float(run.auc.mean()) for run in runs),
        mean(float(run.dp.mean()) for run in runs),
        gap_recovered(auc, none_auc, offline_auc),
        gap_recovered(dp, none_dp, offline_dp),
    )


def without_nan(value: object) -> object:
    """JSON has no NaN; null says "not defined"."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
