"""The last page: what was built, in numbers."""

import difflib
import json
import re
from pathlib import Path

from check.places import PlaceError, Site


def code_lines(text: str) -> list[str]:
    """The lines that say something: no blank ones, no comments.

    >>> code_lines("a = 1\\n\\n# why\\nb = 2\\n")
    ['a = 1', 'b = 2']
    """
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def own_lines(site: Site) -> tuple[int, int]:
    """Lines of the topics' modules, and those that are not the book's."""
    total = own = 0
    for topic in site.topics.values():
        mine = code_lines(site.path(topic).read_text(encoding="utf-8"))
        total += len(mine)
        try:
            path = site.reference / topic.file
            book = code_lines(path.read_text(encoding="utf-8"))
        except (PlaceError, OSError):
            continue
        same = difflib.SequenceMatcher(None, mine, book, autojunk=False)
        own += len(mine) - sum(m.size for m in same.get_matching_blocks())
    return total, own


def counted(name: str) -> list[str | int]:
    """A name in parts that sort as people count.

    >>> sorted(["run10", "run9"], key=counted)
    ['run9', 'run10']
    """
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdecimal() else part for part in parts]


def last_run(site: Site) -> str:
    """The best validation loss of the newest run by name, "" without one."""
    for base in (site.root / "runs", site.root / "_build" / "runs"):
        folders = sorted(base.glob("*"), key=lambda path: counted(path.name))
        for folder in reversed(folders):
            losses = validation_losses(folder / "log.jsonl")
            if losses:
                return (
                    f"the run {folder.name} reached a validation loss of "
                    f"{min(losses):.3f}{beside_floor(folder)}"
                )
    return ""


def validation_losses(log: Path) -> list[float]:
    """The losses in a run's log; of its last line, only if it is whole."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [e["validation_loss"] for e in entries if "validation_loss" in e]


def beside_floor(folder: Path) -> str:
    """The lowest loss that any model can reach, if the run knows it."""
    path = folder / "config.json"
    if not path.exists():
        return ""
    settings = json.loads(path.read_text(encoding="utf-8"))
    data = settings.get("data", {})
    if "entropy_nats" not in data:  # of a text whose grammar is not known
        return " nats"
    floor = data["entropy_nats"] / (data["validation_tokens"] - 1)
    return f" nats; no model can be below {floor:.3f}"


def page(site: Site) -> list[str]:
    """What is printed when every topic passes."""
    total, own = own_lines(site)
    parts = {topic.part for topic in site.topics.values()}
    lines = [
        "",
        "Everything passes.",
        "",
        f"  {len(site.topics)} topics in {len(parts)} parts, from text to a "
        "model that answers",
        f"  {total:,} lines of code, {own:,} of them other than the book's",
    ]
    if run := last_run(site):
        lines.append(f"  {run}")
    lines += [
        "",
        "A topic is yours when you can explain it. python -m check break TOPIC",
        "plants a mistake for you to find.",
    ]
    return lines
