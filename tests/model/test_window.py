"""Windows and stretched waves, held against the library's."""

import math
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from scratchlm.generation.cache import KVCache
from scratchlm.model.attention import causal_mask
from scratchlm.model.gpt import GPT, gpt2_config, llama_config
from scratchlm.model.published import from_published, read_form, to_published
from scratchlm.model.window import (
    WAYS,
    RollingStore,
    StretchedRotary,
    WindowedAttention,
    see_window,
    stretch,
    stretched_waves,
    window_mask,
    yarn_frequencies,
)

CONFIG = llama_config(50, 16, layers=3, heads=4, channels=32, kv_heads=2)
SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def small(seed: int = 0) -> GPT:
    """A model whose attention is not even, as if it were trained."""
    torch.manual_seed(seed)
    model = GPT(CONFIG).eval()
    for block in model.blocks:
        block.attention.qkv.weight.data *= 10
        block.attention.out.weight.data *= 20
    return model


def ids(length: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(50, (batch, length), generator=generator)


# --- windows -----------------------------------------------------------------


@pytest.mark.parametrize("sinks", [0, 1, 3])
@pytest.mark.parametrize("window", [1, 2, 5, 30])
@pytest.mark.parametrize(("queries", "keys"), [(9, 9), (1, 9), (4, 9)])
def test_a_mask_by_hand(
    queries: int, keys: int, window: int, sinks: int
) -> None:
    mask = window_mask(queries, keys, window, sinks)
    for i in range(queries):
        place = keys - queries + i
        for j in range(keys):
            near = place - window < j <= place
            assert mask[i, j].item() == (near or (j < sinks and j <= place))


def test_a_wide_window_is_the_causal_mask() -> None:
    assert torch.equal(window_mask(7, 7, 7), causal_mask(7, 7))
    with pytest.raises(ValueError, match="a window of 0 sees nothing"):
        window_mask(3, 3, 0)


@torch.no_grad()
def test_a_wide_window_changes_nothing() -> None:
    model = small()
    wide = see_window(model, 16)
    torch.testing.assert_close(wide(ids(16)), model(ids(16)))
    assert isinstance(wide.blocks[0].attention, WindowedAttention)
    assert not isinstance(model.blocks[0].attention, WindowedAttention)


@torch.no_grad()
def test_equals_the_window_of_mistral() -> None:
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        **SMALL,
        max_position_embeddings=24,
        sliding_window=5,
        attn_implementation="eager",
    )
    theirs = transformers.MistralForCausalLM(config).eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
    form = read_form(
        transformers.LlamaConfig(**SMALL, max_position_embeddings=24).to_dict()
    )
    model = GPT(form).eval()
    model.load_state_dict(from_published(dict(theirs.state_dict()), form))
    wanted = theirs(ids(24)).logits
    got = see_window(model, 5)(ids(24))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)
    assert (model(ids(24)) - wanted).abs().max() > 0.1


def test_news_travels_a_window_for_each_layer() -> None:
    model = see_window(small(), 3)
    x = model.token(ids(16, batch=1)).detach().requires_grad_()
    out = x
    for block in model.blocks:
        out = block(out)
    (grad,) = torch.autograd.grad(out[0, 15].sum(), x)
    heard = grad[0].abs().sum(dim=-1) > 0
    first = 15 - 3 * (3 - 1)  # three layers of window 3
    assert heard.tolist() == [place >= first for place in range(16)]


