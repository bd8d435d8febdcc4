"""A walk by keyboard: what it stops at, and what it complains of."""

from pathlib import Path

import pytest

from press import keyboard

pytestmark = pytest.mark.judge
PAGE = """<!doctype html><html lang="en"><title>A page</title>
<a href="#main">Skip</a><nav><a href="a.html">A</a></nav>
<main id="main" tabindex="-1"><p><a href="b.html">B</a></p>%s</main></html>
"""
FAULTS = {
    "": [],
    "<button>on</button><details><summary>x</summary>y</details>": [],
    '<a href="c.html" tabindex="-1">not meant</a>': [],
    '<button style="position:absolute;left:-99em">x</button>': [
        "has the focus, but is not seen: <button"
    ],
    "<i onkeydown='event.preventDefault()' tabindex=0>x</i>"
    "<i tabindex=0>y</i>": [
        "the focus stays",
        'never has the focus: <i tabindex="0" data-stop="5">y</i>',
    ],
    "<i onfocus='this.nextSibling.remove()' tabindex=0>x</i><i tabindex=0>y</i>"
    "<i tabindex=0>z</i>": [],
}


@pytest.mark.parametrize("part", FAULTS)
def test_what_a_walk_finds(part: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE % part, encoding="utf-8")
    found = keyboard.judge(tmp_path, ["index.html"])
    wanted = FAULTS[part]
    assert set(found) == (
        {"index.html (desk)", "index.html (phone)"} if wanted else set()
    )
    for faults in found.values():
        assert len(faults) == len(wanted)
        for fault, begin in zip(faults, wanted, strict=True):
            assert fault.startswith(begin)


def test_a_page_without_a_way_past_its_navigation(tmp_path: Path) -> None:
    text = (PAGE % "").replace('<a href="#main">Skip</a>', "")
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    found = keyboard.judge(tmp_path, ["index.html"])
    assert set(map(tuple, found.values())) == {("no way past the navigation",)}
    (tmp_path / "index.html").write_text(
        text.replace("nav>", "div>"), encoding="utf-8"
    )
    assert keyboard.judge(tmp_path, ["index.html"]) == {}
