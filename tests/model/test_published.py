"""Published forms, each against the library's model of the same weights."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from scratchlm.generation.cache import KVCache
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    parameter_table,
)
from scratchlm.model.published import (
    PUBLISHED,
    from_published,
    read_form,
    to_published,
)

SMALL: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SMALL_GPT2: dict[str, Any] = {
    "vocab_size": 101,
    "n_positions": 64,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 6,
}
THEIRS: dict[str, transformers.PreTrainedConfig] = {
    "gpt2": transformers.GPT2Config(**SMALL_GPT2),
    "gpt2-inner": transformers.GPT2Config(
        **SMALL_GPT2, n_inner=50, layer_norm_epsilon=0.01
    ),
    "llama-2": transformers.LlamaConfig(
        **{**SMALL, "num_key_value_heads": 6}, rms_norm_eps=0.01
    ),
    "llama-3.1": transformers.LlamaConfig(
        **SMALL, rope_parameters=LLAMA_3_ROPE
    ),
    "llama-3.2": transformers.LlamaConfig(
        **SMALL, rope_parameters=LLAMA_3_ROPE, tie_word_embeddings=True
    ),
    "smollm2": transformers.LlamaConfig(
        **{**SMALL, "num_attention_heads": 3, "num_key_value_heads": 1},
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    ),
    "qwen2.5": transformers.Qwen2Config(
        **SMALL, rms_norm_eps=1e-6, tie_word_embeddings=True
    ),
    "qwen3": transformers.Qwen3Config(**SMALL, head_dim=12),
    "olmo2": transformers.Olmo2Config(**SMALL),
}


def random_model(
    config: transformers.PreTrainedConfig,
) -> transformers.PreTrainedModel:
    """The library's model, whose every weight looks trained."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=parameter.shape[1] ** -0.5)
        else:  # norms about 1, biases about 0: of every size
            parameter.data.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def saved(model: transformers.PreTrainedModel) -> dict[str, Tensor]:
    """What `save_pretrained` would write: tied weights once."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


def ours(model: transformers.PreTrainedModel) -> GPT:
    """Our model of the same form, with the same weights."""
    form = read_form(model.config.to_dict())
    built = GPT(form)
    built.load_state_dict(from_published(saved(model), form))
    return built.eval()


@pytest.mark.parametrize("name", THEIRS)
@torch.no_grad()
def test_each_form_equals_the_library(name: str) -> None:
    theirs = random_model(THEIRS[name])
    ids = torch.randint(101, (2, 64), generator=torch.Generator())
    expected = theirs(ids).logits
    assert expected.std() > 0.3  # there is something to compare
    torch.testing.assert_close(ours(theirs)(ids), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", THEIRS)
def test_the_way_back_is_the_library_s_own_file(name: str) -> None:
    theirs = random_model(THEIRS[name])
    model = ours(theirs)
    back = to_published(model.state_dict(), model.config)
    state = saved(theirs)
    assert back.keys() == state.keys()
    for key, tensor in state.items():
        assert back[key].is_contiguous()
        assert torch.equal(back[key], tensor)


@pytest.mark.parametrize("name", THEIRS)
@torch.no_grad()
def test_each_form_goes_on_from_a_store(name: str) -> None:
    """What a part after the other computes is what the whole does."""
    model = ours(random_model(THEIRS[name]))
    ids = torch.randint(101, (2, 40), generator=torch.Generator())
    config = model.config
    cache = KVCache(config, 2, dtype=torch.float32)
    parts = [model(part, cache) for part in ids.split([25, 1, 14], dim=1)]
    torch.testing.assert_close(
        torch.cat(parts, dim=1), model(ids), rtol=0, atol=1e-4
    )


# To the parameter; tests/solutions counts the library's models of these forms.
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


def test_the_published_models_have_their_published_sizes() -> None:
    found = {n: sum(parameter_table(c).values()) for n, c in PUBLISHED.items()}
    assert found == SIZES


@pytest.mark.parametrize("name", THEIRS)
def test_the_table_counts_what_the_model_has(name: str) -> None:
    form = read_form(THEIRS[name].to_dict())
    counted = sum(p.numel() for p in GPT(form).parameters())
    assert sum(parameter_table(form).values()) == counted


def test_a_form_is_read_from_either_spelling_of_the_rotation() -> None:
    new = THEIRS["llama-3.1"].to_dict()
    old = {k: v for k, v in new.items() if k != "rope_parameters"}
    scaling = {k: v for k, v in LLAMA_3_ROPE.items() if k != "rope_theta"}
    old |= {"rope_theta": 500.0, "rope_scaling": scaling}
    assert read_form(old) == read_form(new)
    assert read_form(old).rope_original == 16
    plain = {**old, "rope_scaling": None}
    assert read_form(plain).rope_factor == 1.0
    assert read_form(plain).rope_base == 500.0


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("llama-2", {"model_type": "mamba"}, "mamba"),
        ("llama-2", {"model_type": None}, "model_type"),
        ("llama-2", {"hidden_act": "gelu"}, "hidden_act"),
        ("llama-2", {"mlp_bias": True}, "mlp_bias"),
        ("llama-2", {"attention_bias": True}, "attention_bias"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window"),
        ("gpt2", {"activation_function": "relu"}, "activation_function"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        (
            "llama-2",
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
        ("llama-2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("qwen3", {"head_dim": None}, "head_dim is missing"),
        ("qwen3", {"num_key_value_heads": None}, "heads is missing"),
        (
            "llama-3.1",
            {"rope_parameters": {**LLAMA_3_ROPE, "rope_type": "yarn"}},
            "rope_type='yarn'",
        ),
        (
            "llama-3.1",
            {"rope_parameters": {**LLAMA_3_ROPE, "low_freq_factor": 2.0}},
            "low_freq_factor",
        ),
    ],
)
def test_what_is_more_than_we_compute_is_refused_by_name(
    name: str, change: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        read_form({**THEIRS[name].to_dict(), **change})


def test_weights_that_are_missing_or_left_over_are_named() -> None:
    model = random_model(THEIRS["qwen3"])
    form, weights = read_form(model.config.to_dict()), saved(model)
    name = "model.layers.1.self_attn.k_norm.weight"
    with pytest.raises(ValueError, match=name):
        from_published({k: w for k, w in weights.items() if k != name}, form)
    more = {**weights, "model.layers.1.mlp.router.weight": torch.ones(2)}
    with pytest.raises(ValueError, match="router"):
        from_published(more, form)
    old = {
        **weights,
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(1),
    }
    assert from_published(old, form).keys() == GPT(form).state_dict().keys()


def test_a_second_head_must_be_the_copy_that_the_form_promises() -> None:
    """The file of Qwen3 0.6B is one that holds the same matrix twice."""
    model = random_model(THEIRS["llama-3.2"])
    form, weights = read_form(model.config.to_dict()), saved(model)
    head = weights["model.embed_tokens.weight"]
    twice = from_published({**weights, "lm_head.weight": head.clone()}, form)
    assert twice["head.weight"] is twice["token.weight"]
    with pytest.raises(ValueError, match="no copy"):
        from_published({**weights, "lm_head.weight": head + 1}, form)


@pytest.mark.parametrize("name", ["gpt2", "llama-3.2", "olmo2"])
def test_a_file_without_a_head_has_shorter_names(name: str) -> None:
    model = random_model(THEIRS[name])
    form, weights = read_form(model.config.to_dict()), saved(model)
    short = dict(model.base_model.state_dict())
    if not form.tied:
        short["lm_head.weight"] = weights["lm_head.weight"]
    assert not short.keys() & (weights.keys() - {"lm_head.weight"})
    found, wanted = (from_published(w, form) for w in (short, weights))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_the_mean_of_two_norms_is_not_the_norm_of_all_heads() -> None:
    """Qwen3 normalizes each head, OLMo 2 all of them at once."""
    each = replace(read_form(THEIRS["olmo2"].to_dict()), qk_norm="rmsnorm")
    name = "blocks.0.attention.{}_norm.weight"
    assert GPT(each).state_dict()[name.format("q")].shape == (8,)
    both = GPT(replace(each, qk_norm="rmsnorm_all")).state_dict()
    assert both[name.format("q")].shape == (48,)
    assert both[name.format("k")].shape == (16,)


def test_heads_that_do_not_divide_the_channels() -> None:
    file = {
        **SMALL,
        "model_type": "qwen3",
        "num_attention_heads": 10,  # of 48 channels
        "rms_norm_eps": 1e-6,
        "head_dim": 16,
    }
    form = read_form(file)
    assert (form.channels, form.heads, form.channels_per_head) == (48, 10, 16)
    odd = read_form({**file, "hidden_size": 30, "num_attention_heads": 2})
    assert odd.channels_per_head == 16
    with pytest.raises(ValueError, match="do not split"):
        read_form({**file, "model_type": "llama", "head_dim": None})


def test_weights_without_a_published_place_are_refused() -> None:
    config = GPTConfig(
        64, 32, 1, 2, 16, norm="rmsnorm", mlp="swiglu", position="rotary"
    )
    with pytest.raises(ValueError, match=r"attention\.qkv\.bias"):
        to_published(GPT(config).state_dict(), config)
    bare = replace(gpt2_config(64, 32, 1, 2, 16), bias=False)
    with pytest.raises(ValueError, match="has such weights"):
        to_published(GPT(bare).state_dict(), bare)
