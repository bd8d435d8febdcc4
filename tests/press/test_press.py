"""The package that makes the book: what it imports, and what it does not."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ_AS_TEXT = {"scratchlm", "scaffold", "solutions", "records", "benchmarks"}
READ_AS_TEXT |= {"compliance", "check"}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add((node.module or "").split(".")[0])
    return found


def test_the_press_imports_nothing_of_what_it_prints() -> None:
    files = list((ROOT / "press").rglob("*.py"))
    assert len(files) > 10
    for path in files:
        assert not imported(path) & READ_AS_TEXT, path


def test_nobody_edits_the_search_path() -> None:
    """Everything is installed: no list of folders, no `sys.path`."""
    folders = ("press", "src", "scaffold", "solutions", "records", "tests")
    # The guard of cells comes into a kernel before any module; a script that
    # a reader takes along runs where the repository cannot be seen; and in an
    # emitted repository tests start processes though nobody installed it. An
    # engine that the book does not need is put beside what is installed. A
    # check runs on the library that its job names, in a process of its own.
    own = ("press/guard.py", "tests/press/test_exports.py")
    own += ("tests/conftest.py", "tests/solutions/test_shards.py")
    own += ("check/process.py", "check/mine.py")
    spared = {Path(__file__), *(ROOT / name for name in own)}
    for folder in (*folders, "benchmarks", "compliance", "check"):
        for path in (ROOT / folder).rglob("*.py"):
            if path in spared:
                continue
            text = path.read_text(encoding="utf-8")
            assert "sys.path" not in text, path
            assert "PYTHON" + "PATH" not in text, path
    assert "pythonpath" not in (ROOT / "pyproject.toml").read_text()
