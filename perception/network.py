"""A model file under onnxruntime: hostile until read, loaded and run."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.errors import InputError, first_line

MAX_MODEL_BYTES = 256 << 20


def read_model(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        InputError: it cannot be read, or is too large for a model that flies.
    """
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise InputError(f"{path}: over {MAX_MODEL_BYTES >> 20} MiB is no model for this")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: model cannot be read ({error.strerror})") from None


class Network:
    """An onnxruntime session called with arrays in the order of the model's inputs.

    remedy: what to do where the model does not take them. Raises InputError for a model that does
    not load.
    """

    def __init__(self, model: bytes, path: Path, threads: int, remedy: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._path = path
        self._remedy = remedy
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{path}: onnxruntime cannot load it ({first_line(error)})") from None
        self.inputs: list[tuple[str, list[Any], str]] = [
            (i.name, list(i.shape), i.type) for i in self._session.get_inputs()
        ]
        """Name, shape (a side that the file leaves open is no int) and type of each."""

    def __call__(self, *arrays: np.ndarray) -> list[Any]:
        """The outputs, in the model's order.

        Raises:
            InputError: another number of inputs, or arrays that the model does not take.
        """
        if len(arrays) != len(self.inputs):
            raise InputError(
                f"{self._path}: has {len(self.inputs)} inputs, not {len(arrays)}; {self._remedy}"
            )
        given = {name: array for (name, _, _), array in zip(self.inputs, arrays, strict=True)}
        try:
            return list(self._session.run(None, given))
        except Exception as error:
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise InputError(
                f"{self._path}: does not take inputs of {shapes} ({first_line(error)}); "
                f"{self._remedy}"
            ) from None
