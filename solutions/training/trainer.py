"""Solutions: the loop."""

import copy

import torch
from torch import nn

from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.optimizer import AdamW, parameter_groups


class MovingAverage:
    """A model's weights, averaged over the last steps.

    ``average = decay * average + (1 - decay) * weights`` after every step.
    The average begins at the first weights, which is why it lags behind a
    model that still learns fast.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin with a copy of the model; `model` itself stays as it is."""
        self.decay = decay
        self.model = copy.deepcopy(model).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, 1 - self.decay)


def utilization(
    config: GPTConfig, parameters: int, tokens_per_second: float, peak: float
) -> float:
    """The share of a processor's peak (operations a second) that is used.

    Six operations per weight and token, and twelve per layer, channel and
    token of context for attention (PaLM, appendix B).
    """
    attention = 12 * config.layers * config.channels * config.context
    return (6 * parameters + attention) * tokens_per_second / peak


def rate_test(
    model: GPT, cursor: BatchCursor, low: float, high: float, steps: int
) -> list[tuple[float, float]]:
    """Raise the learning rate from `low` to `high`; (rate, loss) each step.

    Every rate is the one before times the same factor. Works on a copy; the
    cursor moves on.
    """
    trial = copy.deepcopy(model).train()
    optimizer = AdamW(parameter_groups(trial, 0.0), lr=low)
    factor = (high / low) ** (1 / (steps - 1))
    found = []
    for step in range(steps):
        rate = low * factor**step
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = accumulate_gradients(trial, [cursor.next_batch()])
        optimizer.step()
        found.append((rate, loss))
    return found
