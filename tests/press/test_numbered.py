"""References to numbered things: pages are read once, and as Sphinx does."""

from types import SimpleNamespace

from docutils import nodes
from sphinx.domains.std import StandardDomain

from press.extensions.numbered import PAGES, NumberedDomain, Reader


class Env:
    """Stand-in for Sphinx's environment: it tells which pages it reads."""

    config = SimpleNamespace(numfig=True)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_doctree(self, name: str) -> SimpleNamespace:
        self.asked.append(name)
        return SimpleNamespace(ids={"one": nodes.figure(), "two": 2})


def test_a_page_is_read_once() -> None:
    env = Env()
    reader = Reader(env)
    assert reader.config is Env.config
    first = reader.get_doctree("a")
    assert reader.get_doctree("a") is first
    assert env.asked == ["a"]


def test_the_last_pages_stay_in_memory_and_no_others() -> None:
    env = Env()
    reader = Reader(env)
    pages = [str(number) for number in range(PAGES + 1)]
    for name in [*pages, pages[-1], pages[0]]:
        reader.get_doctree(name)
    assert env.asked == [*pages, pages[0]]


def test_references_are_resolved_by_sphinx_itself() -> None:
    """Each finds what it did; the page is read for the first one only."""
    env = Env()
    domain = NumberedDomain.__new__(NumberedDomain)
    domain.data = {"labels": {}, "anonlabels": {"fig": ("a", "one")}}
    kinds: list[type] = []
    domain.get_enumerable_node_type = (  # type: ignore[method-assign]
        lambda node: kinds.append(type(node))
    )
    for _ in range(3):
        found = domain._resolve_numref_xref(env, "b", None, "", "fig", {}, {})
        assert found is None
    assert kinds == [nodes.figure] * 3
    assert env.asked == ["a"]
    assert issubclass(NumberedDomain, StandardDomain)
    assert domain._resolve_numref_xref(env, "b", None, "", "no", {}, {}) is None
