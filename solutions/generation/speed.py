"""Solutions: what the machine waits for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.generation.cache import cache_bytes
from scratchlm.generation.speed import Roofline
from scratchlm.model.gpt import (
    GPTConfig,
    flops_per_token,
    parameter_table,
)
from scratchlm.model.layers import SwiGLU


def amdahl(share: float, factor: float) -> float:
    """How many times as fast a program gets by one of its parts.

    The part takes `share` of the time and becomes `factor` times as fast
    (Amdahl, 1967).

    >>> amdahl(0.5, 4.0)
    1.6
    """
    return 1 / (1 - share + share / factor)


def utilization(
    config: GPTConfig, tokens_per_second: float, peak: float
) -> float:
    """The share of the arithmetic ceiling that training makes use of.

    `peak` in operations per second. Chowdhery et al. (2022), section 4.1,
    call it model FLOPs utilization.

    >>> tiny = GPTConfig(65, 64, 4, 4, 128)
    >>> round(utilization(tiny, 26_000, 220e9), 2)
    0.61
    """
    return flops_per_token(config) * tokens_per_second / peak


def writing_limit(
    config: GPTConfig,
    batch: int,
    length: int,
    roof: Roofline,
    bytes_per_number: int = 2,
) -> float:
    """Tokens per second, at most, after `length` tokens in each text.

    Every weight is read once for the whole batch, every text's own cache
    besides; the products are two operations for each weight and text.
    """
    weights = sum(parameter_table(config).values())
    moved = bytes_per_number * weights
    moved += cache_bytes(config, batch, length, bytes_per_number)
    seconds = max(moved / roof.bandwidth, 2 * batch * weights / roof.flops)
    return batch / seconds


def swiglu_without_module(module: SwiGLU) -> Callable[[Tensor], Tensor]:
    """What `SwiGLU` computes, as a plain function."""
    gate, up, down = (
        (part.weight, part.bias)
        for part in (module.gate, module.up, module.down)
    )

    def swiglu(x: Tensor) -> Tensor:
        return F.linear(F.silu(F.linear(x, *gate)) * F.linear(x, *up), *down)

    return swiglu


class FewerDice(nn.Module):
    """Dropout that casts one die for four numbers, and reads it in quarters.

    A random integer of 64 bits is four of 16. The chance is rounded to a
    multiple of 1/65,536.
    """

    def __init__(self, p: float) -> None:
        """`p`, in [0, 1), is the share of numbers that becomes zero."""
        super().__init__()
        self.p = p
        self.dropped = min(round(p * 2**16), 2**16 - 1)  # of the faces

    def forward(self, x: Tensor) -> Tensor:
        """In training, what is left of x, as much larger as it is rarer."""
        if not self.training:
            return x
        count = -(-x.numel() // 4)  # rounded up
        cast = torch.empty(count, dtype=torch.int64, device=x.device)
        dice = cast.random_(-(2**63), None).view(torch.int16)
        keep = dice[: x.numel()].view(x.shape) >= self.dropped - 2**15
        return x * keep.to(x.dtype).mul_(2**16 / (2**16 - self.dropped))


def with_fewer_dice(model: nn.Module) -> None:
    """Put `FewerDice` in the place of every `nn.Dropout` inside a model."""
    for module in list(model.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Dropout):
                setattr(module, name, FewerDice(part.p))
