"""What AdamW, its groups and clipping must do."""

from typing import Any

import torch
from torch import nn

from scratchlm.training import optimizer

from ..expect import close, equal, true


def moved(gradients: list[float], **settings: Any) -> float:
    """Where a parameter that starts at 1 is after these gradients."""
    p = nn.Parameter(torch.tensor([1.0]))
    adamw = optimizer.AdamW([p], **{"weight_decay": 0.0, **settings})
    for gradient in gradients:
        p.grad = torch.tensor([gradient])
        adamw.step()
    return p.item()


def check_the_first_step_has_the_length_of_the_rate() -> None:
    """A gradient of 1000 and one of 0.001 move as far, by 0.1."""
    for gradient in (1000.0, 0.001):
        close(
            moved([gradient], lr=0.1),
            0.9,
            f"the parameter after one gradient of {gradient}",
            tol=1e-4,
            hint="both moments begin at zero: divide by 1 - beta**step",
        )


def check_two_steps_by_hand() -> None:
    """Gradients 1 and 3 with betas 0.5: the second step is 0.0927"""
    # mean: 0.5, then 1.75, over 0.75 is 7/3; square: 0.5, then 4.75, over
    # 0.75 is 19/3; the step is 0.1 · (7/3) / sqrt(19/3) = 0.0927173.
    close(
        moved([1.0, 3.0], lr=0.1, betas=(0.5, 0.5)),
        1 - 0.1 - 0.0927173,
        "the parameter after the gradients 1 and 3",
        hint="exp_avg and exp_avg_sq are both corrected by 1 - 0.5**2",
    )


def check_decay_does_not_pass_through_the_moments() -> None:
    """Without gradient the weight shrinks by lr · decay, whatever eps."""
    close(
        moved([0.0, 0.0, 0.0], lr=0.1, weight_decay=0.5),
        0.95**3,
        "a weight of 1 after three steps of decay alone",
        hint="multiply the weight; do not add to the gradient",
    )


def check_plain_and_fast_form_agree() -> None:
    """Ten steps of adamw_step are ten steps of AdamW."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(3, 4))
    q, mean = p.detach().clone(), torch.zeros(3, 4)
    square = torch.zeros(3, 4)
    adamw = optimizer.AdamW([p], lr=0.01)
    for step in range(1, 11):
        p.grad = torch.randn(3, 4)
        optimizer.adamw_step(q, p.grad, mean, square, step, lr=0.01)
        adamw.step()
    close(p, q, "the parameters after ten steps", tol=1e-6)


def check_only_matrices_decay() -> None:
    """Norms, biases and embeddings are in the group without decay."""
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)
    )
    groups = optimizer.parameter_groups(model, 0.1)
    shapes = [[tuple(p.shape) for p in group["params"]] for group in groups]
    equal(shapes[0], [(3, 4)], "the shapes of what decays")
    equal(
        sorted(shapes[1]),
        [(3,), (4,), (4,), (5, 4)],
        "the shapes of what does not",
        hint="an embedding has two dimensions and does not decay either",
    )


def check_clipping_keeps_the_direction() -> None:
    """The gradient (3, 4) over two tensors, clipped to 1: (0.6, 0.8)."""
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    norm = optimizer.clip_gradients([a, b], 1.0)
    close(norm, 5.0, "the norm before clipping")
    close(
        torch.cat([a.grad, b.grad]),
        [0.6, 0.8],
        "the gradients after clipping",
        hint="one norm over all tensors, one factor for all",
    )
    optimizer.clip_gradients([a, b], 7.0)
    true(abs(b.grad.item() - 0.8) < 1e-6, "short gradients are left alone")


BUGS = {
    "the moments are not corrected": (
        'rates = [-lr / (1 - beta1 ** state["step"]) for state in states]',
        "rates = [-lr for state in states]",
    ),
    "the square is corrected with the other beta": (
        'math.sqrt(1 - beta2 ** state["step"])',
        'math.sqrt(1 - beta2 ** max(2, state["step"]))',
    ),
    "decay is added to the gradient": (
        '        torch._foreach_mul_(parameters, 1 - lr * group'
        '["weight_decay"])\n',
        '        torch._foreach_add_(exp_avgs, parameters, '
        'alpha=group["weight_decay"])\n',
    ),
    "embeddings decay": (
        "decays = parameter.ndim >= 2 and parameter not in tables",
        "decays = parameter.ndim >= 2",
    ),
    "each tensor is clipped by itself": (
        "torch._foreach_mul_(gradients, torch.where("
        "norm.isfinite(), factor, 1.0))",
        "[g.mul_(max_norm / g.norm().clamp(min=max_norm)) for g in gradients]",
    ),
    "short gradients are made longer": (
        "(max_norm / norm).clamp(max=1.0)",
        "max_norm / norm",
    ),
}
