"""The check on devices takes other shapes of the right answer, too."""

import copy
from typing import Any

import pytest
from torch import Tensor

from check import running as runner
from scratchlm.training import device


class Simple:
    """A prefetch without a thread, which copies the cursor's state."""

    def __init__(self, cursor: Any, lane: Any) -> None:
        self.cursor, self.lane = cursor, lane
        self.ahead: list[Any] = []
        self.fill()

    def fill(self) -> None:
        self.state = copy.copy(self.cursor.state_dict())
        batch = self.cursor.next_batch()
        self.ahead = [(batch, self.lane.send(batch))]

    def next_batch(self) -> tuple[Tensor, Tensor]:
        batch, there = self.ahead.pop()
        self.lane.arrive(there)
        self.fill()
        return batch  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, int]:
        return dict(self.state)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.cursor.load_state_dict(state)
        self.fill()


def two_clocks(works: Any, launch: float, waits: Any = ()) -> list[Any]:
    """Two clocks, told apart by their names."""
    program = card = 0.0
    found: list[Any] = []
    for i, work in enumerate(works):
        program = program + launch
        start = program if program > card else card
        card = start + work
        found += [(program, start, card)]
        program = card if i in waits else program
    return found


def promised(name: str) -> float | None:
    """The longest name that fits."""
    fits = [n for n in device.PEAKS if set(n.split()) <= set(name.split())]
    return device.PEAKS[max(fits, key=len)] if fits else None


def test_other_shapes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "Prefetch", Simple)
    monkeypatch.setattr(device, "two_clocks", two_clocks)
    monkeypatch.setattr(device, "promised", promised)
    assert runner.run_topic("device") == 0
