"""The book keeps its rules, and each gate catches a planted problem."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from press import gates
from press.gates import Book

ROOT = Path(__file__).parents[2]
OWN = [name for name in gates.GATES if name not in ("ruff", "mypy")]


@pytest.mark.parametrize("name", OWN)
def test_the_book_passes_every_gate(name: str) -> None:
    assert gates.GATES[name](Book(ROOT)) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the gates look at."""
    for name in ("book", "src", "tests", "scaffold", "solutions"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    for name in ("roadmap.yml", "_toc.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of `old`, which must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def append(path: Path, text: str) -> None:
    """Write more at the end of a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


CHAPTER = "book/model/attention.md"
PLANTED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a check is lost": (
        "mirror",
        lambda root: (
            root / "scaffold/checks/model/check_attention.py"
        ).unlink(),
        "scaffold/checks/model/check_attention.py is missing",
    ),
    "a module without a topic": (
        "mirror",
        lambda root: append(root / "src/scratchlm/model/extra.py", "x = 1\n"),
        "src/scratchlm/model/extra.py belongs to no topic",
    ),
    "the contents are edited by hand": (
        "contents",
        lambda root: append(root / "_toc.yml", "# mine\n"),
        "_toc.yml",
    ),
    "the model imports the trainer": (
        "directions",
        lambda root: append(
            root / "src/scratchlm/model/block.py",
            "from scratchlm.training.trainer import Trainer\n",
        ),
        "src/scratchlm/model/block.py",
    ),
    "a title is changed": (
        "chapters",
        lambda root: edit(root / CHAPTER, "# Looking", "# Glancing"),
        "no (attention)=",
    ),
    "a chapter loses its check": (
        "chapters",
        lambda root: edit(root / CHAPTER, "```{check} attention", "```{note}"),
        "{check}",
    ),
    "an exercise without a solution": (
        "chapters",
        lambda root: append(
            root / CHAPTER,
            "\n```{exercise} New\n:name: ex-new\n:hours: 1\nWhy?\n```\n",
        ),
        "ex-new is not both asked and solved",
    ),
    "a listing is taken out": (
        "shown",
        lambda root: edit(
            root / CHAPTER,
            "scratchlm.model.attention.scaled_dot_product_attention",
            "nothing",
        ),
        "attention.scaled_dot_product_attention is neither shown",
    ),
    "something is left out without a reason": (
        "shown",
        lambda root: append(
            root / "book/omitted.yml", "scratchlm.model.heads.KVStore: short\n"
        ),
        "needs a reason",
    ),
    "code is pasted": (
        "cells",
        lambda root: append(
            root / CHAPTER, "\n```{code-cell}\ndef attend(q):\n    pass\n```\n"
        ),
        "attend is the library's",
    ),
    "Python that nothing runs": (
        "cells",
        lambda root: append(root / CHAPTER, "\n```python\nprint(1)\n```\n"),
        "Python that nothing runs",
    ),
    "a picture without words": (
        "cells",
        lambda root: append(
            root / CHAPTER,
            "\n```{code-cell}\n---\nmystnb:\n  figure:\n"
            "    caption: A picture.\n---\nplot()\n```\n",
        ),
        "alt text",
    ),
    "a number out of the air": (
        "numbers",
        lambda root: append(root / CHAPTER, "\nThe loss is 1.234 nats.\n"),
        "1.234",
    ),
    "a filler": (
        "words",
        lambda root: append(root / CHAPTER, "\nThis is obviously so.\n"),
        "obviously",
    ),
    "a glyph that the fonts lack": (
        "glyphs",
        lambda root: append(root / CHAPTER, "\nA \N{SNOWMAN}.\n"),
        "SNOWMAN",
    ),
    "a slip of spelling": (
        "codespell",
        lambda root: append(root / CHAPTER, "\nWe belei" + "ve it.\n"),
        "belei" + "ve",
    ),
}


@pytest.mark.parametrize("problem", PLANTED)
def test_a_gate_catches(problem: str, copy: Path) -> None:
    name, plant, message = PLANTED[problem]
    plant(copy)
    found = gates.GATES[name](Book(copy))
    assert any(message in line for line in found), found


def test_a_decimal_with_a_source_is_allowed(copy: Path) -> None:
    before = gates.numbers(Book(copy))
    append(copy / CHAPTER, "\nThey report 28.4 {cite}`vaswani2017attention`.\n")
    text = "In code `1.5`, in $x = 1.5$, {glue:text}`a:.2f`."
    append(copy / CHAPTER, f"\n{text}\n")
    assert gates.numbers(Book(copy)) == before
