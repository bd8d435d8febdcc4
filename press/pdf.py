"""Finish the PDF that TeX wrote: metadata, names of attachments, same bytes.

XeTeX writes no metadata stream and mangles the names of embedded files; both
are put right in the finished file, and nothing in it depends on the folder
or the hour in which it was made.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pikepdf

from press.edition import Edition
from press.files import write_whole
from press.identity import Identity, identity

NAMES = "names.json"  # token of an attachment → path in the repository


SPECIAL = {char: f"\\{char}" for char in "#$%&_{}"}  # to TeX
SPECIAL |= {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def tex(text: str) -> str:
    """A text as TeX prints it.

    >>> print(tex("Bits & pieces: 5% of {it}"))
    Bits \\& pieces: 5\\% of \\{it\\}
    """
    return "".join(SPECIAL.get(char, char) for char in text)


def edition_tex(edition: Edition, said: Identity) -> str:
    """What the printed page says of its book and edition, as TeX's macros."""
    macros = {
        "bookedition": edition.words,
        "bookyear": str(edition.date.year),
        "booktitle": tex(said.title),
        "bookcoverlines": r"\\".join(tex(line) for line in said.cover),
        "booksubtitle": tex(said.subtitle),
        "bookauthor": tex(said.author),
        "bookrights": tex(said.license["rights"]),
        "booklicense": r"\href{{{0}}}{{{0}}}".format(tex(said.license["url"])),
        "booknotice": tex(said.notice),
        "bookaccentcode": said.colors["print"]["accent"][1:].upper(),
    }
    lines = [f"\\newcommand{{\\{k}}}{{{v}}}" for k, v in macros.items()]
    return "\n".join(lines) + "\n"


def rights(said: Identity) -> str:
    """Who may do what with it; and from what it was made, if it was."""
    return " ".join(filter(None, (said.license["rights"], said.notice)))


def write_edition(folder: Path, edition: Edition) -> None:
    """``edition.tex`` beside the chapters, if its words have changed."""
    path = folder / "edition.tex"
    text = edition_tex(edition, identity())
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)


def finish(source: Path, target: Path, edition: Edition) -> None:
    """Write the finished PDF to `target`, whole or not at all."""
    names = source.parent / "attachments" / NAMES
    known = json.loads(names.read_text("utf-8")) if names.exists() else {}
    partial = target.with_name(f".{target.name}")
    with pikepdf.open(source) as pdf:
        describe(pdf, edition)
        for item in pdf.objects:
            if isinstance(item, pikepdf.Dictionary) and "/EF" in item:
                name_attachment(item, known, edition)
        forget_identity(pdf)
        try:
            pdf.save(partial, deterministic_id=True)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def pdf_date(edition: Edition) -> str:
    """The edition's day as PDF writes it."""
    return f"D:{edition.date:%Y%m%d%H%M%S}Z"


def describe(pdf: pikepdf.Pdf, edition: Edition) -> None:
    """Metadata: the stream of today and the dictionary of old."""
    said = identity()
    with pdf.open_metadata(set_pikepdf_as_editor=False) as data:
        data["dc:title"] = edition.title
        data["dc:creator"] = list(said.authors)
        data["dc:description"] = said.description
        data["dc:language"] = [said.language]
        data["dc:rights"] = rights(said)
        data["dc:identifier"] = edition.identifier
        data["xmpRights:Marked"] = "True"
        data["xmpRights:WebStatement"] = said.license["url"]
        data["xmp:CreateDate"] = edition.date.isoformat()
        data["xmp:ModifyDate"] = edition.date.isoformat()
        data["xmpMM:VersionID"] = edition.words
    info = pdf.docinfo
    info["/Title"] = edition.title
    info["/Author"] = edition.author
    info["/Subject"] = edition.words
    info["/CreationDate"] = info["/ModDate"] = pdf_date(edition)
    pdf.Root.Lang = pikepdf.String(said.language)
    pdf.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)


def name_attachment(item: Any, known: dict[str, str], edition: Edition) -> None:
    """Give an embedded file its own name, and the edition's day."""
    token = Path(str(item.get("/UF", item.get("/F")))).name
    path = known.get(token, token)
    item.F = item.UF = pikepdf.String(Path(path).name)
    item.Desc = pikepdf.String(path)
    for stream in item.EF.values():
        size = len(stream.read_bytes())
        stream.Params = pikepdf.Dictionary(
            Size=size,
            CreationDate=pikepdf.String(pdf_date(edition)),
            ModDate=pikepdf.String(pdf_date(edition)),
        )


def forget_identity(pdf: pikepdf.Pdf) -> None:
    """Drop the name that the file got from the hour of its making."""
    if "/ID" in pdf.trailer:
        del pdf.trailer["/ID"]


def timeless(content: bytes) -> bytes:
    """A drawing's PDF without the time at which it was drawn."""
    with pikepdf.open(BytesIO(content)) as pdf:
        for name in ("/CreationDate", "/ModDate"):
            if name in pdf.docinfo:
                del pdf.docinfo[name]
        forget_identity(pdf)
        out = BytesIO()
        pdf.save(out, deterministic_id=True)
    return out.getvalue()
