"""Finish the EPUB that Sphinx packed, so that its judge has no complaint.

Formulas become MathML, which e-readers draw without a script; scripts and
links to styles that are not there go; drawings lose a prolog that names a
file on the web; the package says what it is, for whom it can be read, and
under which licence. The archive's times are the edition's, so the same pages
give the same bytes.
"""

import html
import json
import re
import subprocess
import uuid
import zipfile
from importlib import metadata as packages
from pathlib import Path, PurePosixPath

from latex2mathml.converter import convert
from lxml import etree

from press.edition import Edition
from press.identity import identity
from press.pdf import rights

FORMULA = re.compile(
    r'(<span class="math[^"]*"[^>]*>)\\\((.*?)\\\)(?=</span>)'
    r'|(<div class="math[^"]*"[^>]*>\s*(?:<span class="eqno">.*?</span>)?\s*)'
    r"\\\[(.*?)\\\](?=</div>)",
    re.S,
)
SCRIPT = re.compile(r"[ \t]*<script\b.*?</script>\n?", re.S)
STYLE = re.compile(r'[ \t]*<link rel="stylesheet"[^>]*href="([^"]+)"[^>]*>\n?')
VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>\s*(?=<meta name="viewport)')
PROLOG = re.compile(r"<!DOCTYPE svg[^>]*>\s*", re.S)
NO_PATH = re.compile(r"<path(?![^>]*\sd=)([^>]*?)/>")
OLD_ROLE = re.compile(r' role="doc-(?:biblioentry|endnote)"')
MACROS = {"softmax": r"\\operatorname{softmax}", "R": r"\\mathbb{R}"}
OPF = "http://www.idpf.org/2007/opf"
DC = "http://purl.org/dc/elements/1.1/"
ACCESS = {
    "schema:accessMode": ["textual", "visual"],
    "schema:accessModeSufficient": ["textual"],
    "schema:accessibilityFeature": [
        "alternativeText",
        "MathML",
        "structuralNavigation",
        "tableOfContents",
        "index",
        "displayTransformability",
    ],
    "schema:accessibilityHazard": ["none"],
    "schema:accessibilitySummary": [
        "All text can be resized and read aloud. Every figure has an "
        "alternative text, formulas are MathML, and code is text."
    ],
}


def as_mathml(text: str, display: str) -> str:
    """LaTeX's formula as MathML; ValueError where it cannot be written so."""
    for name, meaning in MACROS.items():
        text = re.sub(rf"\\{name}(?![A-Za-z])", meaning, text)
    written = convert(text, display=display)
    if found := re.search(r"\\[A-Za-z]+|&(?![#\w])", written):
        raise ValueError(f"{found[0]} of ${text}$ cannot be written as MathML")
    if found := re.search(r"<mn>[^<]*[A-Za-z][^<]*</mn>", written):
        raise ValueError(f"{found[0]} of ${text}$ is no number: part them")
    return written


def mathml(match: re.Match[str]) -> str:
    """What a page of the site says of a formula, with MathML in it."""
    before, inline, opening, block = match.groups()
    text = html.unescape(inline or block).strip()
    display = "inline" if inline else "block"
    return (before or opening) + as_mathml(text, display)


def finish_page(text: str, place: str, names: set[str], foot: str) -> str:
    """An XHTML page without what an e-reader cannot use."""

    def there(match: re.Match[str]) -> str:
        folder = PurePosixPath(place).parent
        target = resolve(folder / match[1])
        return match[0] if target in names else ""

    text = SCRIPT.sub("", text)
    text = STYLE.sub(there, text)
    text = VIEWPORT.sub("", text)
    text = FORMULA.sub(mathml, text)
    text = NO_PATH.sub(r'<path\1 d=""/>', text)
    text = OLD_ROLE.sub("", text)
    language = identity().language
    text = re.sub(
        r'(<html xmlns="[^"]*")(?![^>]*\blang=)',
        rf'\1 lang="{language}" xml:lang="{language}"',
        text,
        count=1,
    )
    return text.replace("</body>", f"{foot}</body>", 1)


def resolve(path: PurePosixPath) -> str:
    """The path without ``..``."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def finish_drawing(text: str) -> str:
    """An SVG file that names no file on the web, with whole paths."""
    return NO_PATH.sub(r'<path\1 d=""/>', PROLOG.sub("", text, count=1))


def identifier(edition: Edition) -> str:
    """A name for this edition that every catalogue accepts."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, edition.identifier)}"


def finish_package(
    content: bytes, edition: Edition, pages: dict[str, str]
) -> bytes:
    """The package document: who, what, when, how it can be read."""
    root = etree.fromstring(content)
    metadata = root.find(f"{{{OPF}}}metadata")
    when = f"{edition.date:%Y-%m-%dT%H:%M:%SZ}"
    said = identity()
    values = {
        "language": said.language,
        "title": edition.title,
        "description": said.description,
        "creator": edition.author,
        "publisher": edition.author,
        "rights": f"{rights(said)} {said.license['url']}",
        "identifier": identifier(edition),
        "date": when,
        "source": edition.words,
    }
    root.set("unique-identifier", "edition")
    for old in metadata.findall(f"{{{DC}}}*"):
        metadata.remove(old)
    for i, (name, value) in enumerate(values.items()):
        item = etree.Element(f"{{{DC}}}{name}")
        item.text = value
        item.tail = "\n    "
        if name == "identifier":
            item.set("id", "edition")
        metadata.insert(i, item)
    for meta in metadata.findall(f"{{{OPF}}}meta"):
        if meta.get("property") == "dcterms:modified":
            meta.text = when
        elif meta.get("property") == "ibooks:version":
            meta.text = edition.version
    for name, texts in ACCESS.items():
        for text in texts:
            item = etree.SubElement(metadata, f"{{{OPF}}}meta", property=name)
            item.text = text
            item.tail = "\n    "
    declare(root, pages)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def declare(root: etree._Element, pages: dict[str, str]) -> None:
    """Say of each page whether it holds formulas or drawings."""
    for item in root.iter(f"{{{OPF}}}item"):
        text = pages.get(item.get("href") or "", "")
        found = (item.get("properties") or "").split()
        found += ["mathml"] if "<math" in text else []
        found += ["svg"] if "<svg" in text else []
        if found:
            item.set("properties", " ".join(sorted(found)))


def finish(source: Path, target: Path, edition: Edition) -> None:
    """Pack the finished book to `target`, whole or not at all."""
    foot = (
        f'<div class="edition" role="contentinfo"><p>'
        f"{html.escape(edition.title)}, {edition.words}</p></div>\n  "
    )
    with zipfile.ZipFile(source) as packed:
        names = packed.namelist()
        files = {name: packed.read(name) for name in names}
    pages = {}
    for name in names:
        if name.endswith(".xhtml"):
            text = files[name].decode()
            words = "" if name == "nav.xhtml" else foot
            pages[name] = finish_page(text, name, set(names), words)
            files[name] = pages[name].encode()
        elif name.endswith(".svg"):
            files[name] = finish_drawing(files[name].decode()).encode()
        elif name.endswith(".ncx"):
            uid = f'name="dtb:uid" content="{identifier(edition)}"'
            text = files[name].decode()
            text = re.sub(r'name="dtb:uid" content="[^"]*"', uid, text)
            files[name] = text.encode()
    files["content.opf"] = finish_package(files["content.opf"], edition, pages)
    pack(files, target, edition)


def pack(files: dict[str, bytes], target: Path, edition: Edition) -> None:
    """An archive whose bytes depend on nothing but its files."""
    moment = edition.date.timetuple()[:6]
    order = sorted(files, key=lambda name: (name != "mimetype", name))
    partial = target.with_name(f".{target.name}")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name in order:
                info = zipfile.ZipInfo(name, moment)
                info.external_attr = 0o644 << 16
                info.create_system = 3
                if name != "mimetype":  # it must be readable as it lies
                    info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, files[name])
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def complaints(epub: Path) -> list[str]:
    """What epubcheck says, errors and warnings; needs Java."""
    program = packages.distribution("epubcheck").locate_file(
        "epubcheck/epubcheck.jar"
    )
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # it runs once
    command = ["java", *quick, "-jar", str(program), str(epub)]
    done = subprocess.run(
        [*command, "-q", "--json", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = []
    for message in json.loads(done.stdout)["messages"]:
        if message["severity"] in ("FATAL", "ERROR", "WARNING"):
            nowhere = {"path": epub.name, "line": 0}
            where = (message["locations"] or [nowhere])[0]
            found.append(
                f"{message['severity']} {message['ID']} {where['path']}:"
                f"{where['line']}: {message['message']}"
            )
    return found
