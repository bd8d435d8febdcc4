"""Changing little: low-rank adapters beside frozen layers (LoRA).

Hu et al. (2021): the weights of a pretrained layer stay as they are, and what
is learned is a change to them, the product of two thin matrices. That leaves
little to train, to keep for the optimizer and to store, and one model in
memory serves many tasks, with an adapter for each. In the end a change can be
added to the weights it belongs to, and then costs nothing.

Left out: adapters for embeddings and heads, dropout on their input, and base
weights of four bits (QLoRA).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.training.checkpoint import compare

LAYERS = ("qkv", "out", "gate", "up", "down")  # of a block, by their names


class LoRALinear(nn.Module):
    """A frozen linear layer and a change of low rank, which is learned.

    y = W x + s · B (A x) with A (r, in), B (out, r) and s = alpha / r. B is
    zero at first, so the layer begins as what it was.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        """Freeze the layer; ValueError for a rank below 1 or above a side."""
        super().__init__()
        out, size = base.weight.shape
        if not 0 < rank <= min(out, size):
            raise ValueError(
                f"rank={rank}: choose 1 to {min(out, size)} for a layer of "
                f"{out} × {size} weights"
            )
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        start = torch.randn(rank, size) / math.sqrt(size)
        self.lora_a = nn.Parameter(start.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(out, rank))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        low = F.linear(x, self.lora_a)  # (..., r)
        out: Tensor = self.base(x) + self.scale * F.linear(low, self.lora_b)
        return out

    def change(self) -> Tensor:
        """What is added to the weights: s · B A, (out, in), in float32."""
        product = self.lora_b.float() @ self.lora_a.float()
        return self.scale * product.detach()

    def merged(self, dtype: torch.dtype | None = None) -> nn.Linear:
        """One plain layer: the sum is made in float32 and rounded once.

        The result has the base's type, unless a `dtype` is given.
        """
        old = self.base.weight
        weight = (old.float() + self.change()).to(dtype or old.dtype)
        layer = nn.Linear(
            old.shape[1], old.shape[0], self.base.bias is not None
        )
        layer = layer.to(weight.device, weight.dtype)
        with torch.no_grad():
            layer.weight.copy_(weight)
            if self.base.bias is not None:
                layer.bias.copy_(self.base.bias)
        return layer


def add_lora(
    model: GPT,
    rank: int,
    alpha: float = 16.0,
    names: Sequence[str] = LAYERS,
) -> GPT:
    """Freeze a model and give linear layers of its blocks an adapter each.

    In place; returns the model. The head is left alone: if it shares its
    matrix with the tokens, changing one would part the two.
    """
    found: list[tuple[nn.Module, str, Any]] = [
        (parent, name, layer)
        for parent in model.blocks.modules()
        for name, layer in parent.named_children()
        if name in names
    ]
    if not found:
        raise ValueError(f"no layer of a block is called {list(names)}")
    for _, name, layer in found:
        if isinstance(layer, LoRALinear):
            raise ValueError(f"{name} has an adapter: merge it before")
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is no nn.Linear: {type(layer).__name__}")
    made = [LoRALinear(layer, rank, alpha) for _, _, layer in found]
    model.requires_grad_(False)
    for (parent, name, _), layer in zip(found, made):
        setattr(parent, name, layer)
    return model


def merge_lora(model: GPT, dtype: torch.dtype | None = None) -> GPT:
    """Add every change to its weights, in place: a plain model again.

    All of it can learn. A `dtype` is that of the merged layers alone; cast
    the whole model before you use it.
    """
    for parent in list(model.blocks.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(parent, name, layer.merged(dtype))
    return model.requires_grad_(True)


def adapter(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything that was learned beside a model, by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if name.endswith(("lora_a", "lora_b"))
    }


def put_adapter(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Exchange the adapters of a model for others, in place.

    Raises CheckpointError for tensors that do not fit. Their alpha should be
    that of the model: it is a setting, and no tensor records it.
    """
    compare(adapter(model), tensors, "this adapter")
    with torch.no_grad():
        for name, tensor in tensors.items():
            model.get_parameter(name).copy_(tensor)


def lora_parameters(
    config: GPTConfig, rank: int, names: Sequence[str] = LAYERS
) -> int:
    """How many numbers the adapters have: r · (in + out) for each layer.

    >>> from scratchlm.model.gpt import gpt2_config
    >>> lora_parameters(gpt2_config(), rank=8, names=["qkv"])
    294912
    """
    c = config
    attended = c.heads * c.channels_per_head
    qkv = attended + 2 * c.key_heads * c.channels_per_head
    sides = {
        "qkv": c.channels + qkv,
        "out": attended + c.channels,
        "up": c.channels + c.inner,
        "down": c.inner + c.channels,
    }
    if c.mlp == "swiglu":
        sides["gate"] = c.channels + c.inner
    found = (side for name, side in sides.items() if name in names)
    return rank * c.layers * sum(found)


def state_bytes(model: nn.Module) -> dict[str, int]:
    """Bytes that stay in memory during training with AdamW, by purpose.

    Gradients and the two moments are kept for what is learned, and for
    nothing else.
    """
    every = list(model.parameters())
    learned = sum(p.nbytes for p in every if p.requires_grad)
    return {
        "weights": sum(p.nbytes for p in every),
        "gradients": learned,
        "moments": 2 * learned,
    }
