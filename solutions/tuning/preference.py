"""Solutions to the exercises on learning from pairs."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.tuning.preference import dpo_loss


def push(margins: Tensor, beta: float = 0.1) -> Tensor:
    """How hard each pair pulls: the loss's slope by its margin, unsigned.

    >>> push(torch.tensor([-20.0, 0.0, 20.0]))
    tensor([0.0881, 0.0500, 0.0119])
    """
    return beta * torch.sigmoid(-beta * margins)


def strengths(
    wins: Mapping[tuple[str, str], int], rounds: int = 1000
) -> dict[str, float]:
    """Bradley and Terry's strengths from (winner, loser) → how often.

    They add up to 1, and a beats b with probability s_a / (s_a + s_b). Each
    round divides the wins of a player by what the others' strengths expect
    for each game (Zermelo, 1929). All have to have won and lost.

    >>> strengths({("a", "b"): 3, ("b", "a"): 1})
    {'a': 0.75, 'b': 0.25}
    """
    names = sorted({name for pair in wins for name in pair})
    won = {n: sum(k for (w, _), k in wins.items() if w == n) for n in names}
    games = {
        (a, b): wins.get((a, b), 0) + wins.get((b, a), 0)
        for a in names
        for b in names
    }
    s = {name: 1 / len(names) for name in names}
    for _ in range(rounds):
        new = {
            a: won[a]
            / sum(games[a, b] / (s[a] + s[b]) for b in names if b != a)
            for a in names
        }
        s = {name: value / sum(new.values()) for name, value in new.items()}
    return s


def smoothed_loss(
    gained: Tensor, beta: float = 0.1, wrong: float = 0.1
) -> Tensor:
    """The DPO loss where a share of the labels is thought to be wrong.

    gained (2, B). Each pair counts `wrong` the other way round.
    """
    right = dpo_loss(gained, beta)
    return (1 - wrong) * right + wrong * dpo_loss(gained.flip(0), beta)


def ipo_loss(gained: Tensor, beta: float = 0.1) -> Tensor:
    """Azar et al. (2024), equation 17: a margin to reach and not to pass.

    >>> ipo_loss(torch.tensor([[5.0], [0.0]]), beta=0.1)
    tensor(0.)
    """
    margins = gained[0] - gained[1]  # (B,)
    return (margins - 1 / (2 * beta)).square().mean()


def simpo_loss(
    log_probs: Tensor, lengths: Tensor, beta: float = 2.0, gap: float = 1.0
) -> Tensor:
    """Meng et al. (2024): means by token, no reference, and a gap to win by.

    log_probs and lengths (2, B), of the chosen answers and the rejected.
    """
    means = beta * log_probs / lengths
    return -F.logsigmoid(means[0] - means[1] - gap).mean()
