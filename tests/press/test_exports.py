"""What is printed can be typed, taken along, and copied out of the PDF."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from jupyter_cache import get_cache
from nbclient import NotebookClient
from nbformat import v4

from press.exports import export, names, notebook, printing, script
from press.extensions.boxes import box
from press.extensions.exports import offer
from press.gates import Book
from press.gates.pages import Page
from press.gates.typed import SOLUTIONS, printed_cells

ROOT = Path(__file__).parents[2]
BOOK = Book()
PAGES = [
    name
    for name, page in BOOK.pages.items()
    if printed_cells(page) and not name.startswith(SOLUTIONS)
]
QUICK = ["book/text/characters.md", "book/model/ngram.md", "book/start/idea.md"]
WALK = ("start/idea", "start/shapes", "start/chance", "start/pytorch")
WALK += ("text/characters", "text/toytown", "model/ngram", "model/bigram")
COPIED = [f"book/{name}.md" for name in (*WALK, "text/bpe", "model/attention")]
WORD = re.compile(  # a word of code, where it begins and where it ends
    r'xMin="([\d.]+)"[^>]* xMax="([\d.]+)"[^>]*>((?:torch|self)\.[^<&]+)<'
)
HEAD = re.compile(  # a page's running head, with its number at the outside
    r"^\s*\d+\s+(Chapter|Appendix|Part)\b|^\s*[A-Z\d]+\.\d+\..*\s\d+\s*$"
    r"|^\s*\d+\s{3,}\S|\S\s{3,}\d+\s*$"
)
PAGE = "\f"  # stands where a page begins
FOOT = re.compile(r"^\s*\d+\s*$|\bversion \d+\.\d")  # number, edition
# A reader's Python: the library, what it needs, and nothing of the book.
ONLY = """\
import sys
from pathlib import Path

sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
own = [p for p in sys.path if (Path(p or ".") / "press").is_dir()]
sys.path[:] = [{library!r}, *(p for p in sys.path if p not in own)]
"""
PAGE = """\
# A page of few words

```{code-cell}
:tags: [remove-cell]
secret = 1
```

Words with {term}`tokens <token>`, `code` and $x^2$ {cite:p}`who2020`:

```{code-cell}
x = 1
x + 1      # é, and no more
```

## Nothing to run

## A second part

A value: {glue:text}`secret`.

```{code-cell}
def show():
    print("shown")

show()
```

```{tip}
In a box.
```

