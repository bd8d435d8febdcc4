"""The solutions of the exercises on devices."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scratchlm.text.tokens import BatchCursor
from scratchlm.training.device import (
    WaitCounter,
    idle_share,
    two_clocks,
)
from solutions.training import device as module
from solutions.training.device import (
    DeepPrefetch,
    WaitFinder,
    busy_work,
    one_late,
)


def test_a_line_that_waits_is_found() -> None:
    x = torch.ones(3, device="meta")
    with WaitFinder() as finder:
        y = (x * 2).sum()
        for _ in range(2):
            y.item()
        print(float(y), end="")
    here = [place.split(":") for place in finder.places]
    assert [name for name, _ in here] == ["test_device.py"] * 2
    assert int(here[1][1]) == int(here[0][1]) + 1
    assert list(finder.places.values()) == [2, 1]
    assert len(finder.waits) == 3


def test_nobody_else_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.traceback, "extract_stack", list)
    assert module.asker() == "unknown"


@pytest.mark.parametrize("waits", [(), (3,), range(20)])
def test_longer_works_keep_a_device_busy(waits: Any) -> None:
    work = busy_work(20, 2.0, waits, 0.1)
    for factor, enough in ((1.01, True), (0.99, False)):
        moments = two_clocks([work * factor] * 20, 2.0, set(waits))
        assert (idle_share(moments) <= 0.1) == enough


def test_how_long_is_long_enough_depends_on_the_waits() -> None:
    every_tenth, each = range(9, 600, 10), range(600)
    for waits, share in (((), 0.9), (every_tenth, 1.0), (each, 9.0)):
        work = busy_work(600, 6.0, waits, 0.1)
        assert work == pytest.approx(6 * share, rel=0.02)


class Nowhere:
    def send(self, batch: Any) -> Any:
        return batch

    def arrive(self, copies: Any) -> None:
        pass


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_deep_prefetch_resumes_where_it_was(depth: int) -> None:
    def cursor() -> BatchCursor:
        return BatchCursor(np.arange(90), 4, 5, seed=2)

    plain, ahead = cursor(), DeepPrefetch(cursor(), Nowhere(), depth)
    start = ahead.state_dict()
    for _ in range(9):
        assert torch.equal(ahead.next_batch()[0], plain.next_batch()[0])
        assert ahead.state_dict() == plain.state_dict()
    ahead.load_state_dict(start)
    assert torch.equal(ahead.next_batch()[0], cursor().next_batch()[0])


def test_a_late_look_leaves_the_next_step_in_the_queue() -> None:
    order: list[str] = []

    def losses() -> Any:
        for n in range(3):
            order.append(f"step {n}")
            yield torch.tensor(float(n))

    for value in one_late(losses()):
        order.append(f"read {value:.0f}")
    steps = ["step 0", "step 1", "read 0", "step 2", "read 1", "read 2"]
    assert order == steps
    far: list[Tensor] = [torch.ones((), device="meta")] * 3
    with WaitCounter() as counter:
        assert list(one_late(far)) == [1.0] * 3
    assert len(counter.waits) == 3
    assert list(one_late([])) == []
