"""A small book of its own, for what a build does from end to end."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from press.copies import copy_environment

ROOT = Path(__file__).parents[2]
PAGE = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
(page)=
# A page

```{code-cell}
from myst_nb import glue
from press import drawing
drawing.setup()
glue("answer", 42, display=False)
```

The answer is {glue:text}`answer`. See {numref}`lst`, and {cite}`someone2026`.

```{listing} scratchlm.sums.double
:name: lst
```
"""
SUMS = '"""Sums."""\n\n\ndef double(x):\n    return 2 * x\n'
REFERENCE = "@book{someone2026, title={A}, author={Some One}, year={2026},"
REFERENCE += " publisher={P}}\n"
TOC = """format: jb-book
root: book/index
parts:
- caption: All
  numbered: true
  chapters:
  - {file: book/page}
  - {file: book/last}
"""
LAST = "# Literature\n\nAll of it.\n\n```{bibliography}\n```\n"
CALL = """
import sys
from pathlib import Path
from press import build
try:
    build.jupyter_book(
        sys.argv[1], Path("_toc.yml").resolve(), build.BUILD / "out", True, "x"
    )
except build.BuildError as error:
    sys.exit(str(error))
"""


class SmallBook:
    """A repository with one page, and a Python that imports it alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("_config.yml", "roadmap.yml", "requirements.lock"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("pyproject.toml", "CITATION.cff"):
            shutil.copy(ROOT / name, folder / name)
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "press", folder / "press", ignore=skip)
        self.write("book/index.md", "# A small book\n\nWords.\n")
        self.write("book/page.md", PAGE)
        self.write("book/last.md", LAST)
        self.write("book/refs/page.bib", REFERENCE)
        self.write("src/scratchlm/__init__.py", "")
        self.write("src/scratchlm/sums.py", SUMS)
        self.write("_toc.yml", TOC)
        self.tested(missing=[])
        self.python = copy_environment(folder)

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def tested(self, missing: list[int]) -> None:
        """Pretend that tests run all lines but the missing ones."""
        file = {"tests": {"5": [0]}, "missing": missing}
        data = {"tests": ["t"], "files": {"src/scratchlm/sums.py": file}}
        self.write("_build/coverage.json", json.dumps(data))

    def build(self, builder: str) -> subprocess.CompletedProcess[str]:
        """Run Jupyter Book on it, strictly."""
        return subprocess.run(
            [str(self.python), "-c", CALL, builder],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def small_book(tmp_path: Path) -> SmallBook:
    return SmallBook(tmp_path / "book")


@pytest.fixture(scope="session")
def one_small_book(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    """The same, for tests that do not change it."""
    return SmallBook(tmp_path_factory.mktemp("small") / "book")
