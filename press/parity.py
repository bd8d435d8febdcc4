"""The same book in HTML, PDF and EPUB: ``python -m press.parity``.

Reads the three finished outputs and compares what they number: headings,
figures, tables, listings, equations, exercises. A number has to be there in
all three, and stand for the same thing in each. A table without a number has
its place on its page instead. In the site and the EPUB each picture needs
words for readers who cannot see it: four at least, not those of its caption,
and the same ones in both.

A page of HTML has its numbers in its tree. A PDF has no such tree, so what it
numbers is read from what TeX wrote beside it, and each number must lead to a
page of the finished PDF that shows it.

Prints a table, and below it what is missing where; ends with 1 if anything is.
"""

import argparse
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pikepdf
from lxml import html

from press.dependencies import BUILD

KINDS = ("heading", "figure", "table", "listing", "equation", "exercise")
TEX = "print/_build/latex"  # where TeX's own files lie, in the build's folder
WORDS = 4  # of an alternative text, at least
PRINTED = "book/"  # the site has other pages, which show the sources
NO_NAME = re.compile(r"id\d+|index-\d+|")  # made up while building

HEADINGS = ("chapter", "section", "subsection", "subsubsection")
LISTED = dict.fromkeys(HEADINGS, "heading") | {
    "figure": "figure",
    "table": "table",
    "literalblock": "listing",
}
LINE = re.compile(
    r"\\contentsline \{(\w+)\}\{\\numberline \{([^{}]+)\}.*\}\{([^{}]+)\}"
    r"\\protected@file@percent"
)
LABEL = re.compile(
    r"^\\newlabel\{([^{}]+)\}\{\{([^{}]*)\}.*\{([^{}]+)\}\{\}\}$", re.M
)
PARTS = re.compile(
    r"\\label\{\\detokenize\{([^{}]+)::doc\}\}"
    r"|(?<!\\sphinxaftertopcaption\n)"  # a table with a number is in the list
    r"\\begin\{(?:tabular[xy]?|tabulary|longtable)\}"
    r"(?!.*\n\\sphinxthelongtablecaptionisattop)"
)


@dataclass
class Output:
    """What an output numbers, and what it says in place of pictures."""

    names: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    alts: dict[str, str] = field(default_factory=dict)  # figure → its words
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, number: str, names: Iterable[str] = ()) -> None:
        """Note a numbered thing and its names; a number twice is a fault."""
        if (kind, number) in self.names:
            self.faults.append(f"{kind} {number} is there twice")
        known = {x for x in names if not NO_NAME.fullmatch(x.split(":")[-1])}
        self.names[kind, number] = known


# --- HTML and EPUB -----------------------------------------------------------


def words_of(element: Any) -> str:
    """The text of an element, with single spaces."""
    return " ".join("".join(element.itertext()).split())


def numbered(tree: Any, page: str) -> Iterator[tuple[str, str, str]]:
    """Kind, number and name of all that a page numbers."""
    for span in tree.xpath(".//span[@class]"):
        kind, number = span.get("class"), words_of(span).strip("# .()")
        if kind == "section-number" and re.match(r"h\d", span.getparent().tag):
            kind = "heading"
        elif kind == "eqno":
            kind = "equation"
        elif kind == "caption-number":
            kind, _, number = number.partition(" ")
        else:
            continue
        above = span.xpath("(ancestor::*[@id])[last()]/@id")
        name = above[0].removeprefix("equation-") if above else ""
        yield kind.lower(), number, f"{page}:{name}"


def pictures(tree: Any) -> Iterator[tuple[str, str, str]]:
    """Figure number, alternative text and caption of a page's pictures."""
    for picture in tree.xpath(".//img | .//svg"):
        if picture.xpath("ancestor-or-self::*[@aria-hidden='true']"):
            continue
        alt = picture.get("alt") or picture.get("aria-label") or ""
        boxes = picture.xpath("(ancestor::figure)[last()]")
        caption = {
            part.get("class"): words_of(part)
            for box in boxes
            for part in box.xpath(".//figcaption//span[@class]")
        }
        number = caption.get("caption-number", "").removeprefix("Figure ")
        yield number, " ".join(alt.split()), caption.get("caption-text", "")


