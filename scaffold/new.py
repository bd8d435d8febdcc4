"""The command `new`: a repository, or what it would be."""

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaffold.emit import check_target, emit, outer, write
from scaffold.plan import Limits, Plan, ScaffoldError, budgets
from scaffold.stamp import answers
from scaffold.wishes import Wishes


def limits(options: argparse.Namespace) -> Limits:
    """What the run may take."""
    return Limits(options.hours, options.usd, options.hourly_usd)


def new(options: argparse.Namespace) -> int:
    """Make a repository, and say what to do next."""
    if options.dest and options.out:
        raise ScaffoldError(
            f"{options.dest} and --out {options.out} both name the folder; "
            "name one"
        )
    out = options.dest or options.out or Path(f"llm-{options.track}")
    if options.json and not options.dry_run:
        raise ScaffoldError("--json goes with --dry-run; add it")
    check_target(out)  # before anything that takes time
    names = ("name", "author", "license", "git", "reproducible")
    wishes = Wishes(**{name: getattr(options, name) for name in names})
    plan = Plan(
        options.track,
        options.budget,
        options.data,
        options.start,
        limits=limits(options),
        mode=options.mode,
    )
    if options.dry_run:
        return dry_run(plan, out, wishes, options.json)
    above = outer(out, wishes)
    emit(plan, out, wishes)
    if not options.quiet:
        print(greeting(plan, out.absolute()))
        for note in [*plan.notes, *within(above)]:
            print(f"note:  {note}", file=sys.stderr)
    return 0


def within(above: Path | None) -> list[str]:
    """What to say of a folder in another repository's work tree."""
    if above is None:
        return []
    return [
        f"the folder is inside the Git repository {above}, so it has none of "
        "its own: commit it there, or choose a folder outside with --out"
    ]


def greeting(plan: Plan, out: Path) -> str:
    """What there is now, and what to type next."""
    return (
        f"{out}: {len(plan.topics)} topics in {len(plan.weeks)} weeks, "
        f"for {budgets()[plan.budget]['title']}\n"
        f"next:  cd {shlex.quote(str(out))}\n"
        "       python3 -m venv .venv && . .venv/bin/activate\n"
        "       python -m pip install -r requirements.txt\n"
        "       python -m pytest && python train.py --taste && "
        "python sample.py"
    )


def sizes(plan: Plan, wishes: Wishes) -> dict[str, int]:
    """The files that the repository would have, with their bytes."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "repository"
        write(plan, folder, wishes)
        return {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def tree(files: dict[str, int]) -> list[str]:
    r"""Files of the first level, and folders with what is in them.

    >>> print("\n".join(tree({"a/b": 1500, "a/c/d": 500, "train.py": 3000})))
      a/                2 files     2.0 kB
      train.py                      3.0 kB
    """
    found: dict[str, list[int]] = {}
    for name, size in files.items():
        first, slash, _ = name.partition("/")
        found.setdefault(first + slash, []).append(size)
    rows = []
    for name, parts in found.items():
        count = f"{len(parts)} files" if name.endswith("/") else ""
        rows.append(f"  {name:<18}{count:>7}{sum(parts) / 1000:>8.1f} kB")
    return rows


def dry_run(plan: Plan, out: Path, wishes: Wishes, as_json: bool) -> int:
    """Print what would be made; nothing is left on the disk."""
    from scaffold.estimate import estimate  # it imports torch
    from scaffold.tables import words

    if not wishes.name:
        wishes = replace(wishes, name=out.absolute().name)
    files = sizes(plan, wishes)
    facts = budgets()[plan.budget]
    run = estimate(plan.settings, facts, plan.limits)
    notes = [*plan.notes, *within(outer(out, wishes))]
    if as_json:
        found: dict[str, Any] = {
            "out": str(out.absolute()),
            "answers": answers(plan, wishes),
            "files": files,
            "bytes": sum(files.values()),
            "config": plan.settings,
            "estimate": run.facts,
            "notes": notes,
        }
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    print(f"{out.absolute()} would have {len(files)} files, ", end="")
    print(f"{sum(files.values()) / 1e6:.1f} MB:")
    print("\n".join([*tree(files), "", *words(run, facts, plan.limits)]))
    for note in notes:
        print(f"note:  {note}", file=sys.stderr)
    return 0
