"""Make ``.venv`` from ``requirements.lock``: ``python3 -m press.setup``.

Runs on the standard library alone, since nothing is installed yet. Does
nothing when ``.venv`` was made from these same versions. Each file that is
fetched, by uv or by pip, must have the hash that the lock names; PyTorch alone
goes by its version (see press/lock.py). With TORCH=cpu in the environment it
takes PyTorch's own build for processors, which spares a Linux reader some
gigabytes of CUDA libraries; the environment remembers it, and an empty TORCH=
takes the usual build again. With --large it adds what the large-print edition
needs.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from press.files import ROOT, write_whole
from press.lock import LARGE_LOCK, LOCK, torch_version

VENV = Path(os.environ.get("VENV") or ROOT / ".venv").absolute()
LOG = ROOT / "_build" / "logs" / "setup.log"
PYTHON = VENV / "bin" / "python"
OURS = "made-for-scratchlm"
BUILD = "torch-build"  # in it, the file that names the build of PyTorch
OLDEST, NEWEST = (3, 11), (3, 13)


def show(text: str) -> None:
    """Write over the last line of the terminal."""
    width = shutil.get_terminal_size().columns - 1
    line = f"\r\x1b[K{text[:width]}"
    print(line, end="", file=sys.stderr, flush=True)


def works(command: list[str], what: str, **more: str) -> bool:
    """Run a command into the log; show its last line while it runs.

    `more` is put into its environment.
    """
    shown = sys.stderr.isatty()
    # One `with` in the other: an older Python must be able to say its name.
    with LOG.open("a", encoding="utf-8") as log:  # noqa: SIM117
        with subprocess.Popen(
            command,
            env={**os.environ, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout, 1):
                log.write(line)
                if shown:
                    show(f"{what}, step {number}: {line.strip()}")
    if shown:
        show("")
    return process.returncode == 0


def run(command: list[str], what: str) -> None:
    """Run a command that must not fail."""
    if not works(command, what):
        ending = LOG.read_text(encoding="utf-8").splitlines()[-15:]
        print("\n".join(ending), file=sys.stderr)
        sys.exit(f"setup failed while {what}; the whole log is {LOG}")


def key(torch: str) -> str:
    """What `.venv` depends on, as a hash."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    parts += [torch.encode(), torch_version().encode()]
    parts += [sys.version.encode(), str(VENV).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def wanted_torch() -> str:
    """The build of PyTorch: as TORCH says, else that which is there."""
    said = os.environ.get("TORCH")
    kept = VENV / BUILD
    if said is None and kept.is_file():
        said = kept.read_text("utf-8")
    return said or ""


def refuse(why: str) -> None:
    """Say what has to be mended first; nothing was written."""
    print(why, file=sys.stderr)
    sys.exit(2)


def refusal(folder: Path) -> str:
    """Why an environment may not be made in the folder; "" where it may.

    What is there is deleted first, so it must be nothing, or ours.
    """
    above = next((path for path in folder.parents if path.exists()), folder)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return f"VENV={folder}: nothing can be made in {above}; name another."
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return f"VENV={folder} is a file; name a folder that does not exist."
    inside = folder.rglob("*")
    if all(path.is_dir() and not path.is_symlink() for path in inside):
        return ""
    if not (folder / "pyvenv.cfg").exists():
        return (
            f"VENV={folder} holds other things than a Python environment, "
            "and they would be deleted; name a folder that does not exist."
        )
    ours = (folder / OURS).exists() or (folder / "ready").exists()
    if ours or folder == ROOT / ".venv":
        return ""
    return (
        f"VENV={folder} is an environment that was not made here, and it "
        "would be deleted; name another folder, or delete it yourself."
    )


PIP = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off"]
EXACT = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]


# What pip is told about places for packages, and how uv is told the same.
PLACES = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
VARIABLES = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}


SECTIONS = ("global", "install", ":env:")  # the later one counts


def pip_settings(told: str) -> dict[str, str]:
    """What ``pip config list`` tells of installing, by name.

    >>> pip_settings("global.index-url='https://a.example/simple'")
    {'index-url': 'https://a.example/simple'}
    """
    found: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    for line in told.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found:
            found[section][key] = str(ast.literal_eval(value))
    return {k: v for name in SECTIONS for k, v in found[name].items()}


