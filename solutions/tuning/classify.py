"""Solutions to the exercises on classifying."""

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, next_token_loss
from scratchlm.training.memory import IGNORED
from scratchlm.tuning.classify import LabeledBatch, class_loss


def first_word_chances() -> list[float]:
    """P of each plot after a scene and "Mrs Pell ", from the rules by hand.

    The plot's own weight, times how often it begins with a person's bare
    name, with the news before it or without. What all have in common, the
    person and the missing tag, cancels.

    >>> [round(chance, 2) for chance in first_word_chances()]
    [0.28, 0.24, 0.18, 0.17, 0.11, 0.03]
    """
    begins = [7 / 10, 7 / 10, 4 / 6, 5 / 6, 5 / 6, 2 / 6]
    news = 2 / 3 * 1 / 21  # its last template, and the plot still open
    shares = [
        (6 - i) / 21 * (news + 1 / 3 * begin) for i, begin in enumerate(begins)
    ]
    return [share / sum(shares) for share in shares]


def mean_features(features: Tensor, lengths: Tensor) -> Tensor:
    """The mean over each text's own tokens: (B, T, C) → (B, C).

    >>> x = torch.tensor([[[1.0], [3.0], [5.0]], [[2.0], [9.0], [9.0]]])
    >>> mean_features(x, torch.tensor([3, 1]))
    tensor([[3.],
            [2.]])
    """
    places = torch.arange(features.shape[1], device=features.device)
    own = (places < lengths[:, None])[..., None]  # (B, T, 1)
    return (features * own).sum(dim=1) / lengths[:, None]


def both_losses(
    model: GPT, batch: LabeledBatch, old_head: Tensor, share: float = 0.5
) -> Tensor:
    """The loss of the classes, and a share of that of the next tokens.

    `old_head` (V, C) scores the tokens, since the head has other work.
    """
    features = model.features(batch.ids)  # (B, T, C)
    logits = F.linear(features[:, :-1], old_head.detach())
    places = torch.arange(1, batch.ids.shape[1])
    own = places < batch.lengths[:, None]
    targets = torch.where(own, batch.ids[:, 1:], IGNORED)
    return class_loss(model, batch) + share * next_token_loss(logits, targets)


def precisions(table: Tensor) -> list[float]:
    """Of what was taken for each class, the share that was of it.

    The diagonal by its column, and NaN where nothing was taken for it.

    >>> precisions(torch.tensor([[3, 1], [1, 4]]))
    [0.75, 0.800000011920929]
    """
    return (table.diagonal() / table.sum(dim=0)).tolist()


def moved_to(logits: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Logits (N, K) for a world in which classes have other shares.

    By Bayes' rule: what the text says stays, what was known before changes.
    """
    return logits + (new / old).log()


def paired(nats: Tensor) -> float:
    """How often the true one of two texts costs less.

    nats (N, 2), the true one first; no limit has to be learned.

    >>> paired(torch.tensor([[0.1, 4.0], [0.3, 0.2]]))
    0.5
    """
    return (nats[:, 0] < nats[:, 1]).float().mean().item()
