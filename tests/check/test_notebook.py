"""Code that stands in a notebook is checked where it stands."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from traitlets.config import Config

from check.cells import extracted
from check.commands import main
from check.places import Site

FUNCTION = "scaled_dot_product_attention"
IMPORTS = "import math\nimport torch\nfrom torch import nn"
HELPER = """\
def mask(scores):
    later = torch.ones_like(scores).triu(1 + SHIFT(scores))
    return scores.masked_fill(later.bool(), -math.inf)
"""
SHIFT = "SHIFT = lambda s: s.shape[-1] - s.shape[-2]"
ATTEND = """\
%pwd

def attend(q, k, v, causal=True):
    scores = q @ k.mT / {scale}
    return (mask(scores) if causal else scores).softmax(-1) @ v
"""
RIGHT = ATTEND.format(scale="math.sqrt(q.shape[-1])")
WRONG = ATTEND.format(scale="1.0")
COSTLY = "raise SystemExit('this cell trains for hours')"
CLASS = """\
class Head(nn.Module):
    def __init__(self, channels, head_size):
        super().__init__()
        self.W_q, self.W_k, self.W_v = (
            nn.Linear(channels, head_size, bias=False) for _ in range(3)
        )

    def forward(self, x):
        return attend(self.W_q(x), self.W_k(x), self.W_v(x))
"""
WEIGHTS = 'weights = {"query": "W_q", "key": "W_k", "value": "W_v"}'


@pytest.fixture
def shell(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InteractiveShell]:
    """IPython as it is behind a notebook, with the command loaded."""
    monkeypatch.setattr("check.commands.here", lambda: site)
    settings = Config()
    settings.HistoryManager.enabled = False  # no file of it in the home
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=settings)
    yield run(made, "%load_ext check", IMPORTS, HELPER, SHIFT)
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, *cells: str) -> InteractiveShell:
    """Run cells; what is wrong in one is printed as in a notebook."""
    for cell in cells:
        shell.run_cell(cell, store_history=True)
    return shell


@pytest.mark.parametrize("given", ["attend", f'"attend as {FUNCTION}"'])
def test_a_function_of_a_cell(
    given: str,
    shell: InteractiveShell,
    site: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its last definition counts, and another cell's does not run again."""
    line = f"%check attention --mine {given}"
    run(shell, COSTLY, RIGHT, "scores = SHIFT = None", SHIFT)
    capsys.readouterr()
    run(shell, line)
    good = capsys.readouterr().out
    assert "1 topic: 1 pass" in good, good
    assert (f"attend stands for {FUNCTION}" in good) is (given == "attend")
    run(shell, WRONG, line)
    bad = capsys.readouterr().out
    assert "the scale is missing" in bad
    assert "in        In [10], line 3 (attend)" in bad
    option = "'" + given.strip('"') + "'" if " " in given else given
    follow = f"%check hint attention --mine {option}"
    assert f"next      {follow}\n" in bad
    run(shell, follow)
    assert "in In [10], line 3 (attend)" in capsys.readouterr().out
    assert not site.progress.exists()


def test_the_line_of_a_cell_that_fails_is_named(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        shell, WRONG.replace("1.0", "nothing"), "%check attention --mine attend"
    )
    assert "in        In [5], line 4\n" in capsys.readouterr().out


def test_a_class_of_a_cell(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "%check attention --mine Head"
    run(shell, RIGHT, CLASS, line)
    words = " ".join(capsys.readouterr().out.split())
    assert 'weights = {"query": …}' in words
    run(shell, WEIGHTS, line)
    out = capsys.readouterr().out
    assert "Head stands for SingleHeadAttention" in out
    assert "1 topic: 1 pass" in out


def test_what_no_cell_defines_is_told(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%check attention --mine attend")
    said = "no cell that was run defines attend"
    assert said in capsys.readouterr().err
    run(shell, RIGHT, "%check attention --watch --mine attend")
    assert "no cell can change" in capsys.readouterr().err
    run(shell, "def f(a):\n    pass", "%check attention --mine f")
    out = " ".join(capsys.readouterr().out.split())
    assert 'which of the book\'s is f? Write --mine "f as NAME"' in out


def notebook(folder: Path, *cells: str) -> Path:
    """A notebook file with code cells, and words between them."""
    parts = [new_markdown_cell("# Attention")]
    parts += [new_code_cell(cell) for cell in cells]
    path = folder / "my notebook.ipynb"
    nbformat.write(new_notebook(cells=parts), path)
    return path


@pytest.mark.parametrize("code", [0, 1])
def test_a_notebook_file(
    code: int,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a module that lies beside it."""
    (tmp_path / "helping.py").write_text(SHIFT, encoding="utf-8")
    function = WRONG if code else RIGHT
    path = notebook(
        tmp_path, IMPORTS, COSTLY, function, HELPER, "from helping import SHIFT"
    )
    assert main(["attention", "--mine", f"{path}:attend"], site) == code
    out = capsys.readouterr().out
    found = "in        my notebook.ipynb, cell [3], line 3 (attend)" in out
    assert found is bool(code), out
    assert (f"hint attention --mine '{path}:attend'" in out) is bool(code)


@pytest.mark.parametrize(
    ("name", "said"),
    [(":gone", "defines gone"), ("", "write"), (":attend", "not a notebook")],
)
def test_what_a_notebook_cannot_give_is_told(
    name: str,
    said: str,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = notebook(tmp_path, RIGHT)
    if "attend" in name:
        path.write_text("nothing", encoding="utf-8")
    assert main(["attention", "--mine", f"{path}{name}"], site) == 2
    assert said in capsys.readouterr().err
    assert main(["attention", "--mine", "attend"], site) == 2
    assert "NAME alone is for %check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "taken"),
    [
        (["x = 1", "x = x + 1", "x = 5", "f = x", "x = 7"], "x = 5, f = x"),
        (["import os", "import os.path", "f = os.path"], "import os, import "
         "os.path, f = os.path"),
        (["f = g", "g = 1"], "f = g, g = 1"),
        (["f = {}", "f['a'] = 1", "g = 2"], "f = {}, f['a'] = 1"),
        (["from math import *", "g = 2", "f = pi"],
         "from math import *, f = pi"),
        (["y = 3", "from __future__ import annotations", "def f(): y"],
         "from __future__ import annotations, y = 3, def f(): y"),
        (["not python at all", "f = 1"], "f = 1"),
        (["N = 4", "class A:\n    a = N", "N = 8", "f = A"],
         "N = 4, class A:\n    a = N, f = A"),
        (["N = 4", "f = [[N for _ in x] for x in 'a']", "N = 8"],
         "N = 4, f = [[N for _ in x] for x in 'a']"),
        (["N = 4", "f = sum(N for _ in 'a')", "N = 8"],
         "N = 4, f = sum(N for _ in 'a')"),
        (["def g(x, x): pass", "f = 1"], "f = 1"),
        (["nonlocal y", "def g():\n    x = 1; global x", "f = 1"], "f = 1"),
        (["for i in range(3): x = i", "def f():\n    i = 1"],
         "def f():\n    i = 1"),
    ],
)  # fmt: skip
def test_what_a_name_needs_is_taken(cells: list[str], taken: str) -> None:
    found = extracted([(f"In [{i}]", c) for i, c in enumerate(cells)], "f")
    assert found is not None
    code = [part.partition("\n")[2] for part in found.split("# In [")[1:]]
    assert ", ".join(code).replace("\n,", ",").rstrip() == taken
    assert extracted([("In [1]", "g = 1")], "f") is None
