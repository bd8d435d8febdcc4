"""Citations by author and year, in round brackets.

`{cite:p}` gives (Vaswani et al., 2017), `{cite:t}` Vaswani et al. (2017).
The list of works is sorted by author, and each has the same name there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase

import pybtex_docutils
from pybtex.backends import plaintext
from pybtex.database import Entry, Person
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting.author_year_title import SortingStyle
from sphinx.application import Sphinx
from sphinxcontrib.bibtex import plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import (
    AuthorYearReferenceStyle,
)


def round_brackets() -> BracketStyle:
    """For all forms of a citation."""
    return BracketStyle(left="(", right=")", sep="; ")


@dataclass
class Referencing(AuthorYearReferenceStyle):
    """Author and year in round brackets."""

    bracket_textual: BracketStyle = field(default_factory=round_brackets)
    bracket_parenthetical: BracketStyle = field(default_factory=round_brackets)


def family(person: Person) -> str:
    """The last name of an author, with what belongs to it."""
    names = [*person.prelast_names, *person.last_names]
    return " ".join(names).replace("{", "").replace("}", "")


def who(entry: Entry) -> str:
    """The authors as a citation names them."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [family(person) for person in people]
    if not names:
        return str(entry.fields.get("organization", entry.key))
    if names[-1].lower() == "others" or len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)


class Labels(BaseLabelStyle):
    """Author and year; a letter where two works would have one name."""

    def format_labels(self, entries: Iterable[Entry]) -> Iterator[str]:
        works = [f"{who(e)}, {e.fields.get('year', 'n. d.')}" for e in entries]
        total, seen = Counter(works), Counter[str]()
        for work in works:
            seen[work] += 1
            letter = ascii_lowercase[seen[work] - 1] if total[work] > 1 else ""
            yield work + letter


class Style(PlainStyle):
    """pybtex's plain style, by author and year."""

    default_label_style = Labels
    default_sorting_style = SortingStyle


def setup(app: Sphinx) -> dict[str, bool]:
    """Make both known to sphinxcontrib-bibtex by name.

    So are two of pybtex's own: whom it knows it does not look for among all
    installed packages, which it would do for each citation.
    """
    register_plugin("pybtex.style.formatting", "book", Style)
    backends = {"docutils": pybtex_docutils, "plaintext": plaintext}
    for name, module in backends.items():
        register_plugin("pybtex.backends", name, module.Backend, force=True)
    plugin.register_plugin(
        "sphinxcontrib.bibtex.style.referencing", "book", Referencing
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
