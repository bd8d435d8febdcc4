"""Attention in the open: means, causality, scale, masks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from scratchlm.model.attention import (
    SingleHeadAttention,
    attention_weights,
    causal_mask,
    scaled_dot_product_attention,
)


def test_mask_is_a_triangle() -> None:
    mask = causal_mask(4, 4)
    assert mask.dtype == torch.bool
    for query in range(4):
        for key in range(4):
            assert mask[query, key].item() == (key <= query)


def test_fewer_queries_are_the_last_rows() -> None:
    whole = causal_mask(7, 7)
    for queries in range(1, 8):
        assert torch.equal(causal_mask(queries, 7), whole[-queries:])


def test_more_queries_than_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="3 queries for 2 keys"):
        causal_mask(3, 2)


def test_with_nothing_to_ask_the_answer_is_the_mean_of_the_past() -> None:
    torch.manual_seed(0)
    v = torch.randn(2, 6, 3)
    zeros = torch.zeros(2, 6, 4)
    count = torch.arange(1, 7).view(6, 1)
    means = v.cumsum(dim=1) / count
    assert torch.allclose(
        scaled_dot_product_attention(zeros, zeros, v), means, atol=1e-6
    )
    everything = v.mean(dim=1, keepdim=True).expand_as(v)
    got = scaled_dot_product_attention(zeros, zeros, v, causal=False)
    assert torch.allclose(got, everything, atol=1e-6)


def test_weights_by_hand() -> None:
    """Scores 0, ln 2 and ln 3 give weights 1/6, 1/3 and 1/2."""
    k = torch.tensor([[0.0], [math.log(2)], [math.log(3)]])
    q = torch.ones(3, 1)
    wanted = [[1.0, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 1 / 3, 1 / 2]]
    assert attention_weights(q, k).tolist() == [
        pytest.approx(row) for row in wanted
    ]


def test_scores_are_divided_by_the_root_of_the_head_size() -> None:
    q = torch.tensor([[2.0, 2.0, 2.0, 2.0]])  # D = 4, so the root is 2
    k = torch.tensor([[0.0] * 4, [1.0] * 4])
    rest = 1 / (1 + math.e**4)  # q·k = 8, over 2: 4
    got = attention_weights(q, k, causal=False)
    assert got.tolist() == [pytest.approx([rest, 1 - rest])]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 11), st.integers(0, 99))
def test_the_future_does_not_change_the_past(
    length: int, at: int, seed: int
) -> None:
    at = min(at, length - 1)
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, length, 4, generator=generator)
    before = scaled_dot_product_attention(q, k, v)
    for x in (q, k, v):
        x[at:] += 10
    assert torch.equal(
        scaled_dot_product_attention(q, k, v)[:at], before[:at]
    )  # exactly


def test_each_row_of_weights_sums_to_one() -> None:
    torch.manual_seed(1)
    weights = attention_weights(
        torch.randn(3, 5, 4) * 30, torch.randn(3, 9, 4) * 30
    )
    assert weights.shape == (3, 5, 9)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(3, 5), atol=1e-6)
    assert bool((weights >= 0).all())


@pytest.mark.parametrize("queries", [1, 3, 8])
def test_equals_the_library(queries: int) -> None:
    torch.manual_seed(2)
    q, k, v = (torch.randn(2, 3, 8, 5) for _ in range(3))
    mask = causal_mask(queries, 8)
    q = q[:, :, -queries:]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(
        scaled_dot_product_attention(q, k, v), wanted, atol=1e-5
    )
    free = F.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(
        scaled_dot_product_attention(q, k, v, causal=False), free, atol=1e-5
    )


def test_the_future_weighs_nothing_however_low_the_past_scores() -> None:
    k = torch.tensor([[-1e6], [0.0], [1e6]])
    weights = attention_weights(torch.ones(3, 1), k)
    assert torch.equal(weights, torch.eye(3))


def test_mask_and_weights_are_where_and_what_the_queries_are() -> None:
    assert causal_mask(2, 4, device=torch.device("meta")).is_meta
    q = torch.ones(2, 3, device="meta", dtype=torch.bfloat16)
    weights = attention_weights(q, q)
    assert weights.is_meta
    assert weights.dtype == torch.bfloat16


def test_huge_scores_do_not_overflow() -> None:
    q = torch.full((4, 4), 1e4)
    assert bool(
        torch.isfinite(
            scaled_dot_product_attention(q, q, torch.randn(4, 2))
        ).all()
    )


def test_gradients_flow_to_the_past_only() -> None:
    torch.manual_seed(3)
    q, k, v = (torch.randn(5, 4, requires_grad=True) for _ in range(3))
    scaled_dot_product_attention(q, k, v)[2].sum().backward()
    for x in (q, k, v):
        assert x.grad is not None
        assert bool((x.grad[3:] == 0).all())
    assert v.grad is not None
    assert bool((v.grad[:3] != 0).all())


def test_single_head_projects_then_attends() -> None:
    torch.manual_seed(4)
    head = SingleHeadAttention(channels=6, head_size=3)
    x = torch.randn(2, 7, 6)
    q, k, v = (
        x @ layer.weight.T for layer in (head.query, head.key, head.value)
    )
    assert torch.allclose(
        head(x), scaled_dot_product_attention(q, k, v), atol=1e-6
    )
    assert head(x).shape == (2, 7, 3)
    assert sum(p.numel() for p in head.parameters()) == 3 * 6 * 3


def test_without_a_mask_order_does_not_matter() -> None:
    torch.manual_seed(5)
    q, k, v = torch.randn(3, 6, 4)
    order = torch.randperm(6)
    got = scaled_dot_product_attention(q, k[order], v[order], causal=False)
    assert torch.allclose(
        got, scaled_dot_product_attention(q, k, v, causal=False), atol=1e-6
    )
