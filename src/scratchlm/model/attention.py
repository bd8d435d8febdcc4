"""Looking only backwards: causal attention with one head.

`scaled_dot_product_attention` stands here as in the paper (Vaswani et al.,
2017, section 3.2.1), in the open: clear, differentiable, and the reference
against which the fast form in `scratchlm.model.heads` is tested.

Left out: many heads (next chapter), masks other than the causal one, and
all care for speed: the matrix of scores is kept whole.
"""

import math

import torch
from torch import Tensor, nn


def causal_mask(
    queries: int, keys: int, device: torch.device | None = None
) -> Tensor:
    """True where a query may look: (queries, keys), booleans.

    The queries are the last positions of the keys: query i is at position
    keys - queries + i and sees everything up to itself. Raises ValueError
    for more queries than keys: the first would see nothing.

    >>> causal_mask(2, 4).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    if queries > keys:
        raise ValueError(
            f"{queries} queries for {keys} keys: every query needs its own "
            "key, so append the new keys before attending"
        )
    ones = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return ones.tril(diagonal=keys - queries)


def attention_weights(q: Tensor, k: Tensor, causal: bool = True) -> Tensor:
    """How much each query attends to each key; each row sums to 1.

    q (..., Tq, D) and k (..., Tk, D) → (..., Tq, Tk). Vaswani et al.
    (2017), eq. 1 without the product with V.
    """
    scores = q @ k.transpose(-2, -1)  # (..., Tq, Tk)
    scores = scores / math.sqrt(q.shape[-1])
    if causal:
        seen = causal_mask(q.shape[-2], k.shape[-2], q.device)
        scores = scores.masked_fill(~seen, -math.inf)
    return scores.softmax(dim=-1)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = True
) -> Tensor:
    """For each query, a mean of the values, by `attention_weights`.

    q (..., Tq, D), k (..., Tk, D), v (..., Tk, E) → (..., Tq, E).

    >>> nothing = torch.zeros(3, 2)  # no question and no label
    >>> values = torch.tensor([[1.0], [2.0], [6.0]])
    >>> scaled_dot_product_attention(nothing, nothing, values)
    tensor([[1.0000],
            [1.5000],
            [3.0000]])
    """
    return attention_weights(q, k, causal) @ v


class SingleHeadAttention(nn.Module):
    """One head: three projections of the same vectors, then attention."""

    def __init__(self, channels: int, head_size: int) -> None:
        """Projections of `channels` numbers to `head_size`, no bias."""
        super().__init__()
        self.query = nn.Linear(channels, head_size, bias=False)
        self.key = nn.Linear(channels, head_size, bias=False)
        self.value = nn.Linear(channels, head_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, D): what each position attended to."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        return scaled_dot_product_attention(q, k, v)
