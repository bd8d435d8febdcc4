"""Make a repository from the sources that the book shows."""

import ast
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import yaml

from press.lock import locked
from press.roadmap import Topic, load

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
SOURCES = ROOT / "src"
PROJECT = "scratchlm"
NEEDED = ("coverage", "hypothesis", "pytest", "tiktoken", "tokenizers")
TEMPLATES = {
    "README.md": "README.md.j2",
    "pyproject.toml": "pyproject.toml.j2",
    "requirements.txt": "requirements.txt.j2",
    "train.py": "train.py.j2",
    "sample.py": "sample.py.j2",
    "gitignore": "gitignore.j2",
}


class ScaffoldError(ValueError):
    """The repository cannot be made; the message says why and what to do."""


def read_yaml(name: str) -> dict[str, Any]:
    """A YAML file of this folder."""
    data = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


@dataclass(frozen=True)
class Week:
    """A week of reading and running: its topics and its hours."""

    number: int
    topics: tuple[Topic, ...]

    @property
    def hours(self) -> float:
        """Hours of the week's topics."""
        return sum(topic.minutes for topic in self.topics) / 60


@dataclass(frozen=True)
class Plan:
    """What is to be emitted: for whom, and for which machine."""

    track: str
    budget: str

    def __post_init__(self) -> None:
        for kind, known in (("track", tracks()), ("budget", budgets())):
            name = getattr(self, kind)
            if name not in known:
                names = ", ".join(known)
                raise ScaffoldError(f"no {kind} {name!r}; there are: {names}")

    @cached_property
    def topics(self) -> tuple[Topic, ...]:
        """The track's topics, in reading order."""
        topics = load().topics
        return tuple(t for t in topics if t.tracks[self.track] != "skim")

    @cached_property
    def weeks(self) -> list[Week]:
        """The topics in weeks of the hours that the track has."""
        limit = 60 * tracks()[self.track]["hours"]
        weeks: list[list[Topic]] = [[]]
        for topic in self.topics:
            used = sum(t.minutes for t in weeks[-1])
            if weeks[-1] and used + topic.minutes > limit:
                weeks.append([])
            weeks[-1].append(topic)
        return [Week(i, tuple(w)) for i, w in enumerate(weeks, 1)]

    @property
    def options(self) -> dict[str, Any]:
        """The budget's options of the command `train`."""
        return dict(budgets()[self.budget]["train"])


def tracks() -> dict[str, Any]:
    """The tracks by name."""
    return read_yaml("tracks.yml")


def budgets() -> dict[str, Any]:
    """The budgets by name."""
    return read_yaml("budgets.yml")


def module_file(name: str) -> Path | None:
    """The library's file for a dotted name, None for other modules."""
    if name.split(".")[0] != PROJECT:
        return None
    path = SOURCES.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


CALLED = re.compile(r"^([\w.]+):\w+$")  # module:function, imported by name


def imports_of(path: Path) -> Iterator[Path]:
    """The library's files that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = CALLED.findall(node.value)
        for name in names:
            if found := module_file(name):
                yield found


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
        todo += [p for p in (init, path.with_suffix(".yaml")) if p.exists()]
    return sorted(p for p in done if p.is_relative_to(SOURCES))


def copies(plan: Plan) -> dict[str, Path]:
    """Path in the new repository → file that is copied there."""
    found: dict[str, Path] = {"LICENSE": ROOT / "LICENSE"}
    found["tests/conftest.py"] = ROOT / "tests" / "conftest.py"
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
    for name in ("__init__", "__main__", "expect"):
        found[f"checks/{name}.py"] = HERE / "checks" / f"{name}.py"
    for path in library_files(starts):
        inside = path.relative_to(SOURCES)
        found[inside.as_posix()] = path
        tests = f"tests/{inside.parent.name}/test_{inside.name}"
        if (ROOT / tests).exists():  # those of helpers from other tracks too
            found[tests] = ROOT / tests
    return found


def versions() -> dict[str, str]:
    """Exact versions of what the emitted repository needs."""
    with open(ROOT / "pyproject.toml", encoding="utf-8") as file:
        text = file.read()
    block = text[text.index("dependencies = [") :]
    block = block[: block.index("]")]
    names = {line.split(">")[0] for line in block.split('"')[1::2]}
    wanted = names | set(NEEDED)
    found = [
        line
        for name, lines in locked().items()
        if name in wanted
        for line in lines
    ]
    return {line: line.partition("==")[2] for line in sorted(found)}


def render(plan: Plan, folder: Path, name: str) -> None:
    """Write the files that are made from templates."""
    loader = jinja2.FileSystemLoader(HERE / "templates")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    facts = {
        "plan": plan,
        "name": name,
        "track": tracks()[plan.track],
        "budget": budgets()[plan.budget],
        "requirements": list(versions()),
    }
    for target, template in TEMPLATES.items():
        text = environment.get_template(template).render(facts)
        place = folder / (".gitignore" if target == "gitignore" else target)
        place.write_text(text, encoding="utf-8")
    text = json.dumps(plan.options, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def git(folder: Path, *arguments: str) -> str:
    """Run git in the folder; the author's name only if none is set."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise ScaffoldError("git is not installed; install it") from error
    except subprocess.CalledProcessError as error:
        raise ScaffoldError(f"git failed: {error.stderr.strip()}") from error
    return done.stdout.strip()


def commit(plan: Plan, folder: Path) -> None:
    """Make the folder a Git repository with its first commit."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    for key, value in (
        ("user.name", "scratchlm scaffold"),
        ("user.email", "scaffold@example.invalid"),
    ):
        known = subprocess.run(
            ["git", "config", key], cwd=folder, capture_output=True, check=False
        )
        if known.returncode:
            git(folder, "config", key, value)
    git(folder, "add", "--all")
    message = f"A language model from scratch: {plan.track}, {plan.budget}"
    git(folder, "commit", "--quiet", "--no-verify", "-m", message)


def check_target(out: Path) -> None:
    """Refuse a target that holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ScaffoldError(
            f"{out} is not an empty folder; name another one with --out"
        )


def emit(plan: Plan, out: Path) -> Path:
    """Write the repository at `out`: all of it, or nothing."""
    out = out.absolute()
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{out.name}.", dir=out.parent
    ) as made:
        folder = Path(made) / "repository"
        for target, source in copies(plan).items():
            place = folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        render(plan, folder, out.name)
        commit(plan, folder)
        check_target(out)
        os.replace(folder, out)
    return out
