"""The address of the sources, where a page's command needs it.

A page writes ``git clone {{ repository }}``; which address that is stands in
``pyproject.toml`` alone.
"""

from sphinx.application import Sphinx

from press.edition import MARK, repository


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the address in the place of its mark."""
    source[0] = source[0].replace(MARK, app.config.repository)


def setup(app: Sphinx) -> dict[str, bool]:
    # As a value of the configuration it makes Sphinx read the pages anew.
    app.add_config_value("repository", repository(), "env")
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
