"""What an honest evaluation must do."""

import math
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from scratchlm.evaluation import perplexity
from scratchlm.text.toytown import write_stories

from ..expect import close, equal, raises, true


class SeesLength(nn.Module):
    """Its loss at a token tells how many tokens it had to look back on.

    Of two tokens, it gives token 0 the share 1/2, 1/4, 1/8 ... with 1, 2,
    3 ... tokens before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))  # tells the device

    def forward(self, ids: Tensor) -> Tensor:
        seen = torch.arange(1.0, ids.shape[1] + 1)
        rare = -seen * math.log(2)
        logits = torch.stack([rare, torch.log1p(-rare.exp())], dim=-1)
        return logits.expand(len(ids), -1, -1)


def seen(length: int, context: int, stride: int | None) -> list[float]:
    """How many tokens each prediction could look back on."""
    zeros = [0] * length
    got = perplexity.token_losses(SeesLength(), zeros, context, 2, stride)
    return (got / math.log(2)).tolist()


def check_every_token_once() -> None:
    """Windows side by side: each token is scored once, the last ones too."""
    close(
        seen(10, 4, None),
        [1, 2, 3, 4, 1, 2, 3, 4, 1],
        "tokens looked back on for 9 predictions, windows of 4",
        hint="the last window is shorter; it counts all the same",
    )


def check_overlap() -> None:
    """Windows that overlap score only what is new in them."""
    close(
        seen(9, 4, 2),
        [1, 2, 3, 4, 3, 4, 3, 4],
        "tokens looked back on, windows of 4 that advance by 2",
        hint="what the window before has scored is context only",
    )


def check_no_holes() -> None:
    """A stride longer than the window is refused."""
    raises(
        ValueError,
        lambda: seen(9, 2, 3),
        "a window of 2 that advances by 3",
        hint="a third of the tokens would never be scored",
    )


def check_mean_over_tokens() -> None:
    """The mean is over tokens, not over windows or batches."""
    result = perplexity.evaluate(SeesLength(), [0] * 10, 4, 2)
    equal(result.tokens, 9, "the number of tokens predicted, of 10")
    close(
        result.nats_per_token,
        21 / 9 * math.log(2),
        "the mean of 1, 2, 3, 4, 1, 2, 3, 4 and 1, times ln 2",
        hint="add up all losses and divide once",
    )
    close(result.perplexity, 2 ** (21 / 9), "the perplexity", tol=1e-4)


def check_stride_is_handed_on() -> None:
    """`evaluate` looks further back where windows overlap."""
    zeros = [0] * 9
    result = perplexity.evaluate(SeesLength(), zeros, 4, 2, stride=2)
    close(
        result.nats_per_token,
        24 / 8 * math.log(2),
        "the mean of 1, 2, 3, 4, 3, 4, 3 and 4, times ln 2",
        hint="windows of 4 that advance by 2",
    )


def check_bits_per_byte() -> None:
    """24 ln 2 nats for 8 bytes are 3 bits per byte."""
    close(
        perplexity.bits_per_byte(24 * math.log(2), 8),
        3,
        "bits per byte",
        hint="a bit is ln 2 nats: divide",
    )


def check_positions() -> None:
    """The mean at each place of the window."""
    close(
        perplexity.by_position(torch.tensor([4.0, 2, 1, 6, 4]), 3),
        [5, 3, 1],
        "the mean loss at the places 0, 1 and 2",
        hint="the last window has no place 2; it is no zero",
    )


def check_documents() -> None:
    """An end token belongs to the document that it ends."""
    got = perplexity.by_document(torch.arange(1.0, 6), [5, 0, 5, 5, 0], 0)
    close(
        got,
        [[3, 2], [12, 3]],
        "loss and tokens of two documents",
        hint="count the ends before a token, without the token itself",
    )
    low, high = perplexity.bootstrap(got)
    true(
        1.5 <= low <= high <= 4,
        "the interval lies between the means of the two documents",
        hint="sum of losses over sum of tokens, in each draw",
    )


def check_totals_and_gaps() -> None:
    """Nats of the whole text, and nats above what no model can beat."""
    result = perplexity.Evaluation(1.5, 40)
    close(result.nats, 60.0, "nats of 40 tokens of 1.5 each")
    close(result.perplexity, math.exp(1.5), "their perplexity")
    stories = list(islice(write_stories(3), 2))
    floor = -sum(story.log_prob for story in stories) / 40
    close(perplexity.gap(result, stories), 1.5 - floor, "nats above entropy")
    for size in (0, -1):
        raises(
            ValueError,
            lambda n=size: perplexity.bits_per_byte(1.0, n),  # type: ignore
            f"a text of {size} bytes",
        )


def check_both_ends_of_an_interval() -> None:
    """A level of one half: a quarter lies below, a quarter above."""
    documents = np.array([[0.0, 1.0], [1.0, 1.0]])
    # The mean of two draws is 0, 1/2 or 1, with chances 1/4, 1/2 and 1/4.
    low, high = perplexity.bootstrap(documents, 0.3)
    close([low, high], [0.5, 0.5], "the middle 30 percent")
    low, high = perplexity.bootstrap(documents, 0.6)
    close([low, high], [0.0, 1.0], "the middle 60 percent")


BUGS = {
    "the stride is not handed on": (
        "batch_size, stride, precision",
        "batch_size, None, precision",
    ),
    "the number of tokens is that of the text": (
        "losses.double().mean()), len(losses)",
        "losses.double().mean()), len(tokens)",
    ),
    "nats are taken for bits": (
        "nats_total / math.log(2) / size",
        "nats_total / size",
    ),
    "missing places count as zero": (
        "value=math.nan",
        "value=0.0",
    ),
    "an end token opens the next document": (
        "np.cumsum(ends) - ends",
        "np.cumsum(ends)",
    ),
    "nats of a text are those of a token": (
        "return self.nats_per_token * self.tokens",
        "return self.nats_per_token",
    ),
    "the gap is upside down": (
        "return result.nats_per_token - floor",
        "return floor - result.nats_per_token",
    ),
    "the interval begins too high": (
        "[(1 - level) / 2, (1 + level) / 2]",
        "[(1 - level), (1 + level) / 2]",
    ),
}
