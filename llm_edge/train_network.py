"""The shipped decoder for training: Llama's shape in one file. Needs torch.

RMS norms, rotary positions over neighboring pairs, causal attention, a gated feed-forward part,
the embedding as output head. ``decoder_graph.py`` holds the same network for onnxruntime.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llm_edge import words
from llm_edge.checkpoint import EPSILON, ROTARY_BASE, Checkpoint, Shape, save_checkpoint
from llm_edge.lookahead import LATEST, MANEUVERS

WORD, NUMBERS = 0.4, 0.6
"""Size at the beginning of what words have of their own, and of what words of numbers have in
common: as large as what the layers add, so that these do not drown it."""
HEAD = 0.1
"""Of the last norm at the beginning: the embedding is the output head as well."""


class Layer(nn.Module):
    """Attention, then the feed-forward part, each on the normalized stream."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        head = s.width // s.heads
        self.heads, self.kv_heads = s.heads, s.kv_heads
        self.attn_norm = nn.RMSNorm(s.width, EPSILON)
        self.wq = nn.Linear(s.width, s.width, bias=False)
        self.wk = nn.Linear(s.width, head * s.kv_heads, bias=False)
        self.wv = nn.Linear(s.width, head * s.kv_heads, bias=False)
        self.wo = nn.Linear(s.width, s.width, bias=False)
        self.mlp_norm = nn.RMSNorm(s.width, EPSILON)
        self.w1 = nn.Linear(s.width, s.hidden, bias=False)
        self.w3 = nn.Linear(s.width, s.hidden, bias=False)
        self.w2 = nn.Linear(s.hidden, s.width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        h = self.attn_norm(x)
        q = rotated(self.wq(h).view(b, t, self.heads, -1).transpose(1, 2), cos, sin)
        k = rotated(self.wk(h).view(b, t, self.kv_heads, -1).transpose(1, 2), cos, sin)
        v = self.wv(h).view(b, t, self.kv_heads, -1).transpose(1, 2)
        y = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads
        )
        x = x + self.wo(y.transpose(1, 2).reshape(b, t, -1))
        h = self.mlp_norm(x)
        made: torch.Tensor = x + self.w2(functional.silu(self.w1(h)) * self.w3(h))
        return made


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs of neighbors (2i, 2i + 1) turned by their place's angle."""
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Decoder(nn.Module):
    """Tokens (B, T) → logits (B, T, V).

    ``teacher`` reads from the stream after ``taught`` layers, at a slot's name, what the slot's
    object blocks and when it meets the wish. It is thrown away after the training: it makes the
    lower layers simulate, so that those above have something to think about.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, EPSILON)
        self.taught = max(1, shape.layers - 2)
        self.teacher = nn.Sequential(
            nn.RMSNorm(shape.width, EPSILON),
            nn.Linear(shape.width, 2 * len(MANEUVERS) + LATEST + 1),
        )
        for name, p in self.named_parameters():
            if p.ndim == 2:
                adds = name.endswith(("wo.weight", "w2.weight"))  # to the stream
                deep = (2 * shape.layers) ** -0.5 if adds else 1.0
                nn.init.normal_(p, std=WORD if "embed" in name else deep * p.shape[1] ** -0.5)
        nn.init.constant_(self.norm.weight, HEAD)
        with torch.no_grad():
            _order_numbers(self.embed.weight)
        half = shape.width // shape.heads // 2
        angles = torch.arange(shape.context)[:, None] / ROTARY_BASE ** (torch.arange(half) / half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and the stream after ``taught`` layers."""
        x = self.embed(tokens)
        cos, sin = self.get_buffer("cos")[: tokens.shape[1]], self.get_buffer("sin")
        sin, taught = sin[: tokens.shape[1]], x
        for k, layer in enumerate(self.layers, 1):
            x = layer(x, cos, sin)
            if k == self.taught:
                taught = x
        return functional.linear(self.norm(x), self.embed.weight), taught


def _order_numbers(embedding: torch.Tensor) -> None:
    """Begin with near numbers near each other: words of numbers get waves of their value, from one
    over the whole range to some dozen."""
    waves = torch.pi * 2.0 ** torch.arange(-1, 5)
    for kind, numbers in words.SCALES.items():
        values = torch.as_tensor(np.array(numbers, float))
        ranks = (values.argsort().argsort() / (len(values) - 1))[:, None]
        spaced = ((values - values.min()) / (values.max() - values.min()))[:, None]
        features = [f(v * waves) for v in (ranks, spaced) for f in (torch.sin, torch.cos)]
        mixed = torch.cat(features, dim=1).float() @ torch.randn(4 * len(waves), embedding.shape[1])
        rows = slice(words.FIRST[kind], words.FIRST[kind] + len(values))
        embedding[rows] += NUMBERS * mixed / (2 * len(waves)) ** 0.5


def save(net: Decoder, path: Path) -> None:
    """Write the weights for ``export_onnx`` and ``export_gguf``."""
    weights = {
        name.removesuffix(".weight"): p.detach().float().numpy()
        for name, p in net.named_parameters()
        if not name.startswith("teacher")
    }
    save_checkpoint(Checkpoint(net.shape, words.WORDS, weights), path)
