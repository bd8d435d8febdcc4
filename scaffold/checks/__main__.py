"""Run the checks: does my implementation do what the book's does?

    python -m checks                 every check of this repository
    python -m checks attention bpe   the checks of these topics
    python -m checks --list          the topics that have checks
    python -m checks --status        what has passed, by progress.json
    python -m checks --bugs bpe      plant known bugs; each must be caught

A check ends with ✓, or with what it expected, what it got, and the likely
cause. The exit code is 0 when all pass, 1 when one fails, and 2 when a
topic's name is not known.

Where a file progress.json lies beside this package, the checks keep there
which topics passed the last time. An emitted repository has one; in a clone of
the book, begin with {"topics": {}}.
"""

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from .expect import CheckFailed
from .progress import ProgressError, keep, read

HERE = Path(__file__).parent
# The root of the repository: `checks` lies there, `scaffold.checks` deeper.
PROGRESS = HERE.parents[str(__package__).count(".")] / "progress.json"


class OtherCode(ValueError):
    """A known bug has no place in a module: it is not the book's own."""


def topics() -> dict[str, str]:
    """Topic → name of the module with its checks, in alphabetic order."""
    found = sorted(HERE.glob("*/check_*.py"), key=lambda path: path.stem)
    return {
        path.stem.removeprefix("check_"): ".".join(
            [str(__package__), path.parent.name, path.stem]
        )
        for path in found
    }


def check_functions(module: ModuleType) -> list[Callable[[], None]]:
    """The functions named ``check_…``, in the order of the file."""
    names = [name for name in vars(module) if name.startswith("check_")]
    if not names:
        raise CheckFailed(f"{module.__name__} holds no check")
    return [getattr(module, name) for name in names]


def first_line(thing: object) -> str:
    """The first line of a docstring."""
    return (thing.__doc__ or "").strip().split("\n")[0].rstrip(".")


def run_check(check: Callable[[], None]) -> str:
    """Run one check; return "" or the explanation of its failure."""
    try:
        check()
    except CheckFailed as failure:
        return str(failure)
    except Exception as error:
        return explain(error)
    return ""


def explain(error: BaseException) -> str:
    """What went wrong, and in which line of the library if it came so far.

    A function whose body is empty returns None, and its caller stumbles
    over that: then the place alone would send the reader to the wrong file.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "scratchlm" in Path(f.filename).parts]
    last = (own or frames)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}, in {last.name}"
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{Path(error.filename).name}:{error.lineno}"
    lines = [f"{type(error).__name__} at {place}", f"  {error}"]
    if "NoneType" in str(error):
        lines.append(
            "  likely:   a function returned nothing: is its body written, "
            "and does it end with return?"
        )
    return "\n".join(lines)


def run_topic(topic: str) -> int:
    """Run a topic's checks, print a line each; return how many failed."""
    try:
        module = importlib.import_module(topics()[topic])
    except Exception as error:  # of what the reader wrote
        message = explain(error).replace("\n", "\n      ")
        print(f"{topic}:\n  ✗ it cannot be imported\n      {message}")
        return 1
    failed = 0
    print(f"{topic}: {first_line(module)}")
    for check in check_functions(module):
        message = run_check(check)
        print(f"  {'✗' if message else '✓'} {first_line(check)}")
        if message:
            failed += 1
            print("      " + message.replace("\n", "\n      "))
    return failed


def run_and_keep(topic: str) -> int:
    """Run a topic's checks, and keep whether they passed, where that is."""
    failed = run_topic(topic)
    if PROGRESS.exists():
        keep(PROGRESS, topic, passed=not failed)
    return failed


def subject(module: ModuleType) -> ModuleType:
    """The module under check: the one of the same name as the topic."""
    topic = module.__name__.rpartition("check_")[2]
    return getattr(module, topic)


@contextmanager
def planted(module: ModuleType, old: str, new: str) -> Iterator[None]:
    """Run the module's source again in place with `old` made `new`."""
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise OtherCode(
            f"{path.name} holds {old!r} {source.count(old)} times, not once"
        )
    before = dict(vars(module))
    code = compile(source.replace(old, new), str(path), "exec")
    try:
        exec(code, vars(module))
        yield
    finally:
        vars(module).clear()
        vars(module).update(before)


def catch_bugs(topic: str) -> dict[str, list[str]]:
    """Plant each known bug; return which checks failed on it, by bug."""
    module = importlib.import_module(topics()[topic])
    caught = {}
    for bug, (old, new) in module.BUGS.items():
        with planted(subject(module), old, new):
            caught[bug] = [
                first_line(check)
                for check in check_functions(module)
                if run_check(check)
            ]
    return caught


def show_bugs(topic: str) -> int:
    """Print the check that catches each bug; return how many escaped."""
    escaped = 0
    print(f"{topic}: bugs planted one at a time")
    try:
        caught = catch_bugs(topic)
    except OtherCode as error:
        print(f"  ✗ bugs are planted in the book's own code, but {error}")
        return 1
    except Exception as error:  # of what the reader wrote
        print("  ✗ " + explain(error).replace("\n", "\n    "))
        return 1
    for bug, checks in caught.items():
        escaped += not checks
        by = f"caught by: {checks[0]}" if checks else "NOT CAUGHT"
        print(f"  {'✓' if checks else '✗'} {bug}\n      {by}")
    return escaped


def show_status(known: list[str]) -> None:
    """Print what has passed, what has not, and what comes next.

    Raises ProgressError for a file that is none of ours.
    """
    passed = read(PROGRESS)
    signs = {True: "✓", False: "✗", None: "·"}
    for topic in known:
        print(f"  {signs[passed.get(topic)]} {topic}")
    done = sum(passed.get(topic) is True for topic in known)
    print(f"{done} of {len(known)} topics have passed")
    if not PROGRESS.exists():
        print(f"nothing is kept: there is no {PROGRESS.name}")


@contextmanager
def nothing_left() -> Iterator[None]:
    """Temporary files of the checks are gone when the last has run."""
    with tempfile.TemporaryDirectory(prefix="checks-") as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("topics", nargs="*", metavar="TOPIC")
    parser.add_argument("--list", action="store_true", help="list the topics")
    parser.add_argument(
        "--bugs", action="store_true", help="plant bugs; all must be caught"
    )
    parser.add_argument(
        "--status", action="store_true", help="what has passed so far"
    )
    options = parser.parse_args(arguments)
    known = topics()
    if options.list and (options.topics or options.bugs):
        parser.error("--list stands alone: it lists every topic")
    if options.status and (options.topics or options.bugs or options.list):
        parser.error("--status stands alone: it shows every topic")
    if options.list:
        print("\n".join(known))
        return 0
    try:
        if options.status:
            show_status(list(known))
            return 0
        read(PROGRESS)  # before anything takes its time
    except ProgressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    unknown = [name for name in options.topics if name not in known]
    if unknown:
        print(
            f"no checks for {', '.join(unknown)}; there are: "
            + ", ".join(known),
            file=sys.stderr,
        )
        return 2
    start = time.perf_counter()
    run = show_bugs if options.bugs else run_and_keep
    chosen = list(dict.fromkeys(options.topics)) or list(known)
    try:
        with nothing_left():
            failed = sum(run(topic) for topic in chosen)
    except KeyboardInterrupt as stop:
        print(f"\n{explain(stop).splitlines()[0]}", file=sys.stderr)
        return 130
    seconds = time.perf_counter() - start
    verdict = "all hold" if not failed else f"{failed} failed"
    print(f"{len(chosen)} topics, {verdict}, {seconds:.1f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
