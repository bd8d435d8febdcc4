"""A build that failed fails again, whatever was wrong."""

from collections.abc import Callable
from typing import Any

import pytest

FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "a reference to nothing": (
        lambda text: text.replace("`lst`", "`lst-nothing`"),
        "lst-nothing",
    ),
    "a directive that does not exist": (
        lambda text: text + "\n```{nonsense} a\n```\n",
        "nonsense",
    ),
    "a number that no cell glued": (
        lambda text: text.replace("text}`answer`", "text}`question`"),
        "question",
    ),
    "a source that is not in the bibliography": (
        lambda text: text.replace("someone2026", "nobody1900"),
        "nobody1900",
    ),
}


def fails_until_mended(book: Any, builder: str, word: str, mend: Any) -> None:
    """Three builds: two that name the fault, and one after the mend."""
    for _ in range(2):
        done = book.build(builder)
        assert done.returncode, done.stdout
        assert word in done.stderr
    mend()
    done = book.build(builder)
    assert done.returncode == 0, done.stderr


@pytest.mark.judge
@pytest.mark.parametrize("builder", ["html", "latex", "epub"])
@pytest.mark.parametrize("fault", FAULTS)
def test_it_fails_again_for(fault: str, builder: str, small_book: Any) -> None:
    change, word = FAULTS[fault]
    page = small_book.folder / "book" / "page.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(change(text), encoding="utf-8")
    fails_until_mended(small_book, builder, word, lambda: page.write_text(text))
