"""Chapters: their parts, what they show of the library, their figures."""

from collections.abc import Callable

import pytest

from press.gates import GATES, Book
from press.gates.chapters import untested
from press.sources import find

Plant = Callable[..., list[str]]
Written = Callable[..., list[str]]
CHAPTER = "book/model/attention.md"
HEADS = "src/scratchlm/model/heads.py"
OMITTED = "book/omitted.yml"


def swap(old: str, new: str) -> Callable[[str], str]:
    """Replace the first occurrence of `old`, which must be there."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def append(text: str) -> Callable[[str], str]:
    """Write more at the end."""
    return lambda old: f"{old}\n{text}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# Looking", "# Glancing", "no (attention)="),
        ("(attention)=", "(attentions)=", "no (attention)="),
        ("```{check} attention", "```{note}", "needs one {check}"),
        ("```{topic} attention", "```{topic} heads", "needs one {topic}"),
        ("drawing.setup()", "drawing.figure", "no cell calls drawing.setup()"),
    ],
)
def test_a_chapters_parts(
    old: str, new: str, message: str, plant: Plant
) -> None:
    found = plant("chapters", CHAPTER, swap(old, new))
    assert any(message in problem for problem in found), found


def test_a_comment_is_no_call_of_setup(plant: Plant) -> None:
    new = '# drawing.setup()\nprint("drawing.setup()")'
    found = plant("chapters", CHAPTER, swap("drawing.setup()", new))
    assert any("no cell calls" in problem for problem in found)


@pytest.mark.parametrize("text", ["#### Deep", "## A\n\n#### Deep"])
def test_a_heading_that_skips_a_level_is_caught(
    text: str, written: Written
) -> None:
    [problem] = written("chapters", f"## Before\n\n{text}")
    assert "a heading skips from 2 to 4" in problem


def test_a_second_title_is_caught(written: Written) -> None:
    [problem] = written("chapters", "# Another")
    assert "a second title" in problem
    assert written("chapters", "## A\n\n### B\n\n## C") == []


# --- what is shown -----------------------------------------------------------


def test_a_listing_that_is_taken_out_is_missed(plant: Plant) -> None:
    symbol = "scratchlm.model.attention.causal_mask"
    found = plant("shown", CHAPTER, swap(symbol, "nothing"), whole=True)
    assert f"{symbol} is neither shown nor in omitted.yml" in found


HIDDEN = {
    "a function": ("def extra(x):\n    return x", "extra"),
    "a hidden function": ("def _extra(x):\n    return x", "_extra"),
    "a class": ("class Extra:\n    pass", "Extra"),
    "a lambda": ("extra = lambda x: x", "extra"),
    "a second name": ("listen = repeat_kv", "listen"),
    "another's name": ("listen = torch.softmax", "listen"),
    "a partial": ("listen = functools.partial(repeat_kv, n=1)", "listen"),
    "a typed name": ("listen: Callable = repeat_kv", "listen"),
    "in a branch": ("if torch:\n    def extra():\n        return 1", "extra"),
    "in an attempt": (
        "try:\n    import x\nexcept ImportError:\n"
        "    def extra():\n        return 1",
        "extra",
    ),
    "one of two names": ("size, listen = 1, repeat_kv", "listen"),
    "two equal names": ("LISTEN = listen = repeat_kv", "listen"),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_whatever_can_be_called_is_shown(form: str, plant: Plant) -> None:
    code, name = HIDDEN[form]
    [problem] = plant("shown", HEADS, append(code), whole=True)
    assert problem.startswith(f"scratchlm.model.heads.{name} is neither")


@pytest.mark.parametrize("name", ["_helper", "helper"])
def test_hidden_methods_are_shown(name: str, plant: Plant) -> None:
    code = f"class Extra:\n    def {name}(self):\n        return 1"
    found = plant("shown", HEADS, append(code), whole=True)
    symbol = f"scratchlm.model.heads.Extra.{name}"
    assert f"{symbol} is neither shown nor in omitted.yml" in found


SYMBOL = "scratchlm.training.trainer.NonFiniteLoss"


@pytest.mark.parametrize(
    "why",
    [
        "short",
        "aaaaaaaaaa",
        "aaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd eeeeeeeeee",
        "qwert zuiop asdfg hjkln yxcvb and so on and on.",
        "because because because because because because",
        "12345678901234567890",
    ],
)
def test_a_reason_that_is_none_is_caught(why: str, plant: Plant) -> None:
    change = append(f"scratchlm.model.heads.repeat_kv: '{why}'")
    found = plant("shown", OMITTED, change, whole=True)
    assert any("needs a reason" in problem for problem in found), found


@pytest.mark.parametrize(
    "symbol", ["scratchlm", "scratchlm.training", "scratchlm.model"]
)
def test_no_package_is_left_out_in_one_line(symbol: str, plant: Plant) -> None:
    change = append(f"{symbol}: >-\n  The loop that trains the model is long.")
    found = plant("shown", OMITTED, change, whole=True)
    assert any("is a package" in problem for problem in found)


def test_a_reason_given_twice_is_caught(plant: Plant) -> None:
    why = "Makes the file of the model, which the chapter shows before."
    names = [f"scratchlm.model.heads.{n}" for n in ("repeat_kv", "KVStore")]
    change = append("\n".join(f"{name}: '{why}'" for name in names))
    found = plant("shown", OMITTED, change, whole=True)
    assert any(f"has the reason of {names[0]}" in p for p in found)


def test_what_is_left_out_twice_is_caught(plant: Plant) -> None:
    why = "Makes the file of the model, which the chapter shows before."
    change = append(f"scratchlm.text.files.FileError: {why}")
    found = plant("shown", OMITTED, change, whole=True)
    assert "omitted.yml: scratchlm.text.files.FileError stands twice" in found


def test_what_is_not_there_cannot_be_left_out(plant: Plant) -> None:
    why = "Makes the file of the model, which the chapter shows before."
    change = append(f"scratchlm.model.heads.nothing: {why}")
    found = plant("shown", OMITTED, change, whole=True)
    assert "omitted.yml: there is no scratchlm.model.heads.nothing" in found


def test_a_listing_of_nothing_is_caught(plant: Plant) -> None:
    for symbol in ("scratchlm.model.heads.nothing", "scratchlm.no.thing"):
        listing = f"```{{listing}} {symbol}\n```"
        found = plant("shown", CHAPTER, append(listing), whole=True)
        assert f"{symbol} is shown, and is not there" in found


def test_what_is_shown_in_its_class_is_not_left_out() -> None:
    symbol = "scratchlm.model.heads.GrowingStore"
    why = "Makes the file of the model, which the chapter shows before."
    listing = f"```{{listing}} {symbol}\n```"
    code = "class GrowingStore:\n    def grow(self):\n        return 1\n"
    more = {CHAPTER: listing, HEADS: code, OMITTED: f"{symbol}.grow: {why}"}
    changes = {k: f"{Book().read(k)}\n{v}\n" for k, v in more.items()}
    found = GATES["shown"](Book(changes=changes))
    assert f"omitted.yml: {symbol}.grow is shown after all" in found


@pytest.mark.parametrize(
    "comment", ["# pragma: no cover", "#pragma:nocover", "# Pragma: No Branch"]
)
def test_no_line_is_taken_out_of_the_coverage(
    comment: str, plant: Plant
) -> None:
    found = plant("covered", HEADS, append(f"x = 1  {comment}"))
    assert [HEADS in problem for problem in found] == [True]
    text = append(f'x = "{comment}"')
    assert plant("covered", HEADS, text) == []


def test_no_setting_hides_lines(plant: Plant) -> None:
    change = append('[tool.coverage.report]\nexclude_also = ["raise"]')
    [problem] = plant("covered", "pyproject.toml", change)
    assert "exclude_also" in problem
    change = append('[tool.coverage.run]\n"omit" = ["src/*"]')
    [problem] = plant("covered", "pyproject.toml", change)
    assert "omit hides" in problem
    [problem] = plant("covered", ".coveragerc", "[report]\n")
    assert ".coveragerc" in problem


def test_each_line_of_a_listing_is_run_by_a_test() -> None:
    symbol = "scratchlm.training.schedule.linear"
    shown = find(symbol)
    listing = f"```{{listing}} {symbol}\n:caption: The mean.\n```"
    changes = {CHAPTER: f"{Book().read(CHAPTER)}\n{listing}\n"}
    book = Book(changes=changes)

    def lines(missing: dict[str, list[int]]) -> list[str]:
        said = [problem.split(": ", 1) for problem in untested(book, missing)]
        return [what for page, what in said if page.startswith(CHAPTER)]

    names = book.files("src", "solutions", "compliance")
    files: dict[str, list[int]] = {name: [] for name in names}
    assert lines(files) == []
    [said] = lines({**files, shown.file: [1, shown.first, shown.last + 1]})
    what = f"{shown.file}:{shown.first} is shown, but no test runs it"
    assert said == what
    del files[shown.file]  # nothing imports it, or nobody measured
    assert len(lines(files)) == shown.last - shown.first + 1


# --- figures -----------------------------------------------------------------


def picture(name: str, alt: str = "A line that falls to the right.") -> str:
    """A cell that draws a figure."""
    return (
        f"```{{code-cell}}\n---\nmystnb:\n  figure:\n    name: {name}\n"
        f"    caption: A curve.\n  image:\n    alt: {alt}\n---\n"
        f"drawing.canvas({len(name)}, {len(alt)})\n```"
    )


def test_a_figure_with_words_is_fine(written: Written) -> None:
    assert written("figures", picture("fig-planted")) == []


@pytest.mark.parametrize(
    "alt",
    [
        "The picture of a falling line.",
        "An image that shows a line.",
        "heads.svg drawn with five lines.",
        "''",
        "Figure 3",
        "figure",
        "Figure of a line that falls.",
        "A curve.",
        "Image of a line that falls.",
        "A line.",
    ],
)
def test_a_figure_without_words_is_caught(alt: str, written: Written) -> None:
    assert len(written("figures", picture("fig-planted", alt))) == 1


BAD = {
    "a cell without alternative": (
        "```{code-cell}\n---\nmystnb: {figure: {caption: A}}\n---\nf()\n```",
        "without alt text",
    ),
    "a caption as alternative": (
        "```{figure} a.svg\n:alt: A line, and it falls fast!\n\n"
        "A line and it falls: fast\n```",
        "repeats the caption",
    ),
    "a directive without alternative": (
        "```{figure} a.svg\nA caption.\n```",
        "without alt text",
    ),
    "an image without alternative": ("```{image} a.svg\n```", "without alt"),
    "a picture in a paragraph": ("See ![](a.svg) there.", "no cell draws"),
    "a drawing that is no figure": (
        "```{code-cell}\nfig, ax = drawing.figure(6, 2)\n```",
        "draws, and is no figure",
    ),
    "a plot that is no figure": (
        "```{code-cell}\nplt.subplots()\n```",
        "draws, and is no figure",
    ),
    "a plot without a figure": (
        "```{code-cell}\nplt.plot([1, 2])\n```",
        "draws, and is no figure",
    ),
    "a plot, called otherwise": (
        "```{code-cell}\ndrawing.plt.hist(x)\n```",
        "draws, and is no figure",
    ),
    "a function that draws": (
        "```{code-cell}\ndef show():\n    drawing.figure(6, 2)\n```\n\n"
        "```{code-cell}\nshow()\n```",
        "draws, and is no figure",
    ),
    "markup from a cell": (
        "```{code-cell}\ndisplay(HTML('<b>bold</b>'))\n```",
        "in one output only",
    ),
    "a raw role": ("It is {raw:html}`<b>bold</b>`.", "only in one output"),
    "a glued figure": ("{glue:}`fig`", "glue:text glues"),
    "only in HTML": ("```{only} html\nWords.\n```", "only in one output"),
    "only in print": ("```{raw} latex\n\\section{A}\n```", "only in one"),
    "HTML": ("<b>bold</b>\n", "only in one output"),
    "HTML in a line": ("It is <b>bold</b>.", "only in one output"),
    "a substitution": ("It is {{ bold }}.", "only in one output"),
    "only in a box": (
        "````{tip}\n```{only} latex\nWords.\n```\n````",
        "only in one output",
    ),
}


@pytest.mark.parametrize("form", BAD)
def test_a_bad_figure_is_caught(form: str, written: Written) -> None:
    text, message = BAD[form]
    found = written("figures", text)
    assert any(message in problem for problem in found), found


def test_a_break_of_pages_is_allowed(written: Written) -> None:
    assert written("figures", "```{raw} latex\n\\clearpage\n```") == []


def test_a_figure_twice_is_caught(written: Written, plant: Plant) -> None:
    twice = picture("fig-planted") + "\n\n" + picture("fig-planted")
    assert all("again" in p for p in written("figures", twice))
    assert len(written("figures", twice)) == 2  # its name and its drawing
    drawn = picture("fig-planted") + "\n\n" + picture("fig-another")
    same = drawn.replace("fig-another", "fig-plantes")
    assert len(written("figures", same)) == 1
    elsewhere = "book/model/heads.md"
    [problem] = plant(
        "figures",
        elsewhere,
        append(picture("fig-qkv-drawn")),
        whole=True,
    )
    assert "the figure of book/model/attention.md" in problem


def test_execution_is_not_switched_off_in_a_pages_head(plant: Plant) -> None:
    new = "file_format: mystnb\nmystnb:\n  execution_mode: 'off'\n"
    change = swap("file_format: mystnb\n", new)
    [problem] = plant("figures", CHAPTER, change)
    assert "mystnb in the page's head" in problem
