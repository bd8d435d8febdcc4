"""What a step of several processes must do."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scratchlm.training import distributed

from ..expect import close, equal, raises

FUNCTIONS = ("all_reduce", "get_rank", "get_world_size", "is_initialized")


class Ranks:
    """Ranks that are threads: no process starts, no port is opened."""

    def __init__(self, count: int) -> None:
        self.count, self.me = count, threading.local()
        self.meeting = threading.Barrier(count, timeout=30)
        self.shown: list[Tensor] = [torch.zeros(())] * count

    def get_rank(self, group: Any = None) -> int:
        """Which thread asks."""
        rank: int = self.me.rank
        return rank

    def get_world_size(self, group: Any = None) -> int:
        """How many threads there are."""
        return self.count

    def is_initialized(self) -> bool:
        """Threads need not meet first."""
        return True

    def all_reduce(self, tensor: Tensor, *args: Any, **options: Any) -> None:
        """The sum of what all threads hold, in place."""
        self.shown[self.me.rank] = tensor.detach().clone()
        self.meeting.wait()
        total = torch.stack(self.shown).sum(dim=0)
        self.meeting.wait()
        tensor.detach().copy_(total)

    def start(self, rank: int, work: Callable[[int], Any]) -> Any:
        """One thread's part; an error lets the others go."""
        self.me.rank = rank
        try:
            return work(rank)
        except Exception:
            self.meeting.abort()
            raise

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What `work` returns on each rank."""
        fakes = {name: getattr(self, name) for name in FUNCTIONS}
        with (
            mock.patch.multiple(dist, **fakes),
            ThreadPoolExecutor(self.count) as pool,
        ):
            jobs = [pool.submit(self.start, r, work) for r in range(self.count)]
            errors = [job.exception() for job in jobs]
        for error in errors:
            if error and not isinstance(error, threading.BrokenBarrierError):
                raise error
        return [job.result() for job in jobs]


class Replica(DistributedDataParallel):
    """What DDP does, for threads: its forward decides about its backward."""

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        nn.Module.__init__(self)
        self.module, self.ranks, self.trips = module, ranks, 0
        self.require_backward_grad_sync, self.due = True, True
        for parameter in module.parameters():
            parameter.register_post_accumulate_grad_hook(self.travel)

    def forward(self, *inputs: Any) -> Any:
        """Compute, and note whether gradients are to travel."""
        self.due = self.require_backward_grad_sync
        return self.module(*inputs)

    def travel(self, parameter: Tensor) -> None:
        """The mean of a gradient over the ranks."""
        if self.due and parameter.grad is not None:
            self.trips += 1
            self.ranks.all_reduce(parameter.grad)
            parameter.grad /= self.ranks.count


class Tally(nn.Module):
    """Two logits, the same for every position, and their loss, summed."""

    def __init__(self, odds: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, math.log(odds)]))

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Minus the logarithms of the targets' probabilities."""
        return -self.logits.log_softmax(-1)[targets[targets >= 0]].sum()


def piece(*targets: int) -> tuple[Tensor, Tensor]:
    """A micro-batch of one row: targets that count, then hidden ones."""
    row = torch.tensor([[*targets, *[-100] * (4 - len(targets))]])
    return torch.zeros_like(row), row


# Token 0 is a target three times, token 1 five times.
UNEVEN = [[piece(0), piece(1, 1)], [piece(1, 1, 1), piece(0, 0)]]


def step(odds: float = 1.0) -> list[tuple[Tensor, float, int]]:
    """Gradient, loss, and how often gradients travelled, on each rank."""
    ranks = Ranks(2)

    def work(rank: int) -> tuple[Tensor, float, int]:
        model = Replica(Tally(odds), ranks)
        loss = distributed.accumulate_over_ranks(model, UNEVEN[rank])
        gradient = model.module.logits.grad
        return gradient, float(loss), model.trips

    return ranks.run(work)


def check_every_row_falls_to_one_rank() -> None:
    """Seven rows on three ranks: each row once, none twice."""
    ids = torch.arange(7)[:, None]
    parts = [distributed.share((ids, -ids), rank, 3) for rank in range(3)]
    equal(
        sorted(row for x, _ in parts for row in x.flatten().tolist()),
        list(range(7)),
        "the rows of all ranks together",
        hint="a rank that ignores its number reads what others read",
    )
    equal(
        [(-y).flatten().tolist() for _, y in parts],
        [x.flatten().tolist() for x, _ in parts],
        "the rows of the targets, and those of the ids",
    )
    raises(
        ValueError,
        lambda: distributed.share((ids, ids), 0, 8),
        "seven rows for eight ranks",
    )


