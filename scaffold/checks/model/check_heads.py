"""What attention with many heads, few keys and a store must do."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from scratchlm.model import heads, layers
from scratchlm.model.embeddings import Rotary

from ..expect import (
    NotOffered,
    close,
    equal,
    offered,
    raises,
    require,
    taken,
    true,
)
from ..inputs import waves


class GrowingStore:
    """A store that concatenates, for the checks."""

    def __init__(self) -> None:
        """Empty."""
        self.length = 0
        self.past: list[tuple[Tensor, Tensor]] = []

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v; return all so far."""
        self.past.append((k, v))
        self.length += k.shape[2]
        keys, values = zip(*self.past, strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


def layer_of(
    channels: int, count: int, kv_heads: int, **settings: Any
) -> heads.MultiHeadAttention:
    """A layer, whose number of heads of keys is said where it is another."""
    if kv_heads != count:
        settings["kv_heads"] = kv_heads
    return heads.MultiHeadAttention(channels, count, **settings)


def sharing() -> int:
    """Two heads of keys for six, where the layer lets heads share them."""
    return 2 if offered(heads.MultiHeadAttention, "kv_heads") else 6


def trained(
    channels: int, count: int, kv_heads: int, reference: bool = False
) -> heads.MultiHeadAttention:
    """A layer whose weights are not random, if it can with rotary positions."""
    rotary = Rotary(channels // count, 32)
    layer = layer_of(
        channels,
        count,
        kv_heads,
        reference=reference,
        **taken(heads.MultiHeadAttention, rotary=rotary),
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(waves(*parameter.shape))
    return layer


def both_forms(
    channels: int,
    count: int,
    kv_heads: int,
    rows: Tensor,
    bias: Tensor,
    dropout: float = 0.0,
) -> Iterator[heads.MultiHeadAttention]:
    """The fused and the reference form with these weights, projection I."""
    for reference in (False, True):
        layer = layer_of(
            channels, count, kv_heads, dropout=dropout, reference=reference
        )
        with torch.no_grad():
            layer.qkv.weight.copy_(rows)
            layer.qkv.bias.copy_(bias)
            layer.out.weight.copy_(torch.eye(channels))
            layer.out.bias.zero_()
        yield layer


def check_two_heads_by_hand() -> None:
    """Two heads hear the same words with different weights."""
    # rows: q0 q1 k0 k1 v0 v1. Head 0 asks 1 and finds channel 0; head 1
    # asks nothing; both say channel 1.
    rows = torch.tensor([[0.0, 0], [0, 0], [1, 0], [0, 0], [0, 1], [0, 1]])
    bias = torch.tensor([1.0, 0, 0, 0, 0, 0])
    x = torch.tensor([[[0, 6], [math.log(2), 12], [math.log(3), 24]]])
    for layer in both_forms(2, 2, 2, rows, bias):
        close(
            layer(x)[0],
            [[6, 6], [10, 9], [17, 14]],
            "weighted means (head 0) and plain means (head 1) of 6, 12, 24",
            hint="view(B, T, heads, D), then transpose(1, 2); and back",
        )


def check_projection() -> None:
    """The projection mixes what the heads heard."""
    rows = torch.zeros(6, 2)
    rows[4, 0] = rows[5, 1] = 1
    x = torch.tensor([[[1.0, 10], [3.0, 30]]])
    for layer in both_forms(2, 2, 2, rows, torch.zeros(6)):
        with torch.no_grad():
            layer.out.weight.copy_(torch.tensor([[0.0, 1], [1, 1]]))
        close(
            layer(x)[0],
            [[10, 11], [20, 22]],
            "the means of the second head, and of both added",
            hint="one more linear layer, after the heads are joined",
        )


def check_neighbors_share_keys() -> None:
    """Four query heads over two value heads: 0 and 1 share, 2 and 3 too."""
    rows = torch.zeros(8, 4)  # q0 … q3, k0, k1, v0, v1
    rows[6, 0] = rows[7, 1] = 1
    x = torch.tensor([[[1.0, 10, 0, 0], [3.0, 30, 0, 0]]])
    for layer in both_forms(4, 4, 2, rows, torch.zeros(8)):
        close(
            layer(x)[0],
            [[1, 1, 10, 10], [2, 2, 20, 20]],
            "means of channels 0 and 1 as heads 0 to 3 hear them",
            hint="repeat_interleave copies a head next to itself, repeat "
            "copies the row of heads",
        )


def check_both_forms_agree() -> None:
    """The library's kernel and the open form give the same numbers."""
    x = waves(2, 7, 12)
    for kv_heads in (6, 2, 1):
        close(
            trained(12, 6, kv_heads)(x),
            trained(12, 6, kv_heads, reference=True)(x),
            f"6 query heads over {kv_heads}",
            tol=1e-4,
        )


def check_chunks_equal_the_whole() -> None:
    """Fed in chunks of 4, 3, 1 and 2 through a store: the same numbers."""
    x = waves(1, 10, 12)
    for reference in (False, True):
        layer = trained(12, 6, sharing(), reference)
        store = GrowingStore()
        pieces = [layer(piece, store) for piece in x.split([4, 3, 1, 2], 1)]
        close(
            torch.cat(pieces, dim=1),
            layer(x),
            "outputs of chunks, and of the whole",
            tol=1e-4,
            hint="rotate from store.length on, and mask inside a chunk: "
            "the kernel's own causal mask starts at the upper left",
        )
        kept = [tuple(k.shape[1:3]) for k, _ in store.past]
        equal(
            kept,
            [(sharing(), count) for count in (4, 3, 1, 2)],
            "heads and positions stored, chunk by chunk",
            hint="store the K heads of keys before they are repeated",
        )


def check_future_is_unseen() -> None:
    """Changing the future changes the past by exactly 0."""
    x = waves(1, 8, 12)
    changed = x.clone()
    changed[:, 5:] += 1
    layer = trained(12, 6, sharing())
    gap = (layer(changed) - layer(x))[:, :5].detach().abs().max()
    equal(float(gap), 0.0, "the change of positions 0 to 4 when 5 to 7 change")


def check_parameters() -> None:
    """Fewer key heads, fewer parameters: (2H + 2K)·D·C + biases."""
    for kv_heads, wanted in ((4, 4 * 8 * 8 + 32), (1, 160 + 20)):
        layer = layer_of(8, 4, kv_heads)
        got = sum(p.numel() for p in layer.parameters())
        equal(got, wanted, f"8 channels, 4 heads, {kv_heads} of keys")


def check_sizes() -> None:
    """Heads that do not divide are refused."""
    for arguments in ((10, 3), (12, 6, 4)):
        raises(
            ValueError,
            lambda a=arguments: heads.MultiHeadAttention(*a),  # type: ignore
            f"MultiHeadAttention{arguments}",
        )


def check_dropout() -> None:
    """In training, half of the weights and half of the outputs are zero."""
    # One position: its weight is 1, so a row that hears nothing is all 0.
    x = 2 + waves(2000, 1, 8)
    rows = torch.cat([torch.zeros(16, 8), torch.eye(8)])
    for reference in (False, True):
        layer = heads.MultiHeadAttention(
            8, 1, dropout=0.5, bias=False, reference=reference
        )
        with torch.no_grad():
            layer.qkv.weight.copy_(rows)
            layer.out.weight.copy_(torch.eye(8))
        close(layer.eval()(x), x, "values that pass in evaluation")
        got = layer.train()(x)
        if torch.equal(got, layer.eval()(x)):
            continue  # a layer of one's own may leave dropout out altogether
        close(
            got[got != 0],
            4 * x[got != 0],
            "what two dropouts of 1/2 leave",
            hint="what is left is made larger by 1 / (1 - p), each time",
        )
        heard = got[(got != 0).any(dim=-1)]
        share = len(heard) / len(x)
        what = "rows out of two in which a weight is left"
        close(share, 0.5, what, 0.1, hint="drop weights, in training only")
        share = float((heard != 0).float().mean())
        what = "outputs out of two that are left in them"
        close(share, 0.5, what, 0.1, hint="drop outputs, in training only")


def check_weights_of_each_head() -> None:
    """Head 0 asks, head 1 does not; a model's maps are its layers'."""
    if not hasattr(heads.MultiHeadAttention, "head_weights"):
        raise NotOffered("head_weights")  # pictures need it, nothing else
    rows = torch.tensor([[0.0, 0], [0, 0], [1, 0], [0, 0], [0, 1], [0, 1]])
    bias = torch.tensor([1.0, 0, 0, 0, 0, 0])
    x = torch.tensor([[[0, 6], [math.log(2), 12], [math.log(3), 24]]])
    first, second = both_forms(2, 2, 2, rows, bias, dropout=0.5)
    first.eval()
    second.eval()
    wanted = [
        [[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 1 / 3, 1 / 2]],
        [[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]],
    ]
    close(first.head_weights(x)[0], wanted, "weights of both heads")
    shared = trained(12, 6, 2).head_weights(waves(2, 5, 12))
    equal(tuple(shared.shape), (2, 6, 5, 5), "shape of weights of 6 heads")
    model = nn.Sequential(first, second).train()
    maps = heads.attention_maps(model, x)
    true(model.training, "the model is in training mode again")
    model.eval()(x)
    equal(len(maps), 2, "maps of two layers, also when it runs again")
    close(maps[0][0], wanted, "the map of the first layer")
    close(
        maps[1],
        second.head_weights(first(x)),
        "the map of the second layer",
        hint="dropout is off while the model runs for the maps",
    )
    true(not maps[0].requires_grad, "maps need no gradients")


def check_norms_of_heads() -> None:
    """A norm of D numbers is for each head, one of H · D for all of them."""
    x = waves(2, 3, 4, 2)  # (B, H, T, D)
    each, whole = layers.RMSNorm(2), layers.RMSNorm(6)
    with torch.no_grad():
        each.weight.copy_(torch.tensor([1.0, 2.0]))
        whole.weight.copy_(torch.arange(6.0))
    close(heads.norm_heads(each, x), each(x), "norms of 2 numbers")
    rows = whole(torch.cat([x[:, h] for h in range(3)], dim=-1))
    wanted = torch.stack(rows.split(2, dim=-1), dim=1)
    close(heads.norm_heads(whole, x), wanted, "norms of 3 heads together")


def check_queries_and_keys_are_normalized() -> None:
    """Then no weight matters that makes them ten times as long."""
    require(heads.MultiHeadAttention, "qk_norm", "norms")
    x = waves(2, 7, 12)
    norms = (layers.LayerNorm(2), layers.LayerNorm(2))
    for settings in ({"qk_norm": True}, {"norms": norms}):
        layer = heads.MultiHeadAttention(12, 6, 2, **settings)  # type: ignore
        heard = []
        for length in (1, 10):
            stretch = torch.tensor([length] * 16 + [1] * 4)  # rows of q, k; v
            with torch.no_grad():
                layer.qkv.weight.copy_(stretch[:, None] * waves(20, 12))
                layer.qkv.bias.copy_(stretch * waves(20))
            heard.append(layer(x))
        (name,) = settings
        what = f"queries and keys ten times as long, by {name}"
        close(heard[1], heard[0], what, 1e-2)
    for place, size in ((0, 12), (1, 4)):
        pair = (layers.RMSNorm(12), layers.RMSNorm(4))
        torch.nn.init.zeros_(pair[place].weight)
        layer = heads.MultiHeadAttention(12, 6, 2, norms=pair)
        silent = torch.full((1, 6, 7, 7), 1.0).tril()
        close(
            layer.head_weights(x[:1]),
            silent / silent.sum(dim=-1, keepdim=True),
            f"weights when the norm of {size} numbers gives zeros",
            hint="the first norm is for queries, the second for keys",
        )


def check_sizes_of_a_head() -> None:
    """A head has the size that is asked for, and positions from 0 on."""
    layer = heads.MultiHeadAttention(8, 2, rotary=Rotary(4, 10), bias=False)
    shape = tuple(layer(waves(3, 10, 8)).shape)
    equal(shape, (3, 10, 8), "shape of 10 positions, by tables for 10")
    if offered(heads.MultiHeadAttention, "head_size", "qkv_bias"):
        layer = heads.MultiHeadAttention(
            8, 2, head_size=6, bias=False, qkv_bias=True
        )
        equal(tuple(layer(waves(3, 10, 8)).shape), (3, 10, 8), "shape, D = 6")
        got = sum(p.numel() for p in layer.parameters())
        wanted = 8 * 36 + 36 + 12 * 8
        equal(got, wanted, "numbers in it, with biases for qkv alone")


def check_copies_and_single_queries() -> None:
    """Heads of keys are copied as they are; one query sees all keys."""
    copies = heads.repeat_kv(waves(2, 3, 4, 5), 2)
    equal(tuple(copies.shape), (2, 6, 4, 5), "3 heads of keys, each twice")
    equal(copies.dtype, torch.float32, "their type")
    one = waves(1, 2, 1, 4)
    kernel = heads.fused_attention(one, waves(1, 2, 3, 4), waves(1, 2, 3, 4))
    weights = heads.attention_weights(one, waves(1, 2, 3, 4))
    close(kernel, weights @ waves(1, 2, 3, 4), "one query over three keys")


def check_refused_sizes() -> None:
    """Sizes that do not fit together are refused before they are used."""
    require(heads.MultiHeadAttention, "head_size")
    for settings in (
        {"kv_heads": 0},
        {"head_size": 0},
        {"heads": 0},
        {"rotary": Rotary(4, 8)},
    ):
        arguments = {"channels": 4, "heads": 2, **settings}
        raises(
            ValueError,
            lambda a=arguments: heads.MultiHeadAttention(**a),  # type: ignore
            f"MultiHeadAttention with {', '.join(settings)}",
        )


BUGS = {
    "heads are cut without a transpose": (
        "qkv = qkv.transpose(1, 2)",
        "qkv = qkv.reshape(b, -1, t, self.head_size)",
    ),
    "heads are joined without a transpose": (
        "attended = attended.transpose(1, 2).flatten(2)",
        "attended = attended.reshape(x.shape)",
    ),
    "groups are dealt out like cards": (
        "x.repeat_interleave(groups, dim=1)",
        "x.repeat(1, groups, 1, 1)",
    ),
    "a later chunk is not masked": (
        "elif queries > 1:",
        "elif keys < queries:",
    ),
    "positions start again in every chunk": (
        "start = 0 if store is None else store.length",
        "start = 0",
    ),
    "the store is filled and not read": (
        "k, v = store.append(k, v)",
        "store.append(k, v)",
    ),
    "the output projection is forgotten": (
        "return self.dropout(self.out(attended))",
        "return self.dropout(attended)",
    ),
    "no weight is ever dropped": (
        "p = self.dropout.p if self.training else 0.0",
        "p = 0.0",
    ),
    "weights are dropped in evaluation": (
        "p = self.dropout.p if self.training else 0.0",
        "p = self.dropout.p",
    ),
    "no output is ever dropped": (
        "return self.dropout(self.out(attended))",
        "return self.out(attended)",
    ),
    "maps are those of the model in training": (
        "with torch.no_grad(), evaluating(model):",
        "with torch.no_grad():",
    ),
    "the model stays in evaluation": (
        "part.training = True",
        "part.training = False",
    ),
    "a norm for all heads mixes positions": (
        "rows = x.transpose(1, 2).flatten(2)  # (B, T, H · D)",
        "rows = x.flatten(1).unflatten(1, (x.shape[2], -1))",
    ),
    "learned norms are forgotten": (
        "if self.q_norm is not None and self.k_norm is not None:",
        "if False:",
    ),
    "queries and keys are not normalized": (
        "        if self.qk_norm:\n",
        "        if False:\n",
    ),
    "positions begin at one": (
        "start = 0 if store is None else store.length",
        "start = 1 if store is None else store.length",
    ),
    "rotary tables of another size are taken": (
        "rotary is not None and rotary.head_size != size",
        "False",
    ),
}
