"""Solutions to the exercises on embeddings and positions."""

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.embeddings import wave_frequencies


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate channels 2i and 2i + 1 together: (..., T, D) → the same.

    cos and sin are (T, D/2), as `rotary_tables` makes them.
    """
    pairs = x.unflatten(-1, (-1, 2))  # (..., T, D / 2, 2)
    a, b = pairs.unbind(dim=-1)
    turned = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1)
    return turned.flatten(-2)


def shift_matrix(channels: int, distance: int) -> Tensor:
    """M with waves[t] @ M = waves[t + distance], whatever t: (C, C).

    Each pair (sin, cos) turns by its own angle: two rows and two columns
    for each, and zeros elsewhere.
    """
    angles = wave_frequencies(channels) * distance
    matrix = torch.zeros(channels, channels)
    for i, angle in enumerate(angles):
        cos, sin = angle.cos(), angle.sin()
        at = slice(2 * i, 2 * i + 2)
        matrix[at, at] = torch.stack([cos, -sin, sin, cos]).view(2, 2)
    return matrix


def nearest(table: Tensor, token: int, count: int) -> list[int]:
    """The ids whose rows point most nearly where the token's row points.

    By the cosine of the angle between rows of (V, C); the token itself is
    left out, so there are V - 1 at most.
    """
    directions = F.normalize(table, dim=1)  # (V, C), rows of length 1
    cosines = directions @ directions[token]
    cosines[token] = -torch.inf
    return cosines.topk(min(count, len(table) - 1)).indices.tolist()
