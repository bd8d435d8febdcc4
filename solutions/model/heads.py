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
    more training, not the same function.
    """
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

    def pool(rows: Tensor) -> Tensor:
        shape = (kv_heads, -1, layer.head_size, *rows.shape[1:])
        return rows.view(shape).mean(dim=1).flatten(0, 1)

    sizes = [layer.heads, layer.kv_heads, layer.kv_heads]
    sizes = [count * layer.head_size for count in sizes]
    for name, old in layer.qkv.named_parameters():
        q, k, v = old.split(sizes)
        getattr(kept.qkv, name).copy_(torch.cat([q, pool(k), pool(v)]))
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
