"""Build the book: ``python -m press.build pdf | html | epub | page FILE``.

Each stage prints one line with its time, leaves its log in ``_build/logs``,
and is skipped when nothing that it depends on has changed. The Makefile
calls this; `make help` lists the targets.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from press.extensions.freshness import closure

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "_build"
LOGS = BUILD / "logs"
RUN = BUILD / "runs" / "toytown"
COVERAGE = BUILD / "coverage.json"
PERCENT = re.compile(r"\[ *(\d+)%\] (\S+)")
SHOWN_TESTS = ["text", "model", "training", "generation", "evaluation"]
SHOWN_TESTS += ["solutions", "test_cli.py"]


class BuildError(RuntimeError):
    """A stage failed; the message says where its log is."""


def say(stage: str, seconds: float, note: str = "") -> None:
    """One line per stage: name, time, what came of it."""
    print(f"{stage:<12} {seconds:7.1f} s   {note}", flush=True)


def environment() -> dict[str, str]:
    """The environment of every tool: fixed hashing, no colors."""
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "ignore",
        "SOURCE_DATE_EPOCH": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "COVERAGE_FILE": str(BUILD / "coverage.data"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log, for an error message."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def run(
    name: str,
    command: list[str],
    folder: Path = ROOT,
    bar: bool = False,
    check: bool = True,
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
            env=environment(),
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
    if check and process.returncode:
        raise BuildError(f"{name} failed; {log} ends:\n{tail(log)}")
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


def mark(stamp: Path, key: str) -> None:
    """Remember that the stage is done for these inputs."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key, encoding="utf-8")


def inputs() -> str:
    """A hash of all that the pages are made from."""
    folders = ("book", "src", "solutions", "scaffold", "tests", "press")
    files = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    files += [*(ROOT / "records").glob("*.json"), *RUN.glob("**/*.safetensors")]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    files += [COVERAGE] if COVERAGE.exists() else []
    return digest(files)


# --- stages -----------------------------------------------------------------


