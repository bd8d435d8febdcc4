"""What a book says of itself stands in book.yml; and a fork is another one."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from press import build, epub
from press.copies import clone
from press.files import ROOT
from press.identity import (
    BOOK,
    ORIGIN,
    IdentityError,
    contrast,
    identity,
    lacking,
    load,
    parse,
)
from press.judge import dead_links
from press.pdf import edition_tex, tex
from press.roadmap import contents, course
from press.roadmap import load as roadmap

COURSE = ["bigram", "bpe", "tokenizer", "tokens", "embeddings", "attention"]
COURSE += ["heads", "layers"]
KNOWN = ["characters", "ngram"]
Change = Callable[[dict[str, Any]], Any]


def written(change: Change) -> str:
    """book.yml with something changed; before that, it has all chapters."""
    data = yaml.safe_load(BOOK.read_text(encoding="utf-8"))
    data |= {"chapters": "all", "assumes": []}
    change(data)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def fork(data: dict[str, Any]) -> None:
    """Another title, two authors, other colors, eight chapters."""
    data |= {"title": "Attention & Co", "cover": ["Attention", "& Co"]}
    data |= {"authors": ["Ada Bee", "Cy Dee"], "chapters": COURSE}
    data |= {"assumes": KNOWN, "adapted": "eight chapters for a course."}
    data["colors"]["light"]["accent"] = "#8a1c4a"
    data["colors"]["print"]["accent"] = "#8a1c4a"


# --- this book ---------------------------------------------------------------


def author(cited: dict[str, str]) -> str:
    """A name in CITATION.cff: of a group, or of a person in its parts."""
    parts = (cited.get("given-names", ""), cited.get("family-names", ""))
    return cited.get("name") or " ".join(filter(None, parts))


def test_a_person_may_be_cited_by_given_and_family_names() -> None:
    assert author({"name": "The authors"}) == "The authors"
    assert author({"family-names": "Bee", "given-names": "Ada"}) == "Ada Bee"


def test_the_title_is_the_same_wherever_it_stands() -> None:
    said = identity()
    for name in ("README.md", "book/index.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert text.splitlines()[0] == f"# {said.title}"
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cited = yaml.safe_load(text)
    assert cited["title"] == said.title
    assert [author(x) for x in cited["authors"]] == list(said.authors)
    ours = (said.title, [*said.authors]) == ORIGIN
    assert bool(said.notice) == (not ours or bool(said.adapted.strip()))


def test_the_configuration_says_what_the_book_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setattr(build, "identity", lambda: parsed(fork))
    data = yaml.safe_load(build.write_config("html").read_text("utf-8"))
    assert data["title"] == "Attention & Co"
    assert data["author"] == "Ada Bee, Cy Dee"
    settings = data["sphinx"]["config"]
    assert settings["book_course"] == COURSE
    foot = settings["html_theme_options"]["extra_footer"]
    assert "Adapted from A Large Language Model from Scratch by " in foot
    assert "@LICENSE@" not in foot
    license = parsed(fork).license
    assert f'{license["url"]}" rel="license">{license["short"]}</a>' in foot
    style = (tmp_path / "static" / "accent.css").read_text("utf-8")
    assert "--pst-color-primary: #8a1c4a" in style


def parsed(change: Change) -> Any:
    """What the changed file says."""
    return parse(written(change), "book.yml", roadmap())


def test_tex_prints_a_title_as_it_is() -> None:
    said = parsed(fork)
    text = edition_tex(build.edition(), said)
    assert r"\newcommand{\bookcoverlines}{Attention\\\& Co}" in text
    assert r"\newcommand{\bookaccentcode}{8A1C4A}" in text
    url = tex(said.license["url"])
    assert rf"\newcommand{{\booklicense}}{{\href{{{url}}}{{{url}}}}}" in text
    assert tex(r"50 % of \x") == r"50 \% of \textbackslash{}x"


def test_contrast_is_that_of_wcag() -> None:
    """Values that its understanding document and checkers give."""
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


# --- what is wrong in it -----------------------------------------------------

WRONG: list[tuple[Change, str]] = [
    (lambda d: d.pop("title"), "book.yml:1: the file: 'title' is a required"),
    (lambda d: d.update(authors=[]), r"book.yml:\d+: authors: "),
    (lambda d: d.update(subtitle=" x"), r"book.yml:\d+: subtitle: "),
    (lambda d: d.update(cover=["Another"]), "cover are not the title"),
    (
        lambda d: d.update(title="B", cover=["B"], adapted=""),
        "CC BY 4.0, asks that changes be indicated",
    ),
    (lambda d: d.update(icon="gone.svg"), "no file gone.svg"),
    (
        lambda d: d["colors"]["light"].update(links="#ffee00"),
        r"book.yml:\d+: links #ffee00 on #ffffff .* take a darker color",
    ),
    (
        lambda d: d["colors"]["dark"].update(links="#222222"),
        "take a lighter color",
    ),
    (lambda d: d.update(chapters=["none"]), "no topic and no page .*none"),
    (
        lambda d: d.update(chapters=["ngram"]),
        "ngram requires characters, which is missing; add it",
    ),
    (
        lambda d: d.update(chapters=["characters"], assumes=["characters"]),
        "characters is assumed, and is a chapter as well",
    ),
    (
        lambda d: d.update(chapters=["bpe", "characters"], assumes=["toytown"]),
        "bpe requires characters, which comes later; move it up",
    ),
    (lambda d: d.update(colour="red"), "'colour' was unexpected"),
]


@pytest.mark.parametrize(("change", "why"), WRONG)
def test_what_is_wrong_is_said_with_its_line(change: Change, why: str) -> None:
    with pytest.raises(IdentityError, match=why):
        parse(written(change), "book.yml", roadmap())


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="has no title without it"):
        load(tmp_path / "book.yml")
    with pytest.raises(IdentityError, match=r"book\.yml: while parsing"):
        parse("title: [", "book.yml", roadmap())


def test_a_wrong_file_ends_the_build_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise IdentityError("book.yml:3: authors: none")

    monkeypatch.setattr(build, "identity", refuse)
    monkeypatch.setattr(build, "prepare", lambda: 1 / 0)
    assert build.main(["pdf"]) == 1
    assert "book.yml:3: authors: none" in capsys.readouterr().err


# --- a course ----------------------------------------------------------------


def test_a_course_has_its_chapters_in_its_order_and_nothing_else() -> None:
    short = course(roadmap(), COURSE)
    assert lacking(COURSE, KNOWN, roadmap()) == []
    assert [topic.id for topic in short.topics] == COURSE
    assert short.by_id["bigram"].requires == ()
    toc = contents(short, guide=("pitfalls",))
    files = [x["file"] for part in toc["parts"] for x in part["chapters"]]
    names = {x.rpartition("/")[2] for x in files}
    assert {"bigram", "layers", "pitfalls", "setup"} <= names
    gone = {"ngram", "toytown", "gpt", "cards", "solutions-training"}
    assert not gone & names
    solutions = [
        section["file"].rpartition("/")[2]
        for part in toc["parts"]
        for x in part["chapters"]
        for section in x.get("sections", [])
    ]
    assert sorted(solutions) == sorted(COURSE)


BUILT = """
import press.build as b
b.write_html(), b.write_epub(), b.write_pdf()
"""


def entitled(folder: Path) -> None:
    """What people read first bears the fork's title and authors, too."""
    for name in ("README.md", "book/index.md"):
        path = folder / name
        _, rest = path.read_text(encoding="utf-8").split("\n", 1)
        path.write_text(f"# Attention & Co\n{rest}", encoding="utf-8")
    path = folder / "CITATION.cff"
    cited = yaml.safe_load(path.read_text(encoding="utf-8"))
    cited["title"] = "Attention & Co"
    cited["authors"] = [
        {"given-names": "Ada", "family-names": "Bee"},
        {"name": "Cy Dee"},
    ]
    path.write_text(yaml.safe_dump(cited, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course as a teacher makes it: clone, change one file, build."""
    folder = tmp_path_factory.mktemp("course") / "course"
    python = clone(folder)
    (folder / "book.yml").write_text(written(fork), encoding="utf-8")
    entitled(folder)
    shutil.copytree(ROOT / "_build" / "runs", folder / "_build" / "runs")
    for name in ("cache", "checks"):  # shorter with them, and else the same
        if (source := ROOT / "_build" / name).exists():
            shutil.copytree(source, folder / "_build" / name)
    done = subprocess.run(
        [str(python), "-c", BUILT],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build"


@pytest.mark.judge
def test_a_fork_builds_a_course_of_eight_chapters(built: Path) -> None:
    site = built / "html"
    pages = site / "book"
    there = {
        topic.id
        for topic in roadmap().topics
        if (site / topic.files["chapter"]).with_suffix(".html").exists()
    }
    assert there == set(COURSE)
    solved = (pages / "appendix" / "solutions").glob("*.html")
    assert {path.stem for path in solved} == set(COURSE)
    page = pages / "model" / "attention.html"
    text = unescape(page.read_text(encoding="utf-8"))
    assert "Attention & Co</title>" in text
    assert "Ada Bee, Cy Dee" in text
    assert "eight chapters for a course." in text
    assert "ngram.html" not in text
    style = (site / "_static" / "accent.css").read_text(encoding="utf-8")
    assert "#8a1c4a" in style
    assert dead_links(site) == []
    assert not re.search(r'href="[^"]*/gpt\.html', text)


@pytest.mark.judge
def test_a_course_is_an_ebook_and_a_pdf_as_well(built: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("epubcheck needs Java: make judge brings it")
    assert epub.complaints(built / "book.epub") == []
    said = subprocess.run(
        ["pdfinfo", str(built / "book.pdf")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r"^Title: +Attention & Co$", said, re.M)
    assert re.search(r"^Author: +Ada Bee, Cy Dee$", said, re.M)


def done(folder: Path, *words: str) -> str:
    """What a command of the fork's Python prints; it has to succeed."""
    python = next(folder.glob(".venv/bin/python"), Path(sys.executable))
    result = subprocess.run(
        [str(python), "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    return result.stdout


@pytest.mark.judge
def test_a_course_keeps_the_gates_and_passes_the_tests(built: Path) -> None:
    folder = built.parent
    done(folder, "press.gates")
    folders = ("press", "check", "scaffold")
    said = done(folder, "pytest", "-q", *(f"tests/{x}" for x in folders))
    assert " passed" in said or "[100%]" in said


@pytest.mark.judge
def test_a_repository_of_a_course_has_its_topics_and_all_they_need(
    built: Path, tmp_path: Path
) -> None:
    folder = built.parent
    for track in ("beginner", "practitioner"):
        out = tmp_path / track
        done(folder, "scaffold", "--track", track, "--out", str(out))
        topics = json.loads((out / "check" / "topics.json").read_text())
        assert [topic["id"] for topic in topics["topics"]] == COURSE
        assert "*Attention & Co*" in (out / "README.md").read_text()
        (out / ".venv").symlink_to(folder / ".venv")
        done(out, "pytest", "--collect-only", "-q")  # every import is there


@pytest.mark.judge
def test_a_course_has_an_edition_for_a_track(built: Path) -> None:
    """What the course leaves out, the edition may lack without a word."""
    done(built.parent, "press.build", "pdf", "--track", "beginner")
    assert (built / "book-beginner.pdf").is_file()
