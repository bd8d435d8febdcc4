"""Every example in the engine's docstrings runs, and gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "check").glob("*.py")
    if not path.stem.startswith("__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"check.{name}")).failed == 0
