"""Solutions: doubt as a gradient, fair steps for rare rows, a thin table."""

import torch
from torch import Tensor, nn

from scratchlm.model.bigram import logit_gradient


def doubting_gradient(
    table: Tensor, ids: Tensor, targets: Tensor, alpha: float
) -> Tensor:
    """The gradient (V, V) whose zero are counts with alpha added to each.

    As if every pair of tokens had been seen alpha times more: in each row
    V · alpha uses, spread evenly over the targets.
    """
    vocab, shares = len(table), table.softmax(dim=-1)
    slope = logit_gradient(table[ids], targets) * len(ids)  # summed
    total = torch.zeros_like(table).index_add_(0, ids, slope)
    total += alpha * (vocab * shares - 1)
    return total / (len(ids) + alpha * vocab**2)


def row_gradient(table: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
    """The mean gradient over the uses of each row, not over all: (V, V).

    Rare rows learn in strides as long as those of common ones.
    """
    slope = logit_gradient(table[ids], targets) * len(ids)
    total = torch.zeros_like(table).index_add_(0, ids, slope)
    uses = torch.bincount(ids, minlength=len(table))
    return total / uses.clamp(min=1)[:, None]


class ThinBigram(nn.Module):
    """A bigram table of rank C: the product of (V, C) and (C, V)."""

    def __init__(self, vocab_size: int, channels: int) -> None:
        """Small random numbers: from zeros, no gradient leads away."""
        super().__init__()
        self.rows = nn.Parameter(torch.randn(vocab_size, channels) * 0.1)
        self.columns = nn.Parameter(torch.randn(channels, vocab_size) * 0.1)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""
        return self.rows[ids] @ self.columns
