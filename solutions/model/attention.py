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


def cap(scores: Tensor, limit: float) -> Tensor:
    """Scores that stay within ±limit, small ones nearly unchanged.

    The soft cap of Gemma 2 (Gemma Team, 2024, section 2).

    >>> cap(torch.tensor([0.1, 5.0, 1000.0]), limit=5.0)
    tensor([0.1000, 3.8080, 5.0000])
    """
    return limit * torch.tanh(scores / limit)
