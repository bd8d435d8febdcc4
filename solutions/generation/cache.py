"""Solutions to the exercises on the cache."""

import torch
from torch import Tensor

from scratchlm.generation.cache import KVCache
from scratchlm.model.gpt import GPTConfig


def tokens_read(prompt: int, new: int, cached: bool) -> int:
    """How many tokens go through the model to write `new` after a prompt.

    The last token written is not read.

    >>> tokens_read(1, 1023, cached=True), tokens_read(1, 1023, cached=False)
    (1023, 523776)
    """
    if new == 0:
        return 0
    if cached:
        return prompt + new - 1
    return new * prompt + new * (new - 1) // 2


def fork(cache: KVCache, config: GPTConfig, copies: int) -> KVCache:
    """The cache of one text, as often as wanted, in a batch.

    Reads nothing: what the text said to later ones is copied.
    """
    layer = cache[0]
    kept = KVCache(
        config, copies, layer.capacity, layer.k.dtype, layer.k.device
    )
    for old, new in zip(cache, kept, strict=True):
        shape = (copies, -1, -1, -1)
        k, v = (x[:, :, : old.length].expand(shape) for x in (old.k, old.v))
        new.append(k, v)
    return kept


def round_to_bytes(x: Tensor) -> tuple[Tensor, Tensor]:
    """(..., D) as int8 and one scale (..., 1) for each vector."""
    scale = x.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / 127
    return (x / scale).round().to(torch.int8), scale


class ByteCache:
    """A `KVStore` of one layer that keeps a byte for a number.

    One float32 scale for each key and each value: (D + 4) / 4D of the
    memory. It grows by joining; a real one would take its memory once.
    """

    def __init__(self) -> None:
        """Empty."""
        self.length = 0
        self.kept: list[tuple[Tensor, Tensor]] = []

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, K, T, D) each; return all of them, as well as kept."""
        new = [round_to_bytes(k), round_to_bytes(v)]
        if self.kept:
            new = [
                (torch.cat([a, c], dim=2), torch.cat([b, d], dim=2))
                for (a, b), (c, d) in zip(self.kept, new, strict=True)
            ]
        self.kept, self.length = new, self.length + k.shape[2]
        keys, values = (x.to(scale.dtype) * scale for x, scale in new)
        return keys, values
