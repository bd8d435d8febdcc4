"""Many documents in a row: packing, and the mask that keeps them apart.

The rows of a batch are equally long, and documents are not. Here are the
ways to fill rows (cut wherever a row ends, or whole documents by a rule of
bin packing), the mask by which no token sees another document, positions
that begin anew in each, and a model's features and loss under both, as if
each document stood alone (Krell et al., 2021).

Left out: kernels that skip what the mask hides, and dropout. A document that
is longer than a row has to be cut beforehand, or by `cut_anywhere`.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.attention import causal_mask
from scratchlm.model.block import Block
from scratchlm.model.gpt import GPT, check_ids
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.training.memory import IGNORED

# What is read, and what is to be said after each token: equally long.
Part = tuple[list[int], list[int]]
Rows = list[list[Part]]


def predict_next(document: Sequence[int]) -> Part:
    """A document of N tokens as a part of N − 1, its targets one ahead.

    The last token is a target and is not read: what would come next is
    another document. Raises ValueError for fewer than two tokens.

    >>> predict_next([7, 3, 5])
    ([7, 3], [3, 5])
    """
    if len(document) < 2:
        raise ValueError(
            f"a document of {len(document)} tokens has nothing to predict: "
            "leave it out, or put a token in front of it"
        )
    tokens = list(document)
    return tokens[:-1], tokens[1:]


# --- Which document goes where -----------------------------------------------


def check_size(i: int, size: int, room: int) -> None:
    """Raise ValueError for a thing that no row has room for."""
    if not 0 < size <= room:
        raise ValueError(f"thing {i} of {size} does not fit into {room}")


def first_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Each thing goes into the first row that has room for it.

    Returns the numbers of the things in each row. Raises ValueError for a
    thing that is empty, or larger than a row.

    >>> first_fit([3, 5, 4, 2], room=8)
    [[0, 1], [2, 3]]
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for i, size in enumerate(sizes):
        check_size(i, size, room)
        row = next((r for r, left in enumerate(free) if left >= size), None)
        if row is None:
            row = len(rows)
            rows.append([])
            free.append(room)
        rows[row].append(i)
        free[row] -= size
    return rows


def best_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """The largest thing first, each into the fullest row with room for it.

    Best fit decreasing; raises ValueError as `first_fit` does. A list of
    rows, sorted by their room, is searched by halving.

    >>> best_fit([3, 3, 5, 5], room=8), first_fit([3, 3, 5, 5], room=8)
    ([[2, 0], [3, 1]], [[0, 1], [2], [3]])
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, row), ascending
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        check_size(i, sizes[i], room)
        at = bisect_left(free, (sizes[i], -1))
        if at == len(free):
            free.append((room, len(rows)))
            rows.append([])
        left, row = free.pop(at)
        rows[row].append(i)
        insort(free, (left - sizes[i], row))
    return rows


def padding_share(
    rows: Sequence[Sequence[int]], sizes: Sequence[int], room: int
) -> float:
    """The share of all places in the rows that hold no token.

    >>> padding_share([[0], [1]], sizes=[8, 4], room=8)
    0.25
    """
    held = sum(sizes[i] for row in rows for i in row)
    return 1 - held / (len(rows) * room)


def keep_whole(parts: Sequence[Part], length: int) -> Rows:
    """Rows of whole parts, by first fit in the order in which they come."""
    found = first_fit([len(ids) for ids, _ in parts], length)
    return [[parts[i] for i in row] for row in found]


def cut_anywhere(parts: Sequence[Part], length: int) -> Rows:
    """One part after another, cut wherever a row is full.

    A part that is cut goes on in the next row, as a part of its own.

    >>> cut_anywhere([([1, 2, 3], [2, 3, 4]), ([7, 8], [8, 9])], length=4)
    [[([1, 2, 3], [2, 3, 4]), ([7], [8])], [([8], [9])]]
    """
    if length < 1:
        raise ValueError(f"rows of {length} tokens hold nothing: choose more")
    rows: Rows = []
    free = 0
    for ids, targets in parts:
        start = 0
        while start < len(ids):
            if not free:
                rows.append([])
                free = length
            stop = min(start + free, len(ids))
            rows[-1].append((ids[start:stop], targets[start:stop]))
            free -= stop - start
            start = stop
    return rows


# --- Rows as tensors ---------------------------------------------------------


@dataclass(frozen=True)
class Packed:
    """Rows of documents, one after the other, and of padding at the end."""

    ids: Tensor  # (B, T)
    targets: Tensor  # (B, T), IGNORED where nothing is to be said
    document: Tensor  # (B, T), its number in the row; −1 is padding


