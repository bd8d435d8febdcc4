"""Tests of low-rank adapters."""

import copy
from itertools import repeat
from pathlib import Path

import pytest
import torch
from torch import nn

from scratchlm.model.gpt import (
    GPT,
    count_parameters,
    gpt2_config,
    llama_config,
)
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.training.checkpoint import (
    CheckpointError,
    read_tensors,
    write_tensors,
)
from scratchlm.training.memory import IGNORED
from scratchlm.training.packing import lay_out
from scratchlm.tuning.instruct import Example, TuneConfig, fine_tune
from scratchlm.tuning.lora import (
    LAYERS,
    LoRALinear,
    adapter,
    add_lora,
    lora_parameters,
    merge_lora,
    put_adapter,
    state_bytes,
)

CONFIGS = {
    "gpt2": gpt2_config(30, 16, 2, 2, 16),
    "llama": llama_config(30, 16, 2, 4, 16, kv_heads=2),
}
IDS = torch.arange(12).view(1, 12)


def small(name: str = "gpt2") -> GPT:
    """A random model of either form."""
    torch.manual_seed(0)
    return GPT(CONFIGS[name]).eval()


def learned(model: GPT, rank: int = 3) -> GPT:
    """A model with adapters that say something."""
    add_lora(model, rank)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("lora_b"):
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_with_zero_b_nothing_changes_by_a_bit(name: str) -> None:
    base, model = small(name), add_lora(small(name), rank=4)
    assert torch.equal(model(IDS), base(IDS))


@pytest.mark.parametrize("name", CONFIGS)
def test_merged_is_unmerged(name: str) -> None:
    base, model = small(name), learned(small(name))
    wanted = model(IDS)
    assert (wanted - base(IDS)).abs().max() > 1e-2
    merged = merge_lora(model)
    assert not any(isinstance(m, LoRALinear) for m in merged.modules())
    torch.testing.assert_close(merged(IDS), wanted, atol=1e-5, rtol=0)
    assert count_parameters(merged) == count_parameters(base)
    assert merged.state_dict().keys() == base.state_dict().keys()
    assert (merged.head.weight is merged.token.weight) == (name == "gpt2")


