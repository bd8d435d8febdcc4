"""Every example in a docstring runs, and gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "src" / "scratchlm").rglob("*.py"))
FILES += sorted((ROOT / "solutions").rglob("*.py"))
FILES += sorted((ROOT / "scaffold").glob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a file of the library, solutions or scaffold."""
    base = ROOT / "src" if "scratchlm" in path.parts else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_the_examples_hold(path: Path) -> None:
    module = importlib.import_module(
        module_name(path).removesuffix(".__init__")
    )
    assert doctest.testmod(module).failed == 0


def test_there_are_many_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [
        importlib.import_module(module_name(path).removesuffix(".__init__"))
        for path in FILES
    ]
    examples = sum(
        len(test.examples) for m in modules for test in finder.find(m)
    )
    assert examples > 70
