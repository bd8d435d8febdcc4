"""Solutions on embeddings: pairs, shifts, neighbors."""

import pytest
import torch

from scratchlm.model.embeddings import (
    Rotary,
    halves_from_pairs,
    rotary_tables,
    sinusoidal_positions,
)
from solutions.model.embeddings import nearest, rotate_pairs, shift_matrix


def test_pairs_reordered_are_halves() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 8)
    order = halves_from_pairs(8)
    turned = rotate_pairs(x, *rotary_tables(8, 9))
    halves = Rotary(8, 9).apply_rotary(x[..., order])
    assert torch.allclose(turned[..., order], halves, atol=1e-6)


def test_scores_do_not_depend_on_the_convention() -> None:
    torch.manual_seed(1)
    q, k = torch.randn(2, 1, 1, 6, 8)
    tables = rotary_tables(8, 6)
    pairs = rotate_pairs(q, *tables) @ rotate_pairs(k, *tables).mT
    order, rotary = halves_from_pairs(8), Rotary(8, 6)
    q, k = (
        rotary.apply_rotary(q[..., order]),
        rotary.apply_rotary(k[..., order]),
    )
    assert torch.allclose(pairs, q @ k.mT, atol=1e-5)


@pytest.mark.parametrize("distance", [0, 1, 7, 30])
def test_one_matrix_shifts_every_position(distance: int) -> None:
    waves = sinusoidal_positions(60, 12)
    shifted = waves[: 60 - distance] @ shift_matrix(12, distance)
    assert torch.allclose(shifted, waves[distance:], atol=1e-4)


def test_nearest_by_direction_not_by_length() -> None:
    table = torch.tensor([[1.0, 0], [5, 0.1], [0.9, 0.9], [-1, 0]])
    assert nearest(table, 0, 2) == [1, 2]
    assert nearest(table, 0, 9) == [1, 2, 3]
    assert nearest(table, 3, 1) == [2]
