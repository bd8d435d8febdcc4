"""Look at the reader's files, and tell which have changed."""

import time
from collections.abc import Iterator
from pathlib import Path

from check.places import LIBRARY, Site

PAUSE = 0.5  # seconds between two looks


def times(site: Site) -> dict[Path, int]:
    """When each file of the library was last written."""
    found = {}
    for path in (site.sources / LIBRARY).rglob("*.py"):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # an editor exchanges it right now
            continue
    return found


def changes(site: Site, pause: float = PAUSE) -> Iterator[set[str]]:
    """The topics whose modules have changed, each time any file has."""
    known = times(site)
    while True:
        time.sleep(pause)
        now = times(site)
        if now == known:
            continue
        changed = {path for path in now if now[path] != known.get(path)}
        known = now
        yield {t.id for t in site.topics.values() if site.path(t) in changed}
