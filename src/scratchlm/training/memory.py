"""Batches larger than memory: accumulation and recomputation, both exact.

Gradient accumulation walks through one large batch in small pieces and
divides by the tokens of the *whole* step, so that the gradient is that of
the large batch however unevenly the pieces are filled. Activation
checkpointing (Chen et al., 2016) keeps the input of each block and computes
the rest again on the way back. `saved_bytes` and `memory_use` measure what
a step keeps.

Left out: sharding over several machines, and offloading to the main memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scratchlm.model.gpt import MemoryEstimate, next_token_loss
from scratchlm.training.precision import autocast

IGNORED = -100  # a target that is not to be predicted


def count_targets(targets: Tensor) -> int:
    """How many of the targets count, that is, are not `IGNORED`.

    >>> count_targets(torch.tensor([[5, 7, -100], [-100, -100, 2]]))
    3
    """
    return int((targets != IGNORED).sum())


def accumulate_gradients(
    model: nn.Module,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    precision: str = "float32",
) -> float:
    """Add the gradient of the mean loss over all tokens of one step.

    Each micro-batch is a pair of ids and targets, both (B, T); B and T may
    differ from one to the next. Gradients are added to those already there,
    so zero them before. Returns the mean loss in nats per token. Raises
    ValueError when no target counts: a mean over nothing is not a number.
    """
    total = sum(count_targets(targets) for _, targets in micro_batches)
    if total == 0:
        raise ValueError(
            "no target counts in this step: every one is masked with "
            f"{IGNORED}; drop such rows before they reach the trainer"
        )
    step_loss = 0.0
    for ids, targets in micro_batches:
        with autocast(ids.device.type, precision):
            logits = model(ids)  # (B, T, V)
            loss = next_token_loss(logits, targets, reduction="sum") / total
        loss.backward()  # frees this piece's activations
        step_loss += loss.item()
    return step_loss


class Recomputed(torch.autograd.Function):
    """A function that keeps its input only, and runs twice.

    Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016. The
    random state is kept too, so that dropout drops the same values twice.
    """

    @staticmethod
    def forward(
        ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor
    ) -> Tensor:
        """Compute `function(x)` and forget everything but `x`."""
        ctx.function = function
        ctx.random_state = torch.get_rng_state()
        ctx.save_for_backward(x)
        return function(x)  # autograd does not look in here

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Compute again, this time with autograd looking, and go back."""
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.random_state)
            y = ctx.function(x)
        torch.autograd.backward(y, gradients)  # parameters get theirs
        return None, x.grad


def recompute(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, whose inside is computed again for the gradient.

    The teaching form, for one tensor on the CPU; `GPT` uses the library's
    ``torch.utils.checkpoint``, which knows devices and autocast as well.
    Raises ValueError where no gradient would flow: autograd calls `backward`
    only if an *input* asks for a gradient, whatever parameters are inside.
    """
    if not x.requires_grad:
        raise ValueError(
            "the input needs requires_grad=True, or the parameters inside "
            "would silently get no gradient"
        )
    return Recomputed.apply(function, x)


def storage_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of memory behind some tensors, shared memory counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def saved_bytes(model: nn.Module, function: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the way back through `function`.

    Counts the activations: tensors saved while `function` runs, memory seen
    twice counted once, the parameters of `model` not at all.
    """
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = function()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = [
        t for t in kept if t.untyped_storage().data_ptr() not in weights
    ]
    del result  # until here the graph held its tensors
    return storage_bytes(activations)


def memory_use(
    model: nn.Module, ids: Tensor, targets: Tensor
) -> MemoryEstimate:
    """Measure what one step of AdamW on a batch (B, T) needs.

    The step is not taken. Gradients are as large as the weights, Adam's two
    moments twice that; the activations are counted by `saved_bytes`.
    """
    weights = storage_bytes(list(model.parameters()))
    activations = saved_bytes(
        model, lambda: next_token_loss(model(ids), targets)
    )
    return MemoryEstimate(weights, weights, 2 * weights, activations)
