"""Norms and feed-forward layers against closed forms and the library."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from scratchlm.model.layers import (
    GELUMLP,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    gelu,
    gelu_tanh,
    layer_norm,
    rms_norm,
    silu,
    swiglu_hidden,
)

few = settings(deadline=None, max_examples=25)


def random_rows(seed: int, rows: int = 5, channels: int = 12) -> torch.Tensor:
    """Rows that are neither centered nor of size 1."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, channels, generator=generator) + 2


def test_norms_of_the_fixture_table() -> None:
    got = layer_norm(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4))
    wanted = torch.tensor([-1.341641, -0.447214, 0.447214, 1.341641])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    got = rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2))
    wanted = torch.tensor([0.848528, 1.131371])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@few
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_functions_equal_the_modules_and_the_library(
    seed: int, scale: float
) -> None:
    x = scale * random_rows(seed)
    weight, bias = random_rows(seed + 1, 2)
    torch.testing.assert_close(
        layer_norm(x, weight, bias),
        F.layer_norm(x, (12,), weight, bias),
        atol=2e-5,
        rtol=1e-4,
    )
    torch.testing.assert_close(
        rms_norm(x, weight), F.rms_norm(x, (12,), weight, 1e-5)
    )
    ours = LayerNorm(12), RMSNorm(12)
    for module in ours:
        module.weight.data.copy_(weight)
    ours[0].bias.data.copy_(bias)
    torch.testing.assert_close(
        ours[0](x), layer_norm(x, weight, bias), atol=2e-5, rtol=1e-4
    )
    torch.testing.assert_close(ours[1](x), rms_norm(x, weight))


def test_epsilon_is_within_the_root_and_as_given() -> None:
    tiny = torch.tensor([[1e-3, -1e-3, 3e-3, 1e-3], [0.0, 0.0, 0.0, 0.0]])
    weight, bias = random_rows(3, 2, channels=4)
    for eps in (1e-5, 1e-3):
        wanted = F.layer_norm(tiny, (4,), weight, bias, eps)
        got = layer_norm(tiny, weight, bias, eps)
        torch.testing.assert_close(got, wanted)
        module = LayerNorm(4, eps=eps)
        module.weight.data, module.bias.data = weight, bias
        torch.testing.assert_close(module(tiny), wanted)
        wanted = F.rms_norm(tiny, (4,), weight, eps)
        torch.testing.assert_close(rms_norm(tiny, weight, eps), wanted)
        rms = RMSNorm(4, eps=eps)
        rms.weight.data = weight
        torch.testing.assert_close(rms(tiny), wanted)
    # Left open it is one in a hundred thousand, everywhere.
    usual = F.layer_norm(tiny, (4,), eps=1e-5)
    torch.testing.assert_close(layer_norm(tiny, torch.ones(4)), usual)
    torch.testing.assert_close(LayerNorm(4)(tiny), usual)
    usual = F.rms_norm(tiny, (4,), eps=1e-5)
    torch.testing.assert_close(rms_norm(tiny, torch.ones(4)), usual)
    torch.testing.assert_close(RMSNorm(4)(tiny), usual)


def test_gradients_equal_too() -> None:
    for module, function in (
        (LayerNorm(12), lambda x, m: layer_norm(x, m.weight, m.bias)),
        (RMSNorm(12), lambda x, m: rms_norm(x, m.weight)),
    ):
        nn.init.normal_(module.weight)
        found = []
        for run in (lambda x, m: m(x), function):
            x = random_rows(4).requires_grad_()
            module.zero_grad()
            run(x, module).pow(3).sum().backward()
            found.append((x.grad, module.weight.grad.clone()))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@few
