"""How good is it? The surprise of a model at a text it has not learned.

Every token of the text but the first is predicted exactly once, each from
the tokens before it in its window. From these losses come the mean in nats,
perplexity (Jelinek et al., 1977), bits per byte, which do not depend on the
tokenizer, the distance from a known entropy, and how far chance may have
moved the result.

Left out: tasks with right and wrong answers, and people's opinions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scratchlm.model.gpt import next_token_loss
from scratchlm.text.toytown import Story, entropy_per_token

Span = tuple[int, int, int]


def spans(length: int, context: int, stride: int) -> Iterator[Span]:
    """Cut `length` tokens into windows of which each token is scored once.

    Yields (begin, fresh, end): from the tokens begin ... end - 1 the model
    predicts the tokens begin + 1 ... end, and those after `fresh` count,
    the others were scored by the window before. The next window begins
    `stride` tokens later. Raises ValueError for fewer than two tokens, and
    for a stride that is longer than the context and would leave a hole.

    >>> list(spans(8, context=4, stride=4))
    [(0, 0, 4), (4, 4, 7)]
    >>> list(spans(8, context=4, stride=2))
    [(0, 0, 4), (2, 4, 6), (4, 6, 7)]
    """
    if length < 2:
        raise ValueError(f"{length} tokens: it takes two to predict one")
    if not 1 <= stride <= context:
        raise ValueError(
            f"stride {stride} with a context of {context}: choose 1 to "
            f"{context}, or tokens are never scored"
        )
    begin = fresh = end = 0
    while end < length - 1:
        end = min(begin + context, length - 1)
        yield begin, fresh, end
        begin, fresh = begin + stride, end


def batches(cuts: Iterator[Span], batch_size: int) -> Iterator[list[Span]]:
    """Up to `batch_size` windows at a time, all of one length."""
    for _, equal in groupby(cuts, key=lambda cut: cut[2] - cut[0]):
        while batch := list(islice(equal, batch_size)):
            yield batch


def token_losses(
    model: nn.Module,
    tokens: Any,
    context: int,
    batch_size: int = 32,
    stride: int | None = None,
) -> Tensor:
    """Nats for each of N tokens but the first: (N - 1,), in their order.

    `tokens` is a 1-D array or list of ids; a file on disk is read piece by
    piece. Windows of `context` tokens begin every `stride` tokens, side by
    side unless told otherwise. Dropout is off meanwhile.
    """
    device = next(model.parameters(), torch.empty(0)).device
    was_training = model.training
    model.eval()
    losses = []
    with torch.inference_mode():
        cuts = spans(len(tokens), context, stride or context)
        for batch in batches(cuts, batch_size):
            rows = [np.asarray(tokens[b : end + 1]) for b, _, end in batch]
            ids = torch.from_numpy(np.stack(rows).astype(np.int64))
            ids = ids.to(device)  # (B, T + 1)
            logits = model(ids[:, :-1])  # (B, T, V)
            nats = next_token_loss(logits, ids[:, 1:], reduction="none")
            for row, (b, fresh, _) in zip(
                nats.view(len(batch), -1).cpu(), batch, strict=True
            ):
                losses.append(row[fresh - b :])
    model.train(was_training)
    return torch.cat(losses)


def perplexity(nats_per_token: float) -> float:
    """Among how many equally likely tokens the model seems to choose.

    Infinite beyond what a float can hold.

    >>> round(perplexity(math.log(6)), 9)  # a die
    6.0
    """
    return math.exp(nats_per_token) if nats_per_token < 709 else math.inf


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
) -> Evaluation:
    """Score a model on a whole text; arguments as for `token_losses`."""
    losses = token_losses(model, tokens, context, batch_size, stride)
    return Evaluation(float(losses.double().mean()), len(losses))


def bits_per_byte(nats_total: float, size: int) -> float:
    """The loss of a whole text of `size` bytes of UTF-8, for each of them.

    The same text has the same bytes whatever the tokenizer, so models with
    different tokenizers compare.

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
    look back on. The last window, if shorter, counts where it reaches.

    >>> by_position(torch.tensor([4.0, 2.0, 1.0, 6.0, 4.0]), 3)
    tensor([5., 3., 1.])
    """
    missing = -len(losses) % context
    padded = nn.functional.pad(losses, (0, missing), value=math.nan)
    means = padded.view(-1, context).nanmean(dim=0)
    return means[: len(losses)]


def by_document(losses: Tensor, targets: Any, end_id: int) -> np.ndarray:
    """Summed loss and number of tokens of each document: (documents, 2).

    A document lasts up to and with its end token. `targets` are the tokens
    that the losses belong to.
    """
    ends = np.asarray(targets) == end_id
    document = np.cumsum(ends) - ends  # how many ended before
    nats = np.bincount(document, weights=losses.double().numpy())
    return np.stack([nats, np.bincount(document)], axis=1)


def bootstrap(
    documents: np.ndarray, level: float = 0.95, samples: int = 1000
) -> tuple[float, float]:
    """Between what values the mean loss per token lies, with this level.

    Draws as many documents as there are, with repetition, again and again,
    and sees how the mean scatters (Efron, 1979). Whole documents: tokens
    of one story are no independent witnesses. `documents` is what
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
