"""What only the PDF needs: files embedded where a page offers a download."""

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.latex import LaTeXTranslator


def visit_download(self: Any, node: nodes.Element) -> None:
    """Embed the file once, and link its name to the attachment."""
    if "filename" not in node:
        raise nodes.SkipNode
    path = self.builder.env.relfn2path(node["reftarget"], node["refdoc"])[1]
    name = Path(path).name
    target = Path(self.builder.outdir) / "attachments" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    self.body.append(r"\bookattach{attachments/%s}{" % name)


def depart_download(self: Any, node: nodes.Element) -> None:
    self.body.append("}")


def setup(app: Sphinx) -> dict[str, bool]:
    LaTeXTranslator.visit_download_reference = visit_download  # type: ignore
    LaTeXTranslator.depart_download_reference = depart_download  # type: ignore
    return {"parallel_read_safe": True, "parallel_write_safe": True}
