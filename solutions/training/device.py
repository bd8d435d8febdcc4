"""Solutions: the same run on a GPU."""

import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchlm.text.tokens import BatchCursor
from scratchlm.training import device
from scratchlm.training.device import (
    Sender,
    Sent,
    WaitCounter,
    idle_share,
    two_clocks,
)


class WaitFinder(WaitCounter):
    """A counter that also knows which lines have waited, and how often."""

    def __init__(self) -> None:
        """Nobody yet."""
        super().__init__()
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Count, and look who called, from the inside to the outside."""
        before = len(self.waits)
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            if len(self.waits) > before:
                self.places[asker()] += 1


def asker() -> str:
    """The innermost line that is neither torch's nor a counter's."""
    ours = (str(Path(torch.__file__).parent), __file__, device.__file__)
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(ours):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return "unknown"


def busy_work(
    operations: int, launch: float, waits: Iterable[int], idle: float
) -> float:
    """The least work of an operation for which little time is idle.

    All operations are alike; `idle` is the largest share that is allowed.
    Found by halving, since a longer work never leaves more idle.
    """
    low, high, places = 0.0, launch, set(waits)

    def too_idle(work: float) -> bool:
        moments = two_clocks([work] * operations, launch, places)
        return idle_share(moments) > idle

    while too_idle(high):
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if too_idle(middle) else (low, middle)
    return high


class DeepPrefetch:
    """A prefetch with several batches under way, and a state for each."""

    def __init__(self, cursor: BatchCursor, lane: Sender, depth: int) -> None:
        """Send `depth` batches ahead."""
        self.cursor, self.lane, self.depth = cursor, lane, depth
        self.refill()

    def refill(self) -> None:
        """Forget what is under way, and send anew from where we stand."""
        self.place = self.cursor.state_dict()
        self.queue: deque[tuple[Sent, dict[str, int]]] = deque()
        for _ in range(self.depth):
            self.push()

    def push(self) -> None:
        """Send one more, and note where the cursor stands after it."""
        sent = Sent(self.cursor.next_batch())
        sent.there = self.lane.send((sent[0], sent[1]))
        self.queue.append((sent, self.cursor.state_dict()))

    def next_batch(self) -> Sent:
        """The oldest batch under way; its place becomes ours."""
        sent, self.place = self.queue.popleft()
        self.lane.arrive(sent.there)
        self.push()
        return sent

    def state_dict(self) -> dict[str, int]:
        """Where the cursor stood after the batch that was taken last."""
        return self.place

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where a cursor stood."""
        self.cursor.load_state_dict(state)
        self.refill()


def one_late(losses: Iterable[Tensor]) -> Iterator[float]:
    """The numbers of some losses, each read when the one after it is there.

    By then the next step is in the queue, and the device has work while the
    program waits.
    """
    waiting: Any = None
    for loss in losses:
        if waiting is not None:
            yield waiting.item()
        waiting = loss
    if waiting is not None:
        yield waiting.item()
