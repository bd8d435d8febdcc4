"""The solutions about memory."""

import pytest
import torch
from torch import nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training.memory import memory_use, recompute, saved_bytes
from solutions.training.memory import (
    half_the_bits,
    largest_micro_batch,
    recompute_in_groups,
)


def test_largest_micro_batch() -> None:
    torch.manual_seed(0)
    config = gpt2_config(
        vocab_size=11, context=8, layers=2, heads=2, channels=16
    )
    model = GPT(config)
    ids = torch.zeros(6, 8, dtype=torch.int64)
    six = memory_use(model, ids, ids).total
    # Within a few per cent: some tensors do not grow with the batch.
    assert largest_micro_batch(model, 8, six) in (5, 6)
    assert largest_micro_batch(model, 8, 1000) == 0


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_groups_give_the_same_gradients(size: int) -> None:
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))
        for _ in range(6)
    ]
    x = torch.randn(5, 4, requires_grad=True)
    plain = nn.Sequential(*blocks)
    plain(x).square().sum().backward()
    wanted = [p.grad.clone() for p in plain.parameters()]
    plain.zero_grad()
    recompute_in_groups(blocks, x, size).square().sum().backward()
    for parameter, gradient in zip(plain.parameters(), wanted, strict=True):
        assert torch.equal(parameter.grad, gradient)
    kept = saved_bytes(plain, lambda: recompute_in_groups(blocks, x, size))
    assert kept == 6 // size * 5 * 4 * 4  # one input for each group
    assert recompute(plain, x).shape == x.shape


def test_half_the_bits() -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    x = torch.randn(16, 8)
    chain(x).sum().backward()
    exact = chain[0].weight.grad.clone()
    chain.zero_grad()
    with half_the_bits():
        y = chain(x).sum()
    y.backward()
    error = (chain[0].weight.grad - exact).norm() / exact.norm()
    assert 0 < error < 0.01
