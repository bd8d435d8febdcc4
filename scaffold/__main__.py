"""Make a repository of your own from the sources of the book.

It holds the library, its tests and checks, a plan by the week, and a
configuration for your machine. It is a Git repository with a first commit, and
its tests pass at once.
"""

import argparse
import shlex
import sys
from pathlib import Path

from scaffold.emit import emit
from scaffold.plan import MODES, Plan, ScaffoldError, budgets, tracks

EXAMPLES = """\
examples:
  python -m scaffold --track practitioner
  python -m scaffold --track beginner --out ~/my-first-model
  python -m scaffold --track practitioner --mode stubs
  python -m scaffold --track practitioner --data ~/letters.txt
  python -m scaffold --track researcher --budget gpu24 --out ~/lab
  python -m scaffold --track practitioner --start 2026-12-01

then, in the new folder:
  python3 -m venv .venv && . .venv/bin/activate
  python -m pip install -r requirements.txt
  python -m pytest      its tests
  python train.py       train the model of config.toml
  python sample.py      let it write
"""


def listing(title: str, entries: dict[str, str]) -> str:
    """A list for the help text."""
    rows = [f"  {name:<14}{text}" for name, text in entries.items()]
    return "\n".join([f"{title}:", *rows])


def make_parser() -> argparse.ArgumentParser:
    """The command line, with the tracks and budgets that exist."""
    aims = {name: item["aim"] for name, item in tracks().items()}
    sizes = {name: item["title"] for name, item in budgets().items()}
    parser = argparse.ArgumentParser(
        prog="python -m scaffold",
        description=__doc__,
        epilog="\n\n".join(
            [listing("tracks", aims), listing("budgets", sizes), EXAMPLES]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--track", required=True, help="who you are, see below")
    parser.add_argument(
        "--budget", default="cpu", help="what you have, see below (%(default)s)"
    )
    parser.add_argument(
        "--mode",
        default="",
        help=f"{' or '.join(MODES)}: modules with a hole each, of at most "
        "twelve lines, that you fill, or whole ones (beginner: stubs, the "
        "others: solutions)",
    )
    parser.add_argument(
        "--out", type=Path, help="an empty or new folder (llm-TRACK)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="a text of your own: a UTF-8 file, JSON lines, or a folder "
        "that `scratchlm corpus prepare` wrote (Toytown)",
    )
    parser.add_argument(
        "--start",
        default="",
        help="the first day of week 1, as 2026-12-01: writes plan.ics, a "
        "calendar of the plan (no calendar)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 2 for what the user can mend."""
    options = make_parser().parse_args(arguments)
    try:
        plan = Plan(
            options.track,
            options.budget,
            options.data,
            options.start,
            options.mode,
        )
        out = emit(plan, options.out or Path(f"llm-{options.track}"))
    except ScaffoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        print(f"error: {why if error.strerror else error}", file=sys.stderr)
        return 2
    weeks = len(plan.weeks)
    print(
        f"{out}: {len(plan.topics)} topics in {weeks} weeks, "
        f"for {budgets()[plan.budget]['title']}\n"
        f"next:  cd {shlex.quote(str(out))}\n"
        "       python3 -m venv .venv && . .venv/bin/activate\n"
        "       python -m pip install -r requirements.txt\n"
        "       python -m pytest && python train.py --taste && "
        "python sample.py"
    )
    if plan.warning:
        print(f"note:  {plan.warning}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
