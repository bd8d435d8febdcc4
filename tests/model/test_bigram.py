"""The learned bigram: gradients by hand, and counts as the limit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from scratchlm.model.bigram import (
    BigramModel,
    cross_entropy,
    generate,
    logit_gradient,
    table_gradient,
    train,
)


def pairs(seed: int, count: int = 40, vocab: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab, (count,), generator=generator)


def test_shapes_and_the_start() -> None:
    model = BigramModel(6)
    ids = pairs(0).view(4, 10)
    assert model(ids).shape == (4, 10, 6)
    loss = cross_entropy(model(ids[0, :-1]), ids[0, 1:])
    assert loss.item() == pytest.approx(math.log(6))
    assert torch.equal(model.probabilities(), torch.full((6, 6), 1 / 6))
    assert not model.probabilities().requires_grad


def test_forward_looks_rows_up() -> None:
    model = BigramModel(4)
    with torch.no_grad():
        model.table.copy_(torch.arange(16.0).view(4, 4))
    got = model(torch.tensor([[2, 0], [3, 3]]))
    assert got[0, 0].tolist() == [8, 9, 10, 11]
    assert torch.equal(got[1, 0], got[1, 1])


@given(st.integers(0, 1000), st.floats(0.1, 100))
@settings(deadline=None, max_examples=30)
def test_cross_entropy_is_the_library_s(seed: int, scale: float) -> None:
    logits = torch.randn(9, 6, generator=torch.Generator().manual_seed(seed))
    targets = pairs(seed, 9)
    got = cross_entropy(logits * scale, targets)
    wanted = F.cross_entropy(logits * scale, targets)
    assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    logits = torch.tensor([[1e4, 0.0], [0.0, -1e4]])
    assert cross_entropy(logits, torch.tensor([0, 0])).item() == 0
    assert cross_entropy(logits, torch.tensor([1, 1])).item() == 1e4


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_gradients_by_hand_are_autograd_s(seed: int) -> None:
    ids = pairs(seed)
    table = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
    table.requires_grad_()
    logits = table[ids[:-1]]
    logits.retain_grad()
    cross_entropy(logits, ids[1:]).backward()
    assert logits.grad is not None
    assert table.grad is not None
    by_hand = logit_gradient(logits.detach(), ids[1:])
    assert torch.allclose(by_hand, logits.grad, atol=1e-7)
    by_hand = table_gradient(table.detach(), ids[:-1], ids[1:])
    assert torch.allclose(by_hand, table.grad, atol=1e-7)


def test_gradient_by_finite_differences() -> None:
    table, ids = torch.randn(4, 4, dtype=torch.double), pairs(1, 30, 4)
    slope = table_gradient(table, ids[:-1], ids[1:])
    for cell in ((0, 1), (2, 2), (3, 0)):
        moved = table.clone()
        moved[cell] += 1e-6
        rise = cross_entropy(moved[ids[:-1]], ids[1:])
        rise = rise - cross_entropy(table[ids[:-1]], ids[1:])
        assert rise / 1e-6 == pytest.approx(float(slope[cell]), abs=1e-5)


def test_the_gradient_vanishes_at_the_counts() -> None:
    ids = pairs(2, 400, 4)
    counts = torch.zeros(4, 4)
    ones = torch.ones(len(ids) - 1)
    counts.index_put_((ids[:-1], ids[1:]), ones, accumulate=True)
    table = counts.log()
    slope = table_gradient(table, ids[:-1], ids[1:])
    assert slope.abs().max() < 1e-6
    table[0, 0] += 1  # and nowhere near
    assert table_gradient(table, ids[:-1], ids[1:]).abs().max() > 0.01


def test_rows_never_met_get_no_gradient() -> None:
    slope = table_gradient(
        torch.randn(5, 5), torch.tensor([1, 3]), torch.tensor([0, 0])
    )
    assert slope[[0, 2, 4]].abs().max() == 0
    assert slope.sum(dim=1).abs().max() < 1e-7  # shares lost are won


def test_training_arrives_at_the_counts() -> None:
    ids = torch.tensor([0, 1, 0, 2] * 50 + [0])  # 0 → 1 or 2, those → 0
    model = BigramModel(3)
    generator = torch.Generator().manual_seed(0)
    losses = train(model, ids, 500, 256, 10.0, generator)
    train(model, ids, 300, 256, 0.3, generator)  # small steps, less noise
    assert losses[0] == pytest.approx(math.log(3))
    final = cross_entropy(model(ids[:-1]), ids[1:])
    assert final.item() == pytest.approx(math.log(2) / 2, abs=0.02)
    wanted = torch.tensor([[0, 0.5, 0.5], [1, 0, 0], [1, 0, 0]])
    assert torch.allclose(model.probabilities(), wanted, atol=0.06)


def test_one_step_is_the_gradient_by_hand() -> None:
    ids = pairs(3)
    model = BigramModel(6)
    train(model, ids, 1, 16, 0.5, torch.Generator().manual_seed(4))
    drawn = torch.Generator().manual_seed(4)
    at = torch.randint(len(ids) - 1, (16,), generator=drawn)
    wanted = -0.5 * table_gradient(torch.zeros(6, 6), ids[at], ids[at + 1])
    assert torch.allclose(model.table.detach(), wanted, atol=1e-6)


def test_writing() -> None:
    model = BigramModel(3)
    with torch.no_grad():  # 0 → 1 → 2 → 0, with certainty
        model.table.copy_(100 * torch.eye(3).roll(1, dims=1))
    generator = torch.Generator().manual_seed(0)
    assert generate(model, 0, 5, generator) == [1, 2, 0, 1, 2]
    free = generate(BigramModel(3), 0, 3000, generator)
    shares = torch.bincount(torch.tensor(free)) / 3000
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.04)
