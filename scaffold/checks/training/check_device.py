"""What counting a queue, fetching ahead and measuring a device must do."""

import math
import threading
import time
from contextlib import suppress
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from scratchlm.model.gpt import GPT, flops_per_token, gpt2_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import device

from ..expect import close, equal, raises, true
from ..inputs import scattered

META = torch.device("meta")
Batch = tuple[Tensor, Tensor]


def cursor() -> BatchCursor:
    """Two batches to an epoch."""
    return BatchCursor(np.arange(70), context=4, batch_size=8, seed=1)


class Lane:
    """A way to nowhere that notes what it is told."""

    def __init__(self) -> None:
        self.sent = threading.Semaphore(0)
        self.arrived = 0

    def send(self, batch: Batch) -> Batch:
        self.sent.release()
        return batch

    def arrive(self, copies: Batch) -> None:
        self.arrived += 1


def check_the_queue_runs_on_until_somebody_waits() -> None:
    """Three works of 5, launched in 1 each: 16 in all, 18 with waits."""
    equal(
        [end for _, _, end in device.two_clocks([5, 5, 5], 1)],
        [6, 11, 16],
        "when works of 5 are done, launched in 1 each",
        hint="an operation begins when it is there and the device is free",
    )
    equal(
        [end for _, _, end in device.two_clocks([5, 5, 5], 1, {0, 1})],
        [6, 12, 18],
        "the same, and the program waits after the first and the second",
        hint="the next launch comes after the wait",
    )
    equal(
        [end for _, _, end in device.two_clocks([1, 1, 1], 4)],
        [5, 9, 13],
        "when works of 1 are done, launched in 4 each",
        hint="the device cannot begin what is not in the queue",
    )
    close(
        device.idle_share(device.two_clocks([5, 5, 5], 1)),
        1 / 16,
        "the idle share of works of 5, launched in 1",
    )


def check_questions_are_counted() -> None:
    """Two numbers are asked for; a sum and a view are no question."""
    x = torch.ones(4, device=META)
    with device.WaitCounter() as counter:
        x.view(2, 2).t()
        equal(counter.operations, 0, "operations after a view and a transpose")
        total = (x * 2).sum()
        equal(len(counter.waits), 0, "waits after a product and a sum")
        equal(counter.operations, 2, "operations after a product and a sum")
        total.item()
        bool(total > 0)
    equal(len(counter.waits), 2, "waits after item() and a condition")


def check_sizes_that_depend_on_numbers_are_counted() -> None:
    """A mask picks nobody knows how many numbers."""
    x = torch.ones(4, device=META)
    with (
        device.WaitCounter() as counter,
        suppress(NotImplementedError),  # no numbers, so no size
    ):
        x[x > 0]
    equal(
        len(counter.waits),
        1,
        "waits after x[x > 0]",
        hint="the program must know the size of the result",
    )


def check_copies_are_counted_unless_nobody_waits() -> None:
    """There and back is two waits; there, non_blocking, is none."""
    x = torch.ones(4)
    with device.WaitCounter() as counter:
        there = x.to(META)
        there.cpu()
        equal(len(counter.waits), 2, "waits after .to(device) and .cpu()")
        x.to(META, non_blocking=True)
    equal(len(counter.waits), 2, "waits after one more copy, with non_blocking")


def check_fetching_changes_no_batch() -> None:
    """Batches come in the cursor's order, each received once."""
    plain, lane = cursor(), Lane()
    ahead = device.Prefetch(cursor(), lane)
    for count in range(1, 6):
        batch = ahead.next_batch()
        equal(batch[0], plain.next_batch()[0], f"the ids of batch {count}")
        equal(
            lane.arrived,
            count,
            f"calls of arrive after {count} batches",
            hint="the queue that computes has to wait for the copy",
        )


def check_the_state_is_that_of_the_batch_taken() -> None:
    """A run that resumes goes on with the batch after the last it took."""
    plain, lane = cursor(), Lane()
    ahead = device.Prefetch(cursor(), lane)
    for _ in range(3):
        ahead.next_batch()
        plain.next_batch()
    for _ in range(4):  # the fourth has been fetched by now
        lane.sent.acquire(timeout=10)
    equal(
        ahead.state_dict(),
        plain.state_dict(),
        "the state after 3 batches, while the fourth is there",
        hint="save where the cursor stood before it fetched ahead",
    )