def letters(text: str) -> str:
    """The letters and digits of a text, small."""
    return "".join(c for c in text.lower() if c.isalnum())


def unseen(alt: str, caption: str) -> str:
    """Why words do not stand for a picture, "" if they may."""
    if not alt:
        return "has no alt text"
    if len(alt.split()) < WORDS:
        return f"has fewer than {WORDS} words of alt text: “{alt}”"
    if letters(alt) == letters(caption):
        return "repeats its caption as alt text"
    return ""


def read_page(found: Output, page: str, content: bytes) -> None:
    """Add to `found` what a page of a site or an EPUB has."""
    tree = html.document_fromstring(content, html.HTMLParser(encoding="utf-8"))
    # A theme has headings and signs of its own around the page's.
    tree = (tree.xpath("//article") or tree.xpath("//body") or [tree])[0]
    for kind, number, name in numbered(tree, page):
        found.add(kind, number, [name])
    plain = tree.xpath(".//table[not(.//span[@class='caption-number'])]")
    for place, _ in enumerate(plain, 1):
        found.add("table", f"{place} of {page}")
    for number, alt, caption in pictures(tree):
        if number:
            found.alts[number] = alt
        if wrong := unseen(alt, caption):
            what = f"figure {number}" if number else "a picture"
            found.faults.append(f"{page}: {what} {wrong}")


def read_site(folder: Path) -> Output:
    """What the pages of the site number and describe."""
    found = Output()
    for path in sorted((folder / PRINTED).rglob("*.html")):
        page = path.relative_to(folder).with_suffix("").as_posix()
        read_page(found, page, path.read_bytes())
    return found


def read_epub(path: Path) -> Output:
    """What the pages of the EPUB number and describe."""
    found = Output()
    with zipfile.ZipFile(path) as packed:
        for name in sorted(packed.namelist()):
            if name.startswith(PRINTED) and name.endswith(".xhtml"):
                page = name.removesuffix(".xhtml")
                read_page(found, page, packed.read(name))
    return found


# --- PDF ---------------------------------------------------------------------


def destinations(pdf: Path) -> dict[str, int]:
    """The places that a PDF names → their pages, counted from zero."""
    with pikepdf.open(pdf) as file:
        pages: dict[Any, int] = {
            page.objgen: i for i, page in enumerate(file.pages)
        }
        found: dict[str, int] = {}
        for name, item in pikepdf.NameTree(file.Root.Names.Dests).items():
            target: Any = item
            if isinstance(target, pikepdf.Dictionary):
                target = target.D
            found[str(name)] = pages[target[0].objgen]
    return found


