"""Which topics are done: one small file that travels with the code.

It holds each topic's state and the hash of the module that had it, no clock
and no machine, so that two readers' files can be compared and committed.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from check.diagnose import store, stored
from check.places import PlaceError, Site, Topic

VERSION = 1
STATES = ("todo", "pass", "fail", "regressed", "blocked", "stale")
BAD = {"fail", "regressed", "blocked"}  # for which the exit code is 1


@dataclass
class Progress:
    """State and hash of the module, by topic."""

    topics: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)


def module_hash(site: Site, topic: Topic) -> str:
    """A hash of the reader's module as it is now, "" if there is none."""
    path = site.path(topic)
    return (
        hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    )


def read(site: Site) -> Progress:
    """What the file says; of a topic that is gone, nothing."""
    if not site.progress.exists():
        return Progress()
    data = stored(site.progress)
    if not is_ours(data):
        raise PlaceError(
            f"{site.progress} is not a file of version {VERSION}: move it "
            "away, and the next check begins a new one"
        )
    known = site.topics
    states = {k: v for k, v in data["topics"].items() if k in known}
    modules = {k: v for k, v in data.get("modules", {}).items() if k in known}
    return Progress(states, modules)


def is_ours(data: Any) -> bool:
    """Whether data has the form of the file."""
    return (
        isinstance(data, dict)
        and data.get("version") == VERSION
        and isinstance(data.get("topics"), dict)
        and isinstance(data.get("modules", {}), dict)
        and set(map(str, data["topics"].values())) <= set(STATES)
    )


def write(site: Site, progress: Progress) -> None:
    """Put the file in the place of the old one, whole, in reading order."""
    order = [name for name in site.topics if name in progress.topics]
    data = {
        "version": VERSION,
        "topics": {name: progress.topics[name] for name in order},
        "modules": {name: progress.modules.get(name, "") for name in order},
    }
    part = site.progress.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    part.replace(site.progress)


def state(site: Site, progress: Progress, topic: Topic) -> str:
    """A topic's state now: a pass of other code is stale."""
    known = progress.topics.get(topic.id, "todo")
    passed = known == "pass"
    if passed and progress.modules.get(topic.id) != module_hash(site, topic):
        return "stale"
    return known


def enter(site: Site, progress: Progress, topic: Topic, found: str) -> None:
    """Remember a verdict."""
    progress.topics[topic.id] = found
    progress.modules[topic.id] = module_hash(site, topic)


# --- what need not run again --------------------------------------------------


def verified(site: Site) -> dict[str, str]:
    """Topics that passed, and the hash of all on which that depends."""
    data = stored(site.cache / "verified.json")
    return data if isinstance(data, dict) else {}


def holds_still(site: Site, topic: Topic) -> bool:
    """Whether nothing has changed since the topic passed."""
    known = verified(site).get(topic.id)
    return known == site.fingerprint(topic, site.sources)


def remember(site: Site, topic: Topic, passed: bool) -> None:
    """Keep that a topic passed as it is now, or that it did not."""
    known = verified(site)
    known.pop(topic.id, None)
    if passed:
        known[topic.id] = site.fingerprint(topic, site.sources)
    store(site.cache / "verified.json", known)
