"""Solutions on blocks: counting them, merging them, and the way back."""

import pytest
import torch

from scratchlm.model.attention import (
    causal_mask,
    scaled_dot_product_attention,
)
from scratchlm.model.flash import PeakMemory
from scratchlm.model.window import window_mask
from solutions.model.flash import (
    FlashAttention,
    attend_in_window,
    attend_with_log_sum,
    merge,
    tile_mask,
    tiles,
    traffic,
)


@pytest.mark.parametrize(("length", "block"), [(256, 64), (100, 7), (5, 9)])
def test_tiles_are_those_with_something_to_see(length: int, block: int) -> None:
    mask = causal_mask(length, length)
    rows = mask.split(block)
    seen = [tile.any() for row in rows for tile in row.split(block, dim=1)]
    assert tiles(length, block) == (sum(map(bool, seen)), len(seen))
    assert tiles(length, block, causal=False) == (len(seen), len(seen))


def test_larger_blocks_move_less() -> None:
    moved = [traffic(4096, 64, block)[1] for block in (32, 64, 128)]
    assert moved == sorted(moved, reverse=True)
    matrix, blocks = traffic(4096, 64, 128)
    assert matrix / blocks > 5
    assert traffic(8, 4, 8) == (4 * 32 + 6 * 64, 4 * 32)


def test_parts_merge_in_any_order() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 30, 8)
    mask = causal_mask(30, 30)
    cuts = (slice(0, 4), slice(4, 19), slice(19, 30))
    parts = [
        attend_with_log_sum(q, k[:, cut], v[:, cut], mask[:, cut])
        for cut in cuts
    ]
    wanted = scaled_dot_product_attention(q, k, v)
    for a, b, c in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        got, _ = merge(merge(parts[a], parts[b]), parts[c])
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
        got, _ = merge(parts[a], merge(parts[b], parts[c]))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("queries", [3, 10])
def test_a_tile_of_the_mask(queries: int) -> None:
    mask, cpu = causal_mask(queries, 10), torch.device("cpu")
    for now in (slice(0, 4), slice(4, 8), slice(8, 12)):
        assert torch.equal(tile_mask(queries, 10, now, cpu), mask[:, now])


@pytest.mark.parametrize("window", [1, 3, 8, 9, 37])
@pytest.mark.parametrize("block", [1, 4, 5, 64])
def test_a_window_in_blocks(window: int, block: int) -> None:
    torch.manual_seed(2)
    q, k, v = torch.randn(3, 2, 30, 8)
    seen = window_mask(30, 30, window)
    wanted, _ = attend_with_log_sum(q, k, v, seen)
    got = attend_in_window(q, k, v, window, block)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [1, 4, 50])
def test_the_way_back_is_that_of_the_matrix(block: int) -> None:
    torch.manual_seed(1)
    ours = [torch.randn(2, 11, 6, requires_grad=True) for _ in range(3)]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    grad = torch.randn(2, 11, 6)
    got = FlashAttention.apply(*ours, block)
    q, k, v = theirs
    wanted = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    got.backward(grad)
    wanted.backward(grad)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


def test_the_way_back_by_differences() -> None:
    q, k, v = torch.randn(3, 5, 4, dtype=torch.double).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *x: FlashAttention.apply(*x, 2), (q, k, v)
    )


def test_nothing_of_the_matrix_is_kept() -> None:
    held = {}
    for name in ("matrix", "blocks"):
        q, k, v = (torch.zeros(512, 8, requires_grad=True) for _ in range(3))
        with PeakMemory() as memory:
            if name == "matrix":
                out = scaled_dot_product_attention(q, k, v)
            else:
                out = FlashAttention.apply(q, k, v, 32)
            held[name] = memory.held
        assert out.shape == (512, 8)
    assert held["matrix"] > 4 * 512 * 512
    assert held["blocks"] < 4 * 512 * 512 / 8
