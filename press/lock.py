"""Write ``requirements.lock`` anew: ``python -m press.lock`` (`make lock`).

Exact versions with the hashes of their files, for every system and every
Python from 3.11 to 3.13. PyTorch and what it brings along for CUDA stay out:
its builds for processors and for CUDA have the same version and other
hashes, so `press.setup` installs it by its version, in a step of its own.

``requirements-large.lock`` has what the large-print edition needs besides,
in versions that agree with the first.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from press.files import ROOT, write_whole

ASKED = ROOT / "requirements.in"
LOCK = ROOT / "requirements.lock"
LARGE = ROOT / "requirements-large.in"
LARGE_LOCK = ROOT / "requirements-large.lock"
APART = re.compile(r"(torch|triton|nvidia|cuda)\b")
ONLY_WEB = "sys_platform == 'emscripten'"  # a browser as the machine
HEAD = "# Written by `make lock` from {}; see press/lock.py.\n"


def resolve(asked: Path, *agreed: Path) -> str:
    """Versions and hashes of all that is asked for, as uv finds them.

    Where a lock of `agreed` names a version, it is that one.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "--no-config", "pip", "compile", "--quiet", "--universal"]
    command += ["--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", str(asked)]
    command += [f"--constraints={lock}" for lock in agreed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"uv found no versions that agree:\n{done.stderr}")
    return done.stdout


def without_torch(text: str) -> str:
    """The lock's text but for what is installed apart."""
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.M)
    kept = [x for x in blocks if not (APART.match(x) or ONLY_WEB in x)]
    return "".join(kept)


def locked() -> dict[str, list[str]]:
    """Each package's exact requirements, without hashes, PyTorch's too."""
    lines = [f"torch=={torch_version()}"]
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z0-9][\w.-]*==", line):
            lines.append(line.removesuffix("\\").strip())
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.partition("==")[0], []).append(line)
    return found


def torch_version() -> str:
    """The version of PyTorch that ``requirements.in`` asks for."""
    text = ASKED.read_text(encoding="utf-8")
    found = re.search(r"^torch==(\S+)", text, flags=re.M)
    if found is None:
        raise SystemExit(f"{ASKED.name} names no exact version of torch")
    return found[1]


def main(arguments: list[str] | None = None) -> None:
    """Resolve, leave PyTorch out, write; then what goes on top."""
    argparse.ArgumentParser(
        prog="python -m press.lock", description=__doc__
    ).parse_args(arguments)
    text = without_torch(resolve(ASKED))
    write_whole(LOCK, HEAD.format(ASKED.name) + text)
    text = without_torch(resolve(LARGE, LOCK))
    write_whole(LARGE_LOCK, HEAD.format(LARGE.name) + text)


if __name__ == "__main__":
    main()
