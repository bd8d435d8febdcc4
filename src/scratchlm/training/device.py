"""The same run on an accelerator: its queue, its batches and its peak.

A graphics card works through a queue that the program fills. `WaitCounter`
counts how often the program waits for it, on a device that need not exist;
`two_clocks` says what a wait costs; `device_seconds` is a stopwatch that waits
for the work. `Prefetch` makes and sends the next batch while a step runs.
`utilization` compares a run with the peak of its device (Chowdhery et al.,
2022, appendix B), and `disagreement` compares a device with the processor.

Left out: several devices (`scratchlm.training.distributed`), and kernels.
"""

import copy
import math
import re
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scratchlm.model.gpt import GPT, GPTConfig, flops_per_token
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.memory import accumulate_gradients

Batch = tuple[Tensor, Tensor]  # ids and targets, both (B, T)
aten = torch.ops.aten
NUMBER = aten._local_scalar_dense.default  # under item(), float(), if
COPIES = (aten._to_copy.default, aten.copy_.default)
SIZED = (  # the size of the result depends on the numbers
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
)
WRITES = (aten.index_put.default, aten.index_put_.default)

# --- the queue ---------------------------------------------------------------


def two_clocks(
    works: Sequence[float], launch: float, waits: Collection[int] = ()
) -> list[tuple[float, float, float]]:
    """When each operation is put into the queue, begun and done.

    The program takes `launch` to put one in, and goes on; the device takes
    them in order and needs `works`, in the same unit. After each one whose
    place is in `waits`, the program waits until it is done.

    >>> two_clocks([5, 5, 5], launch=1)
    [(1.0, 1.0, 6.0), (2.0, 6.0, 11.0), (3.0, 11.0, 16.0)]
    >>> two_clocks([5, 5, 5], launch=1, waits={0, 1})
    [(1.0, 1.0, 6.0), (7.0, 7.0, 12.0), (13.0, 13.0, 18.0)]
    """
    now = free = 0.0
    moments = []
    for place, work in enumerate(works):
        now += launch
        begin = max(now, free)  # it is there, and the device is free
        free = begin + work
        moments.append((now, begin, free))
        if place in waits:
            now = free
    return moments


def idle_share(moments: Sequence[tuple[float, float, float]]) -> float:
    """The share of a timeline in which the device has nothing to do.

    >>> idle_share([(1, 1, 5), (7, 7, 8)])
    0.375
    """
    busy = sum(end - begin for _, begin, end in moments)
    return 1 - busy / moments[-1][2]


def makes_view(func: Any) -> bool:
    """Whether an operation only looks at memory in another way."""
    parts = [part.alias_info for part in func._schema.returns]
    return any(part is not None and not part.is_write for part in parts)


