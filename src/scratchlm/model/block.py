"""A block, and why the residual stays clean: the unit a transformer repeats.

A block is two sublayers, attention and then a feed-forward layer; each adds
what it found to the residual stream. With the norms *before* both parts, as
in GPT-2 (Radford et al., 2019; Xiong et al., 2020), the stream itself is
never normalized, multiplied or cut: a sum from the first layer to the last.
The post-norm form of Vaswani et al. (2017) is here for comparison, and that
of OLMo 2 (Walsh et al., 2025), which normalizes what a part adds.

Left out: norms on both sides (Gemma), and attention and feed-forward side by
side (GPT-J).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from scratchlm.model.heads import KVStore, MultiHeadAttention


class Block(nn.Module):
    """Attention, then a feed-forward layer, each added to the stream."""

    def __init__(
        self,
        norm1: nn.Module,
        attention: MultiHeadAttention,
        norm2: nn.Module,
        mlp: nn.Module,
        norm_order: str = "pre",
    ) -> None:
        """Made of parts, in the order in which the data meets them.

        `norm_order` is pre (before each part), post (on the stream, after
        each sum) or branch (on what each part adds).
        """
        super().__init__()
        self.norm1 = norm1
        self.attention = attention
        self.norm2 = norm2
        self.mlp = mlp
        self.norm_order = norm_order

    def forward(self, x: Tensor, store: KVStore | None = None) -> Tensor:
        """(B, T, C) → (B, T, C); with a store, after what it holds."""
        if self.norm_order == "post":
            x = self.norm1(x + self.attention(x, store))
            return self.norm2(x + self.mlp(x))
        if self.norm_order == "branch":
            x = x + self.norm1(self.attention(x, store))
            return x + self.norm2(self.mlp(x))
        x = x + self.attention(self.norm1(x), store)
        return x + self.mlp(self.norm2(x))


def rms(x: Tensor) -> float:
    """The root of the mean of the squares: how large numbers are.

    >>> rms(torch.tensor([3.0, -3.0]))
    3.0
    """
    return x.detach().cpu().double().square().mean().sqrt().item()


def depth_profile(
    blocks: Iterable[nn.Module], x: Tensor
) -> tuple[list[float], list[float]]:
    """How large the stream and its gradient are, before and after each block.

    Sends x (B, T, C) through the blocks, and a random direction of size 1
    back from the end. Both lists have one entry more than there are blocks:
    the first is that of the input. Where gradients shrink or grow from one
    entry to the next by a factor, depth makes powers of it.
    """
    streams = [x.detach().requires_grad_()]
    for block in blocks:
        streams.append(block(streams[-1]))
    generator = torch.Generator(device=x.device).manual_seed(0)
    direction = torch.randn(x.shape, generator=generator, device=x.device)
    gradients = torch.autograd.grad(streams[-1], streams, direction)
    return [rms(s) for s in streams], [rms(g) for g in gradients]
