"""Solutions: keeping numbers in range, and thinking alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.layers import LayerNorm, RMSNorm


def rms_norm_gradient(x: Tensor, upstream: Tensor, eps: float = 1e-5) -> Tensor:
    """The gradient of the loss at x (..., C), given that at `rms_norm(x)`.

    With weight 1. What points along x is taken out: making x longer does
    not change its norm, so no gradient can ask for it.
    """
    size = torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)
    y = x / size
    along = (upstream * y).mean(dim=-1, keepdim=True)  # (..., 1)
    return (upstream - y * along) / size


class SquaredReLUMLP(nn.Module):
    """Widen, cut off below zero and square, narrow (So et al., 2021)."""

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        """Hidden size 4C unless told."""
        super().__init__()
        hidden = 4 * channels if hidden is None else hidden
        self.up = nn.Linear(channels, hidden, bias=False)
        self.down = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        return self.down(F.relu(self.up(x)).square())


def fold_norm(norm: LayerNorm | RMSNorm, linear: nn.Linear) -> nn.Linear:
    """One linear layer for the norm's weight and bias and the layer after.

    Applied to rows that were normalized with weight 1 and bias 0, it gives
    what `linear(norm(x))` gives.
    """
    shift = norm.bias if isinstance(norm, LayerNorm) else None
    terms: list[Tensor] = [] if linear.bias is None else [linear.bias]
    terms += [] if shift is None else [linear.weight @ shift]
    outputs, inputs = linear.weight.shape
    folded = nn.Linear(inputs, outputs, bias=bool(terms))
    with torch.no_grad():
        folded.weight.copy_(linear.weight * norm.weight)
        if terms:
            folded.bias.copy_(torch.stack(terms).sum(dim=0))
    return folded
