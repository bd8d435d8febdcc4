"""For whom a repository is, and what it will train on which machine."""

import math
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from press.identity import book_roadmap
from press.plan import Phase, PlanError, day, phases, plan_text, sittings
from press.roadmap import Topic

HERE = Path(__file__).parent
BYTES_PER_TOKEN = 4.0  # of English, with some thousand byte pairs
EPOCHS = 4  # repeating more teaches little (Muennighoff et al., 2023)
MODES = ("stubs", "solutions")  # with holes for the reader, or whole
ENOUGH = 20  # tokens for a parameter (Hoffmann et al., 2022, table 3)


class ScaffoldError(ValueError):
    """It cannot be done; the message says why, and what to do."""

    code = 2  # with which the command ends: what was typed is wrong


class DestinationError(ScaffoldError):
    """There is something where the repository should come."""

    code = 3


class MissingError(ScaffoldError):
    """A program or a library that it takes is not there."""

    code = 4


class CombinationError(ScaffoldError):
    """Each wish can be fulfilled, and all of them together cannot."""

    code = 5


def read_yaml(name: str) -> dict[str, Any]:
    """A YAML file of this folder, to be looked at and not changed."""
    return parsed((HERE / name).read_text(encoding="utf-8"))


@lru_cache
def parsed(text: str) -> dict[str, Any]:
    """What a YAML text says; one that has been read is not read again."""
    data = yaml.safe_load(text)
    assert isinstance(data, dict)
    return data


def tracks() -> dict[str, Any]:
    """The tracks by name."""
    return read_yaml("tracks.yml")


def budgets() -> dict[str, Any]:
    """The budgets by name."""
    return read_yaml("budgets.yml")


@dataclass(frozen=True)
class Limits:
    """What the run of config.toml may take, and what its machine costs."""

    hours: float | None = None
    usd: float | None = None
    hourly_usd: float | None = None  # the budget's, where it is not named

    def __post_init__(self) -> None:
        """Refuse what no run can be given."""
        for name in ("hours", "usd", "hourly_usd"):
            value = getattr(self, name)
            free = name == "hourly_usd" and value == 0
            if value is not None and not free and not 0 < value < math.inf:
                option = f"--{name.replace('_', '-')}"
                raise ScaffoldError(f"{option} must be above 0, and finite")


@dataclass(frozen=True)
class Week:
    """A week of reading and running: the topics that begin in it."""

    number: int
    topics: tuple[Topic, ...]
    minutes: int  # of its evenings
    reached: tuple[Phase, ...]  # the milestones on its last evenings

    @property
    def hours(self) -> float:
        """Hours of the week's evenings."""
        return self.minutes / 60


