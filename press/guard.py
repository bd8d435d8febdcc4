"""The guard over a page's cells: what they may not do, and who notices.

A page must come out the same whenever and wherever it is built, and building
it must change nothing. So its cells may not write, rename or remove anything
but temporary files, may not use a network beyond this machine, may not start
programs other than Python, may not look at the clock or draw random numbers
without a seed. `start` is called when a kernel starts (see
`press.extensions.sandbox`); Python processes that cells start inherit it.

Python's audit events tell of files, sockets and processes, whichever function
is called. What a library writes without Python (safetensors, say) they do
not see; for that the extension looks whether the repository changed.

The library may know how long something takes; a cell may not ask, since what
it measures ends up in an output sooner or later.
"""

from __future__ import annotations

import atexit
import datetime
import importlib
import os
import random
import shutil
import socket
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

GUARDED = "SCRATCHLM_GUARD"  # in the environment: the folder that is guarded
SITE = Path(__file__).parent / "site"
SEED = 2026
OUR = (
    *("scratchlm", "solutions", "scaffold", "records", "benchmarks"),
    *("compliance", "check", "press"),
)
LOCAL = {"localhost", "127.0.0.1", "::1", "", None}
# What Python's own `platform` and matplotlib ask about this machine.
PROGRAMS = {"uname", "lscpu", "fc-list", "system_profiler"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TOUCHING = {  # event → which of its arguments are paths, which is a folder
    "os.remove": ((0,), 1),
    "os.rmdir": ((0,), 1),
    "os.mkdir": ((0,), 2),
    "os.rename": ((0, 1), 2),
    "os.link": ((1,), 3),
    "os.symlink": ((1,), 2),
    "os.truncate": ((0,), None),
    "os.chmod": ((0,), 2),
    "os.utime": ((0,), 3),
    "os.chown": ((0,), 3),
    "os.setxattr": ((0,), None),
    "os.removexattr": ((0,), None),
    "shutil.rmtree": ((0,), None),
    "shutil.move": ((0, 1), None),
    "shutil.copyfile": ((1,), None),
    "sqlite3.connect": ((0,), None),
}
LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname"}
LOOKUPS |= {"socket.gethostbyaddr", "socket.getnameinfo"}
SHELLS = {"os.system", "os.exec", "os.spawn", "os.posix_spawn", "pty.spawn"}


class Forbidden(BaseException):
    """A page did what no page may do. No `except Exception` catches it."""


def page_calls(depth: int = 2, ours: bool = False) -> bool:
    """Whether the caller's caller is a cell (or, `ours`, our own code)."""
    name = str(sys._getframe(depth).f_globals.get("__name__", ""))
    return name == "__main__" or (ours and name.split(".")[0] in OUR)


# --- files, network, processes -----------------------------------------------


class Guard:
    """An audit hook that refuses what changes more than temporary files."""

    def __init__(self, root: Path) -> None:
        build = root / "_build"
        self.root = os.path.realpath(root)
        self.kernels = [
            os.path.realpath(build / name) for name in ("ipython", "matplotlib")
        ]
        self.free = [os.path.realpath(tempfile.gettempdir()), "/dev"]
        self.busy = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.busy:  # what the guard does itself to find out
            return
        self.busy = True
        try:
            self.judge(event, args)
        finally:
            self.busy = False

    def judge(self, event: str, args: tuple[Any, ...]) -> None:
        """Raise Forbidden for an event that no page may cause."""
        if event == "open":
            path, mode, flags = args
            if (mode and set(mode) & set("wax+")) or (flags or 0) & WRITING:
                self.writes(path, None)
        elif event in TOUCHING:
            places, folder = TOUCHING[event]
            at = args[folder] if folder and folder < len(args) else None
            for place in places:
                self.writes(args[place], at)
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            reach(args[0], args[1])
        elif event in LOOKUPS and host_of(args[0]) not in LOCAL:
            raise Forbidden(f"a page asked the network for {args[0]}")
        elif event == "subprocess.Popen":
            launch(*args)
        elif event in SHELLS:
            raise Forbidden(f"a page started a program with {event}")

    def writes(self, path: Any, folder: Any) -> None:
        """Refuse a path outside of what is free to be written."""
        if isinstance(path, int) or path in (":memory:", b":memory:"):
            return
        name = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            name = os.path.join(f"/proc/self/fd/{folder}", name)
        parent, last = os.path.split(os.path.abspath(name))
        full = os.path.join(os.path.realpath(parent), last)
        if os.path.islink(full):
            full = os.path.realpath(full)
        if within(full, self.kernels):
            return
        if within(full, self.free) and not within(full, [self.root]):
            return  # the repository itself may lie in a temporary folder
        raise Forbidden(
            f"a page tried to change {full}; cells write to temporary "
            "folders only (tempfile.mkdtemp())"
        )


def within(path: str, folders: list[str]) -> bool:
    """Whether a path is one of the folders, or below one."""
    return any(path == f or path.startswith(f + os.sep) for f in folders)


def host_of(address: Any) -> Any:
    """The host of a socket's address, which may be a pair with its port."""
    return address[0] if isinstance(address, tuple) else address


def reach(sock: Any, address: Any) -> None:
    """Refuse a connection that leaves this machine."""
    if getattr(sock, "family", None) == getattr(socket, "AF_UNIX", None):
        return
    host = host_of(address)
    if host not in LOCAL:
        raise Forbidden(f"a page tried to connect to {host}")


def launch(program: Any, args: Any, folder: Any, env: Any) -> None:
    """Refuse a program other than Python, and a Python without the guard."""
    words = [args] if isinstance(args, str | bytes) else list(args)
    name = os.path.basename(os.fsdecode(program or words[0]))
    if name in PROGRAMS:
        return
    if not name.startswith("python"):
        raise Forbidden(f"a page tried to start {name}; it may start Python")
    options = map(os.fsdecode, words[1:])
    for word in options:
        if word in ("-W", "-X"):  # each with a word that belongs to it
            next(options, None)
            continue
        if not word.startswith("-") or word[:2] in ("-m", "-c"):
            break
        if not word.startswith("--") and set(word[1:]) & set("ISE"):
            raise Forbidden(f"a page tried to start Python with {word}")
    env = os.environ if env is None else env
    known = {os.fsdecode(k): os.fsdecode(v) for k, v in dict(env).items()}
    path = known.get("PYTHONPATH", "").split(os.pathsep)
    if GUARDED not in known or str(SITE) not in path:
        raise Forbidden("a page started Python without its environment")


# --- the clock --------------------------------------------------------------


def guard_clocks() -> None:
    """Clocks and dates are refused to cells, not to the library."""

    def refuse(owner: Any, name: str, arguments: int) -> None:
        plain = getattr(owner, name, None)
        if plain is None:  # not every system has every clock
            return

        def clock(*args: Any, **named: Any) -> Any:
            if page_calls() and len(args) <= arguments:
                what = f"{owner.__name__}.{name}"
                raise Forbidden(
                    f"a page looked at the clock: {what}; timings come from "
                    "records (python -m records)"
                )
            return plain(*args, **named)

        setattr(owner, name, clock)

    for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "asctime"):
        refuse(time, name, 0)
    refuse(time, "strftime", 1)
    for name in ("perf_counter", "monotonic", "process_time", "thread_time"):
        refuse(time, name, 0)
        refuse(time, f"{name}_ns", 0)
    refuse(time, "clock_gettime", 1)
    refuse(time, "clock_gettime_ns", 1)
    for owner in (timeit, timeit.Timer):
        refuse(owner, "timeit", 9)
        refuse(owner, "repeat", 9)
    refuse(timeit, "default_timer", 0)
    refuse(os, "times", 0)
    guard_dates()


