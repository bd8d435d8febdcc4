"""What attention with many heads, few keys and a store must do."""

import math

import torch
from torch import Tensor

from scratchlm.model import heads
from scratchlm.model.embeddings import Rotary

from ..expect import close, equal, raises


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


def waves(*shape: int) -> Tensor:
    """Numbers between -1 and 1 that are the same on every machine."""
    return torch.sin(1.7 * torch.arange(1.0, math.prod(shape) + 1)).view(shape)


def trained(
    channels: int, count: int, kv_heads: int, reference: bool = False
) -> heads.MultiHeadAttention:
    """A layer with rotary positions whose weights are not random."""
    layer = heads.MultiHeadAttention(
        channels,
        count,
        kv_heads,
        rotary=Rotary(channels // count, 32),
        reference=reference,
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(waves(*parameter.shape))
    return layer


def both_forms(
    channels: int, count: int, kv_heads: int, rows: Tensor, bias: Tensor
) -> list[heads.MultiHeadAttention]:
    """The fused and the reference form with these weights, projection I."""
    layers = []
    for reference in (False, True):
        layer = heads.MultiHeadAttention(
            channels, count, kv_heads, reference=reference
        )
        with torch.no_grad():
            layer.qkv.weight.copy_(rows)
            layer.qkv.bias.copy_(bias)
            layer.out.weight.copy_(torch.eye(channels))
            layer.out.bias.zero_()
        layers.append(layer)
    return layers


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
        layer = trained(12, 6, 2, reference)
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
            [(2, 4), (2, 3), (2, 1), (2, 2)],
            "heads and positions stored, chunk by chunk",
            hint="store the K heads of keys before they are repeated",
        )


def check_future_is_unseen() -> None:
    """Changing the future changes the past by exactly 0."""
    x = waves(1, 8, 12)
    changed = x.clone()
    changed[:, 5:] += 1
    layer = trained(12, 6, 2)
    gap = (layer(changed) - layer(x))[:, :5].detach().abs().max()
    equal(float(gap), 0.0, "the change of positions 0 to 4 when 5 to 7 change")


def check_parameters() -> None:
    """Fewer key heads, fewer parameters: (2H + 2K)·D·C + biases."""
    for kv_heads, wanted in ((4, 4 * 8 * 8 + 32), (1, 160 + 20)):
        layer = heads.MultiHeadAttention(8, 4, kv_heads)
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
}
