"""Make a repository from the sources that the book shows."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from check.places import printed, told_in
from press.identity import identity
from press.plan import checks
from press.records import read
from press.roadmap import Topic
from scaffold.holes import chosen, dig
from scaffold.needs import (
    constraints,
    imported_names,
    project_name,
    requirements,
)
from scaffold.plan import (
    DestinationError,
    Plan,
    ScaffoldError,
    budgets,
    tracks,
)
from scaffold.repository import belongs_to, commit
from scaffold.stamp import BUDGET, STAMP, stamp
from scaffold.wishes import Wishes, license_files

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
SOURCES = ROOT / "src"
PROJECT = "scratchlm"
NOTHING = Wishes()
OWN = {PROJECT, "scaffold", "check", "checks", "experiments", "train"}
OWN |= {"compliance"}
TEMPLATES = {
    "README.md": "README.md.j2",
    "pyproject.toml": "pyproject.toml.j2",
    "requirements.txt": "requirements.txt.j2",
    "constraints.txt": "constraints.txt.j2",
    "train.py": "train.py.j2",
    "sample.py": "sample.py.j2",
    "gitignore": "gitignore.j2",
    "card.yml": "card.yml.j2",
}
PAGE = "phase.md.j2"  # of notes/, once for each phase


def module_file(name: str) -> Path | None:
    """The library's file for a dotted name, None for other modules."""
    if name.split(".")[0] != PROJECT:
        return None
    path = SOURCES.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def imports_of(path: Path) -> Iterator[Path]:
    """The library's files that a file imports, wherever it does."""
    for name in sorted(imported_names(path)):
        if found := module_file(name):
            yield found


def beside(path: Path) -> Iterator[Path]:
    """Where data of a module may lie: files of its name in the same folder."""
    return (path.with_suffix(end) for end in (".yaml", ".js", ".html", ".css"))


def library_files(starts: list[Path]) -> list[Path]:
    """The files `starts`, all that they import, their packages and data."""
    done: set[Path] = set()
    todo = [SOURCES / PROJECT / "__main__.py", *starts]
    while todo:
        path = todo.pop()
        if path in done:
            continue
        done.add(path)
        if path.suffix == ".py":
            todo += imports_of(path)
        init = path.parent / "__init__.py"
        todo += [p for p in (init, *beside(path)) if p.exists()]
    return sorted(p for p in done if p.is_relative_to(SOURCES))


def copies(plan: Plan) -> dict[str, Path]:
    """Path in the new repository → file that is copied there."""
    found = {"tests/conftest.py": ROOT / "tests" / "conftest.py"}
    starts = []
    for topic in plan.topics:
        places = {kind: ROOT / name for kind, name in topic.files.items()}
        folder = topic.package
        found[f"tests/{folder}/{places['tests'].name}"] = places["tests"]
        found[f"checks/{folder}/{places['check'].name}"] = places["check"]
        found[f"checks/{folder}/__init__.py"] = (
            places["check"].parent / "__init__.py"
        )
        starts += [places["module"], places["check"], places["tests"]]
    for name in ("__init__", "__main__", "expect", "inputs"):
        found[f"checks/{name}.py"] = HERE / "checks" / f"{name}.py"
    for path in sorted((ROOT / "check").glob("*.py")):
        found[f"check/{path.name}"] = path
    for path in sorted((HERE / "experiments").glob("*.*")):
        found[f"experiments/{path.name}"] = path
        starts += [path] if path.suffix == ".py" else []
    found["experiments/experiments.json"] = ROOT / "records/experiments.json"
    if plan.track == "researcher":
        lab = HERE / "lab"
        found["cluster.sbatch"] = lab / "cluster.sbatch"
        found["sweep.py"] = lab / "sweep.py"
        starts.append(lab / "sweep.py")
        for path in sorted((lab / "sweeps").glob("*.toml")):
            found[f"sweeps/{path.name}"] = path
    for folder in ("compliance", "tests/compliance"):
        for path in sorted((ROOT / folder).glob("*.*")):
            found[path.relative_to(ROOT).as_posix()] = path
            starts += [path] if path.suffix == ".py" else []
    library = library_files(starts)
    for path in library:
        inside = path.relative_to(SOURCES)
        found[inside.as_posix()] = path
        found[f"check/reference/{inside.as_posix()}"] = path
        tests = ROOT / "tests" / inside.parent.name / f"test_{inside.name}"
        if tests.exists() and {*imports_of(tests)} <= {*library}:
            # those of helpers from other tracks too, if they can run
            found[tests.relative_to(ROOT).as_posix()] = tests
    for place in {(ROOT / name).parent for name in found if "test_" in name}:
        for path in (place / "conftest.py", place / "__init__.py"):
            if path.exists():  # what the folder's tests share
                found[path.relative_to(ROOT).as_posix()] = path
    return found