def train_model() -> str:
    """Train the book's small model, unless its code has not changed."""
    modules = {"scratchlm.text.toytown", "scratchlm.text.tokenizer"}
    modules |= {"scratchlm.text.tokens", "scratchlm.training.trainer"}
    modules |= {"scratchlm.training.muon"}
    files = closure(modules) | {ROOT / "src/scratchlm/__main__.py"}
    key = digest(files, bare)
    stamp = BUILD / "stamps" / "run"
    if fresh(stamp, key) and (RUN / "log.jsonl").exists():
        return "up to date"
    if RUN.exists():
        shutil.rmtree(RUN)
    command = [sys.executable, "-m", "scratchlm", "train"]
    command += ["--corpus", "toytown", "--out", str(RUN)]
    status = subprocess.run(command, cwd=BUILD, env=environment(), check=False)
    if status.returncode:
        raise BuildError("training the book's small model failed (see above)")
    mark(stamp, key)
    lines = (RUN / "log.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [json.loads(x).get("validation_loss") for x in lines]
    best = min(x for x in losses if x is not None)
    return f"validation loss {best:.3f} nats per token"


def measure_coverage() -> str:
    """Run the library's tests; keep which test runs which line."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "solutions").rglob("*.py")]
    files += (ROOT / "tests").rglob("*.py")
    key = digest(files)
    stamp = BUILD / "stamps" / "coverage"
    if fresh(stamp, key) and COVERAGE.exists():
        return "up to date"
    tests = [f"tests/{name}" for name in SHOWN_TESTS]
    tests = [name for name in tests if (ROOT / name).exists()]
    command = [sys.executable, "-m", "pytest", *tests, "-n", "2"]
    command += ["--cov=scratchlm", "--cov=solutions", "--cov-report="]
    command += ["--cov-context=test", "-p", "no:cacheprovider"]
    log = run("tests", command)
    report = BUILD / "coverage-raw.json"
    command = [sys.executable, "-m", "coverage", "json", "--show-contexts"]
    run("coverage", [*command, "-o", str(report)])
    compact(json.loads(report.read_text(encoding="utf-8")))
    report.unlink()
    mark(stamp, key)
    return tail(log, 1)


def compact(report: dict[str, Any]) -> None:
    """Write which tests run which lines, each test named once."""
    numbers: dict[str, int] = {}
    files = {}
    for name, file in report["files"].items():
        tests = {}
        for line, contexts in file["contexts"].items():
            names = {c.partition("|")[0] for c in contexts if c}
            runs = [numbers.setdefault(n, len(numbers)) for n in sorted(names)]
            if runs:
                tests[line] = runs
        missing = file["missing_lines"]
        files[name] = {"tests": tests, "missing": missing}
    text = json.dumps({"tests": list(numbers), "files": files})
    partial = COVERAGE.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, COVERAGE)


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


def write_config(builder: str) -> Path:
    """The configuration with the shared cache of executed pages.

    The site brings MathJax along, so that it can be read without internet.
    """
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    config["execute"]["cache"] = str(BUILD / "cache")
    if builder == "html":
        config["sphinx"]["extra_extensions"] += ["sphinx-mathjax-offline"]
    if builder == "epub":  # which cannot do without them
        facts = {"version": "0.1.0", "project": config["title"]}
        config["sphinx"]["config"] |= facts
    path = BUILD / "config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True))
    return path


def jupyter_book(
    builder: str, toc: Path, out: Path, strict: bool, name: str
) -> Path:
    """Run Jupyter Book; `strict` makes each warning an error."""
    gather_references()
    command = [str(Path(sys.executable).with_name("jupyter-book"))]
    command += ["build", str(ROOT)]
    command += ["--toc", str(toc), "--config", str(write_config(builder))]
    command += ["--path-output", str(out)]
    if builder == "epub":
        command += ["--builder", "custom", "--custom-builder", "epub"]
    else:
        command += ["--builder", builder]
    if strict:
        command += ["-n", "-W", "--keep-going"]
    return run(name, command, bar=True)


def typeset(folder: Path, name: str = "latex") -> Path:
    """Run XeLaTeX on a finished LaTeX folder until references settle."""
    options = "-interaction=nonstopmode -halt-on-error"
    command = ["latexmk", "-xelatex", *options.split(), "book.tex"]
    run(name, command, folder=folder)
    return folder / "book.pdf"


def overfull(folder: Path, limit: float = 1.0) -> list[str]:
    """Lines of the log that tell of text wider than its line."""
    text = (folder / "book.log").read_text(encoding="utf-8", errors="replace")
    wide = re.compile(r"Overfull \\hbox \(([\d.]+)pt too wide\)[^\n]*")
    found = [m[0] for m in wide.finditer(text) if float(m[1]) > limit]
    return found + re.findall(r"Missing character:[^\n]*", text)


def stage(name: str, action: Callable[[], str]) -> None:
    """Run one stage and print its line."""
    start = time.perf_counter()
    note = action()
    say(name, time.perf_counter() - start, note)


def build_pdf() -> None:
    """Everything that the PDF needs, and ``_build/book.pdf`` itself."""
    out = BUILD / "print"
    latex = out / "_build" / "latex"
    toc = ROOT / "_toc.yml"

    def chapters() -> str:
        jupyter_book("latex", toc, out, True, "chapters")
        return "executed and written as LaTeX"

    def typesetting() -> str:
        pdf = typeset(latex)
        if wide := overfull(latex):
            raise BuildError("lines that are too wide:\n" + "\n".join(wide))
        os.replace(shutil.copy(pdf, BUILD / "book.partial"), BUILD / "book.pdf")
        found = re.search(r"\((\d+) pages", (latex / "book.log").read_text(
            encoding="utf-8", errors="replace"
        ))
        pages = found[1] if found else "?"
        return f"_build/book.pdf, {pages} pages, no line too wide"

    stage("model", train_model)
    stage("tests", measure_coverage)
    stamp, key = BUILD / "stamps" / "pdf", inputs()
    if fresh(stamp, key) and (BUILD / "book.pdf").exists():
        say("pdf", 0, "_build/book.pdf is up to date")
        return
    stage("chapters", chapters)
    stage("pdf", typesetting)
    mark(stamp, key)


def build_site(builder: str) -> None:
    """The HTML site in ``_build/html`` or the EPUB ``_build/book.epub``."""
    out = BUILD / ("site" if builder == "html" else "ebook")

    def write() -> str:
        if builder == "epub":  # it packs all that it finds in its folder
            shutil.rmtree(out / "_build" / "epub", ignore_errors=True)
        jupyter_book(builder, ROOT / "_toc.yml", out, True, builder)
        if builder == "html":
            link = BUILD / "html"
            if not link.exists():
                link.symlink_to(Path("site") / "_build" / "html")
            return "_build/html/index.html"
        epub = next((out / "_build").rglob("*.epub"))
        shutil.copy(epub, BUILD / "book.epub")
        return "_build/book.epub"

    stage("model", train_model)
    stage("tests", measure_coverage)
    stamp, key = BUILD / "stamps" / builder, inputs()
    result = BUILD / ("html" if builder == "html" else "book.epub")
    if fresh(stamp, key) and result.exists():
        say(builder, 0, f"_build/{result.name} is up to date")
        return
    stage(builder, write)
    mark(stamp, key)


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
    print("\n".join(overfull(pdf.parent)))
    for old in out.glob("page-*.png"):
        old.unlink()
    command = ["pdftoppm", "-r", "70", "-png", str(pdf), str(out / "page")]
    subprocess.run(command, check=True)
    print(f"{out}: page-*.png, and _build/html/{name}.html")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["pdf", "html", "epub", "run", "page"])
    parser.add_argument("file", nargs="?", type=Path, help="for page: a .md")
    options = parser.parse_args(arguments)
    BUILD.mkdir(exist_ok=True)
    start = time.perf_counter()
    try:
        if options.what == "pdf":
            build_pdf()
        elif options.what == "page":
            if options.file is None or not options.file.exists():
                parser.error("page needs the file of a chapter, say PAGE=…")
            build_page(options.file)
        elif options.what == "run":
            stage("model", train_model)
        else:
            build_site(options.what)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    say("all", time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
