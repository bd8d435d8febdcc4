"""Experiments on the whole library, whose numbers have to lie in bands.

A check looks at one module; an experiment trains a model with all of them,
and measures. What comes out depends on chance, so each number has a band: the
range of several seeds, run with the book's code, and made wider by a rule.
"""

import contextlib
import difflib
import gc
import importlib
import json
import math
import multiprocessing
import os
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import process_time
from typing import Any

import torch
import yaml
from tqdm import tqdm

from check.diagnose import store, stored
from check.errors import Told, tell
from check.places import CHECKS, LIBRARY, PlaceError, Site, digest
from check.process import FORK, end, forks, look_in, refuse_network
from check.running import end_of
from check.standin import StandIn, stood_in

# The folders of experiments: in the book's repository, in a reader's.
FOLDERS = ("scaffold/experiments", "experiments")
RECORD = "experiments.json"
WIDTH = 79
LEAST = 0.01  # by which a band is wider than its range, at least
STEP = 5  # seconds to which times are rounded up
Tick = Callable[[float], None]
Band = tuple[float, float]


@dataclass(frozen=True)
class Side:
    """What it usually means that a number is outside, and where to look."""

    means: str
    check: str  # the topic whose check to run next


@dataclass(frozen=True)
class Number:
    """Something that an experiment measures."""

    what: str
    below: Side
    above: Side
    most: float  # what it can be at all


@dataclass(frozen=True)
class Experiment:
    """What an experiment shows, what it needs, and what it measures."""

    name: str
    title: str
    shows: str
    needs: tuple[str, ...]
    numbers: dict[str, Number]


@dataclass(frozen=True)
class Outcome:
    """What came out: numbers by name, or why there are none."""

    numbers: dict[str, float]
    seconds: float = 0.0  # of one core
    told: Told | None = None


# --- what there is -----------------------------------------------------------


def folder(site: Site) -> Path:
    """Where the experiments stand."""
    return site.root / FOLDERS[not site.is_book]


def load(site: Site) -> dict[str, Experiment]:
    """The experiments by name, as far as the repository has their topics."""
    path = folder(site) / "experiments.yml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlaceError(
            f"{path} cannot be read: get it back with git checkout"
        ) from error
    found = {}
    for name, entry in data.items():
        numbers = {
            key: Number(
                n["what"],
                Side(**n["below"]),
                Side(**n["above"]),
                n.get("most", math.inf),
            )
            for key, n in entry["numbers"].items()
        }
        needs = tuple(entry["needs"])
        if set(needs) <= site.topics.keys():
            found[name] = Experiment(
                name, entry["title"], entry["shows"], needs, numbers
            )
    return found


def find(site: Site, name: str) -> Experiment:
    """The experiment of a name; PlaceError names those that there are."""
    known = load(site)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}? " if near else ""
    raise PlaceError(
        f"no experiment {name!r}: {advice}there are {', '.join(known)}"
    )


def recorded(site: Site) -> dict[str, Any]:
    """What was measured with the book's code, by experiment."""
    above = site.root / "records" if site.is_book else folder(site)
    data = stored(above / RECORD)
    if not isinstance(data, dict):
        raise PlaceError(
            f"{above / RECORD} cannot be read: get it back with git checkout"
        )
    found = data["data"]["experiments"]
    assert isinstance(found, dict)
    return found


def band(values: Sequence[float], most: float = math.inf) -> Band:
    """The range of some values, made wider; not across zero or `most`.

    By the whole range on both sides: another seed's value is seldom so far
    out. And by a hundredth at least, since machines add in different orders.

    >>> band([2.0, 3.0, 2.5]), band([0.0, 0.0])
    ((1.0, 4.0), (0.0, 0.0))
    """
    low, high = min(values), max(values)
    more = max(high - low, LEAST * max(abs(low), abs(high)))
    lowest = low - more if low < 0 else max(0.0, low - more)
    highest = high + more if high > 0 else min(0.0, high + more)
    return lowest, min(most, highest)


# --- running one -------------------------------------------------------------


def settle(site: Site) -> None:
    """From here on, library and experiments are those of the repository.

    Modules that the reader has still to write are the book's.
    """
    look_in(site.sources, site.root, (*FOLDERS, *CHECKS))
    with contextlib.suppress(PlaceError):  # nothing is there to stand in
        sys.meta_path.insert(0, StandIn(site.sources, site.reference))


def work(site: Site, name: str, seed: int, pipe: Connection) -> None:
    """What the process does: run the experiment, and send what it finds."""
    if FORK:
        gc.freeze()
        os.setsid()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.addaudithook(refuse_network)

    def send(part: dict[str, Any]) -> None:
        pipe.send_bytes(json.dumps(part).encode())

    try:
        settle(site)
        package = FOLDERS[not site.is_book].replace("/", ".")
        module = importlib.import_module(f"{package}.{name}")
        started = process_time()
        numbers = module.run(seed, lambda share: send({"done": share}))
        seconds = process_time() - started
        send({"numbers": numbers, "seconds": seconds})
    except BaseException as error:
        send({"told": tell(error, (site.sources / LIBRARY,)).as_data()})
    os._exit(0)


