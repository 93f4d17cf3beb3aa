"""What a Siamese tracker's network saw along recordings, to train visual predictors on.

    python -m evaluation.views views.npz --models MODELS [SEQUENCES …] [--worlds 20]

The tracker runs on every first, second, third and sixth frame of each sequence (as ``leadsight
evaluate`` takes them; truth beside the pictures, or --gt FOLDER with <name>.txt) and of each
embedded world. Kept are its answers, the features that it computed for them, and the truth of every
frame: 50 kB an answer.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from bridges.world import AerialWorld, WorldConfig
from evaluation.online import TrackerSource
from evaluation.sequences import VIDEO_SUFFIXES, Frames, Sequence
from evaluation.sources import find_sequences, open_any
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.tracker import SIAMESE, TrackerConfig, make_tracker
from pipeline.frame import Frame

GAPS = (1, 2, 3, 6)
WORLD_FRAMES = 72
"""Many short worlds rather than few long ones: networks learn a place by heart."""


def runs(sequence: Sequence, source: TrackerSource) -> Iterator[dict[str, Any]]:
    """The tracker at each gap: stamps and truth of all frames, and of those seen: their indices,
    boxes (n, 4), whether lost (n,), template (C, h, w) and search (n, C, H, W)."""
    source.keep_views = True
    for gap in GAPS:
        frames = np.arange(0, len(sequence), gap)
        answers = source.answers(frames, lambda n: None)
        views = [view for view in answers.views if view is not None]
        if not views:
            continue  # a tracker that shows nothing
        blank = np.zeros_like(views[0].search)
        search = [blank if view is None else view.search for view in answers.views]
        yield {
            "stamps_ns": sequence.stamps_ns,
            "truth": sequence.truth.astype(np.float32),
            "frames": frames,
            "boxes": answers.boxes[0].astype(np.float32),
            "status": answers.status[0],
            "template": views[0].template.astype(np.float16),
            "search": np.stack(search).astype(np.float16),
        }


def worlds(count: int, first: int = 0) -> Iterator[Sequence]:
    """Embedded worlds of the seeds from ``first`` on, each with another town, height, angle, shake
    and pace."""
    for seed in range(first, first + count):
        rng = np.random.default_rng([seed, 11])
        world = AerialWorld(
            WorldConfig(
                seed=seed,
                width=640,
                height=360,
                altitude_m=float(rng.uniform(30, 80)),
                pitch_deg=float(rng.uniform(48, 75)),
                fov_deg=float(rng.uniform(30, 58)),
                wander_px=float(rng.uniform(20, 120)),
                shake_px=float(rng.uniform(0, 6)),
                occlusions=False,
            )
        )
        truth = [world.truth(k) for k in range(WORLD_FRAMES)]
        boxes = np.array([t.boxes[world.target_id] for t in truth])
        begin = int(np.isfinite(boxes).all(axis=1).argmax())

        stamps = np.array([t.stamp_ns for t in truth[begin:]], np.int64)
        frames = partial(_drawn, world, begin, [])
        yield Sequence(f"world{seed}", stamps, boxes[begin:], Frames(f"world{seed}", frames))


def _drawn(world: AerialWorld, begin: int, kept: list[Frame]) -> Iterator[Frame]:
    """The world's frames; each is drawn once, though every gap reads them."""
    for k in range(begin, WORLD_FRAMES):
        if k - begin == len(kept):
            kept.append(world.render(k).frame)
        yield kept[k - begin]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("sequences", nargs="*", type=Path)
    parser.add_argument("--gt", type=Path, help="folder of <name>.txt, where truth lies elsewhere")
    parser.add_argument("--models", required=True, help="folder that holds nanotrackv3/ …")
    parser.add_argument("--tracker", default="nanotrack-v3", choices=SIAMESE)
    parser.add_argument("--worlds", type=int, default=0, help="how many embedded worlds")
    parser.add_argument("--seed", type=int, default=0, help="of the first world")
    args = parser.parse_args(words)
    paths = [path for given in args.sequences for path in _recordings(given)]
    tracker = make_tracker(TrackerConfig(name=args.tracker, models=args.models))
    isp = ClassicalIsp(IspConfig())

    def sequences() -> Iterator[Sequence]:
        for path in paths:
            yield open_any(path, args.gt / f"{path.stem}.txt" if args.gt else None)
        yield from worlds(args.worlds, args.seed)

    arrays: dict[str, np.ndarray] = {}
    for sequence in track(sequences(), "tracking", total=len(paths) + args.worlds):
        source = TrackerSource(args.tracker, tracker, isp, sequence)
        for gap, run in zip(GAPS, runs(sequence, source), strict=False):
            arrays |= {f"{sequence.name}/{gap}/{name}": value for name, value in run.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, **arrays)  # type: ignore[arg-type]
    count = sum(len(v) for k, v in arrays.items() if k.endswith("/frames"))
    print(f"{args.out}: {count} answers of {len(paths)} recordings and {args.worlds} worlds")


def _recordings(path: Path) -> list[Path]:
    videos = sorted(p for p in path.glob("*") if p.suffix in VIDEO_SUFFIXES)
    return videos or find_sequences(path)


if __name__ == "__main__":
    main()
