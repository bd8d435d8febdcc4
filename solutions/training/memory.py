"""Solutions: bigger batches than fit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scratchlm.model.gpt import GPT
from scratchlm.training.memory import memory_use, recompute


def largest_micro_batch(model: GPT, context: int, budget: int) -> int:
    """How many windows fit into `budget` bytes; 0 if not even one does.

    Activations grow by the same number of bytes with every window, so two
    measurements, of one window and of two, say all.
    """
    ids = torch.zeros(2, context, dtype=torch.int64)
    one = memory_use(model, ids[:1], ids[:1]).total
    each = memory_use(model, ids, ids).total - one
    return 0 if one > budget else 1 + (budget - one) // each


def recompute_in_groups(
    blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor, size: int
) -> Tensor:
    """Run blocks in groups of `size`, each group recomputed as a whole.

    Kept are one input per group and, on the way back, all that one group
    keeps: about L/size + size, least where size is the root of L.
    """
    for start in range(0, len(blocks), size):
        group = nn.Sequential(*blocks[start : start + size])
        x = recompute(group, x)
    return x


@contextmanager
def half_the_bits() -> Iterator[None]:
    """Keep float32 activations as bfloat16 until the way back.

    Halves their memory without computing anything twice; the gradient is
    no longer exact.
    """

    def pack(tensor: Tensor) -> tuple[torch.dtype, Tensor]:
        small = tensor.dtype == torch.float32 and not tensor.is_leaf
        kept = tensor.to(torch.bfloat16) if small else tensor
        return tensor.dtype, kept

    def unpack(packed: tuple[torch.dtype, Tensor]) -> Tensor:
        dtype, kept = packed
        return kept.to(dtype)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
