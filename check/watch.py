"""Look at the reader's files, and tell which have changed."""

import time
from collections.abc import Iterator
from pathlib import Path

from check.mine import Mine
from check.places import LIBRARY, Site

PAUSE = 0.5  # seconds between two looks


def times(site: Site, mine: Mine) -> dict[Path, int]:
    """When each file was last written, of the library and of one's own."""
    found = {}
    library = (site.sources / LIBRARY).rglob("*.py")
    for path in {*library, *mine.watched}:
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # an editor exchanges it right now
            continue
    return found


def changes(site: Site, mine: Mine, pause: float = PAUSE) -> Iterator[set[str]]:
    """The topics whose modules have changed, each time any file has.

    What is saved from this call on counts, also before the first is asked for.
    """
    return later(site, mine, times(site, mine), pause)


def later(
    site: Site, mine: Mine, known: dict[Path, int], pause: float
) -> Iterator[set[str]]:
    """The same, where it is `known` when each file was last written."""
    while True:
        time.sleep(pause)
        now = times(site, mine)
        if now == known:
            continue
        changed = {path for path in now if now[path] != known.get(path)}
        known = now
        yield {t.id for t in site.topics.values() if site.path(t) in changed}
