"""Results on disk, a line of JSON for each finished unit, so that a run that was killed goes on.

The first line holds the settings of the run. Numbers stand as they are, so the lines can be read
with any JSON tool; an array is ``{"dtype", "shape", "zlib"}``, its bytes in base64.
"""

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.evaluate import SequenceResult
from evaluation.metrics import Score
from evaluation.online import Run
from evaluation.sequences import Frames, Sequence
from pipeline.errors import InputError, first_line

Key = dict[str, Any]
"""What names a unit: JSON values."""
DTYPES = ("|b1", "|u1", "<i8", "<f4", "<f8")
MAX_ARRAY_BYTES = 256 << 20
REMEDY = "leave --resume away to start over, or give another --out"


@dataclass
class StoredResult(SequenceResult):
    """A result whose runs came without the boxes and ages of every frame, to save memory."""

    read: Callable[[], SequenceResult] | None = None

    def full(self) -> SequenceResult:
        """The same with them, read from its row once more."""
        return self.read() if self.read is not None else self


def encode(key: Key, results: list[SequenceResult]) -> str:
    """The row of a unit: the results of one or more trackers on one sequence.

    Boxes are kept as float32, and only where there are pictures to draw them on.
    """
    sequence = results[0].sequence

    def run_fields(latency: str, predictor: str, run: Run) -> dict[str, object]:
        boxes = run.boxes if sequence.frames is not None else run.boxes[:0]
        stored = replace(run, boxes=boxes.astype(np.float32))
        return {"latency": latency, "predictor": predictor, **asdict(stored)}

    row = {
        "unit": key,
        "sequence": {
            "name": sequence.name,
            "stamps_ns": sequence.stamps_ns,
            "truth": sequence.truth,
        },
        "results": [
            {
                "tracker": result.tracker,
                "offline": asdict(result.offline),
                "runs": [run_fields(*labels, run) for labels, run in result.runs.items()],
            }
            for result in results
        ],
    }
    return json.dumps(row, default=_pack)


class RowFile:
    """The rows of one evaluation, appended as its units finish.

    With ``resume`` the rows that are there are kept, less a last one that was cut short; else the
    file begins anew.

    Raises:
        InputError: rows of other settings, or no file of rows.
    """

    def __init__(self, path: Path, settings: dict[str, object], resume: bool) -> None:
        self._path = path
        self._settings: dict[str, object] = json.loads(json.dumps(settings))
        self._at: dict[str, int] = {}
        if not resume:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._index()

    def __contains__(self, key: Key) -> bool:
        return _text(key) in self._at

    def append(self, key: Key, row: str) -> None:
        """Add the row of a unit that has finished."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            if file.tell() == 0:
                file.write(json.dumps({"settings": self._settings}).encode() + b"\n")
            self._at[_text(key)] = file.tell()
            file.write(row.encode() + b"\n")

    def results(self, units: Iterable[tuple[Key, Frames | None]]) -> list[SequenceResult]:
        """The results of the units that have finished, in the order of ``units``.

        Each unit is named with the pictures of its recording, to draw on.

        Raises:
            InputError: a row that cannot be read.
        """
        found: list[SequenceResult] = []
        for key, frames in units:
            at = self._at.get(_text(key))
            if at is not None:
                for lane, result in enumerate(self._read(at, frames)):
                    runs = {labels: _without_frames(run) for labels, run in result.runs.items()}
                    read = partial(self._read_lane, at, frames, lane)
                    found.append(
                        StoredResult(result.tracker, result.sequence, result.offline, runs, read)
                    )
        return found

    def _read_lane(self, at: int, frames: Frames | None, lane: int) -> SequenceResult:
        return self._read(at, frames)[lane]

    def _read(self, at: int, frames: Frames | None) -> list[SequenceResult]:
        with self._path.open("rb") as file:
            file.seek(at)
            line = file.readline()
        try:
            return _decode(json.loads(line, object_hook=_unpack), frames)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error) as bad:
            raise InputError(
                f"{self._path}: the row at byte {at} cannot be read ({first_line(bad)}); {REMEDY}"
            ) from None

    def _index(self) -> None:
        """Find where each row begins, and cut off what a killed run left half written."""
        with self._path.open("r+b") as file:
            at = 0
            for number, line in enumerate(iter(file.readline, b""), 1):
                try:
                    document = json.loads(line)
                    head = document["settings" if number == 1 else "unit"]
                    whole = isinstance(head, dict) and line.endswith(b"\n")
                except (ValueError, TypeError, KeyError, RecursionError):
                    whole = False
                if not whole:
                    if file.read(1):  # not the last line
                        raise InputError(f"{self._path}:{number}: is no row of results; {REMEDY}")
                    file.truncate(at)
                    return
                if number == 1:
                    self._compare(head)
                else:
                    self._at[_text(head)] = at
                at = file.tell()

    def _compare(self, settings: dict[str, object]) -> None:
        missing = object()
        names = [
            name
            for name in {**self._settings, **settings}
            if self._settings.get(name, missing) != settings.get(name, missing)
        ]
        if names:
            raise InputError(
                f"{self._path}: its rows are of other settings ({', '.join(names)[:200]}); {REMEDY}"
            )


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


def _without_frames(run: Run) -> Run:
    return replace(run, boxes=run.boxes[:0].copy(), age_ns=run.age_ns[:0].copy())


def _decode(row: dict[str, Any], frames: Frames | None) -> list[SequenceResult]:
    kept = row["sequence"]
    sequence = Sequence(kept["name"], kept["stamps_ns"], kept["truth"], frames)
    results = []
    for stored in row["results"]:
        runs = {}
        for fields in stored["runs"]:
            labels = fields.pop("latency"), fields.pop("predictor")
            runs[labels] = Run(**{**fields, "la0": Score(**fields["la0"])})
        results.append(
            SequenceResult(stored["tracker"], sequence, Score(**stored["offline"]), runs)
        )
    return results


def _pack(array: object) -> dict[str, object]:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"a row holds numbers and arrays, no {type(array).__name__}")
    data = array.astype(array.dtype.newbyteorder("<"))
    packed = base64.b64encode(zlib.compress(data.tobytes())).decode()
    return {"dtype": data.dtype.str, "shape": list(data.shape), "zlib": packed}


def _unpack(document: dict[str, Any]) -> dict[str, Any] | npt.NDArray[Any]:
    if document.keys() != {"dtype", "shape", "zlib"}:
        return document
    if document["dtype"] not in DTYPES:
        raise ValueError(f"an array of {document['dtype']!r:.20}")
    dtype, shape = np.dtype(document["dtype"]), [int(n) for n in document["shape"]]
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of shape {shape}")
    # A limit of 0 would mean none.
    data = zlib.decompressobj().decompress(base64.b64decode(document["zlib"]), max(size, 1))
    return np.frombuffer(data, dtype).reshape(shape)
