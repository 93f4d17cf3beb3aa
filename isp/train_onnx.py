"""A detector's ONNX file as a torch module: what it says of an image, differentiably.

The weights stay as they are; gradients reach the images.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from isp.train_onnx_operators import BATCHED, OPERATORS
from pipeline.errors import InputError, first_line

MAX_MODEL_BYTES = 256 << 20
MAX_SIDE = 4096
OPSET = 11
"""Older files hand Clip, Pad and Resize their values in other ways."""


@dataclass(frozen=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    """"" for an optional one that is left out."""
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    batched: bool = False

    def __call__(self, values: dict[str, Any], mapped: set[str] | None = None) -> None:
        """Adds its outputs to the values, of which those mapped have an axis of images before."""
        arguments: list[Any] = [values[name] if name else None for name in self.inputs]
        run = partial(OPERATORS[self.kind], **self.attributes)
        if mapped is None:
            made = run(*arguments)
        elif self.batched:
            pairs = zip(self.inputs, arguments, strict=True)
            made = run(*(v.flatten(0, 1) if name in mapped else v for name, v in pairs))[:, None]
        else:
            axes = tuple(0 if name in mapped else None for name in self.inputs)
            made = torch.vmap(run, axes)(*arguments)
        parts = made if isinstance(made, tuple) else (made,)
        values.update(zip(self.outputs, parts, strict=True))


class OnnxModule(nn.Module):
    """A network for one image at a time, of fixed size, run on batches of any size.

    Without gradients for its weights, and with no difference between training and evaluation.
    In some networks gradients fall below a float's normal range, where the processor is slow:
    ``torch.set_flush_denormal(True)`` keeps training fast.
    """

    input_size: tuple[int, int]
    """Width and height of the images."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Raises ValueError for one that this cannot follow."""
        super().__init__()
        graph = model.graph
        old_softmax = _opset(model) < 13
        values = {t.name: torch.from_numpy(_array(t)) for t in graph.initializer}
        self._input, self._shape = _image(graph, set(values))
        self.input_size = self._shape[2], self._shape[1]
        self._outputs = [output.name for output in graph.output]
        nodes = _silu([_node(node, old_softmax) for node in graph.node], self._outputs)
        nodes, self._mapped = _traced(nodes, values, self._input, self._shape)
        if not self._mapped.issuperset(self._outputs):
            raise ValueError("an output does not depend on the image")
        self._nodes = _folded(nodes, values, self._mapped, self._outputs)
        used = {name for node in self._nodes for name in node.inputs} - self._mapped - {""}
        self._fixed: dict[str, Any] = {name: values[name] for name in used}
        for i, name in enumerate(sorted(used)):
            if values[name].ndim and values[name].is_floating_point():
                layout = torch.channels_last if values[name].ndim == 4 else torch.contiguous_format
                self._fixed[name] = f"fixed{i}"
                self.register_buffer(f"fixed{i}", values[name].contiguous(memory_format=layout))
        self.eval()

    @classmethod
    def load(cls, path: Path) -> "OnnxModule":
        """Reads a file.

        Raises:
            InputError: it cannot be read, or is no network that this can follow.
        """
        try:
            if path.stat().st_size > MAX_MODEL_BYTES:
                raise InputError(f"{path}: over {MAX_MODEL_BYTES >> 20} MiB is no model for this")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: model cannot be read ({error.strerror})") from None
        try:
            model = onnx.load_from_string(data)
            onnx.checker.check_model(model)
            return cls(model)
        except Exception as error:
            raise InputError(
                f"{path}: {first_line(error)}; export it for one image of fixed size, with opset "
                f"{OPSET} or newer and only operators of isp/train_onnx_operators.py, "
                "or add them there"
            ) from None

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs for images (N, C, H, W), float32, in the graph's order: with N in place of
        the file's 1, or before what the file gives where it does not begin with 1.

        Raises:
            InputError: no images, or of another shape.
        """
        if x.shape[1:] != self._shape or not len(x):
            raise InputError(f"images of {tuple(x.shape)}: give them as (N, *{self._shape})")
        values = {k: getattr(self, v) if isinstance(v, str) else v for k, v in self._fixed.items()}
        values[self._input] = x.contiguous(memory_format=torch.channels_last)[:, None]
        for node in self._nodes:
            node(values, self._mapped)
        outputs = [values[name] for name in self._outputs]
        return [o.flatten(0, 1) if o.shape[1:2] == (1,) else o for o in outputs]


def _opset(model: onnx.ModelProto) -> int:
    """Raises ValueError where it, or an operator, is none of ours."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OPSET:
        raise ValueError(f"opset {opset}")
    kinds = {n.op_type if n.domain in ("", "ai.onnx") else n.domain for n in model.graph.node}
    unknown = kinds - OPERATORS.keys()
    if unknown:
        raise ValueError(f"unknown operator {', '.join(sorted(unknown))}")
    return opset


