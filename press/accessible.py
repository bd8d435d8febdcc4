"""The large-print edition: one PDF with tags, made from the e-reader's pages.

Its letters are large and plain, its lines short and ragged, its contrast
high. Tags say what is a heading, a list, a table or a figure, and in which
order to read; figures have their alternative texts, and formulas are read
out in words (`press.speech`). WeasyPrint sets it, as PDF/UA-1. The source
is ``book.epub``, which has the whole book without scripts.
"""

import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urldefrag

import matplotlib
import pikepdf
import weasyprint
import ziamath
from lxml import etree
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher

from press.edition import Edition
from press.epub import OPF, resolve
from press.files import ROOT
from press.identity import identity
from press.pdf import describe, forget_identity, rights
from press.speech import MATHML, reading

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"
STYLE = ROOT / "press" / "large" / "large.css"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # DejaVu
VARIANT = "pdf/ua-1"
CONTENTS, INDEX = "nav.xhtml", "genindex.xhtml"
FORMULA = 24  # pixels of a formula's letters, before it is scaled


class TypesetError(RuntimeError):
    """The edition cannot be set; the message says what is wrong."""


def spine(folder: Path) -> list[str]:
    """The pages of an unpacked e-book in the order of reading."""
    package = etree.parse(folder / "content.opf").getroot()
    places = {
        item.get("id"): item.get("href")
        for item in package.iter(f"{{{OPF}}}item")
    }
    order = [item.get("idref") for item in package.iter(f"{{{OPF}}}itemref")]
    return [places[name] for name in order]


def anchor(page: str, fragment: str = "") -> str:
    """The name that a place of a page has in the one document.

    >>> anchor("book/model/gpt.xhtml", "size")
    'book-model-gpt--size'
    """
    name = page.removesuffix(".xhtml").replace("/", "-")
    return f"{name}--{fragment}" if fragment else name


def target(link: str, page: str, pages: set[str]) -> str:
    """Where a link leads in the one document; ValueError if nowhere."""
    if "://" in link or link.startswith("mailto:"):
        return link
    path, fragment = urldefrag(link)
    there = resolve(PurePosixPath(page).parent / path) if path else page
    if there not in pages:
        raise ValueError(f"{page}: {link} leads to no page of the book")
    return f"#{anchor(there, fragment)}"


def name_drawings(main: etree._Element, page: str) -> None:
    """Give each drawing its words, where the tags look for them.

    Its links, which a PDF's drawing cannot have, become a list below it.
    Raises ValueError for a drawing that has no words.
    """
    for drawing in list(main.iter(f"{SVG}svg")):
        if not drawing.get("aria-label"):
            raise ValueError(f"{page}: a drawing has no aria-label")
        title = etree.Element(f"{SVG}title")
        title.text = drawing.get("aria-label")
        drawing.insert(0, title)
        links = etree.Element(f"{XHTML}ul", {"class": "drawn"})
        links.tail, drawing.tail = drawing.tail, None
        for link in drawing.iter(f"{SVG}a"):
            item = etree.SubElement(links, f"{XHTML}li")
            place = link.get(f"{XLINK}href") or link.get("href") or ""
            name = link.get("aria-label") or "".join(link.itertext())
            etree.SubElement(item, f"{XHTML}a", href=place).text = name
        if len(links):
            drawing.addnext(links)


def number_pages(main: etree._Element) -> None:
    """After each link into the book, a place for the page's number."""
    for link in list(main.iter("a")):
        if link.get("href", "").startswith("#"):
            number = etree.Element("span", {"class": "page"})
            number.set("data-to", link.get("href"))
            number.tail, link.tail = link.tail, None
            link.addnext(number)


