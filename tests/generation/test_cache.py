"""The cache: the same logits, in any chunks; memory; overflow."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchlm.generation.cache import KVCache, LayerCache, cache_bytes
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config

FORMS = {
    "gpt2": gpt2_config(37, 24, 3, 4, 32),
    "llama": llama_config(37, 24, 3, 4, 32),
    "grouped": llama_config(37, 24, 3, 4, 32, kv_heads=2),
    "multi-query": llama_config(37, 24, 3, 4, 32, kv_heads=1),
    "head size": GPTConfig(37, 24, 3, 4, 32, kv_heads=2, head_size=10),
    "post-norm": GPTConfig(37, 24, 2, 4, 32, norm_order="post"),
}


def build(config: GPTConfig) -> GPT:
    """A model whose attention is sharp, so that a wrong key is seen."""
    torch.manual_seed(0)
    model = GPT(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {name: build(config) for name, config in FORMS.items()}


def text(batch: int, length: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(37, (batch, length), generator=generator)


@torch.no_grad()
def in_chunks(
    model: GPT, ids: torch.Tensor, sizes: list[int], cache: KVCache
) -> torch.Tensor:
    return torch.cat([model(part, cache) for part in ids.split(sizes, 1)], 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [[24], [1] * 24, [3] * 8, [7, 7, 7, 3]])
def test_cached_logits_are_the_uncached(form: str, sizes: list[int]) -> None:
    model, ids = MODELS[form], text(2, 24)
    with torch.no_grad():
        whole = model(ids)
    cached = in_chunks(model, ids, sizes, KVCache(model.config, 2))
    assert torch.allclose(cached, whole, atol=1e-4, rtol=1e-4)
    assert torch.equal(cached.argmax(-1), whole.argmax(-1))


@settings(deadline=None, max_examples=40)
@given(
    form=st.sampled_from(sorted(FORMS)),
    cuts=st.sets(st.integers(1, 23)),
    length=st.integers(1, 24),
    batch=st.integers(1, 3),
)
def test_any_chunks_will_do(
    form: str, cuts: set[int], length: int, batch: int
) -> None:
    model, ids = MODELS[form], text(batch, length, seed=length)
    edges = [0, *sorted(c for c in cuts if c < length), length]
    sizes = [b - a for a, b in pairwise(edges)]
    cache = KVCache(model.config, batch, capacity=length)
    with torch.no_grad():
        whole = model(ids)
    cached = in_chunks(model, ids, sizes, cache)
    assert cache.length == length
    assert torch.allclose(cached, whole, atol=1e-4, rtol=1e-4)


def test_a_cache_of_double_precision_is_exact() -> None:
    model = build(FORMS["gpt2"]).double()
    cache = KVCache(model.config, 1, dtype=torch.float64)
    ids = text(1, 20)
    with torch.no_grad():
        gap = in_chunks(model, ids, [5, 1, 14], cache) - model(ids)
    assert gap.abs().max() < 1e-12


def test_rewinding_takes_back_what_was_read() -> None:
    model, ids = MODELS["grouped"], text(1, 20)
    cache = KVCache(model.config)
    first = in_chunks(model, ids, [12, 8], cache)
    cache.rewind(12)
    assert cache.length == 12
    in_chunks(model, text(1, 5, seed=9), [5], cache)  # another ending
    cache.rewind(12)
    again = in_chunks(model, ids[:, 12:], [8], cache)
    assert torch.allclose(again, first[:, 12:], atol=1e-5)
    cache.rewind()
    assert torch.allclose(in_chunks(model, ids, [20], cache), first, atol=1e-4)


def test_append_returns_views_with_the_past_first() -> None:
    layer = LayerCache(1, 2, capacity=5, head_size=3)
    a, b = torch.ones(1, 2, 2, 3), 2 * torch.ones(1, 2, 1, 3)
    layer.append(a, 10 * a)
    k, v = layer.append(b, 10 * b)
    assert layer.length == 3
    assert k[0, 1, :, 0].tolist() == [1, 1, 2]
    assert v[0, 1, :, 0].tolist() == [10, 10, 20]
    assert k.data_ptr() == layer.k.data_ptr()


def test_overflow_is_an_error_and_stores_nothing() -> None:
    layer = LayerCache(1, 1, capacity=4, head_size=2)
    layer.append(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))
    two = torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match="3 of 4 positions are taken, 2 more"):
        layer.append(two, two)
    assert layer.length == 3
    assert layer.k.sum() == 0


def test_a_cache_of_another_batch_or_model_is_refused() -> None:
    layer = LayerCache(2, 1, capacity=4, head_size=2)
    k = torch.zeros(2, 1, 1, 2)
    for wrong in (k[:1], k[..., :1], torch.cat([k, k], 1)):
        with pytest.raises(ValueError, match=r"for \(2, 1, T, 2\)"):
            layer.append(wrong, wrong)
    with pytest.raises(ValueError, match="do not fit"):
        layer.append(k, torch.cat([k, k], 2))
    with pytest.raises(ValueError, match="cannot rewind to 1: 0"):
        layer.rewind(1)
    with pytest.raises(ValueError, match="cannot rewind"):
        layer.rewind(-1)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_are_as_computed(form: str) -> None:
    config = FORMS[form]
    assert cache_bytes(config) == KVCache(config).bytes
    cache = KVCache(config, 3, 10, dtype=torch.bfloat16)
    assert cache_bytes(config, 3, 10, 2) == cache.bytes


def test_it_is_a_sequence_of_layers() -> None:
    cache = KVCache(FORMS["gpt2"])
    assert len(cache) == 3
    assert list(cache) == [cache[0], cache[1], cache[2]]
    assert cache[-2:] == [cache[1], cache[2]]
    assert cache[0].capacity == 24


def test_llama_2_needs_two_gibibytes() -> None:
    assert cache_bytes(llama_config(), bytes_per_number=2) == 2 * 2**30


def test_gradients_are_not_kept() -> None:
    model = MODELS["gpt2"]
    cache = KVCache(model.config)
    model(text(1, 4), cache)
    assert not cache[0].k.requires_grad
    assert not cache[0].v.requires_grad


def test_memory_is_of_the_kind_and_at_the_place_asked_for() -> None:
    cache = KVCache(FORMS["grouped"], 2, 5, torch.bfloat16, "meta")
    for layer in cache:
        for memory in (layer.k, layer.v):
            assert memory.dtype == torch.bfloat16
            assert memory.is_meta
            assert memory.shape == (2, 2, 5, 8)
    plain = KVCache(FORMS["grouped"])
    assert plain[0].k.dtype == plain[0].v.dtype == torch.float32
    assert plain[0].k.shape == (1, 2, 24, 8)
    assert plain.length == 0


def test_bytes_count_keys_and_values() -> None:
    cache = KVCache(FORMS["gpt2"])
    cache[1].v = torch.zeros(7, dtype=torch.float64)
    each = 4 * 32 * 24  # numbers of four bytes, for all heads and positions
    assert cache.bytes == 5 * each + 56


def test_all_layers_are_rewound() -> None:
    cache = KVCache(FORMS["gpt2"])
    with torch.no_grad():
        MODELS["gpt2"](text(1, 6), cache)
    cache.rewind(4)
    assert [layer.length for layer in cache] == [4, 4, 4]
    with pytest.raises(ValueError, match="cannot rewind to 5: 4 positions"):
        cache.rewind(5)
    cache.rewind(4)
    cache.rewind()
    assert [layer.length for layer in cache] == [0, 0, 0]
