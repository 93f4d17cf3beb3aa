"""The tracker stage: one selected target from frame to frame, as ``Tracks``."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from perception.tracker import Tracker, TrackerConfig, make_tracker
from pipeline.box import FloatArray, as_box
from pipeline.clock import Clock
from pipeline.frame import Frame
from pipeline.tracks import Tracks


class TargetTracker:
    """Follows the target that was selected last; no target, no result.

    ``select`` may be called from any thread; it takes effect on the next frame. ``guide``, called
    with a track id and a stamp in ns, may say where the target will be, x y w h in pixels. ids:
    where identities come from.
    """

    def __init__(
        self,
        config: TrackerConfig,
        clock: Clock,
        guide: Callable[[int, int], FloatArray | None] = lambda target, stamp_ns: None,
        ids: Iterator[int] | None = None,
    ) -> None:
        self._tracker: Tracker = make_tracker(config)
        self._clock = clock
        self._guide = guide
        self._ids = count() if ids is None else ids
        self._lock = threading.Lock()
        self._selected: tuple[FloatArray, Frame | None] | None = None
        self._track_id = -1
        self._active = False
        self.extra_delay_s = config.extra_delay_ms * 1e-3
        """Added to each update; may be changed while running."""

    def select(
        self,
        box: Sequence[float] | FloatArray,
        image_size: tuple[int, int] | None = None,
        frame: Frame | None = None,
        track_id: int | None = None,
    ) -> int:
        """Start on a new target, x y w h in pixels; its track id.

        frame: the picture that the box was seen in, where the next one would come too late for it.
        track_id: where the target has one already.

        Raises:
            InputError: no proper box, or one outside an image of ``image_size``.
        """
        checked = as_box(box, frame.size if frame else image_size)
        with self._lock:
            self._selected = checked, frame
            self._track_id = next(self._ids) if track_id is None else track_id
            return self._track_id

    def reset(self) -> None:
        """Drop the target that is followed: the clock jumped. Call it where ``process`` is called.

        A selection that has not been taken yet stays.
        """
        self._active = False

    def process(self, frame: Frame) -> Tracks | None:
        """The target in this frame; None while nothing is selected.

        Raises:
            InputError: a frame that no tracker reads, or a selected box outside of it.
        """
        with self._lock:
            selected, self._selected = self._selected, None
            track_id = self._track_id
        if selected is not None:
            box, seen_in = selected
            self._active = False
            answer = self._tracker.start(seen_in or frame, box)
            self._active = True
            if seen_in is not None and seen_in.stamp_ns != frame.stamp_ns:
                answer = self._tracker.update(frame)
        elif self._active:
            answer = self._tracker.update(frame, self._guide(track_id, frame.stamp_ns))
        else:
            return None
        if self.extra_delay_s > 0:
            time.sleep(self.extra_delay_s)
        return Tracks.single(
            frame.stamp_ns,
            self._clock.now_ns(),
            frame.index,
            frame.size,
            answer.box,
            answer.score,
            answer.status,
            track_id,
        )