def hang(code: etree._Element) -> None:
    """Make each line of code a line of its own, whose rest hangs in.

    A line that is too long goes on further right, not at the margin, where
    it would look like a line of Python.
    """
    text = etree.tostring(code, encoding="unicode", with_tail=False)
    start, end = text.index(">") + 1, text.rindex("</")
    lines = text[start:end].removesuffix("\n").split("\n")
    rows = "".join(f'<span class="line">{x or " "}</span>' for x in lines)
    try:
        made = etree.fromstring(text[:start] + rows + text[end:])
    except etree.XMLSyntaxError:
        return  # something in it is longer than a line
    made.tail = code.tail
    parent = code.getparent()
    assert parent is not None
    parent.replace(code, made)


class Formulas:
    """Pictures of formulas, each drawn once, with words to be read."""

    def __init__(self, folder: Path) -> None:
        """Keep the pictures in this folder."""
        self.folder = folder
        self.known: dict[str, tuple[str, float, float]] = {}

    def draw(self, text: str) -> tuple[str, float, float]:
        """The picture's file, its width, and how deep it hangs, in em."""
        if text not in self.known:
            path = self.folder / f"formula-{len(self.known)}.svg"
            drawn = ziamath.Math(text, size=FORMULA)
            path.write_text(drawn.svg(), encoding="utf-8")
            width, _ = drawn.getsize()
            self.known[text] = (
                path.as_uri(),
                width / FORMULA,
                drawn.getyofst() / FORMULA,
            )
        return self.known[text]

    def replace(self, math: etree._Element) -> None:
        """Put a picture in the place of a formula."""
        words = reading(math)
        text = etree.tostring(math, encoding="unicode", with_tail=False)
        source, width, depth = self.draw(text)
        image = etree.Element(f"{XHTML}img", src=source, alt=words)
        block = math.get("display") == "block"
        image.set("class", "formula-block" if block else "formula")
        image.set("style", f"width:{width:.3f}em;vertical-align:{depth:.3f}em")
        image.tail = math.tail
        parent = math.getparent()
        assert parent is not None
        parent.replace(math, image)


def flatten(link: etree._Element) -> None:
    """Leave nothing but text in a link.

    What lies in a link would become a second link at the same place, which
    no tag holds.
    """
    if link.find(f".//{XHTML}img") is not None:
        return
    if link.find(f".//{XHTML}code") is not None:
        link.set("class", "code")
    text = "".join(link.itertext())
    for child in list(link):
        link.remove(child)
    link.text = text


def chapter(
    folder: Path, page: str, pages: set[str], formulas: Formulas
) -> etree._Element:
    """The part of a page that is read, with names that no other has."""
    root = etree.parse(folder / page).getroot()
    main = root.find(f".//{XHTML}div[@role='main']")
    if main is None:  # the index and other pages that nobody wrote
        main = root.find(f".//{XHTML}body")
    assert main is not None, page
    for math in list(main.iter(f"{MATHML}math")):
        formulas.replace(math)
    for link in list(main.iter(f"{XHTML}a")):
        flatten(link)
    name_drawings(main, page)
    for code in list(main.iter(f"{XHTML}pre")):
        hang(code)
    here = PurePosixPath(page).parent
    for element in main.iter(f"{XHTML}*"):
        if name := element.get("id"):
            element.set("id", anchor(page, name))
        if link := element.get("href"):
            element.set("href", target(link, page, pages))
        source = element.get("src", "")
        if source and "://" not in source:
            path = folder / resolve(here / source)
            element.set("src", path.as_uri())
        name = etree.QName(element).localname
        # The index is a table for its columns only.
        columns = page == INDEX and name in ("table", "tbody", "tr", "td")
        element.tag = "div" if columns else name
        if columns:
            element.attrib.pop("style", None)
    number_pages(main)
    main.tag = "section"
    main.attrib.clear()
    main.set("id", anchor(page))
    return main


def opening(edition: Edition) -> etree._Element:
    """The title page: what this is, of whom, and what one may do with it."""
    said = identity()
    page = etree.Element("section", {"class": "opening"})
    lines = [
        ("h1", edition.title),
        ("p", said.subtitle),
        ("p", edition.author),
        ("p", "Large print, with tags for programs that read aloud"),
        ("p", edition.words),
        ("p", rights(said)),
    ]
    for tag, text in lines:
        etree.SubElement(page, tag).text = text
    return page


