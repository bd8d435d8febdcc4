"""The solutions of the chapter on speed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from scratchlm.generation.speed import Roofline, fast_model
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    flops_per_token,
    llama_config,
    parameter_table,
)
from scratchlm.model.layers import SwiGLU
from solutions.generation.speed import (
    FewerDice,
    amdahl,
    swiglu_without_module,
    utilization,
    with_fewer_dice,
    writing_limit,
)


def test_a_part_makes_the_whole_faster() -> None:
    assert amdahl(1.0, 3.0) == pytest.approx(3)
    assert amdahl(0.0, 3.0) == pytest.approx(1)
    assert amdahl(0.75, 1e12) == pytest.approx(4)
    seconds = 0.2 + 0.8 / 5  # of a program of one second
    assert amdahl(0.8, 5.0) == pytest.approx(1 / seconds)


def test_a_machine_at_its_ceiling_is_used_wholly() -> None:
    config = GPTConfig(65, 64, 4, 4, 128)
    most = 100e9 / flops_per_token(config)
    assert utilization(config, most, 100e9) == pytest.approx(1)
    assert utilization(config, most / 4, 100e9) == pytest.approx(0.25)


def test_one_text_waits_for_memory_and_many_for_arithmetic() -> None:
    config = llama_config()
    weights = sum(parameter_table(config).values())
    roof = Roofline(flops=1000e12, bandwidth=3.35e12)
    one = writing_limit(config, 1, 1, roof)
    assert one == pytest.approx(roof.bandwidth / (2 * weights), rel=1e-3)
    many = writing_limit(config, 100_000, 0, roof)
    assert many == pytest.approx(roof.flops / (2 * weights), rel=1e-3)


def test_a_long_cache_slows_down() -> None:
    config = llama_config()
    roof = Roofline(flops=1000e12, bandwidth=3.35e12)
    short, long = (writing_limit(config, 32, n, roof) for n in (1, 4096))
    assert long < short / 4


@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_as_a_function(bias: bool) -> None:
    module = SwiGLU(16, 32, bias=bias)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 16)
    assert torch.equal(swiglu_without_module(module)(x), module(x))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_fewer_dice_drop_the_share_and_keep_the_mean(share: float) -> None:
    """Each of 40,001 numbers is 0 or grown, and their share is as likely."""
    torch.manual_seed(0)
    drop = FewerDice(share)
    x = torch.full((40_001,), 2.0)
    found = drop(x)
    kept = found != 0
    grown = pytest.approx([2 / (1 - share)], rel=1e-4)
    assert found[kept].unique().tolist() == grown
    spread = (share * (1 - share) / len(x)) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - share)) <= 4 * spread
    assert drop.eval()(x) is x


def test_every_quarter_of_a_die_is_as_fair_as_the_others() -> None:
    torch.manual_seed(0)
    kept = (FewerDice(0.25)(torch.ones(400, 400)) > 0).float()
    shares = kept.view(-1, 4).mean(dim=0)  # 40,000 casts for each quarter
    assert (shares - 0.75).abs().max() < 4 * (0.25 * 0.75 / 40_000) ** 0.5
    pairs = torch.corrcoef(kept.view(-1, 4).T) - torch.eye(4)
    assert pairs.abs().max() < 4 / 200  # nor do they know of each other


def test_gradients_flow_where_numbers_were_kept() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 3, requires_grad=True)
    found = FewerDice(0.5)(x)
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, found)
    again = torch.random.get_rng_state()
    torch.manual_seed(0)
    torch.randn(7, 3)
    FewerDice(0.5)(x)
    assert torch.equal(torch.random.get_rng_state(), again)


def test_all_of_a_models_dropout_is_replaced() -> None:
    model = GPT(replace(fast_model(11, 8), dropout=0.5)).train()
    before = list(model.state_dict())
    places = sum(isinstance(m, nn.Dropout) for m in model.modules())
    with_fewer_dice(model)
    kinds = [type(m) for m in model.modules()]
    assert nn.Dropout not in kinds
    assert kinds.count(FewerDice) == places > 0
    assert list(model.state_dict()) == before
    ids = torch.arange(8)[None]
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))
