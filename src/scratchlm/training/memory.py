"""Batches larger than memory: accumulation and recomputation, both exact.

Gradient accumulation walks through one large batch in small pieces and
divides by the tokens of the *whole* step, so that the gradient is that of
the large batch however unevenly the pieces are filled. Activation
checkpointing (Chen et al., 2016) keeps the input of each block and computes
the rest again on the way back. If the logits would be larger than all else,
the loss and its gradient are computed a few rows at a time.
`saved_bytes` and `memory_use` measure what a step keeps, and its peak.

Left out: offloading to main memory. `scratchlm.training.distributed`
divides a step, and what it keeps, among processes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scratchlm.model.flash import PeakMemory
from scratchlm.model.gpt import (
    GPT,
    LOGITS_AT_ONCE,
    MemoryEstimate,
    next_token_loss,
)
from scratchlm.training.optimizer import (
    AdamW,
    clip_gradients,
    parameter_groups,
)
from scratchlm.training.precision import (
    Precision,
    autocast,
    float32_products,
)

IGNORED = -100  # a target that is not to be predicted


def count_targets(targets: Tensor) -> int:
    """How many of the targets count, that is, are not `IGNORED`.

    >>> count_targets(torch.tensor([[5, 7, -100], [-100, -100, 2]]))
    3
    """
    return int((targets != IGNORED).sum())


class ChunkedCrossEntropy(torch.autograd.Function):
    """The summed loss of (N, C) features, and its gradients, in one pass.

    The gradient of the loss with respect to the logits is their softmax,
    minus one at the target. So logits are made `rows` rows at a time, used
    for the loss and both gradients, and dropped; (N, V) logits never exist.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, rows: int
    ) -> Tensor:
        """x (N, C), weight (V, C), targets (N,) → the loss, in nats."""
        total = torch.zeros((), device=x.device)
        grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight)
        for i in range(0, len(x), rows):
            part, y = x[i : i + rows], targets[i : i + rows]  # (R, C), (R,)
            hidden, target = y == IGNORED, y.clamp(min=0)[:, None]
            logs = (part @ weight.T).float().log_softmax(-1)  # (R, V)
            nats = -logs.gather(1, target)[:, 0]
            total += nats.masked_fill(hidden, 0.0).sum()
            error = logs.exp_()  # softmax, in the same memory
            error.scatter_add_(1, target, -torch.ones_like(nats)[:, None])
            error.masked_fill_(hidden[:, None], 0.0)
            error = error.to(weight.dtype)
            grad_x[i : i + rows] = error @ weight
            grad_weight += error.T @ part
            del logs, error  # before the next chunk is made
        ctx.save_for_backward(grad_x, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """All is done but the factor by which the loss was multiplied."""
        grad_x, grad_weight = ctx.saved_tensors
        (factor,) = gradients
        return grad_x.mul_(factor), grad_weight.mul_(factor), None, None


def chunked_loss(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    reduction: str = "sum",
    size: int = LOGITS_AT_ONCE,
) -> Tensor:
    """`next_token_loss` of ``x @ weight.T``, `size` logits at a time.

    x (B, T, C), weight (V, C), targets (B, T). `reduction` is sum, or none
    where no gradient is asked for; ValueError for any other.
    """
    known = ("sum",) if torch.is_grad_enabled() else ("sum", "none")
    if reduction not in known:
        raise ValueError(f"reduction={reduction!r}: here it is {known}")
    rows = max(1, size // len(weight))
    x, targets = x.flatten(0, 1), targets.flatten()
    if torch.is_grad_enabled():
        loss: Tensor = ChunkedCrossEntropy.apply(x, weight, targets, rows)
        return loss
    parts = zip(x.split(rows), targets.split(rows), strict=True)
    losses = [
        next_token_loss((a @ weight.T)[None], b[None], "none") for a, b in parts
    ]
    nats = torch.cat(losses)  # (B · T,)
    return nats.sum() if reduction == "sum" else nats


def batch_loss(
    model: nn.Module, ids: Tensor, targets: Tensor, reduction: str = "sum"
) -> Tensor:
    """The loss of a model on ids and targets (B, T), in nats.

    `next_token_loss`, or `chunked_loss` for a `GPT` whose logits would be
    more than `LOGITS_AT_ONCE` numbers.
    """
    if isinstance(model, GPT):
        weight = model.head.weight  # (V, C)
        if ids.numel() * len(weight) > LOGITS_AT_ONCE:
            x = model.features(ids)
            return chunked_loss(x, weight, targets, reduction)
    return next_token_loss(model(ids), targets, reduction)


def to_device(batch: tuple[Tensor, Tensor], device: torch.device) -> Any:
    """Ids and targets where the model is; the program does not wait.

    A card copies from pinned memory by itself, while the program goes on.
    A batch that was sent ahead brings its copy with it. On a Mac the
    program does wait.
    """
    if there := getattr(batch, "there", None):
        return there
    if device.type == "cuda":
        batch = batch[0].pin_memory(), batch[1].pin_memory()
    free = device.type != "mps"  # torch may reuse the memory too soon there
    return tuple(tensor.to(device, non_blocking=free) for tensor in batch)


def accumulate_gradients(
    model: nn.Module,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    precision: Precision = "float32",
) -> Tensor:
    """Add the gradient of the mean loss over all tokens of one step.

    Each micro-batch is a pair of ids and targets, both (B, T); B and T may
    differ from one to the next. Gradients are added to those already there,
    so zero them first. Returns the mean loss in nats per token, a tensor on
    the model's device, which may still be computing it. Raises ValueError
    when no target counts: a mean over nothing is not a number.
    """
    total = sum(count_targets(targets) for _, targets in micro_batches)
    if total == 0:
        raise ValueError(
            "no target counts in this step: every one is masked with "
            f"{IGNORED}; drop such rows before they reach the trainer"
        )
    device = next(model.parameters()).device
    step_loss = torch.zeros((), device=device)
    with float32_products(precision):
        for batch in micro_batches:
            ids, targets = to_device(batch, device)
            with autocast(device.type, precision):
                loss = batch_loss(model, ids, targets) / total
            loss.backward()  # frees this piece's activations
            step_loss += loss.detach()
    return step_loss


class Recomputed(torch.autograd.Function):
    """A function that keeps only its input, and runs twice.

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
    """`function(x)`, whose insides are computed again for the gradient.

    The teaching form, for one tensor on the CPU; `GPT` uses the library's
    ``torch.utils.checkpoint``, which knows devices and autocast as well.
    Raises ValueError if no gradient would flow: autograd calls `backward`
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
        function()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = [
        t for t in kept if t.untyped_storage().data_ptr() not in weights
    ]
    return storage_bytes(activations)


def memory_use(
    model: nn.Module, ids: Tensor, targets: Tensor
) -> MemoryEstimate:
    """Measure what one step of AdamW on a batch (B, T) needs, on the CPU.

    A step at rate 0 is taken: the weights stay, gradients are cleared.
    Gradients are as large as the weights, Adam's two moments twice that;
    the activations are counted by `saved_bytes`, the peak by `PeakMemory`.
    """
    parameters = list(model.parameters())
    weights = storage_bytes(parameters)
    activations = saved_bytes(model, lambda: batch_loss(model, ids, targets))
    optimizer = AdamW(parameter_groups(model, 0.1), lr=0.0)
    model.zero_grad()
    with PeakMemory() as memory:
        accumulate_gradients(model, [(ids, targets)])
        before, memory.peak = memory.peak, memory.held
        clip_gradients(parameters, 1.0)
        optimizer.step()  # the first one makes the moments
    model.zero_grad()
    peak = max(before + 2 * weights, memory.peak)
    return MemoryEstimate(
        weights, weights, 2 * weights, activations, weights + peak
    )
