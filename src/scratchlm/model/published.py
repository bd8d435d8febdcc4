"""Published models are configurations: the forms of GPT-2 and its children.

What Llama, Qwen, SmolLM and OLMo changed since GPT-2 fits in a line each.
`PUBLISHED` has the numbers of eight models, `read_form` finds them in the
config.json that Hugging Face keeps beside weights, and `from_published` and
`to_published` rename and reshape the weights. Tests check each form against
the `transformers` library.

Left out: mixtures of experts, sliding windows, stretchings of the
rotation other than Llama's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scratchlm.model.gpt import GPTConfig, gpt2_config, llama_config

LLAMA_2 = llama_config(hidden=11008)
LLAMA_3 = replace(
    llama_config(128256, 131072, 32, 32, 4096, 8, 14336),
    rope_base=500000.0,
    rope_factor=8.0,
)
LLAMA_3_SMALL = replace(
    LLAMA_3,
    layers=16,
    channels=2048,
    hidden=8192,
    rope_factor=32.0,
    tied=True,
)
SMOLLM_2 = replace(
    llama_config(49152, 8192, 30, 9, 576, 3, 1536, tied=True),
    rope_base=100000.0,
)
QWEN_2_5 = replace(
    llama_config(151936, 32768, 24, 14, 896, 2, 4864, tied=True),
    rope_base=1000000.0,
    norm_eps=1e-6,
    qkv_bias=True,
)
QWEN_3 = replace(
    llama_config(151936, 40960, 28, 16, 1024, 8, 3072, tied=True),
    rope_base=1000000.0,
    norm_eps=1e-6,
    head_size=128,
    qk_norm="rmsnorm",
)
OLMO_2 = replace(
    llama_config(100352, 4096, 16, 16, 2048, hidden=8192),
    rope_base=500000.0,
    norm_eps=1e-6,
    norm_order="branch",
    qk_norm="rmsnorm_all",
)
PUBLISHED = {
    "gpt2": gpt2_config(),
    "llama-2-7b": LLAMA_2,
    "llama-3.1-8b": LLAMA_3,
    "llama-3.2-1b": LLAMA_3_SMALL,
    "smollm2-135m": SMOLLM_2,
    "qwen2.5-0.5b": QWEN_2_5,
    "qwen3-0.6b": QWEN_3,
    "olmo-2-1b": OLMO_2,
}


# --- the form ----------------------------------------------------------------


# What no file says: the library has it in the code of the family.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "rmsnorm"},
    "olmo2": {"qk_norm": "rmsnorm_all", "norm_order": "branch"},
}
# What a file of the family must say: the library assumes numbers of its own.
NEEDED = {
    "qwen2": ("num_key_value_heads",),
    "qwen3": ("num_key_value_heads", "head_dim"),
}


def read_form(config: Mapping[str, Any]) -> GPTConfig:
    """The form that a config.json of Hugging Face describes.

    Raises ValueError, with the name of the field, for a model of another
    family and for what `GPT` cannot compute.
    """
    family = config.get("model_type")
    if family == "gpt2":
        return read_gpt2(config)
    if family not in FAMILIES:
        raise ValueError(
            f"model_type={family!r} is not one of gpt2, {', '.join(FAMILIES)}"
        )
    for name in NEEDED.get(family, ()):
        if config.get(name) is None:
            raise ValueError(
                f"{name} is missing, and {family} has none by rule"
            )
    form, rotation = read_llama(config), read_rotation(config)
    return replace(form, **FAMILIES[family], **rotation)


def read_llama(config: Mapping[str, Any]) -> GPTConfig:
    """What the file of a Llama says, and of those that came after it."""
    refuse(config, "hidden_act", "silu")
    for extra in ("attention_bias", "mlp_bias", "use_sliding_window"):
        refuse(config, extra, False)
    return replace(  # all at once, since sizes are only valid together
        llama_config(),
        vocab_size=config["vocab_size"],
        context=config["max_position_embeddings"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        channels=config["hidden_size"],
        kv_heads=config.get("num_key_value_heads"),
        head_size=config.get("head_dim"),
        hidden=config["intermediate_size"],
        tied=config.get("tie_word_embeddings", False),
        norm_eps=config["rms_norm_eps"],
    )


def read_gpt2(config: Mapping[str, Any]) -> GPTConfig:
    """The form of a GPT-2."""
    refuse(config, "activation_function", "gelu_new")
    refuse(config, "scale_attn_weights", True)
    refuse(config, "scale_attn_by_inverse_layer_idx", False)
    return replace(
        gpt2_config(
            config["vocab_size"],
            config["n_positions"],
            config["n_layer"],
            config["n_head"],
            config["n_embd"],
            tied=config.get("tie_word_embeddings", True),
        ),
        hidden=config.get("n_inner"),
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
    )


def read_rotation(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the rotation turns, from either of two spellings of it."""
    found = dict(config.get("rope_parameters") or {})
    found |= config.get("rope_scaling") or {}
    for fields in (found, config):  # old files have it beside the rest
        refuse(fields, "partial_rotary_factor", 1.0)
    base = found.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = found.get("rope_type", found.get("type", "default"))
    if kind == "default":
        return {"rope_base": base}
    usual = {"rope_type": "llama3", "low_freq_factor": 1.0}
    for name, value in {**usual, "high_freq_factor": 4.0}.items():
        refuse({"rope_type": kind, **found}, name, value)
    return {
        "rope_base": base,
        "rope_factor": found["factor"],
        "rope_original": found["original_max_position_embeddings"],
    }