@dataclass(frozen=True)
class Plan:
    """What is to be emitted: for whom, for which machine, on which text."""

    track: str
    budget: str
    data: Path | None = None  # UTF-8 text, JSON lines, or a prepared folder
    start: str = ""  # the first day of the calendar; "": no calendar
    limits: Limits = Limits()
    mode: str = ""  # stubs or solutions; "": as the track has it
    corpus: str = ""  # the text as the repository names it; "": in full

    def __post_init__(self) -> None:
        """Refuse unknown names, and a text that cannot be trained on."""
        for kind, known in (("track", tracks()), ("budget", budgets())):
            name = getattr(self, kind)
            if name not in known:
                names = ", ".join(known)
                raise ScaffoldError(f"no {kind} {name!r}; there are: {names}")
        if self.mode not in ("", *MODES):
            raise ScaffoldError(
                f"no mode {self.mode!r}; there are: {', '.join(MODES)}"
            )
        try:
            _ = self.calendar
        except PlanError as error:
            raise ScaffoldError(f"--start {error}") from error
        if self.data is not None:
            check_text(self.data, self.tokens)
            window = self.settings["context"]
            if self.tokens * BYTES_PER_TOKEN / 9 <= window:  # a tenth of all
                raise CombinationError(
                    f"{self.data} is too short: the tenth of it that is kept "
                    f"for validation does not fill a window of {window} "
                    "tokens; name a longer text"
                )
            short = self.tokens < 64 * window  # else its words are enough
            if short and fewest(self.data, 3 * window) < 2.3 * window:
                raise CombinationError(
                    f"{self.data} is too short: nine tenths of it may not "
                    f"fill two windows of {window} tokens; name a longer text"
                )

    @property
    def stubs(self) -> bool:
        """Whether each module has a hole, for its reader to fill."""
        return (self.mode or tracks()[self.track]["mode"]) == "stubs"

    @cached_property
    def topics(self) -> tuple[Topic, ...]:
        """The track's topics, in reading order."""
        topics = book_roadmap().topics
        return tuple(t for t in topics if t.tracks[self.track] != "skim")

    @cached_property
    def phases(self) -> list[Phase]:
        """The milestones, with what is core to the track on the way there."""
        hours = float(tracks()[self.track]["hours"])
        return phases(book_roadmap(), self.track, hours)

    @cached_property
    def weeks(self) -> list[Week]:
        """What is core to the track, in weeks of the hours that it has."""
        hours = float(tracks()[self.track]["hours"])
        core = [t for t in self.topics if t not in self.later]
        plan, begun = sittings(core, self.track, hours), set[str]()
        found = []
        for number, group in groupby(plan, key=lambda s: s.week):
            evenings = list(group)
            work = [topic for s in evenings for topic, _ in s.work]
            new = dict.fromkeys(t.id for t in work if t.id not in begun)
            begun |= set(new)
            found.append(
                Week(
                    number,
                    tuple(book_roadmap().by_id[name] for name in new),
                    sum(s.minutes for s in evenings),
                    tuple(p for p in self.phases if p.last.week == number),
                )
            )
        return found

    @cached_property
    def calendar(self) -> str:
        """The plan as an iCalendar file, empty where no start is named."""
        if not self.start:
            return ""
        hours = float(tracks()[self.track]["hours"])
        return plan_text(self.track, day(self.start), hours)

    @cached_property
    def later(self) -> tuple[Topic, ...]:
        """The topics that can wait for a second reading."""
        track = self.track
        return tuple(t for t in self.topics if t.tracks[track] == "optional")

    @property
    def pages(self) -> dict[str, Phase]:
        """The files of `notes/`, one for each phase of the plan."""
        numbered = enumerate(self.phases, 1)
        return {f"notes/{n}-{p.milestone.id}.md": p for n, p in numbered}

    @cached_property
    def tokens(self) -> int:
        """About how many tokens the text of one's own has to learn from."""
        assert self.data is not None
        source = self.data
        if source.is_dir():
            source = source / "train.jsonl"
        size = source.stat().st_size if source.is_file() else 0
        share = 1.0 if self.data.is_dir() else 0.9  # a folder is split already
        return int(share * size / BYTES_PER_TOKEN)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What config.toml says: the settings of the command `train`."""
        return self.sized[0] | self.money

    @property
    def money(self) -> dict[str, float]:
        """What the machine costs and the run may cost; {} for one's own."""
        from scaffold.estimate import hourly  # it imports torch

        price = hourly(budgets()[self.budget], self.limits)
        if not price:
            return {}
        most = {"max_usd": self.limits.usd} if self.limits.usd else {}
        return most | {"usd_per_hour": price}

    @cached_property
    def sized(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The settings within the limits, and what became smaller for them."""
        from scaffold.estimate import batched, fitted  # it imports torch

        facts = budgets()[self.budget]
        if self.limits.hours is None and self.limits.usd is None:
            return batched(self.wanted, facts), ()
        settings, notes = fitted(self.wanted, facts, self.limits)
        return batched(settings, facts), notes

    @cached_property
    def wanted(self) -> dict[str, Any]:
        """The settings that fill the machine, with the windows of a step."""
        budget = budgets()[self.budget]
        settings = {**budget["toytown"], "max_minutes": 60.0 * budget["hours"]}
        if self.data is None:
            return settings
        named = self.corpus or str(self.data.absolute())
        settings |= {"corpus": named, **budget["text"]}
        del settings["characters"]
        settings["steps"] = self.steps(settings)
        settings["warmup"] = min(settings["warmup"], settings["steps"] // 10)
        return settings

    def steps(self, settings: dict[str, Any]) -> int:
        """As many as the model has use for, or the text can give."""
        step = settings["batch_size"] * settings["context"]
        wanted = min(ENOUGH * parameters(settings), EPOCHS * self.tokens)
        return max(20, math.ceil(wanted / step))

    @property
    def rates(self) -> list[float]:
        """Learning rates to compare, a factor of 2 from one to the next."""
        middle = self.settings["learning_rate"]
        return [float(f"{middle * 2.0**k:.3g}") for k in range(-4, 4)]

    @property
    def notes(self) -> list[str]:
        """What whoever asked for this should know, a sentence each."""
        return [note for note in (*self.sized[1], self.warning) if note]

    @property
    def warning(self) -> str:
        """What to say if the text is too short for the model, or nothing."""
        if self.data is None:
            return ""
        needed, there = ENOUGH * parameters(self.settings), EPOCHS * self.tokens
        if there >= needed:
            return ""
        return (
            f"about {self.tokens:,} tokens to learn from, in {EPOCHS} epochs, "
            f"are {there / needed:.0%} of what {parameters(self.settings):,} "
            "parameters have use for; more text, or a smaller budget, will "
            "make a better model"
        )


def seen_from(folder: Path, path: Path | None) -> str:
    """How the repository in a folder names a text; "" where there is none.

    From its own folder, so that nothing tells whose machine made it, and both
    can be moved together.
    """
    if path is None:
        return ""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def check_text(path: Path, tokens: int) -> None:
    """Read a text once, so that nothing is emitted that cannot train."""
    if not tokens:
        raise ScaffoldError(
            f"{path} is no text; name a UTF-8 file, a file of JSON lines, or "
            "a folder that `scratchlm corpus prepare` wrote"
        )
    from scratchlm.text.prepare import read_texts  # it imports torch

    parts = (path / "train.jsonl", path / "validation.jsonl")
    for source in parts if path.is_dir() else (path,):
        try:
            for _ in read_texts(source):
                pass
        except ValueError as error:
            raise ScaffoldError(str(error)) from error
        except OSError as error:
            raise ScaffoldError(
                f"{source} cannot be read: {error.strerror}"
            ) from error


def fewest(path: Path, enough: int) -> int:
    """How many tokens a text has at least: its words, as far as `enough`.

    No token goes across two of them, and of a short text each becomes one.
    """
    from scratchlm.text.bpe import pre_tokenize
    from scratchlm.text.prepare import read_texts  # it imports torch

    count = 0
    for text in read_texts(path / "train.jsonl" if path.is_dir() else path):
        count += len(pre_tokenize(text))
        if count >= enough:
            break
    return count


def parameters(settings: dict[str, Any]) -> int:
    """About how many: 12 C² in each block, and the table of tokens.

    >>> parameters({"layers": 4, "channels": 128, "vocab_size": 1024})
    917504
    """
    channels = settings["channels"]
    blocks = 12 * settings["layers"] * channels**2
    return int(blocks + settings["vocab_size"] * channels)
