"""Comparisons for checks: each failure names what, expected, got, and where.

A check calls these instead of a bare ``assert``, so that a reader learns from
the failure what to look at, without opening the check. What was compared is
noted on the way (`listening`), which is how a mistake is recognized.
"""

import inspect
import math
import reprlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import process_time  # other programs do not count
from typing import Any

import numpy as np
import torch

from check.values import anywhere, freeze

Noted = list[list[Any]]  # what was compared, got, wanted
FEWEST, TURNS = 3, 9  # how often work is timed, of which the fastest counts
HEARD: ContextVar[Noted | None] = ContextVar("HEARD", default=None)
EMPTY = "a function returned nothing: is its body written, with a return?"


class CheckFailed(AssertionError):
    """An expectation of a check was not met; its parts tell which."""

    def __init__(
        self, what: str, wanted: str = "", got: str = "", **more: str
    ) -> None:
        """What was compared; `more` may be `hint` and `allowed`."""
        self.what, self.wanted, self.got = what, wanted, got
        self.hint = more.get("hint", "")
        self.allowed = more.get("allowed", "")
        lines = [what]
        if wanted or got:
            lines += [f"  expected: {wanted}", f"  got:      {got}"]
        super().__init__("\n".join(lines))


class NotOffered(BaseException):
    """A check is about a switch that a reader's code does not have."""


def offered(thing: Callable[..., Any], *names: str) -> bool:
    """Whether a class or function takes these; one's own may take fewer."""
    return set(names) <= set(inspect.signature(thing).parameters)


def require(thing: Callable[..., Any], *names: str) -> None:
    """End the check, without a verdict, where one of these is not taken."""
    for name in names:
        if not offered(thing, name):
            raise NotOffered(name)


