"""What the tests of emitted repositories share."""

from collections.abc import Iterator

import pytest

from press.roadmap import load


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
