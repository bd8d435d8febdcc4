"""``{listing}``: show a definition of the sources by its name.

The caption says where the lines stand. The build fails where a symbol is
missing; `make test` fails where no test runs a line that is shown.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from press.files import ROOT
from press.sources import Snippet, find, split_symbol

LANGUAGES = {".py": "python", ".js": "javascript"}


class source_link(nodes.inline):
    """The file's name in a caption: a link where there is a page for it."""


class Listing(SphinxDirective):
    """Directive: the lines of one symbol, numbered, with their caption."""

    required_arguments = 1
    option_spec = {
        "name": directives.unchanged,
        "caption": directives.unchanged_required,
        "part": lambda word: directives.choice(word, ("head", "whole")),
    }

    def run(self) -> list[nodes.Node]:
        symbol = self.arguments[0]
        try:
            snippet = find(symbol, self.options.get("part", ""))
        except LookupError as error:
            raise self.error(f"listing: {error}") from error
        env: Any = self.env
        env.note_dependency(str(snippet.path))
        # MyST only knows its own page to be changed; see freshness.py.
        shown = getattr(env, "listing_files", {})
        shown.setdefault(env.docname, set()).add(snippet.file)
        env.listing_files = shown
        block = nodes.literal_block(snippet.text, snippet.text)
        block["language"] = LANGUAGES[snippet.path.suffix]
        block["linenos"] = True
        block["highlight_args"] = {"linenostart": 1}
        wrapper = nodes.container(
            "", literal_block=True, classes=["literal-block-wrapper"]
        )
        wrapper["symbol"] = symbol  # see equations.py
        wrapper += self.caption(snippet)
        wrapper += block
        self.set_source_info(wrapper)
        self.set_source_info(block)
        self.add_name(wrapper)
        entries = self.index(symbol) if snippet.path.suffix == ".py" else []
        return [*entries, wrapper]

    def index(self, symbol: str) -> list[nodes.Node]:
        """The entry of a definition of the library in the index."""
        names = split_symbol(symbol)[1]
        if not names or not symbol.startswith("scratchlm."):
            return []
        text = ".".join(names)
        if names[-1][0].isupper():
            text += "" if text.isupper() else " (class)"
        else:
            text += "()"
        place = f"index-{self.env.new_serialno('index')}"
        entry = ("single", text, place, "", None)
        return [
            addnodes.index(entries=[entry]),
            nodes.target("", "", ids=[place]),
        ]

    def caption(self, snippet: Snippet) -> nodes.caption:
        """What the code does; then its file and lines."""
        caption = nodes.caption()
        if words := self.options.get("caption"):
            parts, messages = self.state.inline_text(words, self.lineno)
            caption += [*parts, *messages, nodes.Text(" ")]
        link = source_link(file=snippet.file, line=snippet.first)
        short = snippet.file.removeprefix("src/")
        link += nodes.literal(short, short)
        caption += link
        text = f", lines {snippet.first}–{snippet.last}"
        if snippet.first == snippet.last:
            text = f", line {snippet.first}"
        caption += nodes.Text(text)
        return caption


def visit_html(self: Any, node: source_link) -> None:
    """A link to the page of the source, at the line."""
    app = self.builder.app
    pages: set[str] = getattr(app, "source_pages", set())
    pages.add(node["file"])
    app.source_pages = pages
    if self.builder.name != "html":
        self.body.append("<span>")
        node["closing"] = "</span>"
        return
    target = page_name(node["file"])
    uri = self.builder.get_relative_uri(self.builder.current_docname, target)
    self.body.append(f'<a href="{uri}#L{node["line"]}">')
    node["closing"] = "</a>"


def depart_html(self: Any, node: source_link) -> None:
    self.body.append(node["closing"])


def nothing(self: Any, node: source_link) -> None:
    """Print has no page of the source; the name stands alone."""


def page_name(file: str) -> str:
    """Name of the HTML page that shows the whole of a source file."""
    return "source/" + file.removesuffix(".py")


def source_pages(app: Sphinx) -> Any:
    """A page for each source file that a listing was taken from."""
    files = set().union(*getattr(app.env, "listing_files", {}).values())
    for file in sorted(files):
        text = (ROOT / file).read_text(encoding="utf-8")
        form = HtmlFormatter(linenos="table", lineanchors="L")
        body = highlight(text, get_lexer_for_filename(file), form)
        body = re.sub(r'<a id="L-(\d+)" name="L-\d+"', r'<a id="L\1"', body)
        body = f"<h1><code>{file}</code></h1>\n{body}"
        yield page_name(file), {"title": file, "body": body}, "page.html"


def purge(app: Sphinx, env: Any, docname: str) -> None:
    getattr(env, "listing_files", {}).pop(docname, None)


def merge(app: Sphinx, env: Any, names: Any, other: Any) -> None:
    mine = getattr(env, "listing_files", {})
    mine.update(getattr(other, "listing_files", {}))
    env.listing_files = mine


def pages_if_html(app: Sphinx) -> Any:
    return source_pages(app) if app.builder.name == "html" else []


def setup(app: Sphinx) -> dict[str, bool]:
    if not (ROOT / "src" / "scratchlm").is_dir():
        raise ExtensionError(f"no sources below {Path(ROOT)}")
    app.add_node(
        source_link,
        html=(visit_html, depart_html),
        latex=(nothing, nothing),
        text=(nothing, nothing),
    )
    app.add_directive("listing", Listing)
    app.connect("html-collect-pages", pages_if_html)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
