"""More weights for the same work: a mixture of experts in place of one layer.

A router scores the experts, each of them a feed-forward layer, and sends
every token to the few with the highest scores (Shazeer et al., 2017; in
transformers Fedus et al., 2022, and, in the form that is usual today, Jiang
et al., 2024). With them come the loss that keeps the experts in use and the
capacity that limits a queue. Nothing in a model changes but its feed-forward
layers: `add_experts` replaces them.

Left out: experts on several machines, kernels for groups of different
sizes, noise on the scores, and experts that choose their tokens.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, count_parameters
from scratchlm.model.layers import SwiGLU


class Routing(NamedTuple):
    """What a router has decided for N tokens, of E experts k for each."""

    shares: Tensor  # (N, E), the softmax of all scores
    chosen: Tensor  # (N, k), the experts, that of the highest score first
    weights: Tensor  # (N, k), how much each of them counts


def route(scores: Tensor, k: int, renormalize: bool = True) -> Routing:
    """The k experts with the highest scores (N, E), and their weights.

    A weight is the expert's share among the chosen (Jiang et al., 2024,
    section 2.1) or, without `renormalize`, its share among all (Fedus et
    al., 2022, eq. 1 and 2). Raises ValueError unless 1 ≤ k ≤ E.

    >>> route(torch.tensor([[0.0, 2.0, 1.0]]), k=2).weights
    tensor([[0.7311, 0.2689]])
    """
    if not 1 <= k <= scores.shape[-1]:
        count = scores.shape[-1]
        raise ValueError(f"{k} of {count} experts: choose 1 to {count}")
    shares = scores.float().softmax(dim=-1)
    weights, chosen = shares.topk(k, dim=-1)
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(shares, chosen, weights)


class Router(nn.Module):
    """A matrix that scores every expert for every token, and `route`."""

    def __init__(
        self, channels: int, experts: int, k: int, renormalize: bool = True
    ) -> None:
        """One row of the matrix for each expert, and no bias."""
        super().__init__()
        self.scores = nn.Linear(channels, experts, bias=False)
        self.k = k
        self.renormalize = renormalize

    def forward(self, rows: Tensor) -> Routing:
        """The routing of tokens (N, C)."""
        return route(self.scores(rows), self.k, self.renormalize)


def mix_densely(
    rows: Tensor, routing: Routing, experts: Iterable[nn.Module]
) -> Tensor:
    """The weighted sum of the chosen experts' outputs: (N, C) → (N, C).

    Every expert works on every token, and what nobody asked for gets the
    weight 0. Shazeer et al. (2017), eq. 1: the reference, not the fast form.
    """
    weights = torch.zeros_like(routing.shares)  # (N, E)
    weights = weights.scatter(1, routing.chosen, routing.weights)
    outs = torch.stack([expert(rows) for expert in experts], dim=1)
    return (weights[:, :, None].to(rows.dtype) * outs).sum(dim=1)


def mix_sorted(
    rows: Tensor,
    routing: Routing,
    experts: Iterable[nn.Module],
    kept: Tensor | None = None,
) -> Tensor:
    """As `mix_densely`, but each expert sees only the tokens that chose it.

    The N·k choices are sorted by expert, so that each has its tokens side by
    side, and what it makes of them is added up at the tokens' places.
    `kept` (N, k) is False for choices that are dropped.
    """
    flat = routing.chosen.flatten()  # (N·k,)
    order = flat.argsort(stable=True)
    if kept is not None:
        order = order[kept.flatten()[order]]
    token = order // routing.chosen.shape[1]  # whose choice it was
    counts = flat[order].bincount(minlength=routing.shares.shape[1])
    groups = rows[token].split(counts.tolist())
    outs = [expert(group) for expert, group in zip(experts, groups)]
    weights = routing.weights.flatten()[order, None].to(rows.dtype)
    return torch.zeros_like(rows).index_add(0, token, torch.cat(outs) * weights)


def within_capacity(routing: Routing, capacity: int) -> Tensor:
    """Which choices (N, k) find room, if an expert takes `capacity` tokens.

    Tokens queue in their order; all first choices come before the second
    ones (Lepikhin et al., 2021, algorithm 1).

    >>> alike = route(torch.tensor([[2.0, 1.0]] * 3), k=1)
    >>> within_capacity(alike, 2).flatten()
    tensor([ True,  True, False])
    """
    n, k = routing.chosen.shape
    experts = routing.shares.shape[1]
    queue = F.one_hot(routing.chosen.T.flatten(), experts)  # (k·N, E)
    place = (queue.cumsum(dim=0) * queue).sum(dim=1)  # 1 for the first
    return (place <= capacity).view(k, n).T


class Experts(nn.Module):
    """A feed-forward layer of many, of which each token visits a few."""

    def __init__(
        self,
        router: Router,
        experts: Iterable[nn.Module],
        capacity_factor: float | None = None,
    ) -> None:
        """Made of parts. With a `capacity_factor`, experts may be full.

        Each then takes at most this many times the tokens it would have if
        all experts had the same number; what does not fit is left out.
        """
        super().__init__()
        self.router = router
        self.experts = nn.ModuleList(experts)
        self.capacity_factor = capacity_factor

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) → (..., C), each token on its own, if none is full."""
        rows = x.flatten(0, -2)  # (N, C)
        routing = self.router(rows)
        kept = None
        if self.capacity_factor is not None:
            even = routing.chosen.numel() / len(self.experts)
            room = self.capacity_factor * even + 1e-9  # 114.99… is 115
            capacity = max(1, int(room))
            kept = within_capacity(routing, capacity)
        return mix_sorted(rows, routing, self.experts, kept).view_as(x)


