"""Windows and stretched rotations: equal to the library's, and to no window."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from scratchlm.generation.cache import KVCache
from scratchlm.model.embeddings import Rotary, slow_down, wave_frequencies
from scratchlm.model.gpt import GPT, gpt2_config, llama_config, next_token_loss
from scratchlm.model.heads import attention_maps, fused_attention, repeat_kv
from scratchlm.model.published import to_published
from scratchlm.model.window import (
    RollingCache,
    StretchedRotary,
    WindowAttention,
    banded_attention,
    interpolate,
    masked_attention,
    raise_base,
    reach,
    rolling_caches,
    sharpness,
    stretch,
    use_window,
    window_mask,
    yarn,
)

SMALL = llama_config(50, 24, layers=3, heads=4, channels=32, kv_heads=2)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    made = GPT(SMALL).eval()
    with torch.no_grad():  # larger, so that attention has something to say
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return made


def ids(length: int = 24, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(50, (rows, length), generator=generator)


def settings_of(**more: Any) -> dict[str, Any]:
    """The form of `SMALL` in the library's words."""
    return {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": SMALL.inner,
        "rms_norm_eps": SMALL.norm_eps,
        "max_position_embeddings": 24,
        "tie_word_embeddings": False,
        "attn_implementation": "eager",
        **more,
    }


def with_weights(theirs: PreTrainedModel, ours: GPT) -> PreTrainedModel:
    theirs.load_state_dict(to_published(ours.state_dict(), SMALL))
    return theirs.eval()


# --- the mask ----------------------------------------------------------------


def test_the_mask_by_hand() -> None:
    assert window_mask(2, 5, 3).tolist() == [
        [False, True, True, True, False],
        [False, False, True, True, True],
    ]
    sinks = window_mask(3, 6, 2, sinks=2).int().tolist()
    assert sinks == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 12))
def test_a_query_sees_so_many_and_no_future(
    queries: int, before: int, window: int
) -> None:
    mask = window_mask(queries, queries + before, window)
    for i, row in enumerate(mask):
        at = before + i
        seen = row.nonzero().flatten().tolist()
        assert seen == list(range(max(0, at - window + 1), at + 1))


def test_sinks_are_no_look_into_the_future() -> None:
    assert not window_mask(4, 4, 1, sinks=4).triu(1).any()


@pytest.mark.parametrize(("window", "sinks"), [(0, 0), (-3, 0), (2, -1)])
def test_impossible_windows_are_refused(window: int, sinks: int) -> None:
    with pytest.raises(ValueError, match=f"window of {window} and {sinks}"):
        window_mask(3, 3, window, sinks)
    with pytest.raises(ValueError, match="window of"):
        use_window(GPT(SMALL), window, sinks)


# --- attention ---------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 33), st.integers(1, 12))
def test_bands_equal_masks(length: int, window: int) -> None:
    q, k, v = (drawn(2, 3, length, 4, seed=s) for s in range(3))
    got = banded_attention(q, k, v, window)
    wanted = masked_attention(q, k, v, window)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_gradients_of_both_forms_agree() -> None:
    found = []
    for attend in (banded_attention, masked_attention):
        q, k, v = parts = [
            drawn(1, 2, 17, 4, seed=s).requires_grad_() for s in range(3)
        ]
        attend(q, k, v, 5).square().sum().backward()
        found.append([part.grad for part in parts])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_wide_window_is_full_attention() -> None:
    q = drawn(2, 4, 12, 8)
    k, v = drawn(2, 2, 12, 8, seed=1), drawn(2, 2, 12, 8, seed=2)
    wanted = fused_attention(q, k, v)
    torch.testing.assert_close(
        masked_attention(q, k, v, 12), wanted, atol=1e-5, rtol=1e-4
    )
    full, wide = model(), use_window(model(), 24)
    with torch.no_grad():
        torch.testing.assert_close(
            wide(ids()), full(ids()), atol=1e-4, rtol=1e-4
        )


def test_a_window_of_one_returns_its_own_value() -> None:
    q, k, v = (drawn(1, 2, 9, 4, seed=s) for s in range(3))
    torch.testing.assert_close(masked_attention(q, k, v, 1), v)
    torch.testing.assert_close(banded_attention(q, k, v, 1), v)


@pytest.mark.parametrize("window", [1, 4, 7, 24])
def test_equals_mistral(window: int) -> None:
    ours = model()
    config = MistralConfig(**settings_of(sliding_window=window, head_dim=8))
    theirs = with_weights(MistralForCausalLM(config), ours)
    use_window(ours, window)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(ids()), theirs(ids()).logits, atol=1e-4, rtol=1e-4
        )


# --- in a model --------------------------------------------------------------


