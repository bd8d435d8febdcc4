"""Solutions of the exercises on several processes."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scratchlm.training.distributed import rank_bytes


def ring_all_reduce(tensors: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """What ranks in a ring end with, and how many numbers each has sent.

    Each rank begins with a tensor (N,), where N is a multiple of the ranks.

    >>> ring_all_reduce([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])])
    ([tensor([4., 7.]), tensor([4., 7.])], 2)
    """
    n, sent = len(tensors), 0
    parts = [list(tensor.clone().chunk(n)) for tensor in tensors]
    for turn in range(2 * (n - 1)):
        moving = [parts[r][(r - turn) % n].clone() for r in range(n)]
        for rank in range(n):
            place = (rank - turn) % n
            to = (rank + 1) % n
            if turn < n - 1:
                parts[to][place] += moving[rank]
            else:
                parts[to][place] = moving[rank]
        sent += moving[0].numel()
    return [torch.cat(own) for own in parts], sent


def largest_model(memory: float, ranks: int, stage: int) -> int:
    """How many weights fit, where nothing else needs memory.

    >>> largest_model(80e9, ranks=1, stage=0)
    5000000000
    """
    million = rank_bytes(1_000_000, ranks, stage)
    return int(memory / million * 1_000_000)


def pooled(parts: Sequence[tuple[float, int]]) -> float:
    """The mean loss of a text from each rank's sum of nats and its tokens.

    >>> pooled([(6.0, 2), (4.0, 8)])
    1.0
    """
    nats, tokens = map(sum, zip(*parts, strict=True))
    return nats / tokens


def same_everywhere(model: nn.Module) -> None:
    """Raise RuntimeError, on every rank, where weights differ."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            both = torch.stack([parameter, -parameter])
            dist.all_reduce(both, op=dist.ReduceOp.MAX)
            if bool((both[0] != -both[1]).any()):
                raise RuntimeError(f"{name} is not the same on all ranks")
