"""Commands: what is printed can be typed, and the sources have one address."""

from collections.abc import Callable
from pathlib import Path

import pytest

from press import edition
from press.extensions import repository
from press.gates import Book
from press.gates.commands import placeholders

Plant = Callable[..., list[str]]
Written = Callable[..., list[str]]
OURS = edition.repository()
OTHER = "https://github.com/somebody/else"

STANDS_FOR = {
    "a word": ("git clone REPOSITORY llm", "REPOSITORY"),
    "an option's value": ("python -m scaffold --out DIR", "DIR"),
    "a setting's value": ("make page PAGE=NAME", "NAME"),
    "a part of a path": ("make page PAGE=book/PACKAGE/a.md", "PACKAGE"),
    "in angles": ("python -m scratchlm sample --run <folder>", "<folder>"),
    "in brackets": ("python -m records [name]", "[name]"),
    "dots": ("make page PAGE=…", "…"),
    "three dots": ("pip install ...", "..."),
    "a mark that nobody fills in": ("git clone {{ address }}", "{{ address }}"),
    "a path": ("cd path/to/llm", "path/to"),
    "yours": ("cd your-folder", "your-folder"),
}


@pytest.mark.parametrize("kind", STANDS_FOR)
def test_a_placeholder_is_caught(kind: str, written: Written) -> None:
    command, word = STANDS_FOR[kind]
    found = written("commands", f"```sh\nmake setup\n{command}\n```")
    assert any(p.endswith(f": {word} cannot be typed") for p in found), found
    line = len(Book().read("book/model/attention.md").splitlines()) + 4
    assert all(f"attention.md:{line}: " in problem for problem in found)


def test_one_in_a_sentence_is_caught(written: Written) -> None:
    [problem] = written("commands", "Run `python -m scaffold --out DIR` now.")
    assert "DIR cannot be typed" in problem


@pytest.mark.parametrize(
    "command",
    [
        "TORCH=cpu make pdf",
        "make PYTHON=python3.12 setup",
        "python -m scaffold --track practitioner --out my-model",
        'python -m scratchlm sample --prompt "It was a cold Tuesday"',
        "source .venv/bin/activate  # in each NEW terminal",
        "git clone {{ repository }} llm && cd llm",
        "less README.md",
    ],
)
def test_what_can_be_typed_is_fine(command: str, written: Written) -> None:
    assert not written("commands", f"```sh\n{command}\n```")


def test_a_page_writes_no_address_of_its_own(written: Written) -> None:
    for address in (OTHER, OURS):
        [problem] = written("commands", f"```sh\ngit clone {address}\n```")
        assert problem.endswith(f"clones {address}, not {edition.MARK}")


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff"])
def test_what_is_not_built_has_the_same_address(
    name: str, plant: Plant
) -> None:
    assert OURS in Book().read(name)
    [problem] = plant("commands", name, lambda old: old.replace(OURS, OTHER))
    assert problem.startswith(f"{name}:")
    assert OURS in problem


def test_the_setting_cannot_be_missing(plant: Plant) -> None:
    [problem] = plant(
        "commands", "pyproject.toml", lambda old: old.replace("Repository", "R")
    )
    assert problem == "pyproject.toml: [project.urls] has no Repository"


def test_the_setting_is_what_readers_see(tmp_path: Path) -> None:
    text = f'[project.urls]\nRepository = "{OTHER}"\n'
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    assert edition.repository(tmp_path) == OTHER

    class App:
        """As much of Sphinx as is needed."""

        class config:  # noqa: N801
            repository = OTHER
            root_doc = "index"

    source = ["```sh\ngit clone {{ repository }} llm\n```"]
    repository.fill_in(App, "page", source)  # type: ignore[arg-type]
    assert source == [f"```sh\ngit clone {OTHER} llm\n```"]


def test_a_name_in_capitals_may_be_a_file() -> None:
    assert not list(placeholders("less README.md LICENSE"))
