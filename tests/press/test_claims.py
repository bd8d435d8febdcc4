"""A comparison in prose is asserted by the build."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sphinx.errors import ExtensionError

from press.extensions import claims

CELL = "```{code-cell}\nfew, many = 2, 3\n```\n\n"
FALSE = "It makes {claim}`fewer mistakes <many < few>`."
TRUE = "It makes {claim}`fewer mistakes\nthan before <few <\nmany>`."


def run(page: str, folder: Path) -> str:
    """Execute a page's cells with what the extension adds; its last cell."""
    source = [page]
    claims.assert_claims(None, "book/page", source)
    cells = source[0].split("```{code-cell}\n")[1:]
    code = [c.partition("\n```")[0].replace(":tags:", "#") for c in cells]
    path = folder / "cells.py"
    path.write_text("\n".join(code), encoding="utf-8")
    runpy.run_path(str(path))
    return code[-1]


def test_what_holds_passes(tmp_path: Path) -> None:
    assert "few < many" in run(CELL + TRUE, tmp_path)


def test_what_does_not_hold_fails_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="book/page:5: “fewer mistakes”"):
        run(CELL + FALSE, tmp_path)


def test_a_page_without_claims_is_left_alone() -> None:
    source = [CELL]
    claims.assert_claims(None, "book/page", source)
    assert source == [CELL]


@pytest.mark.parametrize(
    "text", ["{claim}`fewer mistakes`", "{claim}`<a < b>`"]
)
def test_words_and_test_belong_together(text: str) -> None:
    with pytest.raises(ExtensionError, match="has no test"):
        claims.assert_claims(None, "book/page", [CELL + text])


def test_a_page_without_cells_cannot_claim() -> None:
    with pytest.raises(ExtensionError, match="no cell"):
        claims.assert_claims(None, "book/page", [TRUE])


PLANTED = {
    "no test": ("{claim}`the nearest`", "has no test"),
    "no Python": ("{claim}`the nearest <a <>`", "is no Python"),
    "a name from nowhere": ("{claim}`so <bits['a'] < nearer>`", "nearer"),
    "what cannot fail": ("{claim}`the nearest <1 < 2>`", "cannot fail"),
    "no comparison": ("{claim}`the nearest <bits>`", "cannot fail"),
    "in a caption": (
        "```{figure} a.svg\n:alt: A line.\n\nSo {claim}`it is <True>`.\n```",
        "cannot fail",
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_the_gate_catches(kind: str, written: Callable[..., list[str]]) -> None:
    text, word = PLANTED[kind]
    found = written(
        "claims", f"It is {text}." if kind != "in a caption" else text
    )
    assert any(word in problem for problem in found), found


def test_the_gate_lets_a_claim_pass(written: Callable[..., list[str]]) -> None:
    text = "It is {claim}`smaller <bits['toytown'] < bits['bigram']>`."
    assert not written("claims", text)
    share = (
        "It is {claim}`twice as much <bits['bigram'] > 2 * bits['toytown']>`."
    )
    assert not written("numbers", share)


@pytest.mark.judge
def test_a_false_claim_fails_the_build(small_book: Any) -> None:
    page = small_book.folder / "book" / "page.md"
    text = page.read_text(encoding="utf-8")
    cell = "\n```{code-cell}\nfew, many = 2, 3\n```\n\n"
    page.write_text(text + cell + FALSE + "\n")
    for _ in range(2):
        done = small_book.build("html")
        assert done.returncode
        assert "is not so: many < few" in done.stdout + done.stderr
    page.write_text(text + cell + TRUE + "\n")
    done = small_book.build("html")
    assert done.returncode == 0, done.stderr
    html = small_book.folder / "_build" / "out" / "_build" / "html"
    shown = (html / "book" / "page.html").read_text(encoding="utf-8")
    assert "few &lt;" not in shown
    assert "fewer mistakes than before" in shown


def test_a_head_is_not_shown_with_what_the_town_never_says(
    plant: Callable[..., list[str]],
) -> None:
    name = "book/model/attention.md"
    found = plant(
        "examples", name, lambda old: old.replace("assert begins_story", "len")
    )
    assert len(found) == 1
    assert "is this text from the town?" in found[0]
