"""Many heads, fewer keys: multi-head and grouped-query attention.

Several heads attend side by side in slices of the channels (Vaswani et al.,
2017, section 3.2.2); groups of query heads may share one head of keys and
values (Ainslie et al., 2023). Two forms of the same computation: by
`scratchlm.model.attention`, to be read, and by the library's fused kernel,
to be fast. Tests check that they agree.

Left out: sliding windows, masks for padding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.attention import attention_weights, causal_mask
from scratchlm.model.embeddings import Rotary


class KVStore(Protocol):
    """What remembers one layer's keys and values while text is written.

    Attention asks for no more than this; `scratchlm.generation.cache` has
    the one that the book uses.
    """

    @property
    def length(self) -> int:
        """How many positions were seen: where the next one stands."""

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, K, T, D) each; return all that the new ones may look at.

        Several new ones come last, in their order.
        """


def repeat_kv(x: Tensor, groups: int) -> Tensor:
    """Each head of (B, K, T, D) `groups` times: (B, K · groups, T, D).

    Query heads 0 … groups - 1 share the first head of keys, and so on:
    copies of one head stand next to each other.
    """
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0
) -> Tensor:
    """Causal attention by the library's kernel; k and v may have K heads.

    q (B, H, Tq, D), k and v (B, K, Tk, D) → (B, H, Tq, D). The kernel's own
    causal mask starts at the upper left, so it serves only where there are
    as many queries as keys; a single new query may look at everything.
    Raises ValueError for more queries than keys.
    """
    queries, keys = q.shape[2], k.shape[2]
    mask, causal = None, False
    if queries == keys:
        causal = True
    elif queries > 1:
        mask = causal_mask(queries, keys, q.device)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def norm_heads(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalize (B, H, T, D) by a norm of D numbers, or of all H · D."""
    rows = x.transpose(1, 2).flatten(2)  # (B, T, H · D)
    size = int(norm.get_parameter("weight").numel())
    rows = norm(rows.unflatten(2, (-1, size)))
    return rows.flatten(2).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


class MultiHeadAttention(nn.Module):
    """H query heads over K heads of keys and values, K dividing H.

    K = H is the multi-head attention of GPT-2, 1 < K < H the grouped-query
    attention of Llama, K = 1 multi-query attention (Shazeer, 2019). Channels
    are split evenly, D = C / H, unless a `head_size` is given.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        kv_heads: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rotary: Rotary | None = None,
        reference: bool = False,
        qk_norm: bool = False,
        head_size: int | None = None,
        qkv_bias: bool | None = None,
        norms: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        """Raises ValueError for numbers of heads that do not divide.

        With `qk_norm` each query and key gets mean 0 and variance 1, so that
        no score can exceed √D (Dehghani et al., 2023, section 2). `norms`
        are learned ones instead, for queries and for keys. The biases of
        queries, keys and values follow the others unless `qkv_bias` is set.
        """
        super().__init__()
        self.heads = heads
        self.kv_heads = heads if kv_heads is None else kv_heads
        check_heads(channels, heads, self.kv_heads, head_size, rotary)
        self.head_size = d = head_size or channels // heads
        rows = (heads + 2 * self.kv_heads) * d
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.qkv = nn.Linear(channels, rows, bias=qkv_bias)
        self.out = nn.Linear(heads * d, channels, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.rotary = rotary
        self.reference = reference
        self.qk_norm = qk_norm
        self.q_norm: nn.Module | None = norms[0] if norms else None
        self.k_norm: nn.Module | None = norms[1] if norms else None

    def split(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, K, T, D), rotated."""
        b, t, _ = x.shape
        qkv = self.qkv(x).view(b, t, -1, self.head_size)  # (B, T, H+2K, D)
        qkv = qkv.transpose(1, 2)  # (B, H+2K, T, D), a view
        qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        qk = self.normalize_and_rotate(qk, start)  # all heads at once
        q, k = qk.split([self.heads, self.kv_heads], dim=1)
        return q, k, v

    def normalize_and_rotate(self, qk: Tensor, start: int) -> Tensor:
        """Queries and keys (B, H+K, T, D), normalized and rotated if asked."""
        if self.qk_norm:
            qk = F.layer_norm(qk, (self.head_size,))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = qk.split([self.heads, self.kv_heads], dim=1)
            q, k = norm_heads(self.q_norm, q), norm_heads(self.k_norm, k)
            qk = torch.cat([q, k], dim=1)
        if self.rotary is not None:
            qk = self.rotary.apply_rotary(qk, start)
        return qk

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each query attended to, (B, H, T, D), in either form."""
        if not self.reference:
            p = self.dropout.p if self.training else 0.0
            return fused_attention(q, k, v, p)
        groups = self.heads // self.kv_heads
        weights = self.dropout(attention_weights(q, repeat_kv(k, groups)))
        return weights @ repeat_kv(v, groups)

    def forward(self, x: Tensor, store: KVStore | None = None) -> Tensor:
        """(B, T, C) → (B, T, C); with a store, after what it holds."""
        start = 0 if store is None else store.length
        q, k, v = self.split(x, start)
        if store is not None:
            k, v = store.append(k, v)
        attended = self.attention(q, k, v)  # (B, H, T, D)
        attended = attended.transpose(1, 2).flatten(2)  # (B, T, H · D)
        return self.dropout(self.out(attended))

    def head_weights(self, x: Tensor) -> Tensor:
        """Each head's weights on (B, T, C), for pictures: (B, H, T, T)."""
        q, k, _ = self.split(x, start=0)
        return attention_weights(q, repeat_kv(k, self.heads // self.kv_heads))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout is off inside; then each part is in its own mode again."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:  # some may be frozen
            part.training = True


def attention_maps(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """The weights of every layer of a model, the first layer first.

    Runs the model once on ids (B, T) without gradients and dropout; each map
    is (B, H, T, T). A lens for pictures, not a part of the model. What the
    model does meanwhile in other threads is not looked at.
    """
    maps: list[Tensor] = []
    here = get_ident()

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, MultiHeadAttention)
        if get_ident() == here:
            maps.append(layer.head_weights(inputs[0]))

    hooks = [
        layer.register_forward_pre_hook(look)
        for layer in model.modules()
        if isinstance(layer, MultiHeadAttention)
    ]
    try:
        with torch.no_grad(), evaluating(model):
            model(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def check_heads(
    channels: int,
    heads: int,
    kv_heads: int,
    head_size: int | None = None,
    rotary: Rotary | None = None,
) -> None:
    """Raise ValueError where the sizes of a layer do not fit together."""
    if heads < 1 or (head_size is None and channels % heads):
        raise ValueError(
            f"{channels} channels do not split into {heads} heads: choose "
            "a number of channels that the heads divide, or a head_size"
        )
    if head_size is not None and head_size < 1:
        raise ValueError(f"head_size={head_size}: choose 1 or more, or None")
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(
            f"{heads} query heads cannot share {kv_heads} heads of keys "
            "evenly: choose kv_heads that divides heads"
        )
    size = head_size or channels // heads
    if rotary is not None and rotary.head_size != size:
        raise ValueError(
            f"the rotary tables are for heads of {rotary.head_size}, these "
            f"have {size}: build Rotary({size}, …)"
        )
