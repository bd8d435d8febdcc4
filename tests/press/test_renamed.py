"""Old names are gone, new ones are there, and the index knows both."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from press.extensions.renamed import FILE, renamed

NAMES = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def is_there(name: str) -> bool:
    """Whether a dotted name is defined, or set in its class's methods."""
    words = name.split(".")
    thing = importlib.import_module(".".join(words[:3]))
    for word in words[3:]:
        if not hasattr(thing, word):
            return inspect.isclass(thing) and (
                f"self.{word} =" in inspect.getsource(thing)
            )
        thing = getattr(thing, word)
    return True


@pytest.mark.parametrize("old", NAMES)
def test_the_new_name_is_there_and_the_old_one_is_not(old: str) -> None:
    assert is_there(NAMES[old])
    taken = set(NAMES.values())  # a name may have gone to another thing
    assert old in taken or not is_there(old)


def test_the_list_and_its_index(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "extensions = ['press.extensions.renamed']", encoding="utf-8"
    )
    (tmp_path / "index.rst").write_text(
        "Names\n=====\n\n.. renamed::\n", encoding="utf-8"
    )
    out = str(tmp_path / "out")
    app = Sphinx(
        str(tmp_path), str(tmp_path), out, out, "dummy", status=None
    )
    app.build()
    tree = app.env.get_doctree("index")
    terms = [node.astext() for node in tree.findall(nodes.term)]
    assert terms == [old for old, _ in renamed()]
    assert "attend" in terms
    found = [x[:2] for i in tree.findall(addnodes.index) for x in i["entries"]]
    assert ("see", "attend; scaled_dot_product_attention") in found
