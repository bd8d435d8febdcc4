"""Guess ahead, then check: several tokens from one read of the model.

A draft, which is cheap, guesses how the text goes on. The model reads all
guesses at once, keeps the first few of them by a rule of chance and adds a
token of its own, so that what comes out is distributed exactly as if the
model had written alone (Leviathan et al., 2022; Chen et al., 2023). The
drafts are what came earlier in the text (Saxena, 2023), a table of counts,
and a smaller model.

Left out: batches, trees of guesses, drafts that learn from the model.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import window_start
from scratchlm.generation.sampling import SamplingConfig, probabilities
from scratchlm.model.gpt import GPT, check_ids
from scratchlm.model.ngram import NGram

# --- the rule ----------------------------------------------------------------


def residual(p: Tensor, q: Tensor) -> Tensor:
    """What p has beyond q, as a distribution: (V,) and (V,) → (V,).

    Chen et al. (2023), section 2. Where p has nothing beyond q, they are
    equal but for rounding, and p itself is returned.

    >>> residual(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.8, 0.1, 0.1]))
    tensor([0.0000, 0.6667, 0.3333])
    """
    beyond = (p - q).clamp_min(0)
    total = beyond.sum()
    return beyond / total if total > 0 else p


def draw_token(p: Tensor, generator: torch.Generator | None = None) -> int:
    """One token from a distribution (V,)."""
    return int(torch.multinomial(p, 1, generator=generator))


def verify(
    guesses: Sequence[int],
    p: Tensor,
    q: Tensor,
    generator: torch.Generator | None = None,
) -> list[int]:
    """The guesses that are kept, and one more token: from 1 to γ + 1.

    Of γ guesses, guess i was drawn from q[i]; the model would have drawn it
    from p[i], and what follows them all from the last row of p; p is
    (γ + 1, V), q is (γ, V). A guess is kept with probability min(1, p / q).
    The first that is not is drawn anew from the residual, and those after it
    are dropped (Leviathan et al., 2022, algorithm 1). Raises ValueError if
    the shapes do not fit.
    """
    count = len(guesses)
    if p.shape != (count + 1, p.shape[-1]) or q.shape != (count, p.shape[-1]):
        raise ValueError(
            f"{count} guesses need p of shape ({count + 1}, V) and q of "
            f"({count}, V), not {tuple(p.shape)} and {tuple(q.shape)}: has "
            "the draft the vocabulary of the model?"
        )
    at = torch.arange(count), torch.tensor(guesses, dtype=torch.long)
    u = torch.rand(count, generator=generator)
    kept = int((u * q[at] < p[at]).cumprod(0).sum())  # up to the first "no"
    last = p[count] if kept == count else residual(p[kept], q[kept])
    return [*guesses[:kept], draw_token(last, generator)]


# --- drafts ------------------------------------------------------------------


class Draft(Protocol):
    """Anything that guesses how a text goes on."""

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """Up to `count` guesses, and what each was drawn from: (guesses, V).

        A draft may guess badly, or nothing at all. What it must not do is
        draw from one distribution and return another.
        """


def continuation(ids: Sequence[int], longest: int) -> list[int]:
    """What followed the last tokens where they occurred before, if they did.

    Looks for the last `longest` tokens, then for fewer; of several places it
    takes the latest.

    >>> continuation([5, 6, 7, 8, 9, 6, 7], longest=3)
    [8, 9, 6, 7]
    """
    ids = list(ids)
    for size in range(min(longest, len(ids) - 1), 0, -1):
        end = ids[-size:]
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == end:
                return ids[start + size :]
    return []


class LookupDraft:
    """Guesses, with certainty, that the text repeats itself (Saxena, 2023)."""

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        """Compare up to `longest` tokens with what came before."""
        self.vocab_size = vocab_size
        self.longest = longest

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """What followed before; each guess had probability 1."""
        guesses = continuation(ids, self.longest)[:count]
        row = torch.tensor(guesses, dtype=torch.long)
        return guesses, F.one_hot(row, self.vocab_size).float()


class NGramDraft:
    """Guesses by a table of counts."""

    def __init__(self, counts: NGram) -> None:
        """Take a model that has counted a text of the same tokens."""
        self.counts = counts

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """Guesses drawn from the counts, with the settings of the model.

        No guesses for a text that is shorter than the context of the counts.
        """
        text, rows = list(ids), [torch.empty(0, self.counts.vocab_size)]
        if len(text) < self.counts.order - 1:
            count = 0
        for _ in range(count):
            share = torch.from_numpy(self.counts.next_probabilities(text))
            rows.append(probabilities(share.log()[None], sampling))
            text.append(draw_token(rows[-1][0], generator))
        return text[len(ids) :], torch.cat(rows)


# --- models ------------------------------------------------------------------


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts share from the beginning.

    >>> common_length([1, 2, 3, 4], [1, 2, 9])
    2
    """
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


