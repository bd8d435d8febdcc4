"""The machine in words, and what it lacks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from press import machine


@pytest.mark.parametrize(
    ("text", "name", "missing"),
    [
        ("model name\t: A Chip\nflags\t: fpu avx2 avx512f\n", "A Chip", 1),
        ("model name\t: B Chip\nflags\t: fpu amx_bf16 avx2\n", "B Chip", 0),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "", 0),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "", 1),
        ("", "", 0),  # nothing is known, so nothing is said
    ],
)
def test_a_processor_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    name: str,
    missing: int,
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert f"cores of {name}" in machine.machine()
    assert machine.lacks() == ["bfloat16"][:missing]


def test_without_the_kernels_word_the_machine_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine.machine().partition("cores of ")[2]
    assert machine.lacks() == []


def test_versions_of_what_is_there() -> None:
    found = machine.versions(["torch", "numpy", "a-library-nobody-wrote"])
    assert found["torch"] == str(torch.__version__)
    assert found["numpy"] == numpy.__version__
    assert set(found) == {"python", "torch", "numpy"}


def test_threads_that_share_the_cores_sleep_while_they_wait() -> None:
    """torch's own runtime of threads tells how long they spin first."""
    spins = {}
    own = ("OMP_", "GOMP_", "KMP_")  # what a shell says of threads
    clean = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    for name, more in (("alone", {}), ("shared", machine.SHARING)):
        told = subprocess.run(
            [sys.executable, "-c", "import torch"],
            env={**clean, "OMP_DISPLAY_ENV": "VERBOSE", **more},
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        found = re.search(r"(?:SPINCOUNT|BLOCKTIME) ?= ?'(\d+)", told)
        assert found, told
        spins[name] = int(found[1])
    assert spins["shared"] == 0 < spins["alone"]
