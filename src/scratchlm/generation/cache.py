"""Keys and values, kept: the memory of a model that is writing.

What a token says to later ones does not change, so it is computed once. One
`LayerCache` is a `KVStore` of `scratchlm.model.heads`; a `KVCache` is one of
them for each layer, handed to the model with the next tokens.

Left out: pages shared between texts (Kwon et al., 2023), keys with fewer bits,
and texts of different lengths in one batch.
"""

import torch
from torch import Tensor

from scratchlm.model.gpt import GPTConfig


class LayerCache:
    """The keys and values of one layer, in memory taken once.

    Holds up to `capacity` positions of (B, K, T, D) keys and as many values.
    It keeps numbers, not gradients: it is for writing, not for training.
    """

    def __init__(
        self,
        batch_size: int,
        kv_heads: int,
        capacity: int,
        head_size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Empty, at full size."""
        shape = (batch_size, kv_heads, capacity, head_size)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0  # positions filled

    @property
    def capacity(self) -> int:
        """How many positions fit."""
        return self.k.shape[2]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, K, T, D) each; return all of them, the past first.

        What is returned are views of the memory, valid until `rewind`.
        Raises ValueError if the shapes differ from those of the memory,
        and if the new positions do not fit; nothing is stored then.
        """
        end = self.length + k.shape[2]
        check_shape(k, v, self.k)
        if end > self.capacity:
            raise ValueError(
                f"{self.length} of {self.capacity} positions are taken, "
                f"{k.shape[2]} more do not fit: build a larger cache or "
                "rewind"
            )
        self.k[:, :, self.length : end] = k.detach()
        self.v[:, :, self.length : end] = v.detach()
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]

    def rewind(self, length: int = 0) -> None:
        """Forget all but the first `length` positions."""
        if not 0 <= length <= self.length:
            raise ValueError(
                f"cannot rewind to {length}: {self.length} positions are held"
            )
        self.length = length


def check_shape(k: Tensor, v: Tensor, memory: Tensor) -> None:
    """Raise ValueError unless k and v are (B, K, any T, D) of the memory."""
    b, heads, _, size = memory.shape
    if k.shape != v.shape or k.shape != (b, heads, k.shape[2], size):
        raise ValueError(
            f"keys {tuple(k.shape)} and values {tuple(v.shape)} do not fit "
            f"a cache for ({b}, {heads}, T, {size}): build it for this "
            "batch size and this model"
        )


class KVCache(list[LayerCache]):
    """One cache for each layer of a model, filled and rewound together."""

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int = 1,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Empty; room for the model's whole context if not told otherwise."""
        super().__init__(
            LayerCache(
                batch_size,
                config.key_heads,
                config.context if capacity is None else capacity,
                config.channels_per_head,
                dtype,
                device,
            )
            for _ in range(config.layers)
        )

    @property
    def length(self) -> int:
        """How many positions are filled, in every layer."""
        return self[0].length

    @property
    def bytes(self) -> int:
        """Memory taken, filled or not."""
        return sum(layer.k.nbytes + layer.v.nbytes for layer in self)

    def rewind(self, length: int = 0) -> None:
        """Forget all but the first `length` positions, in every layer."""
        for layer in self:
            layer.rewind(length)


def cache_bytes(
    config: GPTConfig,
    batch_size: int = 1,
    capacity: int | None = None,
    bytes_per_number: int = 4,
) -> int:
    """What a `KVCache` will take, before it is built, in bytes.

    Keys and values of each layer: 2 · L · B · K · D · T numbers.

    >>> cache_bytes(GPTConfig(1024, 128, 4, 4, 128))
    524288
    """
    tokens = config.context if capacity is None else capacity
    numbers = config.key_heads * config.channels_per_head * tokens
    return 2 * config.layers * batch_size * numbers * bytes_per_number
