"""Many heads: both forms equal, groups, stores, positions, errors."""

from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from scratchlm.model.attention import (
    SingleHeadAttention,
    scaled_dot_product_attention,
)
from scratchlm.model.embeddings import Rotary
from scratchlm.model.heads import (
    MultiHeadAttention,
    attention_maps,
    fused_attention,
    repeat_kv,
)

CHANNELS, HEADS, TIME = 24, 6, 11


class GrowingStore:
    """The plainest store there is: it concatenates."""

    def __init__(self) -> None:
        self.length = 0
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if self.k is not None and self.v is not None:
            k = torch.cat([self.k, k], dim=2)
            v = torch.cat([self.v, v], dim=2)
        self.k, self.v, self.length = k, v, k.shape[2]
        return k, v


def build(
    kv_heads: int | None = None,
    rotary: Rotary | None = None,
    reference: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
) -> MultiHeadAttention:
    """A layer with weights that look trained, the same at every call."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        CHANNELS, HEADS, kv_heads, dropout, bias, rotary, reference
    )
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=CHANNELS**-0.5)
    return layer


def inputs(batch: int = 2, time: int = TIME) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, time, CHANNELS, generator=generator)


@pytest.mark.parametrize("kv_heads", [None, 3, 2, 1])
@pytest.mark.parametrize("rotated", [False, True])
def test_both_forms_agree(kv_heads: int | None, rotated: bool) -> None:
    rotary = Rotary(CHANNELS // HEADS, 32) if rotated else None
    fast = build(kv_heads, rotary)
    plain = build(kv_heads, rotary, reference=True)
    x = inputs()
    assert torch.allclose(fast(x), plain(x), atol=1e-5)
    fast(x).square().sum().backward()
    plain(x).square().sum().backward()
    for a, b in zip(fast.parameters(), plain.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunks", [(11,), (4, 3, 1, 3), (1,) * 11])
@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("reference", [False, True])
def test_chunks_through_a_store_equal_the_whole(
    chunks: tuple[int, ...], kv_heads: int | None, reference: bool
) -> None:
    rotary = Rotary(CHANNELS // HEADS, 32)
    layer = build(kv_heads, rotary, reference)
    x = inputs()
    store = GrowingStore()
    pieces = [layer(piece, store) for piece in x.split(list(chunks), dim=1)]
    assert store.length == TIME
    assert store.k is not None
    assert store.k.shape[1] == (kv_heads or HEADS)  # not repeated
    assert torch.allclose(torch.cat(pieces, dim=1), layer(x), atol=1e-5)


@pytest.mark.parametrize("reference", [False, True])
def test_the_future_does_not_change_the_past(reference: bool) -> None:
    layer = build(2, Rotary(CHANNELS // HEADS, 32), reference)
    x = inputs()
    before = layer(x)
    x[:, 6:] += 5
    assert torch.equal(layer(x)[:, :6], before[:, :6])


def test_equals_the_library_layer() -> None:
    layer = build(reference=True)
    theirs = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(layer.qkv.weight)
        theirs.in_proj_bias.copy_(layer.qkv.bias)
        theirs.out_proj.weight.copy_(layer.out.weight)
        theirs.out_proj.bias.copy_(layer.out.bias)
    x = inputs()
    mask = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    wanted, weights = theirs(
        x, x, x, attn_mask=mask, average_attn_weights=False
    )
    assert torch.allclose(layer(x), wanted, atol=1e-5)
    assert torch.allclose(layer.head_weights(x), weights, atol=1e-5)


def test_one_head_is_the_single_head() -> None:
    torch.manual_seed(1)
    single = SingleHeadAttention(8, 8)
    layer = MultiHeadAttention(8, heads=1, bias=False)
    with torch.no_grad():
        parts = [single.query.weight, single.key.weight, single.value.weight]
        layer.qkv.weight.copy_(torch.cat(parts))
        layer.out.weight.copy_(torch.eye(8))
    x = torch.randn(2, 5, 8)
    assert torch.allclose(layer(x), single(x), atol=1e-6)


def test_each_head_attends_by_itself() -> None:
    layer = build(bias=False)
    q, k, v = layer.split(inputs(), start=0)
    size = CHANNELS // HEADS
    attended = torch.cat(
        [
            scaled_dot_product_attention(q[:, h], k[:, h], v[:, h])
            for h in range(HEADS)
        ],
        dim=-1,
    )
    wanted = attended @ layer.out.weight.T
    assert q.shape == k.shape == v.shape == (2, HEADS, TIME, size)
    assert torch.allclose(layer(inputs()), wanted, atol=1e-5)


def test_neighbors_share_keys() -> None:
    x = torch.arange(2.0).view(1, 2, 1, 1)
    assert repeat_kv(x, 3).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert repeat_kv(x, 1) is x


def test_grouped_heads_are_multi_head_with_equal_keys() -> None:
    grouped = build(kv_heads=2, bias=False)
    full = build(bias=False)
    size, groups = CHANNELS // HEADS, HEADS // 2
    q, k, v = grouped.qkv.weight.split([CHANNELS, 2 * size, 2 * size])

    def copies(rows: Tensor) -> Tensor:
        heads = rows.view(2, size, CHANNELS)
        return heads.repeat_interleave(groups, dim=0).flatten(0, 1)

    with torch.no_grad():
        full.qkv.weight.copy_(torch.cat([q, copies(k), copies(v)]))
        full.out.weight.copy_(grouped.out.weight)
    assert torch.allclose(full(inputs()), grouped(inputs()), atol=1e-5)
    few = sum(p.numel() for p in grouped.parameters())
    many = sum(p.numel() for p in full.parameters())
    assert many - few == 2 * (HEADS - 2) * size * CHANNELS


def test_a_start_shifts_positions_not_answers() -> None:
    """With rotary positions only distances count: a shift changes nothing."""
    rotary = Rotary(CHANNELS // HEADS, 64)
    layer = build(rotary=rotary)
    x = inputs()
    at_zero = fused_attention(*layer.split(x, start=0))
    later = fused_attention(*layer.split(x, start=40))
    assert torch.allclose(at_zero, later, atol=1e-4)


def test_weights_for_pictures_are_those_that_mix() -> None:
    layer = build(kv_heads=3, bias=False)
    x = inputs()
    weights = layer.head_weights(x)
    assert weights.shape == (2, HEADS, TIME, TIME)
    assert bool((weights.triu(1) == 0).all())
    _, _, v = layer.split(x, start=0)
    attended = weights @ repeat_kv(v, 2)
    wanted = attended.transpose(1, 2).flatten(2) @ layer.out.weight.T
    assert torch.allclose(layer(x), wanted, atol=1e-5)


@pytest.mark.parametrize("reference", [False, True])
def test_dropout_in_training_only(reference: bool) -> None:
    layer = build(dropout=0.5, reference=reference)
    x = inputs()
    torch.manual_seed(5)
    first, second = layer(x), layer(x)
    assert not torch.allclose(first, second)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert torch.allclose(layer(x), build()(x), atol=1e-5)


@pytest.mark.parametrize("reference", [False, True])
def test_dropout_is_on_weights_and_on_what_is_added(reference: bool) -> None:
    layer = build(dropout=0.5, reference=reference)
    q, k, v = layer.split(inputs(), start=0)
    # The first position has one key: its weight of 1 is dropped or doubled.
    torch.manual_seed(8)
    first = layer.attention(q, k, v)[:, :, 0]  # (B, H, D)
    shares = (first / v[:, :, 0]).flatten(0, 1)
    assert torch.allclose(shares, shares[:, :1].expand_as(shares), atol=1e-4)
    assert {round(s, 3) for s in shares[:, 0].tolist()} == {0.0, 2.0}
    # On the way out single channels are dropped.
    nn.init.zeros_(layer.out.weight)
    nn.init.ones_(layer.out.bias)
    assert set(layer(inputs()).flatten().tolist()) == {0.0, 2.0}
    assert set(layer.eval()(inputs()).flatten().tolist()) == {1.0}


@pytest.mark.parametrize("reference", [False, True])
def test_no_chance_where_the_layer_does_not_train(reference: bool) -> None:
    layer = build(dropout=0.5, reference=reference).eval()
    q, k, v = layer.split(inputs(), start=0)
    plain = build(reference=reference).attention(q, k, v)
    assert torch.equal(layer.attention(q, k, v), plain)


def test_queries_and_keys_are_normalized_and_then_rotated() -> None:
    size, rotary = CHANNELS // HEADS, Rotary(CHANNELS // HEADS, 32)
    torch.manual_seed(0)
    plain = MultiHeadAttention(CHANNELS, HEADS, 2)
    layer = MultiHeadAttention(CHANNELS, HEADS, 2, rotary=rotary, qk_norm=True)
    layer.load_state_dict(plain.state_dict())
    q, k, v = plain.split(inputs(), start=0)
    got = layer.split(inputs(), start=3)
    for part, other in zip((q, k), got[:2], strict=True):
        normal = nn.functional.layer_norm(part, (size,))
        assert torch.allclose(other, rotary.apply_rotary(normal, 3), atol=1e-5)
    assert torch.equal(got[2], v)
    assert not torch.allclose(layer(inputs()), plain(inputs()), atol=1e-3)


def test_the_form_is_the_one_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def count(*arguments: Tensor, **options: object) -> Tensor:
        calls.append(len(arguments))
        return arguments[0]

    kernel = "torch.nn.functional.scaled_dot_product_attention"
    monkeypatch.setattr(kernel, count)
    build(reference=True)(inputs())
    assert calls == []
    build()(inputs())
    assert calls == [3]


def test_a_bias_where_one_is_asked_for() -> None:
    assert build(bias=False).qkv.bias is None
    assert build(bias=False).out.bias is None
    assert MultiHeadAttention(8, 2).qkv.bias is not None
    assert MultiHeadAttention(8, 2).out.bias is not None


def test_masks_are_made_where_the_queries_are() -> None:
    q, k = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 5, 4)
    assert fused_attention(q.to("meta"), k.to("meta"), k.to("meta")).is_meta
    # Several queries over a longer past: the first must not see the last.
    v = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 2, 5, 4)
    means = fused_attention(q, k, v)[0, 0, :, 0]
    assert means.tolist() == pytest.approx([1.0, 1.5, 2.0])
    two = fused_attention(q[:, :, :2], k, v)[0, 0, :, 0]
    assert two.tolist() == pytest.approx([1.5, 2.0])
    with pytest.raises(ValueError, match="3 queries for 2 keys"):
        fused_attention(q, k[:, :, :2], v[:, :, :2])


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(6)
    q, k, v = (torch.randn(1, 2, 4, 3) for _ in range(3))
    runs = torch.stack([fused_attention(q, k, v, 0.3) for _ in range(4000)])
    wanted = fused_attention(q, k, v)
    assert torch.allclose(runs.mean(dim=0), wanted, atol=0.08)


def test_no_copy_between_the_kernel_and_the_projection() -> None:
    q, k, v = build().split(inputs(), start=0)
    assert q.data_ptr() != k.data_ptr()
    assert q.untyped_storage().data_ptr() == v.untyped_storage().data_ptr()
    assert fused_attention(q, k, v).transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 3), "10 channels do not split into 3 heads"),
        ((10, 0), "10 channels do not split into 0 heads"),
        ((12, 6, 4), "6 query heads cannot share 4 heads"),
        ((12, 6, 0), "6 query heads cannot share 0 heads"),
        ((12, 6, 12), "6 query heads cannot share 12 heads"),
    ],
)
def test_sizes_that_do_not_fit(
    arguments: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(*arguments)


def test_rotary_tables_of_another_size() -> None:
    with pytest.raises(ValueError, match="heads of 8, these have 4"):
        MultiHeadAttention(12, 3, rotary=Rotary(8, 16))
    with pytest.raises(ValueError, match="heads of 4, these have 8"):
        MultiHeadAttention(12, 3, rotary=Rotary(4, 16), head_size=8)


@pytest.mark.parametrize("reference", [False, True])
def test_heads_of_a_size_of_their_own(reference: bool) -> None:
    layer = MultiHeadAttention(
        10, 3, rotary=Rotary(8, 16), reference=reference, head_size=8
    )
    assert layer.qkv.out_features == 3 * 3 * 8
    assert (layer.out.in_features, layer.out.out_features) == (24, 10)
    x = torch.randn(2, 5, 10)
    q, k, v = layer.split(x, start=0)
    attended = torch.cat(
        [
            scaled_dot_product_attention(q[:, h], k[:, h], v[:, h])
            for h in range(3)
        ],
        dim=-1,
    )
    torch.testing.assert_close(layer(x), layer.out(attended))
    with pytest.raises(ValueError, match="head_size=0: choose 1"):
        MultiHeadAttention(10, 3, head_size=0)


def test_shared_tables_are_not_parameters() -> None:
    layer = build(rotary=Rotary(CHANNELS // HEADS, 16))
    assert set(layer.state_dict()) == {
        "qkv.weight",
        "qkv.bias",
        "out.weight",
        "out.bias",
    }


def test_maps_of_a_whole_model_in_order() -> None:
    first, second = build(), build(kv_heads=2)
    model = nn.Sequential(first, nn.Tanh(), second)
    x = inputs()
    maps = attention_maps(model, x)
    assert len(maps) == 2
    assert torch.equal(maps[0], first.head_weights(x))
    inside = second.head_weights(first(x).tanh())
    assert torch.allclose(maps[1], inside, atol=1e-6)
    assert not any(map.requires_grad for map in maps)
    assert not first._forward_pre_hooks  # the lens is taken off again


def test_a_text_as_long_as_the_context_has_maps() -> None:
    layer = build(rotary=Rotary(CHANNELS // HEADS, TIME))
    assert layer.head_weights(inputs()).shape == (2, HEADS, TIME, TIME)


def test_maps_are_those_of_a_model_that_does_not_train() -> None:
    model = nn.Sequential(build(dropout=0.5), build(dropout=0.5))
    calm = attention_maps(model.eval(), inputs())
    assert not model.training
    chance = torch.get_rng_state()
    drawn = attention_maps(model.train(), inputs())
    for a, b in zip(calm, drawn, strict=True):
        assert torch.equal(a, b)
    assert model.training
    assert all(part.training for part in model)
    assert torch.equal(torch.get_rng_state(), chance)


def test_other_threads_are_not_listened_to() -> None:
    """A model may write for somebody else while we look."""
    layer, x = build(), inputs()

    def disturb(module: nn.Module, seen: tuple[Tensor, ...]) -> None:
        if len(seen[0]) == len(x):
            thread = Thread(target=layer, args=(x[:1],))
            thread.start()
            thread.join()

    layer.register_forward_pre_hook(disturb)
    (found,) = attention_maps(nn.Sequential(layer), x)
    assert torch.equal(found, layer.head_weights(x))


def test_maps_are_looked_at_without_gradients_and_leave_nothing() -> None:
    layer = build()

    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_grad_enabled())
            self.layer(x)
            raise RuntimeError("after the layer")

    seen: list[bool] = []
    with pytest.raises(RuntimeError, match="after the layer"):
        attention_maps(Failing(), inputs())
    assert seen == [False]
    assert torch.is_grad_enabled()
    assert not layer._forward_pre_hooks


def test_parts_that_do_not_train_stay_so() -> None:
    model = nn.Sequential(build(dropout=0.5), build(dropout=0.5)).train()
    model[0].eval()  # frozen
    before = [part.training for part in model.modules()]
    attention_maps(model, inputs())
    assert [part.training for part in model.modules()] == before