def uv_install(lock: Path) -> bool:
    """Whether uv could install a lock: several files at a time."""
    told = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    settings = pip_settings(told.stdout)
    command = [str(VENV / "bin" / "uv"), "--no-config", "pip", "install"]
    command += ["--python", str(PYTHON), "--compile-bytecode", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
    command += ["--index-strategy", "unsafe-best-match"]  # as pip does
    for name, option in PLACES.items():
        for place in settings.get(name, "").split():
            command += [option, place]
    if settings.get("no-index", "0").lower() in ("1", "true", "yes", "on"):
        command += ["--no-index"]
    variables = {
        variable: settings[name]
        for name, variable in VARIABLES.items()
        if name in settings
    }
    return works(command, "installing packages", **variables)


def install_locked(lock: Path) -> None:
    """Install a lock: by uv, which is faster, or by pip, if uv cannot."""
    if not uv_install(lock):
        run([*PIP, *EXACT, "-r", str(lock)], "installing packages")


def install_uv() -> None:
    """The version of uv that the lock names, with its hash."""
    text = LOCK.read_text(encoding="utf-8")
    [wanted] = re.findall(r"^uv==(?:.*\\\n)*.*\n", text, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "uv.lock"
        alone.write_text(wanted, encoding="utf-8")
        run([*PIP, *EXACT, "-r", str(alone)], "installing uv")


def install_large() -> None:
    """Add what the large-print edition needs, unless it is there."""
    stamp, wanted = VENV / "ready-large", LARGE_LOCK.read_text("utf-8")
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return
    start = time.perf_counter()
    install_locked(LARGE_LOCK)
    run([str(PYTHON), "-m", "pip", "check"], "looking for what is missing")
    write_whole(stamp, wanted)
    print(f"{'setup':<12} {time.perf_counter() - start:7.1f} s   large print")


def install(torch: str) -> None:
    """Create the environment and install every locked version."""
    venv.create(VENV, clear=True, with_pip=True)
    (VENV / OURS).touch()
    install_uv()
    install_locked(LOCK)
    version = f"torch=={torch_version()}"
    if torch == "cpu":
        uv = [str(VENV / "bin" / "uv"), "pip", "install"]
        uv += ["--python", str(PYTHON), "--torch-backend", "cpu"]
        run([*uv, version], "installing PyTorch for processors")
    else:
        run([*PIP, version], "installing PyTorch")
    own = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    run([*PIP, *own], "installing scratchlm")
    run([str(PYTHON), "-m", "pip", "check"], "looking for what is missing")


def main() -> None:
    """Check the Python, then install unless it is done."""
    parser = argparse.ArgumentParser(
        prog="python3 -m press.setup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--large", action="store_true", help="for `make accessible`, too"
    )
    large = parser.parse_args().large
    torch = wanted_torch()
    if torch not in ("", "cpu"):
        refuse(f"TORCH={torch}: leave TORCH out, or say TORCH=cpu")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = sys.version.split()[0]
        refuse(
            f"Python 3.11 to 3.13 is needed, and this is {found}. "
            "Name another: make PYTHON=python3.12 …"
        )
    if os.name == "nt":
        refuse("On Windows, please work inside WSL (see README.md).")
    stamp = VENV / "ready"
    done = stamp.exists() and stamp.read_text("utf-8") == key(torch)
    if not done:
        make_environment(torch, stamp)
    if large:
        install_large()


def make_environment(torch: str, stamp: Path) -> None:
    """Make the environment anew, and say at last that it is whole."""
    if why := refusal(VENV):
        refuse(why)
    start = time.perf_counter()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    print(f"{'setup':<12} {VENV} … a few minutes the first time", flush=True)
    install(torch)
    write_whole(VENV / BUILD, torch)
    write_whole(stamp, key(torch))
    print(f"{'setup':<12} {time.perf_counter() - start:7.1f} s   ready")


if __name__ == "__main__":
    main()
