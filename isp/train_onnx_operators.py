"""ONNX's operators in torch, as far as ``isp.train_onnx`` follows them."""

from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto, numpy_helper
from torch.nn import functional

CASTS = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
RESIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("nearest", "asymmetric"): {"mode": "nearest"},
    ("linear", "half_pixel"): {"mode": "bilinear", "align_corners": False},
    ("linear", "pytorch_half_pixel"): {"mode": "bilinear", "align_corners": False},
    ("linear", "align_corners"): {"mode": "bilinear", "align_corners": True},
}
"""By mode and coordinate_transformation_mode."""

# Each takes ONNX's inputs in order and its attributes by name. An attribute that is not listed is a
# TypeError, one that cannot be followed a ValueError.


def _padded(x: Any, pads: Any, auto_pad: str, value: float) -> tuple[Any, list[int]]:
    """x, padded where that differs from side to side, and the padding left to the operator."""
    if auto_pad not in ("NOTSET", "VALID"):
        raise ValueError(f"auto_pad {auto_pad}")
    top, left, bottom, right = pads or (0, 0, 0, 0)
    if (top, left) == (bottom, right):
        return x, [top, left]
    return functional.pad(x, (left, right, top, bottom), value=value), [0, 0]


def _conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = (1, 1),
    dilations: Any = 1,
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Any:
    x, sides = _padded(x, pads, auto_pad, 0.0)
    if weight.shape[2:] == (1, 1) and group == 1 and not any(sides) and max(strides) == 1:
        # Faster on one thread, where torch lays images out in columns for it.
        return functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return functional.conv2d(x, weight, bias, strides, sides, dilations, group)


def _max_pool(
    x: Any,
    *,
    kernel_shape: Any,
    pads: Any = None,
    strides: Any = (1, 1),
    dilations: Any = 1,
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
) -> Any:
    x, sides = _padded(x, pads, auto_pad, float("-inf"))
    return functional.max_pool2d(x, kernel_shape, strides, sides, dilations, bool(ceil_mode))


def _average_pool(
    x: Any,
    *,
    kernel_shape: Any,
    pads: Any = None,
    strides: Any = (1, 1),
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    auto_pad: str = "NOTSET",
) -> Any:
    if pads and pads[:2] != pads[2:]:
        raise ValueError(f"pads {pads}")
    x, sides = _padded(x, pads, auto_pad, 0.0)
    counted = bool(count_include_pad)
    return functional.avg_pool2d(x, kernel_shape, strides, sides, bool(ceil_mode), counted)


def _batch_norm(
    x: Any,
    scale: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    *,
    epsilon: float = 1e-05,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Any:
    if training_mode:
        raise ValueError("still in training")
    return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _resize(
    x: Any,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
) -> Any:
    way = RESIZES.get((mode, coordinate_transformation_mode))
    if way is None or (mode == "nearest" and nearest_mode != "floor"):
        raise ValueError(f"{mode}, {coordinate_transformation_mode}, {nearest_mode}")
    to = scales.tolist() if sizes is None else sizes.tolist()
    if to[:2] != ([1, 1] if sizes is None else [1, x.shape[1]]):
        raise ValueError(f"{to} resizes more than width and height")
    return functional.interpolate(x, **{"scale_factor" if sizes is None else "size": to[2:]}, **way)


def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    return x.clamp(*(None if side is None else side.item() for side in (low, high)))


def _div(a: Any, b: Any) -> Any:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _gemm(
    a: Any,
    b: Any,
    c: float = 0.0,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Any:
    return alpha * ((a.mT if transA else a) @ (b.mT if transB else b)) + beta * c


def _reshape(x: Any, shape: Any, *, allowzero: int = 0) -> Any:
    sides = enumerate(shape.tolist())
    return x.reshape([x.shape[i] if side == 0 and not allowzero else side for i, side in sides])


def _pad(x: Any, pads: Any, value: Any = None, *, mode: str = "constant") -> Any:
    if mode != "constant":
        raise ValueError(f"mode {mode}")
    pairs = pads.reshape(2, -1).flip(1).T.flatten().tolist()
    return functional.pad(x, pairs, value=0.0 if value is None else value.item())


def _slice(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    at = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(at, starts.tolist(), ends.tolist(), by, strict=True):
        cuts[axis] = slice(start, end, step)
    return x[tuple(cuts)]


def _split(x: Any, *sizes: Any, axis: int = 0, split: Any = None) -> Any:
    if not sizes and split is None:
        raise ValueError("no sizes of the parts")
    return torch.split(x, sizes[0].tolist() if sizes else split, axis)


def _gather(x: Any, indices: Any, *, axis: int = 0) -> Any:
    if indices.ndim == 0:
        return x.select(axis, indices.item())
    return x[(slice(None),) * (axis % x.ndim) + (indices.to(x.device),)]


def _squeeze(x: Any, *given: Any, axes: Any = None) -> Any:
    return x.squeeze(tuple(given[0].tolist() if given else axes))


def _unsqueeze(x: Any, *given: Any, axes: Any = None) -> Any:
    sides = given[0].tolist() if given else axes
    for axis in sorted(side % (x.ndim + len(sides)) for side in sides):
        x = x.unsqueeze(axis)
    return x


BATCHED: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _conv,
    "Div": _div,
    "Exp": torch.exp,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "HardSwish": functional.hardswish,
    "LeakyRelu": lambda x, *, alpha=0.01: functional.leaky_relu(x, alpha),
    "MaxPool": _max_pool,
    "Mul": torch.mul,
    "Relu": torch.relu,
    "Resize": _resize,
    "Sigmoid": torch.sigmoid,
    "Silu": functional.silu,  # for a Sigmoid and a Mul
    "Sub": torch.sub,
    "Tanh": torch.tanh,
}
"""They do with a batch what they do with each image, if its first axis is 1 before and after."""
SINGLE: dict[str, Callable[..., Any]] = {
    "Cast": lambda x, *, to: x.to(CASTS[to]),
    "Constant": lambda *, value: torch.from_numpy(numpy_helper.to_array(value).copy()),
    "Flatten": lambda x, *, axis=1: x.reshape(x.shape[:axis].numel(), -1),
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": lambda x: x,
    "MatMul": torch.matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": lambda x, *, start=0, end=None: torch.tensor(x.shape[start:end]),
    "Slice": _slice,
    "OldSoftmax": lambda x, *, axis=1: (
        x.reshape(x.shape[:axis].numel(), -1).softmax(1).reshape(x.shape)
    ),
    "Softmax": lambda x, *, axis=-1: x.softmax(axis),
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": lambda x, *, perm: x.permute(perm),
    "Unsqueeze": _unsqueeze,
}
"""They are mapped over the images, which is right whatever they do with axes. OldSoftmax is that
before opset 13, over all axes from one on."""
OPERATORS = BATCHED | SINGLE
