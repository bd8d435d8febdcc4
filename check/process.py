"""Each run of a topic's checks has a process of its own, with two limits.

The process is a fork where forks are safe, so that torch need not be imported
again. In it the library comes from the folder that the job names; nobody
types, nothing connects to another machine, and what is printed is caught. Each
check is a fork of that process in turn: whatever one leaves behind, or ends, is
nothing to the next. Where there are no forks, they share the one process. A
check's time is limited, and on Linux its memory (`check.memory`).
"""

import builtins
import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter  # checks replace time's own
from types import FrameType
from typing import Any

import torch

from check import memory
from check.errors import (
    InputAsked,
    NetworkUsed,
    TooLong,
    TooMuch,
    tell,
    wants_memory,
)
from check.mine import Mine, Placed, put_in_place
from check.places import CHECKS, LIBRARY, PlaceError, Site, Topic
from check.running import (
    Check,
    check_functions,
    end_of,
    ended,
    first_line,
    outcome,
)
from check.standin import StandIn

FORK = sys.platform == "linux"
PATIENCE = 5.0  # seconds that every check may take
STOPPING = {TooLong.__name__, TooMuch.__name__}  # no check after such an end
# Torch imports this when something is optimized, and takes seconds. One check
# that had to wait for it is enough.
LATE = "torch._dynamo"
PRINTED = 500  # characters of output that are kept
GRACE = 2.0  # seconds between the request to stop and the end
LOCAL = ("127.", "::1", "localhost")
Report = dict[str, Any]
Limit = Callable[[str], float]  # a check's name → its seconds


@dataclass(frozen=True)
class Job:
    """What to run: a topic's checks, on which code."""

    site: Site
    topic: Topic
    sources: Path  # where the library comes from
    text: str | None = None  # the module's source, in place of its file's
    mine: Mine = field(default_factory=Mine)
    naming: bool = False  # run nothing, name the known mistakes

    @property
    def own(self) -> tuple[Path, ...]:
        """Files and folders whose code may be at fault."""
        return (self.sources / LIBRARY, *self.mine.files)


class Replaced(importlib.machinery.SourceFileLoader):
    """Loads a module from a text instead of its file's."""

    def __init__(self, name: str, path: str, text: str) -> None:
        """Of the module at `path`."""
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> Any:
        """The text, compiled as if it stood in the file."""
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module, whose text is replaced."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        """Its name, its place, and its text."""
        self.name = name
        self.loader = Replaced(name, str(path), text)

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's, None for all others."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_loader(fullname, self.loader)


class Nobody(io.TextIOBase):
    """A standard input at which nobody sits."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore
        """Refuse."""
        raise InputAsked


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: no connection but to this machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        if getattr(arguments[0], "family", None) == socket.AF_UNIX:
            return
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name and not name.startswith(LOCAL) and name != socket.gethostname():
        raise NetworkUsed(name)


def stop(number: int, frame: FrameType | None) -> None:
    """A signal's handler: the time is over."""
    raise TooLong("it ran out of time here")


def forget(names: Sequence[str]) -> None:
    """Modules of these packages are looked for anew."""
    for name in list(sys.modules):
        if any(name == n or name.startswith(f"{n}.") for n in names):
            del sys.modules[name]


def look_in(sources: Path, root: Path, folders: Sequence[str]) -> None:
    """From here on, the library and these folders are those of a place."""
    forget((LIBRARY, *(name.split("/")[0] for name in folders)))
    sys.path[:0] = [str(sources), str(root)]
    importlib.invalidate_caches()
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, StandIn)]


def find_library(job: Job) -> None:
    """From here on, library and checks are those of the job."""
    look_in(job.sources, job.site.root, CHECKS)
    path = job.sources / job.topic.file
    text = job.text
    if job.sources == job.site.sources:
        fill_gaps(job)
    if text is not None:
        sys.meta_path.insert(0, Finder(job.topic.module, path, text))


def fill_gaps(job: Job) -> None:
    """Other modules that the reader has still to write are the book's.

    So topics can be written in any order. With code of one's own for the
    topic, its module is the book's, too, where nobody has written it.
    """
    but = "" if job.mine.given else job.topic.module
    with contextlib.suppress(PlaceError):  # nothing is there to stand in
        book = job.site.reference
        sys.meta_path.insert(0, StandIn(job.sources, book, but))


def run_here(job: Job, send: Callable[[Report], None]) -> None:
    """Run the job's checks in this process, and send a report of each."""
    started, before = perf_counter(), memory.peak()
    find_library(job)
    placed = Placed()
    try:
        module = None
        with contextlib.suppress(ImportError):  # the checks will meet it, too
            module = importlib.import_module(job.topic.module)
        if module:
            placed = put_in_place(job.mine, module)
        checks = importlib.import_module(job.site.check_module(job.topic))
    except BaseException as error:
        if wants_memory(error):
            memory.lift()
        send({"broken": tell(error, job.own).as_data()})
        return
    send({"title": first_line(checks), "placed": placed.names})
    if job.naming:
        send({"bugs": checks.BUGS})
    for check in () if job.naming else check_functions(checks):
        send({"now": check.__name__})
        found = (forked if FORK else measured)(check, job.own, placed)
        send({"check": found})
        if found["late"] and LATE not in sys.modules:
            importlib.import_module(LATE)
        if found["told"] and found["told"]["kind"] in STOPPING:
            break
    send({"seconds": perf_counter() - started, "before": before})