def test_reach_is_exact() -> None:
    """Beyond it nothing counts; at its edge something does."""
    ours, window = use_window(model(), 4), 4
    far = reach(SMALL.layers, window)
    assert far == 10
    text = ids(rows=1)
    changed = text.clone()
    changed[0, 5] = (text[0, 5] + 1) % 50
    with torch.no_grad():
        moved = (ours(text) - ours(changed)).abs().amax(dim=-1)[0]
    seen = (moved > 1e-6).nonzero().flatten().tolist()
    assert seen == list(range(5, 5 + far))


def test_weights_and_names_stay() -> None:
    before = model()
    names = {name: p.data_ptr() for name, p in before.named_parameters()}
    after = use_window(before, 5)
    assert after is before
    assert names == {n: p.data_ptr() for n, p in after.named_parameters()}
    again = use_window(after, 8)
    layer = again.blocks[0].attention
    assert isinstance(layer, WindowAttention)
    assert layer.window == 8


def test_a_copy_has_its_own_window() -> None:
    full = model()
    windowed = use_window(copy.deepcopy(full), 2)
    assert not isinstance(full.blocks[0].attention, WindowAttention)
    with torch.no_grad():
        assert not torch.allclose(full(ids()), windowed(ids()), atol=1e-3)


@pytest.mark.parametrize("sinks", [0, 3])
def test_the_maps_show_the_window(sinks: int) -> None:
    ours, text = use_window(model(), 5, sinks), ids()
    mask = window_mask(24, 24, 5, sinks)
    for weights in attention_maps(ours, text):
        assert weights.shape == (2, 4, 24, 24)
        assert not weights[..., ~mask].any()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 24))
        assert weights[..., mask].min() > 0
    layer = ours.blocks[0].attention
    assert isinstance(layer, WindowAttention)
    x = drawn(2, 24, 32)
    _, _, v = layer.split(x, 0)
    mixed = layer.head_weights(x) @ repeat_kv(v, 2)
    torch.testing.assert_close(
        layer.out(mixed.transpose(1, 2).flatten(2)),
        layer(x),
        atol=1e-4,
        rtol=1e-4,
    )


def test_dropout_works_in_training_alone() -> None:
    torch.manual_seed(0)
    config = llama_config(50, 24, 1, 4, 32, dropout=0.5)
    ours = use_window(GPT(config), 4)
    text = ids()
    assert not torch.equal(ours(text), ours(text))
    ours.eval()
    assert torch.equal(ours(text), ours(text))


def test_it_learns() -> None:
    ours = use_window(GPT(SMALL), 4).train()
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-2)
    text, losses = ids(), []
    for _ in range(10):
        loss = next_token_loss(ours(text[:, :-1]), text[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5


# --- the cache ---------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 6, 30])
@pytest.mark.parametrize(
    "parts", [[24], [1] * 24, [5, 1, 1, 9, 1, 7], [2, 3, 1, 1, 1, 1, 1, 14]]
)
def test_a_rolling_cache_forgets_nothing_it_needs(
    window: int, parts: list[int]
) -> None:
    ours, text = use_window(model(), window), ids()
    caches = rolling_caches(ours, batch_size=2)
    with torch.no_grad():
        got = [ours(part, caches) for part in text.split(parts, dim=1)]
        torch.testing.assert_close(
            torch.cat(got, dim=1), ours(text), atol=1e-4, rtol=1e-4
        )
    assert all(cache.length == 24 for cache in caches)
    assert caches[0].k.shape == (2, 2, window, 8)


def test_a_growing_cache_serves_as_well() -> None:
    ours, text = use_window(model(), 5), ids()
    cache = KVCache(SMALL, batch_size=2)
    with torch.no_grad():
        got = [ours(part, cache) for part in text.split([9, 1, 1, 13], dim=1)]
        torch.testing.assert_close(
            torch.cat(got, dim=1), ours(text), atol=1e-4, rtol=1e-4
        )


def test_the_slot_is_the_position_modulo_the_window() -> None:
    cache = RollingCache(1, 1, window=4, head_size=1)
    for t in range(6):
        x = torch.full((1, 1, 1, 1), float(t))
        keys, values = cache.append(x, -x)
    assert cache.k.flatten().tolist() == [4, 5, 2, 3]
    assert keys.flatten().tolist() == [4, 5, 2, 3]
    assert torch.equal(values, -keys)
    more = torch.tensor([6.0, 7.0]).view(1, 1, 2, 1)
    keys, _ = cache.append(more, -more)
    assert keys.flatten().tolist() == [2, 3, 4, 5, 6, 7]
    assert cache.k.flatten().tolist() == [4, 5, 6, 7]


def test_caches_of_the_wrong_kind_are_refused() -> None:
    for other in (model(), use_window(model(), 4, sinks=2)):
        with pytest.raises(ValueError, match="a window and no sinks"):
            rolling_caches(other)
    cache = RollingCache(2, 2, window=3, head_size=4)
    k, v = drawn(1, 2, 1, 4), drawn(2, 2, 1, 4)
    for keys, values in ((k, k), (v, k)):
        with pytest.raises(ValueError, match="do not fit a cache"):
            cache.append(keys, values)
    assert cache.length == 0


def test_the_cache_keeps_no_gradients() -> None:
    cache = RollingCache(1, 2, window=3, head_size=4)
    x = drawn(1, 2, 5, 4).requires_grad_()
    keys, _ = cache.append(x, x)
    assert keys.requires_grad
    assert not cache.k.requires_grad


# --- stretched waves ---------------------------------------------------------


def library(
    kind: str, head: int, base: float, length: int | None = None, **more: Any
) -> tuple[Tensor, float]:
    """The waves that the library makes, and what it multiplies them by."""
    rope = {"rope_type": kind, "rope_theta": base, **more}
    config = LlamaConfig(
        hidden_size=4 * head,
        num_attention_heads=4,
        head_dim=head,
        max_position_embeddings=more.pop("trained", 4096),
        rope_parameters={k: v for k, v in rope.items() if k != "trained"},
    )
    waves, size = ROPE_INIT_FUNCTIONS[kind](config, None, seq_len=length)
    return waves, size


HEADS = [(64, 10000.0), (128, 500000.0), (16, 10000.0), (4, 100.0)]


@pytest.mark.parametrize(("head", "base"), HEADS)
@pytest.mark.parametrize("factor", [1.0, 4.0, 32.0])
def test_interpolation_is_the_linear_kind(
    head: int, base: float, factor: float
) -> None:
    wanted, _ = library("linear", head, base, factor=factor)
    got = interpolate(wave_frequencies(head, base), factor)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("head", "base"), HEADS)
@pytest.mark.parametrize(("factor", "times"), [(1.0, 4), (2.0, 4), (8.0, 1)])
def test_a_raised_base_is_the_dynamic_kind(
    head: int, base: float, factor: float, times: int
) -> None:
    wanted, _ = library("dynamic", head, base, 4096 * times, factor=factor)
    effective = factor * times - (factor - 1)
    got = raise_base(wave_frequencies(head, base), effective)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("head", "base"), HEADS)
