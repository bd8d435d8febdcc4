"""Attention in blocks: equal to the matrix and to the kernel, and small."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.attention import scaled_dot_product_attention
from scratchlm.model.flash import (
    PeakMemory,
    attend_over_blocks,
    blockwise_attention,
    online_total,
)

Triple = tuple[Tensor, Tensor, Tensor]


def drawn(queries: int, keys: int, scale: float = 1.0) -> Triple:
    generator = torch.Generator().manual_seed(queries + 100 * keys)
    shapes = ((2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 5))
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q * scale, k * scale, v


@pytest.mark.parametrize("block", [1, 3, 8, 200])
@pytest.mark.parametrize(
    ("queries", "keys", "causal"),
    [
        (10, 10, True),
        (10, 10, False),
        (7, 19, True),
        (1, 33, True),
        (33, 66, True),
        (19, 7, False),
    ],
)
def test_equals_the_matrix(
    queries: int, keys: int, causal: bool, block: int
) -> None:
    q, k, v = drawn(queries, keys)
    wanted = scaled_dot_product_attention(q, k, v, causal)
    got = blockwise_attention(q, k, v, causal, block)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_equals_the_kernel_of_the_library() -> None:
    q, k, v = drawn(96, 96)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    got = blockwise_attention(q, k, v, block=32)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(1, 14),
    st.floats(0.1, 30),
)
def test_any_sizes_and_any_scale(
    queries: int, past: int, block: int, scale: float
) -> None:
    q, k, v = (x.double() for x in drawn(queries, queries + past, scale))
    wanted = scaled_dot_product_attention(q, k, v)
    got = blockwise_attention(q, k, v, block=block)
    torch.testing.assert_close(got, wanted)


def test_the_order_of_keys_does_not_matter() -> None:
    q, k, v = drawn(5, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    mixed = blockwise_attention(q, k[..., order, :], v[..., order, :], False, 8)
    plain = blockwise_attention(q, k, v, False, 8)
    torch.testing.assert_close(mixed, plain, atol=1e-5, rtol=0)


def test_gradients_are_those_of_the_matrix() -> None:
    ours, theirs = drawn(9, 14), drawn(9, 14)
    for x in (*ours, *theirs):
        x.requires_grad_()
    q, k, v = ours
    blockwise_attention(q, k, v, block=4).square().sum().backward()
    q, k, v = theirs
    scaled_dot_product_attention(q, k, v).square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)


def test_the_future_does_not_change_the_past() -> None:
    q, k, v = drawn(12, 12)
    before = blockwise_attention(q, k, v, block=5)
    k[..., 7:, :] += 100
    v[..., 7:, :] = math.nan
    after = blockwise_attention(q, k, v, block=1)  # not even looked at
    torch.testing.assert_close(after[..., :7, :], before[..., :7, :])


@pytest.mark.parametrize("block", [1, 2, 3, 64])
@pytest.mark.parametrize(("queries", "keys"), [(3, 2), (7, 4), (9, 1)])
def test_more_queries_than_keys_are_refused(
    queries: int, keys: int, block: int
) -> None:
    q, k, v = drawn(queries, keys)
    with pytest.raises(ValueError, match=r"queries for \d keys"):
        blockwise_attention(q, k, v, block=block)


def test_empty_blocks_are_refused() -> None:
    q, k, v = drawn(3, 3)
    with pytest.raises(ValueError, match="blocks of 0 hold nothing"):
        blockwise_attention(q, k, v, block=0)


@pytest.mark.parametrize(
    "scores", [[3.0], [0.0, 1000.0, 1000.0], [-5.0, 2.0, 1.0, 7.0, -800.0]]
)
def test_a_softmax_that_reads_once(scores: list[float]) -> None:
    largest, total = online_total(iter(scores))
    assert largest == max(scores)
    logs = torch.tensor(scores, dtype=torch.double).logsumexp(0).item()
    assert largest + math.log(total) == pytest.approx(logs, rel=1e-12)


def test_nothing_read() -> None:
    assert online_total([]) == (-math.inf, 0.0)


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    peaks: dict[str, list[int]] = {"matrix": [], "blocks": []}
    for length in (64, 128, 256):
        q, k, v = (torch.zeros(1, length, 16) for _ in range(3))
        with PeakMemory() as memory:
            scaled_dot_product_attention(q, k, v)
        peaks["matrix"].append(memory.peak)
        with PeakMemory() as memory:
            blockwise_attention(q, k, v, block=16)
        peaks["blocks"].append(memory.peak)
    first, second, third = peaks["matrix"]
    assert second / first > 3.8
    assert third / second > 3.8
    first, second, third = peaks["blocks"]
    assert second / first < 2.1
    assert third / second < 2.1


def test_scores_are_held_for_one_block_only() -> None:
    q, k, v = (torch.zeros(8, 4), torch.zeros(400, 4), torch.zeros(400, 4))
    with PeakMemory() as memory:
        attend_over_blocks(q, k, v, causal=False, block=10)
    assert memory.peak < 4 * 8 * 400 / 4


def test_what_was_there_before_does_not_count() -> None:
    x = torch.zeros(100)
    with PeakMemory() as memory:
        row = x.view(10, 10)[1]
        both = row + x[:10]
        del row, x
    assert both.shape == (10,)
    assert (memory.held, memory.peak) == (40, 40)


def test_views_have_no_memory_of_their_own() -> None:
    with PeakMemory() as memory:
        x = torch.zeros(100)
        rows = x.view(10, 10)
        row = rows[2]
        assert memory.held == 400
        del x, rows
        assert memory.held == 400  # the row keeps all of it
        del row
        assert memory.held == 0
        pair = torch.zeros(4).aminmax()
        assert memory.held == 4 + 4
    assert memory.peak == 400
    assert pair.min == 0


def test_sums_lose_nothing_in_a_narrow_type() -> None:
    keys = 32_768
    q, k = torch.zeros(1, 4), torch.zeros(keys, 4)
    v = (torch.arange(keys) >= keys // 2).float()[:, None]
    q, k, v = (x.bfloat16() for x in (q, k, v))
    got = blockwise_attention(q, k, v, causal=False)
    assert got.dtype == torch.bfloat16
    assert got.item() == pytest.approx(0.5, abs=0.01)
    q, k, v = (x[:1].half().expand(70_000, -1) for x in (q, k, v + 1))
    got = blockwise_attention(q[:1], k, v, causal=False)
    assert got.item() == pytest.approx(1, abs=0.01)


def test_no_query_gives_nothing() -> None:
    q, k, v = drawn(0, 3)
    wanted = scaled_dot_product_attention(q, k, v)
    got = blockwise_attention(q, k, v)
    assert got.shape == wanted.shape == (2, 3, 0, 5)