class WaitCounter(TorchDispatchMode):
    """Counts, inside a `with`, what a program puts into a device's queue.

    `operations` are those on tensors outside main memory, without views;
    `waits` names those whose answer the program has to see before it goes
    on. On the device "meta" nothing is computed: a tensor there has a shape
    and no numbers, and every question is answered with 1. This way a step
    of any model can be counted, on any machine, at once.

    >>> x = torch.ones(3, device="meta")
    >>> with WaitCounter() as counter:
    ...     y = (x * 2).sum()
    ...     answer = y.item()
    >>> answer, counter.operations, counter.waits
    (1.0, 2, ['_local_scalar_dense'])
    """

    def __init__(self) -> None:
        """Nothing asked yet."""
        super().__init__()
        self.operations = 0
        self.waits: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Count one operation, and run or answer it."""
        kwargs = kwargs or {}
        names = (argument.name for argument in func._schema.arguments)
        inputs = dict(zip(names, args, strict=False)) | kwargs
        given = [t for t in tree_leaves(inputs) if isinstance(t, Tensor)]
        if asks(func, given, inputs):
            self.waits.append(func._schema.name.split("::")[1])
        elif queued(func, given, inputs):
            self.operations += 1
        numbers = func is NUMBER or crosses(func, given, inputs)
        if numbers and given[-1].is_meta:  # it has none: we make some up
            return answer(func, given, inputs)
        return func(*args, **kwargs)


def outside(part: Tensor) -> bool:
    """Whether a tensor is outside main memory."""
    return part.device.type != "cpu"


def crosses(func: Any, given: Sequence[Tensor], inputs: dict[str, Any]) -> bool:
    """Whether this is a copy from one memory to the other."""
    if func not in COPIES:
        return False
    place = inputs.get("device") or given[0].device
    return outside(given[-1]) != (torch.device(place).type != "cpu")


def asks(func: Any, given: Sequence[Tensor], inputs: dict[str, Any]) -> bool:
    """Whether the program waits for the device until this is done.

    It does if it needs a number, or a size that depends on numbers, as when
    it reads or writes where a mask is true; and during a copy from one
    memory to the other, unless the copy is `non_blocking`. Main memory is
    assumed to be pinned there, which nothing shows until it is tried.
    """
    if crosses(func, given, inputs):
        return not inputs.get("non_blocking")
    filled = func in WRITES and given[-1].numel() == 1  # nothing to count
    masked = func in (aten.index.Tensor, *WRITES) and any(
        isinstance(part, Tensor) and part.dtype == torch.bool
        for part in tree_leaves(inputs["indices"])
    )
    masked = masked and not filled
    return any(map(outside, given)) and (masked or func in (NUMBER, *SIZED))


def answer(func: Any, given: Sequence[Tensor], inputs: dict[str, Any]) -> Any:
    """What a device without numbers says: 1, or ones in main memory."""
    if func is NUMBER:
        return torch.ones((), dtype=given[0].dtype).item()
    if func is aten.copy_.default:
        return given[0].fill_(1)
    kind = inputs.get("dtype") or given[0].dtype
    return torch.ones(given[0].shape, dtype=kind)


def queued(func: Any, given: Sequence[Tensor], inputs: dict[str, Any]) -> bool:
    """Whether this is work for the device, and not a view or bare memory."""
    named = torch.device(inputs.get("device") or "cpu").type
    there = any(map(outside, given)) or named != "cpu"
    return there and not makes_view(func) and "empty" not in func._schema.name


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def device_seconds(
    work: Callable[[], object], device: torch.device, turns: int = 5
) -> float:
    """The median time of `work` in `turns` runs, after a warm-up.

    The clock is read when the device is done, both before and after.
    """
    times = []
    for _ in range(turns + 1):
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


# --- batches ahead of time ---------------------------------------------------


class Sender(Protocol):
    """A way to a device, such as `Lane`."""

    def send(self, batch: Batch) -> Batch: ...

    def arrive(self, copies: Batch) -> None: ...


class Lane:
    """A graphics card's queue for copies, beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        """Open it; CUDA calls such a queue a stream."""
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def send(self, batch: Batch) -> Batch:
        """Begin to copy a batch, (B, T) each; nobody waits for the end.

        The card reads pinned memory by itself, while the program goes on.
        """
        ids, targets = (tensor.pin_memory() for tensor in batch)
        with torch.cuda.stream(self.stream):
            return (
                ids.to(self.device, non_blocking=True),
                targets.to(self.device, non_blocking=True),
            )

    def arrive(self, copies: Batch) -> None:
        """Make the queue that computes wait for what was sent.

        The memory belongs to the lane, which would reuse it as soon as
        Python lets go of the tensors: it is told who else reads them.
        """
        main = torch.cuda.current_stream(self.device)
        main.wait_stream(self.stream)
        for tensor in copies:
            tensor.record_stream(main)


class Sent(tuple[Tensor, Tensor]):
    """A batch in main memory; `there` is its copy on the device."""

    there: Batch


