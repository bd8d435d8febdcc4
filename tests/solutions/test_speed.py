"""The solutions of the chapter on speed."""

import pytest
import torch
from torch import nn

from scratchlm.generation.speed import Roofline
from scratchlm.model.gpt import (
    GPTConfig,
    flops_per_token,
    llama_config,
    parameter_table,
)
from scratchlm.model.layers import SwiGLU
from solutions.generation.speed import (
    amdahl,
    swiglu_without_module,
    utilization,
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
