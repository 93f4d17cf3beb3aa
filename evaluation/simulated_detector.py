"""A detector made of the truth: noise, misses and false alarms, always the same for a seed.

For recordings whose objects no detector at hand knows, such as the embedded world's. What is
measured with it is **simulated**: it compares ways to use a late detector, and says nothing of one.

Each target's score wanders (an Ornstein-Uhlenbeck process of 0.4 s), lower where the target is
small, so misses come in a row as they do in life; its box has an error of its own that wanders
likewise, and noise.
"""

import numpy as np

from evaluation.mot_sequences import MotSequence
from pipeline.frame import Frame
from pipeline.tracks import Detections

MEMORY_S = 0.4
EASE = 1.6
SPREAD = 1.2
"""Mean and standard deviation of a score's log-odds, for a target of 32 pixels and more."""
SMALL_PX = 32.0
MISSED = 0.05
"""Of all boxes, independently."""
FAINT = 0.3
"""Share of what is ignored in the truth that is detected all the same."""
LASTING, FLEETING = 0.03, 0.03
"""Error of the center that wanders, and from frame to frame; sides have one and a half of it."""
FALSE_ALARMS = 0.5
"""A frame, of scores up to 0.7."""
OTHER_CLASS = 0.03


class SimulatedDetector:
    """Answers for the frames of one recording."""

    def __init__(self, sequence: MotSequence, seed: int = 0) -> None:
        self._sequence = sequence
        self._size = sequence.frames.read(0).size
        rng = np.random.default_rng([seed, sequence.key])
        n = len(sequence)
        names, row = np.unique(sequence.ids, return_inverse=True)
        step_s = np.diff(sequence.stamps_ns, prepend=sequence.stamps_ns[0]) * 1e-9
        keep = np.exp(-step_s / MEMORY_S)
        wander = np.empty((n, len(names), 5))
        now = rng.standard_normal((len(names), 5))
        for k in range(n):
            fresh = rng.standard_normal((len(names), 5))
            now = keep[k] * now + np.sqrt(1 - keep[k] ** 2) * fresh
            wander[k] = now
        own = wander[sequence.frame, row]
        sides = np.concatenate([sequence.boxes[:, 2:], sequence.boxes[:, 2:]], axis=1)
        error = LASTING * own[:, 1:] + FLEETING * rng.standard_normal((len(own), 4))
        error[:, 2:] *= 1.5
        center = sequence.boxes[:, :2] + sequence.boxes[:, 2:] / 2 + error[:, :2] * sides[:, :2]
        found = sides[:, 2:] * np.exp(error[:, 2:])
        self._boxes = np.concatenate([center - found / 2, found], axis=1)
        small = np.log(np.minimum(np.sqrt(np.prod(sequence.boxes[:, 2:], axis=1)) / SMALL_PX, 1))
        self._scores = 1 / (1 + np.exp(-(EASE + SPREAD * own[:, 0] + small)))
        self._shown = rng.uniform(size=len(own)) >= MISSED
        self._shown &= ~sequence.ignored | (rng.uniform(size=len(own)) < FAINT)
        classes = np.unique(sequence.labels)
        other = rng.uniform(size=len(own)) < OTHER_CLASS
        self._labels = np.where(other, rng.choice(classes, len(own)), sequence.labels)
        self._classes = classes
        self._seeds = rng.integers(0, 2**63, n)

    def detect(self, k: int, picture: Frame) -> Detections:
        """What it says of frame k; it does not look at the picture."""
        sequence, rows = self._sequence, self._sequence.rows(k)
        shown = self._shown[rows]
        rng = np.random.default_rng(self._seeds[k])
        n = rng.poisson(FALSE_ALARMS)
        like = rng.choice(sequence.boxes[:, 2:], n)
        place = rng.uniform(0, 1, (n, 2)) * (np.array(self._size) - like)
        boxes = np.concatenate([self._boxes[rows][shown], np.concatenate([place, like], axis=1)])
        scores = np.concatenate([self._scores[rows][shown], rng.uniform(0.1, 0.7, n)])
        labels = np.concatenate([self._labels[rows][shown], rng.choice(self._classes, n)])
        order = np.argsort(-scores, kind="stable")
        return Detections(
            int(sequence.stamps_ns[k]),
            k,
            self._size,
            boxes[order],
            scores[order].astype(np.float32),
            labels[order].astype(np.int16),
        )