class Prefetch:
    """A cursor whose next batch is made and sent while a step runs.

    A thread of its own does both. `Prefetch` stands in for a `BatchCursor`;
    its state is that of the batch that was *taken* last, so a run resumes
    with the one after it, and not with the one after what was fetched.
    """

    def __init__(
        self,
        cursor: BatchCursor,
        lane: Sender,
        cut: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> None:
        """Begin with the first batch; from now on the cursor is ours.

        Only what `cut` leaves of each batch is sent.
        """
        self.cursor, self.lane, self.cut = cursor, lane, cut
        self.batch_size, self.context = cursor.batch_size, cursor.context
        self.worker = ThreadPoolExecutor(max_workers=1)
        self.fetch()

    def fetch(self) -> None:
        """Note where we stand, and let the thread go on from there."""
        self.place = self.cursor.state_dict()
        self.coming: Future[Sent] = self.worker.submit(self.make)

    def make(self) -> Sent:
        """Make a batch and send it; the thread's work."""
        sent = Sent(self.cursor.next_batch())
        sent.there = self.lane.send(self.cut((sent[0], sent[1])))
        return sent

    def next_batch(self) -> Sent:
        """The batch that was fetched, and the fetching of one more."""
        sent = self.coming.result()
        self.lane.arrive(sent.there)
        self.fetch()
        return sent

    def state_dict(self) -> dict[str, int]:
        """Where the cursor stood after the batch that was taken last."""
        return self.place

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where a cursor stood; what was fetched is thrown away."""
        wait([self.coming])
        self.cursor.load_state_dict(state)
        self.fetch()


def prefetched(
    cursor: BatchCursor,
    device: torch.device,
    cut: Callable[[Batch], Batch] = lambda batch: batch,
) -> Any:
    """The cursor with a lane to a graphics card; elsewhere the cursor."""
    if device.type != "cuda":
        return cursor
    return Prefetch(cursor, Lane(device), cut)


# --- how much of the promise is kept -----------------------------------------

# Operations a second in bfloat16 with sums in float32, dense, as the makers
# print them. Where they print the number with sparsity, it is halved.
PEAKS = {
    "B200": 2250e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,  # SXM
    "H200 NVL": 835e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "MI300X": 1300e12,
}


def promised(name: str) -> float | None:
    """The peak of a device by its name, or None if we do not know it.

    The name is that of ``torch.cuda.get_device_name()``. A laptop's card is
    not the one of that name, nor is a part of a card (MIG), or a 4090 D.

    >>> promised("NVIDIA H100 PCIe"), promised("NVIDIA H100 80GB HBM3")
    (756000000000000.0, 989000000000000.0)
    """
    found = set(re.findall(r"\w+", name))
    if found & {"Laptop", "MIG", "D"}:
        return None
    for words, peak in PEAKS.items():
        if found.issuperset(words.split()):
            return peak
    return None


def tokens_per_second(log: Sequence[dict[str, Any]]) -> float:
    """Training tokens per second, from the lines of a run's log.

    Between the first line and the last, so that what is slow in the first
    step alone does not count. ValueError for fewer than two lines.

    >>> log = [{"tokens": 100, "seconds": 9}, {"tokens": 300, "seconds": 13}]
    >>> tokens_per_second(log)
    50.0
    """
    if len(log) < 2:
        raise ValueError(f"{len(log)} lines of a log: a rate takes two")
    first, last = log[0], log[-1]
    seconds = last["seconds"] - first["seconds"]
    if not seconds > 0:
        raise ValueError("no time passes between the first line and the last")
    return float((last["tokens"] - first["tokens"]) / seconds)


def utilization(config: GPTConfig, rate: float, peak: float) -> float:
    """Model-flops utilization (MFU): what is reached of a peak, as a share.

    `rate` is in tokens a second, `peak` in operations a second. Only what
    the model needs counts (`flops_per_token`), and not what the program
    computes twice (Chowdhery et al., 2022, appendix B).
    """
    if not 0 < peak < math.inf:
        raise ValueError(f"a peak is above 0 and finite, and not {peak}")
    return flops_per_token(config) * rate / peak


# --- is it the same run? -----------------------------------------------------


def gradients_on(
    model: GPT, batch: Batch, device: torch.device | str
) -> dict[str, Tensor]:
    """Loss and gradients of a copy on the device, moved to main memory."""
    there = copy.deepcopy(model).to(device)
    there.zero_grad()
    found = {"loss": accumulate_gradients(there, [batch])}
    for name, parameter in there.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def disagreement(
    model: GPT, batch: Batch, device: torch.device | str
) -> dict[str, float]:
    """How far a device is from the processor: loss and each gradient.

    The largest difference, divided by the processor's largest number. Both
    compute in float32, without dropout. What is not a number on the device
    counts as infinitely far away.
    """
    model = copy.deepcopy(model).eval()
    ours = gradients_on(model, batch, "cpu")
    theirs = gradients_on(model, batch, device)
    gaps = {}
    for name, right in ours.items():
        largest = right.abs().max().clamp(min=1e-30)
        gap = ((theirs[name] - right).abs().max() / largest).item()
        gaps[name] = gap if math.isfinite(gap) else math.inf
    return gaps


# --- what the compiler sees --------------------------------------------------


def compiled_graphs(
    function: Callable[..., object], calls: Iterable[tuple[Any, ...]]
) -> list[int]:
    """Operations of each graph that ``torch.compile`` makes for the calls.

    The graphs are counted and then run as they are, so no C++ compiler is
    needed. More than one for the first call means a *graph break*; one more
    for a later call means that it was compiled again.
    """
    sizes: list[int] = []

    def backend(graph: GraphModule, example: list[Any]) -> Callable[..., Any]:
        nodes = graph.graph.nodes
        sizes.append(sum(node.op.startswith("call_") for node in nodes))
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(function, backend=backend)
    for call in calls:
        compiled(*call)
    torch.compiler.reset()
    return sizes