@given(seed=st.integers(0, 10**6), factor=st.floats(0.5, 100))
def test_invariances(seed: int, factor: float) -> None:
    x, ones = random_rows(seed), torch.ones(12)
    a = layer_norm(x, ones)
    b = layer_norm(factor * x + 7, ones)  # scale and shift do not matter
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    c, d = rms_norm(x, ones), rms_norm(factor * x, ones)
    torch.testing.assert_close(c, d, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(c, rms_norm(x + 7, ones), atol=1e-2)


def test_rows_do_not_know_each_other() -> None:
    x = torch.randn(2, 3, 8)
    for module in (LayerNorm(8), RMSNorm(8), GELUMLP(8), SwiGLU(8)):
        alone = module(x[1:, 2:])
        torch.testing.assert_close(module(x)[1:, 2:], alone)


def test_large_numbers_in_half_the_bits() -> None:
    # The squares of these overflow float16 and lose all digits in bfloat16.
    x = torch.tensor([[300.0, 400.0]])
    for dtype, tol in ((torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        weight = torch.ones(2, dtype=dtype)
        got = rms_norm(x.to(dtype), weight)
        assert got.dtype == dtype
        wanted = torch.tensor([[0.848528, 1.131371]])
        torch.testing.assert_close(got.float(), wanted, atol=tol, rtol=0)
        module = RMSNorm(2).to(dtype)
        torch.testing.assert_close(module(x.to(dtype)), got)
        assert layer_norm(x.to(dtype), weight).dtype == dtype
        torch.testing.assert_close(
            layer_norm(x.to(dtype), weight).float(),
            torch.tensor([[-1.0, 1.0]]),
        )


def test_sums_are_made_in_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = (random_rows(9, 3, 64) + 40).to(dtype)
        weight, bias = random_rows(10, 2, 64).to(dtype)
        exact = x.float(), weight.float(), bias.float()
        wanted = layer_norm(*exact).to(dtype)
        assert torch.equal(layer_norm(x, weight, bias), wanted)
        wanted = rms_norm(*exact[:2]).to(dtype)
        assert torch.equal(rms_norm(x, weight), wanted)


def test_biases_can_be_left_out() -> None:
    assert LayerNorm(4, bias=False).bias is None
    assert len(list(LayerNorm(4, bias=False).parameters())) == 1
    assert len(list(GELUMLP(4, bias=False).parameters())) == 2
    assert len(list(SwiGLU(4, bias=True).parameters())) == 6
    x = torch.randn(2, 4)
    torch.testing.assert_close(
        LayerNorm(4, bias=False)(x), layer_norm(x, torch.ones(4))
    )


def test_activations_of_the_fixture_table() -> None:
    one = torch.tensor(1.0)
    assert gelu(one).item() == pytest.approx(0.841345, abs=1e-6)
    assert gelu_tanh(one).item() == pytest.approx(0.841192, abs=1e-6)
    assert silu(one).item() == pytest.approx(0.731059, abs=1e-6)


def test_activations_equal_the_library() -> None:
    x = torch.linspace(-8, 8, 4001)
    torch.testing.assert_close(gelu(x), F.gelu(x))
    torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"))
    torch.testing.assert_close(silu(x), F.silu(x))
    for ours, theirs in (
        (gelu, F.gelu),
        (gelu_tanh, partial(F.gelu, approximate="tanh")),
        (silu, F.silu),
    ):  # far out, too, and the slopes
        far = torch.tensor([-300.0, -100.0, -89.0, -20.0, 20.0, 300.0])
        both = [far.clone().requires_grad_() for _ in range(2)]
        for bend, at in zip((ours, theirs), both, strict=True):
            bend(at).sum().backward()
        assert torch.allclose(ours(far), theirs(far), atol=1e-6)
        assert torch.allclose(both[0].grad, both[1].grad, atol=1e-6)
    gap = (gelu(x) - gelu_tanh(x)).abs().max().item()
    assert gap == pytest.approx(4.73e-4, abs=1e-6)


@pytest.mark.parametrize("tanh", [False, True])
def test_gelu_mlp_is_three_steps(tanh: bool) -> None:
    mlp, x = GELUMLP(6, hidden=10, tanh=tanh), torch.randn(2, 3, 6)
    first, second = mlp.up, mlp.down
    bend = gelu_tanh if tanh else gelu
    wanted = bend(x @ first.weight.T + first.bias)
    wanted = wanted @ second.weight.T + second.bias
    torch.testing.assert_close(mlp(x), wanted)
    assert GELUMLP(6).up.out_features == 24


def test_swiglu_is_its_equation() -> None:
    mlp, x = SwiGLU(6, hidden=10), torch.randn(2, 3, 6)
    w, v = mlp.gate.weight, mlp.up.weight
    wanted = (silu(x @ w.T) * (x @ v.T)) @ mlp.down.weight.T
    torch.testing.assert_close(mlp(x), wanted)
    assert SwiGLU(48).down.in_features == swiglu_hidden(48)


@pytest.mark.parametrize(
    ("channels", "hidden"),
    [(128, 352), (768, 2048), (992, 2656), (1024, 2816), (4096, 11008)],
)
def test_swiglu_hidden(channels: int, hidden: int) -> None:
    assert swiglu_hidden(channels) == hidden


@given(st.integers(16, 8192))
def test_swiglu_has_the_weights_of_the_other(channels: int) -> None:
    ratio = 3 * swiglu_hidden(channels) / (8 * channels)
    multiple = 256 if channels >= 1024 else 32
    assert 1 <= ratio < 1 + 3 * multiple / (8 * channels)


def test_dropout_only_while_training_and_on_what_comes_out() -> None:
    x = torch.randn(2, 5, 8)
    for mlp in (GELUMLP(8, dropout=0.5), SwiGLU(8, dropout=0.5)):
        calm = mlp.eval()(x)
        assert torch.equal(calm, mlp(x))
        found = mlp.train()(x)
        dropped = (found == 0).float().mean().item()
        assert 0.2 < dropped < 0.8
        kept = found != 0  # each number dropped or doubled, on its own
        torch.testing.assert_close(found[kept], 2 * calm[kept])
        assert 0 < kept[0, 0].sum() < 8


@pytest.mark.parametrize("bias", [False, True])
def test_each_matrix_has_a_bias_or_none_has(bias: bool) -> None:
    gelus, gated = GELUMLP(4, 6, bias=bias), SwiGLU(4, 6, bias=bias)
    for part in (gelus.up, gelus.down, gated.gate, gated.up, gated.down):
        assert (part.bias is not None) == bias
    assert (gated.gate.in_features, gated.gate.out_features) == (4, 6)
    assert GELUMLP(4).up.bias is not None
    assert SwiGLU(4).gate.bias is None


def test_mlp_learns_what_no_line_can() -> None:
    # Exclusive or: the reason why something has to bend.
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([0.0, 1.0, 1.0, 0.0])
    for mlp in (GELUMLP(2, hidden=16), SwiGLU(2, hidden=16, bias=True)):
        optimizer = torch.optim.Adam(mlp.parameters(), lr=0.02)
        for _ in range(200):
            optimizer.zero_grad()
            (mlp(x)[:, 0] - y).square().mean().backward()
            optimizer.step()
        assert (mlp(x)[:, 0] - y).abs().max() < 0.1
