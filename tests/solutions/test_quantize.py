"""Solutions on quantization: bits counted, scales moved, errors made up for."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.model.layers import LayerNorm
from scratchlm.serving.quantize import (
    QuantizedMatrix,
    Scheme,
    dequantize,
    model_bytes,
    quantize,
)
from solutions.serving.quantize import (
    balance,
    bits_per_weight,
    compensated,
    sensitivity,
    signed_grid,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize(
    "scheme", [Scheme(8), Scheme(8, 32), Scheme(4, 16), Scheme(3, 64)]
)
def test_bits_are_those_that_the_matrix_takes(scheme: Scheme) -> None:
    matrix = QuantizedMatrix(drawn(8, 64), scheme)
    wanted = 8 * model_bytes(matrix) / (8 * 64)
    assert bits_per_weight(scheme, 64) == wanted


def test_the_sixteenth_level_is_used() -> None:
    w = drawn(200, 32)
    assert torch.equal(signed_grid(torch.zeros(1, 4), 4), torch.zeros(1, 4))
    largest = w.abs().argmax(dim=1, keepdim=True)
    torch.testing.assert_close(
        signed_grid(w, 32).gather(1, largest), w.gather(1, largest)
    )
    ours = (signed_grid(w, 32) - w).square().mean()
    plain = (dequantize(*quantize(w, Scheme(4, 32))) - w).square().mean()
    assert ours < 0.9 * plain
    steps = w.abs().amax(dim=1, keepdim=True) / 8
    assert bool(((signed_grid(w, 32) - w).abs() <= 1.001 * steps).all())


def test_balance_changes_nothing_but_the_grid() -> None:
    norm, linear = LayerNorm(16), nn.Linear(16, 24)
    with torch.no_grad():
        linear.weight[:, 3] *= 64
        norm.weight[3] /= 64
    x = drawn(5, 16)
    before = linear(norm(x))

    def error() -> float:
        rounded = dequantize(*quantize(linear.weight, Scheme(8)))
        gap = F.linear(norm(x), rounded, linear.bias) - before
        return gap.norm().item()

    bad = error()
    balance(norm, linear, strength=1.0)
    torch.testing.assert_close(linear(norm(x)), before)
    assert error() < bad / 5
    assert bool((linear.weight.abs().amax(0).log2().diff().abs() < 2).all())


def test_one_matrix_at_a_time() -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(20, 8, layers=1, heads=2, channels=16)).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ids = torch.arange(8).view(1, 8)
    wanted = model(ids)

    def score(other: GPT) -> float:
        return (other(ids) - wanted).square().mean().item()

    changes = sensitivity(model, Scheme(3, "row"), score)
    assert len(changes) == 5  # the table, and four of the block
    assert list(changes.values()) == sorted(changes.values(), reverse=True)
    assert next(iter(changes)) == "token.weight"
    assert min(changes.values()) > 0
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("scheme", [Scheme(4), Scheme(4, 16), Scheme(3)])
def test_errors_are_made_up_for(scheme: Scheme) -> None:
    mixing = drawn(32, 32, seed=1) + 3 * torch.eye(32)
    x, w = drawn(500, 32) @ mixing, drawn(12, 32, seed=2)  # related inputs
    plain = dequantize(*quantize(w, scheme))
    ours = compensated(w, x, scheme)
    lost = [float((x @ (q - w).t()).square().mean()) for q in (plain, ours)]
    assert lost[1] < 0.7 * lost[0]
    scales = quantize(w, scheme)[1].float()
    steps = ours.unflatten(1, (scales.shape[1], -1)) / scales.unsqueeze(-1)
    assert bool(((steps - steps.round()).abs() < 1e-3).all())
    assert steps.abs().max() < scheme.top + 0.1


def test_unrelated_inputs_leave_the_nearest() -> None:
    w = drawn(3, 8)
    ours = compensated(w, math.sqrt(8) * torch.eye(8), Scheme(4))
    torch.testing.assert_close(ours, dequantize(*quantize(w, Scheme(4))))
