"""What a mixture of experts must do."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from scratchlm.model import experts
from scratchlm.model.gpt import GPT, llama_config
from scratchlm.model.layers import SwiGLU

from ..expect import close, equal, raises, true
from ..inputs import settled, waves

SCORES = torch.tensor([[0.0, math.log(3), math.log(2)]])  # shares 1, 3, 2 of 6


class Times(nn.Module):
    """An expert that multiplies, and remembers how many tokens it saw."""

    def __init__(self, factor: float) -> None:
        """Multiply by `factor`."""
        super().__init__()
        self.factor = factor
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C), times the factor."""
        self.seen += len(x)
        return self.factor * x


def routing(*chosen: list[int], among: int = 3) -> experts.Routing:
    """Choices as given, with weights 0.75 and 0.25 and even shares."""
    choices = torch.tensor(chosen)
    shares = torch.full((len(chosen), among), 1 / among)
    weights = torch.tensor([[0.75, 0.25]] * len(chosen))
    return experts.Routing(shares, choices, weights[:, : choices.shape[1]])


def check_weights_by_hand() -> None:
    """Shares of 1/6, 3/6 and 2/6: the two best weigh 3/5 and 2/5."""
    got = experts.route(SCORES, k=2)
    equal(got.chosen, torch.tensor([[1, 2]]), "the experts chosen, best first")
    close(got.shares, [[1 / 6, 3 / 6, 2 / 6]], "the shares of all experts")
    close(
        got.weights,
        [[3 / 5, 2 / 5]],
        "the weights of the chosen",
        hint="with renormalize, a token's weights sum to 1",
    )


def check_weights_as_they_are() -> None:
    """Without renormalizing, the weights stay 3/6 and 2/6."""
    close(
        experts.route(SCORES, k=2, renormalize=False).weights,
        [[3 / 6, 2 / 6]],
        "the weights with renormalize=False",
        hint="the softmax is over all experts, before the choice",
    )


def check_numbers_of_experts() -> None:
    """No expert at all, or more than there are, is refused."""
    for k in (0, 4):
        what = f"{k} experts of 3"
        raises(ValueError, partial(experts.route, SCORES, k), what)


def check_mix_by_hand() -> None:
    """Experts that multiply by 1, 10 and 100, for three tokens."""
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    chosen = routing([0, 1], [2, 0], [1, 2])
    wanted = [[3.25], [150.5], [97.5]]
    for name, mix in (
        ("mix_densely", experts.mix_densely),
        ("mix_sorted", experts.mix_sorted),
    ):
        layers = [Times(1.0), Times(10.0), Times(100.0)]
        close(
            mix(rows, chosen, layers),
            wanted,
            f"{name} of three tokens",
            hint="a weight belongs to one choice of one token: sort the "
            "weights as the tokens are sorted, and add up what each token "
            "gets from both of its experts",
        )


def check_only_those_who_chose() -> None:
    """An expert sees the tokens that chose it, and no others."""
    layers = [Times(1.0) for _ in range(3)]
    experts.mix_sorted(waves(4, 2), routing([0], [2], [2], [2]), layers)
    equal([layer.seen for layer in layers], [1, 0, 3], "tokens per expert")


def check_one_expert() -> None:
    """A mixture of one expert is that expert, bit for bit."""
    layer = experts.Experts(experts.Router(4, 1, 1), [SwiGLU(4, 6)])
    settled(layer)
    x = waves(10, 4)
    equal(layer(x), layer.experts[0](x), "a mixture of one")


def check_layer_by_hand() -> None:
    """A whole layer: the two best of three experts, for four tokens."""
    log2, log3 = math.log(2), math.log(3)
    first = [0.0, log3, log2]
    rows = torch.tensor([first, [log2, 0, log3], [log2, log3, 0], first])
    for renormalize, capacity, factors in (
        (True, None, [46, 60.4, 6.4, 46]),
        (False, None, [38 + 1 / 3, 50 + 1 / 3, 5 + 1 / 3, 38 + 1 / 3]),
        (True, 0.5, [6, 60.4, 0, 0]),  # room for one
    ):
        router = experts.Router(3, 3, 2, renormalize)
        with torch.no_grad():
            router.scores.weight.copy_(torch.eye(3))
        layers = [Times(1.0), Times(10.0), Times(100.0)]
        close(
            experts.Experts(router, layers, capacity)(rows),
            torch.tensor(factors)[:, None] * rows,
            f"a layer with {renormalize=} and {capacity=}",
            hint="route, find out who has room, and mix what the experts say",
            tol=1e-4,
        )


