"""What accumulation and recomputation must do."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training import memory

from ..expect import close, equal, raises, true
from ..inputs import scattered, settled, waves


class OneRow(nn.Module):
    """Two logits, both 0 at first, the same at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits.expand(*ids.shape, 2)


def uneven_batches() -> list[tuple[Tensor, Tensor]]:
    """One target that counts in the first piece, three in the second."""
    ids = torch.zeros(1, 4, dtype=torch.int64)
    one = torch.tensor([[0, -100, -100, -100]])
    three = torch.tensor([[1, 1, 1, -100]])
    return [(ids, one), (ids, three)]


def check_every_token_weighs_the_same() -> None:
    """Pieces with 1 and with 3 targets weigh 1 and 3, not 1 and 1."""
    model = OneRow()
    memory.accumulate_gradients(model, uneven_batches())
    # softmax = (1/2, 1/2): one target gives (-1/2, 1/2), three (1/2, -1/2).
    close(
        model.logits.grad,
        torch.tensor([0.25, -0.25]),
        "gradient of two logits, targets 0 and then 1, 1, 1",
        hint="divide by the targets of the whole step; a mean of the "
        "pieces' means gives exactly 0 here",
    )


def check_loss_of_the_step() -> None:
    """The loss returned is the mean over the tokens of the step."""
    model = OneRow()
    with torch.no_grad():
        model.logits[1] = math.log(3)  # 1/4 and 3/4
    got = memory.accumulate_gradients(model, uneven_batches())
    wanted = (math.log(4) + 3 * math.log(4 / 3)) / 4
    close(got, wanted, "loss with probabilities 1/4 and 3/4")


def check_gradients_are_added() -> None:
    """Two calls without zeroing give twice the gradient."""
    model = OneRow()
    memory.accumulate_gradients(model, uneven_batches())
    memory.accumulate_gradients(model, uneven_batches())
    close(
        model.logits.grad,
        torch.tensor([0.5, -0.5]),
        "gradient after two calls",
        hint="gradients already there must stay: zeroing is for the caller",
    )


def check_nothing_to_predict() -> None:
    """A step without a single target is an error, not NaN."""
    ids = torch.zeros(1, 2, dtype=torch.int64)
    raises(
        ValueError,
        lambda: memory.accumulate_gradients(
            OneRow(), [(ids, torch.full_like(ids, -100))]
        ),
        "a step in which every target is -100",
    )


def check_the_same_values_are_dropped_twice() -> None:
    """Recomputed dropout drops what was dropped the first time."""
    torch.manual_seed(4)
    x = torch.ones(1000, requires_grad=True)
    y = memory.recompute(lambda x: dropout(x, 0.5), x)
    torch.rand(7)  # time goes by before the way back
    y.sum().backward()
    equal(
        x.grad,
        y.detach(),
        "gradient of dropout at x = 1, which is its output",
        hint="keep the random state of the first run, and set it again",
    )


def check_the_way_back_leaves_the_random_state() -> None:
    """Random numbers after the way back are those that were due."""
    torch.manual_seed(4)
    x = torch.ones(5, requires_grad=True)
    y = memory.recompute(lambda x: dropout(x, 0.5), x)
    torch.rand(7)  # time goes by before the way back
    state = torch.get_rng_state()
    y.sum().backward()
    equal(torch.get_rng_state(), state, "the random state after backward()")


def check_only_the_input_is_kept() -> None:
    """A chain keeps 7 x 3 x 4 bytes when recomputed."""
    chain = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 3))
    x = torch.zeros(7, 3, requires_grad=True)
    equal(
        memory.saved_bytes(chain, lambda: chain(x)),
        7 * 3 * 4 + 7 * 50 * 4,
        "bytes saved without recomputation: x, and tanh's output once",
        hint="weights are no activations, and the two users of tanh's "
        "output share its memory",
    )
    equal(
        memory.saved_bytes(chain, lambda: memory.recompute(chain, x)),
        7 * 3 * 4,
        "bytes saved with recomputation: x alone",
    )


def check_parameters_inside_get_gradients() -> None:
    """Weights inside a recomputed function get the usual gradient."""
    layer = nn.Linear(2, 1, bias=False)
    x = torch.tensor([[3.0, 5.0]], requires_grad=True)
    memory.recompute(layer, x).sum().backward()
    true(layer.weight.grad is not None, "the weight inside has a gradient")
    close(layer.weight.grad, x, "gradient of w in w.x, which is x")
    close(x.grad, layer.weight, "gradient of x in w.x, which is w")


