"""Solutions to the exercises on guessing ahead."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speculative import (
    Draft,
    LookupDraft,
    overlap,
    residual,
    speedup,
)


def best_guesses(alpha: float, cost: float, most: int = 50) -> int:
    """How many guesses at a time gain most; 0 where none gain anything.

    >>> best_guesses(0.8, cost=0.05), best_guesses(0.3, cost=0.4)
    (8, 0)
    """
    return max(range(most + 1), key=lambda n: speedup(alpha, n, cost))


def best_temperature(
    p: Tensor, scores: Tensor, temperatures: Sequence[float]
) -> float:
    """The temperature at which a draft's guesses are kept most often.

    p (..., V) is what the model draws from, scores (..., V) are the draft's.
    """

    def kept(temperature: float) -> float:
        return overlap(p, (scores / temperature).softmax(-1)).mean().item()

    return max(temperatures, key=kept)


class FirstOf:
    """The first of several drafts that has anything to say."""

    def __init__(self, *drafts: Draft) -> None:
        """Ask them in this order."""
        self.drafts = drafts

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """Its guesses, and what they were drawn from."""
        for draft in self.drafts:
            guesses, q = draft.propose(ids, count, sampling, generator)
            if guesses:
                break
        return guesses, q


class ThreeAlike(LookupDraft):
    """Guesses only where the last three tokens have stood before."""

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """As `LookupDraft`, and nothing for a shorter match."""
        ids, end = list(ids), list(ids)[-3:]
        known = any(ids[i : i + 3] == end for i in range(len(ids) - 3))
        return super().propose(ids, count if known else 0, sampling, generator)


class Cautious:
    """A draft that stops where it is not sure of anything."""

    def __init__(self, draft: Draft, least: float) -> None:
        """Guess while the likeliest token has at least this probability."""
        self.draft, self.least = draft, least

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """Guesses up to the first row of q that has no favorite."""
        guesses, q = self.draft.propose(ids, count, sampling, generator)
        sure = q.amax(-1) >= self.least
        kept = int(sure.cumprod(0).sum())
        return guesses[:kept], q[:kept]


def dropped(p: Tensor, q: Tensor, least: float) -> Tensor:
    """What comes out if a guess is dropped when its own q is below `least`.

    The distribution (V,) of the first token: guesses that are kept, those
    that are refused and drawn anew, and those that were never shown.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    >>> dropped(p, q, least=0.0), dropped(p, q, least=0.2)
    (tensor([0.5000, 0.5000]), tensor([0.5500, 0.4500]))
    """
    shown = q * (q >= least)
    kept = torch.minimum(p, shown)  # q · min(1, p / q), where q is shown
    refused = (shown - kept).sum()
    return kept + refused * residual(p, q) + (1 - shown.sum()) * p


def without_chance(p: Tensor, q: Tensor) -> Tensor:
    """What comes out if a guess with p < q is always refused.

    >>> p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.8, 0.1, 0.1])
    >>> without_chance(p, q)
    tensor([0.0000, 0.6333, 0.3667])
    """
    kept = q * (p >= q)
    return kept + (1 - kept.sum()) * residual(p, q)
