"""Execute pages, and run checks, before Sphinx reads one page by one.

Sphinx reads, and so executes, one page after the other, on one core. This
extension takes the pages that are about to be read, leaves out those whose
outputs are in the notebook cache, and executes the rest in as many kernels
as there are cores. When Sphinx comes to a page, its outputs are there. A page
that fails is not kept: Sphinx executes it again and reports the error. The
checks whose output the pages show fill the cores in the same way.

The chapters that train take longest, and `training` comes late in the
alphabet: the last ones begin, so that no core waits for another at the end.
"""

import asyncio
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
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


def checked_on(names: Iterable[str]) -> list[Topic]:
    """The topics whose chapters are among the pages."""
    chapters = {f"{name}.md" for name in names}
    return [t for t in load().topics if t.files["chapter"] in chapters]


def check(topic: Topic) -> None:
    """Run a topic's check; of one that fails, its page will tell."""
    with suppress(checks.CheckFailed):
        checks.output(topic)


def execute_ahead(app: Sphinx, env: Any, names: list[str]) -> None:
    """Fill the cache for the pages that Sphinx is about to read."""
    config = env.mystnb_config
    if config.execution_mode != "cache":
        return
    cache = get_cache(config.execution_cache_path)
    todo = {}
    for name in sorted(names, reverse=True):
        notebook = notebook_of(app, env, name)
        if notebook is not None and not is_known(cache, notebook):
            todo[name] = notebook
    with ThreadPoolExecutor(min(MOST, os.cpu_count() or 1)) as pool:
        running = {
            pool.submit(
                execute,
                Path(env.doc2path(name)),
                notebook,
                config.execution_timeout,
            ): name
            for name, notebook in todo.items()
        }
        for topic in checked_on(names):
            pool.submit(check, topic)
        for done, future in enumerate(as_completed(running), 1):
            name, seconds = running[future], future.result()
            print(f"executing [{100 * done // len(todo):3}%] {name}")
            if seconds is not None:
                data = {"execution_seconds": seconds}
                bundle = CacheBundleIn(
                    todo[name], env.doc2path(name), data=data
                )
                cache.cache_notebook_bundle(
                    bundle, check_validity=False, overwrite=True
                )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-before-read-docs", execute_ahead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
