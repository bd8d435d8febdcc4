"""Comparisons for checks: each failure names what, expected, got, and why.

A check calls these instead of a bare ``assert``, so that whoever reads the
failure learns what to look at without opening the check.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class CheckFailed(AssertionError):
    """An expectation of a check was not met; the message tells which."""


def fail(what: str, wanted: str, got: str, hint: str) -> None:
    """Raise `CheckFailed` with the four lines that every failure has."""
    lines = [what, f"  expected: {wanted}", f"  got:      {got}"]
    if hint:
        lines.append(f"  likely:   {hint}")
    raise CheckFailed("\n".join(lines))


def shorten(value: object, limit: int = 300) -> str:
    """The value's text on one line, cut at `limit` characters.

    >>> shorten("a" * 400, limit=9)
    "'aaaaaaaa ..."
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[:limit] + " ..."


def equal(got: object, wanted: object, what: str, hint: str = "") -> None:
    """Expect exactly equal values; tensors compare shape and elements."""
    if isinstance(got, torch.Tensor) and isinstance(wanted, torch.Tensor):
        same = got.shape == wanted.shape and bool((got == wanted).all())
    else:
        same = bool(got == wanted)
    if not same:
        fail(what, shorten(wanted), shorten(got), hint)


def close(
    got: Any, wanted: Any, what: str, tol: float = 1e-5, hint: str = ""
) -> None:
    """Expect numbers (tensors, arrays, lists, floats) within `tol`."""
    left = torch.as_tensor(got).detach().to(torch.float64)
    right = torch.as_tensor(wanted).detach().to(torch.float64)
    if left.shape != right.shape:
        fail(
            f"{what}: the shape",
            str(tuple(right.shape)),
            str(tuple(left.shape)),
            hint,
        )
    gap = (left - right).abs()
    # NaN is never within the tolerance, equal infinities are.
    wrong = ~((gap <= tol) | (left == right))
    if not bool(wrong.any()):
        return
    if wrong.ndim == 0:
        fail(what, f"{right.item():.7g}", f"{left.item():.7g}", hint)
    first: Sequence[int] = wrong.nonzero()[0].tolist()
    at = tuple(first)
    fail(
        f"{what}: {int(wrong.sum())} of {wrong.numel()} values differ, "
        f"the first at {list(at)}",
        f"{right[at].item():.7g}",
        f"{left[at].item():.7g}",
        hint,
    )


def true(condition: object, what: str, hint: str = "") -> None:
    """Expect a condition to hold; `what` says it in words."""
    if not bool(condition):
        fail(what, "yes", "no", hint)


def raises(
    error: type[BaseException],
    function: Callable[[], object],
    what: str,
    hint: str = "",
) -> None:
    """Expect `function()` to raise `error`."""
    try:
        result = function()
    except error:
        return
    except Exception as other:
        fail(what, error.__name__, f"{type(other).__name__}: {other}", hint)
    else:
        fail(what, error.__name__, f"the value {shorten(result)}", hint)
