"""Make a repository of your own from the sources of the book.

``python -m scaffold --help`` lists the commands; `new` is the one that is
meant where none is named.
"""

import argparse
import contextlib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

try:
    from scaffold.options import make_parser
    from scaffold.plan import MissingError, ScaffoldError
except ModuleNotFoundError as error:
    print(
        f"error: {error.name} is not installed for {sys.executable}; use the "
        "Python of the book's environment: .venv/bin/python",
        file=sys.stderr,
    )
    sys.exit(4)

COMMANDS = {
    "new": "scaffold.new:new",
    "list": "scaffold.tables:show_list",
    "estimate": "scaffold.tables:show_estimate",
    "doctor": "scaffold.machine:doctor",
    "diff": "scaffold.update:show_diff",
    "update": "scaffold.update:update",
    "completion": "scaffold.completion:show",
}
INTERRUPTED = 130


def stop(number: int, frame: object) -> None:
    """Let a termination clean up as an interruption does."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP interrupt; only a main thread may say so.

    Who has a hang-up ignored, as `nohup` does, is not interrupted by it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for name in ("SIGTERM", "SIGHUP")
        if (number := getattr(signal, name, None)) is not None
    }
    deaf = (signal.SIG_IGN, None)
    heard = [n for n, does in before.items() if does not in deaf]
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def carry_out(options: argparse.Namespace) -> int:
    """Import the command's module, which may take a second, and call it."""
    module, _, name = COMMANDS[options.command].partition(":")
    done: Any = getattr(importlib.import_module(module), name)
    return int(done(options))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code, which --help explains."""
    for stream in (sys.stdout, sys.stderr):  # not UTF-8 everywhere
        with contextlib.suppress(AttributeError):  # replaced by another object
            stream.reconfigure(errors="backslashreplace")  # type: ignore
    options = make_parser().parse_args(arguments)
    try:
        with stoppable():
            return carry_out(options)
    except ScaffoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except ModuleNotFoundError as error:
        print(
            f"error: {error.name} is not installed; make setup, in the book's "
            "folder, brings it",
            file=sys.stderr,
        )
        return MissingError.code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
