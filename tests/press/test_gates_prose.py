"""Numbers in prose: whatever form they have, somebody vouches for them."""

from collections.abc import Callable

import pytest

from press.gates import Book, prose
from press.gates.arithmetic import verdict

Written = Callable[..., list[str]]
FIGURE = (
    "```{{code-cell}}\n---\nmystnb:\n  figure:\n    name: fig-planted\n"
    "    caption: {caption}\n  image:\n    alt: {alt}\n---\n"
    "drawing.canvas()\n```"
)
TELLING = "A line that falls from the left to the right."
CLAIMS = {
    "a decimal": ("The loss is 1.234 nats.", "1.234"),
    "an integer": ("It read 1,821 stories.", "1,821"),
    "an integer without a comma": ("It read 17771 stories.", "17771"),
    "a year that is none": ("It read 1934 stories.", "1934"),
    "percent": ("It saves 29 % of the time.", "29 %"),
    "a small percentage": ("It saves 3% of the time.", "3%"),
    "percent in words": ("It saves nine percent.", "nine percent"),
    "a multiple": ("It is 3 times as fast.", "3 times as"),
    "a sign": ("It is 7× as fast.", "7×"),
    "seconds": ("It takes three seconds.", "three seconds"),
    "memory": ("It takes 3 GB.", "3 GB"),
    "a number in words": ("It needs twenty-seven stories.", "twenty-seven"),
    "hundreds in words": ("It needs three hundred and six.", "three hundred"),
    "a multiple in words": ("It needs four times as many.", "four times as"),
    "twice": ("It needs twice as many.", "twice as"),
    "half": ("It needs half of the words.", "half of"),
    "a third": ("It is a third faster.", "a third"),
    "a fraction": ("It needs two thirds of it.", "two thirds"),
    "with a slash": ("It is 5/8 of a book.", "5/8"),
    "a small one": ("A share of 1/65,536 is lost.", "1/65,536"),
    "of one letter": ("It is 1⅔ of the whole text.", "1⅔"),
    "a share": ("This is so in two of the five heads.", "two of the five"),
    "a code span": ("The loss is `1.234`.", "1.234"),
    "a formula": ("The loss is $L = 1.234$.", "1.234"),
    "a formula of its own": ("$$\nL \\approx 47.11\n$$", "47.11"),
    "a wrong sum": ("So $4 \\cdot 31 = 125$.", "is wrong"),
    "a wrong rounding": ("So $\\ln 1024 \\approx 6.83$.", "is wrong"),
    "a table": ("| model | loss |\n| --- | --- |\n| ours | 1.234 |", "1.234"),
    "a heading": ("## At 1.234 nats", "1.234"),
    "a list": ("- one\n- the other has 1.234", "1.234"),
    "a quotation": ("> It has 1.234.", "1.234"),
    "a tip": ("```{tip}\nIt has 1.234.\n```", "1.234"),
    "a box in a box": (
        "````{tip}\n```{note}\nIt has 1.234.\n```\n````",
        "1.234",
    ),
    "a colon fence": (":::{note}\nIt has 1.234.\n:::", "1.234"),
    "a title": ("```{pitfall} At 1.234\nSo it is.\n```", "1.234"),
    "a caption": (FIGURE.format(caption="At 1.234.", alt=TELLING), "1.234"),
    "an alternative": (
        FIGURE.format(caption="A line.", alt=f"{TELLING} It ends at 1.234."),
        "1.234",
    ),
    "another's citation": (
        "They did it {cite}`vaswani2017attention`. Ours has 1.234.",
        "1.234",
    ),
    "another's glue": ("It has {glue:text}`a:.2f`, or 1.234.", "1.234"),
    "emphasis": ("It has **1.234**.", "1.234"),
    "a range": ("It needs 5 to 400 stories.", "400"),
    "one of two": ("It needs 14 and 400 words.", "400"),
    "scientific": ("It falls to 3e-4 by then.", "3e-4"),
    "with a plus": ("It gains +0.377 of them.", "+0.377"),
    "without a zero": ("It costs .577 of them.", ".577"),
    "no space": ("It takes 3GB, or 4ms.", "3GB"),
    "short seconds": ("It takes 3 s.", "3 s"),
    "short seconds, no space": ("It takes 3s.", "3s"),
    "short minutes": ("It takes 3 min.", "3 min"),
    "large kilobytes": ("It takes 3 KB.", "3 KB"),
    "thousands": ("It has 3k parameters.", "3k"),
    "millions": ("It has 7M parameters.", "7M"),
    "digits and millions": ("It has 3 million parameters.", "3 million"),
    "an x": ("It is 3x faster.", "3x"),
    "a fold": ("It is a 3-fold gain.", "3-fold"),
    "a fold in words": ("It is a sixfold gain.", "sixfold"),
    "thrice": ("It needs thrice that.", "thrice"),
    "one in five": ("So is one in five of them.", "one in five"),
    "three out of four": ("So are three out of four.", "three out of four"),
    "half a second": ("It takes half a second.", "half a second"),
    "no year": ("It was read in 1934 stories.", "1934"),
    "a negative code span": ("The loss is `-1.234`.", "1.234"),
    "a code span with a unit": ("The loss is `1.234 nats`.", "1.234"),
    "a code span about": ("The loss is `~1.234`.", "1.234"),
    "a scientific code span": ("The loss is `1.234e-5`.", "1.234e-5"),
    "a footnote": ("It is so.[^a]\n\n[^a]: By 1.234.", "1.234"),
    "a definition": ("word\n: By 1.234.", "1.234"),
    "a term": ("at 1.234\n: So it is.", "1.234"),
    "a list as a table": (
        "```{list-table} Losses\n* - model\n  - loss\n* - ours\n  - 1.234\n```",
        "1.234",
    ),
    "a table's title": (
        "```{list-table} At 1.234\n* - model\n  - loss\n```",
        "1.234",
    ),
    "a table of values": ("```{csv-table}\nours, 1.234\n```", "1.234"),
    "a figure's caption": (
        "```{figure} a.svg\n:alt: A line that falls to the right.\n\n"
        "At 1.234.\n```",
        "1.234",
    ),
    "a formula in a box": ("```{math}\nL = 1.234\n```", "1.234"),
    "an amount in a formula": ("It takes $3$ seconds.", "3 seconds"),
    "a multiple in a formula": ("It is $3\\times$ faster.", "3×"),
    "about, in a formula": ("It is $\\approx 1.234$ here.", "1.234"),
    "a link's words": ("See [1.234](#gpt).", "1.234"),
    "a margin": ("```{margin} So\nAt 1.234.\n```", "1.234"),
    "a cell that decides nothing": (
        "```{code-cell}\nplanted = 1.234\n```\n\nIt is 1.234.",
        "1.234",
    ),
    "a cell that only says it": (
        "```{code-cell}\n1.234\n```\n\nIt is 1.234.",
        "1.234",
    ),
    "a word in a cell": (
        '```{code-cell}\nnote = "1.234"\n```\n\nIt is 1.234.',
        "1.234",
    ),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_number_out_of_the_air_is_caught(kind: str, written: Written) -> None:
    text, number = CLAIMS[kind]
    found = written("numbers", text)
    assert any(number in problem for problem in found), found


FINE = {
    "glued": "The loss is {glue:text}`loss:.2f`.",
    "cited": "They report 28.4 {cite}`vaswani2017attention`.",
    "told by a cell": (
        "```{code-cell}\nsteps = 4711\nrun(steps)\n```\n\nAfter 4,711 steps."
    ),
    "folded": "```{code-cell}\nrun(3 * 997)\n```\n\nAll 2,991 of them.",
    "a rate": "```{code-cell}\nrun(lr=3e-4)\n```\n\nAt 3e-4, or `3e-4`.",
    "compared": "Half of {glue:text}`n` is twice as much as that.",
    "counted on the page": "Two matrices, three steps, the first twelve.",
    "a name": "Llama 2 7B, GPT-2, bfloat16, SHA-256, C++17 and UTF-8.",
    "a year": "So it was in 1948. In 2017 Google's, in 1948 was.",
    "a decade": "So it was in the 1990s.",
    "a line": "On line 17 it is divided, and so are lines 14 to 40.",
    "layers": "It is so in layers 3, 15 and 40.",
    "computed": "So $4 \\cdot 31 = 124$, and all 124 are there.",
    "rounded": "So $\\ln 1024 \\approx 6.93$.",
    "assumed": (
        "```{exercise} A task\n:name: ex-x\n:hours: 1\nTake 1.234 and 96.\n```"
    ),
    "linked": "It took [29 hours](https://github.com/a/b/pull/295).",
    "no amount": "Thousands of stories, hundreds of them sad.",
    "figures of speech": "The second half, a third way, three times.",
}


@pytest.mark.parametrize("kind", FINE)
def test_a_number_with_a_source_is_allowed(kind: str, written: Written) -> None:
    assert written("numbers", FINE[kind]) == []


def test_the_line_of_a_number_is_right(written: Written) -> None:
    lines = len(Book().read("book/model/attention.md").splitlines())
    text = "One line,\nand a second with {ref}`gpt`\nand 1.234 on the third."
    [problem] = written("numbers", text)
    assert f":{lines + 4}: " in problem


@pytest.mark.parametrize(
    ("formula", "right"),
    [
        (r"4 \cdot 31 = 124", True),
        (r"4 \cdot 31 = 125", False),
        (r"x = 4 \cdot 31 = 125", False),
        (r"2^{10} = 1{,}024", True),
        (r"100 \cdot 435 + 30 \cdot 99 = 46\,470", True),
        (r"\tfrac12 + \frac{1}{4} = 0.75", True),
        (r"\ln 50257 \approx 10.8", True),
        (r"\ln 50257 \approx 10.9", False),
        (r"\sqrt{128} > 11", True),
        (r"6 \cdot 10^9 \approx 5 \cdot 10^9", False),
        (r"\log_2 8 = 3", True),
        (r"x = 3", None),
        (r"30\,C^3", None),
    ],
)
def test_formulas_are_recomputed(formula: str, right: bool | None) -> None:
    assert verdict(formula) is right


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("seven", 7),
        ("twenty-four", 24),
        ("three hundred and six", 306),
        ("two million", 2_000_000),
        ("hundred thousand", 100_000),
        ("seventy-five thousand", 75_000),
    ],
)
def test_numbers_are_read(words: str, value: float) -> None:
    assert prose.value_of(words) == value


def test_each_constant_has_a_reason_and_is_used() -> None:
    book = Book()
    listed = prose.constants(book.read("press/gates/constants.yml"))
    for phrase, why in listed["everywhere"].items():
        assert len(why.split()) > 3, phrase
    for name, phrases in listed["pages"].items():
        page = book.pages[name]
        texts = [p.flat(prose.written)[0] for p in page.passages]
        whole = " ".join(" ".join(texts).split())
        whole += " ".join(
            piece.text
            for passage in page.passages
            for piece in passage.pieces
            if piece.kind == "math"
        )
        for phrase, why in phrases.items():
            assert len(why.split()) > 3, (name, phrase)
            assert phrase in whole, f"{name}: {phrase} is not there any more"


def test_a_filler_is_caught(written: Written) -> None:
    [problem] = written("words", "First this.\nThis is obviously so.")
    assert "obviously" in problem


def test_a_glyph_that_the_fonts_lack_is_caught(written: Written) -> None:
    [problem] = written("glyphs", "A \N{SNOWMAN}.")
    assert "SNOWMAN" in problem