@pytest.mark.parametrize("original", [64, 4096, 32768])
@pytest.mark.parametrize("fast", [32.0, 4.0])
def test_yarn_is_yarn(
    head: int, base: float, original: int, fast: float
) -> None:
    wanted, size = library(
        "yarn",
        head,
        base,
        factor=4.0,
        beta_fast=fast,
        original_max_position_embeddings=original,
    )
    got = yarn(wave_frequencies(head, base), 4.0, original, fast)
    torch.testing.assert_close(got, wanted)
    assert sharpness(4.0) == pytest.approx(size)


def test_slowing_down_is_the_kind_of_llama_3() -> None:
    wanted, _ = library(
        "llama3",
        128,
        500000.0,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    got = slow_down(wave_frequencies(128, 500000.0), 8.0, 8192)
    torch.testing.assert_close(got, wanted)


CHANGES: dict[str, Callable[..., Tensor]] = {
    "interpolate": interpolate,
    "raise_base": raise_base,
    "slow_down": partial(slow_down, original=64),
    "yarn": partial(yarn, original=64),
}


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 40), st.floats(10, 1e6), st.floats(1, 64, allow_nan=False)
)
def test_no_wave_gets_faster_or_slower_than_the_factor(
    name: str, pairs: int, base: float, factor: float
) -> None:
    waves = wave_frequencies(2 * pairs, base)
    ratio = waves / CHANGES[name](waves, factor=factor)
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < factor * (1 + 1e-4)
    torch.testing.assert_close(CHANGES[name](waves, factor=1.0), waves)


def test_the_ends_of_a_raised_base() -> None:
    waves = wave_frequencies(32)
    got = raise_base(waves, 8.0)
    assert got[0] == waves[0]
    torch.testing.assert_close(got[-1], waves[-1] / 8)
    torch.testing.assert_close(
        got, wave_frequencies(32, 10000 * 8 ** (32 / 30))
    )


@pytest.mark.parametrize("change", [interpolate, raise_base])
def test_impossible_stretches_are_refused(
    change: Callable[[Tensor, float], Tensor],
) -> None:
    with pytest.raises(ValueError, match=r"factor of 0\.5"):
        change(wave_frequencies(8), 0.5)
    with pytest.raises(ValueError, match="single pair"):
        change(wave_frequencies(2), 4.0)


@pytest.mark.parametrize("fast", [1.0, 0.5, float("inf")])
def test_a_ramp_needs_two_ends(fast: float) -> None:
    with pytest.raises(ValueError, match="turns more than once"):
        yarn(wave_frequencies(8), 4.0, 64, fast)


