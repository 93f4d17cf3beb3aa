"""Where targets went, frame by frame, and how a late answer changes all of it at once.

The path of a target is a random walk with known increments: x(r) = x(r−1) + u(r) + noise(q(r)),
u(r) measured between two frames. Its uncertainty grows with each step; an answer for frame k
corrects every frame r of the path by the gain

    K(r) = cov(x(r), x(k)) / (P(k) + R),   cov(x(r), x(k)) = P(min(r, k))

for r not before the last answer that counted: the frames after k, since all later steps start from
the corrected place, and the increments before it in proportion to their variance, so that a step
that was only guessed takes the blame. This is the exact Kalman smoother of that model, without
running a filter again.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.box import FloatArray

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Path:
    """The last R frames of M targets, newest last.

    stamps_ns: (R,) int64. place: (R, M, 4), x_center, y_center in px, ln width, ln height.
    variance: (R, M, 2), of a coordinate of the center in px² and of ln side.
    increment: (R, M, 4), from the frame before. increment_variance: (R, M, 2).
    camera: (R, M, 2), how far the background at the target moved, px.
    seen, camera_seen: (R, M) bool, whether the increment and the background's were measured.
    anchor: (M,) int64, stamp of the last answer that counted.
    """

    stamps_ns: npt.NDArray[np.int64]
    place: FloatArray
    variance: FloatArray
    increment: FloatArray
    increment_variance: FloatArray
    camera: FloatArray
    seen: npt.NDArray[np.bool_]
    camera_seen: npt.NDArray[np.bool_]
    anchor: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, stamps_ns: npt.NDArray[np.int64]) -> "Path":
        """No targets over some frames."""
        r = len(stamps_ns)
        return cls(
            stamps_ns,
            np.empty((r, 0, 4)),
            np.empty((r, 0, 2)),
            np.empty((r, 0, 4)),
            np.empty((r, 0, 2)),
            np.empty((r, 0, 2)),
            np.empty((r, 0), bool),
            np.empty((r, 0), bool),
            np.empty(0, np.int64),
        )

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def index(self, stamp_ns: int) -> int:
        """The newest frame not after this stamp; −1 where all are."""
        return int(np.searchsorted(self.stamps_ns, stamp_ns, side="right")) - 1

    def boxes(self, at: int = -1) -> FloatArray:
        """(M, 4), x y w h in pixels, in one of the frames."""
        sides = np.exp(self.place[at, :, 2:])
        return np.concatenate([self.place[at, :, :2] - sides / 2, sides], axis=1)

    def extended(
        self,
        stamp_ns: int,
        increment: FloatArray,
        increment_variance: FloatArray,
        camera: FloatArray,
        seen: npt.NDArray[np.bool_],
        camera_seen: npt.NDArray[np.bool_],
        memory: int,
    ) -> "Path":
        """One frame more; of the older ones at most ``memory`` − 1 are kept."""
        keep = slice(max(len(self) - memory + 1, 0), None)

        def grown(old: npt.NDArray[np.generic], new: npt.NDArray[np.generic]) -> FloatArray:
            return np.concatenate([old[keep], new[None]])  # type: ignore[return-value]

        return Path(
            np.append(self.stamps_ns[keep], stamp_ns),
            grown(self.place, self.place[-1] + increment),
            grown(self.variance, self.variance[-1] + increment_variance),
            grown(self.increment, increment),
            grown(self.increment_variance, increment_variance),
            grown(self.camera, camera),
            grown(self.seen, seen),  # type: ignore[arg-type]
            grown(self.camera_seen, camera_seen),  # type: ignore[arg-type]
            self.anchor,
        )

    def corrected(self, at: int, rows: Indices, place: FloatArray, noise: FloatArray) -> "Path":
        """The path after answers for frame ``at``.

        rows: (n,) which targets. place: (n, 4), as in ``Path``. noise: (n, 2), their variance.
        Answers older than the last that counted are carried to that one's frame first, with the
        variance that the steps add; what they still say there counts.
        """
        out = replace(
            self,
            place=self.place.copy(),
            variance=self.variance.copy(),
            increment=self.increment.copy(),
            anchor=self.anchor.copy(),
        )
        for row, seen_at, r in zip(rows.tolist(), place, noise, strict=True):
            last = int(np.searchsorted(self.stamps_ns, self.anchor[row]))
            k = at
            if k < last:
                between = slice(k + 1, last + 1)
                seen_at = seen_at + out.increment[between, row].sum(axis=0)
                r = r + out.increment_variance[between, row].sum(axis=0)
                k = last
            out._correct(min(last, len(self) - 1), k, row, seen_at, r)
            out.anchor[row] = self.stamps_ns[k]
        return out

    def _correct(self, last: int, k: int, row: int, seen_at: FloatArray, r: FloatArray) -> None:
        p = self.variance[:, row]
        total = p[k] + r
        reach = np.arange(len(self))
        gain = np.where((reach >= last)[:, None], p[np.minimum(reach, k)], 0.0) / total
        gain4 = np.repeat(gain, 2, axis=1)
        error = seen_at - self.place[k, row]
        self.place[:, row] += gain4 * error
        blame = np.diff(gain4, axis=0, prepend=0.0)
        blame[: last + 1] = 0.0
        self.increment[:, row] += blame * error
        self.variance[:, row] = p - gain * gain * total

    def with_targets(
        self,
        at: int,
        place: FloatArray,
        noise: FloatArray,
        increment: FloatArray,
        increment_variance: FloatArray,
        camera: FloatArray,
        seen: npt.NDArray[np.bool_],
        camera_seen: npt.NDArray[np.bool_],
    ) -> "Path":
        """n targets more, first seen in frame ``at``: place (n, 4), noise (n, 2); the rest, whose
        first axis is the R − at − 1 frames after it, is what ``extended`` takes. In the frames
        before they stand still."""

        def whole(after: npt.NDArray[Any]) -> npt.NDArray[Any]:
            before = np.zeros((at + 1, *after.shape[1:]), after.dtype)
            return np.concatenate([before, after])

        steps, variances = whole(increment), whole(increment_variance)
        new = {
            "place": place + steps.cumsum(axis=0),
            "variance": noise + variances.cumsum(axis=0),
            "increment": steps,
            "increment_variance": variances,
            "camera": whole(camera),
            "seen": whole(seen),
            "camera_seen": whole(camera_seen),
        }
        parts = {name: np.concatenate([getattr(self, name), new[name]], axis=1) for name in new}
        anchor = np.concatenate([self.anchor, np.full(len(place), self.stamps_ns[at])])
        return replace(self, anchor=anchor, **parts)

    def selected(self, rows: Indices) -> "Path":
        """Some of the targets."""
        parts = {
            f.name: getattr(self, f.name)[:, rows]
            for f in fields(self)
            if f.name not in ("stamps_ns", "anchor")
        }
        return replace(self, anchor=self.anchor[rows], **parts)
