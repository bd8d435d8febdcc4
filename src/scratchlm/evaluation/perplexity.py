"""How good is it? The surprise of a model at a text it has not learned.

`token_losses` predicts every token of the text but the first exactly once,
each from the tokens before it in its window; the trainer judges by it, too.
From these losses come the mean in nats, perplexity (Jelinek et al., 1977),
bits per byte, which do not depend on the tokenizer, the distance from a known
entropy, and how far chance may have moved the result.

Left out: tasks with right and wrong answers, and people's opinions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from scratchlm.text.toytown import Story, entropy_per_token
from scratchlm.training.precision import Precision
from scratchlm.training.trainer import token_losses


def perplexity(nats_per_token: float) -> float:
    """Among how many equally likely tokens the model seems to choose.

    Infinite beyond what a float can hold.

    >>> round(perplexity(math.log(6)), 9)  # a die
    6.0
    """
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Evaluation:
    """Mean loss over `tokens` tokens that were predicted."""

    nats_per_token: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """The mean loss, as a number of equally likely tokens."""
        return perplexity(self.nats_per_token)

    @property
    def nats(self) -> float:
        """The loss of the whole text."""
        return self.nats_per_token * self.tokens


def evaluate(
    model: nn.Module,
    tokens: Any,
    context: int,
    batch_size: int = 32,
    stride: int | None = None,
    precision: Precision = "float32",
) -> Evaluation:
    """Score a model on a whole text; arguments as for `token_losses`."""
    losses = token_losses(model, tokens, context, batch_size, stride, precision)
    return Evaluation(float(losses.double().mean()), len(losses))


def bits_per_byte(nats_total: float, size: int) -> float:
    """The loss of a whole text of `size` bytes of UTF-8, for each of them.

    The same text has the same bytes whatever the tokenizer, so models with
    different tokenizers can be compared.

    >>> round(bits_per_byte(8 * math.log(2), 4), 9)
    2.0
    """
    if size < 1:
        raise ValueError(f"a text of {size} bytes has no bits to share")
    return nats_total / math.log(2) / size


def gap(result: Evaluation, stories: Sequence[Story]) -> float:
    """Nats per token above the entropy of the stories that were scored.

    The town's own surprise at these stories is the same in any tokens,
    because encoding loses nothing.
    """
    floor = entropy_per_token(stories, result.tokens)
    return result.nats_per_token - floor


def by_position(losses: Tensor, context: int) -> Tensor:
    """Mean loss at each place of a window: (context,), or fewer.

    `losses` are those of windows side by side; place t has t + 1 tokens to
    look back on. The last window, if shorter, counts as far as it reaches.

    >>> by_position(Tensor([4.0, 2.0, 1.0, 6.0, 4.0]), 3)
    tensor([5., 3., 1.])
    """
    missing = -len(losses) % context
    padded = nn.functional.pad(losses, (0, missing), value=math.nan)
    means = padded.view(-1, context).nanmean(dim=0)
    return means[: len(losses)]


def by_document(losses: Tensor, targets: Any, end_id: int) -> np.ndarray:
    """Summed loss and number of tokens of each document: (documents, 2).

    A document lasts up to and including its end token. `targets` are the
    tokens that the losses belong to.
    """
    ends = np.asarray(targets) == end_id
    document = np.cumsum(ends) - ends  # how many ended before
    nats = np.bincount(document, weights=losses.double().numpy())
    return np.stack([nats, np.bincount(document)], axis=1)


def bootstrap(
    documents: np.ndarray, level: float = 0.95, samples: int = 1000
) -> tuple[float, float]:
    """Between what values the mean loss per token lies, at this level.

    Draws as many documents as there are, with replacement, again and again,
    and sees how the mean scatters (Efron, 1979). Whole documents: tokens
    of one story are not independent witnesses. `documents` is what
    `by_document` gives; for the difference of two models, subtract the
    losses first. The draws are the same at every call.
    """
    if len(documents) < 2:
        raise ValueError("one document does not show how documents differ")
    draw = np.random.default_rng(0)
    means = []
    for _ in range(samples):
        chosen = draw.integers(len(documents), size=len(documents))
        nats, tokens = documents[chosen].sum(axis=0)
        means.append(nats / tokens)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
