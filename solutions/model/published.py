"""Solutions: published forms and weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scratchlm.model.gpt import GPTConfig, parameter_table
from scratchlm.model.published import read_form


def family_of(form: GPTConfig) -> str:
    """What Hugging Face calls the family that a form belongs to."""
    if form.position == "learned":
        return "gpt2"
    if form.norm_order == "branch":
        return "olmo2"
    if form.qk_norm == "rmsnorm":
        return "qwen3"
    return "qwen2" if form.qkv_bias else "llama"


def write_form(form: GPTConfig) -> dict[str, Any]:
    """The config.json of a form, for which `read_form` gives it back.

    Raises ValueError for a form that no such file describes.
    """
    gpt2 = family_of(form) == "gpt2"
    file = write_gpt2(form) if gpt2 else write_llama(form)
    found = read_form(file)
    if replace(found, hidden=form.hidden) != form or found.inner != form.inner:
        raise ValueError(f"no published family has the form {form}")
    return file


def write_gpt2(form: GPTConfig) -> dict[str, Any]:
    """The fields of a GPT-2."""
    return {
        "model_type": "gpt2",
        "vocab_size": form.vocab_size,
        "n_positions": form.context,
        "n_layer": form.layers,
        "n_head": form.heads,
        "n_embd": form.channels,
        "n_inner": form.hidden,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": form.norm_eps,
        "tie_word_embeddings": form.tied,
    }


def write_llama(form: GPTConfig) -> dict[str, Any]:
    """The fields of a Llama, and of those that came after it."""
    file: dict[str, Any] = {
        "model_type": family_of(form),
        "vocab_size": form.vocab_size,
        "max_position_embeddings": form.context,
        "num_hidden_layers": form.layers,
        "num_attention_heads": form.heads,
        "num_key_value_heads": form.kv_heads,
        "hidden_size": form.channels,
        "intermediate_size": form.inner,
        "head_dim": form.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": form.norm_eps,
        "rope_theta": form.rope_base,
        "tie_word_embeddings": form.tied,
    }
    if form.rope_factor != 1.0:
        file["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": form.rope_factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": form.rope_original,
        }
    return {name: value for name, value in file.items() if value is not None}


def fold_norms(
    weights: Mapping[str, Tensor], form: GPTConfig
) -> dict[str, Tensor]:
    """The same model, all of whose norms have weights of 1.

    The weights go into the matrices behind the norms. Raises ValueError for
    a form whose norms have no matrix behind them, and for a tied head. The
    last norm keeps a bias, for the head has none to take it in.
    """
    if form.norm_order != "pre" or form.tied:
        raise ValueError("norms must stand before matrices that are used once")
    new = {name: tensor.clone() for name, tensor in weights.items()}
    after = [("norm", ["head"])]
    parts = ["gate", "up"] if form.mlp == "swiglu" else ["up"]
    for i in range(form.layers):
        mlp = [f"blocks.{i}.mlp.{part}" for part in parts]
        after.append((f"blocks.{i}.norm1", [f"blocks.{i}.attention.qkv"]))
        after.append((f"blocks.{i}.norm2", mlp))
    for norm, readers in after:
        fold(new, norm, readers)
    return new


def fold(weights: dict[str, Tensor], norm: str, readers: list[str]) -> None:
    """Move one norm's weight and bias into the matrices that read it.

    A head without a bias cannot take one in; there the bias stays.
    """
    scale = weights[f"{norm}.weight"].clone()  # (C,)
    shift = weights.get(f"{norm}.bias")
    for reader in readers:
        matrix = weights[f"{reader}.weight"]  # (out, C)
        if shift is not None and f"{reader}.bias" in weights:
            weights[f"{reader}.bias"] += matrix @ shift
        weights[f"{reader}.weight"] = matrix * scale
    weights[f"{norm}.weight"] = torch.ones_like(scale)
    if shift is not None and f"{readers[0]}.bias" in weights:
        weights[f"{norm}.bias"] = torch.zeros_like(shift)
    elif shift is not None:
        weights[f"{norm}.bias"] = shift / scale


def from_phi3(
    weights: Mapping[str, Tensor], form: GPTConfig
) -> dict[str, Tensor]:
    """Phi-3's weights under our names."""
    ours = {
        "token.weight": weights["model.embed_tokens.weight"],
        "norm.weight": weights["model.norm.weight"],
        "head.weight": weights["lm_head.weight"],
    }
    names = {
        "norm1": "input_layernorm",
        "attention.qkv": "self_attn.qkv_proj",
        "attention.out": "self_attn.o_proj",
        "norm2": "post_attention_layernorm",
        "mlp.down": "mlp.down_proj",
    }
    for i in range(form.layers):
        mine, theirs = f"blocks.{i}", f"model.layers.{i}"
        for new, old in names.items():
            ours[f"{mine}.{new}.weight"] = weights[f"{theirs}.{old}.weight"]
        both = weights[f"{theirs}.mlp.gate_up_proj.weight"]
        gate, up = both.chunk(2)  # (inner, C) each
        ours[f"{mine}.mlp.gate.weight"] = gate
        ours[f"{mine}.mlp.up.weight"] = up
    return ours


def tokens_that_fit(form: GPTConfig, budget: float, size: int = 2) -> int:
    """How many tokens' keys and values fit beside the weights, in bytes.

    >>> tiny = GPTConfig(10, 8, 1, 1, 2, bias=False, tied=True)
    >>> tokens_that_fit(tiny, budget=1000)
    102
    """
    rest = budget - size * sum(parameter_table(form).values())
    token = 2 * form.layers * form.key_heads * form.channels_per_head * size
    return max(0, int(rest // token))
