"""Muon: orthogonal updates, and who gets them."""

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scratchlm.model.gpt import GPT, gpt2_config, llama_config
from scratchlm.training import muon as module
from scratchlm.training.muon import (
    Muon,
    hidden_matrices,
    muon_and_adamw,
    newton_schulz,
    stacked_rows,
    update_scale,
)


def with_singular_values(values: list[float], rows: int, seed: int) -> Tensor:
    """A matrix (rows, n) that has these n singular values."""
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    u = torch.linalg.qr(torch.randn(rows, n, generator=generator))[0]
    v = torch.linalg.qr(torch.randn(n, n, generator=generator))[0]
    return u @ torch.diag(torch.tensor(values)) @ v.T


def test_the_example_holds() -> None:
    assert doctest.testmod(module).failed == 0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
    st.integers(0, 50),
    st.booleans(),
)
def test_singular_values_come_near_one(
    values: list[float], seed: int, wide: bool
) -> None:
    matrix = with_singular_values(values, 8, seed)
    if wide:
        matrix = matrix.T
    got = torch.linalg.svdvals(newton_schulz(matrix))[: len(values)]
    assert got.min() > 0.65
    assert got.max() < 1.25


def test_directions_are_kept() -> None:
    """Close to U Vᵀ: the same singular vectors, on either side."""
    matrix = with_singular_values([1.0, 0.5, 0.2], 5, seed=3)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ newton_schulz(matrix) @ vh.T
    off = turned - torch.diag(turned.diagonal())
    assert off.abs().max() < 1e-4
    assert turned.diagonal().min() > 0.65


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-6, 1e6))
def test_the_size_of_the_matrix_does_not_matter(scale: float) -> None:
    matrix = with_singular_values([1.0, 0.3], 4, seed=1)
    torch.testing.assert_close(
        newton_schulz(scale * matrix),
        newton_schulz(matrix),
        atol=1e-3,
        rtol=1e-3,
    )


def test_a_batch_is_its_matrices() -> None:
    torch.manual_seed(0)
    batch = torch.randn(3, 4, 6)
    together = newton_schulz(batch)
    for one, alone in zip(together, batch, strict=True):
        torch.testing.assert_close(one, newton_schulz(alone))


def test_zeros_stay_and_vectors_are_refused() -> None:
    assert newton_schulz(torch.zeros(3, 4)).eq(0).all()
    with pytest.raises(ValueError, match="no matrix"):
        newton_schulz(torch.ones(3))


def test_updates_are_as_large_as_adamws() -> None:
    torch.manual_seed(0)
    for rows, columns in ((64, 64), (64, 256), (256, 64)):
        update = newton_schulz(torch.randn(rows, columns))
        size = update.square().mean().sqrt() * update_scale(rows, columns)
        assert 0.13 < size < 0.23


