"""Solutions on layers: a gradient by hand, another bend, a folded norm."""

import pytest
import torch
from torch import nn

from scratchlm.model.layers import LayerNorm, RMSNorm, layer_norm, rms_norm
from solutions.model.layers import SquaredReLUMLP, fold_norm, rms_norm_gradient


def test_gradient_equals_autograd() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 8, requires_grad=True)
    upstream = torch.randn(3, 5, 8)
    (wanted,) = torch.autograd.grad(rms_norm(x, torch.ones(8)), x, upstream)
    got = rms_norm_gradient(x.detach(), upstream)
    torch.testing.assert_close(got, wanted)
    along = (got * x.detach()).sum(-1) / got.norm(dim=-1)
    assert along.abs().max() < 1e-4  # ε is why it is not 0


def test_squared_relu() -> None:
    mlp = SquaredReLUMLP(2, hidden=2)
    for layer in (mlp.up, mlp.down):
        nn.init.eye_(layer.weight)
    got = mlp(torch.tensor([[3.0, -2.0]]))
    assert got.tolist() == [[9.0, 0.0]]
    assert SquaredReLUMLP(8).up.out_features == 32


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [LayerNorm, RMSNorm])
def test_folded_norm(make: type[nn.Module], bias: bool) -> None:
    torch.manual_seed(0)
    norm, linear, x = make(8), nn.Linear(8, 3, bias=bias), torch.randn(5, 8)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    plain = layer_norm if make is LayerNorm else rms_norm
    got = fold_norm(norm, linear)(plain(x, torch.ones(8)))
    torch.testing.assert_close(got, linear(norm(x)), atol=1e-5, rtol=1e-5)
