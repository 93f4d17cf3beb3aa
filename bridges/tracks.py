"""True boxes of the embedded world as tracks to train motion models on, without drawing it.

    python -m bridges.tracks world.npz [--worlds 24] [--seconds 40]

Each world has a town, a height, an angle, a shake and a pace of its own; every actor that stays in
view for long enough is one (n, 4) array, NaN where it cannot be seen.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bridges.world import AerialWorld, WorldConfig
from pipeline.box import FloatArray

RATE_HZ = 30.0
MIN_SEEN = 90
ACTORS = 8
"""Most of one world, so that no town outweighs the others."""


def world_tracks(seed: int, frames: int) -> dict[str, FloatArray]:
    """The target and some others of one world, (frames, 4) each."""
    rng = np.random.default_rng([seed, 9])
    config = WorldConfig(
        seed=seed,
        width=640,
        height=360,
        rate_hz=RATE_HZ,
        altitude_m=float(rng.uniform(30, 90)),
        pitch_deg=float(rng.uniform(48, 75)),
        fov_deg=float(rng.uniform(30, 58)),
        wander_px=float(rng.uniform(20, 120)),
        shake_px=float(rng.uniform(0, 5)),
    )
    world = AerialWorld(config)
    boxes = np.stack([world.truth(k).boxes for k in range(frames)])  # (frames, actors, 4)
    seen = np.isfinite(boxes).all(axis=2).sum(axis=0)
    others = [k for k in np.argsort(-seen).tolist() if k != world.target_id]
    chosen = [k for k in [world.target_id, *others[: ACTORS - 1]] if seen[k] >= MIN_SEEN]
    return {f"world{seed}-{k}": boxes[:, k] for k in chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--worlds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=40.0)
    args = parser.parse_args()
    tracks: dict[str, FloatArray] = {}
    for seed in range(args.worlds):
        tracks |= world_tracks(seed, max(round(args.seconds * RATE_HZ), 1))
    arrays: dict[str, Any] = {k: v.astype(np.float32) for k, v in tracks.items()}
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {len(tracks)} tracks of {args.worlds} worlds")


if __name__ == "__main__":
    main()
