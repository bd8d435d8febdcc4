"""Ctrl-C before a command has begun: one line, and no traceback.

Modules that are imported may catch KeyboardInterrupt, or turn it into an
error of their own; so it is not raised while they are. This module itself
imports next to nothing, to be there first.
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
    except ValueError:  # not in the main thread, where signals do not come
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
