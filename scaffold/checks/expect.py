"""The comparisons that checks call: those of the engine, `check.expect`."""

from check.expect import CheckFailed, close, equal, raises, true

__all__ = ["CheckFailed", "close", "equal", "raises", "true"]
