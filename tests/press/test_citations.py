"""Works are named by author and year, each by a name of its own."""

from importlib.metadata import entry_points
from pathlib import Path

import pybtex.plugin
import pytest
from pybtex.database import Entry, Person

from press.extensions import citations
from press.files import ROOT


def work(*authors: str, year: str = "2017", **fields: str) -> Entry:
    people = [Person(author) for author in authors]
    persons = {"author": people} if people else {}
    return Entry("misc", {"year": year, **fields}, persons=persons)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (work("Shannon, Claude E."), "Shannon"),
        (work("Milakov, Maxim", "Gimelshein, Natalia"), None),
        (work("Vaswani, A.", "Shazeer, N.", "Parmar, N."), "Vaswani et al."),
        (work("Brown, Tom", "others"), "Brown et al."),
        (work("van der Maaten, Laurens"), "van der Maaten"),
        (work("{PyTorch contributors}"), "PyTorch contributors"),
        (work(organization="Unicode"), "Unicode"),
    ],
)
def test_authors_are_named_as_readers_name_them(
    entry: Entry, name: str | None
) -> None:
    assert citations.who(entry) == (name or "Milakov and Gimelshein")


def test_two_works_of_a_year_get_letters() -> None:
    works = [work("Su, J."), work("Su, J."), work("Su, J.", year="2021")]
    assert list(citations.Labels().format_labels(works)) == [
        "Su, 2017a",
        "Su, 2017b",
        "Su, 2021",
    ]


@pytest.mark.parametrize("name", ["docutils", "plaintext"])
def test_installed_packages_are_not_searched_for_each_citation(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be found there is known already."""
    group = "pybtex.backends"
    [installed] = entry_points(group=group, name=name)
    monkeypatch.setattr(pybtex.plugin, "_RUNTIME_PLUGINS", {})
    citations.setup(None)  # type: ignore[arg-type]
    monkeypatch.setattr(pybtex.plugin, "entry_points", None)
    assert pybtex.plugin.find_plugin(group, name) is installed.load()


@pytest.mark.parametrize("path", sorted((ROOT / "book/refs").glob("*.bib")))
def test_no_title_holds_a_formula(path: Path) -> None:
    """Nothing sets it: O(n²) would be printed as $o(n^2)$."""
    assert "$" not in path.read_text(encoding="utf-8")
