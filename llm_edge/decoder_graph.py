"""The decoder as an ONNX graph of few, large nodes, written out by hand.

At a million weights a forward of one token is bound by the number of nodes, not by arithmetic. So
keys, queries and values are one product; norms take the residual sum along; attention with rotary
embedding and cache is one node; a product with its quantization is one node. Layer 0's norm and
projection depend on the token alone and become a table, one row a word (Graef, "Transformer
tricks: precomputing the first layer", 2024). Of the last layer only the rows asked for go on after
attention, so a prefill pays neither its MLP nor the head for every token.

Inputs: ``tokens`` (B, S) int64; ``seqlens`` (B,) int32, tokens that each lane holds after this
call, less one; ``total`` (1,) int32, the largest of them plus one; ``rows`` (R,) int64, after which
of the S tokens logits are wanted; ``past_k0``, ``past_v0``, … (B, kv_heads, context, head).
Outputs: ``logits`` (B, R, V), ``present_k0``, … which may be the same memory as ``past``.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from llm_edge.checkpoint import EPSILON, ROTARY_BASE, Checkpoint, FloatTensor

MICROSOFT = "com.microsoft"
OPERATORS = frozenset(
    {
        "Gather", "GroupQueryAttention", "SkipSimplifiedLayerNormalization", "MatMul",
        "DynamicQuantizeMatMul", "Split", "QuickGelu", "Mul",
    }
)  # fmt: skip
METADATA = "leadsight.decoder"
OPSET = 18


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self, quantized: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._quantized = quantized

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        domain = MICROSOFT if kind not in ("Gather", "MatMul", "Split", "Mul") else ""
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )
        return outputs[0]

    def product(self, x: str, weight: FloatTensor, name: str) -> str:
        """x · weightᵀ; weight (out, in) in 8 bits with a scale for each output where wanted."""
        columns = weight.T
        if not self._quantized:
            return self.node("MatMul", [x, self.constant(f"{name}.w", columns)], [name])
        scale = np.maximum(np.abs(columns).max(axis=0), 1e-12) / 127
        whole = np.clip(np.rint(columns / scale), -127, 127).astype(np.int8)
        constants = [
            self.constant(f"{name}.w", whole),
            self.constant(f"{name}.scale", scale.astype(np.float32)),
        ]
        return self.node("DynamicQuantizeMatMul", [x, *constants], [name])

    def norm(self, x: str, residual: str, weight: FloatTensor, name: str) -> tuple[str, str]:
        """Norm of the sum, and the sum."""
        gamma = self.constant(f"{name}.gamma", weight)
        self.node(
            "SkipSimplifiedLayerNormalization",
            [x, residual, gamma],
            [name, "", "", f"{name}.sum"],
            epsilon=EPSILON,
        )
        return name, f"{name}.sum"


def rotary_tables(context: int, head: int) -> tuple[FloatTensor, FloatTensor]:
    """Cosine and sine, (context, head/2), of position times frequency (Su et al., RoFormer)."""
    frequencies = ROTARY_BASE ** (-np.arange(0, head, 2) / head)
    angles = np.arange(context)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rms_norm(x: FloatTensor, weight: FloatTensor) -> FloatTensor:
    """Zhang & Sennrich 2019, along the last axis."""
    mean = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
    made: FloatTensor = (x / np.sqrt(mean + EPSILON) * weight).astype(np.float32)
    return made


def decoder_model(checkpoint: Checkpoint, quantized: bool = True) -> onnx.ModelProto:
    """The graph with its weights; shape and words are its metadata.

    quantized: products in 8 bits; else everything in float32, for comparison.
    """
    shape, weights = checkpoint.shape, checkpoint.weights
    graph = _Graph(quantized)
    cos, sin = rotary_tables(shape.context, shape.head)
    tables = [graph.constant("cos", cos), graph.constant("sin", sin)]
    x = ""
    residual = graph.node("Gather", [graph.constant("embed", weights["embed"]), "tokens"], ["x"])
    projected = graph.node("Gather", [graph.constant("first", _first(checkpoint)), "tokens"], ["p"])
    for i in range(shape.layers):
        layer = {
            name.rpartition(".")[2]: value
            for name, value in weights.items()
            if name.startswith(f"layers.{i}.")
        }
        if i:
            normed, residual = graph.norm(x, residual, layer["attn_norm"], f"{i}.attn_norm")
            projected = graph.product(normed, _qkv(layer), f"{i}.qkv")
        attended = graph.node(
            "GroupQueryAttention",
            [projected, "", "", f"past_k{i}", f"past_v{i}", "seqlens", "total", *tables],
            [f"{i}.attention", f"present_k{i}", f"present_v{i}"],
            num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1, rotary_interleaved=1,
        )  # fmt: skip
        if i == shape.layers - 1:
            attended = graph.node("Gather", [attended, "rows"], [f"{i}.asked"], axis=1)
            residual = graph.node("Gather", [residual, "rows"], [f"{i}.rest"], axis=1)
        x = graph.product(attended, layer["wo"], f"{i}.wo")
        normed, residual = graph.norm(x, residual, layer["mlp_norm"], f"{i}.mlp_norm")
        both = graph.product(normed, np.concatenate([layer["w1"], layer["w3"]]), f"{i}.w13")
        graph.node("Split", [both], [f"{i}.w1", f"{i}.w3"], axis=-1, num_outputs=2)
        gate = graph.node("QuickGelu", [f"{i}.w1"], [f"{i}.silu"], alpha=1.0)  # x·sigmoid(x)
        hidden = graph.node("Mul", [gate, f"{i}.w3"], [f"{i}.hidden"])
        x = graph.product(hidden, layer["w2"], f"{i}.w2")
    normed, _ = graph.norm(x, residual, weights["norm"], "norm")
    graph.nodes[-1].output[:] = ["norm"]
    graph.product(normed, weights["embed"], "logits")

    cache: list[Any] = ["B", shape.kv_heads, shape.context, shape.head]
    logits: list[Any] = ["B", "R", shape.vocab]
    names = [f"{kind}{i}" for i in range(shape.layers) for kind in "kv"]
    value, real, whole = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        value("tokens", whole, ["B", "S"]),
        value("seqlens", TensorProto.INT32, ["B"]),
        value("total", TensorProto.INT32, [1]),
        value("rows", whole, ["R"]),
        *(value(f"past_{name}", real, cache) for name in names),
    ]
    outputs = [
        value("logits", real, logits),
        *(value(f"present_{name}", real, cache) for name in names),
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "decoder", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=9,  # what onnxruntime 1.17 reads
    )
    helper.set_model_props(model, {METADATA: checkpoint.config()})
    return model


def _qkv(layer: dict[str, FloatTensor]) -> FloatTensor:
    return np.concatenate([layer["wq"], layer["wk"], layer["wv"]])


def _first(checkpoint: Checkpoint) -> FloatTensor:
    """Layer 0's queries, keys and values before rotation, one row a word."""
    weights = checkpoint.weights
    layer = {name: weights[f"layers.0.{name}"] for name in ("wq", "wk", "wv")}
    normed = rms_norm(weights["embed"], weights["layers.0.attn_norm"])
    return normed @ _qkv(layer).T