```{code-cell}
x;
```
"""


def page(text: str = PAGE) -> Page:
    """A page of this text."""
    return Page(Path("book/page.md"), "book/page.md", text)


@pytest.fixture
def made() -> Any:
    return notebook(page())


def test_a_notebook_holds_what_is_printed(made: Any) -> None:
    nbformat.validate(made)
    kinds = [cell.cell_type for cell in made.cells]
    assert kinds == ["markdown", "code", "markdown", "code", "code"]
    words = made.cells[0].source
    assert words.startswith("# A page of few words\n\nThe cells of a chapter")
    assert words.endswith("Words with tokens, `code` and $x^2$:")
    assert made.cells[2].source == "## A second part"
    assert "secret" not in json.dumps(made)
    assert "In a box" not in json.dumps(made)


def test_a_script_prints_what_a_notebook_shows(made: Any) -> None:
    text = script(made)
    assert "print(x + 1)      # é, and no more" in text
    assert "\nshow()\n" in text
    assert text.endswith("x;\n")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "secret" not in text


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("f(\n    1,\n)", "print(f(\n    1,\n))"),
        ("[é for é in x]; y", "[é for é in x]; print(y)"),
        ("print(1)", "print(1)"),
        ("dis(b'')", "dis(b'')"),
        ("quiet()", "quiet()"),
        ("x = 1", "x = 1"),
        ("", ""),
    ],
)
def test_the_last_value_is_printed(code: str, wanted: str) -> None:
    assert printing(code, {"quiet"}) == wanted


def test_a_page_without_cells_has_no_exports() -> None:
    assert notebook(page("# Words\n\nAnd more.\n")) is None


def test_what_has_not_changed_stays_as_old_as_it_is(tmp_path: Path) -> None:
    """A page with downloads is made again where one of them is newer."""
    page = tmp_path / "book" / "a.md"
    page.parent.mkdir()
    other = page.with_name("b.md")
    for path in (page, other):
        path.write_text("# A\n\n```{code-cell}\n1 + 1\n```\n")
    folder = tmp_path / "cells"
    assert export(tmp_path, folder) == ["book/a.md", "book/b.md"]
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(written) == 4
    for path in written:
        os.utime(path, (1, 1))
    page.write_text("# A\n\n```{code-cell}\n1 + 2\n```\n")
    export(tmp_path, folder)
    newer = {path.name for path in written if path.stat().st_mtime > 1}
    assert newer == {"cells_a.py", "cells_a.ipynb"}


def test_the_same_pages_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("book/page.md", "book/still.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(PAGE if "page" in name else "# Words\n")
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert export(tmp_path, folder) == ["book/page.md"]
        found.append(
            {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        )
    assert found[0] == found[1]
    assert sorted(found[0]) == ["cells_page.ipynb", "cells_page.py"]


def offered(builder: str, card: bool, docname: str = "book/page") -> str:
    """A page's tree after the links were added, as text."""
    document = new_document("page")
    section = nodes.section("", nodes.title("", "A page"))
    document += section
    if card:
        frame = box(kind="topic")
        frame += [nodes.paragraph("", "Files."), nodes.paragraph("", "Tracks.")]
        section += frame
    app = SimpleNamespace(
        env=SimpleNamespace(docname=docname),
        builder=SimpleNamespace(name=builder),
        exports=["book/page.md"],
    )
    offer(app, document)  # type: ignore[arg-type]
    return document.pformat()


@pytest.mark.parametrize("card", [True, False])
def test_site_and_pdf_offer_the_cells(card: bool) -> None:
    for builder in ("html", "latex"):
        text = offered(builder, card)
        for name in names("book/page.md"):
            assert f'reftarget="/_build/cells/{name}"' in text
        if card:
            assert text.index("Files.") < text.index("Cells to run")
            assert text.index("Cells to run") < text.index("Tracks.")
        else:
            assert text.index("A page") < text.index("Cells to run")


def test_an_e_reader_is_offered_nothing_to_run() -> None:
    assert "Cells" not in offered("epub", True)
    assert "Cells" not in offered("html", False, "book/other")


# --- they run where there is only the library --------------------------------


def reader(folder: Path) -> dict[str, str]:
    """The environment of somebody who has the library, and has trained."""
    library = folder / "library"
    library.mkdir()
    (library / "scratchlm").symlink_to(ROOT / "src" / "scratchlm")
    (library / "compliance").symlink_to(ROOT / "compliance")
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    only = ONLY.format(library=str(library))
    (startup / "00-only.py").write_text(only, encoding="utf-8")
    known = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return {
        **known,
        "IPYTHONDIR": str(folder / "ipython"),
        "SCRATCHLM_RUNS": str(ROOT / "_build" / "runs"),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }


