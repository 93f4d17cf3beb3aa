"""The decoder's weights as training leaves them: an ``.npz`` file, checked before use.

Llama's shape: RMSNorm, rotary embedding on neighboring pairs, causal attention with grouped keys,
SwiGLU, the embedding also as output head, no biases.
"""

import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, first_line

FloatTensor = npt.NDArray[np.float32]
MAX_FILE_BYTES = 256 << 20
MAX_WORD = 48
EPSILON = 1e-5
ROTARY_BASE = 10000.0
REMEDY = "write one with `python -m llm_edge.train`"


@dataclass(frozen=True, slots=True)
class Shape:
    """vocab: words. width: of the residual stream. layers. heads: of queries. kv_heads: of keys and
    values. hidden: width of the MLP. context: tokens that it was trained for.

    Raises:
        InputError: out of range, or sizes that do not fit each other.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    context: int

    def __post_init__(self) -> None:
        for name, low, high in (
            ("vocab", 2, 4096), ("width", 8, 2048), ("layers", 1, 48), ("heads", 1, 64),
            ("kv_heads", 1, 64), ("hidden", 8, 8192), ("context", 8, 8192),
        ):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"decoder: {name} is no whole number from {low} to {high}")
        if self.heads % self.kv_heads or self.width % (16 * self.heads):
            raise InputError(
                f"decoder: {self.width} wide is not {self.heads} heads of a multiple of 16, or "
                f"they are not a multiple of {self.kv_heads} heads of keys"
            )

    @property
    def head(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Width of all keys, or values, of a token."""
        return self.head * self.kv_heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight; matrices are (out, in)."""
        d, dk, f = self.width, self.kv_width, self.hidden
        made: dict[str, tuple[int, ...]] = {"embed": (self.vocab, d), "norm": (d,)}
        for i in range(self.layers):
            made |= {
                f"layers.{i}.{name}": shape
                for name, shape in (
                    ("attn_norm", (d,)), ("wq", (d, d)), ("wk", (dk, d)), ("wv", (dk, d)),
                    ("wo", (d, d)), ("mlp_norm", (d,)), ("w1", (f, d)), ("w3", (f, d)),
                    ("w2", (d, f)),
                )
            }  # fmt: skip
        return made

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(shape)) for shape in self.tensors().values())


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """words: what each token says, without white space. weights: float32, as ``Shape.tensors``.

    Raises:
        InputError: a weight is missing, of another shape or not finite; the words do not fit.
    """

    shape: Shape
    words: tuple[str, ...]
    weights: dict[str, FloatTensor]

    def __post_init__(self) -> None:
        check_words(self.words, self.shape)
        for name, shape in self.shape.tensors().items():
            tensor = self.weights.get(name)
            if tensor is None:
                raise InputError(f"decoder: no weight {name}")
            if tensor.shape != shape or tensor.dtype != np.float32:
                raise InputError(f"decoder: weight {name} is no float32 of shape {shape}")
            if not np.isfinite(tensor).all():
                raise InputError(f"decoder: weight {name} is not finite")

    def config(self) -> str:
        """Shape and words as JSON, what every export carries along."""
        return config_text(self.shape, self.words)


def config_text(shape: Shape, words: tuple[str, ...]) -> str:
    """As ``read_config`` reads it."""
    made: dict[str, Any] = {f.name: getattr(shape, f.name) for f in fields(Shape)}
    return json.dumps(made | {"words": list(words)})


def read_config(text: str) -> tuple[Shape, tuple[str, ...]]:
    """Shape and words from ``config``.

    Raises:
        InputError: no such JSON.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"decoder: config is no JSON ({first_line(error)})") from None
    names = [f.name for f in fields(Shape)]
    if not isinstance(given, dict) or not {*names, "words"} <= given.keys():
        raise InputError(f"decoder: config lacks one of {', '.join(names)}, words")
    shape = Shape(**{name: given[name] for name in names})
    words = given["words"]
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise InputError("decoder: words is no list of texts")
    check_words(tuple(words), shape)
    return shape, tuple(words)


def check_words(words: tuple[str, ...], shape: Shape) -> None:
    """
    Raises:
        InputError: not one word a token, a word twice, empty, too long or with white space.
    """
    if len(words) != shape.vocab or len(set(words)) != len(words):
        raise InputError(
            f"decoder: {len(set(words))} different words for a vocabulary of {shape.vocab}"
        )
    for word in words:
        if not 0 < len(word) <= MAX_WORD or word.split() != [word] or not word.isprintable():
            raise InputError(f"decoder: {word[:MAX_WORD]!r} is no word")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what training wrote.

    Raises:
        InputError: no such file, or no checkpoint.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: over {MAX_FILE_BYTES >> 20} MiB is no checkpoint for this")
        with zipfile.ZipFile(path) as packed:  # what it unfolds to, before it does
            if sum(item.file_size for item in packed.infolist()) > MAX_FILE_BYTES:
                raise InputError(f"{path}: unfolds to over {MAX_FILE_BYTES >> 20} MiB")
        with np.load(path, allow_pickle=False) as stored:
            text = str(stored["config"])
            weights = {name: stored[name] for name in stored.files if name != "config"}
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {REMEDY}") from None
    except InputError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds on a damaged file
        raise InputError(f"{path}: is no checkpoint ({first_line(error)}); {REMEDY}") from None
    try:
        shape, words = read_config(text)
        return Checkpoint(shape, words, weights)
    except InputError as error:
        raise InputError(f"{path}: {error}; {REMEDY}") from None


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write what ``load_checkpoint`` reads."""
    arrays: dict[str, Any] = {**checkpoint.weights, "config": np.array(checkpoint.config())}
    np.savez(path, **arrays)


def random_checkpoint(shape: Shape, seed: int = 0) -> Checkpoint:
    """Untrained weights of a shape, for timing and tests; the words are w0, w1, …"""
    rng = np.random.default_rng(seed)
    weights = {
        name: (
            1 + 0.1 * rng.standard_normal(dims)
            if len(dims) == 1
            else rng.standard_normal(dims) / np.sqrt(dims[1])
        ).astype(np.float32)
        for name, dims in shape.tensors().items()
    }
    return Checkpoint(shape, tuple(f"w{i}" for i in range(shape.vocab)), weights)