def measure(site: Site, name: str, seed: int, tick: Tick) -> Outcome:
    """Run an experiment on the repository's code, in a process of its own."""
    context: Any = multiprocessing.get_context("fork" if forks() else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(site, name, seed, theirs))
    sys.stdout.flush()
    process.start()
    theirs.close()
    try:
        while True:
            part = json.loads(ours.recv_bytes())
            if "done" in part:
                tick(part["done"])
            elif "told" in part:
                return Outcome({}, told=Told(**part["told"]))
            else:
                return Outcome(part["numbers"], part["seconds"])
    except EOFError:
        process.join()
        return Outcome({}, told=end_of(process.exitcode))
    finally:
        end(process)
        ours.close()


# --- how it stands -----------------------------------------------------------


def fingerprint(site: Site, chosen: Experiment) -> str:
    """A hash of all that decides what an experiment measures."""
    own = sorted(folder(site).glob("*.py"))
    parts = [path.read_bytes() for path in own]
    topics = [site.topics[name] for name in chosen.needs]
    parts += [site.fingerprint(t, site.sources).encode() for t in topics]
    return digest(*parts)


def states(site: Site) -> Path:
    """The file that remembers how experiments ended."""
    return site.cache / RECORD


def state(site: Site, chosen: Experiment) -> str:
    """How it ended last, or that it never ran, or ran with other code."""
    known = stored(states(site))
    last = known.get(chosen.name) if isinstance(known, dict) else None
    if last is None:
        return "todo"
    same = last["code"] == fingerprint(site, chosen)
    return str(last["state"]) if same else "stale"


def enter(site: Site, chosen: Experiment, code: str, ended: str) -> None:
    """Remember how an experiment ended, and with which code it began."""
    known = stored(states(site))
    known = known if isinstance(known, dict) else {}
    entry = {"state": ended, "code": code}
    store(states(site), {**known, chosen.name: entry})


# --- in words ----------------------------------------------------------------


def duration(seconds: float) -> str:
    """About how long it takes, in words.

    >>> duration(3.2), duration(41.0), duration(90.0)
    ('5 s', '45 s', '1.5 min')
    """
    rounded = STEP * math.ceil(seconds / STEP)
    return f"{rounded} s" if rounded < 60 else f"{rounded / 60:.2g} min"


def listing(site: Site) -> list[str]:
    """All experiments: how long, how they stand, what they show and need."""
    known, lines = recorded(site), []
    for each in load(site).values():
        took = duration(known[each.name]["seconds"])
        lines += [
            f"{each.name:<10} {took:>8}  {state(site, each):<5}  {each.title}",
            f"{'':10} {each.shows}",
            f"{'':10} needs {', '.join(each.needs)}",
        ]
    return lines


def inside(value: float, allowed: Band) -> bool:
    """Whether a value lies in a band; what is no number does not."""
    return allowed[0] <= value <= allowed[1]


def table(
    chosen: Experiment, found: dict[str, float], bands: dict[str, Band]
) -> list[str]:
    """Each number beside its band, and what it means to be outside."""
    width = max(len(number.what) for number in chosen.numbers.values())
    lines, meanings = [], []
    for name, number in chosen.numbers.items():
        value, (low, high) = found[name], bands[name]
        good = inside(value, (low, high))
        lines.append(
            f"  {'✓' if good else '✗'} {number.what:<{width}}  "
            f"{value:8.4g}   band {low:.4g} to {high:.4g}"
        )
        if not good:
            side = number.below if value < low else number.above
            meanings += textwrap.wrap(
                f"{number.what}: {side.means}",
                WIDTH,
                initial_indent="  ",
                subsequent_indent="      ",
            )
            meanings.append(f"      next: python -m check {side.check}")
    return lines + meanings


def stand_ins(site: Site, chosen: Experiment) -> list[str]:
    """The topics that it needs and that the book's modules stand in for."""
    with contextlib.suppress(PlaceError):
        return [
            name
            for name in chosen.needs
            if stood_in(site.sources, site.reference, site.topics[name].file)
        ]
    return []


def failure(told: Told) -> str:
    """Why an experiment did not come to its end."""
    where = f" ({told.file}:{told.line})" if told.file else ""
    return f"  ✗ it did not come to its end: {told.what}{where}"


def run(site: Site, name: str, seed: int) -> int:
    """Run an experiment and print what it measures; 1 if outside a band."""
    chosen = find(site, name)
    known, code = recorded(site)[name], fingerprint(site, chosen)
    print(f"{name}: {chosen.title} About {duration(known['seconds'])}.")
    if lent := stand_ins(site, chosen):
        print(f"  still the book's: {', '.join(lent)}")
    with tqdm(total=100, unit="%", leave=False, bar_format="{l_bar}{bar}") as b:

        def tick(share: float) -> None:
            b.n = round(100 * share)
            b.refresh()

        outcome = measure(site, name, seed, tick)
    if outcome.told:
        print(failure(outcome.told))
        enter(site, chosen, code, "fail")
        return 1
    bands = {key: tuple(pair) for key, pair in known["bands"].items()}
    print("\n".join(table(chosen, outcome.numbers, bands)))
    good = all(inside(outcome.numbers[n], bands[n]) for n in chosen.numbers)
    enter(site, chosen, code, "pass" if good else "fail")
    return int(not good)
