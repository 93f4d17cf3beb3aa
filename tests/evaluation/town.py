"""A small recording of several targets, as files."""

from pathlib import Path

import cv2
import numpy as np

SIZE = (240, 160)
TARGET = (28, 20)
FRAMES = 45
TRACKS = {  # first frame, last frame, x, y, and pixels a frame in the picture
    3: (0, 44, 10, 12, 4.0, 0.5),
    4: (0, 44, 190, 60, -3.5, 0.5),
    7: (8, 44, 60, 125, 2.0, -2.0),
}
CAMERA = (1.5, 0.5)


def town(folder: Path) -> list[tuple[int, int, float, float]]:
    """Write bright textured targets on a dark ground that moves as 000001.png …; the truth as
    (frame from 0, id, x, y)."""
    rng = np.random.default_rng(2)

    def texture(height: int, width: int, cell: int, low: int, high: int) -> np.ndarray:
        coarse = rng.uniform(low, high, (height // cell + 2, width // cell + 2, 3))
        return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)

    ground = texture(SIZE[1] + 80, SIZE[0] + 80, 8, 20, 110)
    targets = {i: texture(TARGET[1], TARGET[0], 5, 185, 255) for i in TRACKS}
    folder.mkdir(parents=True)
    truth = []
    for k in range(FRAMES):
        x, y = (round(c * k) for c in CAMERA)
        picture = ground[y : y + SIZE[1], x : x + SIZE[0]].copy()
        for i, (first, last, x0, y0, dx, dy) in TRACKS.items():
            if first <= k <= last:
                x, y = round(x0 + dx * (k - first)), round(y0 + dy * (k - first))
                picture[y : y + TARGET[1], x : x + TARGET[0]] = targets[i]
                truth.append((k, i, float(x), float(y)))
        cv2.imwrite(str(folder / f"{k + 1:06d}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return truth


def mot_challenge(path: Path, rate: int = 25) -> Path:
    """The recording as MOTChallenge has them; with a distractor and a box that does not count."""
    truth = town(path / "img1")
    (path / "gt").mkdir()
    w, h = TARGET
    lines = [f"{k + 1},{i},{x + 1:g},{y + 1:g},{w},{h},1,1,1" for k, i, x, y in truth]
    lines += ["1,90,201,101,20,20,1,8,1", "1,91,31,31,20,20,0,1,1", "1,92,1,1,9,9,1,3,1"]
    (path / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
    (path / "seqinfo.ini").write_text(f"[Sequence]\nname={path.name}\nframeRate={rate}\n")
    return path


def visdrone(root: Path, name: str) -> Path:
    """The same as VisDrone has them: cars, with an ignored region."""
    truth = town(root / "sequences" / name)
    w, h = TARGET
    lines = [f"{k + 1},{i},{x:g},{y:g},{w},{h},1,4,0,0" for k, i, x, y in truth]
    lines += ["1,0,200,100,30,30,0,0,0,0", "2,8,10,100,30,30,1,7,0,0"]
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root
