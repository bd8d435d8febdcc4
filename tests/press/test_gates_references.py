"""Literature and addresses: cited, whole, and the same everywhere."""

from collections.abc import Callable

import pytest

from press.gates import Book
from press.gates.references import all_addresses, ill_formed

Plant = Callable[..., list[str]]
Written = Callable[..., list[str]]
BIB = "book/refs/attention.bib"


def append(text: str) -> Callable[[str], str]:
    """Write more at the end."""
    return lambda old: f"{old}\n{text}\n"


def test_an_entry_that_nobody_cites_is_caught(plant: Plant) -> None:
    entry = "@misc{nobody2020,\n  title = {Nothing},\n  year = {2020}\n}"
    [problem] = plant("bibliography", BIB, append(entry), whole=True)
    assert problem == f"{BIB}: nobody cites nobody2020"


def test_a_mention_in_a_comment_cites_nothing(plant: Plant) -> None:
    entry = "@misc{nobody2020,\n  title = {Nothing},\n  year = {2020}\n}"
    found = plant(
        "bibliography",
        "book/refs/extra.bib",
        entry,
        whole=True,
    )
    assert found == ["book/refs/extra.bib: nobody cites nobody2020"]


def test_a_key_with_two_texts_is_caught(plant: Plant) -> None:
    entry = "@misc{vaswani2017attention,\n  title = {Other}\n}"
    name = "book/refs/extra.bib"
    [problem] = plant("bibliography", name, entry, whole=True)
    assert "vaswani2017attention reads otherwise in" in problem


def test_an_entry_that_cannot_be_read_is_caught(plant: Plant) -> None:
    name = "book/refs/extra.bib"
    [problem] = plant("bibliography", name, "@misc{a, title = {b", whole=True)
    assert problem.startswith(f"{name}: ")


def test_a_citation_without_an_entry_is_caught(plant: Plant) -> None:
    found = plant(
        "bibliography",
        "book/model/attention.md",
        append("As they say {cite}`nobody2020`."),
        whole=True,
    )
    assert len(found) == 1
    assert "no entry nobody2020" in found[0]


@pytest.mark.parametrize(
    "address",
    [
        "http://arxiv.org/abs/1706.03762",
        "ftp://a.org/b",
        "https://arxiv",
        "https:///abs",
        "https://arxiv..org/abs",
        "https://example.com/a",
        "https://localhost/a",
        "https://127.0.0.1/a",
        "https://arxiv.org/abs/1706.03762.",
        "https://a.org/b(c",
        "www.a.org",
        "chapter.html",
    ],
)
def test_an_address_that_leads_nowhere_is_caught(
    address: str, written: Written
) -> None:
    assert ill_formed(address)
    [problem] = written("addresses", f"Read [this](<{address}>) now.")
    assert address.partition(":")[0] in problem


@pytest.mark.parametrize(
    "address",
    ["https://arxiv.org/abs/1706.03762", "https://en.wikipedia.org/wiki/A_(B)"],
)
def test_an_address_that_is_whole_is_fine(
    address: str, written: Written
) -> None:
    assert written("addresses", f"Read [this](<{address}>) now.") == []


def test_addresses_are_looked_for_in_code_and_literature(plant: Plant) -> None:
    change = append('ADDRESS = "http://a.org/text.txt"')
    [problem] = plant("addresses", "src/scratchlm/text/bpe.py", change)
    assert "does not begin with https" in problem
    entry = "@misc{a2020,\n  title = {A},\n  url = {http://a.org}\n}"
    [problem] = plant("addresses", "book/refs/extra.bib", entry)
    assert problem.startswith("book/refs/extra.bib: a2020: http://a.org")


@pytest.mark.parametrize(
    "name", ["README.md", "roadmap.yml", "scaffold/templates/README.md.j2"]
)
def test_addresses_are_looked_for_beside_the_pages(
    name: str, plant: Plant
) -> None:
    change = append("# see http://a.org/b, and more")
    [problem] = plant("addresses", name, change, whole=True)
    assert problem.partition(": ")[2] == (
        "http://a.org/b does not begin with https"
    )


def test_an_address_in_the_text_is_looked_at(written: Written) -> None:
    [problem] = written("addresses", "Read http://a.org/b, and more.")
    assert "http://a.org/b does not begin with https" in problem
    text = "[there][a], and a note.[^n]\n\n[a]: http://a.org/x\n\n"
    found = written("addresses", text + "[^n]: See <file:///etc/passwd>.")
    assert len(found) == 2


@pytest.mark.judge
def test_every_address_is_there() -> None:
    """Asked once each; left out where there is no internet."""
    import requests

    found: dict[str, str] = {}
    for where, address in all_addresses(Book()):
        found.setdefault(address, where)
    assert len(found) > 10
    try:
        requests.head("https://arxiv.org", timeout=10)
    except requests.RequestException:
        pytest.skip("no internet here")
    dead = []
    for address, where in found.items():
        answer = requests.get(address, timeout=30, stream=True)
        if answer.status_code in (404, 410):
            dead.append(f"{where}: {address}")
    assert dead == []