def contents(folder: Path, pages: set[str]) -> etree._Element:
    """The table of contents, from the e-book's own."""
    made = etree.Element("nav")
    etree.SubElement(made, "h1").text = "Contents"
    entries = etree.SubElement(made, "ol")
    source = etree.parse(folder / CONTENTS).getroot()
    for link in source.iterfind(f".//{XHTML}nav[1]//{XHTML}a"):
        place = target(link.get("href", ""), CONTENTS, pages)
        item = etree.SubElement(entries, "li")
        words = " ".join("".join(link.itertext()).split())
        etree.SubElement(item, "a", href=place).text = words
    number_pages(made)
    return made


def document(folder: Path, edition: Edition) -> str:
    """All pages of an unpacked e-book as one page of HTML."""
    said = identity()
    html = etree.Element("html", lang=said.language)
    head = etree.SubElement(html, "head")
    etree.SubElement(head, "title").text = edition.title
    for name, content in (
        ("author", edition.author),
        ("description", said.description),
    ):
        etree.SubElement(head, "meta", name=name, content=content)
    body = etree.SubElement(html, "body")
    body.append(opening(edition))
    order = [page for page in spine(folder) if page != CONTENTS]
    body.append(contents(folder, set(order)))
    formulas = Formulas(folder)
    for page in order:
        body.append(chapter(folder, page, set(order), formulas))
    etree.cleanup_namespaces(html)
    text = etree.tostring(html, encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}"


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, level: int) -> None:
        """Nothing has been said yet."""
        super().__init__(level)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.said.append(record.getMessage())


@contextmanager
def no_complaint() -> Iterator[None]:
    """Raise TypesetError for an error, and for one that was only logged."""
    listener = Listener(logging.ERROR)
    weasyprint.LOGGER.addHandler(listener)
    try:
        yield
    except FatalURLFetchingError as error:
        raise TypesetError(str(error)) from error
    finally:
        weasyprint.LOGGER.removeHandler(listener)
    if listener.said:
        found = "\n".join(listener.said)
        raise TypesetError(f"WeasyPrint is not content:\n{found}")


def typeset(text: str, folder: Path) -> bytes:
    """The PDF of a page of HTML whose pictures lie in the folder.

    Nothing is fetched from anywhere else. Raises TypesetError for a link
    without its place, a picture that cannot be drawn or has no words.
    """
    style = STYLE.read_text("utf-8").replace("FONTS", FONTS.as_uri())
    fonts = FontConfiguration()
    near = ["file", "data"]
    fetcher = URLFetcher(allowed_protocols=near, fail_on_errors=True)
    page = weasyprint.HTML(
        string=text, base_url=folder.as_uri(), url_fetcher=fetcher
    )
    sheet = weasyprint.CSS(string=style, font_config=fonts, url_fetcher=fetcher)
    with no_complaint():
        written = page.write_pdf(
            stylesheets=[sheet],
            font_config=fonts,
            pdf_variant=VARIANT,
            pdf_tags=True,
        )
    assert written is not None
    return written


def finish(source: Path, goal: Path, edition: Edition) -> int:
    """Write the edition of an e-book; returns how many pages it has."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(source) as packed:
            packed.extractall(folder)
        # The date in each font, where WeasyPrint has fontTools cut it down.
        os.environ.setdefault("SOURCE_DATE_EPOCH", str(edition.epoch))
        content = typeset(document(folder, edition), folder)
    partial = goal.with_name(f".{goal.name}")
    with pikepdf.open(BytesIO(content)) as pdf:
        describe(pdf, edition)
        forget_identity(pdf)
        pages = len(pdf.pages)
        try:
            pdf.save(partial, deterministic_id=True)
            partial.replace(goal)
        finally:
            partial.unlink(missing_ok=True)
    return pages
