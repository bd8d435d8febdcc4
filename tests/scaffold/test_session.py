"""The session that the README shows, replayed in a new repository."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaffold.emit import emit
from scaffold.plan import Plan

pytestmark = pytest.mark.judge
README = Path(__file__).parents[2] / "README.md"
LONGEST = 600.0  # seconds until what was not said will not be said
FENCE = re.compile(r"```(text|python)\n(.*?)```", re.S)


def session() -> tuple[list[str], str, str]:
    """What is printed, what is written, and what its mending adds."""
    text = README.read_text(encoding="utf-8")
    part = text.split("## A check names the mistake")[1].split("\n## ")[0]
    blocks = FENCE.findall(part)
    said = [block for kind, block in blocks if kind == "text"]
    [written] = [block for kind, block in blocks if kind == "python"]
    [mended] = re.findall(r"With `([^`]+)` at the end of its first line", part)
    return said, written, mended


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return emit(Plan("beginner", "cpu"), tmp_path / "llm")


@pytest.fixture
def watching(repository: Path) -> Iterator[subprocess.Popen[str]]:
    """The command of the session, as it runs."""
    said, _, _ = session()
    command = said[0].splitlines()[0].removeprefix("$ python").split()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PY")}
    with subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=repository,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A program that was started in the background does not hear Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        late = threading.Timer(LONGEST, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            interrupt(process)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C, and once more where Python was just collecting garbage.

    An interrupt that comes inside a finalizer is told and forgotten.
    """
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
            return
    process.kill()
    raise AssertionError("it does not end when it is interrupted")


def printed(process: subprocess.Popen[str], last: str) -> list[str]:
    """What it prints up to a line, without empty ones, and without news."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        if line.strip() and not line.startswith("comparing with"):
            lines.append(line.rstrip("\n"))
        if lines[-1:] == [last]:
            return lines
    raise AssertionError(f"it ended before it said {last!r}: {lines}")


def test_the_session_of_the_readme(
    repository: Path, watching: subprocess.Popen[str]
) -> None:
    said, written, mended = session()
    shown = [block.splitlines() for block in said]
    shown[0] = shown[0][1:]  # without the command
    assert printed(watching, shown[0][-1]) == shown[0]
    path = repository / "scratchlm" / "model" / "attention.py"
    text = path.read_text(encoding="utf-8")
    before, hole = text.split("    raise NotImplementedError(\n", 1)
    after = hole.split("    )\n", 1)[1]
    first, rest = written.split("\n", 1)
    for body, block in (
        (written, shown[1]),
        (f"{first} {mended}\n{rest}", shown[2]),
    ):
        path.write_text(before + body + after, encoding="utf-8")
        assert printed(watching, block[-1]) == block