def check_what_was_fetched_is_forgotten_when_set_back() -> None:
    """Set back to its beginning, it gives the first batch again."""
    ahead = device.Prefetch(cursor(), Lane())
    start = ahead.state_dict()
    first = ahead.next_batch()[0]
    ahead.next_batch()
    ahead.load_state_dict(start)
    equal(ahead.next_batch()[0], first, "the first batch after setting back")


def check_the_stopwatch_waits_for_the_device() -> None:
    """A work that takes the device 2 s and the program 0.001 s."""
    now, done = [0.0], [0.0]

    def work() -> None:
        now[0] += 0.001
        done[0] = now[0] + 2.0

    def read() -> float:
        return now[0]

    def synchronize(*_: object) -> None:
        now[0] = max(now[0], done[0])

    with (
        mock.patch.object(time, "perf_counter", read),
        # where it was imported by its name
        mock.patch.object(device, "perf_counter", read, create=True),
        mock.patch.object(torch.accelerator, "synchronize", synchronize),
    ):
        got = device.device_seconds(work, META, 3)
    close(
        got,
        2.001,
        "seconds of the work",
        hint="0.001: the clock was read while the device was at work",
    )


def check_the_peak_is_that_of_the_card() -> None:
    """Two cards share a name and not a peak."""
    equal(
        device.promised("NVIDIA H100 PCIe"), 756e12, "the peak of a H100 PCIe"
    )
    equal(
        device.promised("NVIDIA H100 80GB HBM3"),
        989e12,
        "the peak of a H100 with SXM",
    )
    equal(device.promised("a toaster"), None, "the peak of a toaster")


def check_utilization() -> None:
    """Operations that the model needs, over operations that there are."""
    config = gpt2_config(50, 8, 2, 2, 16)
    need = flops_per_token(config)
    close(
        device.utilization(config, 10.0, 40.0 * need),
        0.25,
        "10 tokens a second, of 40 that the peak allows",
        hint="forward and back: six operations a weight, not two",
    )
    raises(
        ValueError, lambda: device.utilization(config, 1.0, 0.0), "a peak of 0"
    )
    log = [{"tokens": 100, "seconds": 90.0}, {"tokens": 300, "seconds": 94.0}]
    close(
        device.tokens_per_second(log),
        50.0,
        "tokens a second, after a slow first step",
        hint="from the first line to the last",
    )


def check_what_is_no_number_disagrees() -> None:
    """A gradient with NaN is infinitely far away; its own, not at all."""
    model = scattered(GPT(gpt2_config(50, 8, 1, 2, 16)), 0.1)
    ids, targets = torch.arange(32).view(2, 2, 8) ** 2 % 50
    gaps = device.disagreement(model, (ids, targets), "cpu")
    close(max(gaps.values()), 0.0, "the processor's distance from itself")
    true("loss" in gaps, "the loss is compared, too")
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    gaps = device.disagreement(model, (ids, targets), "cpu")
    equal(
        gaps["loss"],
        math.inf,
        "the distance of a loss that is NaN",
        hint="NaN is not larger than any limit: test for it",
    )


BUGS = {
    "the device begins what is not there yet": (
        "begin = max(now, free)",
        "begin = free",
    ),
    "the program never waits": (
        "            now = free\n",
        "            pass\n",
    ),
    "a view is taken for work": (
        "return there and not makes_view(func) and",
        "return there and",
    ),
    "a mask is no question": (
        "(masked or func in (NUMBER, *SIZED))",
        "func in (NUMBER, *SIZED)",
    ),
    "a copy to the device is free": (
        'return not inputs.get("non_blocking")',
        "return outside(given[-1])",
    ),
    "the state is that of what was fetched": (
        "return self.place",
        "return self.cursor.state_dict()",
    ),
    "what was fetched comes once more": (
        "        self.cursor.load_state_dict(state)\n        self.fetch()",
        "        self.cursor.load_state_dict(state)",
    ),
    "nobody waits for the copy": (
        "        self.lane.arrive(sent.there)\n",
        "",
    ),
    "the clock is read while the device is at work": (
        "        work()\n        wait_for(device)\n",
        "        work()\n",
    ),
    "all cards of a family have one peak": (
        "if found.issuperset(words.split()):",
        "if words.split()[0] in found:",
    ),
    "the way back is not counted": (
        "return flops_per_token(config) * rate / peak",
        "return flops_per_token(config) / 3 * rate / peak",
    ),
    "the slow first step counts": (
        'seconds = last["seconds"] - first["seconds"]',
        'seconds = last["seconds"]',
    ),
    "NaN is no difference": (
        "gap if math.isfinite(gap) else math.inf",
        "gap if gap > 0 else 0.0",
    ),
}
