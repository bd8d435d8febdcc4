"""Under a page's title, or in its card: its cells as script and notebook.

The site links them, and the PDF has them attached. An e-reader can run
neither, so the EPUB does not mention them.
"""

from docutils import nodes
from sphinx.application import Sphinx

from press.exports import FOLDER, export, names
from press.extensions.boxes import box, download
from press.files import ROOT

RUNS_NOTHING = {"epub"}
# Two long names and a few words make no line of even length.
OPEN, CLOSE = r"\begingroup\raggedright", r"\par\endgroup"


def write(app: Sphinx) -> None:
    """Make the files before the pages that offer them are read."""
    app.exports = export()  # type: ignore[attr-defined]


def offer(app: Sphinx, document: nodes.document) -> None:
    """Add the links to a page that has printed cells."""
    page = f"{app.env.docname}.md"
    if app.builder.name in RUNS_NOTHING:
        return
    if page not in app.exports:  # type: ignore[attr-defined]
        return
    line = nodes.paragraph("", "", nodes.Text("Cells to run: "))
    for i, name in enumerate(names(page)):
        if i:
            line += nodes.Text(", ")
        path = (FOLDER / name).relative_to(ROOT).as_posix()
        line += download(app.env.docname, path, name)
    line += nodes.Text(".")
    cards = [b for b in document.findall(box) if b["kind"] == "topic"]
    if cards:
        cards[0].insert(len(cards[0]) - 1, line)
        return
    title = next(document.findall(nodes.title))
    place = title.parent.index(title) + 1
    title.parent[place:place] = [in_tex(OPEN), line, in_tex(CLOSE)]


def in_tex(text: str) -> nodes.raw:
    """What only LaTeX sees."""
    return nodes.raw("", text, format="latex")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    # Before Sphinx collects what is to be downloaded.
    app.connect("doctree-read", offer, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
