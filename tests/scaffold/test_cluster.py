"""The script for Slurm, with a Slurm of one machine for the real one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold.emit import emit
from scaffold.lab import sweep
from scaffold.plan import Plan

SCRIPT = Path(sweep.__file__).with_name("cluster.sbatch")
SLURM = {
    "srun": 'exec "$@"',
    "scontrol": "echo localhost",
    "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
}
SMALL = (
    "--characters 60000 --steps 4 --warmup 1 --vocab-size 270 --layers 1 "
    "--channels 32 --context 32 --device cpu --evaluate-every 2"
)


@pytest.fixture
def submit(tmp_path: Path) -> dict[str, str]:
    """The surroundings that Slurm gives to a script, for two processes."""
    for name, line in SLURM.items():
        place = tmp_path / "bin" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\n{line}\n")
        place.chmod(place.stat().st_mode | stat.S_IXUSR)
    hidden = ("PYTHON", "COVERAGE", "PYTEST")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return clean | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
    }


def test_what_slurm_reads_stands_first() -> None:
    # Slurm stops looking for its words at the first command.
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    asked = [n for n, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert asked
    assert lines[0] == "#!/bin/bash"
    assert all(line.startswith("#") for line in lines[: asked[-1]])
    assert max(map(len, lines)) <= 80


def sbatch(
    folder: Path, surroundings: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Submit the script of a repository, and wait."""
    return subprocess.run(
        ["bash", "cluster.sbatch", *SMALL.split(), *words],
        cwd=folder,
        env=surroundings | {"SLURM_SUBMIT_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_submitted_run_is_one_of_two_processes_and_goes_on(
    tmp_path: Path, submit: dict[str, str]
) -> None:
    folder = emit(Plan("researcher", "cpu"), tmp_path / "model")
    alone = sbatch(folder, submit, "--batch-size", "1")
    assert "too small for 2 processes" in alone.stderr
    printed = []
    for _ in range(2):  # and once more, as after a machine was taken away
        done = sbatch(folder, submit, "--batch-size", "4")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        printed.append(done.stdout)
    assert "resuming" not in printed[0]
    assert "resuming runs/all after step 4" in printed[1]
