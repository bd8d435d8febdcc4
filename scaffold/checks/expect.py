"""The comparisons that checks call: those of the engine, `check.expect`."""

from check.expect import (
    CheckFailed,
    NotOffered,
    close,
    equal,
    grows,
    offered,
    raises,
    require,
    taken,
    true,
)

__all__ = [
    "CheckFailed",
    "NotOffered",
    "close",
    "equal",
    "grows",
    "offered",
    "raises",
    "require",
    "taken",
    "true",
]
