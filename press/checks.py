"""What each topic's check prints for the book's own module.

The output is kept until something changes that it depends on, so the pages
that show it need not run the check again.
"""

import subprocess
import sys

from press.dependencies import BUILD, checked, closure, digest
from press.files import ROOT, write_whole
from press.roadmap import Topic


class CheckFailed(RuntimeError):
    """The check of a topic does not pass; the message is what it printed."""


def output(topic: Topic) -> str:
    """The lines that the check prints, without its time at the end.

    Raises CheckFailed; nothing is kept then.
    """
    stamp = BUILD / "checks" / f"{topic.id}.txt"
    key = digest(checked(topic.id) | closure([topic.module]))
    if stamp.exists():
        known, _, lines = stamp.read_text(encoding="utf-8").partition("\n")
        if known == key:
            return lines
    run = subprocess.run(
        [sys.executable, "-m", "scaffold.checks", topic.id],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise CheckFailed(run.stdout + run.stderr)
    lines = run.stdout.rstrip().rpartition("\n")[0]
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_whole(stamp, f"{key}\n{lines}")
    return lines
