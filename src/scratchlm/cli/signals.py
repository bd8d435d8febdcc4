"""Ctrl-C before a command has begun: one line, and no traceback.

Modules may catch KeyboardInterrupt while they are imported, or turn it into
an error of their own; so it is not raised until they are there. This module
itself imports next to nothing, so that it is there first.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # 128 and the number of the signal


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """Ctrl-C while modules are imported, which no `except` sees reliably."""
    print("\nstopped; nothing was begun", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Inside, Ctrl-C ends the process without a traceback."""
    try:
        before = signal.signal(signal.SIGINT, stop_at_once)
    except ValueError:  # outside the main thread, where no signal comes
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
