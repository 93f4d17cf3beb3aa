"""The networks of the task-aware ISP, under onnxruntime on one thread."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isp.grid import THUMBNAIL, FloatImage
from isp.operators import FIELD, SEEN
from pipeline.errors import InputError

CONSUMERS = ("detector", "tracker", "human")
"""Who a frame is developed for, in the order of the network's output."""
GLOBALS = 11
MAX_MODEL_BYTES = 8 << 20
_RETRAIN = "train one with `python -m isp.train`, or leave isp.model empty"
_RETRAIN_DENOISER = "train one with `python -m isp.train_denoiser`, or set isp.denoiser: false"
_TRIED = (0.0, 1.0, 1e6)  # units of noise


class ParameterModel:
    """The network that chooses parameters."""

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: no such file, too large, or no model of this kind."""
        shapes = {"features": [4, THUMBNAIL, THUMBNAIL], "noise": [2]}
        self._session = _session(path, shapes, _RETRAIN)
        if self(np.zeros((4, THUMBNAIL, THUMBNAIL), np.float32), (1e-4, 1e-6)) is None:
            raise InputError(f"{path}: gives other outputs than parameters; {_RETRAIN}")

    def __call__(
        self, seen: FloatImage, noise: tuple[float, float]
    ) -> tuple[FloatImage, FloatImage] | None:
        """(consumers, GLOBALS) and (2, 16, 16); None where they are no parameters."""
        given = {"features": seen[None], "noise": np.array([noise], np.float32)}
        try:
            outputs = self._session.run(["globals", "field"], given)
        except Exception:  # onnxruntime has no public base of its own
            return None
        chosen, field = (np.asarray(o) for o in outputs)
        if chosen.shape != (1, len(CONSUMERS), GLOBALS) or field.shape != (1, 2, FIELD, FIELD):
            return None
        if not (chosen.min() > 0 and chosen.max() < math.inf and math.isfinite(field.sum())):
            return None
        return chosen[0], field[0]


class DenoiserModel:
    """The network that goes on where the shrink ends: an ``isp.operators.Denoiser``."""

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: no such file, too large, or no model of this kind."""
        self._session = _session(path, {"seen": [SEEN, None, None]}, _RETRAIN_DENOISER)
        self.problem = ""
        """Why the last frame's answer was of no use; "" where it was."""
        self._no_answer = f"{path}: gives other outputs than a denoiser; {_RETRAIN_DENOISER}"
        rng = np.random.default_rng(0)
        for size in _TRIED:
            if self(size * rng.standard_normal((SEEN, 4, 6), np.float32)) is None:
                raise InputError(self.problem)

    def __call__(self, seen: FloatImage) -> tuple[FloatImage, FloatImage] | None:
        """As ``isp.operators.Denoiser`` says."""
        self.problem = self._no_answer
        try:
            outputs = self._session.run(["lacking", "factor"], {"seen": seen[None]})
        except Exception:  # onnxruntime has no public base of its own
            return None
        lacking, factor = (np.asarray(o) for o in outputs)
        sides = seen.shape[1:]
        if lacking.shape != (1, 3, *sides) or factor.shape != (1, 1, *sides):
            return None
        if lacking.dtype != np.float32 or factor.dtype != np.float32 or factor.min() <= 0:
            return None
        if not math.isfinite(lacking.sum() + factor.sum()):
            return None
        self.problem = ""
        return lacking[0], factor[0, 0]


def denoiser_of(path: Path) -> Path:
    """Where the denoiser lies that was trained with a parameter network."""
    return path.with_name(f"{path.stem}-denoiser.onnx")


def _session(path: Path, wanted: Mapping[str, Sequence[int | None]], remedy: str) -> Any:
    """wanted: the inputs' shapes past the batch, None being any size."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_MODEL_BYTES else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        shapes = {
            i.name: [n if isinstance(n, int) else None for n in i.shape[1:]]
            for i in session.get_inputs()
        }
    except Exception as error:  # onnxruntime has no public base of its own
        raise InputError(
            f"{path}: is no ONNX model that runs here ({type(error).__name__}); {remedy}"
        ) from None
    if shapes != wanted:
        names = " and ".join(wanted)
        raise InputError(f"{path}: wants {shapes!s:.80}, not {names}; {remedy}")
    return session
