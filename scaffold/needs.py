"""What the emitted files import, as exact versions from the book's lock.

An emitted repository is to run in an environment made from its own
requirements and nothing else; so these are read from its files, and every
package that those bring along is held at the locked version, too.
"""

import ast
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import packages_distributions
from pathlib import Path

from press.lock import locked

CALLED = re.compile(r"^(scratchlm[\w.]+):\w+$")  # imported when called
# What a module needs beyond its own name: torch imports it when asked to.
BEHIND = {"torch.utils.tensorboard": "tensorboard"}


def imported_names(path: Path) -> frozenset[str]:
    """The modules that a file names in imports, wherever it does."""
    return names_in(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2048)
def names_in(path: Path, stamp: int) -> frozenset[str]:
    """What a file names in imports; `stamp`, its change time, is a key."""
    return frozenset(named(ast.parse(path.read_text(encoding="utf-8"))))


def named(tree: ast.AST) -> Iterator[str]:
    """The modules that some code names in imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from CALLED.findall(node.value)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
            yield from (f"{node.module}.{x.name}" for x in node.names)


def constraints() -> list[str]:
    """All lines of the locks, for whatever the requirements bring along."""
    return [line for lines in locked().values() for line in lines]


def normal(name: str) -> str:
    """A package's name as an index compares it (PEP 503).

    >>> normal("Types.PyYAML")
    'types-pyyaml'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(files: Iterable[Path], own: set[str]) -> list[str]:
    """The packages that the files import, as lines of the lock.

    `own` are modules that the repository itself has. Raises KeyError for
    an import that no locked package provides: it would fail elsewhere.
    """
    owners, pins = packages_distributions(), locked()
    names = set()
    for path in files:
        for module in sorted(imported_names(path)):
            names |= {BEHIND[module]} if module in BEHIND else set()
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top in own:
                continue
            found = {normal(name) for name in owners.get(top, [])} & pins.keys()
            if not found:
                raise KeyError(f"{path} imports {top}, which no lock names")
            names |= found
    return [line for name in sorted(names) for line in pins[name]]


def project_name(folder: str) -> str:
    """A name that a package may have (PEP 508), from a folder's.

    >>> project_name("Ada's erstes Modell!"), project_name("--")
    ('ada-s-erstes-modell', 'llm')
    """
    plain = unicodedata.normalize("NFKD", folder)
    plain = plain.encode("ascii", "ignore").decode()
    return normal(re.sub(r"[^A-Za-z0-9]+", "-", plain)).strip("-") or "llm"