def check_loss_in_chunks() -> None:
    """A few rows of logits at a time: the loss and gradients of all."""
    x, weight = waves(2, 5, 4), waves(7, 4, step=2.3)
    targets = torch.tensor([[0, 1, 2, 3, -100], [-100, 6, 5, 4, 3]])
    found = []
    for chunked in (False, True):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
        if chunked:
            loss = memory.chunked_loss(a, b, targets, size=14)
        else:
            logits = (a @ b.T).flatten(0, 1)
            loss = cross_entropy(logits, targets.flatten(), reduction="sum")
        (3 * loss).backward()
        found.append((loss, a.grad, b.grad))
    for name, wanted, got in zip(("loss", "x", "weight"), *found, strict=True):
        close(got, wanted, f"{name} of 10 rows, two at a time", tol=1e-4)
    with torch.no_grad():
        nats = memory.chunked_loss(x, weight, targets, "none", size=14)
        whole = memory.chunked_loss(x, weight, targets, size=14)
    logits = (x @ weight.T).flatten(0, 1)
    wanted = cross_entropy(logits, targets.flatten(), reduction="none")
    close(nats.flatten(), wanted, "nats of each target", tol=1e-5)
    close(whole, wanted.sum(), "their sum", tol=1e-4)


def check_large_logits_are_made_in_chunks() -> None:
    """A model whose logits are too many has the loss of all of them."""
    model = scattered(GPT(gpt2_config(11, 4, 1, 1, 8)), 0.1)
    ids = torch.arange(8).view(2, 4) ** 2 % 11
    made: list[int] = []
    model.head.register_forward_hook(lambda *given: made.append(1))
    before, losses = memory.LOGITS_AT_ONCE, []
    try:
        for most, calls in ((2 * 4 * 11, 1), (2 * 4 * 11 - 1, 1)):
            memory.LOGITS_AT_ONCE = most
            losses.append(memory.batch_loss(model, ids, ids.roll(1)))
            equal(len(made), calls, f"times all logits were made, for {most}")
    finally:
        memory.LOGITS_AT_ONCE = before
    close(losses[1], losses[0], "the loss in chunks, and at once", 1e-4)


def check_recomputing_is_computing() -> None:
    """The same values and gradients, with the same values dropped."""
    layer = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    x = waves(3, 4)
    settled(layer, step=2.3)
    found = []
    for again in (False, True):
        a = x.clone().requires_grad_()
        layer.zero_grad()
        torch.manual_seed(1)
        y = memory.recompute(layer, a) if again else layer(a)
        after = torch.rand(1)
        (y * y).sum().backward()
        slopes = [p.grad.clone() for p in layer.parameters()]  # type: ignore
        found.append((y, a.grad, slopes[0], after))
    names = ("values", "slopes of x", "slopes of weights", "next number")
    for name, wanted, got in zip(names, *found, strict=True):
        close(got, wanted, f"{name}, when all is computed twice")


def check_memory_of_a_step() -> None:
    """Gradients weigh as much as weights, moments twice; all is as before."""
    model = scattered(GPT(gpt2_config(50, 8, 1, 1, 16)), 0.1)
    weights = [p.detach().clone() for p in model.parameters()]
    ids = torch.arange(16).view(2, 8) ** 2 % 50
    used = memory.memory_use(model, ids, ids)
    size = 4 * sum(p.numel() for p in model.parameters())
    got = (used.weights, used.gradients, used.moments)
    equal(got, (size, size, 2 * size), "bytes of weights, slopes, moments")
    true(used.activations > 4 * 2 * 8 * 16 * 10, "activations are counted")
    true(used.peak >= 4 * size, "the peak is above all that stays")
    for before, p in zip(weights, model.parameters(), strict=True):
        equal(p, before, "weights after measuring")
        true(p.grad is None, "gradients are cleared")


BUGS = {
    "each piece weighs the same (mean of means)": (
        "batch_loss(model, ids, targets) / total",
        "batch_loss(model, ids, targets) / len(micro_batches)"
        " / max(1, count_targets(targets))",
    ),
    "masked targets are counted as tokens": (
        "(targets != IGNORED).sum()",
        "targets.numel()",
    ),
    "not divided at all": (
        "batch_loss(model, ids, targets) / total",
        "batch_loss(model, ids, targets)",
    ),
    "other values are dropped the second time": (
        "            torch.set_rng_state(ctx.random_state)\n",
        "",
    ),
    "the way back leaves another random state": (
        "torch.random.fork_rng(devices=[]), torch.enable_grad()",
        "torch.enable_grad()",
    ),
    "memory seen twice is counted twice": (
        "sum({s.data_ptr(): s.nbytes() for s in storages}.values())",
        "sum(s.nbytes() for s in storages)",
    ),
    "a chunk's slope takes the place of all": (
        "grad_weight += error.T @ part",
        "grad_weight = error.T @ part",
    ),
    "ignored rows have slopes in chunks": (
        "error.masked_fill_(hidden[:, None], 0.0)",
        "error.masked_fill_(hidden[:, None], 1.0)",
    ),
    "the factor of a loss in chunks is lost": (
        "return grad_x.mul_(factor), grad_weight.mul_(factor), None, None",
        "return grad_x, grad_weight, None, None",
    ),
    "the sum is given where none is asked for": (
        'return nats.sum() if reduction == "sum" else nats',
        "return nats.sum()",
    ),
    "all logits are made, however many": (
        "if ids.numel() * len(weight) > LOGITS_AT_ONCE:",
        "if False:",
    ),
    "measuring leaves gradients": (
        "    model.zero_grad()\n    peak",
        "    peak",
    ),
}
