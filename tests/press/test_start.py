"""The opening pages: their commands are real, and so is what they list."""

import re
import shlex
from pathlib import Path

import pytest

from check.commands import main as check
from press.gates import Book
from press.gates.commands import typed
from press.gates.pages import Page
from scratchlm.cli.app import make_app, parse
from scratchlm.cli.doctor import findings
from scratchlm.cli.errors import UserError

BOOK = Book()
PAGES = [f"book/start/{name}.md" for name in ("setup", "first")]
STARTS = "python -m scratchlm "
# as the page types them: into a cell that shows them, and what they print
SHOWN = re.compile(r"\brun\(f?(['\"])(.*?)\1\)$", re.M)


def commands(page: Page) -> set[str]:
    """The words after `python -m scratchlm` of each command of a page."""
    written = {text.strip() for _, text in typed(page, inline=True)}
    found = {x.removeprefix(STARTS) for x in written if x.startswith(STARTS)}
    beginning = re.search(r"^BEGINNING = '(.*)'$", page.text, re.M)
    for block in page.named("code-cell"):
        for _, words in SHOWN.findall(block.body):
            if beginning:
                words = words.replace("{BEGINNING}", beginning[1])
            found.add(words)
    return found


def test_there_are_commands_to_look_at() -> None:
    assert "doctor" in commands(BOOK.pages[PAGES[0]])
    shown = commands(BOOK.pages[PAGES[1]])
    cold = '--prompt "It was a cold Tuesday"'
    assert f"sample --temperature 0.3 --tokens 60 --seed 4 {cold}" in shown
    assert {"train", "train --resume"} <= shown


def refused(words: str) -> bool:
    """Whether the command line does not know what the words ask for.

    A run that it looks for may be missing where the tests run.
    """
    try:
        parse(make_app(), shlex.split(words))
    except UserError as error:
        return "holds no run" not in str(error)
    return False


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_one(name: str) -> None:
    wrong = [x for x in commands(BOOK.pages[name]) if refused(x)]
    assert wrong == []
    assert refused("sample --tempreature 1")


def test_the_doctor_says_what_the_page_lists() -> None:
    text = BOOK.read(PAGES[0])
    start = text.index("prints a line for each of these")
    listed = re.findall(r"^- `(\w+)`:", text[start:], re.M)
    assert listed == list(findings(Path("runs"), 1.0))


def test_the_text_that_is_fetched_has_the_name_on_the_page() -> None:
    from scratchlm.text.corpus import TEXTS

    assert f"`{TEXTS['shakespeare'].file}`" in BOOK.read(PAGES[0])


def test_the_checks_that_the_page_calls_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "python -m check attention" in BOOK.read(PAGES[1])
    assert check(["list"]) == 0
    assert "attention" in capsys.readouterr().out


def test_prompts_of_the_town_begin_as_its_stories_do() -> None:
    from scratchlm.text.toytown import write_corpus

    stories = [story.text for story in write_corpus(1_000_000)]
    text = BOOK.read(PAGES[1])
    for prompt in ("It was a cold Tuesday", "Early on Monday"):
        assert prompt in text
        assert any(story.startswith(prompt) for story in stories)
    for begun in ("The clock struck four", "There was no school on Friday"):
        assert begun in " ".join(text.split())
        assert any(story.startswith(begun) for story in stories)
    assert all("France" not in story for story in stories)
    assert all("?" in story.splitlines()[-1] for story in stories)
