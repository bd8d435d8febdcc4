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


def test_a_notebook_has_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import check

    class Shell:
        """As much of IPython's shell as is needed."""

        def register_magic_function(self, magic, kind, name):  # type: ignore
            self.known = {name: magic}

    shell = Shell()
    check.load_ipython_extension(shell)
    shell.known["check"]("list")
    assert "attention" in capsys.readouterr().out
