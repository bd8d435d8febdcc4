"""Solutions to the exercises on mixtures of experts."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.experts import (
    Experts,
    Router,
    Routing,
    load,
    within_capacity,
)
from scratchlm.model.gpt import GPT
from scratchlm.model.layers import SwiGLU


def visited(experts: int, k: int, tokens: int) -> float:
    """How many experts some of the tokens choose, if they choose at random.

    The expected number: a token leaves an expert out with 1 - k / E.

    >>> round(visited(8, 2, tokens=1), 6), round(visited(8, 2, tokens=16), 2)
    (2.0, 7.92)
    """
    left_out: float = (1 - k / experts) ** tokens
    return experts * (1 - left_out)


def router_z_loss(scores: Tensor) -> Tensor:
    """The mean of log² of the sum below each token's softmax, (N, E) → ().

    Zoph et al. (2022), eq. 5.
    """
    return scores.float().logsumexp(dim=-1).square().mean()


def within_capacity_in_order(routing: Routing, capacity: int) -> Tensor:
    """As `within_capacity`, and nobody waits for a later token.

    All choices of a token queue before the first choice of the next.
    """
    experts = routing.shares.shape[1]
    queue = F.one_hot(routing.chosen.flatten(), experts)  # (N·k, E)
    place = (queue.cumsum(dim=0) * queue).sum(dim=1)
    return (place <= capacity).view_as(routing.chosen)


class BiasedRouter(Router):
    """A router that is kept in balance without a loss (DeepSeek-V3).

    A bias for each expert decides with its score who is chosen, and has no
    part in the weights. Call `even_out` after each step of training.
    """

    bias: Tensor

    def __init__(
        self, channels: int, experts: int, k: int, rate: float = 0.01
    ) -> None:
        """Begin without any bias; `rate` is how far a step moves it."""
        super().__init__(channels, experts, k)
        self.rate = rate
        self.register_buffer("bias", torch.zeros(experts))

    def forward(self, x: Tensor) -> Routing:
        """The routing of tokens (N, C)."""
        shares = self.scores(x).float().softmax(dim=-1)
        chosen = (shares + self.bias).topk(self.k, dim=-1).indices
        weights = shares.gather(1, chosen)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        return Routing(shares, chosen, weights)

    def even_out(self, routing: Routing) -> None:
        """Lower the bias of busy experts and raise that of idle ones."""
        error = load(routing) - 1 / len(self.bias)
        self.bias -= self.rate * error.sign()


def upcycle(model: GPT, experts: int, k: int) -> GPT:
    """A mixture of copies for each feed-forward layer of a trained model.

    The new model computes what the old one does (Komatsuzaki et al., 2023),
    and shares no weights with it.
    """
    model = copy.deepcopy(model)
    for block in model.blocks:
        mlp = block.get_submodule("mlp")
        copies = [copy.deepcopy(mlp) for _ in range(experts)]
        router = Router(model.config.channels, experts, k)
        nn.init.normal_(router.scores.weight, std=0.02)
        block.mlp = Experts(router, copies)
    return model


def mix_buffered(
    rows: Tensor, routing: Routing, experts: Sequence[SwiGLU], capacity: int
) -> Tensor:
    """Mix with full experts in three products, whose shapes never change.

    Each expert has a buffer of `capacity` rows; what nobody fills is zero.
    """
    n, k = routing.chosen.shape
    kept = within_capacity(routing, capacity).T.flatten()  # (k·N,)
    expert = routing.chosen.T.flatten()[kept]
    queue = F.one_hot(routing.chosen.T.flatten(), len(experts)).cumsum(dim=0)
    place = queue[kept, expert] - 1
    token = torch.arange(n).repeat(k)[kept]
    buffer = rows.new_zeros(len(experts), capacity, rows.shape[1])
    buffer[expert, place] = rows[token]
    gate, up, down = (
        torch.stack([getattr(e, name).weight.T for e in experts])
        for name in ("gate", "up", "down")
    )
    out = (F.silu(buffer @ gate) * (buffer @ up)) @ down  # (E, capacity, C)
    weights = routing.weights.T.flatten()[kept, None]
    mixed = torch.zeros_like(rows)
    return mixed.index_add(0, token, out[expert, place] * weights)
