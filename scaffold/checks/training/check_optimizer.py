"""What AdamW, its groups and clipping must do."""

from typing import Any

import torch
from torch import nn

from scratchlm.training import optimizer

from ..expect import close, equal, raises, true
from ..inputs import waves


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
    p = nn.Parameter(waves(3, 4))
    q, mean = p.detach().clone(), torch.zeros(3, 4)
    square = torch.zeros(3, 4)
    adamw = optimizer.AdamW([p], lr=0.01)
    for step in range(1, 11):
        p.grad = waves(3, 4, step=float(step))
        optimizer.adamw_step(q, p.grad, mean, square, step, lr=0.01)
        adamw.step()
    close(p, q, "the parameters after ten steps", tol=1e-6)


def in_groups(
    model: nn.Module, decay: float
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The shapes of what decays and of what does not, in whatever order."""
    found: dict[float, list[tuple[int, ...]]] = {decay: [], 0.0: []}
    for group in optimizer.parameter_groups(model, decay):
        shapes = [tuple(p.shape) for p in group["params"]]
        found.setdefault(group["weight_decay"], []).extend(shapes)
    equal(sorted(found), [0.0, decay], "the decays of the groups")
    return sorted(found[decay]), sorted(found[0.0])


def check_only_matrices_decay() -> None:
    """Norms, biases and embeddings are in the group without decay."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    decays, stays = in_groups(model, 0.1)
    equal(decays, [(3, 4)], "the shapes of what decays")
    equal(
        stays,
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


def check_plain_steps() -> None:
    """Downhill by 0.1 of the slope; momentum adds half of the last step."""
    p = torch.tensor([1.0, 2.0])
    optimizer.sgd_step(p, torch.tensor([0.5, -1.0]), lr=0.1)
    close(p, [0.95, 2.1], "1 and 2 after the slopes 0.5 and -1")
    p, velocity = torch.tensor([1.0]), torch.zeros(1)
    for slope, place, speed in ((1.0, 0.9, 1.0), (2.0, 0.65, 2.5)):
        gradient = torch.tensor([slope])
        optimizer.momentum_step(p, gradient, velocity, lr=0.1, beta=0.5)
        close(p, [place], f"1 after a slope of {slope}, with momentum")
        close(velocity, [speed], "the velocity, which is kept")


def check_eps_stands_outside_the_root() -> None:
    """A gradient as small as eps moves half as far, one of 3 eps 3/4."""
    for gradient, share in ((0.001, 1 / 2), (0.003, 3 / 4)):
        got = moved([gradient], lr=0.1, eps=0.001)
        what = f"the parameter after a gradient of {gradient}, eps=0.001"
        hint = "divide by the root of the square, plus eps"
        close(got, 1 - 0.1 * share, what, hint=hint)
        p, mean, square = torch.ones(1), torch.zeros(1), torch.zeros(1)
        optimizer.adamw_step(
            p,
            torch.tensor([gradient]),
            mean,
            square,
            1,
            lr=0.1,
            eps=0.001,
            weight_decay=0.0,
        )
        close(p, [1 - 0.1 * share], f"{what}, by adamw_step", hint=hint)


def check_groups_have_settings_of_their_own() -> None:
    """Each group has its rate and decay; without gradient nothing moves."""
    fast, slow = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    still = nn.Parameter(torch.ones(1))
    groups = [
        {"params": [fast, still], "lr": 0.2, "weight_decay": 0.5},
        {"params": [slow]},
    ]
    adamw = optimizer.AdamW(groups, lr=0.1, weight_decay=0.0)
    fast.grad, slow.grad = torch.zeros(1), torch.zeros(1)
    adamw.step()
    both = torch.cat([fast, slow, still])
    close(both, [0.9, 1.0, 1.0], "weights after decay alone")
    slow.grad = torch.ones(1)
    said = adamw.step(lambda: 3.0)
    close(said, 3.0, "what the closure computed")
    # its gradient was 0 at first: 0.1 / 0.19 over sqrt(0.05 / 0.0975)
    close(slow, [1 - 0.1 * 0.734968], "the slow weight", tol=1e-5)


def check_settings_out_of_range() -> None:
    """No negative rate or decay, no beta of 1, no eps of 0."""
    for settings in (
        {"lr": -0.1},
        {"weight_decay": -0.1},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"eps": 0.0},
    ):
        raises(
            ValueError,
            lambda s=settings: moved([1.0], **s),  # type: ignore
            f"AdamW with {settings}",
        )
    raises(
        ValueError,
        lambda: optimizer.clip_gradients([nn.Parameter(torch.ones(1))], 0.0),
        "clipping to a norm of 0",
    )


def check_gradients_that_are_no_numbers() -> None:
    """They are left as they are, and found; without any the norm is 0."""
    model = nn.Linear(2, 2)
    norm = optimizer.clip_gradients(model.parameters(), 1.0)
    close(norm, 0.0, "the norm without gradients")
    model.weight.grad = torch.tensor([[1.0, torch.inf], [2.0, torch.nan]])
    model.bias.grad = torch.tensor([30.0, 40.0])
    norm = optimizer.clip_gradients(model.parameters(), 1.0)
    true(not bool(norm.isfinite()), "the norm is no number either")
    close(model.bias.grad, [30.0, 40.0], "gradients beside one that is NaN")
    found = optimizer.nonfinite_gradients(model)
    equal(len(found), 1, "parameters with such a gradient")
    true(found[0].startswith("weight"), "it is called by its name")
    true("2 of 4" in found[0], "how many of its numbers are bad is told")


def check_frozen_parameters_are_left_out() -> None:
    """What learns nothing is in no group; the others decay, or do not."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    model[1].requires_grad_(False)
    shapes = list(in_groups(model, 0.25))
    equal(shapes, [[(2, 3)], [(2,)]], "shapes of what decays, and does not")


BUGS = {
    "the moments are not corrected": (
        'rates = [-lr / (1 - beta1 ** state["step"]) for state in states]',
        "rates = [-lr for state in states]",
    ),
    "the square is corrected with the other beta": (
        'math.sqrt(1 - beta2 ** state["step"])',
        'math.sqrt(1 - beta1 ** state["step"])',
    ),
    "decay is added to the gradient": (
        "        torch._foreach_mul_(parameters, 1 - lr * group"
        '["weight_decay"])\n',
        "        torch._foreach_add_(exp_avgs, parameters, "
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
    "eps stands inside the root": (
        "(corrected_sq.sqrt() + eps)",
        "(corrected_sq + eps).sqrt()",
    ),
    "eps is subtracted": (
        "(corrected_sq.sqrt() + eps)",
        "(corrected_sq.sqrt() - eps)",
    ),
    "a plain step goes uphill": (
        "parameter.sub_(gradient, alpha=lr)",
        "parameter.add_(gradient, alpha=lr)",
    ),
    "momentum forgets": (
        "velocity.mul_(beta).add_(gradient)",
        "velocity.copy_(gradient)",
    ),
    "all groups have the first one's rate": (
        'lr, (beta1, beta2) = group["lr"], group["betas"]',
        'lr, (beta1, beta2) = self.param_groups[0]["lr"], group["betas"]',
    ),
    "what the closure computed is lost": (
        "                self.update(moving, group)\n        return loss",
        "                self.update(moving, group)\n        return None",
    ),
    "a beta of 1 is taken": (
        "0 <= betas[1] < 1",
        "0 <= betas[1] <= 1",
    ),
    "gradients are scaled by NaN": (
        "torch.where(norm.isfinite(), factor, 1.0)",
        "factor",
    ),
    "bad gradients are not found": (
        "if bad:",
        "if bad > 4:",
    ),
    "frozen parameters decay": (
        "        if parameter.requires_grad:\n",
        "        if True:\n",
    ),
}
