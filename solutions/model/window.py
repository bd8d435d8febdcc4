"""Solutions to the exercises on windows and stretched rotations."""

import math

import torch
from torch import Tensor

from scratchlm.model.embeddings import Rotary, wave_frequencies
from scratchlm.model.gpt import GPT
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.window import WindowAttention, raise_base


def narrowest(layers: int, reach: int) -> int:
    """The smallest window with which so many layers reach so far.

    >>> narrowest(layers=32, reach=131_041), narrowest(layers=4, reach=14)
    (4096, 5)
    """
    return 1 + math.ceil((reach - 1) / layers)


def blocks_met(length: int, window: int, block: int) -> tuple[int, int]:
    """How many blocks of scores a window touches, and how many there are.

    Queries and keys are cut into blocks of `block` positions, as a kernel
    does.

    >>> blocks_met(length=512, window=128, block=128)
    (7, 16)
    """
    count = -(-length // block)
    met = 0
    for row in range(count):
        oldest = max(0, row * block - window + 1)  # of the first query
        met += row - oldest // block + 1
    return met, count**2


def by_turns(
    frequencies: Tensor, factor: float, original: int, fast: float
) -> Tensor:
    """The ramp of the paper on YaRN: straight in the number of turns.

    With `fast` = 4 it is `slow_down`.
    """
    turns = original * frequencies / (2 * math.pi)
    kept = ((turns - 1) / (fast - 1)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / factor)


def some_windows(model: GPT, window: int, every: int) -> GPT:
    """A window for all layers but each `every`-th, which sees everything."""
    for number, block in enumerate(model.blocks, start=1):
        layer = block.get_submodule("attention")
        assert isinstance(layer, MultiHeadAttention)
        if number % every:
            block.attention = WindowAttention(layer, window)
    return model


def positions_kept(layers: int, window: int, every: int, length: int) -> int:
    """Keys kept of each head, all layers together, at the end of a text.

    >>> positions_kept(layers=30, window=1024, every=6, length=131_072)
    680960
    """
    full = layers // every
    return full * length + (layers - full) * min(window, length)


def weights_with_sink(scores: Tensor, sink: Tensor) -> Tensor:
    """A softmax that may give weight to nothing: (H, T, T), (H,) → (H, T, T).

    Below the sum stands one more term, exp(sink), with a sink that each head
    learns. The weights then sum to less than 1.
    """
    column = sink[:, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]


class DynamicRotary(Rotary):
    """A base that is raised as far as the text at hand asks for it.

    For texts that are read at once: a cache would hold keys that were turned
    by the waves of a shorter text.
    """

    def __init__(self, head_size: int, original: int, context: int) -> None:
        """Texts of up to `original` positions keep their waves."""
        self.trained = original
        super().__init__(head_size, context)

    def apply_rotary(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate (B, H, T, D), the whole text; ValueError for a part."""
        if start:
            raise ValueError("earlier keys were turned by other waves")
        length = x.shape[-2]
        waves = wave_frequencies(self.head_size, self.base)
        waves = raise_base(waves, max(1.0, length / self.trained))
        time = torch.arange(self.context, dtype=torch.float32)
        angles = torch.outer(time, waves)
        self.cos, self.sin = (
            angles.cos().to(x.device),
            angles.sin().to(x.device),
        )
        return super().apply_rotary(x)
