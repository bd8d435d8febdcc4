"""Nothing is used before it is explained, in the book and in each track."""

from collections.abc import Callable

import pytest

from press.gates import Book, terms

Plant = Callable[..., list[str]]
IDEA, NGRAM = "book/start/idea.md", "book/model/ngram.md"
GPT, TRAINER = "book/model/gpt.md", "book/training/trainer.md"
SPEED = "book/generation/speed.md"
EARLY = {
    "a term": "The optimizer does the rest.",
    "its plural": "There are many optimizers.",
    "a name with capitals": "This is what RoPE is for.",
    "two words": "Then comes the residual\nstream.",
    "in a caption": (
        "```{code-cell}\n---\nmystnb:\n  figure:\n    name: fig-planted\n"
        "    caption: The optimizer.\n---\nx = 1\n```"
    ),
    "in a heading": "## Optimizers",
    "in a box": "```{pitfall} Slow\nThe optimizer is slow.\n```",
    "in a table": "| what | why |\n| --- | --- |\n| optimizer | yes |",
    "in italics, on a page that does not explain": "The *optimizer* helps.",
    "before a link": "The optimizer is old. So is an {term}`optimizer`.",
    "a link to something else": "{term}`Sampling` and the optimizer.",
}
FINE = {
    "a link": "The {term}`optimizer` does the rest.",
    "a link in the sentence": "An optimizer, see {term}`optimizer`, helps.",
    "a link under another name": "Many {term}`helpers <optimizer>`.",
    "code": "Call `optimizer.step()`.",
    "a cell": "```{code-cell}\noptimizer = 1\n```",
    "part of a word": "The optimizer-like thing, and reoptimizers.",
    "another phrase": "It is in your head.",
}


def appended(text: str) -> Callable[[str], str]:
    """A page with something at its end."""
    return lambda old: f"{old}\n{text}\n"


@pytest.mark.parametrize("kind", EARLY)
def test_a_term_before_its_explanation_is_caught(
    plant: Plant, kind: str
) -> None:
    found = plant("terms", IDEA, appended(EARLY[kind]), whole=True)
    assert len(found) == 1
    assert "is used before a page explains it" in found[0]
    assert found[0].startswith(f"{IDEA}:")


@pytest.mark.parametrize("kind", FINE)
def test_what_is_linked_or_no_prose_is_fine(plant: Plant, kind: str) -> None:
    assert plant("terms", IDEA, appended(FINE[kind]), whole=True) == []


def test_a_page_explains_before_it_uses(plant: Plant) -> None:
    late = plant(
        "terms",
        "book/model/block.md",
        lambda old: old.replace("*residual connection*", "sum", 1)
        + "\nA residual connection is a sum. See *residual connection*.\n",
        whole=True,
    )
    assert len(late) == 1
    assert "residual connection is used before this page" in late[0]


def test_a_track_that_leaves_a_page_out_knows_less(plant: Plant) -> None:
    """A beginner is not asked to read about Muon."""
    found = plant("terms", TRAINER, appended("So `x`."), whole=True)
    assert found == []
    text = "The precision of numbers is lower."
    found = plant("terms", TRAINER, appended(text), whole=True)
    assert [p.partition("explains it")[2] for p in found] == [
        ", in the track beginner"
    ]


def test_a_section_that_an_edition_leaves_out_explains_nothing(
    plant: Plant,
) -> None:
    head = "## Add, do not replace\n"
    mark = "```{tracks} researcher\n```\n"
    page = "book/model/block.md"
    found = plant(
        "terms", page, lambda t: t.replace(head, head + mark), whole=True
    )
    assert any(
        "residual stream is used before" in problem
        and problem.endswith("in the beginner's edition")
        for problem in found
    )
    assert not any("in the track" in problem for problem in found)


def test_a_page_that_moves_forward_is_caught() -> None:
    """With attention after the block, the block lacks its words."""
    book = Book()
    reading = terms.readings(book)["book"]
    at = {page: place for place, (page, _) in enumerate(reading)}
    moved = [*reading]
    moved.insert(at["book/model/block.md"], moved.pop(at["book/model/gpt.md"]))
    entries = terms.glossary(book)
    assert list(terms.early_terms(book, entries, reading)) == []
    found = list(terms.early_terms(book, entries, moved))
    assert any("residual stream is used before" in text for text in found)


