"""Solutions to the exercises on packing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.gpt import GPT
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.training.packing import (
    Packed,
    Part,
    keep_whole,
    lay_out,
    packed_features,
)


def seen_share(sizes: Sequence[int]) -> float:
    """Of all scores of an open row, the share that the mask leaves.

    >>> seen_share([4]), seen_share([2, 2])
    (1.0, 0.6)
    """

    def scores(length: int) -> int:
        return length * (length + 1) // 2

    return sum(map(scores, sizes)) / scores(sum(sizes))


@torch.no_grad()
def leak(model: GPT, batch: Packed, number: int) -> float:
    """How far features of other documents move when one is changed.

    Every id of document `number` of each row is exchanged for the next one.
    The result is the largest change anywhere else, which should be 0.
    """
    there = batch.document == number
    other = (batch.ids + there) % model.config.vocab_size
    before = packed_features(model, batch)
    after = packed_features(model, replace(batch, ids=other))
    return (after - before).abs().amax(dim=-1)[~there].max().item()


def cumulative_lengths(document: Tensor) -> Tensor:
    """Where each document of a row (T,) begins, and where the last one ends.

    What kernels for rows without padding want, for one row: int32.

    >>> cumulative_lengths(torch.tensor([0, 0, 0, 1, 1, -1]))
    tensor([0, 3, 5, 6], dtype=torch.int32)
    """
    _, lengths = document.unique_consecutive(return_counts=True)
    return F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def attend_in_turn(
    layer: MultiHeadAttention, x: Tensor, document: Tensor
) -> Tensor:
    """Attention in one row (T, C), document by document, without a mask."""
    q, k, v = layer.split(x[None], 0)
    starts = cumulative_lengths(document).tolist()
    attended = []
    for start, stop in zip(starts, starts[1:]):
        here = slice(start, stop)
        attended.append(
            layer.attention(q[:, :, here], k[:, :, here], v[:, :, here])
        )
    whole = torch.cat(attended, dim=2)  # (1, H, T, D)
    out: Tensor = layer.out(whole.transpose(1, 2).flatten(2))[0]
    return out


def fit_in_stream(
    sizes: Sequence[int], room: int, open_rows: int
) -> list[list[int]]:
    """Best fit for things that come one by one, with a few rows open.

    Where nothing fits and too many rows are open, the fullest is sent away.

    >>> fit_in_stream([5, 5, 3, 3], room=8, open_rows=2)
    [[0, 2], [1, 3]]
    >>> fit_in_stream([5, 5, 3, 3], room=8, open_rows=1)
    [[0], [1, 2], [3]]
    """
    rows: list[list[int]] = []
    free: dict[int, int] = {}  # of the rows that are open
    for i, size in enumerate(sizes):
        fitting = [(left, row) for row, left in free.items() if left >= size]
        if not fitting:
            if len(free) == open_rows:
                del free[min(free, key=lambda row: free[row])]
            free[len(rows)] = room
            fitting = [(room, len(rows))]
            rows.append([])
        _, row = min(fitting)
        rows[row].append(i)
        free[row] -= size
    return rows


class PackedCursor:
    """Batches of packed rows that go on where they stopped.

    What comes when depends on seed and epoch alone, as with `BatchCursor`.
    """

    def __init__(
        self, parts: Sequence[Part], length: int, rows: int, seed: int
    ) -> None:
        """Stand before the first batch."""
        self.parts, self.length, self.rows = parts, length, rows
        self.seed = seed
        self.start_epoch(0)

    def start_epoch(self, epoch: int, used: int = 0) -> None:
        """Pack an epoch anew; `used` of its rows are done."""
        draw = np.random.default_rng([self.seed, epoch])
        order = [self.parts[i] for i in draw.permutation(len(self.parts))]
        self.filled = keep_whole(order, self.length)
        draw.shuffle(self.filled)
        self.epoch, self.used = epoch, used

    def next_batch(self) -> Packed:
        """The next rows; what is left over at the end is dropped."""
        if self.used + self.rows > len(self.filled):
            self.start_epoch(self.epoch + 1)
        batch = self.filled[self.used : self.used + self.rows]
        self.used += self.rows
        return lay_out(batch, self.length)

    def state_dict(self) -> dict[str, int]:
        """Where the cursor stands."""
        return {"epoch": self.epoch, "used": self.used, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where a cursor over the same documents stood."""
        self.seed = state["seed"]
        self.start_epoch(state["epoch"], state["used"])
