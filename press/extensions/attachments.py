"""What only the PDF needs: files embedded where a page offers a download.

TeX mangles a name with an underscore, so each file is embedded under a token;
`press.pdf` gives it back its own name.
"""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.latex import LaTeXTranslator

from press.files import ROOT, write_whole
from press.pdf import NAMES


def token(name: str) -> str:
    """A name of letters and digits for a path, the same in every build."""
    return f"x{zlib.crc32(name.encode()):08x}{Path(name).suffix}"


def visit_download(self: Any, node: nodes.Element) -> None:
    """Embed the file once, and link its name to the attachment."""
    if "filename" not in node:
        raise nodes.SkipNode
    path = self.builder.env.relfn2path(node["reftarget"], node["refdoc"])[1]
    name = Path(path).relative_to(ROOT).as_posix()
    folder = Path(self.builder.outdir) / "attachments"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / token(name))
    names = folder / NAMES
    known = json.loads(names.read_text("utf-8")) if names.exists() else {}
    known[token(name)] = name
    write_whole(names, json.dumps(known, indent=1, sort_keys=True))
    self.body.append(r"\bookattach{attachments/%s}{" % token(name))


def depart_download(self: Any, node: nodes.Element) -> None:
    self.body.append("}")


def setup(app: Sphinx) -> dict[str, bool]:
    LaTeXTranslator.visit_download_reference = visit_download  # type: ignore
    LaTeXTranslator.depart_download_reference = depart_download  # type: ignore
    return {"parallel_read_safe": True, "parallel_write_safe": True}
