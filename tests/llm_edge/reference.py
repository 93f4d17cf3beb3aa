"""The decoder written plainly in numpy, float64: what every engine is held against."""

import numpy as np

from llm_edge.checkpoint import EPSILON, ROTARY_BASE, Checkpoint


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def rotate(x, head):
    """(T, heads, head): neighboring pairs turn by position times frequency."""
    angles = np.arange(len(x))[:, None] * ROTARY_BASE ** (-np.arange(0, head, 2) / head)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    made = np.empty_like(x)
    made[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    made[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return made


def logits(checkpoint: Checkpoint, tokens) -> np.ndarray:
    """(T, V) logits after every token."""
    shape = checkpoint.shape
    w = {name: value.astype(np.float64) for name, value in checkpoint.weights.items()}
    t = len(tokens)
    x = w["embed"][tokens]
    mask = np.where(np.tril(np.ones((t, t))) > 0, 0.0, -np.inf)
    for i in range(shape.layers):
        p = f"layers.{i}."
        y = norm(x, w[p + "attn_norm"])
        q, k, v = ((y @ w[p + name].T).reshape(t, -1, shape.head) for name in ("wq", "wk", "wv"))
        q, k = rotate(q, shape.head), rotate(k, shape.head)
        k, v = (np.repeat(a, shape.heads // shape.kv_heads, axis=1) for a in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(shape.head) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", weights, v).reshape(t, -1) @ w[p + "wo"].T
        y = norm(x, w[p + "mlp_norm"])
        gate = y @ w[p + "w1"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w[p + "w3"].T)) @ w[p + "w2"].T
    return norm(x, w["norm"]) @ w["embed"].T
