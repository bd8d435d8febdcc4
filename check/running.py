"""Run a topic's checks in this process, and note what each compared.

`check.process` does it in a process of its own, which the reader's code may
end, block or litter as it likes. Here are the parts that need no process.
"""

import importlib
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np
import torch

from check import memory
from check.errors import Stopped, Told, tell, wants_memory
from check.expect import CheckFailed, Noted, NotOffered, listening
from check.mine import Placed
from check.places import LIBRARY, Site, Topic

Check = Callable[[], None]
HERE = Site(Path(__file__).parent.parent)


class OtherCode(ValueError):
    """A known bug has no place in a module: it is not the book's own."""


def check_functions(module: ModuleType) -> list[Check]:
    """The functions named ``check_…``, in the order of the file."""
    names = [name for name in vars(module) if name.startswith("check_")]
    if not names:
        raise CheckFailed(f"{module.__name__} holds no check")
    return [getattr(module, name) for name in names]


def first_line(thing: object) -> str:
    """The first line of a docstring."""
    return (thing.__doc__ or "").strip().split("\n")[0].rstrip(".")


def plant(source: str, old: str, new: str, name: str) -> str:
    """The source with `old` made `new`; raises OtherCode if it is not once."""
    if source.count(old) != 1:
        raise OtherCode(
            f"{name} holds {old!r} {source.count(old)} times, not once"
        )
    return source.replace(old, new)


def run_noting(
    check: Check,
) -> tuple[BaseException | None, Noted]:
    """Run one check; what failed, if anything, and what it compared.

    Random numbers begin anew, so that each check is independent of those
    before it.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with listening() as noted:
        try:
            check()
        except (Exception, SystemExit, Stopped, NotOffered) as error:
            return error, noted
    return None, noted


# --- in this process: for tests, which exchange single functions -------------


def library() -> tuple[Path, ...]:
    """The folders that count as a reader's code."""
    return (HERE.sources / LIBRARY,)


def run_check(check: Check) -> str:
    """Run one check; return "" or what failed."""
    error, _ = run_noting(check)
    if isinstance(error, NotOffered):
        return f"it does not take {error}"
    return tell(error, library()).text if error else ""


def load(topic: str) -> ModuleType:
    """The module with a topic's checks."""
    return importlib.import_module(HERE.check_module(HERE.topics[topic]))


def run_topic(topic: str) -> int:
    """Run a topic's checks, print a line each; return how many failed."""
    module = load(topic)
    failed = 0
    print(f"{topic}: {first_line(module)}")
    for check in check_functions(module):
        message = run_check(check)
        print(f"  {'✗' if message else '✓'} {first_line(check)}")
        if message:
            failed += 1
            print("      " + message.replace("\n", "\n      "))
    return failed


def subject(module: ModuleType) -> ModuleType:
    """The module under check: the one of the same name as the topic."""
    topic = module.__name__.rpartition("check_")[2]
    return getattr(module, topic)


@contextmanager
def planted(module: ModuleType, old: str, new: str) -> Iterator[None]:
    """Run the module's source again in place with `old` made `new`."""
    path = Path(str(module.__file__))
    source = plant(path.read_text(encoding="utf-8"), old, new, path.name)
    before = dict(vars(module))
    code = compile(source, str(path), "exec")
    try:
        exec(code, vars(module))
        yield
    finally:
        vars(module).clear()
        vars(module).update(before)


def catch_bugs(topic: str) -> dict[str, list[str]]:
    """Plant each known bug; return which checks failed on it, by bug."""
    module = load(topic)
    caught = {}
    for bug, (old, new) in module.BUGS.items():
        with planted(subject(module), old, new):
            caught[bug] = [
                first_line(check)
                for check in check_functions(module)
                if run_check(check)
            ]
    return caught


# --- what a process reports --------------------------------------------------


@contextmanager
def watched(code: frozenset[CodeType]) -> Iterator[list[str]]:
    """What of some code is called first, while this lasts; [] for nothing."""
    called: list[str] = []

    def look(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code in code:
            called.append(frame.f_code.co_name)
            sys.setprofile(None)

    sys.setprofile(look if code else None)
    threading.setprofile(look if code else None)  # of those that begin now
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def outcome(
    check: Check,
    own: tuple[Path, ...],
    placed: Placed,
) -> dict[str, Any]:
    """One check as plain data: its state, its failure, what it compared.

    With code that was placed, also whether the check ran any of it; if so,
    that is at fault, and not the book's code around it. `lacks` is the
    switch at which the check ended, since the code does not have it.
    """
    with watched(placed.code) as called:
        error, noted = run_noting(check)
    lacks = ""
    if isinstance(error, NotOffered):
        error, lacks = None, str(error)
    own = placed.files if called else own
    if error and wants_memory(error):
        memory.lift()
    told = tell(error, own) if error else None
    return {
        "name": check.__name__,
        "title": first_line(check),
        "passed": told is None,
        "told": told.as_data() if told else None,
        "noted": noted,
        "reached": bool(called) or not placed.code,
        "lacks": lacks,
        "used": sorted(used_names(check)),
    }


def judges(found: dict[str, Any]) -> bool:
    """Whether a check that passed has compared what the reader's code does."""
    return bool(found["reached"] and (found["noted"] or not found["lacks"]))


def ended(check: Check, code: int | None) -> dict[str, Any]:
    """The outcome of a check whose process came to an end before it had."""
    return {
        "name": check.__name__,
        "title": first_line(check),
        "passed": False,
        "told": end_of(code).as_data(),
        "noted": [],
        "reached": True,
        "lacks": "",
        "used": sorted(used_names(check)),
        "seconds": 0.0,
        "peak": 0,
        "late": False,
    }


def end_of(code: int | None) -> Told:
    """What ended a process: its exit code, or a signal.

    >>> end_of(3).what
    'the code ended the whole process (exit code 3)'
    >>> end_of(-11).what
    'the code ended the whole process (SIGSEGV)'
    """
    reason = f"exit code {code}"
    if code is not None and code < 0:
        reason = signal.Signals(-code).name
    return Told("Ended", f"the code ended the whole process ({reason})")


def used_names(check: Check) -> set[str]:
    """Names that a check, and the helpers in its file, look up."""
    found: set[str] = set()
    todo: list[Any] = [check]
    while todo:
        function = todo.pop()
        code = getattr(function, "__code__", None)
        if code is None:
            continue
        codes = [code, *(c for c in code.co_consts if hasattr(c, "co_names"))]
        for name in (n for each in codes for n in each.co_names):
            helper = function.__globals__.get(name)
            same = getattr(helper, "__module__", "") == function.__module__
            if same and name not in found:
                todo.append(helper)
            found.add(name)
    return found


def described(topic: Topic) -> str:
    """A topic's name as a reader knows it."""
    return f"{topic.id} ({topic.title})"
