"""What it takes to run each chapter's page: processor time and memory.

Every page is executed as the build executes it, from its first cell to its
last, hidden ones too, in a kernel of its own, one page after the other, with
one thread. Processor seconds are counted, not those on the clock, so a busy
machine changes them little; the peak of memory is that of the largest process
of the page.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient

from press.build import environment
from press.extensions import sandbox
from press.files import ROOT
from press.roadmap import load

PATIENCE = 3600  # seconds for a cell, on a machine that has much else to do
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
CLOSE = 3.0  # a replay's peak of memory may be that many times the recorded


def execute(path: Path) -> dict[str, Any]:
    """Run all cells of a page; what its kernel has used, and their number."""
    notebook = jupytext.read(path, fmt="md:myst")
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {
        "seconds": round(used.ru_utime + used.ru_stime, 1),
        "bytes": used.ru_maxrss * UNIT,
        "cells": len(cells),
    }


def measure(name: str) -> dict[str, Any]:
    """Execute a page in a process of its own, whose children are its kernel.

    Raises RuntimeError, with what the page said, where a cell fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "records.make_pages", name],
        cwd=ROOT,
        env={**environment(), **sandbox.environment(ROOT), **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} does not run:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def record() -> dict[str, Any]:
    """Measure the pages of all topics, in reading order."""
    pages = {}
    for topic in load().topics:
        pages[topic.id] = measure(topic.files["chapter"])
        print(topic.id, pages[topic.id], flush=True)
    return {"threads": 1, "pages": pages}


def replay(data: dict[str, Any]) -> None:
    """Each page is a topic's; the quickest one takes its memory again."""
    pages = data["pages"]
    known = load().by_id
    assert set(pages) <= set(known), set(pages) - set(known)
    quickest = min(pages, key=lambda name: pages[name]["seconds"])
    again = measure(known[quickest].files["chapter"])
    share = again["bytes"] / pages[quickest]["bytes"]
    assert 1 / CLOSE < share < CLOSE, (quickest, again, pages[quickest])


if __name__ == "__main__":
    os.chdir(ROOT)
    print(json.dumps(execute(ROOT / sys.argv[1])))