def test_nothing_changed_is_the_rotation_that_was() -> None:
    old, new = Rotary(8, 24), StretchedRotary(wave_frequencies(8), 24)
    assert torch.equal(old.cos, new.cos)
    assert torch.equal(old.sin, new.sin)


def test_scores_grow_by_the_square_of_the_size() -> None:
    plain = StretchedRotary(wave_frequencies(8), 24)
    large = StretchedRotary(wave_frequencies(8), 24, size=1.5)
    x = drawn(1, 1, 6, 8)
    a, b = plain.apply_rotary(x), large.apply_rotary(x)
    torch.testing.assert_close(
        b @ b.transpose(2, 3), 2.25 * (a @ a.transpose(2, 3))
    )


def test_interpolated_positions_are_the_old_angles() -> None:
    """Position 4t of the stretched rotation is position t of the old one."""
    old = Rotary(8, 24)
    new = StretchedRotary(interpolate(wave_frequencies(8), 4.0), 96)
    torch.testing.assert_close(new.cos[::4], old.cos)
    torch.testing.assert_close(new.sin[::4], old.sin)


def test_the_tables_survive_a_change_of_precision() -> None:
    ours = stretch(model(), 96, partial(interpolate, factor=4.0), 1.1)
    rotary = ours.get_submodule("blocks.0.attention").rotary
    assert isinstance(rotary, StretchedRotary)
    before = rotary.cos.clone()
    ours.bfloat16()
    assert torch.equal(rotary.cos, before)
    assert ours(ids(40)).dtype == torch.bfloat16


def test_a_stretched_model_equals_the_library() -> None:
    ours = model()
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 24,
    }
    config = LlamaConfig(
        **settings_of(max_position_embeddings=96, rope_parameters=rope)
    )
    theirs = with_weights(LlamaForCausalLM(config), ours)
    change = partial(yarn, factor=4.0, original=24)
    stretch(ours, 96, change, sharpness(4.0))
    assert ours.config.context == 96
    with torch.no_grad():
        torch.testing.assert_close(
            ours(ids(96)), theirs(ids(96)).logits, atol=1e-4, rtol=1e-4
        )


def test_the_old_context_is_refused_and_the_new_one_read() -> None:
    ours = model()
    with pytest.raises(ValueError, match="context of 24"):
        ours(ids(25))
    stretch(ours, 50, lambda waves: waves)
    assert ours(ids(50)).shape == (2, 50, 50)
    with pytest.raises(ValueError, match="context of 50"):
        ours(ids(51))


def test_other_models_are_refused() -> None:
    learned = GPT(gpt2_config(50, 24, 1, 2, 16))
    with pytest.raises(ValueError, match="no rows"):
        stretch(learned, 48, lambda waves: waves)
    slowed = GPT(replace(SMALL, rope_factor=8.0))
    with pytest.raises(ValueError, match="slowed already"):
        stretch(slowed, 48, lambda waves: waves)


def test_a_window_and_a_stretch_go_together() -> None:
    """With a window, only distances below it matter: any table will do."""
    ours = use_window(model(), 6)
    text = ids(60)
    stretch(ours, 60, lambda waves: waves)
    caches = rolling_caches(ours, batch_size=2)
    with torch.no_grad():
        got = torch.cat([ours(x, caches) for x in text.split(1, dim=1)], 1)
        torch.testing.assert_close(got, ours(text), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_rolling_cache_is_of_the_models_type() -> None:
    made = use_window(model().bfloat16(), 5)
    caches = rolling_caches(made, batch_size=2)
    whole = made(ids())
    parts = [made(part, caches) for part in ids().split([9, 1, 1, 13], dim=1)]
    assert {cache.k.dtype for cache in caches} == {torch.bfloat16}
    assert {cache.v.dtype for cache in caches} == {torch.bfloat16}
    together = torch.cat(parts, dim=1)
    torch.testing.assert_close(together, whole, atol=0.1, rtol=0.05)


def test_waves_are_stretched_once() -> None:
    made = stretch(model(), 48, partial(interpolate, factor=2.0))
    with pytest.raises(ValueError, match="changed already"):
        stretch(made, 96, partial(interpolate, factor=2.0))


@torch.no_grad()
def test_a_stretch_that_is_refused_changes_nothing() -> None:
    made = model()
    before = made(ids())
    with pytest.raises(ValueError, match="context=0"):
        stretch(made, 0, partial(interpolate, factor=2.0))
    assert torch.equal(made(ids()), before)


def test_yarn_needs_fast_and_slow_waves() -> None:
    with pytest.raises(ValueError, match="equally fast"):
        yarn(wave_frequencies(8, 1.0), 4.0, 32)