def guard_dates() -> None:
    """`datetime.now` and its like are refused to cells."""

    def dated(plain: type, names: tuple[str, ...]) -> type:
        class Meta(type):
            def __instancecheck__(cls, value: Any) -> bool:
                return isinstance(value, plain)

            def __subclasscheck__(cls, other: type) -> bool:
                return issubclass(other, plain)

        def refused(name: str) -> classmethod:
            def ask(cls: type, *args: Any, **named: Any) -> Any:
                if page_calls():
                    raise Forbidden(f"a page looked at the clock: {name}")
                return getattr(plain, name)(*args, **named)

            return classmethod(ask)

        return Meta(plain.__name__, (plain,), {n: refused(n) for n in names})

    plain = {name: getattr(datetime, name) for name in ("datetime", "date")}
    moments = ("now", "utcnow", "today")
    datetime.datetime = dated(datetime.datetime, moments)  # type: ignore
    datetime.date = dated(datetime.date, ("today",))  # type: ignore
    sys.meta_path.insert(0, PlainDates(plain))  # type: ignore


class PlainDates:
    """Lets pydantic's old form make its kinds of dates from the plain ones.

    Those have a metaclass, as the guarded dates have, and no class has two.
    """

    def __init__(self, plain: dict[str, type]) -> None:
        self.plain = plain

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Import it while dates are plain, and say where it was found."""
        if name != "pydantic.v1":
            return None
        sys.meta_path.remove(self)  # type: ignore
        guarded = {name: getattr(datetime, name) for name in self.plain}
        vars(datetime).update(self.plain)
        try:
            return importlib.import_module(name).__spec__
        finally:
            vars(datetime).update(guarded)


# --- chance -----------------------------------------------------------------


def seeded_class(plain: type, shown: str) -> type:
    """A class like `plain`, of which cells make objects with a seed only."""

    class Meta(type):
        def __call__(cls, *args: Any, **named: Any) -> Any:
            if cls is not made:
                return super().__call__(*args, **named)
            given = [*args, *named.values()]
            if page_calls(ours=True) and (not given or given[0] is None):
                raise Forbidden(f"a page called {shown} without a seed")
            return plain(*args, **named)

        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, plain)

    made = Meta(plain.__name__, (plain,), {})
    return made


def needs_seed(owner: Any, name: str, shown: str) -> None:
    """Make a function or class refuse cells that give it no seed."""
    plain = getattr(owner, name)
    if isinstance(plain, type):
        setattr(owner, name, seeded_class(plain, shown))
        return

    def seeded(*args: Any, **named: Any) -> Any:
        given = [*args, *named.values()]
        if page_calls(ours=True) and (not given or given[0] is None):
            raise Forbidden(f"a page called {shown} without a seed")
        return plain(*args, **named)

    setattr(owner, name, seeded)


def never(owner: Any, name: str, shown: str) -> None:
    """Make a function refuse cells and our code: it cannot be seeded."""
    plain = getattr(owner, name)

    def refused(*args: Any, **named: Any) -> Any:
        if page_calls(ours=True):
            raise Forbidden(f"a page called {shown}, which knows no seed")
        return plain(*args, **named)

    setattr(owner, name, refused)


def guard_chance() -> None:
    """Global generators get a seed; others are refused without one."""
    import secrets
    import uuid

    random.seed(SEED)
    needs_seed(random, "seed", "random.seed")
    needs_seed(random, "Random", "random.Random")
    never(random, "SystemRandom", "random.SystemRandom")
    never(os, "urandom", "os.urandom")
    never(uuid, "uuid1", "uuid.uuid1")
    never(uuid, "uuid4", "uuid.uuid4")
    for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow"):
        never(secrets, name, f"secrets.{name}")
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(SEED)
    needs_seed(numpy.random, "seed", "numpy.random.seed")
    needs_seed(numpy.random, "default_rng", "numpy.random.default_rng")
    needs_seed(numpy.random, "RandomState", "numpy.random.RandomState")
    for name in ("PCG64", "MT19937", "Philox", "SFC64"):
        needs_seed(numpy.random, name, f"numpy.random.{name}")


# --- the start --------------------------------------------------------------


def leave_nothing() -> None:
    """A page's temporary folders lie in one, which goes with its kernel."""
    folder = tempfile.mkdtemp(prefix="page-")
    tempfile.tempdir = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def start(root: Path, cells: bool = True) -> None:
    """Put the guard up, for good, over `root` and all that is not temporary.

    `cells`: clock and chance are guarded as well, as in a page's kernel;
    processes that a page starts have the rest.
    """
    sys.dont_write_bytecode = True
    os.environ[GUARDED] = str(root)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(SITE) not in paths:
        paths = [str(SITE), *filter(None, paths)]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if cells:
        guard_clocks()
        guard_chance()
    guard = Guard(root)
    if cells:
        leave_nothing()
    sys.addaudithook(guard)
