"""The whole trained model in plain NumPy: one text in, all logits out.

`w` holds a run's weights by their names, `c` the "model" of its config.json.
Left out: norms anywhere but before the parts, QK-norm, slowed rotation and
the exact GELU; dropout, batches, the cache.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]
Config = Mapping[str, Any]


def linear(w: Weights, name: str, x: Array) -> Array:
    """(T, in) → (T, out), with a bias if there is one."""
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", np.float32(0))


def norm(w: Weights, name: str, x: Array, c: Config) -> Array:
    """Layer normalization, or RMSNorm: the same without the mean."""
    if c["norm"] == "layernorm":
        x = x - x.mean(axis=-1, keepdims=True)
    size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + c["norm_eps"])
    return x / size * w[f"{name}.weight"] + w.get(f"{name}.bias", 0)


def rotate(x: Array, base: float) -> Array:
    """Turn pairs of channels of (H, T, D) by their position's angles."""
    a, b = np.split(x, 2, axis=-1)  # (H, T, D / 2) each
    pair = np.arange(a.shape[-1]) / a.shape[-1]
    angle = np.outer(np.arange(x.shape[1]), base**-pair)  # (T, D / 2)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(w: Weights, name: str, x: Array, c: Config) -> Array:
    """Causal attention of one text with many heads: (T, C) → (T, C)."""
    t, heads, kv_heads = len(x), c["heads"], c["kv_heads"] or c["heads"]
    size = c["head_size"] or c["channels"] // heads
    qkv = linear(w, f"{name}.qkv", x).reshape(t, -1, size).swapaxes(0, 1)
    q, k, v = np.split(qkv, [heads, heads + kv_heads])  # (H or K, T, D)
    if c["position"] == "rotary":
        q, k = rotate(q, c["rope_base"]), rotate(k, c["rope_base"])
    k, v = (np.repeat(y, heads // kv_heads, axis=0) for y in (k, v))
    scores = q @ k.swapaxes(1, 2) / size**0.5  # (H, T, T)
    scores = np.where(np.tri(t, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = (weights @ v).swapaxes(0, 1).reshape(t, -1)  # (T, H · D)
    return linear(w, f"{name}.out", mixed)


def feed_forward(w: Weights, name: str, x: Array, c: Config) -> Array:
    """Widen, bend, narrow: (T, C) → (T, C)."""
    up = linear(w, f"{name}.up", x)
    if c["mlp"] == "swiglu":
        gate = linear(w, f"{name}.gate", x)
        up = gate / (1 + np.exp(-gate)) * up
    else:  # GELU by its approximation, as in GPT-2
        inner = (2 / np.pi) ** 0.5 * (up + 0.044715 * up**3)
        up = 0.5 * up * (1 + np.tanh(inner))
    return linear(w, f"{name}.down", up)


def logits(w: Weights, c: Config, ids: Sequence[int]) -> Array:
    """The scores of every next token: T ids → (T, V)."""
    usual = {"norm_order": "pre", "qk_norm": "none", "rope_factor": 1.0}
    if any(c[name] != usual[name] for name in usual) or c["mlp"] == "gelu":
        raise ValueError(f"only {usual} and no exact GELU are written here")
    x = w["token.weight"][list(ids)]  # (T, C)
    if c["position"] == "learned":
        x = x + w["position.weight"][: len(ids)]
    for i in range(c["layers"]):
        block = f"blocks.{i}"
        read = norm(w, f"{block}.norm1", x, c)
        x = x + attention(w, f"{block}.attention", read, c)
        read = norm(w, f"{block}.norm2", x, c)
        x = x + feed_forward(w, f"{block}.mlp", read, c)
    head = w.get("head.weight", w["token.weight"])
    return norm(w, "norm", x, c) @ head.T
