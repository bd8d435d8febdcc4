"""Solutions to the exercises on texts that come and go."""

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scratchlm.generation.batch import Engine, Request, Row, Written
from scratchlm.generation.cache import cache_bytes
from scratchlm.model.gpt import GPT, GPTConfig, parameter_table


def blocks_held(lengths: Sequence[int], size: int) -> tuple[int, int]:
    """How many blocks texts hold, and how many of their slots are empty.

    >>> blocks_held([5, 16, 17, 40], 16)
    (7, 34)
    """
    blocks = sum(-(-length // size) for length in lengths)
    return blocks, blocks * size - sum(lengths)


def count_steps(
    lengths: Sequence[int], rows: int, continuous: bool = True
) -> int:
    """Steps until texts of these lengths are written, all there at first.

    >>> count_steps([1, 9, 1, 9], 2), count_steps([1, 9, 1, 9], 2, False)
    (11, 18)
    """
    if not continuous:
        starts = range(0, len(lengths), rows)
        return sum(max(lengths[i : i + rows]) for i in starts)
    ends = [0] * rows  # a heap: which row is free first
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def step_bytes(
    config: GPTConfig, lengths: Sequence[int], bytes_per_number: int = 2
) -> tuple[int, int]:
    """Bytes that a step fetches: of the weights, of keys and values.

    Of the tables of tokens and positions only single rows are fetched, and
    they do not count; a head that shares the tokens' matrix does.
    """
    table = parameter_table(replace(config, tied=False))
    weights = sum(table.values()) - table["tokens"] - table["positions"]
    caches = cache_bytes(config, 1, sum(lengths), bytes_per_number)
    return bytes_per_number * weights, caches


def several(
    engine: Engine, prompt: Sequence[int], request: Request, count: int
) -> list[list[int]]:
    """So many answers to one prompt, which is read once.

    The first goes ahead until its prompt has been read and the blocks have
    names. For an engine that has nothing else to do.
    """
    ids = [engine.add(prompt, request)]
    found = engine.step()
    for n in range(1, count):
        other = replace(request, seed=request.seed + n)
        ids.append(engine.add(prompt, other))
    while engine.busy:
        found += engine.step()
    return [[new.token for new in found if new.id == id] for id in ids]


class PatientEngine(Engine):
    """Reads at most `budget` tokens of prompts in a step (Sarathi)."""

    def __init__(self, model: GPT, budget: int = 16, **options: Any) -> None:
        """All other options are those of the engine."""
        super().__init__(model, **options)
        self.budget = budget

    def step(self) -> list[Written]:
        """A token for each row that has read its prompt; a part of one."""
        self.read_notes()
        self.admit()
        for row in list(self.running):
            self.make_room(row)
        short = [row for row in self.running if len(row.pending) == 1]
        long = [row for row in self.running if len(row.pending) > 1]
        if short:
            self.write(short)
        if long:
            self.read_part(long[0])
        return self.hand_out()

    def read_part(self, row: Row) -> None:
        """Read on in a prompt; at its end, choose the first token."""
        if len(row.pending) <= self.budget:
            self.write([row])
            return
        end = row.start + row.stored + self.budget
        part = replace(row, tokens=row.tokens[:end])
        self.logits([part])  # for the keys; nobody needs these scores
        row.stored = part.stored
        self.share(row)
