"""What reading published forms and weights must do."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from scratchlm.model import published
from scratchlm.model.gpt import GPT, GPTConfig, parameter_table

from ..expect import equal, raises, true

SIZES = {
    "gpt2": 124_439_808,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "olmo-2-1b": 1_484_916_736,
}
FILE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}
GPT2_FILE: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_positions": 16,
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
    "n_inner": 20,
    "layer_norm_epsilon": 0.01,
    "activation_function": "gelu_new",
}
SCALING = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def numbered(config: GPTConfig) -> dict[str, Tensor]:
    """Published weights of a form, of which no two numbers are the same."""
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in GPT(config).state_dict().items()}
    found: dict[str, Tensor] = {}
    for place in published.places(config):
        rows, *rest = shapes[place.ours]
        parts = heights(config, rows, len(place.theirs))
        for name, height in zip(place.theirs, parts, strict=True):
            count = torch.Size([height, *rest]).numel()
            start = 1000.0 * len(found)
            values = torch.arange(start, start + count).view(height, *rest)
            found[name] = values.t().contiguous() if place.turned else values
    return found


def heights(config: GPTConfig, rows: int, parts: int) -> list[int]:
    """How many rows each of the parts has that make one tensor of ours."""
    if parts == 1:
        return [rows]
    keys = config.key_heads * config.channels_per_head
    return [rows - 2 * keys, keys, keys]


def check_sizes() -> None:
    """The eight forms have as many parameters as the published models."""
    for name, wanted in SIZES.items():
        form = published.PUBLISHED[name]
        equal(
            sum(parameter_table(form).values()),
            wanted,
            f"parameters of {name}",
            hint="is the head tied? are the heads wider than channels / heads?",
        )


def check_llama_is_read() -> None:
    """Sizes, shared keys and both small numbers come from the file."""
    form = published.read_form(FILE)
    for field, wanted in {
        "channels": 8,
        "hidden": 6,
        "heads": 4,
        "kv_heads": 2,
        "norm_eps": 1e-6,
        "rope_base": 500.0,
        "tied": False,
        "norm_order": "pre",
        "qk_norm": "none",
        "rope_factor": 1.0,
    }.items():
        what = f"{field} of a Llama"
        equal(getattr(form, field), wanted, what, "read it from the file")
    tied = published.read_form({**FILE, "tie_word_embeddings": True})
    equal(tied.tied, True, "tied, when the file says tie_word_embeddings")


def check_families() -> None:
    """What stands in no field follows from the family."""
    for family, field, wanted in (
        ("qwen2", "qkv_bias", True),
        ("qwen3", "qk_norm", "rmsnorm"),
        ("qwen3", "norm_order", "pre"),
        ("olmo2", "qk_norm", "rmsnorm_all"),
        ("olmo2", "norm_order", "branch"),
    ):
        file = {**FILE, "head_dim": 2, "model_type": family}
        form = published.read_form(file)
        equal(getattr(form, field), wanted, f"{field} of {family}")
    wide = published.read_form({**FILE, "model_type": "qwen3", "head_dim": 6})
    equal(wide.head_size, 6, "head_size of a Qwen3 with head_dim 6")


def check_gpt2_is_read() -> None:
    """GPT-2 has names of its own for everything."""
    form = published.read_form(GPT2_FILE)
    found = (form.context, form.layers, form.inner, form.norm_eps, form.tied)
    equal(found, (16, 2, 20, 0.01, True), "a GPT-2's form")


def check_rotation() -> None:
    """Slowed waves are found in either spelling."""
    old = {**FILE, "rope_scaling": SCALING}
    new = {k: v for k, v in FILE.items() if k != "rope_theta"}
    new["rope_parameters"] = {**SCALING, "rope_theta": 500.0}
    for file in (old, new):
        form = published.read_form(file)
        found = (form.rope_base, form.rope_factor, form.rope_original)
        equal(found, (500.0, 4.0, 16), "base, factor and original context")


def check_refusals() -> None:
    """A field that would change what is computed is never skipped."""
    for change in (
        {"model_type": "mamba"},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"use_sliding_window": True},
        {"rope_scaling": {**SCALING, "rope_type": "yarn"}},
    ):
        raises(
            ValueError,
            partial(published.read_form, {**FILE, **change}),
            f"read_form with {change}",
            hint="refuse what the model cannot compute",
        )


def check_gpt2_is_turned() -> None:
    """GPT-2 keeps (in, out), the square matrix of attention included."""
    form = published.read_form(GPT2_FILE)
    theirs = numbered(form)
    ours = published.from_published(theirs, form)
    for mine, name in (
        ("blocks.1.attention.out.weight", "transformer.h.1.attn.c_proj.weight"),
        ("blocks.0.mlp.up.weight", "transformer.h.0.mlp.c_fc.weight"),
    ):
        equal(
            ours[mine],
            theirs[name].t(),
            mine,
            hint="each matrix is turned, also where the shape fits unturned",
        )


def check_short_names() -> None:
    """A file without a head has names without their first word."""
    for family, top in (("gpt2", "transformer."), ("llama", "model.")):
        file = GPT2_FILE if family == "gpt2" else FILE
        form = published.read_form({**file, "model_type": family})
        theirs = numbered(form)
        short = {name.removeprefix(top): w for name, w in theirs.items()}
        wanted = published.from_published(theirs, form)
        found = published.from_published(short, form)
        for name, tensor in wanted.items():
            equal(found[name], tensor, f"{name}, from a short name")


def check_queries_come_first() -> None:
    """Queries, keys and values are stacked by rows, in this order."""
    form = published.read_form({**FILE, "model_type": "qwen2"})
    theirs = numbered(form)
    ours = published.from_published(theirs, form)
    for kind in ("weight", "bias"):
        name = "model.layers.1.self_attn.{}_proj." + kind
        wanted = torch.cat([theirs[name.format(x)] for x in "qkv"])
        equal(ours[f"blocks.1.attention.qkv.{kind}"], wanted, f"qkv.{kind}")


def check_norms_of_olmo() -> None:
    """The same name means two norms in two families."""
    for family, wanted in (("llama", "norm2"), ("olmo2", "norm1")):
        form = published.read_form({**FILE, "model_type": family})
        theirs = numbered(form)
        name = "model.layers.0.post_attention_layernorm.weight"
        true(name in theirs, f"{name} is among the places of {family}")
        ours = published.from_published(theirs, form)
        equal(
            ours[f"blocks.0.{wanted}.weight"],
            theirs[name],
            f"post_attention_layernorm of {family}, our {wanted}",
            hint="in Llama it stands before the feed-forward layer, in OLMo 2 "
            "on what attention says",
        )


def check_there_and_back() -> None:
    """The way back gives the same names and the same numbers."""
    for family in ("gpt2", "llama", "qwen2", "qwen3", "olmo2"):
        file = GPT2_FILE if family == "gpt2" else {**FILE, "head_dim": 2}
        form = published.read_form({**file, "model_type": family})
        theirs = numbered(form)
        ours = published.from_published(theirs, form)
        GPT(form).load_state_dict(ours)
        back = published.to_published(ours, form)
        equal(sorted(back), sorted(theirs), f"the names of {family}, back")
        for name, tensor in theirs.items():
            equal(back[name], tensor, f"{name} of {family}, there and back")


def check_nothing_is_left() -> None:
    """What is missing or left over is an error; harmless copies are not."""
    form = published.read_form({**FILE, "tie_word_embeddings": True})
    theirs = numbered(form)
    name = "model.layers.1.mlp.gate_proj.weight"
    less = {n: w for n, w in theirs.items() if n != name}
    more = {**theirs, "model.layers.1.self_attn.q_proj.bias": torch.ones(8)}
    own = {**theirs, "lm_head.weight": torch.ones(11, 8)}
    for weights, what in (
        (less, "a weight is missing"),
        (more, "one is left"),
        (own, "a tied form comes with a head of its own"),
    ):
        raises(
            ValueError,
            partial(published.from_published, weights, form),
            f"from_published, when {what}",
        )
    copies = {
        **theirs,
        "lm_head.weight": theirs["model.embed_tokens.weight"],
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(1),
    }
    found = published.from_published(copies, form)
    true("head.weight" in found, "a tied head gets the tokens' matrix")
    form = published.read_form(GPT2_FILE)
    theirs = numbered(form)
    first = next(name for name in theirs if name.endswith(".attn.c_attn.bias"))
    for mask in (".attn.bias", ".attn.masked_bias"):
        name = first.removesuffix(".attn.c_attn.bias") + mask
        found = published.from_published({**theirs, name: torch.ones(1)}, form)
        true(len(found) > 0, f"old files keep {name} beside the weights")


BUGS = {
    "the heads of Qwen3 are an even split": (
        "    head_size=128,\n",
        "",
    ),
    "the head of SmolLM2 is its own": (
        "llama_config(49152, 8192, 30, 9, 576, 3, 1536, tied=True)",
        "llama_config(49152, 8192, 30, 9, 576, 3, 1536)",
    ),
    "the small number under the root is not read": (
        '        norm_eps=config["rms_norm_eps"],\n',
        "",
    ),
    "shared keys are not read": (
        'config.get("num_key_value_heads")',
        "None",
    ),
    "the size of a head is not read": (
        'head_size=config.get("head_dim")',
        "head_size=None",
    ),
    "the norms of OLMo 2 stand before the parts": (
        ', "norm_order": "branch"}',
        "}",
    ),
    "Qwen2 has no biases": (
        '"qwen2": {"qkv_bias": True}',
        '"qwen2": {}',
    ),
    "the slowed waves are not read": (
        '        "rope_factor": found["factor"],\n',
        "",
    ),
    "only one spelling of the rotation is read": (
        '    found |= config.get("rope_scaling") or {}\n',
        "",
    ),
    "nothing is refused": (
        "if value != known and value is not None:",
        "if False:",
    ),
    "only matrices whose shape differs are turned": (
        "ours[place.ours] = whole.t() if place.turned else whole",
        "ours[place.ours] = whole.t() if place.turned and "
        "whole.shape[0] != whole.shape[1] else whole",
    ),
    "keys come before queries": (
        'for x in "qkv")',
        'for x in "kqv")',
    ),
    "the norms of OLMo 2 are named as in Llama": (
        'first, second = "post_attention", "post_feedforward"',
        'first, second = "post_feedforward", "post_attention"',
    ),
    "short names are not known": (
        "name if name.startswith(known) else top + name: weight",
        "name: weight",
    ),
    "what is left over is let pass": (
        "    if rest:\n",
        "    if False:\n",
    ),
    "a copy of a tied head is left over": (
        'rest.pop("lm_head.weight", tokens)',
        'rest.get("lm_head.weight", tokens)',
    ),
    "a head of its own is thrown away": (
        'raise ValueError("lm_head.weight is no',
        'str("lm_head.weight is no',
    ),
}