def texts(pdf: Path) -> list[str]:
    """The text of each page of a PDF."""
    command = ["pdftotext", "-layout", str(pdf), "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    return done.stdout.decode("utf-8", errors="replace").split("\f")


def shows(text: str, kind: str, number: str) -> bool:
    """Whether the text of a page shows a number as readers see it."""
    exact = rf"(?<![\w.]){re.escape(number)}(?!\.?\w)"
    before = "" if kind == "heading" else rf"{kind.capitalize()}\s+"
    if kind == "equation":
        return f"({number})" in text
    return re.search(before + exact, text) is not None


def numbered_by_tex(aux: str) -> Iterator[tuple[str, str, str, set[str]]]:
    """Kind, number, anchor and names of all that TeX numbered."""
    names: dict[str, set[str]] = {}
    rest: dict[tuple[str, str, str], None] = {}
    for label, number, anchor in LABEL.findall(aux):
        kind = "exercise" if anchor.startswith("bookexercise.") else ""
        if label.startswith("equation:"):
            kind, label = "equation", label.removeprefix("equation:")
        names.setdefault(anchor, set()).add(label)
        if kind:
            rest[kind, number, anchor] = None
    for sort, number, anchor in LINE.findall(aux):
        if sort in LISTED:
            rest[LISTED[sort], number, anchor] = None
    for kind, number, anchor in rest:
        yield kind, number, anchor, names.get(anchor, set())


def read_pdf(pdf: Path, tex: Path) -> Output:
    """What the PDF numbers; `tex` is the folder in which TeX set it."""
    found = Output()
    places, pages = destinations(pdf), texts(pdf)
    aux = (tex / "book.aux").read_text(encoding="utf-8", errors="replace")
    for kind, number, anchor, names in numbered_by_tex(aux):
        page = places.get(anchor)
        if page is None:
            found.faults.append(f"{kind} {number} is in TeX's files alone")
        elif not shows(pages[page], kind, number):
            found.faults.append(f"{kind} {number} is not on page {page + 1}")
        else:
            found.add(kind, number, names)
    text = (tex / "book.tex").read_text(encoding="utf-8")
    document, place = "", 0
    for part in PARTS.finditer(text):
        if part[1]:
            document, place = part[1], 0
        else:
            place += 1
            found.add("table", f"{place} of {document}")
    return found


# --- the comparison ----------------------------------------------------------


def read(build: Path) -> dict[str, Output]:
    """The three outputs of a build's folder, by name."""
    needed = {"html": "html", "pdf": "book.pdf", "epub": "book.epub"}
    for target, name in needed.items():
        if not (build / name).exists():
            raise FileNotFoundError(f"{name} is not built: make {target}")
    if not (build / TEX / "book.aux").exists():
        raise FileNotFoundError(f"{build / TEX} has no book.aux: make pdf")
    return {
        "html": read_site(build / "html"),
        "pdf": read_pdf(build / "book.pdf", build / TEX),
        "epub": read_epub(build / "book.epub"),
    }


def natural(key: tuple[str, str]) -> tuple[int, list[tuple[int, str]]]:
    """Kinds in their order, and 2.10 after 2.9."""
    kind, number = key
    parts = [(int(x or 0), y) for x, y in re.findall(r"(\d*)(\D*)", number)]
    return KINDS.index(kind) if kind in KINDS else len(KINDS), parts


def differences(outputs: dict[str, Output]) -> list[str]:
    """What is not in all outputs, or stands for something else there."""
    found = []
    keys = {key for output in outputs.values() for key in output.names}
    for key in sorted(keys, key=natural):
        what = " ".join(key)
        there = {n: o.names[key] for n, o in outputs.items() if key in o.names}
        if absent := [name for name in outputs if name not in there]:
            found.append(f"{what} is missing in {', '.join(absent)}")
        named = {name: names for name, names in there.items() if names}
        if len(named) > 1 and not set.intersection(*named.values()):
            said = [f"{min(names)} in {name}" for name, names in named.items()]
            found.append(f"{what} is {', '.join(said)}")
    described = {n: o.alts for n, o in outputs.items() if o.alts}
    for number in sorted({x for alts in described.values() for x in alts}):
        if len({alts.get(number) for alts in described.values()}) > 1:
            found.append(f"figure {number} has not the same alt text in each")
    for name, output in outputs.items():
        found += [f"{name}: {fault}" for fault in output.faults]
    return found


def table(outputs: dict[str, Output]) -> str:
    """How many there are of each kind, in each output."""
    rows = [f"{'':<10}" + "".join(f"{name:>8}" for name in outputs)]
    for kind in KINDS:
        counts = [sum(k == kind for k, _ in o.names) for o in outputs.values()]
        rows.append(f"{kind:<10}" + "".join(f"{n:>8}" for n in counts))
    counts = [len(output.alts) for output in outputs.values()]
    words = [f"{n or '-':>8}" for n in counts]
    return "\n".join([*rows, f"{'alt text':<10}" + "".join(words)])


def complaints(build: Path = BUILD) -> list[str]:
    """What the three outputs of a build do not share."""
    return differences(read(build))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--build", type=Path, default=BUILD, help="the folder of the outputs"
    )
    options = parser.parse_args(arguments)
    try:
        outputs = read(options.build)
    except FileNotFoundError as error:
        parser.error(str(error))
    found = differences(outputs)
    print(table(outputs))
    print("\n".join(found) if found else "all of it is in all three")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
