"""A reference to a numbered thing reads the page that has it, once.

Sphinx reads a whole page from its cache to learn what kind of thing a
reference names, and does so for each reference anew. The last pages that it
asked for stay in memory here: most references lead to their own chapter.
"""

from functools import lru_cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.std import StandardDomain

PAGES = 16  # in memory at once; a chapter's takes some megabytes


class Reader:
    """An environment of Sphinx whose pages are for reading only."""

    def __init__(self, env: Any) -> None:
        """Pages are read when they are asked for."""
        self.env = env
        self.get_doctree = lru_cache(maxsize=PAGES)(env.get_doctree)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the environment's own."""
        return getattr(self.env, name)


class NumberedDomain(StandardDomain):
    """Sphinx's own names and references, its pages read once."""

    reader: Reader | None = None

    def _resolve_numref_xref(
        self, env: Any, *reference: Any
    ) -> nodes.Element | None:
        """Resolve a `numref`; called once all pages are read."""
        if self.reader is None:
            self.reader = Reader(env)
        read: Any = self.reader
        return super()._resolve_numref_xref(read, *reference)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_domain(NumberedDomain, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
