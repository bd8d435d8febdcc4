"""Values that checks compared, kept as plain data, and their distance.

Two runs of a check went the same way if they compared the same things and
got the same values; so a value is kept as what JSON can hold, cut to a size,
and without what differs from run to run (addresses, temporary folders).
"""

import math
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

MOST = 512  # numbers kept of a tensor, items of a list
LONGEST = 2000  # characters kept of a text
NEAR = 1e-5  # values this near are the same
FAR = math.inf
# Addresses, ports, folders, and what a server numbers by the clock.
CHANGING = re.compile(
    r" at 0x[0-9a-f]+|127\.0\.0\.1:\d+|/tmp/\S*"
    r"|\b[0-9a-f]{16}-\d+|\"created\": \d+"
)
NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


def freeze(value: object, deep: int = 0) -> Any:
    """The value as plain data.

    >>> freeze((1, "a", {2.5: None}))
    [1, 'a', {'pairs': [[2.5, None]]}]
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return steady(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.as_tensor(value.astype(np.float64))
    if isinstance(value, torch.Tensor) and not value.is_complex():
        return freeze_tensor(value)
    if deep < 6 and isinstance(value, list | tuple):
        return [freeze(item, deep + 1) for item in value[:MOST]]
    if deep < 6 and isinstance(value, dict):
        rows = [[freeze(k), freeze(v, deep + 1)] for k, v in value.items()]
        return {"pairs": sorted(rows, key=repr)[:MOST]}
    if deep < 6 and isinstance(value, set | frozenset):
        return {"set": sorted((freeze(x, deep + 1) for x in value), key=repr)}
    return steady(repr(value))


def freeze_tensor(value: torch.Tensor) -> Any:
    """Shape and numbers; of a large tensor every so manieth."""
    shape = [int(n) for n in value.shape]
    if value.device.type == "meta":
        return {"shape": shape, "numbers": []}
    flat = value.detach().cpu().to(torch.float64).flatten()
    step = max(1, math.ceil(flat.numel() / MOST))
    return {"shape": shape, "numbers": flat[::step].tolist()}


def anywhere(text: str) -> str:
    """The text without the folder for a moment in which a check worked.

    Of a file there its name is kept: the folder is gone when one reads it.

    >>> anywhere(f"{tempfile.gettempdir()}/tmp7x/run/log.jsonl is empty")
    '…/log.jsonl is empty'
    """
    here = re.escape(tempfile.gettempdir())
    return re.sub(here + r"/(?:[^/\s]+/)*", "…/", text)


def steady(text: str) -> str:
    """The text without what changes from run to run."""
    text = re.sub(re.escape(tempfile.gettempdir()) + r"\S*", "…", text)
    return CHANGING.sub("…", text)[:LONGEST]


def distance(a: Any, b: Any) -> float:
    """How far apart two kept values are, inf for different kinds or shapes.

    >>> distance([1.0, "0.50 off"], [1.25, "0.75 off"])
    0.25
    >>> distance([1], [1, 2])
    inf
    """
    gaps = [0.0]
    for gap in differences(a, b):
        if not gap <= NEAR * 1e5:  # far enough to be sure
            return FAR
        gaps.append(gap)
    return max(gaps)


def differences(a: Any, b: Any) -> Iterator[float]:
    """The distance of each pair of parts."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        yield 0.0 if a is b or (a == b and type(a) is type(b)) else FAR
    elif isinstance(a, int | float) and isinstance(b, int | float):
        yield between(float(a), float(b))
    elif isinstance(a, str) and isinstance(b, str):
        if NUMBER.sub("#", a) != NUMBER.sub("#", b):
            yield FAR
            return
        for x, y in zip(NUMBER.findall(a), NUMBER.findall(b)):
            yield between(float(x), float(y))
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield FAR
            return
        for x, y in zip(a, b):
            yield from differences(x, y)
    elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(a[key], b[key])
    else:
        yield FAR


def between(a: float, b: float) -> float:
    """The gap of two numbers, of large ones in parts of their size."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return FAR
    return abs(a - b) / max(1.0, abs(a), abs(b))
