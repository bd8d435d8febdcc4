"""How many right forms of a topic's code the checks refuse: a false alarm.

In `tests/check/forms` stands correct code of other shapes than the book's.
Each form takes the place of a part of its topic's module, and the topic's
checks run on it in a process of their own, as `python -m check` runs them.
Kept are the forms by their topic, and of each how many checks ran and which
of them fail on it.
"""

import runpy
from typing import Any

from check.diagnose import failures
from check.places import Site
from check.process import Job, run
from press.files import ROOT

FOLDER = ROOT / "tests" / "check" / "forms"
AGAIN = "tokenizer"  # the topic of the replay


def forms() -> dict[str, dict[str, str]]:
    """The forms by topic and by what is other about them: Python."""
    files = sorted(FOLDER.glob("*.py"))
    return {path.stem: runpy.run_path(str(path))["FORMS"] for path in files}


def tried(site: Site, name: str, code: str) -> dict[str, Any]:
    """How many checks ran on a form of a topic, and which of them fail."""
    topic = site.topics[name]
    text = site.path(topic).read_text(encoding="utf-8") + code
    report = run(Job(site, topic, site.sources, text=text))
    if len(report["checks"]) == 0:
        raise RuntimeError(f"{name}: no check has run")
    failed = list(failures(report))
    return {"checks": len(report["checks"]), "refused_by": failed}


def measure(site: Site, name: str) -> dict[str, dict[str, Any]]:
    """Each form of a topic, with what its checks say."""
    return {
        form: tried(site, name, code) for form, code in forms()[name].items()
    }


def record() -> dict[str, Any]:
    """All topics that have forms, in reading order."""
    site = Site(ROOT).itself
    known = forms()
    return {name: measure(site, name) for name in site.topics if name in known}


def replay(data: dict[str, Any]) -> None:
    """Every form is in the record, and one topic's are tried again."""
    site = Site(ROOT).itself
    known = forms()
    assert list(data) == [name for name in site.topics if name in known]
    for name, found in data.items():
        assert list(found) == list(known[name]), f"{name}: record it again"
    assert measure(site, AGAIN) == data[AGAIN]
