"""Muon: momentum, made orthogonal, for the matrices inside a network.

Jordan et al. (2024): the update of a matrix is its momentum with all singular
values set near 1, found by a Newton-Schulz iteration that needs nothing but
matrix products. Matrices of equal shape go through it together. The size of
an update is matched to AdamW's, as in Liu et al. (2025), so that one
learning rate serves both.

Left out: dividing the iteration among machines.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scratchlm.model.heads import MultiHeadAttention
from scratchlm.training.optimizer import AdamW, embedding_parameters

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. (2024)


def newton_schulz(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices (..., R, C) with singular values near 1, directions kept.

    If G = U S Vᵀ, this is close to U Vᵀ: after 5 steps singular values
    above about 1/500 of the norm of G are between 0.68 and 1.21. A matrix of
    zeros stays zero. Raises ValueError for anything without rows and columns.
    """
    if matrices.ndim < 2:
        raise ValueError(
            f"a tensor of shape {tuple(matrices.shape)} is no matrix: "
            "leave biases and norms to AdamW"
        )
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # never more rows than columns
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-20)
    for _ in range(steps):
        gram = x @ x.mT  # (..., R, R)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def update_scale(rows: int, columns: int) -> float:
    """The factor that makes a Muon update as large as one of AdamW.

    The entries of an orthogonal matrix have mean square 1 / max(R, C); those
    of AdamW's updates are about 0.2 in size (Liu et al., 2025, section 2.2).

    >>> update_scale(100, 400)
    4.0
    """
    return 0.2 * math.sqrt(max(rows, columns))


class Muon(Optimizer):
    """Momentum made orthogonal; for matrices only.

    Raises ValueError for parameters of any other shape.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 3e-4,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.float32,
        rows: Mapping[Tensor, list[int]] | None = None,
    ) -> None:
        """Take matrices, or groups of them; ValueError out of range.

        The iteration runs in `dtype`; bfloat16 is enough for it (Jordan et
        al., 2024). `rows` says which parameters are several matrices.
        """
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {momentum}")
        defaults = {"lr": lr, "momentum": momentum}
        super().__init__(params, defaults | {"weight_decay": weight_decay})
        self.dtype, self.rows = dtype, dict(rows or {})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(
                        f"a parameter of shape {tuple(parameter.shape)} is "
                        "no matrix: give it to AdamW"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all matrices once; returns what `closure` computed."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for p, ahead in zip(moving, self.look_ahead(moving, group)):
                for pair in zip(self.matrices(p, p), self.matrices(p, ahead)):
                    shapes.setdefault(pair[0].shape, []).append(pair)
            for alike in shapes.values():
                matrices, directions = zip(*alike, strict=True)
                self.update(matrices, directions, group)
        return loss

    def matrices(self, parameter: Tensor, tensor: Tensor) -> Sequence[Tensor]:
        """The separate matrices in a tensor shaped like the parameter."""
        return tensor.split(self.rows.get(parameter, [len(tensor)]))

    def momentum_buffer(self, parameter: Tensor) -> Tensor:
        """The running mean of a matrix's gradients, at first zero."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]

    def look_ahead(
        self, parameters: list[Tensor], group: dict[str, Any]
    ) -> Sequence[Tensor]:
        """Nesterov: the momentum, one step ahead along itself."""
        if not parameters:
            return []
        beta = group["momentum"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = [self.momentum_buffer(p) for p in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - beta)
        return torch._foreach_lerp(gradients, buffers, beta)

    def update(
        self,
        matrices: tuple[Tensor, ...],
        directions: tuple[Tensor, ...],
        group: dict[str, Any],
    ) -> None:
        """One step of matrices of equal shape, in one batch."""
        lr = group["lr"]
        stacked = torch.stack(directions).to(self.dtype)  # (N, R, C)
        updates = newton_schulz(stacked).to(matrices[0].dtype)
        torch._foreach_mul_(matrices, 1 - lr * group["weight_decay"])
        scale = update_scale(*matrices[0].shape)
        torch._foreach_add_(matrices, updates.unbind(), alpha=-lr * scale)


def stacked_rows(model: nn.Module) -> dict[Tensor, list[int]]:
    """The parameters in which several matrices are stacked.

    Attention makes queries, keys and values in one product; they are still
    three matrices, and Muon's step is best taken for each (Jordan et
    al., 2024). Parameter → the rows of each.
    """
    return {
        module.qkv.weight: [
            module.heads * module.head_size,
            module.kv_heads * module.head_size,
            module.kv_heads * module.head_size,
        ]
        for module in model.modules()
        if isinstance(module, MultiHeadAttention)
    }


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices between embedding and head: those that Muon is for.

    Embeddings are recognized by their type, the head by its name, `head`.
    """
    tables = embedding_parameters(model)
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.ndim == 2
        and parameter not in tables
        and "head" not in name.split(".")
    ]


def muon_and_adamw(
    model: nn.Module,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> list[Optimizer]:
    """Muon for the hidden matrices, AdamW for all the rest.

    Both decay what they move, except for embeddings, norms and biases.
    Raises ValueError if the model has no hidden matrix.
    """
    inside = hidden_matrices(model)
    if not inside:
        raise ValueError("the model has no hidden matrix: use AdamW alone")
    chosen, tables = set(inside), embedding_parameters(model)
    rest = [
        p for p in model.parameters() if p.requires_grad and p not in chosen
    ]
    decays = [p for p in rest if p.ndim >= 2 and p not in tables]
    stays = [p for p in rest if p.ndim < 2 or p in tables]
    groups = [
        {"params": decays, "weight_decay": weight_decay},
        {"params": stays, "weight_decay": 0.0},
    ]
    return [
        Muon(
            inside,
            lr=learning_rate,
            weight_decay=weight_decay,
            dtype=dtype,
            rows=stacked_rows(model),
        ),
        AdamW(groups, lr=learning_rate),
    ]
