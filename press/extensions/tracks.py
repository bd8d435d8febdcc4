"""``{tracks}``: for whom a section is; and the editions of single tracks.

In the whole book the directive says it in small print, and gives the section a
class by which the site can fold it. In an edition for one track what is not
for it is cut before the page is parsed (see `press.tracks`); a reference to
what is not there is a warning, with which the build fails. In a course it
becomes the title of what the whole book has, with a small circle.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from press.identity import book_roadmap
from press.roadmap import TRACKS, of_edition
from press.tracks import (
    CUT,
    END,
    asides,
    cut,
    labels,
    said,
    shorter,
    titles,
    unmarked,
)

LOG = logging.getLogger(__name__)
GLOSSARY = "book/appendix/glossary"
ELSEWHERE = "°"  # after what only the whole book has
KINDS = {"fig": "a figure", "lst": "a listing", "ex": "an exercise"}


class for_tracks(nodes.General, nodes.Element):
    """Below a heading: the tracks for which its section is."""


class Tracks(SphinxDirective):
    """Directive: the tracks for which the section is that it begins."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"quiet": directives.flag}  # the heading says it itself

    def run(self) -> list[nodes.Node]:
        names = self.arguments[0].split()
        if self.config.book_track:
            return []
        note = for_tracks(tracks=names, quiet="quiet" in self.options)
        words = "For " + " and ".join(f"{name}s" for name in names)
        note += nodes.paragraph("", words)
        self.set_source_info(note)
        return [note]


def name_sections(app: Sphinx, document: nodes.document) -> None:
    """Give the sections that are for some tracks their classes."""
    for note in list(document.findall(for_tracks)):
        assert note.parent is not None
        note.parent["classes"] += [f"for-{name}" for name in note["tracks"]]
        if note["quiet"]:
            note.parent.remove(note)


@lru_cache(maxsize=1)
def edition_of(paths: frozenset[str], track: str) -> tuple[set[str], str]:
    """The labels that an edition has, on all its pages, and what they say."""
    texts = (Path(path).read_text(encoding="utf-8") for path in sorted(paths))
    pages = [cut(text, track) for text in texts]
    there = {label for page in pages for label in labels(page)}
    return there, " ".join(map(said, pages))


def is_whole(config: Any) -> bool:
    """Whether the book is made with all that it has."""
    return not config.book_track and not config.book_course


def cut_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Leave out what is not for the track whose edition is made."""
    track = app.config.book_track
    if is_whole(app.config):
        source[0] = unmarked(source[0])
        return
    others = app.env.found_docs - {GLOSSARY}
    paths = frozenset(map(app.env.doc2path, others))
    there, words = edition_of(paths, track)
    if docname == GLOSSARY:
        source[0] = shorter(source[0], there, words)
    source[0] = asides(cut(source[0], track), there)


class RemoveCells(SphinxTransform):
    """Take away what the cells of left-out sections show."""

    default_priority = 5  # before anything is numbered or collected

    def apply(self, **kwargs: Any) -> None:
        if not self.config.book_track:
            return
        comments = list(self.document.findall(nodes.comment))
        for begin in (x for x in comments if x.astext().strip() == CUT):
            parent = begin.parent
            while True:
                node = parent[parent.index(begin) + 1]
                forget(self.document, node)
                parent.remove(node)
                if isinstance(node, nodes.comment) and node.astext() == END:
                    break
            parent.remove(begin)


def forget(document: nodes.document, node: nodes.Node) -> None:
    """No name of what is removed may be referred to."""
    for part in node.findall(nodes.Element):
        for name in part["names"]:
            document.nametypes.pop(name, None)
            document.nameids.pop(name, None)
        for identity in part["ids"]:
            document.ids.pop(identity, None)


class RemoveEmpty(SphinxTransform):
    """Take away sections from which a course has taken all that they had."""

    default_priority = 6

    def apply(self, **kwargs: Any) -> None:
        if not self.config.book_course:
            return
        for section in list(self.document.findall(nodes.section)):
            parent = section.parent
            kinds = (nodes.title, nodes.raw)  # and nothing that is read
            empty = all(isinstance(x, kinds) for x in section.children)
            if not empty or not isinstance(parent, nodes.section):
                continue
            while section in parent.children:
                before = parent[parent.index(section) - 1]
                label = isinstance(before, nodes.target)
                gone = before if label else section
                forget(self.document, gone)
                parent.remove(gone)


def elsewhere(
    app: Sphinx, env: Any, node: Any, content: nodes.TextElement
) -> nodes.Node | None:
    """What stands for a reference to something that this edition lacks."""
    if is_whole(app.config):
        return None
    kind, target = node["reftype"], node["reftarget"]
    if kind == "term":
        return nodes.inline("", content.astext())
    sends = "equationnote" not in node.parent["classes"]  # see drop_notes
    if app.config.book_track and not app.config.book_course and sends:
        LOG.warning(
            "the %ss' edition lacks %s, to which this sends its readers: put "
            "the place in brackets, or mark the passage (see press/tracks.py)",
            app.config.book_track,
            target,
            location=node,
        )
    if kind == "ref" and (node["refexplicit"] or target in titles()):
        words = content.astext() if node["refexplicit"] else titles()[target]
        return nodes.emphasis("", words + ELSEWHERE)
    if kind == "numref" and target.partition("-")[0] in KINDS:
        words = KINDS[target.partition("-")[0]]
    elif kind == "eq":
        words = "an equation"
    else:
        return None
    return nodes.inline("", words + ELSEWHERE, classes=["elsewhere"])


def drop_notes(app: Sphinx, document: nodes.document, docname: str) -> None:
    """A note on a listing or an equation that is not there says nothing."""
    for note in list(document.findall(nodes.paragraph)):
        if "equation-note" in note["classes"] and any(
            "elsewhere" in part["classes"]
            for part in note.findall(nodes.inline)
        ):
            note.parent.remove(note)


def tell_site(app: Sphinx) -> None:
    """The switch of the site, and what each track leaves out."""
    if app.builder.name != "html":
        return
    left = {
        track: [
            topic.files["chapter"].removesuffix(".md")
            for topic in book_roadmap().topics
            if topic not in of_edition(book_roadmap(), track)
        ]
        for track in TRACKS
    }
    words = f"window.bookLeftOut = {json.dumps(left)};"
    app.add_js_file(None, body=words)
    app.add_js_file("tracks.js", loading_method="defer")


def visit_html(self: Any, node: for_tracks) -> None:
    self.body.append(self.starttag(node, "div", CLASS="for-tracks"))


def depart_html(self: Any, node: for_tracks) -> None:
    self.body.append("</div>\n")


def visit_latex(self: Any, node: for_tracks) -> None:
    self.body.append("\n\\booktracks{")


def depart_latex(self: Any, node: for_tracks) -> None:
    self.body.append("}\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("book_track", "", "env")
    app.add_config_value("book_course", [], "env")
    app.add_node(
        for_tracks,
        html=(visit_html, depart_html),
        latex=(visit_latex, depart_latex),
    )
    app.add_directive("tracks", Tracks)
    app.add_transform(RemoveCells)
    app.add_transform(RemoveEmpty)
    # After a page has got its digest, and the cell that tests its claims.
    app.connect("builder-inited", tell_site)
    app.connect("source-read", cut_page, priority=900)
    app.connect("doctree-read", name_sections)
    app.connect("missing-reference", elsewhere)
    app.connect("doctree-resolved", drop_notes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
