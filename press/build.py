"""Build the book: ``python -m press.build pdf | html | epub | page FILE``.

``accessible`` makes the large-print edition out of the finished e-book.
``test`` runs the tests: first those of what the book shows, which are
measured, since a line that no test runs is not shown; then the others. What
takes long (`press.pace`) is left to `make judge`.

Each stage prints one line with its time, leaves its log in ``_build/logs``,
and is skipped when nothing that it depends on has changed. The Makefile
calls this; `make help` lists the targets.
"""

import argparse
import ast
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pikepdf
import yaml
from tqdm import tqdm

from press import pace
from press.dependencies import BUILD, RUN, closure, everything, versions
from press.edition import edition, edition_for
from press.epub import finish as finish_epub
from press.files import ROOT, write_whole
from press.gates import Book
from press.gates.chapters import untested
from press.heights import told, too_high
from press.identity import (
    Identity,
    IdentityError,
    book_roadmap,
    guide,
    identity,
)
from press.labels import SMALLEST, too_small
from press.machine import SHARING
from press.margins import collisions
from press.pages import (
    FEW,
    empty_frames,
    papers,
    printed_at,
    sparse,
    stranded,
)
from press.pdf import finish as finish_pdf
from press.pdf import write_edition
from press.roadmap import PACKAGES, SHORT, TRACKS, contents_text
from press.tracks import PAGES
from press.web import MODEL_PAGE, drop_a_home
from press.web import finish as finish_site

LOGS = BUILD / "logs"
COVERAGE = BUILD / "coverage.json"
PRINTED = BUILD / "book-pages.json"  # where chapters and sections begin
COLOR = r"(?:\x1b\[[\d;]*m)*"
COMPLAINT = re.compile(
    r"WARNING: |ERROR: |CRITICAL: |^E  |^! |Exception:"
    rf"|^{COLOR}\w*Error{COLOR}: "  # the last line of a cell's traceback
)
PERCENT = re.compile(r"\[ *(\d+)%\] (\S+)")
SHELLS_OWN = re.compile(
    r"SCRATCHLM_|PYTHONOPTIMIZE$|PYTHONSTARTUP$|PYTEST_|FORCE_COLOR$|LINES$"
)
SHOWN_TESTS = [*PACKAGES, "solutions", "cli", "compliance"]
# Tests run one thread each (`tests/conftest.py`), and the programs that they
# start do, too: the runner uses the cores.
TESTING = {**SHARING, "OMP_NUM_THREADS": "1"}


class BuildError(RuntimeError):
    """A stage failed; the message says where its log is."""


def say(stage: str, seconds: float, note: str = "") -> None:
    """One line per stage: name, time, what came of it."""
    print(f"{stage:<12} {seconds:7.1f} s   {note}", flush=True)


