"""Optimizers: each form equals the plain one, and PyTorch's own."""

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training import optimizer as module
from scratchlm.training.optimizer import (
    AdamW,
    adamw_step,
    clip_gradients,
    embedding_parameters,
    momentum_step,
    nonfinite_gradients,
    parameter_groups,
    sgd_step,
)


def make(seed: int = 0) -> nn.Sequential:
    """A small network with matrices, biases and a norm."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    """Twenty steps on fixed data; all parameters as one vector."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        x = torch.randn(4, 5, generator=generator)
        optimizer.zero_grad()
        (model(x) - x[:, :3]).square().mean().backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(
        gpt2_config(vocab_size=32, context=8, layers=2, heads=2, channels=8)
    )


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@settings(deadline=None, max_examples=25)
@given(
    lr=st.floats(1e-4, 0.1),
    decay=st.sampled_from([0.0, 0.01, 0.5]),
    betas=st.sampled_from([(0.9, 0.95), (0.9, 0.999), (0.0, 0.5)]),
)
def test_adamw_is_torchs_adamw(
    lr: float, decay: float, betas: tuple[float, float]
) -> None:
    ours, theirs = make(), make()
    got = train(
        ours, AdamW(ours.parameters(), lr, betas, weight_decay=decay)
    )
    wanted = train(
        theirs,
        torch.optim.AdamW(
            theirs.parameters(), lr, betas, weight_decay=decay
        ),
    )
    torch.testing.assert_close(got, wanted, atol=2e-6, rtol=1e-5)


def test_adamw_is_its_plain_form() -> None:
    fast, plain = make(), make()
    optimizer = AdamW(fast.parameters(), lr=0.01)
    moments = {
        p: (torch.zeros_like(p), torch.zeros_like(p))
        for p in plain.parameters()
    }
    for step in range(1, 11):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for model in (fast, plain):
            model.zero_grad()
            model(x).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for p, (exp_avg, exp_avg_sq) in moments.items():
                assert p.grad is not None
                adamw_step(p, p.grad, exp_avg, exp_avg_sq, step, lr=0.01)
    for a, b in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_plain_steps_are_torchs_sgd(momentum: float) -> None:
    ours, theirs = make(), make()
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05, momentum)
    velocity = {p: torch.zeros_like(p) for p in ours.parameters()}
    for step in range(10):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for model in (ours, theirs):
            model.zero_grad()
            model(x).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for p in ours.parameters():
                assert p.grad is not None
                if momentum:
                    momentum_step(p, p.grad, velocity[p], 0.05, momentum)
                else:
                    sgd_step(p, p.grad, 0.05)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(-1e4, 1e4).filter(lambda g: abs(g) > 1e-3))
def test_the_first_step_is_the_learning_rate(gradient: float) -> None:
    """Whatever the gradient's size: it is divided by itself."""
    p = nn.Parameter(torch.tensor([1.0]))
    p.grad = torch.tensor([gradient])
    AdamW([p], lr=0.1, weight_decay=0.0).step()
    moved = p.item() - 1
    assert moved == pytest.approx(-math.copysign(0.1, gradient), rel=1e-3)


def test_decay_alone_is_geometric() -> None:
    p = nn.Parameter(torch.tensor([2.0]))
    optimizer = AdamW([p], lr=0.1, weight_decay=0.5)
    for _ in range(10):
        p.grad = torch.zeros(1)
        optimizer.step()
    assert p.item() == pytest.approx(2 * 0.95**10, rel=1e-5)


def test_what_has_no_gradient_stays() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AdamW([a, b], lr=0.1)
    a.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(b, torch.ones(2))
    assert b not in optimizer.state
    a.grad, b.grad = None, None
    optimizer.step()
    assert optimizer.state[a]["step"] == 1


def test_counts_of_steps_are_those_of_the_parameter() -> None:
    """A parameter that joins later has its own bias correction."""
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = AdamW([a, b], lr=0.1, weight_decay=0.0)
    for step in range(5):
        a.grad = torch.ones(1)
        b.grad = torch.ones(1) if step == 4 else None
        optimizer.step()
    assert b.item() == pytest.approx(0.9, rel=1e-5)


def test_a_closure_is_run_and_its_loss_returned() -> None:
    p = nn.Parameter(torch.tensor([3.0]))
    optimizer = AdamW([p], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert p.item() < 3


@pytest.mark.parametrize(
    "change",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"weight_decay": -0.1},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": 0.0},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        AdamW([nn.Parameter(torch.ones(1))], **change)  # type: ignore


def test_matrices_decay_and_nothing_else() -> None:
    model = gpt()
    decaying, others = parameter_groups(model, 0.1)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 2 for p in decaying["params"])
    tables = embedding_parameters(model)
    assert tables
    assert tables <= set(others["params"])
    both = [*decaying["params"], *others["params"]]
    assert len(both) == len(set(both)) == len(list(model.parameters()))


def test_frozen_parameters_are_in_no_group() -> None:
    model = make()
    model[0].weight.requires_grad_(False)
    groups = parameter_groups(model, 0.1)
    assert all(
        model[0].weight is not p for group in groups for p in group["params"]
    )


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 10), st.integers(0, 99))
def test_clipping_is_torchs_clipping(limit: float, seed: int) -> None:
    ours, theirs = make(), make()
    generator = torch.Generator().manual_seed(seed)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        a.grad = torch.randn(a.shape, generator=generator)
        b.grad = a.grad.clone()
    norm = clip_gradients(ours.parameters(), limit).item()
    wanted = nn.utils.clip_grad_norm_(theirs.parameters(), limit).item()
    assert norm == pytest.approx(wanted, rel=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_short_gradients_are_not_touched() -> None:
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([p], 5.5).item() == pytest.approx(5.0)
    wide = nn.Parameter(p.detach().double())
    wide.grad = p.grad.double()
    assert clip_gradients([wide], 5.5).dtype == torch.float64
    assert p.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([p], 1.0).item() == pytest.approx(5.0)
    torch.testing.assert_close(p.grad, torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("limit", [0.5, math.inf])
@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0, 4.0], [1e-30, 0.0]])
def test_a_limit_without_end_is_none(limit: float, values: list[float]) -> None:
    """As people write who want the norm alone, and change nothing."""
    ours, theirs = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    ours.grad, theirs.grad = torch.tensor(values), torch.tensor(values)
    norm = clip_gradients([ours], limit)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_([theirs], limit))
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_without_gradients_the_norm_is_zero() -> None:
    assert clip_gradients([nn.Parameter(torch.ones(2))], 1.0) == 0.0
    with pytest.raises(ValueError, match="max_norm"):
        clip_gradients([], 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradients_are_named_and_not_spread(bad: float) -> None:
    model = make()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    assert nonfinite_gradients(model) == []
    model[2].bias.grad[1] = bad  # type: ignore[index]
    assert not math.isfinite(clip_gradients(model.parameters(), 1.0))
    assert model[0].weight.grad.eq(1).all()  # type: ignore[union-attr]
    assert nonfinite_gradients(model) == ["2.bias (1 of 3)"]