def test_a_glossary_that_is_wrong_is_caught(plant: Plant) -> None:
    """Each entry names pages, which are there and which speak of it."""
    changes = {
        "See {ref}`sampling`.": "See {ref}`nowhere`.",
        "See {ref}`muon`.": "See {ref}`files`.",
        "```{glossary}\n": "```{glossary}\nroof\n  See {ref}`gpt`.\n\n"
        "zither\n  See {ref}`gpt`.\n\nmiller\n  Who mills.\n\n",
    }

    def change(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    found = "\n".join(plant("terms", terms.GLOSSARY, change, whole=True))
    assert "miller names no page" in found
    assert "nowhere explains nothing" in found
    assert "files does not speak of Muon" in found
    assert "gpt does not speak of zither" in found
    assert f"{IDEA}:" in found
    assert "roof is used before a page explains it" in found


SYMBOLS = {
    "alone": ("$$ \\xi + 1 $$", "\\xi"),
    "in a line": ("So $a\\, \\xi = b + c$ is it.", "\\xi"),
    "with an index": ("$$ y = \\sum_i \\xi_i $$", "\\xi"),
    "named too late": (
        "$$ \\xi + 1 $$\n\nOne.\n\nTwo.\n\nThree.\n\nHere is $\\xi$.",
        "\\xi",
    ),
    "before the page of the table": ("$$ L + 1 $$", "L"),
}


@pytest.mark.parametrize("kind", SYMBOLS)
def test_a_symbol_that_nobody_names_is_caught(plant: Plant, kind: str) -> None:
    text, symbol = SYMBOLS[kind]
    found = plant("terms", NGRAM, appended(text), whole=True)
    assert any(f"nothing says what {symbol} is" in p for p in found)


@pytest.mark.parametrize(
    "text",
    [
        "Let $\\xi$ be large.\n\n$$ \\xi + 1 $$",
        "$$ \\xi + 1 $$\n\nHere $\\xi$ is what grows.",
        "$$ \\xi = 2 + 1 $$",
        "The vocabulary again: $$ V^2 $$",
        "$$ e^2 $$",
    ],
)
def test_a_symbol_that_is_named_is_fine(plant: Plant, text: str) -> None:
    assert plant("terms", GPT, appended(text), whole=True) == []


def test_a_table_of_notation_that_is_wrong_is_caught(plant: Plant) -> None:
    def change(text: str) -> str:
        text = text.replace("not chosen | {ref}`attention`", "not chosen | ")
        rows = "| $\\xi$ | `x` | what | {ref}`nowhere` |\n"
        rows += "| $\\zeta$ | `z` | that | |\n"
        rows += "| $\\rho$ | `r` | so | {ref}`files` |\n| $B$"
        return text.replace("| $B$", rows)

    found = "\n".join(plant("terms", terms.NOTATION, change, whole=True))
    assert "\\xi: no page book/start/nowhere.md" in found
    assert "\\zeta names no page" in found
    assert "\\rho is not in book/text/files.md" in found


CELL = (
    "```{code-cell}\nfrom scratchlm.training.trainer import Trainer\n\n"
    "Trainer\n```"
)


def test_a_name_that_nothing_introduces_is_caught(plant: Plant) -> None:
    found = plant("terms", GPT, appended(CELL), whole=True)
    assert len(found) == 1
    assert "nothing introduces scratchlm.training.trainer.Trainer" in found[0]


@pytest.mark.parametrize(
    "text",
    [
        CELL + "\n\nThe `Trainer` comes later.",
        CELL.replace("}\n", "}\n:tags: [remove-input]\n", 1),
        CELL.replace("training.trainer", "model.gpt").replace("Trainer", "GPT"),
    ],
)
def test_a_name_that_is_said_hidden_or_shown_is_fine(
    plant: Plant, text: str
) -> None:
    assert plant("terms", GPT, appended(text), whole=True) == []


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"no such term": {"in your head": "the reader's own"}}, "glossary"),
        ({"head": {"in your head": ""}}, "needs a reason"),
        ({"head": {"on my head": "the writer's own"}}, "no page says"),
        (
            {"Muon": {"book/start/idea.md": "no such word there"}},
            "no Muon in book/start/idea.md",
        ),
    ],
)
def test_an_exception_has_a_use_and_a_reason(
    monkeypatch: pytest.MonkeyPatch,
    group: dict[str, dict[str, str]],
    message: str,
) -> None:
    monkeypatch.setattr(terms, "exceptions", lambda: group)
    book = Book()
    found = terms.stale(book, terms.glossary(book))
    assert len(found) == 1
    assert message in found[0]
