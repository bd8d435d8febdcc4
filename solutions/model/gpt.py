"""Solutions: the whole model on one page."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    memory_estimate,
    next_token_loss,
)

GPT2_NAMES = {
    "ln_1": "norm1",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.out",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}


def gpt2_weights(
    theirs: Mapping[str, Tensor], layers: int
) -> dict[str, Tensor]:
    """The weights of `transformers`' GPT2LMHeadModel under our names.

    Their matrices are stored the other way round, (in, out).
    """
    ours = {
        "token.weight": theirs["transformer.wte.weight"],
        "position.weight": theirs["transformer.wpe.weight"],
        "norm.weight": theirs["transformer.ln_f.weight"],
        "norm.bias": theirs["transformer.ln_f.bias"],
        "head.weight": theirs["lm_head.weight"],
    }
    for i in range(layers):
        for old, new in GPT2_NAMES.items():
            for kind in ("weight", "bias"):
                tensor = theirs[f"transformer.h.{i}.{old}.{kind}"]
                if tensor.ndim == 2:
                    tensor = tensor.t()
                ours[f"blocks.{i}.{new}.{kind}"] = tensor
    return ours


LLAMA_NAMES = {
    "norm1": ["input_layernorm"],
    "attention.qkv": [f"self_attn.{x}_proj" for x in "qkv"],
    "attention.out": ["self_attn.o_proj"],
    "norm2": ["post_attention_layernorm"],
    "mlp.gate": ["mlp.gate_proj"],
    "mlp.up": ["mlp.up_proj"],
    "mlp.down": ["mlp.down_proj"],
}


def llama_weights(
    theirs: Mapping[str, Tensor], layers: int
) -> dict[str, Tensor]:
    """The weights of `transformers`' LlamaForCausalLM under our names.

    Their three matrices of attention are one of ours, below each other.
    """
    ours = {
        "token.weight": theirs["model.embed_tokens.weight"],
        "norm.weight": theirs["model.norm.weight"],
        "head.weight": theirs["lm_head.weight"],
    }
    for i in range(layers):
        for new, olds in LLAMA_NAMES.items():
            parts = [theirs[f"model.layers.{i}.{old}.weight"] for old in olds]
            ours[f"blocks.{i}.{new}.weight"] = torch.cat(parts)
    return ours


def deepest_that_fits(budget: int, batch: int, config: GPTConfig) -> int:
    """The most layers whose training step fits into `budget` bytes."""

    def fits(layers: int) -> bool:
        deeper = replace(config, layers=layers)
        return memory_estimate(deeper, batch).peak <= budget

    fine, many = 0, 1
    while fits(many):
        fine, many = many, 2 * many
    while many - fine > 1:  # the answer is from fine to many - 1
        middle = (fine + many) // 2
        fine, many = (middle, many) if fits(middle) else (fine, middle)
    return fine


def chunked_loss(model: GPT, ids: Tensor, targets: Tensor, size: int) -> Tensor:
    """The mean loss of (B, T) ids, without ever holding (B, T, V) logits.

    `size` positions at a time are scored, and their scores forgotten and
    computed again on the way back.
    """

    def part(x: Tensor, y: Tensor) -> Tensor:
        return next_token_loss(model.head(x), y, reduction="sum")

    features = model.features(ids)
    pieces = zip(
        features.split(size, dim=1), targets.split(size, dim=1), strict=True
    )
    sums = [checkpoint(part, x, y, use_reentrant=False) for x, y in pieces]
    return torch.stack(sums).sum() / (targets != -100).sum()
