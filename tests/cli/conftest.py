"""What the tests of the command line share: a small run, and a place."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.cli.app import main

SMALL = shlex.split("""
    --preset tiny --characters 20000 --vocab-size 300 --layers 1 --heads 2
    --channels 16 --context 16 --batch-size 4 --steps 6 --evaluate-every 3
    --sample-every 1 --warmup 2 --snapshots 0 --device cpu
    --precision float32 --checkpoint-every 3
""")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own, without a mirror."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRATCHLM_MIRROR", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small run on Toytown."""
    folder = tmp_path_factory.mktemp("runs") / "toytown"
    assert main(["train", *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Run a command that is to fail; returns the sentence it says."""

    def call(arguments: list[str]) -> str:
        assert main(arguments) == 2
        error: str = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "Traceback" not in error
        return error

    return call
