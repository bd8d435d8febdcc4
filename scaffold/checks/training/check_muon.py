"""What Muon must do."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training import muon

from ..expect import close, equal, raises, true
from ..inputs import scattered


def check_singular_values_come_near_one() -> None:
    """A diagonal of 1, 0.5 and 0.1 becomes three values near 1."""
    matrix = torch.diag(torch.tensor([1.0, 0.5, 0.1]))
    values = torch.linalg.svdvals(muon.newton_schulz(matrix))
    true(
        bool((values > 0.65).all() and (values < 1.25).all()),
        f"all between 0.65 and 1.25: {[round(v.item(), 3) for v in values]}",
        hint="five steps of a x + (b A + c A²) x with A = x xᵀ",
    )


def check_directions_are_kept() -> None:
    """A diagonal stays one, and signs stay: 2, −1 become +, −."""
    result = muon.newton_schulz(torch.diag(torch.tensor([2.0, -1.0])))
    close(
        [result[0, 1], result[1, 0]],
        [0.0, 0.0],
        "the numbers beside the diagonal",
    )
    true(result[0, 0] > 0.6, "the first value is positive")
    true(result[1, 1] < -0.6, "the second value is negative")


def check_tall_and_wide_are_the_same_turned() -> None:
    """The result for the transpose is the transpose of the result."""
    matrix = torch.sin(torch.arange(21.0) ** 2).view(3, 7)
    close(
        muon.newton_schulz(matrix.T),
        muon.newton_schulz(matrix).T,
        "a tall matrix",
        hint="turn it so that x xᵀ is the smaller product, and back",
    )


def check_the_size_of_the_gradient_does_not_matter() -> None:
    """A thousandfold gradient gives the same step."""
    places = []
    for scale in (1.0, 1000.0):
        p = nn.Parameter(torch.zeros(2, 3))
        optimizer = muon.Muon([p], lr=0.1, weight_decay=0.0)
        p.grad = scale * torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])
        optimizer.step()
        places.append(p.detach().clone())
    close(places[1], places[0], "the matrix after one step", tol=1e-4)


def check_the_step_has_the_length_of_the_rate() -> None:
    """Rate 0.1 on a square matrix: each singular value moves 0.02 √n."""
    p = nn.Parameter(torch.zeros(4, 4))
    optimizer = muon.Muon([p], lr=0.1, weight_decay=0.0)
    p.grad = torch.eye(4)
    optimizer.step()
    expected = -0.1 * 0.2 * 2 * muon.newton_schulz(torch.eye(4))
    close(p, expected, "the matrix after one step against the identity")


def check_a_tall_matrix_moves_as_a_wide_one() -> None:
    """The step of the transpose is the transpose of the step."""
    gradient = torch.sin(torch.arange(21.0) ** 2).view(3, 7)
    steps = []
    for grad in (gradient, gradient.T.contiguous()):
        p = nn.Parameter(torch.zeros(grad.shape))
        optimizer = muon.Muon([p], lr=0.1, weight_decay=0.0)
        p.grad = grad
        optimizer.step()
        steps.append(p.detach())
    close(steps[1], steps[0].T, "the step of a tall matrix", tol=1e-4)


def check_embeddings_and_head_are_left_to_adamw() -> None:
    """Of a small network only the matrix in the middle is Muon's."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.middle = nn.Linear(4, 4)
            self.head = nn.Linear(4, 5)

    net: Any = Net()
    equal(
        [tuple(p.shape) for p in muon.hidden_matrices(net)],
        [(4, 4)],
        "the shapes of the hidden matrices",
    )
    raises(
        ValueError,
        lambda: muon.Muon([net.middle.bias]),
        "giving a bias to Muon",
    )


def check_each_of_three_matrices_gets_its_own_step() -> None:
    """Keys with a gradient a thousand times too large drown nobody."""
    model: Any = scattered(GPT(gpt2_config(11, 8, 1, 2, 4)), 0.1)
    qkv = model.blocks[0].attention.qkv.weight  # (3 · 4, 4)
    optimizer = muon.muon_and_adamw(model, 0.1, weight_decay=0.0)[0]
    before = qkv.detach().clone()
    qkv.grad = torch.cat([torch.eye(4), 1000 * torch.eye(4), torch.eye(4)])
    optimizer.step()
    moved = (qkv.detach() - before).view(3, 4, 4)
    close(
        moved[0],
        moved[1],
        "the step of the queries, and that of the keys",
        hint="queries, keys and values lie in one parameter and are three "
        "matrices: make each orthogonal by itself",
    )