@pytest.mark.parametrize("sinks", [0, 2])
@torch.no_grad()
def test_a_rolling_store_is_all_that_a_window_needs(sinks: int) -> None:
    model = see_window(small(), 4, sinks)
    text = ids(16)
    whole = model(text)
    stores = [RollingStore(4, sinks) for _ in range(CONFIG.layers)]
    parts = [model(part, stores) for part in text.split([1, 6, 1, 1, 5, 2], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    for store in stores:
        assert store.length == 16
        assert store.held is not None
        assert store.held[0].shape[2] == 3 + sinks


@torch.no_grad()
def test_a_full_cache_serves_as_well() -> None:
    model = see_window(small(), 4, 1)
    text = ids(16)
    cache = KVCache(CONFIG, batch_size=2)
    parts = [model(part, cache) for part in text.split([5, 1, 10], 1)]
    torch.testing.assert_close(
        torch.cat(parts, 1), model(text), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_a_window_of_one_token_hears_itself_alone() -> None:
    model = see_window(small(), 1)
    alone = torch.cat([model(ids(16)[:, i : i + 1]) for i in range(16)], 1)
    torch.testing.assert_close(model(ids(16)), alone, atol=1e-5, rtol=1e-4)


# --- waves -------------------------------------------------------------------


def library(kind: str, factor: float, original: int, **more: Any) -> Any:
    """Frequencies and size by the library's own function."""
    parameters = {"rope_type": kind, "rope_theta": 10000.0, "factor": factor}
    config = transformers.LlamaConfig(
        **SMALL,
        head_dim=32,
        max_position_embeddings=original,
        rope_parameters={
            **parameters,
            "original_max_position_embeddings": original,
            **more,
        },
    )
    return ROPE_INIT_FUNCTIONS[kind], config


@pytest.mark.parametrize("original", [64, 300, 4096])
@pytest.mark.parametrize("factor", [1.5, 4.0, 16.0])
@pytest.mark.parametrize("way", ["linear", "llama", "yarn"])
def test_waves_are_those_of_the_library(
    way: str, factor: float, original: int
) -> None:
    if way == "llama":
        more = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        function, config = library("llama3", factor, original, **more)
    else:
        function, config = library(way, factor, original)
    wanted, size = function(config, torch.device("cpu"))
    got, ours = stretched_waves(way, 32, 10000.0, factor, original)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0)
    assert ours == pytest.approx(size)


@pytest.mark.parametrize("factor", [2, 8])
def test_another_base_is_the_library_s_dynamic_one(factor: int) -> None:
    function, config = library("dynamic", 1.0, 64)
    wanted, _ = function(config, torch.device("cpu"), 64 * factor)
    got, size = stretched_waves("ntk", 32, 10000.0, factor, 64)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0)
    assert size == 1
    plain, _ = stretched_waves("plain", 32, 10000.0, factor, 64)
    assert got[0] == plain[0]
    torch.testing.assert_close(plain[-1] / got[-1], torch.tensor(factor * 1.0))


def test_yarn_keeps_the_quick_and_slows_the_slow() -> None:
    plain, _ = stretched_waves("plain", 64, 10000.0, 4, 4096)
    ratio = plain / yarn_frequencies(64, 10000.0, 4, 4096)
    turns = 4096 * plain / (2 * math.pi)
    assert (ratio[turns > 40] == 1).all()
    torch.testing.assert_close(
        ratio[turns < 0.7], torch.full((int((turns < 0.7).sum()),), 4.0)
    )
    assert (ratio.diff() >= 0).all()


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no way 'longer': choose one of"):
        stretched_waves("longer", 32, 10000.0, 4, 64)
    with pytest.raises(ValueError, match="learned positions have no waves"):
        stretch(GPT(gpt2_config(9, 8, 1, 1, 4)), "yarn", 2)


@torch.no_grad()
def test_equals_a_llama_with_yarn() -> None:
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **SMALL,
            max_position_embeddings=64,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        )
    ).eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
    form = read_form(
        transformers.LlamaConfig(**SMALL, max_position_embeddings=16).to_dict()
    )
    model = GPT(form).eval()
    model.load_state_dict(from_published(dict(theirs.state_dict()), form))
    got = stretch(model, "yarn", 4)(ids(64))
    torch.testing.assert_close(got, theirs(ids(64)).logits, atol=1e-4, rtol=0)
    back = to_published(model.state_dict(), form)
    assert torch.equal(back["lm_head.weight"], theirs.lm_head.weight)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_stretched_model_reads_more_and_shares_nothing(way: str) -> None:
    model = small()
    longer = stretch(model, way, 2)
    assert longer.config.context == 32
    assert longer(ids(32)).shape == (2, 32, 50)
    cache = KVCache(longer.config, batch_size=2)
    parts = [longer(part, cache) for part in ids(32).split([20, 1, 11], 1)]
    torch.testing.assert_close(
        torch.cat(parts, 1), longer(ids(32)), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(ValueError, match="do not fit a context of 16"):
        model(ids(32))
    same = torch.allclose(longer(ids(16)), model(ids(16)), atol=1e-6)
    assert same is (way == "plain")
    mine = longer.blocks[0].attention.qkv.weight
    assert mine.data_ptr() != model.blocks[0].attention.qkv.weight.data_ptr()


def test_tables_keep_their_numbers_in_other_types() -> None:
    rotary = StretchedRotary("linear", 8, 10000.0, 4.0, 16)
    before = rotary.cos.clone()
    rotary.bfloat16()
    assert torch.equal(rotary.cos, before)
