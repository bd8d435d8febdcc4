"""Solutions on adapters: how many, how near, and two at once."""

import pytest
import torch
from torch import nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.tuning.lora import LoRALinear, adapter, add_lora, put_adapter
from solutions.tuning.lora import (
    best_change,
    break_even,
    explained,
    faster_b,
    mixed,
)


@pytest.mark.parametrize(("out", "size"), [(128, 128), (384, 128), (7, 5)])
def test_the_break_even_is_exact(out: int, size: int) -> None:
    rank = break_even(out, size)
    assert rank * (out + size) < out * size <= (rank + 1) * (out + size)


def test_no_change_of_a_rank_is_nearer() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 6)
    for rank in (1, 3, 6):
        b, a = best_change(weight, rank)
        error = (weight - b @ a).square().sum()
        rest = torch.linalg.svdvals(weight)[rank:].square().sum()
        torch.testing.assert_close(error, rest, atol=1e-4, rtol=1e-4)
        for _ in range(5):
            other = b + 0.1 * torch.randn_like(b)
            assert (weight - other @ a).square().sum() >= error


def test_how_much_of_a_change_a_rank_explains() -> None:
    torch.manual_seed(0)
    base, tuned = (GPT(gpt2_config(10, 8, 1, 2, 8)) for _ in range(2))
    name = "blocks.0.mlp.up.weight"
    with torch.no_grad():
        change = torch.outer(torch.randn(32), torch.randn(8))
        tuned.get_parameter(name).copy_(base.get_parameter(name) + change)
    assert explained(base, tuned, name, 1) == pytest.approx(1, abs=1e-4)
    other = "blocks.0.mlp.down.weight"
    shares = [explained(base, tuned, other, rank) for rank in range(9)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[8] == pytest.approx(1, abs=1e-4)


def test_two_adapters_at_once_add_up() -> None:
    torch.manual_seed(0)

    def fresh(rank: int) -> GPT:
        torch.manual_seed(1)
        model = GPT(gpt2_config(10, 8, 1, 2, 8)).eval()
        return add_lora(model, rank, alpha=4.0 * rank)

    one, two, both = fresh(2), fresh(3), fresh(5)
    for model in (one, two):
        for name, parameter in model.named_parameters():
            if "lora" in name:
                nn.init.normal_(parameter, std=0.3)
    put_adapter(both, mixed(adapter(one), adapter(two)))
    for a, b, c in zip(one.modules(), two.modules(), both.modules()):
        if isinstance(a, LoRALinear):
            assert isinstance(b, LoRALinear)
            assert isinstance(c, LoRALinear)
            wanted = a.change() + b.change()
            torch.testing.assert_close(c.change(), wanted)


def test_b_learns_faster() -> None:
    model = add_lora(GPT(gpt2_config(10, 8, 1, 2, 8)), rank=2)
    slow, fast = faster_b(model, 1e-3)
    assert fast["lr"] == 16 * slow["lr"]
    assert len(slow["params"]) == len(fast["params"]) == 4
    assert all((p == 0).all() for p in fast["params"])
