"""Solutions to the exercises on low-rank adapters."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scratchlm.model.gpt import GPT


def break_even(out: int, size: int) -> int:
    """The largest rank whose adapter has fewer numbers than the weights.

    >>> break_even(128, 128), break_even(384, 128)
    (63, 95)
    """
    return (out * size - 1) // (out + size)


def best_change(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (out, r) and A (r, in) whose product is nearest to a matrix.

    By the singular values (Eckart and Young, 1936).
    """
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def explained(base: GPT, tuned: GPT, name: str, rank: int) -> float:
    """The share of a change's squares that a rank can express.

    `name` is that of a matrix, such as "blocks.0.mlp.up.weight".
    """
    change = tuned.get_parameter(name) - base.get_parameter(name)
    values = torch.linalg.svdvals(change.detach()).square()
    return float(values[:rank].sum() / values.sum())


def mixed(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One adapter of both ranks together, whose change is the sum.

    Rows of A under each other, columns of B side by side. It is for layers
    whose scale is that of the two, so alpha grows with the rank.
    """
    return {
        name: torch.cat(
            [tensor, second[name]], dim=0 if name.endswith("lora_a") else 1
        )
        for name, tensor in first.items()
    }


def faster_b(
    model: nn.Module, rate: float, ratio: float = 16.0
) -> list[dict[str, Any]]:
    """Two groups for an optimizer: B learns `ratio` times as fast as A.

    Hayou et al. (2024).
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": rate},
        {"params": [], "lr": rate * ratio, "scale": ratio},
    ]
    for name, parameter in model.named_parameters():
        if name.endswith(("lora_a", "lora_b")):
            groups[name.endswith("lora_b")]["params"].append(parameter)
    return groups
