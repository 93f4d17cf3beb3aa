"""Any GGUF model by llama.cpp, token by token: one thread, short steps, and it can be stopped.

A prompt is read in chunks, between which others may run; a forward in flight is cut off through
llama.cpp's abort callback, in prefill too (abetlen/llama-cpp-python issue 599).
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_edge.engine import CanceledError, Tokens
from llm_edge.llama_library import chat_frame, library, load_model, make_context
from pipeline.errors import InputError

CHUNK = 32
_ABORTED = 2
_MAX_TEXT = 1 << 20


class LlamaEngine:
    """See ``Engine``. threads: of decode and prefill; more than one stalls as soon as others need a
    core. pace: called before each chunk, on the thread that feeds.

    Raises:
        InputError: the extra is missing, the file is no model that runs here, the context is longer
            than the model was trained for or than memory holds.
    """

    def __init__(
        self,
        path: Path | str,
        context: int = 2048,
        *,
        chunk: int = CHUNK,
        threads: int = 1,
        pace: Callable[[], object] = os.sched_yield,
    ) -> None:
        if not (1 <= chunk <= 4096 and threads >= 1):
            raise InputError("LlamaEngine: give 1 to 4096 tokens a chunk and at least one thread")
        self._lib = library()
        self._path, self.context, self._chunk = Path(path), context, chunk
        self._pace = pace
        self._model = load_model(self._path)
        try:
            self._context = make_context(self._model, self._path, context, chunk, threads)
        except InputError:
            self._lib.llama_model_free(self._model)
            raise
        self.vocab: Any = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary: int = self._lib.llama_vocab_n_tokens(self.vocab)
        self.frame = chat_frame(self._model)
        self.guide_vocabulary: Any = None
        self._memory = self._lib.llama_get_memory(self._context)
        self._length = 0
        self._batch = self._lib.llama_batch_init(chunk, 0, 1)
        self._rows = {
            name: np.ctypeslib.as_array(getattr(self._batch, name), (chunk,))
            for name in ("token", "pos", "n_seq_id", "logits")
        }
        self._rows["n_seq_id"][:] = 1
        for k in range(chunk):
            self._batch.seq_id[k][0] = 0
        # The callback is asked hundreds of times a forward, so it is no Python: strlen of a text
        # of one character is true, of an empty one false, and takes no interpreter lock.
        self._stop = ctypes.create_string_buffer(2)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, self._lib.ggml_abort_callback)
        self._lib.llama_set_abort_callback(self._context, strlen, ctypes.addressof(self._stop))

    @property
    def length(self) -> int:
        return self._length

    def feed(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        return self._read(tokens, None)

    def feed_all(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        rows = np.empty((len(tokens), self.vocabulary), np.float32)
        self._read(tokens, rows)
        return rows

    def _read(
        self, tokens: Tokens, rows: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        """Logits after the last token; after every one in ``rows`` where that is given."""
        self._check(tokens)
        before = self._length
        try:
            for start in range(0, len(tokens), self._chunk):
                part = tokens[start : start + self._chunk]
                last = start + len(part) == len(tokens)
                self._pace()
                self._step(part, all_of_it=rows is not None, last=last)
                if rows is not None:
                    rows[start : start + len(part)] = self._logits(0, len(part))
        except BaseException:
            self.rewind(before)
            raise
        last_row: npt.NDArray[np.float32] = self._logits(len(part) - 1, 1)[0]
        return last_row

    def _step(self, part: Tokens, all_of_it: bool, last: bool) -> None:
        k = len(part)
        self._rows["token"][:k] = part
        self._rows["pos"][:k] = np.arange(self._length, self._length + k)
        self._rows["logits"][:k] = all_of_it
        self._rows["logits"][k - 1] = all_of_it or last
        self._batch.n_tokens = k
        code = 0 if self._stop.raw[0] else self._lib.llama_decode(self._context, self._batch)
        self._length += k  # more than is there, where it was aborted: it is rewound
        if self._stop.raw[0] or code == _ABORTED:
            self._stop[0] = b"\0"
            raise CanceledError
        if code != 0:
            raise InputError(f"{self._path}: llama.cpp cannot read on (code {code})")

    def _logits(self, first: int, count: int) -> npt.NDArray[np.float32]:
        """(count, V), a view of llama.cpp's own."""
        at = self._lib.llama_get_logits_ith(self._context, first)
        made: npt.NDArray[np.float32] = np.ctypeslib.as_array(at, (count, self.vocabulary))
        return made

    def _check(self, tokens: Tokens) -> None:
        if not len(tokens):
            raise InputError("LlamaEngine: give at least one token")
        if self._length + len(tokens) > self.context:
            raise InputError(
                f"LlamaEngine: {self._length} + {len(tokens)} tokens; the context holds "
                f"{self.context}"
            )
        if tokens.min() < 0 or tokens.max() >= self.vocabulary:
            raise InputError(f"LlamaEngine: a token is not within 0 to {self.vocabulary - 1}")

    def rewind(self, length: int) -> None:
        if not 0 <= length <= self._length:
            raise InputError(f"LlamaEngine: {self._length} tokens; cannot rewind to {length}")
        self._lib.llama_memory_seq_rm(self._memory, 0, length, -1)
        self._length = length

    def cancel(self) -> None:
        self._stop[0] = b"\1"

    def clear(self) -> None:
        """Forget a ``cancel`` that came when nothing ran."""
        self._stop[0] = b"\0"

    def close(self) -> None:
        if self._context is not None:
            self._lib.llama_batch_free(self._batch)
            self._lib.llama_free(self._context)
            self._lib.llama_model_free(self._model)
            self._context = self._model = None

    def tokenize(self, text: str, *, start: bool = False, markup: bool = False) -> Tokens:
        """(K,) int64. start: with what the model wants at the beginning of a sequence. markup: with
        control tokens read out of the text; only for text of the model's own template."""
        data = text.encode()
        if len(data) > _MAX_TEXT:
            raise InputError(f"LlamaEngine: {len(data)} bytes of text; give at most {_MAX_TEXT}")
        room = np.empty(len(data) + 8, np.int32)
        at = room.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        count = self._lib.llama_tokenize(self.vocab, data, len(data), at, len(room), start, markup)
        if count < 0:
            raise InputError("LlamaEngine: this model cannot tokenize that text")
        return room[:count].astype(np.int64)

    def text(self, tokens: Tokens) -> str:
        """What tokens say; control tokens say nothing."""
        room = ctypes.create_string_buffer(256)
        parts = []
        for token in tokens:
            size = self._lib.llama_token_to_piece(self.vocab, int(token), room, 256, 0, False)
            parts.append(room.raw[: max(0, size)])
        return b"".join(parts).decode("utf-8", "replace")

    def ends(self, token: int) -> bool:
        """Whether a token is one that ends an answer."""
        return bool(self._lib.llama_vocab_is_eog(self.vocab, token))
