"""Solutions to the exercises on attention with one head."""

import math

import torch
from torch import Tensor

from scratchlm.model.attention import causal_mask


def attend_by_loops(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention for one sequence, number by number: (T, E).

    q and k (T, D), v (T, E). No mask is needed: the loop over keys ends
    at the query's own position.
    """
    length, size = q.shape
    attended = torch.zeros(length, v.shape[1])
    for t in range(length):
        strengths = []
        for s in range(t + 1):
            score = sum(float(q[t, d] * k[s, d]) for d in range(size))
            strengths.append(math.exp(score / math.sqrt(size)))
        for s in range(t + 1):
            attended[t] += strengths[s] / sum(strengths) * v[s]
    return attended


def window_mask(queries: int, keys: int, window: int) -> Tensor:
    """The causal mask, cut off `window` positions back: (queries, keys).

    >>> window_mask(3, 3, window=2).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    if window < 1:
        raise ValueError(f"a window of {window} shows nothing: use 1 or more")
    too_far = torch.ones(queries, keys, dtype=torch.bool)
    too_far = too_far.tril(diagonal=keys - queries - window)
    return causal_mask(queries, keys) & ~too_far


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, size: int) -> Tensor:
    """Causal attention that never holds more than `size` keys' scores.

    q and k (T, D), v (T, E) → (T, E). Online softmax (Milakov and
    Gimelshein, 2018), the idea inside FlashAttention (Dao et al., 2022):
    keep the largest score so far, and scale down what was summed whenever
    a larger one turns up.
    """
    length = q.shape[0]
    seen = causal_mask(length, length)
    largest = torch.full((length, 1), -math.inf)
    total = torch.zeros(length, 1)
    attended = torch.zeros(length, v.shape[1])
    for start in range(0, length, size):
        block = slice(start, start + size)
        scores = q @ k[block].T / math.sqrt(q.shape[1])  # (T, size)
        scores = scores.masked_fill(~seen[:, block], -math.inf)
        now = torch.maximum(largest, scores.amax(dim=1, keepdim=True))
        shrink = (largest - now).exp()
        strengths = (scores - now).exp()
        total = total * shrink + strengths.sum(dim=1, keepdim=True)
        attended = attended * shrink + strengths @ v[block]
        largest = now
    return attended / total