def environment() -> dict[str, str]:
    """The environment of every tool: fixed hashing, no colors, one width.

    What a shell sets for itself decides nothing here: whether assertions
    run, how wide a help text is, where a text is looked for.
    """
    kept = {k: v for k, v in os.environ.items() if not SHELLS_OWN.match(k)}
    return {
        **kept,
        "PYTHONHASHSEED": "0",
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "ignore",
        "SOURCE_DATE_EPOCH": "0",
        "COLUMNS": "80",
        "TZ": "UTC",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "COVERAGE_FILE": str(BUILD / "coverage.data"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log, for an error message."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def complaints(log: Path) -> str:
    """What a log complains of; its end, where it names nothing."""
    text = log.read_text(encoding="utf-8", errors="replace")
    wrong = [x for x in text.splitlines() if COMPLAINT.search(x)]
    return "\n".join(wrong[:40]) + "\n" if wrong else tail(log)


def run(
    name: str,
    command: list[str],
    folder: Path = ROOT,
    bar: bool = False,
    more: Mapping[str, str] = {},
) -> Path:
    """Run a command into its log; with `bar`, show the percent it prints."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    progress = tqdm(
        total=100,
        unit="%",
        desc=name,
        leave=False,
        disable=None if bar else True,  # no bar in a file
    )
    with (
        progress,
        log.open("w", encoding="utf-8") as out,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**environment(), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            out.write(line)
            if found := PERCENT.search(line):
                progress.set_postfix_str(found[2], refresh=False)
                progress.n = int(found[1])
                progress.refresh()
    if process.returncode:
        raise BuildError(f"{name} failed; from {log}:\n{complaints(log)}")
    return log


# --- what is up to date -----------------------------------------------------


def bare(path: Path) -> bytes:
    """A module's meaning: its syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return ast.dump(tree).encode()


def digest(
    paths: Iterable[Path], read: Callable[[Path], bytes] = Path.read_bytes
) -> str:
    """A hash of files: names and content."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.relative_to(ROOT).as_posix().encode())
        total.update(read(path))
    return total.hexdigest()


def fresh(stamp: Path, key: str) -> bool:
    """Whether the stage that left `stamp` ran on these same inputs."""
    return stamp.exists() and stamp.read_text(encoding="utf-8") == key


def inputs() -> str:
    """A hash of all that the outputs are made from, and say of themselves."""
    folders = ["book", "src", "solutions", "scaffold", "tests", "press"]
    folders += ["records", "benchmarks", "compliance", "check"]
    files = {path for name in folders for path in everything(ROOT / name)}
    files |= everything(RUN)
    files |= {path for path in ROOT.iterdir() if path.is_file()}
    total = hashlib.sha256(versions())
    total.update(edition().words.encode())
    total.update(digest(files).encode())
    return total.hexdigest()


# --- stages -----------------------------------------------------------------


def stage(
    name: str,
    action: Callable[[], str],
    key: Callable[[], str],
    *results: Path,
) -> None:
    """Run one stage and print its line, unless it is done for this key.

    The stamp goes first and comes back last: whatever fails or is killed in
    between is done anew.
    """
    start = time.perf_counter()
    stamp = BUILD / "stamps" / name
    now = key()
    if fresh(stamp, now) and all(result.exists() for result in results):
        say(name, time.perf_counter() - start, "up to date")
        return
    stamp.unlink(missing_ok=True)
    note = action()
    write_whole(stamp, now)
    say(name, time.perf_counter() - start, note)


def model_key() -> str:
    """A hash of what trains the book's small model: code and versions."""
    modules = {"scratchlm.cli.train", "scratchlm.text.toytown"}
    modules |= {"scratchlm.text.tokenizer", "scratchlm.text.tokens"}
    modules |= {"scratchlm.training.trainer", "scratchlm.training.muon"}
    files = closure(modules)
    python = {path for path in files if path.suffix == ".py"}
    total = hashlib.sha256(versions()).hexdigest()
    return total + digest(python, bare) + digest(files - python)


def train_model() -> str:
    """Train the book's small model."""
    if RUN.exists():
        shutil.rmtree(RUN)
    command = [sys.executable, "-m", "scratchlm", "train"]
    command += ["--corpus", "toytown", "--out", str(RUN)]
    command += ["--device", "cpu", "--precision", "float32"]  # everywhere
    status = subprocess.run(command, cwd=BUILD, env=environment(), check=False)
    if status.returncode:
        raise BuildError("training the book's small model failed (see above)")
    lines = (RUN / "log.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [json.loads(x).get("validation_loss") for x in lines]
    best = min(x for x in losses if x is not None)
    return f"validation loss {best:.3f} nats per token"


def coverage_key() -> str:
    """A hash of the code that is measured, its tests, and what runs them."""
    folders = ["src", "solutions", "compliance"]
    folders += [f"tests/{name}" for name in SHOWN_TESTS]
    files = {p for name in folders for p in everything(ROOT / name)}
    files |= {ROOT / "pyproject.toml", ROOT / "tests" / "conftest.py"}
    files |= {Path(pace.__file__), pace.RECORD}  # which tests are too long
    return hashlib.sha256(versions()).hexdigest() + digest(files)


def measured_files() -> list[str]:
    """The files of tests that are measured, in the order of their names."""
    folders = [ROOT / "tests" / name for name in SHOWN_TESTS]
    found = [path for folder in folders for path in folder.rglob("test_*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def measure_coverage() -> str:
    """Run the library's tests; keep which lines they do not run.

    A file's tests run in one process, since they share what they make.
    """
    command = [sys.executable, "-m", "pytest", *measured_files()]
    command += ["-n", "auto", "--dist", "loadfile"]
    command += ["--cov=scratchlm", "--cov=solutions"]
    command += ["--cov=compliance", "--cov-report="]
    command += ["-p", "no:cacheprovider"]
    log = run("tests", command, more=TESTING)
    report = BUILD / "coverage-raw.json"
    python = [sys.executable, "-m", "coverage"]
    run("coverage", [*python, "json", "-o", str(report)])
    keep_missing(json.loads(report.read_text(encoding="utf-8")))
    report.unlink()
    passed = re.findall(r"(\d+) passed", tail(log, 1))
    return f"{sum(map(int, passed)):,} passed"


def run_other_tests() -> None:
    """The rest of the suite; what stands here was not measured for coverage."""
    measured = [f"--ignore=tests/{name}" for name in SHOWN_TESTS]
    command = [sys.executable, "-m", "pytest", "-n", "auto", *measured]
    shared = {**os.environ, **TESTING}
    done = subprocess.run(command, cwd=ROOT, env=shared, check=False)
    if done.returncode:
        raise BuildError("tests failed (see above)")


def keep_missing(report: dict[str, Any]) -> None:
    """Write which lines no test runs, file by file.

    Nothing else is kept: how many tests run a line depends on threads, and
    on how busy the machine was.
    """
    files = report["files"].items()
    missing = {name: file["missing_lines"] for name, file in files}
    write_whole(COVERAGE, json.dumps(missing))


def gather_references() -> None:
    """Join the chapters' bibliographies; an entry in two of them once."""
    entries: dict[str, str] = {}
    for path in sorted((ROOT / "book" / "refs").glob("*.bib")):
        text = path.read_text(encoding="utf-8")
        for part in re.split(r"^(?=@)", text, flags=re.M):
            if found := re.match(r"@\w+\{\s*([^,\s]+)", part):
                entries.setdefault(found[1], part.strip())
    text = "\n\n".join(entries[k] for k in sorted(entries)) + "\n"
    target = BUILD / "references.bib"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def say_who(config: dict[str, Any], said: Identity) -> None:
    """Put what ``book.yml`` says into the configuration of Jupyter Book."""
    year = edition().date.year
    config |= {"title": said.title, "author": said.author}
    config["copyright"] = f"{said.author}, {year}"
    config["html"]["favicon"] = said.icon
    settings = config["sphinx"]["config"]
    settings |= {"language": said.language, "book_course": [*said.chapters]}
    foot = settings["html_theme_options"]["extra_footer"]
    license, notice = said.license, html.escape(said.notice, quote=False)
    link = f'<a href="{html.escape(license["url"])}" rel="license">'
    link += f"{html.escape(license['short'], quote=False)}</a>"
    foot = foot.replace("@LICENSE@", f"{link} {notice}".rstrip())
    settings["html_theme_options"]["extra_footer"] = foot
    color = said.colors["print"]["links"][1:].upper()
    setup = [settings["latex_elements"]["sphinxsetup"]]
    for kind in ("Inner", "Outer"):
        setup.append(f"{kind}LinkColor={{HTML}}{{{color}}}")
    settings["latex_elements"]["sphinxsetup"] = ", ".join(setup)


def write_accent(said: Identity) -> None:
    """The site's colors, for both modes: a style sheet beside book.css."""
    text = "/* Written from book.yml. */\n"
    for mode in ("light", "dark"):
        named = said.colors[mode]
        text += (
            f'html[data-theme="{mode}"] {{\n'
            f"  --pst-color-primary: {named['accent']};\n"
            f"  --pst-color-link: {named['links']};\n"
            f"  --pst-color-link-hover: {named['hover']};\n}}\n"
        )
    path = BUILD / "static" / "accent.css"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)


def write_config(builder: str, track: str = "") -> Path:
    """The configuration with the shared cache of executed pages.

    The site brings MathJax along, so that it can be read without internet.
    """
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    say_who(config, identity())
    write_accent(identity())
    config["execute"]["cache"] = str(BUILD / "cache")
    config["sphinx"]["config"]["book_track"] = track
    if builder == "html":
        config["sphinx"]["extra_extensions"] += ["sphinx-mathjax-offline"]
    if builder == "epub":  # which cannot do without them
        facts = {"version": edition().version, "project": config["title"]}
        facts |= {"epub_tocscope": "includehidden"}
        config["sphinx"]["config"] |= facts
    path = BUILD / "config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True))
    return path


@contextmanager
def unprinted() -> Iterator[None]:
    """Nothing tells pages that are executed where an earlier PDF has them.

    A check that fails on a page would name its page of that PDF, and a second
    build would not be the same as the first.
    """
    aside = PRINTED.with_suffix(".aside")
    if PRINTED.exists():
        PRINTED.replace(aside)
    try:
        yield
    finally:
        if aside.exists():
            aside.replace(PRINTED)


def jupyter_book(
    builder: str, toc: Path, out: Path, strict: bool, name: str, track: str = ""
) -> Path:
    """Run Jupyter Book; `strict` makes each warning an error."""
    gather_references()
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(ROOT)]
    config = write_config(builder, track)
    command += ["--toc", str(toc), "--config", str(config)]
    command += ["--path-output", str(out)]
    if builder == "epub":
        command += ["--builder", "custom", "--custom-builder", "epub"]
    else:
        command += ["--builder", builder]
    if strict:
        command += ["-n", "-W", "--keep-going"]
    # Sphinx does not warn again of pages that it has read. What it knows of
    # a run that failed, or was killed, is therefore thrown away.
    # So are the pages of other contents, which would stay in the output.
    unfinished, last = out / "unfinished", out / "contents.yml"
    listed = toc.read_text(encoding="utf-8")
    other = last.exists() and last.read_text(encoding="utf-8") != listed
    if other or unfinished.exists():
        shutil.rmtree(out / "_build", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(last, listed)
    unfinished.touch()
    with unprinted():
        log = run(name, command, bar=True, more=SHARING)
    unfinished.unlink()
    return log


def typeset(
    folder: Path, name: str = "latex", paper: str = "book", track: str = ""
) -> Path:
    """Run XeLaTeX on a finished LaTeX folder until references settle.

    What a run was writing when it failed, or was killed, may be cut off: the
    next one begins without it.
    """
    job = "book" if paper == "book" else f"book-{paper}"
    options = f"-interaction=nonstopmode -halt-on-error -jobname={job}"
    index = f"$makeindex = '{sys.executable} -m press.index %S %D'"
    command = ["latexmk", "-xelatex", *options.split(), "-e", index]
    write_edition(folder, edition())
    setting = f"\\renewcommand{{\\bookpaper}}{{{paper}}}\n"
    setting += f"\\renewcommand{{\\booktrack}}{{{track}}}\n"
    if track in SHORT:
        setting += "\\renewcommand{\\bookdepth}{0}\n"
    write_whole(folder / "paper.tex", setting)
    clock = {"SOURCE_DATE_EPOCH": str(edition().epoch)}
    clock |= {"FORCE_SOURCE_DATE": "1", "TZ": "UTC"}
    unfinished = folder / f"{job}-unfinished"
    if unfinished.exists():
        for path in folder.glob(f"{job}.*"):
            if path.suffix not in (".tex", ".sty"):
                path.unlink()
    unfinished.touch()
    run(name, [*command, "book.tex"], folder=folder, more=clock)
    unfinished.unlink()
    return folder / f"{job}.pdf"


WARNINGS = re.compile(
    r"Missing character:[^\n]*|LaTeX Warning: "
    r"(?:Label|Reference|Citation|Float too large)[^\n]*"
)


def faults(pdf: Path, limit: float = 1.0) -> list[str]:
    """Lines of TeX's log that tell of something that a reader would notice.

    Text wider than its line, a figure higher than its page, a letter that the
    font lacks, a name that is set twice or not at all.
    """
    log = pdf.with_suffix(".log")
    text = log.read_text(encoding="utf-8", errors="replace")
    wide = re.compile(r"Overfull \\hbox \(([\d.]+)pt too wide\)[^\n]*")
    found = [m[0] for m in wide.finditer(text) if float(m[1]) > limit]
    return found + WARNINGS.findall(text)


def prepare() -> None:
    """What every output needs first: the trained model."""
    stage("model", train_model, model_key, RUN / "log.jsonl")


def prove_shown() -> None:
    """Run the tests of what the book shows; each line of that is run."""
    stage("tests", measure_coverage, coverage_key, COVERAGE)
    missing = json.loads(COVERAGE.read_text(encoding="utf-8"))
    if lines := untested(Book(), missing):
        raise BuildError("\n".join(lines))


def pdf_name(paper: str, track: str) -> str:
    """The name of a printed book, without what it ends with."""
    parts = ["book", track, "" if paper == "book" else paper]
    return "-".join(part for part in parts if part)


def contents(track: str) -> Path:
    """The table of contents of the book, a track's edition, or a course."""
    course = identity().chapters
    if not track and not course:
        return ROOT / "_toc.yml"
    path = BUILD / f"toc-{track or 'course'}.yml"
    write_whole(path, contents_text(book_roadmap(), track, guide()))
    return path


def write_pdf(paper: str = "book", track: str = "") -> str:
    """Execute the chapters, typeset them; ``_build/book.pdf``."""
    out = BUILD / ("print" + (f"-{track}" if track else ""))
    name = "chapters" + (f"-{track}" if track else "")
    start = time.perf_counter()
    jupyter_book("latex", contents(track), out, True, name, track)
    seconds = time.perf_counter() - start
    say("chapters", seconds, "executed and written as LaTeX")
    pdf = typeset(out / "_build" / "latex", "latex", paper, track)
    if found := faults(pdf):
        raise BuildError("TeX is not content:\n" + "\n".join(found))
    if small := too_small(pdf):
        what = f"letters of less than {SMALLEST} points in figures:\n"
        raise BuildError(what + "\n".join(small))
    if hit := collisions(pdf.with_suffix(".aux"), paper):
        raise BuildError("\n".join(hit))
    looks = (stranded, empty_frames, sparse)
    with ThreadPoolExecutor() as pool:  # other programs render the pages
        asked = [pool.submit(look, pdf, paper) for look in looks]
        headings, frames, empty = [each.result() for each in asked]
    if bad := headings + frames:
        raise BuildError("\n".join(bad))
    print(told(pdf.with_suffix(".aux"), paper))
    if paper == "book" and (high := too_high(pdf.with_suffix(".aux"))):
        raise BuildError("\n".join(high))
    with pikepdf.open(pdf) as document:
        pages = len(document.pages)
    if len(empty) > FEW:
        raise BuildError("pages that are too empty:\n" + "\n".join(empty))
    print(*empty, sep="\n")
    if paper == "book" and (why := too_thick(track, pages)):
        raise BuildError(why)
    target = BUILD / f"{pdf_name(paper, track)}.pdf"
    finish_pdf(pdf, target, edition_for(track))
    if target.name == "book.pdf":  # what the checks send their readers to
        write_whole(PRINTED, json.dumps(printed_at(target)))
    return f"_build/{target.name}, {pages} pages, no line too wide"


def too_thick(track: str, pages: int) -> str:
    """Why an edition has too many pages, and what helps; "" if it has not."""
    limit = PAGES.get(track)
    if limit is None or pages <= limit:
        return ""
    return (
        f"the {track}s' edition has {pages} pages, and {limit} are its limit "
        "(PAGES in press/tracks.py): mark sections or passages that these "
        "readers can do without, or make a topic optional in roadmap.yml"
    )


def write_model_page(path: Path) -> None:
    """The book's model as a page that runs it, of the site and alone."""
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "scratchlm", "page", "--run", str(RUN)]
    command += ["--title", "The model of the book", "--out", str(path)]
    run("model-page", command)


def write_html() -> str:
    """The site in ``_build/html``."""
    jupyter_book("html", contents(""), BUILD / "site", True, "html")
    source = BUILD / "site" / "_build" / "html"
    drop_a_home(source)
    write_model_page(source / f"{MODEL_PAGE}.html")
    finish_site(source, BUILD / "html", edition())
    return "_build/html/index.html"


def write_epub() -> str:
    """The book for e-readers, ``_build/book.epub``."""
    out = BUILD / "ebook"
    # Sphinx packs all that it finds in its folder.
    shutil.rmtree(out / "_build" / "epub", ignore_errors=True)
    jupyter_book("epub", contents(""), out, True, "epub")
    epub = next((out / "_build").rglob("*.epub"))
    finish_epub(epub, BUILD / "book.epub", edition())
    return "_build/book.epub"


def write_accessible() -> str:
    """The large-print edition with tags, ``_build/book-large.pdf``."""
    source = BUILD / "book.epub"
    if not source.exists():
        raise BuildError("book.epub is not built: make epub")
    try:
        # Its packages come with `press.setup --large`.
        from press.accessible import TypesetError, finish
    except (ImportError, OSError) as error:  # Pango is no Python package
        raise BuildError(f"{error}: make accessible brings it") from error
    try:
        pages = finish(source, BUILD / "book-large.pdf", edition())
    except (TypesetError, ValueError, OSError) as error:
        raise BuildError(str(error)) from error
    return f"_build/book-large.pdf, {pages} pages"


OUTPUTS = {
    "pdf": (write_pdf, BUILD / "book.pdf"),
    "html": (write_html, BUILD / "html" / "index.html"),
    "epub": (write_epub, BUILD / "book.epub"),
    "accessible": (write_accessible, BUILD / "book-large.pdf"),
}


def build_page(file: Path) -> None:
    """One chapter alone, as HTML, PDF and images, warnings shown."""
    name = file.resolve().relative_to(ROOT).with_suffix("").as_posix()
    short = name.removeprefix("book/").replace("/", "-")
    out = BUILD / "pages" / short
    out.mkdir(parents=True, exist_ok=True)
    toc = out / "_toc.yml"
    pages = [name, "book/appendix/bibliography"]
    part: dict[str, Any] = {"caption": "Preview", "numbered": True}
    part["chapters"] = [{"file": page} for page in pages]
    content: dict[str, Any] = {"format": "jb-book", "root": "book/index"}
    content["parts"] = [part]
    toc.write_text(yaml.safe_dump(content, sort_keys=False))
    for builder in ("html", "latex"):
        log = jupyter_book(builder, toc, out, False, f"page-{short}-{builder}")
        for line in log.read_text(encoding="utf-8").splitlines():
            if ("WARNING" in line or "ERROR" in line) and name in line:
                print(line)
    pdf = typeset(out / "_build" / "latex", f"page-{short}-typeset")
    lost = re.compile("undefined on")  # other pages are not here
    wrong = [w for w in faults(pdf) if not lost.search(w)] + too_small(pdf)
    print("\n".join(wrong + collisions(pdf.with_suffix(".aux"))))
    for old in out.glob("page-*.png"):
        old.unlink()
    command = ["pdftoppm", "-r", "70", "-png", str(pdf), str(out / "page")]
    subprocess.run(command, check=True)
    print(f"{out}: page-*.png, and _build/html/{name}.html")


WHAT = [*OUTPUTS, "test", "run", "page"]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("file", nargs="?", type=Path, help="for page: a .md")
    parser.add_argument(
        "--paper", choices=papers(), default="book", help="for pdf"
    )
    parser.add_argument(
        "--track", choices=TRACKS, default="", help="for pdf: whose edition"
    )
    options = parser.parse_args(arguments)
    if options.track and options.what != "pdf":
        parser.error(f"{options.what} has no track: --track goes with pdf")
    if options.paper != "book" and options.what != "pdf":
        parser.error(f"{options.what} has no paper: --paper goes with pdf")
    file: Path | None = options.file
    if options.what == "page":
        if file is None or not file.is_file():
            parser.error("page needs the file of a chapter, say PAGE=…")
        inside = file.resolve().is_relative_to(ROOT / "book")
        if not inside or file.suffix != ".md":
            parser.error(f"{file} is no page of {ROOT / 'book'}")
    elif file is not None:
        parser.error(f"{options.what} takes no file: it is the whole book")
    try:
        BUILD.mkdir(exist_ok=True)
    except OSError as error:
        parser.error(f"{BUILD} cannot be made: {error.strerror}; make room")
    start = time.perf_counter()
    try:
        identity()  # before any long work
        if file is not None:
            build_page(file)
        elif options.what == "test":
            prove_shown()
            run_other_tests()
        elif options.what == "run":
            prepare()
        else:
            name, (write, result) = options.what, OUTPUTS[options.what]
            if options.what == "pdf":
                paper, track = options.paper, options.track
                made = pdf_name(paper, track)
                name = made.replace("book", "pdf", 1)
                write = partial(write_pdf, paper, track)
                result = BUILD / f"{made}.pdf"
            prepare()
            stage(name, write, inputs, result)
    except (BuildError, IdentityError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    say("all", time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
