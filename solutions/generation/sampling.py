"""Solutions to the exercises on choosing the next token."""

import torch
from torch import Tensor


def choices(logits: Tensor) -> Tensor:
    """How many equally likely tokens would be as uncertain: e^entropy.

    (..., V) → (...).

    >>> choices(torch.tensor([[0.0, 0.0, 0.0, 0.0], [99.0, 0.0, 0.0, 0.0]]))
    tensor([4., 1.])
    """
    p = logits.softmax(dim=-1)
    return torch.special.entr(p).sum(dim=-1).exp()


def temperature_for(logits: Tensor, wanted: float) -> float:
    """The temperature at which logits (V,) leave so many choices.

    By bisection of its logarithm: the entropy grows with the temperature.
    Raises ValueError unless 1 < wanted < V.
    """
    if not 1 < wanted < logits.numel():
        raise ValueError(f"{wanted} choices among {logits.numel()} tokens")
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        if choices(logits.double() / 2.0**middle) < wanted:
            low = middle
        else:
            high = middle
    return 2.0**low


def gumbel_sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from softmax(logits) without a softmax: (..., V) → (...).

    The largest of the scores, each with its own noise −log(−log u), is
    token i as often as softmax says.
    """
    u = torch.rand(logits.shape, generator=generator, dtype=torch.float64)
    noise = -(-u.clamp_min(1e-300).log()).log()
    return (logits + noise).argmax(dim=-1)
