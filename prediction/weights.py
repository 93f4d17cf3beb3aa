"""A learned predictor's weights: the constants of a small ONNX file, computed with in numpy.

The file's graph is what other runtimes run; here only its constants are read, each checked for its
name, shape and finiteness, so that a hostile file can cost neither time nor memory.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.resources import share_path

MAX_FILE_BYTES = 4 << 20
MAX_FREE = 512
Shapes = Mapping[str, tuple[int | str, ...]]
"""The shape of each constant; a word is a size that the file may choose, the same wherever it
stands."""


def load_weights(name: str, path: str, shapes: Shapes) -> dict[str, FloatArray]:
    """The constants of the model at ``path``, of the shipped one of that name where it is empty.

    Raises:
        InputError: no such file, or it is no model of this kind; the text says how to train one.
    """
    remedy = f"train one with `python -m prediction.train {name} --out {name}.onnx`"
    if path:
        file = Path(path).expanduser()
    else:
        try:
            file = share_path("models", f"{name}.onnx")
        except InputError:
            raise InputError(
                f"predictor.model: no {name} model is shipped here; {remedy} and name the file"
            ) from None
    try:
        stat = file.stat()
        return _read(file, stat.st_mtime_ns, stat.st_size, tuple(shapes.items()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"predictor.model: {file} is no {name} model ({error}); {remedy}"
        ) from None


@lru_cache(maxsize=16)
def _read(
    file: Path, mtime_ns: int, size: int, shapes: tuple[tuple[str, tuple[int | str, ...]], ...]
) -> dict[str, FloatArray]:
    """Kept while the file stays as it is: an evaluation makes a predictor for every sequence."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    if not file.is_file() or size > MAX_FILE_BYTES:
        raise ValueError(f"not a file of at most {MAX_FILE_BYTES >> 20} MiB")
    try:
        model = onnx.load_model_from_string(file.read_bytes())
    except DecodeError:
        raise ValueError("not ONNX") from None
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, FloatArray] = {}
    free: dict[int | str, int] = {}
    for name, shape in shapes:
        tensor = stored.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or tensor.external_data:
            raise ValueError(f"has no float constant {name!r}")
        dims = tuple(tensor.dims)
        for side, chosen in zip(shape, dims, strict=False):
            if isinstance(side, str) and 0 < chosen <= MAX_FREE:
                free.setdefault(side, chosen)
        if dims != tuple(free.get(side, side) for side in shape):
            raise ValueError(f"{name!r} has the shape {dims}")
        values = np.asarray(numpy_helper.to_array(tensor), np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"{name!r} is not finite")
        values.flags.writeable = False
        found[name] = values
    return found
