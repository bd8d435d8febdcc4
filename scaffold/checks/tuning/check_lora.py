"""What adapters of low rank must do."""

from functools import partial

import torch
from torch import nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.tuning import lora

from ..expect import close, equal, raises, true
from ..inputs import settled, waves

IDS = torch.arange(10).view(1, 10)


def mixer() -> GPT:
    """A model in which every token depends on all before it."""
    return settled(GPT(gpt2_config(12, 16, 2, 2, 8)).eval(), 0.5)


def taught() -> GPT:
    """The same model with adapters that say something."""
    model = lora.add_lora(mixer(), rank=2, alpha=4.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_a"):
                parameter.copy_(waves(*parameter.shape, step=2.3))
            elif name.endswith("lora_b"):
                parameter.copy_(0.1 * waves(*parameter.shape, step=0.9))
    return model


def check_start() -> None:
    """With adapters, and before any training, not a bit has changed."""
    true(
        torch.equal(lora.add_lora(mixer(), rank=2)(IDS), mixer()(IDS)),
        "logits with fresh adapters equal those without",
        hint="B begins at zero, so that the change is zero",
    )


def check_by_hand() -> None:
    """One layer, W = 0, A = (1, 2), B = (3, 4)ᵀ, alpha 5, rank 1."""
    base = nn.Linear(2, 2)
    with torch.no_grad():
        base.weight.zero_()
        base.bias.copy_(torch.tensor([1.0, -1.0]))
        layer = lora.LoRALinear(base, rank=1, alpha=5.0)
        layer.lora_a.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_b.copy_(torch.tensor([[3.0], [4.0]]))
        got = layer(torch.tensor([[10.0, 1.0]]))
    close(
        got,
        [[181.0, 239.0]],
        "5 · 12 · (3, 4) and the bias (1, -1)",
        hint="scale by alpha / rank",
    )


def check_scale() -> None:
    """With twice the rank, alpha is shared among twice as many."""
    for rank in (1, 2, 4):
        layer = lora.LoRALinear(nn.Linear(8, 8), rank, alpha=8.0)
        close(layer.scale, 8 / rank, f"the scale at rank {rank}")


def check_gradients() -> None:
    """Both factors learn, in the end, and the weights never."""
    model = taught()
    model(IDS).square().sum().backward()
    for name, parameter in model.named_parameters():
        learns = name.endswith(("lora_a", "lora_b"))
        equal(
            parameter.grad is not None,
            learns,
            f"{name} has a gradient",
            hint="freeze the model first, then add adapters",
        )
    model = lora.add_lora(mixer(), rank=2)
    model(IDS).square().sum().backward()
    grad = model.get_parameter("blocks.0.mlp.up.lora_b").grad
    true(
        grad is not None and grad.abs().max() > 0,
        "B has a gradient at the first step",
        hint="A begins at random: if both are zero, nothing ever moves",
    )


def check_merged() -> None:
    """Merged, the model says the same, and is a plain model again."""
    wanted, model = taught()(IDS), lora.merge_lora(taught())
    close(model(IDS), wanted, "logits after merging", tol=1e-4)
    names = sorted(name for name, _ in model.named_parameters())
    equal(
        names,
        sorted(name for name, _ in mixer().named_parameters()),
        "the parameters of a merged model",
    )


def check_merging_in_float32() -> None:
    """A change that bfloat16 cannot hold is kept if float32 is asked for."""
    base = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        base.weight.fill_(1.0)
    layer = lora.LoRALinear(base.to(torch.bfloat16), rank=1, alpha=1.0)
    with torch.no_grad():
        layer.lora_a.fill_(1.0)
        layer.lora_b.fill_(1e-3)
    close(
        layer.merged(torch.float32).weight,
        torch.full((4, 4), 1.001),
        "1 in bfloat16 plus a change of 0.001, merged to float32",
        tol=1e-6,
        hint="add in float32, and round once, in the end",
    )


def check_exchange() -> None:
    """One model takes another adapter, and the first one back."""
    model = taught()
    first, said = lora.adapter(model), model(IDS)
    nothing = {name: torch.zeros_like(t) for name, t in first.items()}
    lora.put_adapter(model, nothing)
    close(model(IDS), mixer()(IDS), "logits with an adapter of zeros")
    lora.put_adapter(model, first)
    close(
        model(IDS),
        said,
        "logits with the first adapter again",
        hint="an adapter that is taken out is a copy, not a view",
    )


def check_count() -> None:
    """r · (in + out) for each layer, as they are."""
    config = gpt2_config(12, 16, 2, 2, 8)
    model = lora.add_lora(GPT(config), rank=3)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    equal(lora.lora_parameters(config, 3), learned, "numbers at rank 3")
    equal(
        lora.state_bytes(model)["moments"],
        2 * 4 * learned,
        "bytes of the moments",
        hint="the optimizer keeps nothing for frozen weights",
    )


def check_rank() -> None:
    """A rank of nothing, or one above the smaller side, is refused."""
    for rank in (0, 9):
        raises(
            ValueError,
            partial(lora.LoRALinear, nn.Linear(8, 8), rank, 1.0),
            f"rank {rank} for 8 × 8 weights",
        )


def check_what_gets_an_adapter() -> None:
    """A plain linear layer, once; nothing else, and not nothing."""
    raises(
        ValueError,
        lambda: lora.add_lora(taught(), rank=2),
        "a second adapter on top of the first",
    )
    raises(
        ValueError,
        lambda: lora.add_lora(mixer(), rank=2, names=("other",)),
        "a name that no layer has",
    )
    raises(
        ValueError,
        lambda: lora.add_lora(mixer(), rank=2, names=("norm1",)),
        "a norm, which is no linear layer",
    )


BUGS = {
    "B begins at random": (
        "self.lora_b = nn.Parameter(base.weight.new_zeros(out, rank))",
        "self.lora_b = nn.Parameter(torch.randn(out, rank))",
    ),
    "both begin at zero": (
        "self.lora_a = nn.Parameter(start.to(base.weight))",
        "self.lora_a = nn.Parameter(torch.zeros(rank, size))",
    ),
    "alpha is not divided by the rank": (
        "self.scale = alpha / rank",
        "self.scale = alpha",
    ),
    "the model is not frozen": (
        "model.requires_grad_(False)",
        "model.requires_grad_(True)",
    ),
    "merging forgets the scale": (
        "return self.scale * product.detach()",
        "return product.detach()",
    ),
    "merging loses the bias": (
        "layer.bias.copy_(self.base.bias)",
        "layer.bias.zero_()",
    ),
    "the sum is made in the base's type": (
        "weight = (old.float() + self.change()).to(dtype or old.dtype)",
        "weight = (old + self.change().to(old.dtype)).to(dtype or old.dtype)",
    ),
    "an adapter is a view": (
        "name: parameter.detach().clone()",
        "name: parameter.detach()",
    ),
    "the moments of all weights are counted": (
        '"moments": 2 * learned,',
        '"moments": 2 * sum(p.nbytes for p in every),',
    ),
    "queries, keys and values are counted once": (
        '"qkv": c.channels + qkv,',
        '"qkv": c.channels + attended,',
    ),
}
