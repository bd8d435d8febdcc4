"""Solutions on serving: the other end of the line, and a fair door."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


def read_events(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    r"""The data of server-sent events, in whatever blocks they come.

    A block may end anywhere, in the middle of a character, too; so bytes are
    gathered up to an empty line, and decoded then.

    >>> list(read_events([b'data: {"a"', b': 1}\n', b'\ndata: [DONE]\n\n']))
    [{'a': 1}]
    """
    held = b""
    for block in blocks:
        held += block
        *whole, held = held.split(b"\n\n")
        for event in whole:
            data = event.removeprefix(b"data: ")
            if data == b"[DONE]":
                return
            yield json.loads(data)
    raise ConnectionError("the stream broke off")


def ask_again(
    ask: Callable[[], tuple[int, float | None]],
    wait: Callable[[float], None],
    chance: Callable[[], float],
    tries: int = 6,
) -> int:
    """The last status, after waiting as long as one was told, or longer.

    `ask` returns a status and the seconds of Retry-After, if there are any.
    Without them each wait is up to twice as long as the one before, by
    `chance` between 0 and 1, so that those who were sent away together do
    not come back together.
    """
    longest = 1.0
    for left in reversed(range(tries)):
        status, told = ask()
        if status not in (429, 503) or not left:
            break
        wait((told or 0.0) + longest * chance())
        longest *= 2
    return status


class Bucket:
    """Lets through `rate` a second on average, and `size` at once at most."""

    def __init__(self, rate: float, size: float) -> None:
        """Full, so that the first ones come in."""
        self.rate, self.size = rate, size
        self.level, self.time = size, 0.0

    def admit(self, cost: float, now: float) -> float:
        """0 if something of this cost may pass now, else seconds to wait."""
        if cost > self.size:
            raise ValueError(f"{cost} never fits into {self.size}")
        gained = (now - self.time) * self.rate
        self.level, self.time = min(self.size, self.level + gained), now
        if cost <= self.level:
            self.level -= cost
            return 0.0
        return (cost - self.level) / self.rate


def total_nats(
    complete: Callable[..., dict[str, Any]], context: str, continuation: str
) -> float:
    """Nats of a continuation, by a server that echoes scores.

    `complete` posts to /v1/completions and returns the JSON. A token belongs
    to the continuation if it begins at the context's end, or behind it.
    """
    answer = complete(
        prompt=context + continuation, max_tokens=0, echo=True, logprobs=0
    )
    table = answer["choices"][0]["logprobs"]
    scores = zip(table["text_offset"], table["token_logprobs"])
    return -sum(
        score
        for start, score in scores
        if start >= len(context) and score is not None
    )


def take_turns(waiting: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Requests (user, number), user by user, each in the order of arrival.

    >>> take_turns([("ann", 1), ("ann", 2), ("ann", 3), ("bob", 4)])
    [('ann', 1), ('bob', 4), ('ann', 2), ('ann', 3)]
    """
    queues: dict[str, deque[tuple[str, int]]] = {}
    for request in waiting:
        queues.setdefault(request[0], deque()).append(request)
    turn, order = deque(queues.values()), []
    while turn:
        queue = turn.popleft()
        order.append(queue.popleft())
        if queue:
            turn.append(queue)
    return order
