"""Learning by heart: how to see it, and two of the cures.

A model that is large for its text ends up knowing the text instead of the
language. `watch` trains a model and measures its loss on the text it reads
and on text that it never reads; `recited` measures what it knows by heart.
The cures in code are dropout (Srivastava et al., 2014), here in its plain
form, and early stopping (Prechelt, 1998), here as the rule that the trainer
follows. The other two are a smaller model and more text.

Left out: weight decay, which is the optimizer's, and changing the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scratchlm.model.gpt import GPT
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.trainer import (
    LogRecord,
    TrainConfig,
    Trainer,
    validation_loss,
)


@dataclass(frozen=True)
class Curves:
    """Losses on text that is read and on text that is not, nats per token.

    All three have an entry for each evaluation, in order.
    """

    steps: tuple[int, ...]
    seen: tuple[float, ...]  # loss on the text that the model learns from
    unseen: tuple[float, ...]  # loss on text that it never reads

    @property
    def best(self) -> int:
        """The evaluation with the lowest loss on unseen text, from 0."""
        return self.unseen.index(min(self.unseen))

    @property
    def gap(self) -> float:
        """How much more the last model needs on unseen text than on seen."""
        return self.unseen[-1] - self.seen[-1]


def watch(
    model: GPT,
    text: np.ndarray,
    other: np.ndarray,
    config: TrainConfig,
    folder: Path,
    batch_size: int = 16,
) -> Curves:
    """Train on `text` in a new folder; both losses at every evaluation.

    `text` and `other` are ids (N,); nothing is learned from `other`. The
    weights that were best on it are kept in the folder.
    """
    context = model.config.context
    steps, seen, unseen = [], [], []

    def look(model: GPT, line: LogRecord) -> None:
        steps.append(line["step"])
        seen.append(validation_loss(model, text, context))
        unseen.append(line["validation_loss"])

    cursor = BatchCursor(text, context, batch_size, seed=1)
    Trainer(model, cursor, other, config, folder, look).fit()
    return Curves(tuple(steps), tuple(seen), tuple(unseen))


@torch.no_grad()
def recited(
    model: nn.Module, tokens: np.ndarray, prompt: int, length: int
) -> float:
    """The share of places where a text (N,) is continued word for word.

    At places `prompt` + `length` tokens apart, the model reads `prompt`
    tokens and would then write `length`, each time the likeliest. It writes
    all of them right if, and only if, it would get each one right after the
    true ones before it; so one pass tells. Both together must fit the
    model's context.
    """
    size = prompt + length
    rows = len(tokens) // size
    whole = np.asarray(tokens[: rows * size]).astype(np.int64)
    device = next(model.parameters(), torch.empty(0)).device
    ids = torch.from_numpy(whole).view(rows, size).to(device)
    was_training, right = model.training, []
    model.eval()
    try:
        for some in ids.split(256):  # logits of all might not fit
            likeliest = model(some)[:, prompt - 1 : -1].argmax(-1)
            right.append((likeliest == some[:, prompt:]).all(dim=1))
    finally:
        model.train(was_training)
    return torch.cat(right).float().mean().item()


def drop(
    x: Tensor, share: float, generator: torch.Generator | None = None
) -> Tensor:
    """Set a share of the numbers of x to zero, at random; any shape.

    The others are divided by 1 − share, so that the mean stays what it was.
    Dropout is this in training, and nothing at all afterwards. Raises
    ValueError for what is not a share, and for 1, which leaves nothing.

    >>> drop(torch.ones(6), 0.5, torch.Generator().manual_seed(1))
    tensor([2., 0., 0., 2., 0., 2.])
    """
    if not 0 <= share < 1:
        raise ValueError(f"share={share}: choose 0 or more, and less than 1")
    chance = torch.rand(x.shape, generator=generator, device=x.device)
    return x * (chance >= share) / (1 - share)


def stop_early(losses: Sequence[float], patience: int) -> tuple[int, int]:
    """The best evaluation, and the one after which training ends; from 0.

    It ends when `patience` evaluations in a row have brought no new best,
    or with the last one. The trainer decides by this rule as it goes.

    >>> stop_early([3.0, 2.0, 2.5, 1.9, 2.4, 2.2, 1.0], patience=2)
    (3, 5)
    """
    best = 0
    for now, loss in enumerate(losses):
        if loss < losses[best]:
            best = now
        if now - best >= patience:
            return best, now
    return best, len(losses) - 1
