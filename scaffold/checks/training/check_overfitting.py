"""What dropout, patience and the test of reciting must do."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training import overfitting
from scratchlm.training.trainer import TrainConfig, validation_loss

from ..expect import close, equal, raises, true
from ..inputs import scattered


def seeded() -> torch.Generator:
    """Chance that is the same each time."""
    return torch.Generator().manual_seed(4)


def check_dropout_keeps_the_mean() -> None:
    """A quarter of many numbers 3 is dropped; the rest are 4, the mean 3."""
    y = overfitting.drop(torch.full((100, 400), 3.0), 0.25, seeded())
    close(
        y.unique(),
        torch.tensor([0.0, 4.0]),
        "the numbers that come out",
        hint="divide what is kept by 1 - share",
    )
    close((y == 0).float().mean(), 0.25, "the share of zeros", tol=0.01)
    close(y.mean(), 3.0, "the mean", tol=0.05)


def check_dropout_drops_numbers_and_not_rows() -> None:
    """Each number has its own chance, in every row and column."""
    y = overfitting.drop(torch.ones(40, 40), 0.5, seeded())
    for dim, what in ((0, "column"), (1, "row")):
        counts = (y == 0).sum(dim)
        true(
            bool((counts > 5).all() and (counts < 35).all()),
            f"every {what} of 40 has between 5 and 35 zeros",
            hint="draw as many random numbers as x has numbers",
        )


def check_nothing_dropped_nothing_changed() -> None:
    """A share of 0 is no dropout; a share of 1 leaves nothing to scale."""
    x = torch.arange(6.0).view(2, 3)
    equal(overfitting.drop(x, 0.0).tolist(), x.tolist(), "after a share of 0")
    raises(ValueError, lambda: overfitting.drop(x, 1.0), "a share of 1")


def check_patience() -> None:
    """The best so far is remembered, and waited for anew."""
    losses = [3.0, 2.0, 2.5, 1.9, 2.4, 2.2, 1.0]
    equal(
        overfitting.stop_early(losses, 2),
        (3, 5),
        f"best and last evaluation of {losses} with a patience of 2",
        hint="count evaluations since the best, not rises in a row",
    )
    equal(
        overfitting.stop_early(losses, 3),
        (6, 6),
        "with a patience of 3",
        hint="1.0 comes in time",
    )
    equal(
        overfitting.stop_early([2.0, 2.0, 1.0], 1),
        (0, 1),
        "of 2.0, 2.0, 1.0 with a patience of 1",
        hint="as good as the best is not better",
    )


class Counter(nn.Module):
    """Writes the next number, always; in training it drops most."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))  # tells the device
        self.dropout = nn.Dropout(0.9)

    def forward(self, ids: Tensor) -> Tensor:
        return self.dropout(F.one_hot(ids + 1, 40).float())


def check_reciting() -> None:
    """Of two pieces one goes on as a counter does: a half."""
    tokens = np.array([1, 3, 4, 5, 6, 11, 12, 13, 14, 30, 7])
    model = Counter()
    close(
        overfitting.recited(model, tokens, 2, 3),
        0.5,
        "share of 1 3 | 4 5 6 and 11 12 | 13 14 30 that is recited",
        hint="a piece counts if all of its tokens are right; no dropout",
    )
    true(model.training, "after that, the model is in training mode again")
    close(
        overfitting.recited(Counter(), np.array([1, 2, 9, 10]), 2, 2),
        0.0,
        "1 2 | 9 10: a wrong token, and then the one that follows it",
        hint="one wrong token is enough",
    )


def check_both_losses_are_of_the_same_moment() -> None:
    """After training, the last entries are the model's losses as it is."""
    text, other = np.arange(90) % 5, np.arange(60) * 2 % 5
    model = scattered(GPT(gpt2_config(5, 4, 1, 1, 8, dropout=0.2)), 0.1)
    config = TrainConfig(steps=4, warmup=1, evaluate_every=2)
    with tempfile.TemporaryDirectory() as folder:
        curves = overfitting.watch(
            model, text, other, config, Path(folder) / "run", 3
        )
    equal(list(curves.steps), [2, 4], "the steps that were evaluated")
    close(curves.seen[-1], validation_loss(model, text, 4), "loss on seen text")
    close(
        curves.unseen[-1],
        validation_loss(model, other, 4),
        "loss on unseen text",
    )
    close(
        curves.gap,
        curves.unseen[-1] - curves.seen[-1],
        "the gap, unseen less seen",
    )
    curves = overfitting.Curves((1, 2, 3), (5.0, 3.0, 1.0), (6.0, 4.0, 7.0))
    close(curves.gap, 6.0, "the gap of three evaluations, at the last")
    equal(curves.best, 1, "the best of three evaluations, from 0")
    low = min(curves.unseen)
    equal(curves.unseen[curves.best], low, "the best loss on unseen text")


BUGS = {
    "what is kept is not scaled": (
        "return x * (chance >= share) / (1 - share)",
        "return x * (chance >= share)",
    ),
    "the share is kept instead of dropped": (
        "(chance >= share)",
        "(chance < share)",
    ),
    "whole rows are dropped": (
        "torch.rand(x.shape, generator=generator",
        "torch.rand(x.shape[:-1] + (1,), generator=generator",
    ),
    "as good as the best is a new best": (
        "if loss < losses[best]:",
        "if loss <= losses[best]:",
    ),
    "patience is never reset": (
        "if now - best >= patience:",
        "if now >= patience:",
    ),
    "one right token is enough": (
        "(likeliest == some[:, prompt:]).all(dim=1)",
        "(likeliest == some[:, prompt:]).any(dim=1)",
    ),
    "the prompt is to be guessed, too": (
        "model(some)[:, prompt - 1 : -1].argmax(-1)\n"
        "            right.append((likeliest == some[:, prompt:])",
        "model(some)[:, :-1].argmax(-1)\n"
        "            right.append((likeliest == some[:, 1:])",
    ),
    "the last token of all is not looked at": (
        "prompt - 1 : -1].argmax(-1)\n"
        "            right.append((likeliest == some[:, prompt:])",
        "prompt - 1 : -2].argmax(-1)\n"
        "            right.append((likeliest == some[:, prompt:-1])",
    ),
    "the loss on seen text is that on unseen text": (
        "seen.append(validation_loss(model, text, context))",
        "seen.append(validation_loss(model, other, context))",
    ),
}