def check_queue() -> None:
    """Room for one: first choices go before second ones."""
    close(
        experts.within_capacity(routing([0, 1], [1, 0], [0, 2], [1, 2]), 1),
        [[1, 0], [1, 0], [0, 1], [0, 0]],
        "who finds room",
        hint="all first choices queue, in the order of the tokens, and then "
        "all second choices",
    )


def check_dropped() -> None:
    """Of four tokens with one wish, capacity factor 1 keeps two."""
    layers = [Times(1.0), Times(1.0)]
    layer = experts.Experts(experts.Router(3, 2, 1), layers, 1.0)
    nn.init.zeros_(layer.router.scores.weight)
    got = layer(torch.ones(4, 3)).sum(dim=1)
    close(
        got,
        [3, 3, 0, 0],
        "what full experts give back",
        hint="an even share is choices / experts; what does not fit adds 0",
    )


def check_balance() -> None:
    """Loads 1, 0, 0 and a mean share of 1/2 for the first: loss 1.5."""
    scores = torch.tensor([[math.log(2), 0.0, 0.0]] * 4)
    got = experts.route(scores, k=1)
    close(experts.load(got), [1, 0, 0], "the load")
    close(
        experts.balance_loss(got),
        1.5,
        "the balance loss",
        hint="experts times the sum of load · mean share",
    )


def check_balance_of_even_loads() -> None:
    """Even loads cost 1, however many choices a token has."""
    got = experts.route(torch.eye(4) * 3 + torch.eye(4).roll(1, 0), k=2)
    close(experts.load(got), [1 / 4] * 4, "the load of two choices each")
    close(experts.balance_loss(got), 1, "the balance loss of even loads")


def check_model() -> None:
    """Four experts, one at work: the count of what is active."""
    config = llama_config(9, 8, layers=2, heads=2, channels=8, hidden=16)
    model = experts.add_experts(GPT(config), experts=4, k=1, hidden=5)
    everything = sum(p.numel() for p in model.parameters())
    idle = 2 * 3 * (3 * 8 * 5)  # layers, idle experts, weights of each
    equal(
        experts.count_active(model),
        everything - idle,
        "active parameters",
        hint="a token visits k of the experts in every layer",
    )
    with experts.watch_routers(model) as seen:
        model(torch.zeros(1, 8, dtype=torch.long))
    equal(len(seen), 2, "routings seen in two layers")
    model(torch.zeros(1, 8, dtype=torch.long))
    true(
        len(seen) == 2,
        "nothing is watched after the with block",
        hint="remove the hooks at its end",
    )


BUGS = {
    "weights are never renormalized": (
        "    if renormalize:\n",
        "    if False:\n",
    ),
    "weights are always renormalized": (
        "    if renormalize:\n",
        "    if True:\n",
    ),
    "the worst experts are chosen": (
        "shares.topk(k, dim=-1)",
        "shares.topk(k, dim=-1, largest=False)",
    ),
    "choices are taken for tokens": (
        "token = order // routing.chosen.shape[1]",
        "token = order % len(rows)",
    ),
    "tokens are sorted and weights are not": (
        "routing.weights.flatten()[order, None]",
        "routing.weights.flatten()[: len(order), None]",
    ),
    "tokens are not sorted": (
        "order = flat.argsort(stable=True)",
        "order = torch.arange(len(flat))",
    ),
    "the last expert overwrites the first": (
        ".index_add(0, token, torch.cat(outs) * weights)",
        ".index_copy(0, token, torch.cat(outs) * weights)",
    ),
    "first and second choices stand in one queue": (
        "F.one_hot(routing.chosen.T.flatten(), experts)",
        "F.one_hot(routing.chosen.flatten(), experts)",
    ),
    "a place too few in each queue": (
        "(place <= capacity)",
        "(place < capacity)",
    ),
    "the queue is counted and nobody is turned away": (
        "order = order[kept.flatten()[order]]",
        "order = order[:]",
    ),
    "capacity without the number of experts": (
        "even = routing.chosen.numel() / len(self.experts)",
        "even = routing.chosen.numel()",
    ),
    "the balance loss lacks its factor": (
        "return len(mean_share) * (load(routing) * mean_share).sum()",
        "return (load(routing) * mean_share).sum()",
    ),
    "the balance loss squares the shares": (
        "(load(routing) * mean_share).sum()",
        "(mean_share @ mean_share)",
    ),
    "loads are per token, not per choice": (
        "return counts / counts.sum()",
        "return counts / len(routing.chosen)",
    ),
    "every expert counts as active": (
        "unvisited = len(layer.experts) - layer.router.k",
        "unvisited = 0",
    ),
    "the hooks stay": (
        "            hook.remove()",
        "            pass",
    ),
}
