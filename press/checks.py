"""What each topic's check prints for the book's own module.

The output is kept until something changes that it depends on, so the pages
that show it need not run the check again.
"""

import subprocess
import sys

from press.dependencies import BUILD, checked, closure, digest
from press.files import ROOT, write_whole
from press.forks import FORKS, printed
from press.roadmap import Topic


class CheckFailed(RuntimeError):
    """The check of a topic does not pass; the message is what it printed."""


def run(topic: Topic) -> tuple[int, str]:
    """Run the check: its exit code, and what it printed."""
    if FORKS:
        return printed("scaffold.checks", topic.id, folder=ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "scaffold.checks", topic.id],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


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
    code, text = run(topic)
    if code:
        raise CheckFailed(text)
    lines = text.rstrip().rpartition("\n")[0]
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_whole(stamp, f"{key}\n{lines}")
    return lines
