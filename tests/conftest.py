"""What several tests share: quiet threads, and Shakespeare's plays."""

import os
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import scratchlm

ROOT = Path(__file__).parent.parent
MIRRORS = (os.environ.get("SCRATCHLM_MIRROR"), ROOT.parent / "shared/data")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run one thread each: the runner uses the cores."""
    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def find_shakespeare() -> Path | str:
    """The file, from a mirror folder or its public address; or why not."""
    from scratchlm.text.corpus import get

    mirror = next((Path(m) for m in MIRRORS if m and Path(m).is_dir()), None)
    try:
        return get("shakespeare", ROOT / "data", mirror=mirror)
    except (OSError, ValueError) as error:
        return str(error).splitlines()[0]


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the plays once, before several workers look for them.

    Properties are tried on the same examples each time, so that a test does
    not fail by chance; HYPOTHESIS_PROFILE=random tries others.
    """
    settings.register_profile("fixed", derandomize=True)
    settings.register_profile("random", derandomize=False, print_blob=True)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "fixed")
    show_library()
    if not hasattr(config, "workerinput"):
        find_shakespeare()


def show_library() -> None:
    """Tell other processes where the library is, if it is not installed."""
    try:
        version("scratchlm")
    except PackageNotFoundError:
        library = str(Path(scratchlm.__file__).parents[1])
        known = os.environ.get("PYTHONPATH")
        parts = [library, known] if known else [library]
        os.environ["PYTHONPATH"] = os.pathsep.join(parts)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what needs Shakespeare's plays where they are out of reach."""
    need = [i for i in items if "shakespeare" in getattr(i, "fixturenames", ())]
    if need and isinstance(find_shakespeare(), str):
        items[:] = [item for item in items if item not in need]
        config.hook.pytest_deselected(items=need)


@pytest.fixture(scope="session")
def shakespeare() -> str:
    """The text of tiny Shakespeare."""
    path = find_shakespeare()
    assert isinstance(path, Path)
    return path.read_text(encoding="utf-8")
