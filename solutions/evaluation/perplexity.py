"""Solutions: each story by itself, and whether a difference is luck."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from scratchlm.evaluation.perplexity import token_losses


def story_losses(
    model: nn.Module,
    stories: Sequence[Sequence[int]],
    end_id: int,
    context: int,
) -> list[torch.Tensor]:
    """Nats of each token of each story, and of the end token after it.

    Every story begins after an end token, and sees nothing of the others.
    """
    return [
        token_losses(model, [end_id, *story, end_id], context)
        for story in stories
    ]


def chance(differences: np.ndarray, samples: int = 1000) -> float:
    """How often random signs give a mean as far from zero as the true one.

    `differences` (stories,) are the losses of one model less the other's.
    Counts what was measured as one of the samples, so it is never 0.
    """
    draw = np.random.default_rng(0)
    signs = draw.choice([-1.0, 1.0], size=(samples, len(differences)))
    means = np.abs(signs @ differences)
    extreme = np.count_nonzero(means >= abs(differences.sum()) - 1e-9)
    return (extreme + 1) / (samples + 1)
