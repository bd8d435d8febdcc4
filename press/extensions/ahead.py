"""Execute pages, and run checks, before Sphinx comes to them.

Sphinx reads, and so executes, one page after the other, on one core. This
extension takes the pages that are about to be read, leaves out those whose
outputs are in the notebook cache, and executes the rest in as many kernels
as there are cores. Sphinx reads meanwhile, in the same order, and waits for
the outputs of a page when it comes to it. A page that fails is not kept:
Sphinx executes it again and reports the error. A chapter's check, whose
output the page shows, follows it.

The chapters that train take longest, and `training` comes late in the
alphabet: the last ones begin, so that no core waits for another at the end.
"""

import asyncio
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import create_nb_reader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from sphinx.application import Sphinx

from press import checks
from press.dependencies import CELL
from press.extensions.claims import assert_claims
from press.extensions.freshness import mark_first_cell
from press.kernels import KernelManager
from press.roadmap import Topic, load

MOST = 4  # kernels at once; each needs up to a gigabyte


def notebook_of(app: Sphinx, env: Any, name: str) -> NotebookNode | None:
    """The page as a notebook, as it will be read; None for plain text."""
    path = Path(env.doc2path(name))
    source = [path.read_text(encoding="utf-8")]
    if not CELL.search(source[0]):
        return None
    assert_claims(app, name, source)
    mark_first_cell(app, name, source)
    reader = create_nb_reader(
        str(path), env.myst_config, env.mystnb_config, source[0]
    )
    return reader.read(source[0]) if reader else None


def is_known(cache: Any, notebook: NotebookNode) -> bool:
    """Whether the cache has the outputs of these cells."""
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def execute(path: Path, notebook: NotebookNode, limit: int) -> float | None:
    """Run the cells where the page lies; the seconds, None if one failed."""
    client = NotebookClient(
        notebook,
        timeout=limit,
        kernel_manager_class=KernelManager,
        record_timing=False,
        coalesce_streams=True,  # pieces end where the machine was busy
        resources={"metadata": {"path": str(path.parent)}},
    )
    start = time.perf_counter()
    try:
        asyncio.run(client.async_execute())
    except (CellExecutionError, CellTimeoutError):
        return None
    return time.perf_counter() - start


def checked_on(name: str) -> list[Topic]:
    """The topics whose chapter the page is."""
    chapter = f"{name}.md"
    return [t for t in load().topics if t.files["chapter"] == chapter]


def check(topic: Topic) -> None:
    """Run a topic's check; of one that fails, its page will tell."""
    with suppress(checks.CheckFailed):
        checks.output(topic)


class Ahead:
    """The pages that are executed, and the checks that run, for a build."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self.pool = ThreadPoolExecutor(min(MOST, os.cpu_count() or 1))
        self.pages: dict[str, tuple[NotebookNode, Future[float | None]]] = {}
        self.checks: dict[str, list[Future[None]]] = {}

    def begin(self, app: Any, env: Any, names: list[str]) -> None:
        """Order the pages that Sphinx is about to read, and begin."""
        names.sort(reverse=True)
        config = env.mystnb_config
        if config.execution_mode != "cache":
            return
        self.folder = config.execution_cache_path
        cache = get_cache(self.folder)
        for name in names:
            notebook = notebook_of(app, env, name)
            if notebook is not None and not is_known(cache, notebook):
                path = Path(env.doc2path(name))
                limit = config.execution_timeout
                done = self.pool.submit(execute, path, notebook, limit)
                self.pages[name] = notebook, done
            self.checks[name] = [
                self.pool.submit(check, topic) for topic in checked_on(name)
            ]
        self.all = len(self.pages)

    def wait(self, app: Any, name: str, source: list[str]) -> None:
        """Sphinx has come to a page: keep its outputs in the cache."""
        for checked in self.checks.pop(name, ()):
            checked.result()
        if name not in self.pages:
            return
        notebook, running = self.pages.pop(name)
        seconds = running.result()
        if seconds is not None:
            done = 100 - 100 * len(self.pages) // self.all
            print(f"executing [{done:3}%] {name}")
            path, data = app.env.doc2path(name), {"execution_seconds": seconds}
            get_cache(self.folder).cache_notebook_bundle(
                CacheBundleIn(notebook, path, data=data),
                check_validity=False,
                overwrite=True,
            )

    def end(self, app: Any, error: Exception | None) -> None:
        """The build is over; where it failed, what has not begun is left."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def setup(app: Sphinx) -> dict[str, bool]:
    ahead = Ahead()
    app.connect("env-before-read-docs", ahead.begin)
    app.connect("source-read", ahead.wait)
    app.connect("build-finished", ahead.end)
    # A fork of Sphinx would wait for a thread that it does not have.
    return {"parallel_read_safe": False, "parallel_write_safe": True}
