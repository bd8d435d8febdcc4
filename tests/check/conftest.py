"""A reader's repository, as small as the checks need."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from check.places import LIBRARY, Site
from press.roadmap import load
from scaffold.emit import entry, known_marks
from scaffold.plan import Plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="session")
def no_printed_book() -> Iterator[None]:
    """Messages name no page, whether the PDF has been made here or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("check.places.PAGES", "_build/never-made.json")
        yield


@pytest.fixture(autouse=True, scope="session")
def whole_book() -> Iterator[None]:
    """Repositories have all topics of a track, whatever a course leaves out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scaffold.plan.book_roadmap", load)
        yield


@pytest.fixture(autouse=True, scope="session")
def patience() -> Iterator[None]:
    """A busy machine compares with all known mistakes, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("check.diagnose.BUDGET", 600.0)
        yield


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ways of known mistakes lie, once a test has computed them."""
    return tmp_path_factory.mktemp("computed")


@pytest.fixture
def site(tmp_path: Path, computed: Path) -> Iterator[Site]:
    """A repository whose reader has the book's code and no progress.

    What no test writes to is the book's own; compiled files come along.
    """
    root = tmp_path / "llm"
    reference = root / "check" / "reference"
    reference.mkdir(parents=True)
    library = ROOT / "src" / LIBRARY
    (reference / LIBRARY).symlink_to(library)
    (root / "checks").symlink_to(ROOT / "scaffold" / "checks")
    without = shutil.ignore_patterns("cli", "*.pyc.*")
    shutil.copytree(library, root / LIBRARY, ignore=without)
    topics = Plan("beginner", "cpu").topics
    data = {"topics": [entry(topic) for topic in topics]}
    for name, part in (("topics", data), ("mistakes", known_marks(topics))):
        text = json.dumps(part)
        (root / "check" / f"{name}.json").write_text(text, encoding="utf-8")
    made = Site(root)
    shutil.copytree(computed, made.cache)
    yield made
    for path in made.cache.glob("*-mistakes.json"):
        shutil.copy(path, computed)


@pytest.fixture(scope="session")
def book() -> Site:
    """The book's own repository."""
    return Site(ROOT)
