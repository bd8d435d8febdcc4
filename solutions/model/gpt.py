"""Solutions: the whole model on one page."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scratchlm.model.embeddings import halves_from_pairs
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


META_NAMES = {
    "norm1": "attention_norm",
    "attention.out": "attention.wo",
    "norm2": "ffn_norm",
    "mlp.gate": "feed_forward.w1",
    "mlp.down": "feed_forward.w2",
    "mlp.up": "feed_forward.w3",
}


def meta_weights(
    theirs: Mapping[str, Tensor], config: GPTConfig
) -> dict[str, Tensor]:
    """The weights of Meta's own files of a Llama under our names.

    Their rotation pairs neighbors in queries and keys, ours halves.
    """
    ours = {
        "token.weight": theirs["tok_embeddings.weight"],
        "norm.weight": theirs["norm.weight"],
        "head.weight": theirs["output.weight"],
    }
    size = config.channels_per_head
    for i in range(config.layers):
        for new, old in META_NAMES.items():
            tensor = theirs[f"layers.{i}.{old}.weight"]
            ours[f"blocks.{i}.{new}.weight"] = tensor
        q, k, v = (theirs[f"layers.{i}.attention.w{x}.weight"] for x in "qkv")
        rows = torch.cat([halved(q, size), halved(k, size), v])
        ours[f"blocks.{i}.attention.qkv.weight"] = rows
    return ours


def halved(matrix: Tensor, head_size: int) -> Tensor:
    """Each head's rows, whose neighbors were pairs, so that halves are."""
    heads = matrix.unflatten(0, (-1, head_size))  # (H, D, C)
    return heads[:, halves_from_pairs(head_size)].flatten(0, 1)


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
