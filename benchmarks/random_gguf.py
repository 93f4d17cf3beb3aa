"""GGUF files of any shape with random weights: what an engine's time depends on, and nothing else.

    python -m benchmarks.random_gguf out/135m.gguf --shape 135m

They answer noise. Their vocabulary has every byte and printable character, so any text can be read,
and made-up syllables up to the size asked for. Needs the package gguf (extra llm).
"""

import argparse
import itertools
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import InputError


@dataclass(frozen=True)
class Shape:
    """A Llama's: layers, width, heads, heads of keys and values, hidden width, words."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    context: int = 4096


SHAPES = {
    "tiny": Shape(2, 64, 4, 2, 96, 512),
    "1m": Shape(4, 128, 4, 4, 384, 1024),
    "3m": Shape(6, 192, 6, 6, 512, 1024),
    "135m": Shape(30, 576, 9, 3, 1536, 49152),  # SmolLM-135M's
}


def vocabulary(size: int) -> list[str]:
    """<unk>, <s>, </s>, 256 bytes, printable characters and syllables."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{k:02X}>" for k in range(256)), "▁"]
    words += [c for c in string.printable if c.isprintable() and c != " "]
    if size < len(words):
        raise InputError(f"random_gguf: {size} words; give at least {len(words)}")
    letters = string.ascii_lowercase
    made = itertools.chain.from_iterable(
        map("".join, itertools.product(letters, repeat=n)) for n in (2, 3, 4)
    )
    return words + list(itertools.islice(made, size - len(words)))


def byte_pairs(size: int) -> tuple[list[str], list[str]]:
    """Words and merges of a byte-level vocabulary such as GPT-2's, Llama 3's and Qwen's: </s>, the
    256 bytes under their stand-in characters, then pairs that merge."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [k for k in range(256) if k not in plain]
    names = {b: chr(b) for b in plain} | {b: chr(256 + k) for k, b in enumerate(others)}
    words = ["</s>", *(names[b] for b in range(256))]
    pairs = itertools.product(names[32] + string.ascii_lowercase + '"{_', string.ascii_lowercase)
    merges = list(itertools.islice(pairs, max(0, size - len(words))))
    return words + ["".join(m) for m in merges], [" ".join(m) for m in merges]


def write(
    path: Path,
    shape: Shape,
    *,
    kind: str = "Q8_0",
    seed: int = 0,
    template: str = "",
    pairs: bool = False,
) -> None:
    """
    kind: of the matrices, F32, F16 or a quantized one whose blocks fit the widths.
    template: chat template, none where empty. pairs: a byte-level vocabulary, which may be smaller.

    Raises:
        InputError: the package gguf is missing, or fewer words than a vocabulary needs.
    """
    try:
        import gguf
    except ImportError as error:
        raise InputError("random_gguf: install the extra: pip install 'leadsight[llm]'") from error
    words, merges = byte_pairs(shape.vocabulary) if pairs else (vocabulary(shape.vocabulary), [])
    made = gguf.GGUFWriter(path, "llama")
    made.add_context_length(shape.context)
    made.add_embedding_length(shape.width)
    made.add_block_count(shape.layers)
    made.add_feed_forward_length(shape.hidden)
    made.add_head_count(shape.heads)
    made.add_head_count_kv(shape.kv_heads)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_rope_freq_base(10_000.0)
    made.add_rope_dimension_count(shape.width // shape.heads)
    made.add_vocab_size(len(words))
    made.add_token_list(words)
    if pairs:
        made.add_tokenizer_model("gpt2")
        made.add_tokenizer_pre("smollm")
        made.add_token_merges(merges)
        made.add_token_types([3, *[1] * (len(words) - 1)])
        made.add_bos_token_id(0)
        made.add_eos_token_id(0)
    else:
        made.add_tokenizer_model("llama")
        made.add_token_scores([-float(k) for k in range(len(words))])
        made.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(words) - 259)])
        made.add_bos_token_id(1)
        made.add_eos_token_id(2)
        made.add_unk_token_id(0)
    if template:
        made.add_chat_template(template)
    rng = np.random.default_rng(seed)
    quant = gguf.GGMLQuantizationType[kind]

    def add(name: str, *size: int) -> None:
        values = rng.standard_normal(size, np.float32) / np.float32(np.sqrt(size[-1]))
        made.add_tensor(name, gguf.quants.quantize(values, quant), raw_dtype=quant)

    add("token_embd.weight", len(words), shape.width)
    made.add_tensor("output_norm.weight", np.ones(shape.width, np.float32))
    kv = shape.width // shape.heads * shape.kv_heads
    for k in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            made.add_tensor(f"blk.{k}.{norm}.weight", np.ones(shape.width, np.float32))
        add(f"blk.{k}.attn_q.weight", shape.width, shape.width)
        add(f"blk.{k}.attn_k.weight", kv, shape.width)
        add(f"blk.{k}.attn_v.weight", kv, shape.width)
        add(f"blk.{k}.attn_output.weight", shape.width, shape.width)
        add(f"blk.{k}.ffn_gate.weight", shape.hidden, shape.width)
        add(f"blk.{k}.ffn_up.weight", shape.hidden, shape.width)
        add(f"blk.{k}.ffn_down.weight", shape.width, shape.hidden)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--kind", default="Q8_0")
    options = parser.parse_args()
    options.path.parent.mkdir(parents=True, exist_ok=True)
    write(options.path, SHAPES[options.shape], kind=options.kind)
    print(f"{options.path}: {options.path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