def test_a_layer_is_the_sum_written_out() -> None:
    torch.manual_seed(0)
    base = nn.Linear(6, 4)
    layer = LoRALinear(base, rank=2, alpha=8.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(3, 6)
    a, b = layer.lora_a.double(), layer.lora_b.double()
    weight = base.weight.double() + 4.0 * b @ a
    wanted = x.double() @ weight.T + base.bias.double()
    torch.testing.assert_close(layer(x).double(), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        layer.change(), 4.0 * (layer.lora_b @ layer.lora_a)
    )
    assert torch.linalg.matrix_rank(layer.change()) == 2
    plain = LoRALinear(nn.Linear(6, 4, bias=False), 2, 8.0).merged()
    assert plain.bias is None


def test_gradients_are_the_chain_rule_of_the_whole_weight() -> None:
    """∂L/∂B = s G Aᵀ and ∂L/∂A = s Bᵀ G, with G the gradient by W."""
    torch.manual_seed(0)
    full = nn.Linear(6, 4)
    layer = LoRALinear(copy.deepcopy(full), rank=2, alpha=6.0)
    x = torch.randn(5, 6)
    for b in (torch.zeros(4, 2), torch.randn(4, 2)):
        layer.zero_grad()
        full.zero_grad()
        with torch.no_grad():
            layer.lora_b.copy_(b)
            full.weight.copy_(layer.base.weight + layer.change())
        layer(x).square().sum().backward()
        full(x).square().sum().backward()
        g = full.weight.grad
        assert g is not None
        torch.testing.assert_close(
            layer.lora_b.grad, 3 * g @ layer.lora_a.T, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            layer.lora_a.grad, 3 * layer.lora_b.T @ g, atol=1e-4, rtol=1e-4
        )
    assert layer.base.weight.grad is None


def test_only_adapters_learn() -> None:
    model = add_lora(small(), rank=2)
    before = {name: p.clone() for name, p in model.named_parameters()}
    part = lay_out([[Example([1, 2, 3, 4], [IGNORED, 3, 4, 5])]], 16)
    config = TuneConfig(steps=30, learning_rate=2e-2, warmup=2)
    losses = fine_tune(model, repeat(part), config)
    assert losses[-1] < losses[0] - 0.1
    for name, p in model.named_parameters():
        moved = not torch.equal(p, before[name])
        assert moved == name.endswith(("lora_a", "lora_b")), name
        assert (p.grad is None) != moved


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("names", [LAYERS, ["qkv"], ["qkv", "down"]])
def test_numbers_are_counted_before_they_are_made(
    name: str, names: list[str]
) -> None:
    model = add_lora(small(name), 3, names=names)
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert lora_parameters(CONFIGS[name], 3, names) == counted
    total = count_parameters(model)
    assert state_bytes(model) == {
        "weights": 4 * total,
        "gradients": 4 * counted,
        "moments": 8 * counted,
    }


def test_adapters_are_exchanged(tmp_path: Path) -> None:
    base, model = small(), learned(small())
    said, first = model(IDS), adapter(model)
    nothing = {name: torch.zeros_like(t) for name, t in first.items()}
    put_adapter(model, nothing)
    assert torch.equal(model(IDS), base(IDS))
    write_tensors(tmp_path / "adapter.safetensors", first)
    put_adapter(model, read_tensors(tmp_path / "adapter.safetensors"))
    assert torch.equal(model(IDS), said)
    other = adapter(learned(small(), rank=2))
    with pytest.raises(CheckpointError, match="this adapter does not fit"):
        put_adapter(model, other)
    assert torch.equal(model(IDS), said)
    with pytest.raises(ValueError, match="merge it before"):
        add_lora(model, 2)


def test_small_changes_are_lost_in_bfloat16() -> None:
    """Merged in float32 the change is all there; in bfloat16 it is not."""
    model = learned(small())
    layer = model.blocks[0].mlp.up
    with torch.no_grad():
        layer.lora_b.mul_(1e-4)
    exact = layer.merged().weight - layer.base.weight
    torch.testing.assert_close(exact, layer.change(), atol=1e-7, rtol=1e-2)
    layer.base.to(torch.bfloat16)
    rounded = layer.merged()
    assert rounded.weight.dtype == torch.bfloat16
    lost = (rounded.weight == layer.base.weight).float().mean()
    assert lost > 0.3
    kept = layer.merged(torch.float32).weight - layer.base.weight.float()
    torch.testing.assert_close(kept, layer.change(), atol=1e-7, rtol=1e-2)


def test_what_is_refused_has_changed_nothing() -> None:
    model = learned(small())
    with pytest.raises(ValueError, match="merge it before"):
        add_lora(model, 2)
    mine = [n for n, p in model.named_parameters() if p.requires_grad]
    assert mine == list(adapter(model))
    with pytest.raises(ValueError, match="q_proj"):
        add_lora(small(), 2, names=["q_proj"])
    with pytest.raises(ValueError, match="is no nn"):
        add_lora(quantize_model(small(), Scheme()), 2)


def test_a_merged_model_learns_again() -> None:
    model = merge_lora(learned(small()))
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen == []
    model(IDS).sum().backward()
    assert model.token.weight.grad.abs().sum() > 0


def test_adapters_are_of_the_type_of_their_layer() -> None:
    model = learned(small().bfloat16())
    assert model(IDS).dtype == torch.bfloat16
    assert {t.dtype for t in adapter(model).values()} == {torch.bfloat16}


@pytest.mark.parametrize("rank", [0, 17])
def test_ranks_that_save_nothing_are_refused(rank: int) -> None:
    model = small()
    with pytest.raises(ValueError, match="choose 1 to 16"):
        add_lora(model, rank)
    assert all(parameter.requires_grad for parameter in model.parameters())