def test_a_step_is_momentum_made_orthogonal() -> None:
    """Two steps written out, against the class."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(3, 5))
    start = p.detach().clone()
    gradients = [torch.randn(3, 5), torch.randn(3, 5)]
    optimizer = Muon([p], lr=0.1, momentum=0.9, weight_decay=0.5)
    velocity = torch.zeros(3, 5)
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
        velocity = 0.9 * velocity + 0.1 * gradient
        ahead = 0.1 * gradient + 0.9 * velocity
        start = start * (1 - 0.1 * 0.5)
        start = start - 0.1 * update_scale(3, 5) * newton_schulz(ahead)
    torch.testing.assert_close(p.detach(), start)


def test_matrices_of_equal_shape_do_not_disturb_each_other() -> None:
    torch.manual_seed(0)
    a, b = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4))
    c, d = nn.Parameter(a.detach().clone()), nn.Parameter(torch.ones(2, 3))
    together, alone = Muon([a, b, d], lr=0.1), Muon([c], lr=0.1)
    for _ in range(3):
        gradient = torch.randn(4, 4)
        a.grad, c.grad = gradient.clone(), gradient.clone()
        b.grad = torch.randn(4, 4)
        together.step()
        alone.step()
    torch.testing.assert_close(a, c)
    assert d.eq(1).all()  # it had no gradient


def test_matrices_in_one_parameter_move_as_if_they_were_apart() -> None:
    torch.manual_seed(0)
    parts = [nn.Parameter(torch.randn(n, 4)) for n in (8, 2, 2)]
    whole = nn.Parameter(torch.cat([p.detach() for p in parts]))
    joint = Muon([whole], lr=0.1, rows={whole: [8, 2, 2]})
    apart = Muon(parts, lr=0.1)
    for _ in range(3):
        for p in parts:
            p.grad = torch.randn_like(p)
        whole.grad = torch.cat([p.grad for p in parts])  # type: ignore[misc]
        joint.step()
        apart.step()
    torch.testing.assert_close(whole, torch.cat(list(parts)))


def test_queries_keys_and_values_are_three_matrices() -> None:
    shape = {"vocab_size": 32, "context": 8, "layers": 2, "heads": 4}
    model = GPT(llama_config(**shape, channels=16, kv_heads=2))
    rows = stacked_rows(model)
    assert set(rows) == {b.attention.qkv.weight for b in model.blocks}
    assert all(sizes == [16, 8, 8] for sizes in rows.values())
    muon, _ = muon_and_adamw(model)
    assert isinstance(muon, Muon)
    assert muon.rows == rows


def test_every_group_moves_at_its_own_rate() -> None:
    a, b = nn.Parameter(torch.eye(3)), nn.Parameter(torch.eye(3))
    optimizer = Muon(
        [{"params": [a]}, {"params": [b], "lr": 0.3}],
        lr=0.1,
        weight_decay=0.0,
    )
    a.grad, b.grad = torch.eye(3), torch.eye(3)
    optimizer.step()
    moved = [(torch.eye(3) - p).norm().item() for p in (a, b)]
    assert moved[1] == pytest.approx(3 * moved[0], rel=1e-4)
    assert moved[0] > 0.01


def test_a_closure_is_run() -> None:
    p = nn.Parameter(torch.eye(3))

    def closure() -> Tensor:
        loss = p.square().sum()
        loss.backward()
        return loss

    assert Muon([p]).step(closure).item() == 3.0


@pytest.mark.parametrize(
    "change",
    [{"lr": -1.0}, {"weight_decay": -0.1}, {"momentum": 1.0}, {"lr": math.nan}],
)
def test_values_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Muon([nn.Parameter(torch.ones(2, 2))], **change)


def test_only_matrices_are_taken() -> None:
    with pytest.raises(ValueError, match="no matrix"):
        Muon([nn.Parameter(torch.ones(3))])


@pytest.mark.parametrize("tied", [True, False])
def test_hidden_matrices_are_those_of_the_blocks(tied: bool) -> None:
    shape = {"vocab_size": 32, "context": 8, "layers": 2, "heads": 2}
    for make in (gpt2_config, llama_config):
        model = GPT(make(**shape, channels=8, tied=tied))
        inside = {
            p for p in model.blocks.parameters() if p.ndim == 2
        }
        assert set(hidden_matrices(model)) == inside


def test_every_parameter_has_one_optimizer() -> None:
    model = GPT(
        gpt2_config(vocab_size=32, context=8, layers=2, heads=2, channels=8)
    )
    muon, adamw = muon_and_adamw(model, 0.01, 0.1)
    owned = [
        p
        for optimizer in (muon, adamw)
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    assert len(owned) == len(set(owned)) == len(list(model.parameters()))
    decays = {g["weight_decay"]: g["params"] for g in adamw.param_groups}
    assert all(p.ndim < 2 or p is model.token.weight
               or p is model.position.weight  # type: ignore[union-attr]
               for p in decays[0.0])


def test_an_untied_head_decays_with_adamw() -> None:
    model = GPT(
        llama_config(vocab_size=32, context=8, layers=1, heads=2, channels=8)
    )
    _, adamw = muon_and_adamw(model)
    assert any(p is model.head.weight for p in adamw.param_groups[0]["params"])


def test_a_model_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="AdamW alone"):
        muon_and_adamw(nn.Sequential(nn.LayerNorm(3)))


def test_nothing_to_move_needs_no_look_ahead() -> None:
    model = GPT(
        llama_config(vocab_size=32, context=8, layers=1, heads=2, channels=8)
    )
    optimizer = muon_and_adamw(model, 0.01, 0.1)[0]
    assert isinstance(optimizer, module.Muon)
    assert optimizer.look_ahead([], {"momentum": 0.9}) == []
