"""A decoder file under onnxruntime: checked, opened, and its calls bound to fixed memory."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_edge.checkpoint import MAX_FILE_BYTES, Shape, read_config
from llm_edge.decoder_graph import METADATA, MICROSOFT, OPERATORS
from llm_edge.memory import available_bytes
from pipeline.errors import InputError, first_line

FloatTensor = npt.NDArray[np.float32]
REMEDY = "make one with `python -m llm_edge.export_onnx`"
_PLAIN = "ORT_GQA_DISABLE_FLASH_ATTENTION"
_OPENING = threading.Lock()


def read_model(path: Path) -> tuple[bytes, str]:
    """A file's bytes, known to hold a graph of our operators only, and the config that it carries.

    Raises:
        InputError: no such file, or another kind of one.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: no file of at most {MAX_FILE_BYTES >> 20} MiB; {REMEDY}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from None
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own kinds differ between versions
        raise InputError(f"{path}: is no ONNX file, or a truncated one; {REMEDY}") from None
    graph, carried = model.graph, {p.key: p.value for p in model.metadata_props}
    for node in graph.node:
        if node.op_type not in OPERATORS or node.domain not in ("", MICROSOFT):
            raise InputError(
                f"{path}: has operator {node.op_type!r:.40}, so it is no decoder; {REMEDY}"
            )
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.initializer):
        raise InputError(f"{path}: has weights in another file; {REMEDY}")
    if not isinstance(carried.get(METADATA), str):
        raise InputError(f"{path}: carries no words, so it is no decoder of ours; {REMEDY}")
    return data, carried[METADATA]


def open_session(path: Path, lanes: int) -> tuple[Any, Shape, tuple[str, ...]]:
    """Session, shape and words of a decoder's file.

    lanes: how many states there will be at most, for the estimate of memory.

    Raises:
        InputError: no such file, another kind of one, too little memory.
    """
    _check_memory(path, path.stat().st_size * 3 if path.is_file() else 0)
    data, text = read_model(path)
    try:
        import onnxruntime
    except ImportError:
        raise InputError("onnxruntime is not installed; pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        with _plain_attention():
            session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
    except Exception as error:  # onnxruntime has no public base of its own
        raise InputError(
            f"{path}: does not run under onnxruntime here ({first_line(error)}); {REMEDY}"
        ) from None
    try:
        shape, words = read_config(text)
    except InputError as error:
        raise InputError(f"{path}: {error}; {REMEDY}") from None
    _check_signature(path, session, shape)
    scratch = 4 * shape.heads * shape.context**2  # attention's, of a prefill of all of it
    _check_memory(path, cache_bytes(shape, lanes) + scratch + len(data))
    return session, shape, words


def cache_bytes(shape: Shape, lanes: int) -> int:
    """Keys and values of so many states, float32."""
    return 8 * shape.layers * lanes * shape.context * shape.kv_width


def _check_memory(path: Path, needed: int) -> None:
    left = available_bytes()
    if needed > left:
        raise InputError(
            f"{path}: takes about {needed >> 20} MiB and {left >> 20} MiB are left; "
            "free some or use a smaller model or context"
        )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """While a session is made: attention by plain products, which up to some hundred tokens takes
    half the time of the tiled kind. onnxruntime has only an environment variable for it."""
    with _OPENING:
        before = os.environ.get(_PLAIN)
        os.environ.setdefault(_PLAIN, "1")
        try:
            yield
        finally:
            if before is None:
                del os.environ[_PLAIN]


def _check_signature(path: Path, session: Any, shape: Shape) -> None:
    cache = ["B", shape.kv_heads, shape.context, shape.head]
    names = [f"{kind}{i}" for i in range(shape.layers) for kind in "kv"]
    inputs: dict[str, Any] = {
        "tokens": ["B", "S"], "seqlens": ["B"], "total": [1], "rows": ["R"],
    } | {f"past_{name}": cache for name in names}  # fmt: skip
    outputs = {"logits": ["B", "R", shape.vocab]} | {f"present_{name}": cache for name in names}
    if {i.name: list(i.shape) for i in session.get_inputs()} != inputs or {
        o.name: list(o.shape) for o in session.get_outputs()
    } != outputs:
        raise InputError(f"{path}: its graph is not of the shape that it tells; {REMEDY}")


def too_long(size: int, length: int, context: int) -> InputError:
    """What to say of more tokens than fit."""
    return InputError(
        f"{size} tokens after {length} are more than the context of {context}; rewind, "
        "or give a shorter scene or thought"
    )


class Cache:
    """Keys and values of a number of lanes, (layers, 2, lanes, kv_heads, context, head)."""

    def __init__(self, shape: Shape, lanes: int) -> None:
        self.values = np.zeros(
            (shape.layers, 2, lanes, shape.kv_heads, shape.context, shape.head), np.float32
        )


class Step:
    """One call of fixed size: S tokens in each of some lanes, logits after all or the last of them.

    What goes in and comes out lies in the arrays, which are written and read in place.
    tokens: (B, S) int64. seqlens: (B,) int32. total: (1,) int32. logits: (B, R, V).
    """

    def __init__(
        self,
        session: Any,
        shape: Shape,
        cache: Cache,
        lanes: slice,
        size: int,
        rows: npt.NDArray[np.int64],
        logits: FloatTensor | None = None,
    ) -> None:
        """rows: after which tokens there shall be logits. logits: where they go, (B, R, V),
        contiguous; an array of its own where left out."""
        from onnxruntime import OrtValue

        values = cache.values[:, :, lanes]
        b = values.shape[2]
        self.tokens = np.zeros((b, size), np.int64)
        self.seqlens = np.zeros(b, np.int32)
        self.total = np.zeros(1, np.int32)
        own = np.zeros((b, len(rows), shape.vocab), np.float32) if logits is None else logits
        self.logits: FloatTensor = own
        binding = session.io_binding()
        self._kept: list[Any] = [values, rows, binding]  # onnxruntime holds addresses only

        def bind(name: str, array: npt.NDArray[Any]) -> Any:
            value = OrtValue.ortvalue_from_numpy(array)
            self._kept.append(value)
            binding.bind_ortvalue_input(name, value)
            return value

        bind("tokens", self.tokens)
        bind("seqlens", self.seqlens)
        bind("total", self.total)
        bind("rows", rows)
        out = OrtValue.ortvalue_from_numpy(self.logits)
        self._kept.append(out)
        binding.bind_ortvalue_output("logits", out)
        for i in range(shape.layers):
            for j, kind in enumerate("kv"):
                value = bind(f"past_{kind}{i}", values[i, j])
                binding.bind_ortvalue_output(f"present_{kind}{i}", value)
        # The public method only wraps this one, and a call of one token is short.
        inner = getattr(getattr(session, "_sess", None), "run_with_iobinding", None)
        bound = getattr(binding, "_iobinding", None)
        self._run: Any = session.run_with_iobinding if inner is None or bound is None else inner
        self._binding: Any = binding if inner is None or bound is None else bound

    def __call__(self, options: Any) -> None:
        self._run(self._binding, options)
