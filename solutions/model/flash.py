"""Solutions to the exercises on attention in blocks."""

import math
from typing import Any

import torch
from torch import Tensor


def tiles(length: int, block: int, causal: bool = True) -> tuple[int, int]:
    """How many pairs of blocks are visited, and how many there are.

    >>> tiles(256, 64)
    (10, 16)
    """
    count = math.ceil(length / block)
    visited = count * (count + 1) // 2 if causal else count**2
    return visited, count**2


def traffic(length: int, head_size: int, block: int) -> tuple[int, int]:
    """Numbers moved between slow and fast memory: (matrix, blocks).

    One head, no mask. The matrix of scores is written and read three times
    on its way to the output: by the two products, the division and the
    softmax. In blocks, each block of queries reads all keys and values.
    """
    rows = 4 * length * head_size  # queries, keys, values, the output
    matrix = rows + 6 * length**2
    blocks = math.ceil(length / block)
    return matrix, 2 * length * head_size * (1 + blocks)


Part = tuple[Tensor, Tensor]  # attended (..., Tq, E), log-sum (..., Tq, 1)


def merge(a: Part, b: Part) -> Part:
    """Join what the same queries heard from two sets of keys.

    Each part is the weighted mean over its keys and the logarithm of the
    sum of their exponentials.
    """
    log_sum = torch.logaddexp(a[1], b[1])
    share_a, share_b = (  # 0, where a query has seen nothing at all
        torch.nan_to_num((part[1] - log_sum).exp()) for part in (a, b)
    )
    return a[0] * share_a + b[0] * share_b, log_sum


def attend_with_log_sum(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Part:
    """Attention over one set of keys, with the logarithm of the sum.

    `seen` (Tq, Tk) is True where a query may look. A query that may look at
    nothing gets zeros, and −∞ for the logarithm.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~seen, -math.inf)  # (..., Tq, Tk)
    log_sum = scores.logsumexp(dim=-1, keepdim=True)
    weights = torch.nan_to_num((scores - log_sum).exp())
    return weights @ v, log_sum


def tile_mask(
    queries: int, keys: int, now: slice, device: torch.device
) -> Tensor:
    """The columns `now` of `causal_mask`, without the others."""
    place = torch.arange(keys, device=device)
    return place[now] <= place[keys - queries :, None]


class FlashAttention(torch.autograd.Function):
    """Causal attention whose way back recomputes the weights in blocks.

    Dao et al. (2022), algorithm 4: kept are the inputs, the output and one
    number for each query. Call `FlashAttention.apply(q, k, v, block)`.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, block: int
    ) -> Tensor:
        """(..., T, D), (..., T, D), (..., T, E) → (..., T, E)."""
        part: Part | None = None
        for start in range(0, k.shape[-2], block):
            now = slice(start, start + block)
            seen = tile_mask(q.shape[-2], k.shape[-2], now, q.device)
            new = attend_with_log_sum(q, k[..., now, :], v[..., now, :], seen)
            part = new if part is None else merge(part, new)
        assert part is not None
        ctx.save_for_backward(q, k, v, *part)
        ctx.block = block
        return part[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """The gradients of queries, keys and values."""
        (grad,) = grads
        q, k, v, attended, log_sum = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
        means = (grad * attended).sum(dim=-1, keepdim=True)  # (..., T, 1)
        for start in range(0, k.shape[-2], ctx.block):
            now = slice(start, start + ctx.block)
            key, value = k[..., now, :], v[..., now, :]
            seen = tile_mask(q.shape[-2], k.shape[-2], now, q.device)
            scores = q @ key.transpose(-2, -1) * scale
            scores = scores.masked_fill(~seen, -math.inf)
            weights = (scores - log_sum).exp()  # (..., T, block), again
            dv[..., now, :] = weights.transpose(-2, -1) @ grad
            ds = weights * (grad @ value.transpose(-2, -1) - means) * scale
            dq += ds @ key
            dk[..., now, :] = ds.transpose(-2, -1) @ q
        return dq, dk, dv, None


def attend_in_window(
    q: Tensor, k: Tensor, v: Tensor, window: int, block: int
) -> Tensor:
    """Causal attention to the last `window` positions: (..., T, E).

    Tiles that lie wholly before the window are not visited.
    """
    place, rows = torch.arange(k.shape[-2], device=k.device), []
    for start in range(0, len(place), block):
        now, part = place[start : start + block], None
        oldest = max(0, start - window + 1) // block * block
        for first in range(oldest, start + 1, block):
            keys = place[first : first + block]
            back = now[:, None] - keys
            seen = (back >= 0) & (back < window)
            new = attend_with_log_sum(
                q[..., now, :], k[..., keys, :], v[..., keys, :], seen
            )
            part = new if part is None else merge(part, new)
        assert part is not None
        rows.append(part[0])
    return torch.cat(rows, dim=-2)
