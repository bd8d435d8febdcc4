"""Processes that do not import torch anew.

A build starts a kernel for each page and a program for each check, and each
would import torch, matplotlib and IPython first: two to three seconds, a
hundred and fifty times. Here one process imports them once, and the others
are its forks (`multiprocessing` calls it a fork server). It imports other
people's modules only, nothing that is seeded, guarded or set up for a page,
and it starts no thread.

Linux only: elsewhere libraries do not survive a fork.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from multiprocessing.context import ForkServerContext
from pathlib import Path

# Not `pyplot`, which asks in which kernel it is.
PRELOADED = (
    *("torch", "numpy", "matplotlib.figure", "matplotlib.axes"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("IPython", "ipykernel.kernelapp", "myst_nb"),
)
FORKS = sys.platform == "linux"


def context() -> ForkServerContext:
    """What makes the processes; the first one starts the server."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(PRELOADED))
    return made


def settle(folder: str, environment: dict[str, str]) -> None:
    """In a fork: be a process of its own, as if started from a shell."""
    os.setsid()  # a signal to it reaches what it starts
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


def run_module(
    module: str,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    out: str,
) -> None:
    """In a fork: `python -m module arguments`, which prints to a file.

    The module is looked for where the process that asks would find it.
    """
    settle(folder, environment)
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(target, stream)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def printed(module: str, *arguments: str, folder: Path) -> tuple[int, str]:
    """Run a module in a fork: its exit code, and all that it printed."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        process = context().Process(
            target=run_module,
            args=(
                module,
                list(arguments),
                str(folder),
                dict(os.environ),
                str(out),
            ),
        )
        process.start()
        process.join()
        text = out.read_text(encoding="utf-8") if out.exists() else ""
        return int(process.exitcode or 0), text
