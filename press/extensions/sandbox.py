"""Every kernel that a build starts is guarded, whatever the page says.

The build's kernels read their start-up files from a folder of the build
(`IPYTHONDIR`), where the only one puts up `press.guard`. So no page can
forget it. Afterwards we look whether the repository is as it was: a library
that writes without Python's knowledge is noticed then.
"""

import itertools
import os
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

from press.files import ROOT

LOG = logging.getLogger(__name__)
KEPT = ["book", "src", "press", "solutions", "scaffold", "records", "tests"]
KEPT += ["benchmarks", "docs", ".ci", "compliance", "check"]
START = """from pathlib import Path

from press.guard import start

start(Path({root!r}))
"""


def environment(root: Path) -> dict[str, str]:
    """Write the kernels' start-up file; what the environment must say."""
    folder = root / "_build" / "ipython"
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    drawings = root / "_build" / "matplotlib"
    drawings.mkdir(parents=True, exist_ok=True)
    text = START.format(root=str(root))
    (startup / "00-guard.py").write_text(text, encoding="utf-8")
    return {
        "IPYTHONDIR": str(folder),
        "MPLCONFIGDIR": str(drawings),
        "PYTHONHASHSEED": "0",
        "SCRATCHLM_RUNS": str(root / "_build" / "runs"),
    }


def state(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that a build may not change."""
    found = {}
    parts = [root.glob("*"), *((root / name).rglob("*") for name in KEPT)]
    for path in itertools.chain.from_iterable(parts):
        if "__pycache__" not in path.parts and path.is_file():
            known = path.stat()
            found[str(path)] = (known.st_size, known.st_mtime_ns)
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The files that came, went or changed between two states."""
    names = sorted({*before, *after})
    return [name for name in names if before.get(name) != after.get(name)]


def begin(app: Sphinx) -> None:
    os.environ.update(environment(ROOT))
    app.repository_state = state(ROOT)  # type: ignore[attr-defined]


def end(app: Sphinx, env: Any) -> None:
    """All pages were run: is everything as it was?"""
    for name in changes(getattr(app, "repository_state", {}), state(ROOT)):
        LOG.warning("%s was changed while the pages ran", name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", begin)
    app.connect("env-updated", end)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