def render(plan: Plan, folder: Path, wishes: Wishes) -> None:
    """Write the files that are made from templates."""
    loader = jinja2.FileSystemLoader(HERE / "templates")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sources = {k: v for k, v in copies(plan).items() if k.endswith(".py")}
    library = [v for k, v in sources.items() if k.startswith(PROJECT)]
    facts = {
        "plan": plan,
        "book": identity().title,
        "name": wishes.name,
        "project": project_name(wishes.name),
        "author": json.dumps(wishes.author, ensure_ascii=False),
        "license": wishes.license.replace("none", ""),
        "expression": wishes.expression,
        "track": tracks()[plan.track],
        "budget": budgets()[plan.budget],
        "requirements": requirements(sources.values(), OWN),
        "dependencies": requirements(library, OWN),
        "constraints": constraints(),
        "holes": chosen(),
    }
    for target, template in TEMPLATES.items():
        text = environment.get_template(template).render(facts)
        place = folder / (".gitignore" if target == "gitignore" else target)
        place.write_text(text, encoding="utf-8")
    page = environment.get_template(PAGE)
    (folder / "notes").mkdir()
    for target, phase in plan.pages.items():
        text = page.render(facts, phase=phase, checks=checks(phase.topics))
        (folder / target).write_text(text, encoding="utf-8")
    from scaffold.config import config  # it imports torch
    from scaffold.page import budget_page

    (folder / BUDGET).write_text(budget_page(plan), encoding="utf-8")
    (folder / "config.toml").write_text(config(plan), encoding="utf-8")
    topics = {"topics": [entry(topic, plan.stubs) for topic in plan.topics]}
    text = json.dumps(topics, indent=1, ensure_ascii=False) + "\n"
    (folder / "check" / "topics.json").write_text(text, encoding="utf-8")
    text = json.dumps(known_marks(plan.topics), ensure_ascii=False) + "\n"
    (folder / "check" / "mistakes.json").write_text(text, encoding="utf-8")
    if plan.start:
        (folder / "plan.ics").write_text(plan.calendar, encoding="utf-8")


def entry(topic: Topic, stubs: bool = False) -> dict[str, Any]:
    """What the checks know of a topic, and where the book tells it."""
    told = ("gives", "explanation", "hazard", "done")
    names = ("id", "title", "package", "part", "requires", *told)
    page = (ROOT / topic.files["chapter"]).read_text(encoding="utf-8")
    title, sections = told_in(page)
    found = {name: getattr(topic, name) for name in names}
    found |= {"chapter": title, "sections": sections}
    if pages := printed(ROOT, title):
        found["pages"] = pages
    return found | ({"hole": chosen()[topic.id]} if stubs else {})


def known_marks(topics: Sequence[Topic]) -> dict[str, Any]:
    """Which checks each known mistake fails, as the book has recorded it.

    It tells with which of them a reader's failure is compared first.
    """
    known = read(ROOT / "records" / "mistakes.json")["data"]
    found = {}
    for topic in topics:
        if topic.id not in known:
            raise ScaffoldError(
                f"records/mistakes.json does not know {topic.id}: run "
                "python -m records mistakes"
            )
        part = known[topic.id]
        marks = {
            bug: {"marks": way["marks"]}
            for bug, way in part["mistakes"].items()
        }
        found[topic.id] = {"checks": part["checks"], "mistakes": marks}
    return {"data": found}


def holds(out: Path) -> bool:
    """Whether a target is there and is no empty folder."""
    return out.exists() and (not out.is_dir() or any(out.iterdir()))


def check_target(out: Path, force: bool = False) -> None:
    """Refuse a target that holds something; a folder may, by `force`."""
    out = out.absolute()
    if holds(out) and not (force and out.is_dir()):
        raise DestinationError(
            f"{out} is not an empty folder; name another one with --out"
        )
    place = out.resolve()  # a link stays, and what it leads to is filled
    places = [place, *place.parents] if holds(out) else place.parents
    above = next(folder for folder in places if folder.exists())
    if not above.is_dir():
        raise ScaffoldError(
            f"{above} is a file, and no folder can be made in it; name "
            "another one with --out"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise ScaffoldError(
            f"{above} cannot be written to; name another folder with --out"
        )


def write(plan: Plan, folder: Path, wishes: Wishes) -> None:
    """Write all files of the repository into a folder that is not there."""
    for target, source in copies(plan).items():
        place = folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    if plan.stubs:
        dig(folder, plan.topics)
    render(plan, folder, wishes)
    for name, text in license_files(wishes).items():
        (folder / name).write_text(text, encoding="utf-8")
    kept = stamp(plan, folder, wishes)
    (folder / STAMP).write_text(kept, encoding="utf-8")


def outer(out: Path, wishes: Wishes) -> Path | None:
    """The repository that the new files will be part of, if there is one."""
    return belongs_to(out.resolve()) if wishes.git else None


def emit(plan: Plan, out: Path, wishes: Wishes = NOTHING) -> Path:
    """Write the repository at `out`: all of it, or nothing.

    It is made beside the first folder that has to be made, and renamed when
    it is whole. In the work tree of another repository it has none of its
    own: Git would hide the one from the other.
    """
    out = out.absolute()
    check_target(out)
    if not wishes.name:
        wishes = replace(wishes, name=out.name)
    place = out.resolve()  # a link stays, and what it leads to is filled
    above = next(folder for folder in place.parents if folder.exists())
    own = wishes.git and not outer(out, wishes)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=above) as made:
        folder = Path(made) / "repository"
        write(plan, folder, wishes)
        if own:
            commit(plan, folder, wishes)
        check_target(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, place)
    return out
