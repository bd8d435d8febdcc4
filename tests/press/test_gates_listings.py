"""Listings: a caption each, and a sentence between two of them."""

from collections.abc import Callable

import pytest

Written = Callable[..., list[str]]
SYMBOL = "scratchlm.model.attention.causal_mask"
WORDS = "It says what a position may see. " * 9


def listing(caption: str) -> str:
    """A listing with this caption; without one where it is empty."""
    option = f":caption: {caption}\n" if caption else ""
    return f"```{{listing}} {SYMBOL}\n{option}```\n"


def test_a_caption_that_says_what_the_code_does_holds(written: Written) -> None:
    text = f"{WORDS}\n\n{listing('The mask of one more position.')}\n{WORDS}"
    assert written("listings", text) == []


@pytest.mark.parametrize(
    ("caption", "what"),
    [
        ("", "has no caption: what does it do?"),
        ("no sentence", "a caption is one short sentence"),
        (f"{'Long ' * 20}.", "a caption is one short sentence"),
    ],
)
def test_a_bad_caption_is_caught(
    caption: str, what: str, written: Written
) -> None:
    [problem] = written("listings", f"{WORDS}\n\n{listing(caption)}\n{WORDS}")
    assert problem.endswith(what)


def test_a_caption_that_stands_twice_is_caught(written: Written) -> None:
    one = listing("Who may see whom.")
    [problem] = written("listings", f"{WORDS}\n\n{one}\n{WORDS}\n\n{one}")
    assert problem.endswith("has another one's caption")


@pytest.mark.parametrize("between", ["", "```{index} mask\n```\n", "## More\n"])
def test_two_listings_in_a_row_are_caught(
    between: str, written: Written
) -> None:
    two = f"{listing('Who may see whom.')}\n{between}\n{listing('Who not.')}"
    [problem] = written("listings", f"{WORDS}\n\n{two}\n{WORDS}")
    assert problem.endswith("follows a listing without a sentence between")


def test_too_few_words_are_caught(written: Written) -> None:
    many = "\nAnd then?\n\n".join(listing(f"Part {x}.") for x in "abcdefgh" * 9)
    found = written("listings", many)
    assert any("words for each listing" in problem for problem in found)


FIGURE = """
```{code-cell}
---
tags: [remove-input]
mystnb:
  figure:
    name: fig-new
    caption: A picture.
---
draw()
```
"""


def test_a_colon_before_a_figure_is_caught(written: Written) -> None:
    [problem] = written("colons", f"Seen from above:\n{FIGURE}")
    assert "a colon before a figure" in problem
    assert written("colons", f"See {{numref}}`fig-new`.\n{FIGURE}") == []
    assert written("colons", "It prints:\n\n```{code-cell}\n1\n```") == []