def check_every_token_weighs_the_same() -> None:
    """Pieces of 1, 2, 3 and 2 targets weigh 1, 2, 3 and 2."""
    for rank, (gradient, _, _) in enumerate(step()):
        # softmax = (1/2, 1/2): three times (-1/2, 1/2), five (1/2, -1/2)
        close(
            gradient,
            torch.tensor([0.125, -0.125]),
            f"gradient on rank {rank}: targets 0 | 1 1 and 1 1 1 | 0 0",
            hint="divide by the targets of all ranks and pieces, and multiply "
            "by the ranks, over which DDP takes the mean; a mean of means "
            "gives 0, or 0.1333; gradients that did not travel differ",
        )


def check_gradients_travel_once() -> None:
    """One exchange in a step, with the last micro-batch."""
    equal(
        [trips for _, _, trips in step()],
        [1, 1],
        "how often each rank's gradient travelled",
        hint="set no_sync before the forward pass, for all pieces but the last",
    )


def check_loss_of_all_ranks() -> None:
    """The loss returned is the mean over the tokens of all ranks."""
    wanted = (3 * math.log(4) + 5 * math.log(4 / 3)) / 8
    for rank, (_, loss, _) in enumerate(step(odds=3.0)):
        close(loss, wanted, f"loss on rank {rank}, odds of 1 to 3")


def check_nothing_to_predict() -> None:
    """Without any target every rank raises, and none waits for ever."""

    def work(rank: int) -> None:
        raises(
            ValueError,
            lambda: distributed.all_targets([piece()]),
            f"rank {rank} of a step without targets",
        )

    Ranks(2).run(work)


def check_seeds() -> None:
    """No two ranks, and no two steps, drop the same values."""
    seeds = [
        distributed.dropout_seed(step, rank)
        for step in range(20)
        for rank in range(8)
    ]
    equal(
        len(set(seeds)),
        len(seeds),
        "different seeds of 20 steps on 8 ranks",
        hint="the same seed everywhere drops the same values everywhere",
    )


def check_bytes() -> None:
    """16 bytes for a weight, less what is divided; a ring sends twice."""
    equal(
        [distributed.rank_bytes(1000, 8, stage) for stage in range(4)],
        [16000, 9000, 5500, 2000],
        "bytes of 1000 parameters on each of 8 ranks, stages 0 to 3",
        hint="moments take 8 bytes, gradients 4, weights 4",
    )
    equal(distributed.ring_bytes(8000, 8), 14000, "2 (n - 1) / n of 8000")


FORWARD = """            with travelling(model, place == last):
                with autocast(device.type, precision):
                    loss = model(ids, targets)
                (loss * factor).backward()
"""
TOO_LATE = """            with autocast(device.type, precision):
                loss = model(ids, targets)
            with travelling(model, place == last):
                (loss * factor).backward()
"""
BUGS = {
    "each rank divides by its own targets": (
        "    dist.all_reduce(total)\n",
        "",
    ),
    "each micro-batch weighs the same (mean of means)": (
        "(loss * factor).backward()",
        "(loss / count_targets(targets) / last).backward()",
    ),
    "the mean over the ranks is forgotten": (
        "factor = dist.get_world_size() / total",
        "factor = 1 / total",
    ),
    "no_sync is set after the forward pass": (FORWARD, TOO_LATE),
    "gradients travel with the first micro-batch": (
        "travelling(model, place == last)",
        "travelling(model, place == 1)",
    ),
    "gradients never travel (off by one)": (
        "enumerate(micro_batches, start=1)",
        "enumerate(micro_batches, start=0)",
    ),
    "every rank reads the same rows": (
        "return ids[rank::ranks], targets[rank::ranks]",
        "return ids[::ranks], targets[::ranks]",
    ),
    "every rank drops the same values": (
        "return (step << 16) + rank",
        "return step << 16",
    ),
    "the loss is that of one rank": (
        "    dist.all_reduce(nats)\n",
        "",
    ),
}