def taken(thing: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """Those of the settings that it takes.

    >>> taken(lambda heads, rotary=None: 0, rotary=1, reference=True)
    {'rotary': 1}
    """
    return {k: v for k, v in settings.items() if offered(thing, k)}


@contextmanager
def listening() -> Iterator[Noted]:
    """Inside, every comparison is noted in the list."""
    noted: Noted = []
    token = HEARD.set(noted)
    try:
        yield noted
    finally:
        HEARD.reset(token)


def note(what: str, got: object, wanted: object) -> None:
    """Remember a comparison, if somebody listens."""
    if (noted := HEARD.get()) is not None:
        noted.append([freeze(what), freeze(got), freeze(wanted)])


def in_order() -> reprlib.Repr:
    """Writes values whole; sets and dicts in one order, whatever the run."""
    writer = reprlib.Repr()
    for name in vars(writer):
        if name.startswith("max"):
            setattr(writer, name, sys.maxsize)
    writer.maxlevel = 9  # a list can lie in itself
    return writer


def shorten(value: object, limit: int = 300) -> str:
    """The value's text on one line, cut at `limit` characters.

    >>> shorten("a" * 400, limit=9)
    "'aaaaaaaa ..."
    >>> shorten([{"b": 2, "a": {"c", "a", "b"}}])
    "[{'a': {'a', 'b', 'c'}, 'b': 2}]"
    """
    text = " ".join(in_order().repr(value).split())
    return text if len(text) <= limit else text[:limit] + " ..."


def kind(value: object) -> str:
    """What something is, in words: "a tensor (2, 3) of float32".

    >>> kind(None), kind([1, 2])
    ('None', 'a list of 2')
    """
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a tensor {tuple(value.shape)} of {dtype}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def refuse_nothing(got: object, wanted: object, what: str, hint: str) -> None:
    """Nothing where something was expected has one cause, which is named."""
    if got is None and wanted is not None:
        text = f"None: {EMPTY}"
        raise CheckFailed(what, shorten(wanted), text, hint=hint)


def alike(a: Any, b: Any) -> bool:
    """Whether two parts are equal, arrays in all their elements.

    A tuple is as good as a list: which of them is nobody's mistake. One
    number is not as good as several, and nothing is not as good as anything.

    >>> alike([1, (2, 3)], (1, [2, 3])), alike([1], [1, 2])
    (True, False)
    >>> alike(np.array([3, 3]), 3), alike(np.array([]), 3)
    (False, False)
    """
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(alike(x, y) for x, y in pairs)
    try:
        same = bool(np.all(np.asarray(a == b)))
        return same and np.shape(a) == np.shape(b)
    except (TypeError, ValueError, RuntimeError):
        return False


def first_difference(got: Any, wanted: Any) -> str:
    """Where two sequences of one length begin to differ, as " at [1][0]".

    >>> first_difference([1, [2, 3]], [1, [2, 4]])
    ' at [1][1]'
    """
    at = ""
    while isinstance(got, list | tuple) and isinstance(wanted, list | tuple):
        if len(got) != len(wanted):
            break
        for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
            if not alike(a, b):
                at, got, wanted = f"{at}[{i}]", a, b
                break
        else:
            break
    return f" at {at}" if at else ""


def equal(got: object, wanted: object, what: str, hint: str = "") -> None:
    """Expect exactly equal values; tensors compare shape and elements."""
    note(what, got, wanted)
    refuse_nothing(got, wanted, what, hint)
    if isinstance(got, torch.Tensor) and isinstance(wanted, torch.Tensor):
        if got.shape == wanted.shape:
            compare(got, wanted, what, 0.0, hint)
            return
        same = False
    else:
        same = alike(got, wanted)
    if not same:
        where = first_difference(got, wanted)
        if where:
            what = f"{what}: the first difference{where}"
        raise CheckFailed(what, shorten(wanted), shorten(got), hint=hint)


def numbers(value: Any, like: Any, what: str, hint: str) -> torch.Tensor:
    """The value as numbers; CheckFailed where it is something else."""
    try:
        return torch.as_tensor(value).detach().to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        message = f"{kind(value)}, which is no array of numbers"
        raise CheckFailed(what, shorten(like), message, hint=hint) from error


def close(
    got: Any, wanted: Any, what: str, tol: float = 1e-5, hint: str = ""
) -> None:
    """Expect numbers (tensors, arrays, lists, floats) within `tol`."""
    note(what, got, wanted)
    refuse_nothing(got, wanted, what, hint)
    left = numbers(got, wanted, what, hint)
    right = torch.as_tensor(wanted).detach().to(torch.float64)
    if left.shape != right.shape:
        raise CheckFailed(
            f"{what}: the shape",
            str(tuple(right.shape)),
            str(tuple(left.shape)),
            hint=hint,
        )
    compare(left, right, what, tol, hint)


def compare(
    left: torch.Tensor, right: torch.Tensor, what: str, tol: float, hint: str
) -> None:
    """Numbers of one shape: the first that differs, and how many do."""
    left, right = left.detach().double(), right.detach().double()
    gap = (left - right).abs()
    # NaN is never within the tolerance, equal infinities are.
    wrong = ~((gap <= tol) | (left == right))
    if not bool(wrong.any()):
        return
    allowed = f"±{tol:g}" if tol else "no difference"
    at: tuple[int, ...] = ()
    if wrong.ndim:
        first: Sequence[int] = wrong.nonzero()[0].tolist()
        at = tuple(first)
        what = (
            f"{what}: {int(wrong.sum())} of {wrong.numel()} values differ, "
            f"the first at {list(at)}"
        )
    texts = (f"{right[at].item():.7g}", f"{left[at].item():.7g}")
    if texts[0] == texts[1]:
        texts = (f"{right[at].item():.17g}", f"{left[at].item():.17g}")
    raise CheckFailed(what, *texts, hint=hint, allowed=allowed)


def true(condition: object, what: str, hint: str = "") -> None:
    """Expect a condition to hold; `what` says it in words."""
    holds = bool(condition)
    note(what, holds, True)
    if not holds:
        raise CheckFailed(what, "yes", "no", hint=hint)


def raises(
    error: type[BaseException],
    function: Callable[[], object],
    what: str,
    hint: str = "",
) -> None:
    """Expect `function()` to raise `error`."""
    name = error.__name__
    try:
        result = function()
    except error:
        note(what, name, name)
        return
    except Exception as other:
        note(what, type(other).__name__, name)
        text = f"{type(other).__name__}: {anywhere(str(other))}"
        raise CheckFailed(what, name, text, hint=hint) from other
    note(what, result, name)
    raise CheckFailed(what, name, f"the value {shorten(result)}", hint=hint)


def grows(
    make: Callable[[int], Callable[[], object]],
    size: int,
    what: str,
    most: float = 3.2,
    hint: str = "",
) -> None:
    """Expect work of twice the size to take at most `most` times as long.

    `make(size)` prepares the work and returns it, to be timed. What takes
    time in proportion to its size takes twice as long, and what takes it in
    proportion to the square takes four times as long.
    """
    least = {size: math.inf, 2 * size: math.inf}
    ratio = math.inf
    for turn in range(TURNS):
        for n in least:
            work = make(n)
            start = process_time()
            work()
            least[n] = min(least[n], process_time() - start)
        ratio = least[2 * size] / max(least[size], 1e-9)
        if ratio <= most and turn + 1 >= FEWEST:
            break
    note(what, ratio <= most, True)
    if ratio > most:
        wanted, got = f"at most {most:g} times as long", f"{ratio:.1f} times"
        raise CheckFailed(what, wanted, got, hint=hint)
