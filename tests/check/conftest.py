"""A reader's repository, as small as the checks need."""

import json
import shutil
from pathlib import Path

import pytest

from check.places import LIBRARY, Site
from scaffold.emit import entry
from scaffold.plan import Plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A repository whose reader has the book's code and no progress."""
    root = tmp_path / "llm"
    shutil.copytree(
        ROOT / "scaffold" / "checks",
        root / "checks",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for place in (root, root / "check" / "reference"):
        shutil.copytree(
            ROOT / "src" / LIBRARY,
            place / LIBRARY,
            ignore=shutil.ignore_patterns("__pycache__", "cli"),
        )
    topics = Plan("beginner", "cpu").topics
    data = {"topics": [entry(topic) for topic in topics]}
    text = json.dumps(data)
    (root / "check" / "topics.json").write_text(text, encoding="utf-8")
    return Site(root)


@pytest.fixture(scope="session")
def book() -> Site:
    """The book's own repository."""
    return Site(ROOT)