class Reader:
    """A model with a cache, and the tokens that the cache has read."""

    def __init__(self, model: GPT) -> None:
        """An empty cache with room for the whole context.

        Raises ValueError for a model whose dropout is on.
        """
        if model.training and model.config.dropout:
            raise ValueError("dropout is on: call model.eval() before writing")
        weight = next(model.parameters())
        self.model, self.device = model, weight.device
        self.cache = KVCache(
            model.config, dtype=weight.dtype, device=weight.device
        )
        self.known: list[int] = []

    def logits(self, ids: Sequence[int], last: int = 1) -> Tensor:
        """Scores after each of the last tokens of a text: (last, V).

        The text may continue the one before, or part from it anywhere: the
        cache is rewound to where they part, and the rest is read.
        """
        known = min(common_length(self.known, ids), len(ids) - last)
        self.cache.rewind(known)
        self.known = list(ids[:known])  # in case reading fails
        new = torch.tensor([ids[known:]], device=self.device)
        x = self.model.features(new, self.cache)[0, -last:]
        self.known = list(ids)
        return self.model.head(x).float().cpu()


class ModelDraft:
    """Guesses by a smaller model of the same vocabulary."""

    def __init__(self, model: GPT) -> None:
        """Give the model a cache of its own."""
        self.reader = Reader(model)

    @torch.no_grad()
    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """Guesses drawn one by one, with the settings of the large model."""
        config = self.reader.model.config
        text, rows = list(ids), [torch.empty(0, config.vocab_size)]
        for _ in range(count):
            view = text[window_start(len(text), config.context) :]
            rows.append(probabilities(self.reader.logits(view), sampling))
            text.append(draw_token(rows[-1][0], generator))
        return text[len(ids) :], torch.cat(rows)


@torch.no_grad()
def speculate(
    model: GPT,
    draft: Draft,
    ids: Sequence[int],
    new_tokens: int,
    guesses: int = 4,
    sampling: SamplingConfig | None = None,
    generator: torch.Generator | None = None,
    stop_id: int | None = None,
) -> Iterator[list[int]]:
    """Continue one text by `new_tokens`; yields what each read brings.

    That is from 1 to `guesses` + 1 tokens, the last of which the model has
    chosen itself. They have the distribution that `generate` draws from, and
    at temperature 0 are the same. Nothing follows `stop_id`. Tokens are
    chosen on the CPU. Raises ValueError, at the first step, for a repetition
    penalty, whose p depends on the guesses, and for what `generate` refuses.
    """
    sampling = sampling or SamplingConfig()
    if sampling.repetition_penalty != 1:
        raise ValueError("no repetition penalty here: set it to 1")
    check_ids(torch.tensor([list(ids)]), model.config.vocab_size)
    reader, context = Reader(model), model.config.context
    text, end = list(ids), len(ids) + new_tokens
    while len(text) < end:
        start = window_start(len(text), context)
        room = min(start + context, end - 1) - len(text)
        guessed, q = draft.propose(
            text, min(guesses, room), sampling, generator
        )
        logits = reader.logits(text[start:] + guessed, len(guessed) + 1)
        p = probabilities(logits, sampling)
        new = verify(guessed, p, q, generator)
        if stop_id is not None and stop_id in new:
            end, new = 0, new[: new.index(stop_id) + 1]
        yield new
        text += new


# --- accounts ----------------------------------------------------------------


def overlap(p: Tensor, q: Tensor) -> Tensor:
    """The chance that a guess from q is kept: (..., V) → (...).

    Σ min(p, q), which is 1 where they are equal (Leviathan et al., 2022,
    section 3).

    >>> overlap(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.8, 0.1, 0.1]))
    tensor(0.7000)
    """
    return torch.minimum(p, q).sum(dim=-1)


def expected_tokens(alpha: float, guesses: int) -> float:
    """Tokens from one read, if each guess is kept with probability alpha.

    1 + α + … + α^γ, with γ guesses (Leviathan et al., 2022, equation 1).

    >>> expected_tokens(0.5, guesses=2)
    1.75
    """
    return math.fsum(alpha**i for i in range(guesses + 1))


def speedup(alpha: float, guesses: int, cost: float) -> float:
    """How many times as fast as the model alone.

    `cost` is the time of one guess, if a read by the model takes 1, however
    many tokens it reads (Leviathan et al., 2022, theorem 3.8).

    >>> speedup(0.5, guesses=2, cost=0.125)
    1.4
    """
    return expected_tokens(alpha, guesses) / (guesses * cost + 1)
