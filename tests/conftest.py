"""What several tests share: quiet threads, processes, Shakespeare's plays."""

import faulthandler
import gc
import importlib
import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

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


@pytest.fixture(autouse=True, scope="session")
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests put into temporary folders goes with pytest's own."""
    compiled = Path(tempfile.gettempdir()) / "torchinductor"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled))
    tempfile.tempdir = str(tmp_path_factory.mktemp("left"))


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


def pytest_collection_finish() -> None:
    """What all tests need stays: nobody has to look through it for garbage."""
    gc.freeze()


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


# --- several processes -------------------------------------------------------

Among = Callable[[int, Callable[[int], Any]], list[Any]]
GONE = "gone"  # in place of what a process returns that was killed


def one_of_them(
    rank: int, names: dict[str, str], work: Any, pipe: Connection
) -> None:
    """In a process of its own: do the work, and send what came out."""
    # What the other process left for the collector stays uncollected here: a
    # group of processes would wait for threads that a fork does not have.
    gc.freeze()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    faulthandler.dump_traceback_later(600)  # where it waits, if for so long
    os.environ.update(names | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    # The process takes its connections with it. To close them one by one may
    # take as long as a lost rank's last exchange: until its time is over.
    torch.distributed.destroy_process_group = lambda: None
    try:
        pipe.send((True, work(rank)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))
    os._exit(0)


def run_among(ranks: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work` returns in each of several processes, by their ranks.

    The processes are forked, so that none imports torch again, and find
    each other by their environment, as those of `torchrun` do.
    """
    from scratchlm.training.distributed import meeting_place

    importlib.import_module("torch._dynamo")  # DDP does; not in each process
    context = multiprocessing.get_context("fork")
    names = meeting_place() | {"WORLD_SIZE": str(ranks)}
    pipes, processes = {}, []
    for rank in range(ranks):
        ours, theirs = context.Pipe(duplex=False)
        pipes[ours] = rank
        args = (rank, names, work, theirs)
        processes.append(context.Process(target=one_of_them, args=args))
        processes[-1].start()
        theirs.close()
    found: dict[int, Any] = {}
    try:
        while len(found) < ranks:
            waiting = [p for p, rank in pipes.items() if rank not in found]
            ready = wait(waiting, timeout=900)
            assert ready, "the processes wait for each other"
            for pipe in ready:
                try:
                    fine, value = pipe.recv()
                except EOFError:
                    fine, value = True, GONE
                assert fine, value
                found[pipes[pipe]] = value
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [found[rank] for rank in range(ranks)]


@pytest.fixture
def among() -> Among:
    """`run_among`, where processes can be forked with a model in them."""
    if torch.accelerator.is_available():
        pytest.skip("a process that has used an accelerator cannot be forked")
    return run_among
