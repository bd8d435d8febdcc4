"""What the run of each budget takes: hours and money, as the scaffold says.

`python -m scaffold list` counts the operations of each run and divides them by
a rate; its numbers are asked for once, and kept until something changes that
they depend on. Nothing is computed here but how many runs a topic takes.
"""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from press.budgets import budgets
from press.cards import hours
from press.dependencies import BUILD, digest, estimated
from press.files import ROOT, write_whole
from press.roadmap import Topic

CENT = 0.01
MINUTE = 1 / 60


class EstimateError(RuntimeError):
    """The scaffold estimates nothing; the message is what it printed."""


@dataclass(frozen=True)
class Run:
    """What the run of a budget takes, estimated."""

    budget: str
    hours: float
    usd: float


def ask() -> str:
    """What `python -m scaffold list --json` prints; EstimateError if not."""
    done = subprocess.run(
        [sys.executable, "-m", "scaffold", "list", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EstimateError(done.stderr)
    return done.stdout


@lru_cache(maxsize=1)
def runs() -> tuple[Run, ...]:
    """The run of each budget, the smallest machine first.

    Raises EstimateError where the scaffold does not say it.
    """
    stamp = BUILD / "estimates.json"
    key = digest(estimated())
    kept = json.loads(stamp.read_text("utf-8")) if stamp.exists() else {}
    if kept.get("key") != key:
        rows = json.loads(ask())
        track = rows[0]["track"]  # all train the same
        names = ("budget", "hours", "usd")
        found = [
            {name: row[name] for name in names}
            for row in rows
            if row["track"] == track
        ]
        kept = {"key": key, "runs": found}
        stamp.parent.mkdir(parents=True, exist_ok=True)
        write_whole(stamp, json.dumps(kept, indent=1))
    return tuple(Run(**run) for run in kept["runs"])


def clock(time: float) -> str:
    """Hours as people say them.

    >>> clock(0.005), clock(0.26), clock(2.3)
    ('18 s', '16 min', '2¼ h')
    """
    if time < MINUTE:
        return f"{max(1, round(3600 * time))} s"
    return hours(round(60 * time))


def money(usd: float) -> str:
    """Dollars as a card has room for them.

    >>> money(0.0), money(0.004), money(1.5), money(1234.5)
    ('free', '<$0.01', '$1.50', '$1,234.50')
    """
    if usd < CENT:
        return f"<${CENT}" if usd else "free"
    return f"${usd:,.2f}"


def together(topic: Topic) -> list[Run]:
    """A topic's runs on each machine; several cards train at a time.

    Raises EstimateError as `runs` does.
    """
    cards = {machine.id: max(1, machine.gpus) for machine in budgets()}
    found = []
    for run in runs():
        turns = math.ceil(topic.runs / cards[run.budget])
        found.append(Run(run.budget, turns * run.hours, turns * run.usd))
    return found


def said(run: Run) -> str:
    """Time and money, as a card has room for them.

    >>> said(Run("gpu8", 0.1, 0.012))
    'gpu8 6 min, $0.01'
    """
    return f"{run.budget} {clock(run.hours)}, {money(run.usd)}"


def by_budget(topic: Topic) -> str:
    """What a topic's runs take on each machine.

    Raises EstimateError as `runs` does.
    """
    return " · ".join(said(run) for run in together(topic))


def on(topic: Topic, budget: str) -> Run:
    """A topic's runs on one machine.

    Raises LookupError for a budget that there is not, and EstimateError as
    `runs` does.
    """
    known = {run.budget: run for run in together(topic)}
    if budget not in known:
        names = ", ".join(known)
        raise LookupError(f"no budget {budget!r}; there are: {names}")
    return known[budget]