def lay_out(rows: Sequence[Sequence[Part]], length: int) -> Packed:
    """Parts, several to a row, as tensors of `length` columns.

    Raises ValueError for a row that is too long, and for a part that does
    not have one target for each token.
    """
    shape = (len(rows), length)
    ids = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    document = torch.full(shape, -1)
    for i, row in enumerate(rows):
        start = 0
        for number, (read, said) in enumerate(row):
            stop = start + len(read)
            if len(said) != len(read) or stop > length:
                raise ValueError(
                    f"part {number} of row {i} has {len(read)} tokens and "
                    f"{len(said)} targets, and room for {length - start}"
                )
            ids[i, start:stop] = torch.tensor(read)
            targets[i, start:stop] = torch.tensor(said)
            document[i, start:stop] = number
            start = stop
    return Packed(ids, targets, document)


def packed_batches(
    parts: Sequence[Part],
    length: int,
    rows: int,
    seed: int,
    arrange: Callable[[Sequence[Part], int], Rows] = keep_whole,
) -> Iterator[Packed]:
    """Batches of rows without end, shuffled and arranged anew each epoch.

    The rows that are left over at the end of an epoch are dropped. Raises
    ValueError if an epoch does not fill a single batch.
    """
    draw = np.random.default_rng(seed)
    while True:
        order = [parts[i] for i in draw.permutation(len(parts))]
        filled = arrange(order, length)
        if len(filled) < rows:
            raise ValueError(
                f"{len(filled)} rows are too few for a batch of {rows}: take "
                "more documents, or fewer rows"
            )
        draw.shuffle(filled)
        for start in range(0, len(filled) - rows + 1, rows):
            yield lay_out(filled[start : start + rows], length)


def join_documents(batch: Packed) -> Packed:
    """The same rows, each taken for a single document: the open row.

    Every token sees everything before it, and positions run on.
    """
    return replace(batch, document=torch.zeros_like(batch.document))


# --- Each as if alone --------------------------------------------------------


def document_mask(document: Tensor) -> Tensor:
    """True where a token may look: back, in its own document: (B, T, T).

    `document` (B, T) numbers each token's document.

    >>> document_mask(torch.tensor([[0, 0, 1]])).int()
    tensor([[[1, 0, 0],
             [1, 1, 0],
             [0, 0, 1]]], dtype=torch.int32)
    """
    same = document[:, :, None] == document[:, None, :]
    t = document.shape[1]
    return same & causal_mask(t, t, document.device)


def restart(document: Tensor) -> Tensor:
    """Positions that begin at 0 in each document: (B, T).

    >>> restart(torch.tensor([[0, 0, 0, 1, 1]]))
    tensor([[0, 1, 2, 0, 1]])
    """
    place = torch.arange(document.shape[1], device=document.device)
    begins = F.pad(document[:, 1:] != document[:, :-1], (1, 0), value=True)
    return place - (place * begins).cummax(dim=1).values


def attend_apart(layer: MultiHeadAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Attention (B, T, C) → (B, T, C) under a mask (B, 1, T, T)."""
    q, k, v = layer.split(x, 0)
    grouped = q.shape[1] != k.shape[1]
    attended = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, enable_gqa=grouped
    )
    out: Tensor = layer.out(attended.transpose(1, 2).flatten(2))
    return out


def packed_features(model: GPT, batch: Packed) -> Tensor:
    """What the head reads, as if each document stood alone: (B, T, C).

    For blocks with their norms in front, and without dropout. Rotary
    positions need no restart, since only distances count there. Raises
    ValueError for other models, and for rows longer than the context.
    """
    config = model.config
    plain = all(  # and not through a window, say
        type(block.attention) is MultiHeadAttention for block in model.blocks
    )
    if config.norm_order != "pre" or config.dropout or not plain:
        raise ValueError(
            "packing knows pre-norm blocks with plain attention, and without "
            "dropout, only"
        )
    check_ids(batch.ids, config.vocab_size)
    if batch.ids.shape[1] > config.context:
        raise ValueError(
            f"rows of {batch.ids.shape[1]} tokens are too long for a model "
            f"that looks back on {config.context}: lay out shorter ones"
        )
    mask = document_mask(batch.document)[:, None]  # (B, 1, T, T)
    x = model.token(batch.ids)
    if model.position is not None:
        x = x + model.position.weight[restart(batch.document)]
    for block in model.blocks:
        assert isinstance(block, Block)
        x = x + attend_apart(block.attention, block.norm1(x), mask)
        x = x + block.mlp(block.norm2(x))
    features: Tensor = model.norm(x)
    return features


def packed_loss(model: GPT, batch: Packed) -> Tensor:
    """Mean nats per target of the whole batch; the rest is not scored."""
    said = batch.targets != IGNORED
    logits = model.head(packed_features(model, batch)[said])  # (N, V)
    return F.cross_entropy(logits.float(), batch.targets[said])
