"""Solutions on attention: loops, windows, caps."""

import math

import pytest
import torch

from scratchlm.model.attention import causal_mask, scaled_dot_product_attention
from solutions.model.attention import (
    attend_by_loops,
    cap,
    window_mask,
)


def random_qkv(length: int = 13) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((length, 4), (length, 4), (length, 3))
    return tuple(torch.randn(s, generator=generator) for s in shapes)


def test_loops_equal_matrices() -> None:
    q, k, v = random_qkv(6)
    assert torch.allclose(
        attend_by_loops(q, k, v),
        scaled_dot_product_attention(q, k, v),
        atol=1e-5,
    )


def test_a_cap_bounds_the_scores_and_keeps_their_order() -> None:
    scores = torch.linspace(-40, 40, 81)
    capped = cap(scores, 5.0)
    assert bool((capped.abs() <= 5).all())
    assert torch.equal(capped.argsort(), scores.argsort())
    small = torch.linspace(-0.1, 0.1, 9)
    torch.testing.assert_close(cap(small, 5.0), small, atol=1e-4, rtol=0)
    row = cap(torch.tensor([1000.0, -1000.0]), 5.0).softmax(dim=0)
    assert math.log(row[0] / row[1]) == pytest.approx(10, rel=1e-4)


def test_a_window_shows_the_last_few() -> None:
    mask = window_mask(8, 8, window=3)
    assert mask.sum(dim=1).tolist() == [1, 2, 3, 3, 3, 3, 3, 3]
    assert bool(mask.diagonal().all())
    assert torch.equal(window_mask(8, 8, window=8), causal_mask(8, 8))
    assert torch.equal(window_mask(2, 8, window=3), mask[-2:])
    with pytest.raises(ValueError, match="shows nothing"):
        window_mask(2, 2, 0)
