"""llama.cpp as a library: loaded late, quiet, and asked whether a file is a model that we can run.

Its own messages are kept, and their last error becomes the one line of an ``InputError``.
"""

import ctypes
import functools
import os
from collections import deque
from pathlib import Path
from typing import Any

from llm_edge.memory import available_bytes
from pipeline.errors import InputError, first_line

_MAGIC = b"GGUF"
_ERROR = 4
_errors: deque[str] = deque(maxlen=8)


@functools.cache
def library() -> Any:
    """The module ``llama_cpp``.

    Threads that wait must sleep: OpenMP's default is to spin, which with one core taken by others
    makes a token take seconds. That is read when the library is loaded, so it is set before.

    Raises:
        InputError: it is not installed, or cannot be loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import llama_cpp
    except ImportError as error:
        raise InputError(
            "llama-cpp-python is not installed: pip install 'leadsight[llm]'"
        ) from error
    except (OSError, RuntimeError) as error:
        raise InputError(f"llama-cpp-python cannot be loaded: {first_line(error)}") from error
    made: Any = llama_cpp
    made.llama_log_set(_log(made), ctypes.c_void_p(0))
    made.llama_backend_init()
    return made


@functools.cache
def _log(lib: Any) -> Any:
    def keep(level: int, text: bytes, _: Any) -> None:
        if level == _ERROR:
            _errors.append(text.decode("utf-8", "replace").strip()[-160:])

    return lib.llama_log_callback(keep)


def load_model(path: Path) -> Any:
    """The model in a file, on the CPU.

    Raises:
        InputError: no file, no GGUF, a truncated one, of a kind that is not known or cannot be
            rewound, or larger than the memory that is left.
    """
    lib = library()
    _check_file(path)
    options = lib.llama_model_default_params()
    options.n_gpu_layers = 0
    _errors.clear()
    model = lib.llama_model_load_from_file(os.fsencode(path), options)
    if not model:
        raise InputError(f"{path}: {_why()}; give a whole GGUF file that this llama.cpp knows")
    try:
        _check_kind(lib, model, path)
    except InputError:
        lib.llama_model_free(model)
        raise
    return model


def _why() -> str:
    """The first error that says something of the file, in llama.cpp's words."""
    told = [line.rpartition("error loading model: ")[2] for line in _errors if "error" in line]
    return (told or list(_errors) or ["llama.cpp does not say why"])[0]


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a GGUF file") from error
    if magic != _MAGIC:
        raise InputError(f"{path} is no GGUF file; convert the model to GGUF")
    free = available_bytes()
    if size > free:
        raise InputError(
            f"{path} has {size / 1e6:.0f} MB and {free / 1e6:.0f} MB of memory are left: give a "
            "smaller model or more memory"
        )


def _check_kind(lib: Any, model: Any, path: Path) -> None:
    if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
        raise InputError(f"{path} is no decoder; give a model that generates text")
    if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
        raise InputError(f"{path} is recurrent and cannot be rewound; give a transformer")
    if lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)) < 2:
        raise InputError(f"{path} has no vocabulary; give a model with its tokenizer")


def make_context(model: Any, path: Path, context: int, chunk: int, threads: int) -> Any:
    """A context with one sequence of at most ``context`` tokens, read ``chunk`` at a time.

    Raises:
        InputError: longer than the model was trained for, or than the memory can hold.
    """
    lib = library()
    trained = lib.llama_model_n_ctx_train(model)
    if not 1 <= context <= trained:
        raise InputError(f"{path}: a context of {context} tokens; give 1 to {trained}")
    width = lib.llama_model_n_embd(model) // max(1, lib.llama_model_n_head(model))
    values = width * lib.llama_model_n_head_kv(model) * lib.llama_model_n_layer(model)
    size, free = 2 * 2 * values * context, available_bytes()
    short = InputError(
        f"{path}: a context of {context} tokens takes {size / 1e6:.0f} MB and {free / 1e6:.0f} MB "
        "of memory are left: give a shorter one"
    )
    if size > free:
        raise short
    options = lib.llama_context_default_params()
    options.n_ctx = context
    options.n_batch = options.n_ubatch = chunk
    options.n_threads = options.n_threads_batch = threads
    options.swa_full = True  # else a sliding window's past cannot be rewound to
    # On a CPU its way for fewer than 64 tokens takes two to five times as long as the plain one.
    options.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    options.no_perf = True
    made = lib.llama_init_from_model(model, options)
    if not made:
        raise short
    return made


def chat_frame(model: Any) -> tuple[str, str]:
    """What stands before and after a user's message: by the model's chat template where it has one
    that llama.cpp knows, else nothing."""
    lib = library()
    template = lib.llama_model_chat_template(model, None)
    if not template:
        return "", ""
    mark = "\x02"
    message = lib.llama_chat_message(role=b"user", content=mark.encode())
    room = ctypes.create_string_buffer(1 << 16)
    took = lib.llama_chat_apply_template(template, ctypes.byref(message), 1, True, room, len(room))
    if not 0 < took < len(room):
        return "", ""
    before, _, after = room.raw[:took].decode("utf-8", "replace").partition(mark)
    return before, after
