"""A tiny GGUF with random weights, made once; skips by name where a package is missing."""

import functools
import tempfile
from pathlib import Path

import pytest

from benchmarks.random_gguf import SHAPES, write

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def needs(*names):
    for name in names:
        pytest.importorskip(name, reason=f"{name} is not installed (the llm extra)")


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="leadsight-gguf-")


@functools.cache
def tiny_gguf(template="", pairs=False):
    needs("llama_cpp", "gguf")
    path = Path(_folder().name) / f"tiny{len(template)}{pairs}.gguf"
    write(path, SHAPES["tiny"], template=template, pairs=pairs)
    return path
