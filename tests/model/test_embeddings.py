"""Token vectors, learned positions, waves, and rotations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from scratchlm.model.embeddings import (
    LearnedPositions,
    Rotary,
    TokenEmbedding,
    check_positions,
    halves_from_pairs,
    rotary_tables,
    sinusoidal_positions,
    wave_frequencies,
)


def test_lookup_is_the_product_of_one_hot_rows_with_the_table() -> None:
    torch.manual_seed(0)
    table = TokenEmbedding(vocab_size=7, channels=5)
    ids = torch.tensor([[3, 0, 6], [6, 6, 1]])
    product = F.one_hot(ids, 7).float() @ table.weight
    assert torch.equal(table(ids), product)


def test_gradient_of_a_row_is_the_sum_over_its_places() -> None:
    table = TokenEmbedding(vocab_size=4, channels=2)
    table(torch.tensor([[1, 3, 1]])).sum().backward()
    assert table.weight.grad is not None
    wanted = torch.tensor([[0.0, 0], [2, 2], [0, 0], [1, 1]])
    assert torch.equal(table.weight.grad, wanted)


def test_tables_start_small() -> None:
    torch.manual_seed(0)
    for table in (TokenEmbedding(500, 64), LearnedPositions(500, 64)):
        assert abs(table.weight.std().item() - 0.02) < 0.001
        assert abs(table.weight.mean().item()) < 0.001


def test_learned_positions_are_rows_from_start() -> None:
    positions = LearnedPositions(context=6, channels=3)
    assert torch.equal(positions(2, start=3), positions.weight[3:5])
    assert torch.equal(positions(6), positions.weight)


@pytest.mark.parametrize(("start", "length"), [(0, 7), (5, 2), (-1, 1)])
def test_positions_past_the_context_are_refused(
    start: int, length: int
) -> None:
    with pytest.raises(ValueError, match="do not fit a context of 6"):
        check_positions(start, length, context=6)
    with pytest.raises(ValueError, match="context of 6"):
        LearnedPositions(6, 4)(length, start)
    with pytest.raises(ValueError, match="context of 6"):
        Rotary(4, 6).apply_rotary(torch.zeros(1, 1, length, 4), start)


def test_waves_by_the_formula_of_the_paper() -> None:
    table = sinusoidal_positions(context=50, channels=8)
    for t in (0, 1, 7, 49):
        for i in range(4):
            angle = t / 10000 ** (2 * i / 8)
            assert table[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[t, 2 * i + 1] == pytest.approx(
                math.cos(angle), abs=1e-5
            )


def test_product_of_two_waves_depends_on_the_distance_only() -> None:
    table = sinusoidal_positions(context=64, channels=16).double()
    products = table @ table.T
    for distance in (0, 1, 5, 20):
        along = products.diagonal(distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-4)
    assert products[0, 0] == pytest.approx(8)  # C / 2 pairs of length 1


def test_an_odd_number_of_channels_is_refused() -> None:
    for make in (
        lambda: wave_frequencies(5),
        lambda: sinusoidal_positions(4, 5),
        lambda: Rotary(5, 8),
    ):
        with pytest.raises(ValueError, match="do not make pairs"):
            make()


def test_one_radian() -> None:
    turned = Rotary(head_size=2, context=2).apply_rotary(
        torch.tensor([[[[1.0, 0.0]]]]), start=1
    )
    assert turned.flatten().tolist() == pytest.approx([0.540302, 0.841471])


def test_position_zero_is_left_alone_and_length_is_kept() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 16, 8)
    turned = Rotary(8, 16).apply_rotary(x)
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert not torch.allclose(turned, x)


@settings(deadline=None, max_examples=30)
@given(
    m=st.integers(0, 200),
    n=st.integers(0, 200),
    shift=st.integers(0, 50),
    seed=st.integers(0, 99),
)
def test_scores_depend_on_the_distance_only(
    m: int, n: int, shift: int, seed: int
) -> None:
    rotary = Rotary(head_size=8, context=300)
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator)
    here = (rotary.apply_rotary(q, m) * rotary.apply_rotary(k, n)).sum()
    there = (
        rotary.apply_rotary(q, m + shift) * rotary.apply_rotary(k, n + shift)
    ).sum()
    assert here.item() == pytest.approx(there.item(), abs=1e-4)


def test_chunks_with_a_start_equal_the_whole() -> None:
    torch.manual_seed(2)
    rotary = Rotary(head_size=6, context=10)
    x = torch.randn(1, 2, 10, 6)
    pieces = [
        rotary.apply_rotary(x[:, :, a:b], start=a)
        for a, b in ((0, 4), (4, 5), (5, 10))
    ]
    assert torch.equal(torch.cat(pieces, dim=2), rotary.apply_rotary(x))


def test_the_form_of_the_published_llama_code() -> None:
    """x · cos + rotate_half(x) · sin, with tables of full width."""
    torch.manual_seed(3)
    x = torch.randn(2, 2, 9, 8)
    cos, sin = (torch.cat([t, t], dim=-1) for t in rotary_tables(8, 9))
    half = torch.cat([-x[..., 4:], x[..., :4]], dim=-1)
    wanted = x * cos + half * sin
    assert torch.allclose(Rotary(8, 9).apply_rotary(x), wanted, atol=1e-6)


def test_another_base_turns_more_slowly() -> None:
    fast, slow = wave_frequencies(8), wave_frequencies(8, base=500000.0)
    assert fast[0] == slow[0] == 1
    assert bool((slow[1:] < fast[1:]).all())


def test_the_order_of_halves_undoes_the_order_of_pairs() -> None:
    """Rotating pairs and reordering = reordering and rotating halves."""
    torch.manual_seed(4)
    x = torch.randn(1, 1, 12, 8)
    pairs = torch.view_as_complex(x.view(1, 1, 12, 4, 2))
    cos, sin = rotary_tables(8, 12)
    turned = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(3)
    order = halves_from_pairs(8)
    got = Rotary(8, 12).apply_rotary(x[..., order])
    assert torch.allclose(got, turned[..., order], atol=1e-6)


def test_tables_stay_float32_and_out_of_the_state() -> None:
    rotary = Rotary(head_size=64, context=2048)
    before = rotary.cos.clone()
    rotary.to(torch.bfloat16)
    assert rotary.cos.dtype == rotary.sin.dtype == torch.float32
    assert torch.equal(rotary.cos, before)
    assert rotary.state_dict() == {}
    x = torch.randn(1, 1, 3, 64, dtype=torch.bfloat16)
    assert rotary.apply_rotary(x).dtype == torch.bfloat16
    assert rotary.to("cpu") is rotary


def test_tables_have_their_numbers_wherever_they_are_made() -> None:
    wanted = Rotary(8, 16, base=500.0)
    with torch.device("meta"):
        rotary = Rotary(8, 16, base=500.0)
    assert rotary.cos.is_meta
    x = torch.randn(1, 2, 16, 8)
    # Used as it is, as when weights are assigned and nothing is moved.
    assert torch.equal(rotary.apply_rotary(x), wanted.apply_rotary(x))
    moved = Rotary(8, 16, base=500.0).to("meta").to_empty(device="cpu")
    for table in (moved.cos, moved.sin):
        assert not table.is_meta
        assert not table.requires_grad
    assert torch.equal(moved.cos, wanted.cos)
    assert torch.equal(moved.sin, wanted.sin)
    moved.cos.fill_(7.0)  # what memory may hold
    moved.to_empty(device="cpu")
    assert torch.equal(moved.cos, wanted.cos)


@pytest.mark.parametrize("base", [10000.0, 100.0, 500000.0])
def test_the_base_sets_how_slow_the_slowest_pair_is(base: float) -> None:
    assert wave_frequencies(4, base).tolist() == pytest.approx([1, base**-0.5])
    cos, sin = rotary_tables(4, 9, base)
    for t in range(9):
        for pair, angle in enumerate((t, t * base**-0.5)):
            assert cos[t, pair].item() == pytest.approx(math.cos(angle))
            assert sin[t, pair].item() == pytest.approx(math.sin(angle))
    rotary = Rotary(4, 9, base)
    assert torch.equal(rotary.cos, cos)
    assert torch.equal(rotary.sin, sin)


def test_a_base_without_waves() -> None:
    for base in (0.0, -1.0, 1e-300, 0.99, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"base of {base}"):
            wave_frequencies(4, base)
    assert wave_frequencies(4, 1.0).tolist() == [1, 1]  # the least there is
