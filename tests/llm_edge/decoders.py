"""Small decoders with random weights, as files."""

from pathlib import Path

from llm_edge.checkpoint import Checkpoint, Shape, random_checkpoint
from llm_edge.decoder_graph import decoder_model
from llm_edge.words import CONTEXT, WORDS

SMALL = Shape(vocab=61, width=64, layers=3, heads=4, kv_heads=2, hidden=48, context=40)


def checkpoint(shape: Shape = SMALL, seed: int = 1) -> Checkpoint:
    return random_checkpoint(shape, seed)


def onnx_file(folder: Path, made: Checkpoint, quantized: bool = False) -> Path:
    path = folder / f"decoder{int(quantized)}.onnx"
    path.write_bytes(decoder_model(made, quantized).SerializeToString())
    return path


def spoken(folder: Path, seed: int = 4, quantized: bool = False) -> Path:
    """An untrained decoder of the shipped vocabulary: it says anything that the grammar lets it."""
    shape = Shape(len(WORDS), 32, 2, 2, 2, 48, CONTEXT)
    made = checkpoint(shape, seed)
    return onnx_file(folder, Checkpoint(shape, WORDS, made.weights), quantized)