def measured(
    check: Check, own: tuple[Path, ...], placed: Placed
) -> dict[str, Any]:
    """A check's outcome in this process, and what it has taken."""
    started = perf_counter()
    found = outcome(check, own, placed)
    return found | {
        "seconds": perf_counter() - started,
        "peak": memory.peak(),
        "late": LATE in sys.modules,
    }


def forked(
    check: Check, own: tuple[Path, ...], placed: Placed
) -> dict[str, Any]:
    """A check's outcome, in a fork of this process.

    The request to stop, which comes to this one, is for the fork.
    """
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def alone() -> None:
        signal.signal(signal.SIGALRM, stop)
        torch.set_num_threads(1)  # before threads of a check ask for it at once
        sys.stdin = Nobody()  # in place of what a fork gets
        found = measured(check, own, placed)
        theirs.send_bytes(json.dumps(found).encode())
        flush()
        os._exit(0)

    def pass_on(number: int, frame: FrameType | None) -> None:
        if process.pid:
            os.kill(process.pid, number)

    process = context.Process(target=alone)
    before = signal.signal(signal.SIGALRM, pass_on)
    flush()
    process.start()
    theirs.close()
    try:
        return dict(json.loads(ours.recv_bytes()))
    except EOFError:
        process.join()
        return ended(check, process.exitcode)
    finally:
        signal.signal(signal.SIGALRM, before)
        ours.close()


def flush() -> None:
    """What is printed so far is in the file that keeps it."""
    with contextlib.suppress(ValueError):  # closed by the reader's code
        sys.stdout.flush()


def work(job: Job, pipe: Connection, folder: str) -> None:
    """What the process does: settle, run, send, and go without a word."""
    if FORK:
        gc.freeze()
        os.setsid()
        memory.limit()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tempfile.tempdir = folder
    os.environ["TMPDIR"] = folder
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open(Path(folder) / "printed", "w", encoding="utf-8") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
        sys.stdin = Nobody()
        sys.stdout = sys.stderr = out
        sys.addaudithook(refuse_network)

        def send(part: Report) -> None:
            pipe.send_bytes(json.dumps(part).encode())

        try:
            run_here(job, send)
        except BaseException as error:
            send({"broken": tell(error, job.own).as_data()})
        flush()
    os._exit(0)


def unhurried(check: str) -> float:
    """The seconds that a check may take where nobody waits for it."""
    return 600.0


def forks() -> bool:
    """Whether a fork is safe: of a notebook with an accelerator it is not.

    A process that has trained, or used CUDA, leaves its forks neither.
    """
    in_notebook = hasattr(builtins, "get_ipython")
    return FORK and not (in_notebook and torch.accelerator.is_available())


def run(job: Job, limit: Limit = unhurried) -> Report:
    """Run a job in a process of its own; returns what it reported.

    `limit` is asked when some seconds have passed, for how many the check
    may take that runs now ("" while nothing but the module is imported). The
    report has `title`, `checks`, `broken` (why nothing could be run),
    `printed`, `seconds`, and `bytes` (the most memory of any check).
    """
    method = "fork" if forks() else "spawn"
    context: Any = multiprocessing.get_context(method)
    report: Report = {"title": "", "checks": [], "broken": None}
    with tempfile.TemporaryDirectory(
        prefix="check-", ignore_cleanup_errors=True
    ) as folder:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(job, theirs, folder))
        sys.stdout.flush()
        process.start()
        theirs.close()
        try:
            listen(process, ours, report, limit)
        finally:
            end(process)
            ours.close()
        printed = Path(folder) / "printed"
        report["printed"] = ""
        if printed.exists():
            text = printed.read_bytes()[: 4 * PRINTED]
            report["printed"] = text.decode("utf-8", "replace")[:PRINTED]
    return report


def listen(
    process: BaseProcess, pipe: Connection, report: Report, limit: Limit
) -> None:
    """Take in what the process sends, until it ends or a check's time does."""
    now, started = "", perf_counter()
    until, known, asked = PATIENCE, False, False
    while True:
        left = started + until - perf_counter()
        if pipe.poll(max(0.0, left)):
            try:
                part = json.loads(pipe.recv_bytes())
            except EOFError:
                break
            if "now" in part:  # the clock begins anew
                now, started = part["now"], perf_counter()
                until, known, asked = PATIENCE, False, False
            else:
                take(part, report)
        elif not known:
            until, known = max(PATIENCE, limit(now)), True
        elif not asked and hasattr(signal, "SIGALRM"):
            os.kill(int(process.pid or 0), signal.SIGALRM)
            until, asked = perf_counter() - started + GRACE, True
        else:
            late = TooLong("it had to be stopped from outside")
            report["ended"] = tell(late, ()).as_data()
            return
    process.join(GRACE)
    if "seconds" not in report and not report["broken"]:
        report["ended"] = end_of(process.exitcode).as_data()


def take(part: Report, report: Report) -> None:
    """Put a part of what was sent in its place."""
    if "check" in part:
        report["checks"].append(part["check"])
        return
    report.update(part)
    if "before" in part:
        peaks = [check["peak"] for check in report["checks"]]
        report["bytes"] = max(peaks, default=0) - part["before"]


def end(process: BaseProcess) -> None:
    """The process and what it started are gone afterwards."""
    if FORK and process.pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
