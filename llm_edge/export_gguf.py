"""Checkpoint to GGUF, for llama.cpp and what is built on it.

    python -m llm_edge.export_gguf CHECKPOINT.npz OUT.gguf [--kind q8_0|f16|f32]

Each word is a token "word ", so the text of a scene, words joined by spaces and one at its end,
becomes exactly the ids that the ONNX decoder reads. Bytes follow as tokens of their own, since
llama.cpp wants every text to have tokens; they were never trained and a grammar keeps them out.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from llm_edge.checkpoint import EPSILON, ROTARY_BASE, Checkpoint, load_checkpoint
from pipeline.errors import InputError

KINDS = ("q8_0", "f16", "f32")
_NAMES = {
    "attn_norm": "attn_norm", "wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output",
    "mlp_norm": "ffn_norm", "w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down",
}  # fmt: skip


def export_gguf(
    source: Path, target: Path, kind: str = "q8_0", start: str = "scene", end: str = "end"
) -> int:
    """Bytes written.

    kind: of the matrices; norms stay float32, and so do rows that do not divide into blocks of 32.
    start, end: the words that open and close every text; where the vocabulary has none such, a
    token of its own takes the place.

    Raises:
        InputError: no checkpoint, the package gguf is missing, or the target cannot be written.
    """
    if kind not in KINDS:
        raise InputError(f"--kind: {kind:.20} is none of {', '.join(KINDS)}")
    checkpoint = load_checkpoint(source)
    try:
        import gguf
    except ImportError:
        raise InputError("gguf is not installed; pip install 'leadsight[llm]'") from None
    try:
        writer = gguf.GGUFWriter(target, "llama")
        _describe(gguf, writer, checkpoint, kind)
        extra = _vocabulary(gguf, writer, checkpoint.words, start, end)
        _tensors(gguf, writer, checkpoint, kind, extra)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return target.stat().st_size
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None


def _describe(gguf: Any, writer: Any, checkpoint: Checkpoint, kind: str) -> None:
    shape = checkpoint.shape
    writer.add_name("leadsight decoder")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(ROTARY_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    files = {
        "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "f32": gguf.LlamaFileType.ALL_F32,
    }
    writer.add_file_type(files[kind])


def _vocabulary(gguf: Any, writer: Any, words: tuple[str, ...], start: str, end: str) -> int:
    """Number of tokens after the words."""
    kinds = gguf.TokenType
    tokens = [f"{word} " for word in words]
    types = [kinds.USER_DEFINED] * len(words)
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [kinds.BYTE] * 256
    tokens.append("<unk>")
    types.append(kinds.UNKNOWN)
    ids = {"<unk>": len(tokens) - 1}
    for word, own in ((start, "<s>"), (end, "</s>")):
        if word in words:
            ids[own] = words.index(word)
        else:
            ids[own] = len(tokens)
            tokens.append(own)
            types.append(kinds.CONTROL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_vocab_size(len(tokens))
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(ids["<s>"])
    writer.add_eos_token_id(ids["</s>"])
    writer.add_unk_token_id(ids["<unk>"])
    writer.add_add_bos_token(False)  # the scene's text begins with it
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    return len(tokens) - len(words)


def _tensors(gguf: Any, writer: Any, checkpoint: Checkpoint, kind: str, extra: int) -> None:
    shape, weights = checkpoint.shape, checkpoint.weights
    blank = np.zeros((extra, shape.width), np.float32)
    named = {
        "token_embd": np.concatenate([weights["embed"], blank]),
        "output_norm": weights["norm"],
    }
    for i in range(shape.layers):
        for ours, theirs in _NAMES.items():
            named[f"blk.{i}.{theirs}"] = weights[f"layers.{i}.{ours}"]
    for name, values in named.items():
        wanted = gguf.GGMLQuantizationType[kind.upper()]
        if values.ndim == 1 or (kind == "q8_0" and values.shape[1] % 32):
            wanted = gguf.GGMLQuantizationType.F32
        packed = gguf.quants.quantize(np.ascontiguousarray(values), wanted)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=KINDS, default="q8_0")
    parser.add_argument("--start", default="scene", help="the word that opens every text")
    parser.add_argument("--end", default="end", help="the word that closes it")
    args = parser.parse_args()
    try:
        size = export_gguf(args.checkpoint, args.out, args.kind, args.start, args.end)
    except InputError as error:
        sys.exit(f"export_gguf: {error}")
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
