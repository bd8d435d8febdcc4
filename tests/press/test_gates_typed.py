"""What is printed can be typed: each way to break that is planted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from press.gates.pages import Page
from press.gates.typed import names_in, printed_cells, untyped

HIDDEN = ":tags: [remove-cell]\n"
Written = Callable[..., list[str]]


def cell(code: str, head: str = "") -> str:
    """A code cell."""
    return f"```{{code-cell}}\n{head}{code}\n```\n"


def page(*cells: str) -> Page:
    """A page of nothing but cells."""
    text = "# A page\n\n" + "\n".join(cells)
    return Page(Path("book/page.md"), "book/page.md", text)


BROKEN = {
    "hidden import": (
        [cell("import math", HIDDEN), cell("math.pi")],
        "math is from the hidden cell of line 3",
    ),
    "hidden value": (
        [cell("ids = [1]", HIDDEN), cell("print(ids)")],
        "ids is from the hidden cell",
    ),
    "hidden function": (
        [cell("def run():\n    pass", HIDDEN), cell("run()")],
        "run is from the hidden cell",
    ),
    "a hidden input": (
        [cell("x = 1", ":tags: [remove-input]\n"), cell("x")],
        "x is from the hidden cell",
    ),
    "a folded cell": (
        [cell("x = 1", "---\ntags: [hide-input]\n---\n"), cell("x")],
        "x is from the hidden cell",
    ),
    "printed, then hidden": (
        [cell("x = 1"), cell("x = 2", HIDDEN), cell("x")],
        "x is from the hidden cell",
    ),
    "a hidden loop's variable": (
        [cell("x = 1"), cell("for x in [2]: pass", HIDDEN), cell("x")],
        "x is from the hidden cell",
    ),
    "in a function": (
        [cell("k = 2", HIDDEN), cell("def f(x):\n    return k * x")],
        "k is from the hidden cell",
    ),
    "in a default": (
        [cell("k = 2", HIDDEN), cell("def f(x=k):\n    return x")],
        "k is from the hidden cell",
    ),
    "in a method": (
        [
            cell("import nn", HIDDEN),
            cell("class A(nn.Module):\n    def f(self):\n        return nn"),
        ],
        "nn is from the hidden cell",
    ),
    "in a comprehension": (
        [cell("k = 2", HIDDEN), cell("[k * x for x in range(3)]")],
        "k is from the hidden cell",
    ),
    "in a text": (
        [cell("k = 2", HIDDEN), cell('print(f"{k:.2f}")')],
        "k is from the hidden cell",
    ),
    "changed in place": (
        [cell("k = 2", HIDDEN), cell("k += 1")],
        "k is from the hidden cell",
    ),
    "used before it is made": (
        [cell("print(x)\nx = 1")],
        "x stands in no cell before",
    ),
    "from nowhere": ([cell("loss.item()")], "loss stands in no cell before"),
    "the makers' own": (
        [cell("from press import drawing")],
        "press is not on a reader's machine",
    ),
    "in a box": (
        [
            cell("x = 1", HIDDEN),
            "````{tip}\n```{code-cell}\nx\n```\n````\n",
        ],
        "x is from the hidden cell",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_typed_is_caught(kind: str) -> None:
    cells, words = BROKEN[kind]
    found = list(untyped(page(*cells)))
    assert any(words in problem for problem in found), found


FINE = {
    "imported again": [
        cell("import math", HIDDEN),
        cell("import math\nmath.pi"),
    ],
    "the same import, hidden": [
        cell("from math import pi"),
        cell("from math import pi", HIDDEN),
        cell("pi"),
    ],
    "all of Python's scopes": [
        cell(
            "import os.path\n"
            "from math import pi as circle\n"
            "def outer(a, *b, c=1, **d):\n"
            "    def inner():\n"
            "        return a, b, c, d, local, outer\n"
            "    local = 1\n"
            "    try:\n"
            "        import json\n"
            "    except ValueError as error:\n"
            "        print(error, json)\n"
            "    return inner\n"
            "class Box:\n"
            "    size = 3\n"
            "    double = 2 * size\n"
            "    def method(self):\n"
            "        return __name__, self, Box\n"
            "pairs = {k: v for k, v in zip('ab', 'cd') if k}\n"
            "total = sum(x * y for x in range(3) for y in range(x))\n"
            "with open('a') as file:\n"
            "    first, *rest = file\n"
            "for i, (j, k) in enumerate([]):\n"
            "    total += i + j + k\n"
            "try:\n"
            "    print(lambda z: z * total)\n"
            "except OSError as error:\n"
            "    print(error)\n"
            "if (n := len(rest)) > 2:\n"
            "    print(n, first, circle, os, pairs, outer, total)"
        )
    ],
}


@pytest.mark.parametrize("kind", FINE)
def test_what_can_be_typed_passes(kind: str) -> None:
    assert list(untyped(page(*FINE[kind]))) == []


def test_solutions_may_use_solutions() -> None:
    name = "book/appendix/solutions/page.md"
    text = cell("from solutions.a import b\nfrom press import drawing")
    [problem] = untyped(Page(Path(name), name, text))
    assert "press is not on a reader's machine" in problem


def test_a_hidden_cell_may_use_what_it_likes() -> None:
    assert not list(untyped(page(cell("anything()", HIDDEN))))


def test_lines_are_the_pages() -> None:
    made = page(cell("x = 1", HIDDEN), cell("import math\nmath.pi\nx"))
    [problem] = untyped(made)
    line = int(problem.split(":")[1])
    assert made.text.splitlines()[line - 1] == "x"


def test_an_import_is_known_by_its_text() -> None:
    [made] = printed_cells(page(cell("import torch.nn\nfrom a import b as c")))
    assert names_in(made).binds == {
        "torch": "import torch",
        "c": "from a import b",
    }


def test_the_gate_reads_the_pages(written: Written) -> None:
    found = written("typed", cell("drawing.setup()"))
    assert any("drawing is from the hidden cell" in p for p in found), found
