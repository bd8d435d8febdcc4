"""Many cards: the script for Slurm and the commands for a node of eight."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit

from scaffold.emit import emit
from scaffold.lab import sweep
from scaffold.plan import Plan
from scratchlm.training.checkpoint import has_run

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


def test_each_machine_s_processes_have_the_cores_that_were_asked_for(
    tmp_path: Path, submit: dict[str, str]
) -> None:
    """Since 22.05 srun takes them from this variable alone."""
    srun = tmp_path / "bin" / "srun"
    srun.write_text('#!/bin/sh\necho "$SRUN_CPUS_PER_TASK cores, $*"\n')
    shutil.copyfile(SCRIPT, tmp_path / "cluster.sbatch")
    (tmp_path / "runs" / "all" / "checkpoint").mkdir(parents=True)
    done = sbatch(tmp_path, submit | {"SLURM_CPUS_PER_TASK": "32"})
    assert done.stdout.startswith("32 cores, torchrun ")
    assert "--resume" not in done.stdout  # it died before it had saved
    (tmp_path / "runs" / "all" / "seal.json").touch()
    done = sbatch(tmp_path, submit)
    assert "--resume" in done.stdout
    assert done.stdout.startswith(" cores, ")


def on_a_processor(config: Path) -> None:
    """Rewrite the settings of `config.toml` for seconds on a processor."""
    settings = tomlkit.parse(config.read_text(encoding="utf-8"))
    words = iter(SMALL.replace("--", "").split())
    for name, value in zip(words, words, strict=True):
        key = name.replace("-", "_")
        assert key in settings
        settings[key] = int(value) if value.isdecimal() else value
    settings["batch_size"] = 4
    config.write_text(tomlkit.dumps(settings), encoding="utf-8")


@pytest.mark.judge
def test_the_commands_for_eight_cards_do_what_they_say(
    tmp_path: Path, submit: dict[str, str]
) -> None:
    """As the README has them, but for two processes instead of eight."""
    folder = emit(Plan("practitioner", "node8"), tmp_path / "model")
    on_a_processor(folder / "config.toml")
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    start, end = readme.index("A node of eight"), readme.index("## The plan")
    blocks = re.findall(r"```sh\n(.*?)```", readme[start:end], re.S)
    lines = "".join(blocks).replace("nproc-per-node 8", "nproc-per-node 2")
    done = subprocess.run(
        ["bash", "-e", "-c", lines],
        cwd=folder,
        env=submit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rates = Plan("practitioner", "node8").rates
    assert len(rates) == 8
    for rate in rates:
        assert has_run(folder / "runs" / f"rate-{rate}")
        assert f"rate-{rate}" in done.stdout
    assert has_run(folder / "runs" / "all")