def run(path: Path, folder: Path) -> str:
    """Run a script as a reader does; what it prints."""
    only = (folder / "ipython/profile_default/startup/00-only.py").read_text()
    call = (
        f"{only}\nimport runpy\nrunpy.run_path(sys.argv[1], {{}}, '__main__')"
    )
    work = folder / "work"
    work.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-c", call, str(path)]
    done = subprocess.run(
        command,
        cwd=work,
        env=ENVIRONMENTS[folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(work.iterdir()) == [], "it left something behind"
    return done.stdout


LONGEST = 900.0  # seconds for a script
ENVIRONMENTS: dict[Path, dict[str, str]] = {}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A reader's folder, with the book's exports beside it."""
    ENVIRONMENTS[tmp_path] = reader(tmp_path)
    return tmp_path


def exported(name: str, folder: Path) -> list[Path]:
    """Write the exports of one page of the book."""
    made = notebook(BOOK.pages[name])
    assert made is not None
    texts = (script(made), nbformat.writes(made))
    paths = [folder / Path(short).name for short in names(name)]
    for path, text in zip(paths, texts):
        path.write_text(text, encoding="utf-8")
    return paths


def test_a_reader_has_nothing_but_the_library(desk: Path) -> None:
    path = desk / "try.py"
    path.write_text("import scratchlm\nimport press\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="No module named 'press'"):
        run(path, desk)


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_script_runs(name: str, desk: Path) -> None:
    code, _ = exported(name, desk)
    assert run(code, desk)


def trained() -> None:
    """Fail where the book's model is not, and say what makes it."""
    assert (ROOT / "_build/runs/toytown/seal.json").exists(), "make run first"


@pytest.mark.judge
@pytest.mark.parametrize("name", PAGES)
def test_every_script_runs(name: str, desk: Path) -> None:
    trained()
    code, _ = exported(name, desk)
    lines = run(code, desk).splitlines()
    assert "None" not in lines


@lru_cache(maxsize=1)
def executed() -> dict[str, Any]:
    """The pages as the build has executed them, the last time."""
    folder = ROOT / "_build" / "cache"
    assert folder.exists(), "the book is not built; make pdf first"
    cache = get_cache(folder)
    records = sorted(cache.list_cache_records(), key=lambda r: r.accessed)
    return {  # the folder may have had another name when it was built
        f"book/{r.uri.rpartition('/book/')[2]}": cache.get_cache_bundle(r.pk).nb
        for r in records
    }


def shown(cell: Any) -> str:
    """What stands below a cell: what it printed, and its value.

    What was printed comes in one piece or in several, as the clock has it.
    """
    text = ""
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and output.name == "stdout":
            text += output.text
        elif output.output_type in ("execute_result", "display_data"):
            text += "\n" + output.data.get("text/plain", "") + "\n"
    return re.sub(r"\n+", "\n", text).strip("\n")


def source(cell: Any) -> str:
    """A cell's code, without what the build notes of the page's sources."""
    return re.sub(r"\A# sources [0-9a-f]+\n", "", cell.source).strip()


def test_what_was_printed_may_come_in_pieces() -> None:
    def printed(*texts: str) -> Any:
        outputs = [
            v4.new_output("stream", name="stdout", text=t) for t in texts
        ]
        value = v4.new_output("execute_result", {"text/plain": "4"})
        return v4.new_code_cell(outputs=[*outputs, value])

    assert shown(printed("1 ", "2\n3\n")) == "1 2\n3\n4"
    assert shown(printed("1 2\n3\n")) == "1 2\n3\n4"


@pytest.mark.judge
@pytest.mark.parametrize("name", PAGES)
def test_every_notebook_shows_what_the_book_shows(
    name: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    for key, value in ENVIRONMENTS[desk].items():
        monkeypatch.setenv(key, value)
    _, path = exported(name, desk)
    made = nbformat.read(path, as_version=4)
    work = desk / "work"
    work.mkdir()
    there = {"metadata": {"path": str(work)}}
    NotebookClient(made, timeout=600, resources=there).execute()
    book = [c for c in executed()[name].cells if c.cell_type == "code"]
    for cell in made.cells:
        if cell.cell_type != "code":
            continue
        while book and source(book[0]) != source(cell):
            book.pop(0)
        assert book, f"the book has no cell {cell.source[:60]!r}; make pdf"
        assert shown(cell) == shown(book.pop(0)), cell.source


# --- and out of the PDF ------------------------------------------------------


def text_of(pdf: Path, *options: str) -> str:
    """What pdftotext reads in a PDF."""
    command = ["pdftotext", *options, "-enc", "UTF-8", str(pdf), "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def pitch(pdf: Path) -> str:
    """The width of a character of code, in points, as most words have it."""
    words = WORD.findall(text_of(pdf, "-bbox", "-l", "150"))
    widths = Counter(
        f"{(float(right) - float(left)) / len(word):.3f}"
        for left, right, word in words
    )
    return widths.most_common(1)[0][0]


@lru_cache(maxsize=1)
def printed_lines() -> list[str]:
    """The lines of the PDF's text, without heads, feet and empty ones."""
    pdf = ROOT / "_build" / "book.pdf"
    assert pdf.exists(), "the book is not built; make pdf first"
    text = text_of(pdf, "-fixed", pitch(pdf))  # spaces as many as in print
    sheets = [
        [line for line in sheet.splitlines() if line.strip()]
        for sheet in text.split("\f")
    ]
    margins = [margin(sheets[side::2]) for side in (0, 1)]
    lines: list[str] = []
    for number, full in enumerate(sheets):
        head = bool(full) and HEAD.search(full[0])
        foot = bool(full) and FOOT.search(full[-1])
        full = full[1 if head else 0 : -1 if foot else None]
        left = margins[number % 2]
        lines.append(PAGE)
        lines += [line[min(left, indentation(line)) :] for line in full]
    return lines


def indentation(line: str) -> int:
    """How many spaces a line begins with."""
    return len(line) - len(line.lstrip())


def margin(sheets: list[list[str]]) -> int:
    """Where most lines begin: left pages differ from right pages in it."""
    lines = [line for sheet in sheets for line in sheet]
    counts = Counter(map(indentation, lines))
    return counts.most_common(1)[0][0] if counts else 0


def squeezed(line: str) -> str:
    """A line without its spaces: print sets them as it likes."""
    return "".join(line.split())


def followed(wanted: list[str], lines: list[str], at: int) -> list[int]:
    """On which lines the wanted ones stand, from `at` on, as far as they do.

    Where a cell turns the page, figures may stand above what follows, and
    two of them may have the next two pages to themselves.
    """
    places: list[int] = []
    for line in wanted:
        if places and at < len(lines) and lines[at] == PAGE:
            for _ in range(3):
                end = at + 1 + [*lines[at + 1 :], PAGE].index(PAGE)
                page = [squeezed(x) for x in lines[at:end]]
                if line in page:
                    at += page.index(line)
                    break
                at = end
        if at >= len(lines) or squeezed(lines[at]) != line:
            break
        places.append(at)
        at += 1
    return places


def copied(cell: str, lines: list[str], start: int) -> tuple[str, int]:
    """The lines of the PDF on which a cell stands, from `start` on.

    Where a cell begins and ends is known from the page; what is returned
    are the PDF's own lines, with their spaces, quotes and dashes.
    """
    wanted = [squeezed(x) for x in cell.splitlines() if x.strip()]
    most, near = 0, "no line of it"
    for first in range(start, len(lines)):
        places = followed(wanted, lines, first)
        found = [lines[at] for at in places]
        if len(places) == len(wanted):
            left = min(map(indentation, found))
            code = "\n".join(x[left:] for x in found)
            return code, places[-1] + 1
        if len(places) > most:
            most, near = len(places), "\n".join(found)
    raise AssertionError(f"not in the PDF:\n{cell}\n\nit has:\n{near}")


@pytest.mark.judge
@pytest.mark.parametrize("name", COPIED)
def test_what_is_copied_out_of_the_pdf_runs(name: str, desk: Path) -> None:
    lines, place = printed_lines(), 0
    cells = []
    for cell in printed_cells(BOOK.pages[name]):
        code, place = copied(cell.body.strip("\n"), lines, place)
        cells.append(code)
    path = desk / "copied.py"
    path.write_text("\n\n".join(cells) + "\n", encoding="utf-8")
    run(path, desk)


def test_a_cell_is_copied_as_the_pdf_has_it() -> None:
    lines = ["Words.", "     for x in y:", '          print("x")', "More."]
    code, place = copied('for x in y:\n    print("x")', lines, 0)
    assert code == 'for x in y:\n     print("x")'
    assert place == 3
    with pytest.raises(AssertionError, match="not in the PDF"):
        copied("for x in y:\n    print('x')", lines, 0)
    turned = [PAGE, "a = 1", PAGE, "words in a figure", "b = 2", PAGE, "c"]
    assert copied("a = 1\nb = 2", turned, 0) == ("a = 1\nb = 2", 5)
    with pytest.raises(AssertionError, match=r"it has:\na = 1$"):
        copied("a = 1\nd", [*turned, PAGE, PAGE, "d"], 0)  # too far on
