"""``{errata}``: the list of ``book/errata.yml``, or that it is empty."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press.errata import FILE, ErrataError, Erratum, load
from press.extensions.boxes import reference
from press.identity import book_roadmap
from press.roadmap import load as load_roadmap
from press.roadmap import of_edition


class Errata(SphinxDirective):
    """Directive: each mistake with its place, what stood there, what is so."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILE))
        try:
            entries = load()
        except ErrataError as error:
            raise self.error(str(error)) from error
        there = of_edition(book_roadmap(), self.config.book_track)
        gone = set(load_roadmap().by_id) - {topic.id for topic in there}
        entries = [entry for entry in entries if entry.place not in gone]
        if not entries:
            return [nodes.paragraph("", "No mistake of fact is known.")]
        found = nodes.definition_list()
        for entry in entries:
            found += self.item(entry)
        self.set_source_info(found)
        return [found]

    def item(self, entry: Erratum) -> nodes.definition_list_item:
        """An entry of the list."""
        day = f"{entry.date.day} {entry.date:%B %Y}"
        place = nodes.term("", "", reference("ref", entry.place, ""))
        words = nodes.definition()
        for label, text in (
            ("It said:", entry.stood),
            ("Right is:", entry.right),
        ):
            line = nodes.paragraph("", "", nodes.strong("", label))
            line += [nodes.Text(" "), nodes.inline(text, text)]
            words += line
        known = f"Version {entry.edition}, mended on {day}, "
        words += nodes.paragraph("", f"{known}reported by {entry.reported}.")
        return nodes.definition_list_item("", place, words)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("errata", Errata)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
