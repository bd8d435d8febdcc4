"""The command `new`: a repository, or what it would be."""

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from scaffold.emit import check_target, emit, holds, outer, write
from scaffold.join import join, refuse_others, taken, targets
from scaffold.plan import Limits, Plan, ScaffoldError, budgets, seen_from
from scaffold.repository import check_branch, git
from scaffold.stamp import STAMP, answers
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
    check_target(out, options.force)  # before anything that takes time
    names = [field.name for field in fields(Wishes)]
    wishes = Wishes(**{name: getattr(options, name) for name in names})
    if wishes.branch:
        check_branch(wishes.branch)
    above = outer(out, wishes)
    if above and wishes.branch:
        raise ScaffoldError(
            f"{out} is inside the Git repository {above}, which has its "
            "branches; leave --branch out, or choose another folder"
        )
    plan = Plan(
        options.track,
        options.budget,
        options.data,
        options.start,
        limits=limits(options),
        mode=options.mode,
        corpus=seen_from(out, options.data),
    )
    if options.dry_run:
        return dry_run(plan, out, wishes, options)
    said = within(above)
    if options.force and holds(out):
        said += join(plan, out, wishes)
    else:
        emit(plan, out, wishes)
    if not options.quiet:
        print(greeting(plan, out.absolute(), wishes))
        for note in [*plan.notes, *said]:
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


def greeting(plan: Plan, out: Path, wishes: Wishes) -> str:
    """What there is now, what to type next, and what makes it once more."""
    from scaffold.estimate import estimate  # it imports torch
    from scaffold.tables import brief

    facts = budgets()[plan.budget]
    run = estimate(plan.settings, facts, plan.limits)
    first = "python -m pytest && python train.py --taste && python sample.py"
    if plan.stubs:
        first = "python -m check  # begins with the first topic"
    again = ["--answers", str(out / STAMP)]
    if wishes.git and wishes.commit and not wishes.reproducible:
        again += ["--reproducible"]
    lines = [
        f"{out}: {len(files_of(out))} files{committed(out, wishes)}, for "
        f"{facts['title']}",
        f"plan:  {plan.track}, {len(plan.topics)} topics in "
        f"{len(plan.weeks)} weeks; none is done yet, as it should be",
        f"run:   {brief(run)}",
        f"next:  cd {shlex.quote(str(out))}",
        "       python3 -m venv .venv && . .venv/bin/activate",
        "       python -m pip install -r requirements.txt",
        f"       {first}",
        f"again: python -m scaffold FOLDER {shlex.join(again)}",
    ]
    return "\n".join(lines)


def files_of(folder: Path) -> dict[str, int]:
    """The files in a folder, with their bytes, those of Git left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != ".git":
            found[name.as_posix()] = path.stat().st_size
    return found


def committed(out: Path, wishes: Wishes) -> str:
    """The commit that the files are in, where it is the folder's own."""
    if not (wishes.git and (out / ".git").exists()):
        return ""
    if not wishes.commit:
        return ", not committed"
    return f", commit {git(out, 'rev-parse', '--short=7', 'HEAD')}"


def foreseen(
    plan: Plan, out: Path, wishes: Wishes, force: bool
) -> tuple[dict[str, int], list[str]]:
    """The files that would be written, with their bytes, and what to say."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "repository"
        write(plan, folder, wishes)
        if not (force and holds(out)):
            return files_of(folder), []
        refuse_others(out, wishes)
        return files_of(folder), taken(targets(out, folder))


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


def dry_run(
    plan: Plan, out: Path, wishes: Wishes, options: argparse.Namespace
) -> int:
    """Print what would be made; nothing is left on the disk."""
    from scaffold.estimate import estimate  # it imports torch
    from scaffold.tables import words

    if not wishes.name:
        wishes = replace(wishes, name=out.absolute().name)
    files, said = foreseen(plan, out, wishes, options.force)
    facts = budgets()[plan.budget]
    run = estimate(plan.settings, facts, plan.limits)
    notes = [*plan.notes, *within(outer(out, wishes)), *said]
    if options.json:
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
