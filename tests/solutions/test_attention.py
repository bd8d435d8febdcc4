"""Solutions on attention: loops, windows, blocks."""

import pytest
import torch

from scratchlm.model.attention import causal_mask, scaled_dot_product_attention
from solutions.model.attention import (
    attend_by_loops,
    attend_in_blocks,
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


@pytest.mark.parametrize("size", [1, 4, 5, 13, 40])
def test_blocks_equal_the_whole(size: int) -> None:
    q, k, v = random_qkv()
    q = q * 20  # large scores, so that the largest changes often
    got = attend_in_blocks(q, k, v, size)
    assert torch.allclose(got, scaled_dot_product_attention(q, k, v), atol=1e-5)


def test_a_window_shows_the_last_few() -> None:
    mask = window_mask(8, 8, window=3)
    assert mask.sum(dim=1).tolist() == [1, 2, 3, 3, 3, 3, 3, 3]
    assert bool(mask.diagonal().all())
    assert torch.equal(window_mask(8, 8, window=8), causal_mask(8, 8))
    assert torch.equal(window_mask(2, 8, window=3), mask[-2:])
    with pytest.raises(ValueError, match="shows nothing"):
        window_mask(2, 2, 0)
