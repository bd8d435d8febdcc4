"""Solutions to the exercises on many heads."""

import torch
from torch import Tensor

from scratchlm.model.heads import MultiHeadAttention


def cache_bytes(
    layers: int,
    kv_heads: int,
    head_size: int,
    tokens: int,
    bytes_per_number: int = 2,
) -> int:
    """Memory of the stored keys and values of one sequence, in bytes.

    >>> cache_bytes(layers=32, kv_heads=8, head_size=128, tokens=8192)
    1073741824
    """
    return 2 * layers * kv_heads * head_size * tokens * bytes_per_number


@torch.no_grad()
def pool_kv_heads(
    layer: MultiHeadAttention, kv_heads: int
) -> MultiHeadAttention:
    """A layer with fewer heads of keys, each the mean of those it replaces.

    Ainslie et al. (2023), section 2.1. The result is a starting point for
    more training. Raises ValueError for a layer with learned norms.
    """
    if layer.q_norm is not None:
        raise ValueError("learned norms of keys cannot be averaged with them")
    kept = MultiHeadAttention(
        layer.out.out_features,
        layer.heads,
        kv_heads,
        layer.dropout.p,
        layer.qkv.bias is not None,
        layer.rotary,
        layer.reference,
        layer.qk_norm,
        layer.head_size,
    )

    def pool(heads: Tensor) -> Tensor:
        return heads.unflatten(0, (kv_heads, -1)).mean(dim=1)

    for name, old in layer.qkv.named_parameters():
        parts = old.unflatten(0, (-1, layer.head_size))
        q, k, v = parts.split([layer.heads, layer.kv_heads, layer.kv_heads])
        rows = torch.cat([q, pool(k), pool(v)]).flatten(0, 1)
        getattr(kept.qkv, name).copy_(rows)
    kept.out.load_state_dict(layer.out.state_dict())
    return kept


@torch.no_grad()
def silence(layer: MultiHeadAttention, head: int) -> None:
    """Make a layer deaf to one of its query heads, in place.

    The head goes on attending; the columns of the projection that would
    carry what it heard are set to zero.
    """
    size = layer.head_size
    layer.out.weight[:, head * size : (head + 1) * size] = 0