def refuse(config: Mapping[str, Any], name: str, known: object) -> None:
    """Raise ValueError where a field is there and is not what we compute."""
    value = config.get(name, known)
    if value != known and value is not None:
        raise ValueError(
            f"{name}={value!r} is more than this model computes: it knows "
            f"{known!r} alone"
        )


# --- the weights -------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a tensor of ours is found among theirs."""

    ours: str
    theirs: tuple[str, ...]  # one, or several that are stacked by rows
    turned: bool = False  # theirs is kept as (in, out)


def places(config: GPTConfig) -> Iterator[Place]:
    """Where each tensor of a model of this form is found."""
    gpt2 = config.position == "learned"
    layers = gpt2_layer if gpt2 else llama_layer
    top, stack = ("transformer", "h") if gpt2 else ("model", "layers")
    tokens = "wte" if gpt2 else "embed_tokens"
    yield Place("token.weight", (f"{top}.{tokens}.weight",))
    if gpt2:
        yield Place("position.weight", ("transformer.wpe.weight",))
    for i in range(config.layers):
        for place in layers(config):
            theirs = (f"{top}.{stack}.{i}.{name}" for name in place.theirs)
            ours = f"blocks.{i}.{place.ours}"
            yield Place(ours, tuple(theirs), place.turned)
    for kind in ("weight", "bias") if gpt2 else ("weight",):
        last = "ln_f" if gpt2 else "norm"
        yield Place(f"norm.{kind}", (f"{top}.{last}.{kind}",))
    if not config.tied:
        yield Place("head.weight", ("lm_head.weight",))


def gpt2_layer(config: GPTConfig) -> Iterator[Place]:
    """A layer of GPT-2, whose matrices are kept as (in, out)."""
    names = {"norm1": "ln_1", "norm2": "ln_2"}
    names |= {"attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj"}
    names |= {"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
    for ours, theirs in names.items():
        turned = not ours.startswith("norm")
        yield Place(f"{ours}.weight", (f"{theirs}.weight",), turned)
        yield Place(f"{ours}.bias", (f"{theirs}.bias",))


def llama_layer(config: GPTConfig) -> Iterator[Place]:
    """A layer of Llama and of those that came after it."""
    branch = config.norm_order == "branch"
    first, second = "input", "post_attention"
    if branch:
        first, second = "post_attention", "post_feedforward"
    names = {"norm1": f"{first}_layernorm", "norm2": f"{second}_layernorm"}
    names |= {f"mlp.{part}": f"mlp.{part}_proj" for part in MLP_PARTS}
    names["attention.out"] = "self_attn.o_proj"
    if config.qk_norm != "none":
        names["attention.q_norm"] = "self_attn.q_norm"
        names["attention.k_norm"] = "self_attn.k_norm"
    for ours, theirs in names.items():
        yield Place(f"{ours}.weight", (f"{theirs}.weight",))
    for kind in ("weight", "bias") if config.qkv_bias else ("weight",):
        parts = tuple(f"self_attn.{x}_proj.{kind}" for x in "qkv")
        yield Place(f"attention.qkv.{kind}", parts)


MLP_PARTS = ("gate", "up", "down")


def full_names(
    weights: Mapping[str, Tensor], config: GPTConfig
) -> dict[str, Tensor]:
    """Published weights by their full names.

    Files of a model without its head, as that of GPT-2, leave out the first
    word of every name.
    """
    top = "transformer." if config.position == "learned" else "model."
    known = (top, "lm_head.")
    return {
        name if name.startswith(known) else top + name: weight
        for name, weight in weights.items()
    }


def from_published(
    weights: Mapping[str, Tensor], config: GPTConfig
) -> dict[str, Tensor]:
    """Published weights under our names, for `GPT.load_state_dict`.

    Raises ValueError for a weight that is missing, for those left over, and
    for a head of its own if the form says that it is shared with the tokens.
    """
    rest, ours = full_names(weights, config), {}
    for place in places(config):
        try:
            parts = [rest.pop(name) for name in place.theirs]
        except KeyError as error:
            raise ValueError(f"the weights have no {error}") from error
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]  # by rows
        ours[place.ours] = whole.t() if place.turned else whole
    if config.tied:
        tokens = ours["head.weight"] = ours["token.weight"]
        if not torch.equal(rest.pop("lm_head.weight", tokens), tokens):
            raise ValueError("lm_head.weight is no copy of the tokens' matrix")
    rest = {n: w for n, w in rest.items() if not n.endswith(LEFTOVERS)}
    if rest:
        raise ValueError(f"nothing here is called {', '.join(sorted(rest))}")
    return ours


# masks and tables that old files keep beside the weights
LEFTOVERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def to_published(
    weights: Mapping[str, Tensor], config: GPTConfig
) -> dict[str, Tensor]:
    """Our weights under the published names: the way back.

    Raises ValueError for weights that no published model of the form has,
    and for missing ones that all have. It looks at names alone, not at what
    the model computes with them.
    """
    d, theirs = config.channels_per_head, {}
    keys = config.key_heads * d
    needed = {place.ours for place in places(config)}
    if missing := needed - weights.keys():
        raise ValueError(
            f"{', '.join(sorted(missing))}: a published model of this form "
            "has such weights, so choose a form with them"
        )
    if rest := weights.keys() - needed - {"head.weight"}:
        raise ValueError(
            f"{', '.join(sorted(rest))}: a published model of this form has "
            "no such weights, so choose a form without them"
        )
    for place in places(config):
        whole = weights[place.ours]
        if len(place.theirs) == 3:
            parts = whole.split([config.heads * d, keys, keys])
        else:
            parts = (whole.t() if place.turned else whole,)
        for name, part in zip(place.theirs, parts, strict=True):
            theirs[name] = part.contiguous()
    return theirs
