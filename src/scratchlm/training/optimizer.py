"""Optimizers: from one step downhill to AdamW, at the speed of the library.

Plain steps, momentum and AdamW (Loshchilov and Hutter, 2019, algorithm 2)
first appear as functions on one tensor, to be read. The class `AdamW` does
the same to all tensors of a model at once; tests check that both forms, and
PyTorch's own, agree. Also here: which parameters decay, and clipping by the
global norm.

Left out: AMSGrad, sparse gradients, and moments in fewer than 32 bits.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scratchlm.model.embeddings import LearnedPositions, TokenEmbedding

EMBEDDINGS = (nn.Embedding, TokenEmbedding, LearnedPositions)


def sgd_step(parameter: Tensor, gradient: Tensor, lr: float) -> None:
    """One step downhill, in place: plain gradient descent.

    >>> p = torch.tensor([1.0])
    >>> sgd_step(p, torch.tensor([0.5]), lr=0.1)
    >>> p
    tensor([0.9500])
    """
    parameter.sub_(gradient, alpha=lr)


def momentum_step(
    parameter: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    lr: float,
    beta: float = 0.9,
) -> None:
    """One step along the sum of past gradients, older ones fading.

    Polyak (1964). `velocity` begins at zero and is updated in place, like
    `parameter`.
    """
    velocity.mul_(beta).add_(gradient)
    parameter.sub_(velocity, alpha=lr)


def adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> None:
    """One step of AdamW, in place (Loshchilov and Hutter, 2019, alg. 2).

    `exp_avg` and `exp_avg_sq`, the two moments, begin at zero; `step`
    counts from 1. As in all libraries the decay is `lr * weight_decay` per
    step. With no decay this is Adam (Kingma and Ba, 2015, algorithm 1).
    """
    beta1, beta2 = betas
    exp_avg.mul_(beta1).add_(gradient, alpha=1 - beta1)
    exp_avg_sq.mul_(beta2).add_(gradient * gradient, alpha=1 - beta2)
    corrected_avg = exp_avg / (1 - beta1**step)
    corrected_sq = exp_avg_sq / (1 - beta2**step)
    parameter.mul_(1 - lr * weight_decay)
    parameter.sub_(lr * corrected_avg / (corrected_sq.sqrt() + eps))


class AdamW(Optimizer):
    """`adamw_step` for every parameter of every group, many at once.

    Used like ``torch.optim.AdamW``, with other defaults. Groups may set their
    own ``lr`` and ``weight_decay``. Parameters without a gradient do not
    change, nor do their moments and their step count.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        """Take parameters, or groups of them; ValueError out of range."""
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1):
            raise ValueError(f"betas must be from 0 to below 1, not {betas}")
        if not eps > 0:
            raise ValueError(f"eps must be above 0, not {eps}")
        defaults = {"lr": lr, "betas": betas, "eps": eps}
        super().__init__(params, defaults | {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters once; returns what `closure` computed."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                self.update(moving, group)
        return loss

    def moments(self, parameter: Tensor) -> dict[str, Any]:
        """The state of one parameter, at first zero; counts its steps."""
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        return state

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """`adamw_step`, each line for a whole list of tensors."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        states = [self.moments(p) for p in parameters]
        exp_avgs = [state["exp_avg"] for state in states]
        exp_avg_sqs = [state["exp_avg_sq"] for state in states]
        lr, (beta1, beta2) = group["lr"], group["betas"]
        torch._foreach_lerp_(exp_avgs, gradients, 1 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, gradients, gradients, 1 - beta2)
        # The corrections are numbers: divide by them where that is cheap.
        scale = [math.sqrt(1 - beta2 ** state["step"]) for state in states]
        rates = [-lr / (1 - beta1 ** state["step"]) for state in states]
        roots = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(roots, scale)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, exp_avgs, roots, rates)


def embedding_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The tables of the model whose rows are looked up, not multiplied."""
    return {
        parameter
        for module in model.modules()
        if isinstance(module, EMBEDDINGS)
        for parameter in module.parameters(recurse=False)
    }


def parameter_groups(
    model: nn.Module, weight_decay: float
) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices, which decay, and the rest.

    The rest are norms and biases, and embeddings: the row of a rare word
    would shrink in every step and be corrected in few. A head that is tied
    to the embedding counts as an embedding. Frozen parameters are in neither.
    """
    tables = embedding_parameters(model)
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and parameter not in tables
            groups[0 if decays else 1]["params"].append(parameter)
    return groups


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Shorten all gradients together to `max_norm`; returns their norm.

    The norm is that of all gradients as one long vector (Pascanu et al.,
    2013), before clipping; a tensor, since to look at it is to wait for the
    device. Below `max_norm` nothing changes. If it is NaN or infinite
    nothing changes either: look at it, and do not step.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, not {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    wide = torch.promote_types(gradients[0].dtype, torch.float32)
    norms = torch._foreach_norm(gradients, dtype=wide)
    norm = torch.linalg.vector_norm(torch.stack(norms))
    factor = (max_norm / norm).clamp(max=1.0)  # 1 if they are short
    torch._foreach_mul_(gradients, torch.where(norm.isfinite(), factor, 1.0))
    return norm


def nonfinite_gradients(model: nn.Module) -> list[str]:
    """The parameters with NaN or infinity in their gradient, and how many.

    It reads every gradient: call it when the norm says that there is
    something to find.
    """
    found = []
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            bad = int((~parameter.grad.isfinite()).sum())
            if bad:
                found.append(f"{name} ({bad} of {parameter.numel()})")
    return found
