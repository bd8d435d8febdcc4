"""Choosing the next token: from scores to one token.

Greedy, temperature, top-k (Fan et al., 2018), the nucleus or top-p (Holtzman
et al., 2020), min-p (Nguyen et al., 2024) and a penalty on repetition (Keskar
et al., 2019). Each is a function from logits (..., V) to logits (..., V) that
leaves its argument as it is; a token that is ruled out scores −∞.

Left out: beam search, typical sampling, and penalties by frequency.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny  # what is smaller may count as 0


@dataclass(frozen=True)
class SamplingConfig:
    """How to choose. The defaults draw from what the model believes.

    `temperature` 0 always takes the likeliest token, whatever else is set.
    Filters left at None are off. Raises ValueError for values from
    which no distribution can be made.
    """

    temperature: float = 1.0  # 0: always the likeliest
    top_k: int | None = None  # choose among the k likeliest
    top_p: float | None = None  # among the likeliest that make up p
    min_p: float | None = None  # at least p times as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1: seldom the same again

    def __post_init__(self) -> None:
        """Refuse values out of range; NaN is in no range."""
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature={self.temperature}: choose 0 (greedy) or more"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: keep at least 1 token")
        for name in ("top_p", "min_p"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name}={share} is a share: above 0, up to 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty={self.repetition_penalty}: choose 1 "
                "for none, above 1 to discourage, above 0 in any case"
            )


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make the tokens of `seen` (..., T) less likely, once for each.

    Positive scores are divided by the penalty, negative ones multiplied
    (Keskar et al., 2019, section 4.1, as mended for negative scores).

    >>> penalize(torch.tensor([2.0, -2.0, 2.0]), torch.tensor([0, 1]), 2.0)
    tensor([ 1., -4.,  2.])
    """
    scores = logits.gather(-1, seen)  # (..., T)
    lower = torch.where(scores > 0, scores / penalty, scores * penalty)
    lower = lower.nan_to_num()  # no infinities, and 0 for 0 times one
    lower = torch.where(scores.isnan(), scores, lower)
    return logits.scatter(-1, seen, lower)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Rule out all but the k likeliest; ties are broken arbitrarily.

    >>> keep_top_k(torch.tensor([3.0, 1.0, 2.0]), 2)
    tensor([3., -inf, 2.])
    """
    scores, ids = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -math.inf).scatter(-1, ids, scores)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Rule out all but the nucleus: the fewest tokens that make up p.

    The token that crosses p belongs to it (Holtzman et al., 2020, section
    3.1), so at least one is left.

    >>> keep_top_p(torch.tensor([0.5, 0.25, 0.15, 0.1]).log(), 0.7).exp()
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    """
    if p >= 1:  # sums of many small numbers may round to 1 too early
        return logits
    scores, ids = logits.sort(dim=-1, descending=True)
    shares = scores.softmax(dim=-1)
    before = shares.cumsum(dim=-1) - shares  # of those that are likelier
    scores = scores.masked_fill(before >= max(p, TINY), -math.inf)
    return torch.empty_like(logits).scatter(-1, ids, scores)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Rule out what is less than p times as likely as the likeliest.

    Nguyen et al. (2024), section 3. Differences of logits are logarithms of
    ratios, so no softmax is needed.

    >>> keep_min_p(torch.tensor([0.6, 0.25, 0.15]).log(), 0.4).exp()
    tensor([0.6000, 0.2500, 0.0000])
    """
    floor = logits.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < floor, -math.inf)


def adjust(
    logits: Tensor, config: SamplingConfig, seen: Tensor | None = None
) -> Tensor:
    """Logits (..., V) whose softmax is the distribution to draw from.

    In this order: penalty, temperature, top-k, top-p, min-p. At temperature
    0 all but the first of the likeliest tokens are ruled out. `seen` (..., T)
    is the text so far; a penalty needs it, else ValueError.
    """
    logits = logits.float()
    if config.repetition_penalty != 1:
        if seen is None:
            raise ValueError("a repetition penalty needs the text: pass seen")
        logits = penalize(logits, seen, config.repetition_penalty)
    if config.temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        ruled_out = torch.full_like(logits, -math.inf)
        return ruled_out.scatter(-1, best, 0.0)
    if config.temperature != 1:
        top = logits.amax(dim=-1, keepdim=True)
        logits = (logits - top) / max(config.temperature, TINY)
    if config.top_k is not None:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p is not None:
        logits = keep_min_p(logits, config.min_p)
    return logits


def probabilities(
    logits: Tensor, config: SamplingConfig, seen: Tensor | None = None
) -> Tensor:
    """The distribution that `sample` draws from: (..., V), rows sum to 1."""
    return adjust(logits, config, seen).softmax(dim=-1)


def sample(
    logits: Tensor,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """One token id for each row: (..., V) → (...).

    The generator, on the device of the logits, is the only source of chance;
    at temperature 0 it is not touched.
    """
    if config.temperature == 0 and config.repetition_penalty == 1:
        return logits.argmax(dim=-1)  # nothing else would change it
    if config.temperature == 0:
        return adjust(logits, config, seen).argmax(dim=-1)
    p = probabilities(logits, config, seen)
    rows = p.view(-1, p.shape[-1])  # (rows, V)
    drawn = torch.multinomial(rows, 1, generator=generator)
    return drawn.view(logits.shape[:-1])
