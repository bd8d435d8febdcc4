"""A forked kernel is a kernel: the same outputs, and nothing in common."""

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

from press import forks
from press.files import ROOT
from press.kernels import KernelManager

pytestmark = pytest.mark.skipif(
    not forks.FORKS, reason="libraries survive a fork on Linux alone"
)
STATE = """
import os, sys, random, numpy, torch
import matplotlib
known = sorted(m for m in sys.modules if m.split('.')[0] in
               ('scratchlm', 'solutions', 'scaffold'))
print(known, 'matplotlib.pyplot' in sys.modules, __name__)
print(torch.get_num_threads(), torch.get_default_dtype())
print(matplotlib.rcParams['font.size'], os.getcwd(), os.environ.get('WHO'))
"""
PARALLEL = """
import multiprocessing
with multiprocessing.get_context('spawn').Pool(2) as pool:
    print(pool.map(abs, [-1, 2, -3]))
"""


def outputs(
    cells: list[str],
    manager: type[AsyncKernelManager] = KernelManager,
    limit: int = 60,
    **environment: str,
) -> list[str]:
    """What the cells print, in one kernel."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=limit,
        kernel_manager_class=manager,
        resources={"metadata": {"path": str(ROOT / "book")}},
    )
    client.execute(env={**os.environ, **environment})
    return ["".join(o["text"] for o in c.outputs) for c in notebook.cells]


def test_a_fork_begins_as_every_kernel_does() -> None:
    plain = outputs([STATE], AsyncKernelManager, WHO="me")
    assert outputs([STATE], WHO="me") == plain
    assert plain[0].startswith("[] False __main__\n")
    assert plain[0].endswith(f" {ROOT / 'book'} me\n")


def test_what_one_kernel_does_no_other_sees() -> None:
    change = "import torch, matplotlib, os, sys\ntorch.manual_seed(7)\n"
    change += "matplotlib.rcParams['font.size'] = 3\nos.environ['WHO'] = 'x'\n"
    change += "sys.modules['scratchlm'] = sys\nprint('changed')"
    before = outputs([STATE])
    assert outputs([change]) == ["changed\n"]
    assert outputs([STATE]) == before


def test_a_cell_may_start_processes() -> None:
    assert outputs([PARALLEL]) == ["[1, 2, 3]\n"]


def test_a_cell_that_takes_too_long_is_ended_with_its_kernel(
    tmp_path: Path,
) -> None:
    told = tmp_path / "pid"
    slow = "import os, pathlib, threading\n"
    slow += f"pathlib.Path({str(told)!r}).write_text(str(os.getpid()))\n"
    slow += "threading.Event().wait(60)"
    with pytest.raises(CellTimeoutError):
        outputs([slow], limit=1)
    for _ in range(100):
        if not Path("/proc", told.read_text()).exists():
            return
        time.sleep(0.1)
    pytest.fail("the kernel is still there")


def test_nothing_of_ours_is_imported_once_for_all() -> None:
    ours = ("press", "scratchlm", "solutions", "scaffold", "records")
    assert not [m for m in forks.PRELOADED if m.split(".")[0] in ours]
    assert "matplotlib.pyplot" not in forks.PRELOADED


@pytest.mark.parametrize(
    "words",
    [
        ("calendar", "2026", "1"),
        ("json.tool", "nothing.json"),
        ("calendar", "x"),
    ],
)
def test_a_module_runs_in_a_fork_as_from_a_shell(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    plain = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    code, text = forks.printed(*words, folder=tmp_path)
    assert code == plain.returncode
    assert text == plain.stdout + plain.stderr