def add_experts(
    model: GPT,
    experts: int,
    k: int,
    hidden: int,
    renormalize: bool = True,
    capacity_factor: float | None = None,
) -> GPT:
    """Give each block a mixture of SwiGLU layers for its feed-forward layer.

    All matrices of the model are drawn anew. Returns the model itself.
    """
    channels, dropout = model.config.channels, model.config.dropout
    for block in model.blocks:
        layers = [
            SwiGLU(channels, hidden, dropout=dropout) for _ in range(experts)
        ]
        router = Router(channels, experts, k, renormalize)
        layer = Experts(router, layers, capacity_factor).train(model.training)
        block.mlp = layer.to(model.token.weight)  # its device and its type
    model.initialize()
    return model


def count_active(model: nn.Module) -> int:
    """How many of the parameters have a part in the work on one token."""
    idle = 0
    for layer in model.modules():
        if isinstance(layer, Experts):
            unvisited = len(layer.experts) - layer.router.k
            idle += unvisited * count_parameters(layer.experts[0])
    return count_parameters(model) - idle


@contextmanager
def watch_routers(model: nn.Module) -> Iterator[list[Routing]]:
    """A list that grows by one entry whenever a router of the model works."""
    seen: list[Routing] = []
    hooks = [
        part.register_forward_hook(lambda *told: seen.append(told[-1]))
        for part in model.modules()
        if isinstance(part, Router)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def load(routing: Routing) -> Tensor:
    """The share of all choices that fell on each expert: (E,).

    >>> load(route(torch.tensor([[2.0, 1.0]] * 3), k=1))
    tensor([1., 0.])
    """
    experts = routing.shares.shape[1]
    counts = routing.chosen.flatten().bincount(minlength=experts)
    return counts / counts.sum()


def balance_loss(routing: Routing) -> Tensor:
    """1 if all experts get the same, up to E / k if a few get it all.

    Fedus et al. (2022), eq. 4 to 6, without the factor: E times the sum of
    each expert's load times its mean share. Only the share has a gradient.

    >>> balance_loss(route(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), k=1))
    tensor(1.)
    """
    mean_share = routing.shares.mean(dim=0)  # (E,)
    # as a matrix product, autocast would round it
    return len(mean_share) * (load(routing) * mean_share).sum()
