"""The finished site: valid, without services, its edition at each foot."""

import importlib
import os
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from compliance import __main__ as compliance
from press import browser, web
from press.edition import Edition
from press.files import ROOT

EDITION = Edition(
    title="A Book & <i>",
    author="The authors",
    version="1.2.3",
    commit="0123456789",
    changed=False,
    date=datetime(2026, 1, 2, tzinfo=timezone.utc),
)
PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="a=1" /><meta name="viewport" content="b=2">
    <title>A page</title>
    <link rel="stylesheet" href="_static/sphinx-thebe.css?v=1" />
    <script>var togglebuttonSelector = '.toggle';</script>
    <script>const THEBE_JS_URL = "https://example.org/thebe.js"</script>
    <script async="async" src="_static/sphinx-thebe.js?v=2"></script>
    <script>var togglebuttonSelector = '.toggle';</script>
    <script>window.MathJax = {}</script>
  </head>
  <body>
    <details><summary><span class="toctree-toggle" role="presentation">v
    </span></summary>More</details>
    <main id="main" role="main"><h1>A page</h1></main>
    <script type="text/x-thebe-config">{}</script>
    <script>kernelName = 'python3'</script>
    <footer><p>@EDITION@</p></footer>
  </body>
</html>
"""


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    source = tmp_path / "raw"
    (source / "_static").mkdir(parents=True)
    (source / "book").mkdir()
    (source / "index.html").write_text("<meta http-equiv=refresh>")
    (source / "book" / "index.html").write_text(PAGE)
    (source / "_static" / "webpack-macros.html").write_text("{{ a }}")
    (source / "_static" / "sphinx-thebe.js").touch()
    (source / ".buildinfo").write_text("now")
    web.finish(source, tmp_path / "html", EDITION)
    return tmp_path / "html"


def test_services_templates_and_doubles_are_gone(finished: Path) -> None:
    page = (finished / "book" / "index.html").read_text()
    assert "thebe" not in page.lower()
    assert "kernelName" not in page
    assert "MathJax" in page
    assert page.count("togglebuttonSelector") == 1
    assert page.count("viewport") == 1
    assert 'role="main"' not in page
    assert '<summary aria-label="Its pages">' in page
    names = {path.name for path in finished.rglob("*")}
    assert not names & {"webpack-macros.html", "sphinx-thebe.js", ".buildinfo"}


def test_no_library_of_the_site_names_a_home(tmp_path: Path) -> None:
    library = importlib.import_module("sphinx-mathjax-offline")
    shutil.copytree(
        Path(str(library.__file__)).with_name("static"), tmp_path / "_static"
    )
    where = [str(tmp_path), "--only", "secrets"]
    assert compliance.main(where) == 1  # else nothing is left to drop
    web.drop_a_home(tmp_path)
    assert compliance.main(where) == 0


def test_every_page_names_the_edition(finished: Path) -> None:
    for name in ("index.html", "404.html", "book/index.html"):
        text = (finished / name).read_text(encoding="utf-8")
        assert EDITION.words in text
        assert text.startswith("<!DOCTYPE html>")
        assert '<html lang="en">' in text
        assert "A Book & " not in text
    for name in ("index.html", "404.html"):
        text = (finished / name).read_text(encoding="utf-8")
        assert text.count("A Book &amp; &lt;i&gt;") == 2  # title and foot


def test_the_last_site_stays_until_the_next_is_whole(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished / "book" / "index.html").read_bytes()

    def fail(text: str, edition: object) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(web, "finish_page", fail)
    with pytest.raises(OSError, match="no space"):
        web.finish(tmp_path / "raw", finished, EDITION)
    assert (finished / "book" / "index.html").read_bytes() == before


def test_the_configuration_has_a_place_for_the_edition() -> None:
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert web.PLACE in text


@pytest.mark.judge
def test_the_browser_sees_planted_faults(finished: Path) -> None:
    assert browser.chromium(), "make judge brings Chromium"
    bad = (
        "<!DOCTYPE html><html data-theme='light'><head><title>x</title>"
        "<style>@media (prefers-color-scheme: dark) {p {color: #ccc}}"
        "</style></head><body><p>words</p>"
        '<img src="/lost.png"><script>nonsense()</script>'
        '<div style="width: 900px">wide</div></body></html>'
    )
    (finished / "bad.html").write_text(bad)
    found = browser.judge(finished, ["bad.html", "404-test"], lambda _: None)
    text = str(found["bad.html (light, phone)"])
    for fault in ("axe image-alt", "axe html-has-lang", "status 404"):
        assert fault in text
    assert "script: nonsense" in text
    assert "pixels wide" in text
    assert "axe color-contrast" not in text
    dark = str(found["bad.html (dark, desk)"])
    assert "axe color-contrast" in dark
    assert "shows its light form to a system in dark" in dark
    assert not any(name.startswith("404-test") for name in found)


@pytest.mark.judge
@pytest.mark.parametrize("folder", ["", "name/"])
@pytest.mark.parametrize("lost", ["x.html", "book/x", "source/a/book/x.html"])
def test_a_lost_reader_finds_the_cover(
    tab: Any, finished: Path, folder: str, lost: str
) -> None:
    with browser.served(finished) as home:
        tab.goto(f"{home}{folder}{lost}")
        link = tab.get_by_role("link", name="Begin at the cover")
        assert link.evaluate("link => link.href") == f"{home}{folder}"


@pytest.mark.judge
def test_the_validator_sees_planted_faults(finished: Path) -> None:
    program = web.validator()
    assert program, "make judge brings vnu"
    assert shutil.which("java"), "make judge brings Java"
    assert web.complaints(finished, program) == []
    (finished / "bad.html").write_text("<p>no head</p>" + os.linesep)
    assert "doctype" in str(web.complaints(finished, program))


def test_a_second_build_in_the_same_folder_gives_the_same_page() -> None:
    name = f"mystnb.{'0a' * 32}.css"
    first = f'<link rel="stylesheet" href="../_static/{name}" />'
    second = first.replace(name, f"{name}?v=8cd3d715")
    other = '<link rel="stylesheet" href="../_static/book.css?v=8cd3d715" />'
    assert web.finish_page(second, EDITION) == web.finish_page(first, EDITION)
    assert web.finish_page(other, EDITION) == other