def check_momentum_is_one_step_ahead() -> None:
    """Two steps whose gradients differ, beside those made by hand."""
    gradients = torch.eye(2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = muon.Muon([p], lr=0.1, momentum=0.9, weight_decay=0.0)
    wanted, mean = torch.zeros(2, 2), torch.zeros(2, 2)
    for number, gradient in enumerate(gradients, 1):
        p.grad = gradient.clone()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        ahead = 0.9 * mean + 0.1 * gradient  # where the next mean would be
        length = 0.1 * muon.update_scale(2, 2)
        wanted -= length * muon.newton_schulz(ahead)
        close(
            p,
            wanted,
            f"the matrix after step {number}",
            tol=1e-4,
            hint="the mean of the gradients, and from it once more towards "
            "the newest (Nesterov)",
        )


def check_decay_is_apart_from_the_step() -> None:
    """Without a gradient, rate 0.1 and decay 0.5 leave 95 percent."""
    p = nn.Parameter(torch.tensor([[2.0, -4.0], [0.0, 8.0]]))
    optimizer = muon.Muon([p], lr=0.1, weight_decay=0.5)
    p.grad = torch.zeros(2, 2)
    optimizer.step()
    close(
        p,
        [[1.9, -3.8], [0.0, 7.6]],
        "the matrix after one step",
        hint="multiply it by 1 - rate × decay",
    )


def check_adamw_takes_the_rest() -> None:
    """It decays the head, and neither tables nor norms and biases."""
    config = replace(gpt2_config(11, 8, 1, 2, 4), tied=False)
    model = GPT(config)
    matrices, rest = muon.muon_and_adamw(model, 0.02, weight_decay=0.3)
    names = {p: name for name, p in model.named_parameters()}
    held = [
        (names[p], group["weight_decay"], group["lr"])
        for optimizer in (matrices, rest)
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    inside = {names[p] for p in muon.hidden_matrices(model)}
    wanted = [
        (name, 0.3 if name in inside or name == "head.weight" else 0.0, 0.02)
        for name in names.values()
    ]
    equal(
        sorted(held),
        sorted(wanted),
        "parameters, their decay and their rate",
        hint="each parameter is in one group; matrices decay, but no table",
    )


BUGS: dict[str, tuple[str, str]] = {
    "one step of the iteration instead of five": (
        "for _ in range(steps):",
        "for _ in range(1):",
    ),
    "the matrix is not scaled down first": (
        "x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-20)",
        "x = x * 1.0",
    ),
    "a tall matrix is not turned back": (
        "return x.mT if tall else x\n",
        "return x.mT.flip(0) if tall else x\n",
    ),
    "the update is not scaled": (
        "scale = update_scale(*matrices[0].shape)",
        "scale = 1.0",
    ),
    "the head is taken as well": (
        '        and "head" not in name.split(".")\n',
        "",
    ),
    "queries, keys and values are taken for one matrix": (
        "            rows=stacked_rows(model),\n",
        "",
    ),
    "the gradient is added instead of its orthogonal form": (
        "updates = newton_schulz(stacked)",
        "updates = (stacked)",
    ),
    "only the newest gradient counts": (
        "torch._foreach_lerp_(buffers, gradients, 1 - beta)",
        "torch._foreach_lerp_(buffers, gradients, 1.0)",
    ),
    "the momentum is not one step ahead": (
        "return torch._foreach_lerp(gradients, buffers, beta)",
        "return buffers",
    ),
    "matrices do not decay": (
        '(matrices, 1 - lr * group["weight_decay"])',
        "(matrices, 1.0)",
    ),
    "the decay does not know the rate": (
        '(matrices, 1 - lr * group["weight_decay"])',
        '(matrices, 1 - group["weight_decay"])',
    ),
    "AdamW decays tables, norms and biases": (
        '{"params": stays, "weight_decay": 0.0}',
        '{"params": stays, "weight_decay": weight_decay}',
    ),
    "the head does not decay": (
        '{"params": decays, "weight_decay": weight_decay}',
        '{"params": decays, "weight_decay": 0.0}',
    ),
    "norms and biases are nobody's": (
        "stays = [p for p in rest if p.ndim < 2 or p in tables]",
        "stays = [p for p in rest if p in tables]",
    ),
    "AdamW has a rate of its own": (
        "AdamW(groups, lr=learning_rate)",
        "AdamW(groups)",
    ),
}
