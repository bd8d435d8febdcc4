"""The address of the sources, where a page's command needs it; the title.

A page writes ``git clone {{ repository }}``; which address that is stands in
``pyproject.toml`` alone. The first page bears the title of ``book.yml``.
"""

import re

from sphinx.application import Sphinx

from press.edition import MARK, repository
from press.identity import identity

TITLE = re.compile(r"^# .*", re.M)


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the address in the place of its mark, and the title on top."""
    source[0] = source[0].replace(MARK, app.config.repository)
    if docname == app.config.root_doc:
        title = f"# {identity().title}"
        source[0] = TITLE.sub(lambda _: title, source[0], count=1)


def setup(app: Sphinx) -> dict[str, bool]:
    # As a value of the configuration it makes Sphinx read the pages anew.
    app.add_config_value("repository", repository(), "env")
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
