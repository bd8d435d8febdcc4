"""Make ``.venv`` from ``requirements.lock``: ``python3 press/setup.py``.

Runs on the standard library alone, since nothing is installed yet. Does
nothing when ``.venv`` was made from these same versions. With TORCH=cpu in
the environment it takes PyTorch's own build for processors, which spares a
Linux reader some gigabytes of CUDA libraries.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
VENV = Path(os.environ.get("VENV", ROOT / ".venv"))
LOCK = ROOT / "requirements.lock"
LOG = ROOT / "_build" / "logs" / "setup.log"
PYTHON = VENV / "bin" / "python"
OLDEST, NEWEST = (3, 10), (3, 13)


def run(command: list[str], what: str) -> None:
    """Run a command into the log; show its last line while it runs."""
    shown = sys.stderr.isatty()
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, 1):
            log.write(line)
            if shown:
                width = shutil.get_terminal_size().columns - 1
                text = f"{what}, step {number}: {line.strip()}"[:width]
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if process.returncode:
        ending = LOG.read_text(encoding="utf-8").splitlines()[-15:]
        print("\n".join(ending), file=sys.stderr)
        sys.exit(f"setup failed while {what}; the whole log is {LOG}")


def key(torch: str) -> str:
    """What `.venv` depends on, as a hash."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    parts += [torch.encode(), sys.version.encode(), str(VENV).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install(torch: str) -> None:
    """Create the environment and install every locked version."""
    venv.create(VENV, clear=True, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off"]
    if torch == "cpu":
        version = next(
            line.split(";")[0].strip()
            for line in LOCK.read_text(encoding="utf-8").splitlines()
            if line.startswith("torch==")
        )
        run([*pip, "uv"], "fetching uv")
        uv = [str(VENV / "bin" / "uv"), "pip", "install"]
        uv += ["--python", str(PYTHON), "--torch-backend", "cpu"]
        what = "installing PyTorch for processors (no TORCH=cpu: pip's build)"
        run([*uv, version], what)
    run([*pip, "-r", str(LOCK)], "installing packages")
    run([*pip, "--no-deps", "-e", str(ROOT)], "installing scratchlm")


def main() -> None:
    """Check the Python, then install unless it is done."""
    torch = os.environ.get("TORCH", "")
    if torch not in ("", "cpu"):
        sys.exit(f"TORCH={torch}: leave TORCH out, or say TORCH=cpu")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = sys.version.split()[0]
        sys.exit(
            f"Python 3.10 to 3.13 is needed, and this is {found}. "
            "Name another: make PYTHON=python3.12 …"
        )
    if os.name == "nt":
        sys.exit("On Windows, please work inside WSL (see README.md).")
    stamp = VENV / "ready"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key(torch):
        return
    start = time.perf_counter()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    print(f"{'setup':<12} {VENV} … a few minutes the first time", flush=True)
    install(torch)
    stamp.write_text(key(torch), encoding="utf-8")
    print(f"{'setup':<12} {time.perf_counter() - start:7.1f} s   ready")


if __name__ == "__main__":
    main()