def _array(tensor: onnx.TensorProto) -> Any:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError(f"{tensor.name} lies in another file")
    return numpy_helper.to_array(tensor).copy()


def _image(graph: onnx.GraphProto, known: set[str]) -> tuple[str, tuple[int, int, int]]:
    """Name and (C, H, W) of the only input."""
    inputs = [i for i in graph.input if i.name not in known]
    sides = [d.dim_value for i in inputs for d in i.type.tensor_type.shape.dim]
    types = [i.type.tensor_type.elem_type for i in inputs]
    if types != [TensorProto.FLOAT] or len(sides) != 4 or sides[0] not in (0, 1):
        raise ValueError("does not take one float image")
    if not all(1 <= side <= MAX_SIDE for side in sides[1:]):
        raise ValueError(f"takes images of {sides[1:]}, not of fixed sides up to {MAX_SIDE}")
    return inputs[0].name, (sides[1], sides[2], sides[3])


def _node(node: onnx.NodeProto, old_softmax: bool) -> _Node:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in given.items()}
    kind = "OldSoftmax" if old_softmax and node.op_type == "Softmax" else node.op_type
    return _Node(kind, tuple(node.input), tuple(node.output), attributes)


def _uses(nodes: list[_Node], outputs: list[str]) -> Counter[str]:
    return Counter([*outputs, *(name for node in nodes for name in node.inputs)])


def _silu(nodes: list[_Node], outputs: list[str]) -> list[_Node]:
    """With Silu for a product of x and its sigmoid, which keeps less for the gradients."""
    uses = _uses(nodes, outputs)
    inner = {node.outputs[0]: node.inputs[0] for node in nodes if node.kind == "Sigmoid"}
    gone, done = set(), []
    for node in nodes:
        for x, factor in (node.inputs, node.inputs[::-1]) if node.kind == "Mul" else ():
            if inner.get(factor) == x and uses[factor] == 1:
                gone.add(factor)
                node = replace(node, kind="Silu", inputs=(x,))
        done.append(node)
    return [node for node in done if node.outputs[0] not in gone]


def _traced(
    nodes: list[_Node], values: dict[str, Any], image: str, shape: tuple[int, ...]
) -> tuple[list[_Node], set[str]]:
    """The nodes that depend on the image, and the names of what does; adds all values that there
    are for an empty one. Shapes do not depend on it."""
    values[image] = torch.zeros(1, *shape)
    mapped, left = {image}, []
    for node in nodes:
        try:
            with torch.no_grad():
                node(values)
        except Exception as error:
            raise ValueError(f"{node.kind} {node.outputs[0]}: {first_line(error)}") from None
        given = [name for name in node.inputs if name in mapped]
        if not given or node.kind == "Shape":
            continue
        mapped.update(node.outputs)
        sides = [values[name].shape for name in (*given, *node.outputs)]
        alike = all(s[:1] == (1,) and len(s) == len(sides[0]) for s in sides)
        whole = node.kind != "Concat" or len(given) == len(node.inputs)
        left.append(replace(node, batched=node.kind in BATCHED and alike and whole))
    return left, mapped


def _folded(
    nodes: list[_Node], values: dict[str, Any], mapped: set[str], outputs: list[str]
) -> list[_Node]:
    """With batch normalization in the weights of the convolution before it; adds those."""
    uses = _uses(nodes, outputs)
    done: dict[str, _Node] = {}
    for node in nodes:
        conv = done.get(node.inputs[0])
        if (
            node.kind == "BatchNormalization"
            and conv is not None
            and conv.kind == "Conv"
            and uses[node.inputs[0]] == 1
            and mapped.isdisjoint((*conv.inputs[1:], *node.inputs[1:]))
        ):
            scale, shift, mean, variance = (values[name] for name in node.inputs[1:])
            factor = scale / (variance + node.attributes.get("epsilon", 1e-5)).sqrt()
            bias = values[conv.inputs[2]] if "".join(conv.inputs[2:]) else 0.0
            names = (f"{node.outputs[0]} weight", f"{node.outputs[0]} bias")
            values[names[0]] = values[conv.inputs[1]] * factor[:, None, None, None]
            values[names[1]] = (bias - mean) * factor + shift
            del done[node.inputs[0]]
            node = replace(conv, inputs=(conv.inputs[0], *names), outputs=node.outputs)
        done[node.outputs[0]] = node
    return list(done.values())
