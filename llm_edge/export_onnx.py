"""Checkpoint to ONNX, 8 bits unless told otherwise.

python -m llm_edge.export_onnx CHECKPOINT.npz OUT.onnx [--float]
"""

import argparse
import sys
from pathlib import Path

from llm_edge.checkpoint import load_checkpoint
from llm_edge.decoder_graph import decoder_model
from pipeline.errors import InputError


def export_onnx(source: Path, target: Path, quantized: bool = True) -> int:
    """Bytes written.

    Raises:
        InputError: no checkpoint, or the target cannot be written.
    """
    data = decoder_model(load_checkpoint(source), quantized).SerializeToString(deterministic=True)
    try:
        target.write_bytes(data)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    return len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--float", action="store_true", help="keep float32 weights")
    args = parser.parse_args()
    try:
        size = export_onnx(args.checkpoint, args.out, not args.float)
    except InputError as error:
        sys.exit(f"export_onnx: {error}")
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
