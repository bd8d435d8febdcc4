"""The command `python -m check`: what can be typed, and what it prints."""

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import torch
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from check import closing, experiment, lessons, progress, results
from check.cells import Cells
from check.diagnose import failures, known_bugs, known_ways
from check.message import PROGRAM, some, summary
from check.mine import Mine, MineError, read_mine
from check.places import PlaceError, Site, Topic
from check.progress import BAD, Progress
from check.verdict import Verdict, judge, silent
from check.watch import changes

HELP = """\
Check what you wrote, and name the mistake.

Without a topic, the next open one is checked, in the order of the book, and
all that had passed before run again if something changed that they need.
A check that fails says what it expected and got, and compares your values
with those of known mistakes. Code that is not written yet is no failure.
"""
EXAMPLES = f"""\
Examples:
  {PROGRAM}                        the next open topic
  {PROGRAM} attention bpe          these topics
  {PROGRAM} --chapter model --all  every topic of a part
  {PROGRAM} --status               how all of them stand
  {PROGRAM} --watch attention      again at every change
  {PROGRAM} hint attention --level 2
  {PROGRAM} reset attention --stub an empty one, to write yourself
  {PROGRAM} experiment             what can be measured of the whole
  {PROGRAM} experiment noise       run it, and see the numbers in bands

Your own code of any name:
  {PROGRAM} attention --mine my_model.py:MyAttention
  {PROGRAM} attention --mine "my_model.py:fn as attention_weights"
  {PROGRAM} attention --mine notebook.ipynb:MyAttention
  {PROGRAM} attention --mine adapter.py
  {PROGRAM} hint attention --mine adapter.py

where adapter.py gives the book's names to yours:
  from my_model import MyAttention
  SingleHeadAttention = MyAttention
  weights = {{"query": "W_q", "key": "W_k", "value": "W_v"}}
  arguments = {{"head_size": "d_k"}}   if one cannot be guessed

In a notebook, with code that stands in its cells:
  %load_ext check
  %check attention --mine MyAttention

One layer that holds all three: {{"query": "qkv[0/3]", "key": "qkv[1/3]", …}}

Exit code: 0 when nothing fails, 1 when something does, 2 for a mistake in
the command, 130 when stopped with Ctrl-C, 141 when nobody reads on."""

CELLS = "cells"  # the folder in which code of notebooks becomes a file
Level = Literal[1, 2, 3, 4]
Names = Annotated[tuple[str, ...], Parameter(help="topics, by name")]
Own = Annotated[
    list[str] | None, Parameter(help="your own code in place of the book's")
]


class Usage(Exception):
    """What was typed cannot be done; the message tells the way out."""


def topic_of(site: Site, name: str) -> Topic:
    """The topic of a name; Usage names those that are near."""
    if name in site.topics:
        return site.topics[name]
    near = difflib.get_close_matches(name, site.topics, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else ""
    raise Usage(
        f"no topic {name!r}: {advice or f'{PROGRAM} list names all of them'}"
    )


def speak(lines: Iterable[str]) -> None:
    """Print lines."""
    print("\n".join(lines))


def whisper(text: str) -> None:
    """Say something that is no result."""
    print(text, file=sys.stderr)


class Desk:
    """The commands, on one repository."""

    def __init__(self, site: Site, cells: Cells | None) -> None:
        """With the cells of the notebook in which the command is typed."""
        self.site, self.cells = site, cells

    def own(self, texts: list[str] | None) -> Mine:
        """The reader's code that --mine names."""
        return read_mine(texts or [], self.site.cache / CELLS, self.cells)

    # --- the check itself ----------------------------------------------------

    def chosen(
        self, names: Names, chapter: str | None, all_: bool
    ) -> list[str]:
        """The topics that were asked for; all of them, by every way."""
        topics = self.site.topics
        named = [topic_of(self.site, name).id for name in dict.fromkeys(names)]
        if chapter is not None:
            parts = {t.part for t in topics.values()}
            inside = {
                t.id
                for t in topics.values()
                if chapter in (t.part, t.id, t.package)
            }
            if not inside:
                raise Usage(
                    f"no chapter or part {chapter!r}; the parts are "
                    + ", ".join(sorted(parts))
                )
            return [name for name in topics if name in inside.union(named)]
        return list(topics) if all_ else named

    def judged(self, name: str, known: Progress, mine: Mine) -> Verdict:
        """One topic's verdict, entered and printed."""
        topic = self.site.topics[name]
        before = progress.state(self.site, known, topic)
        if mine.given:  # of whose past nothing is known
            before = "todo"
        seen = self.site.fingerprint(topic, self.site.sources)
        module = progress.module_hash(self.site, topic)
        verdict = judge(self.site, topic, before, mine, whisper)
        require_reached(verdict)
        if not mine.given:  # what was saved meanwhile has not run
            progress.enter(self.site, known, topic, verdict.state)
            known.modules[name] = module
            same = self.site.fingerprint(topic, self.site.sources) == seen
            passed = same and verdict.state == "pass"
            progress.remember(self.site, topic, passed)
        return verdict

    def next_topic(self, known: Progress) -> str | None:
        """The first topic that does not pass."""
        for topic in self.site.topics.values():
            if progress.state(self.site, known, topic) not in ("pass", "stale"):
                return topic.id
        return None

    def earlier(self, known: Progress, but: str | None) -> list[str]:
        """Topics that had passed, and with which something has changed."""
        return [
            topic.id
            for topic in self.site.topics.values()
            if topic.id != but
            and known.topics.get(topic.id) == "pass"
            and not progress.holds_still(self.site, topic)
        ]

    def check(
        self,
        *topics: Annotated[str, Parameter(help="topics to check")],
        chapter: Annotated[
            str | None, Parameter(help="a part of the book, all its topics")
        ] = None,
        all_: Annotated[
            bool, Parameter(name="--all", negative="", help="every topic")
        ] = False,
        mine: Own = None,
        watch: Annotated[
            bool, Parameter(negative="", help="again at every change")
        ] = False,
        status: Annotated[
            bool, Parameter(negative="", help="how all topics stand")
        ] = False,
        json: Annotated[
            bool, Parameter(negative="", help="results for programs")
        ] = False,
    ) -> int:
        """Check topics; see above."""
        if status:
            if topics or chapter is not None or all_ or mine or watch:
                raise Usage("--status stands alone, or with --json")
            return self.status(json)
        if watch and json:
            raise Usage("--watch has no end, and --json is one whole: take one")
        names = self.chosen(topics, chapter, all_)
        own = self.own(mine)
        if own.given and len(names) != 1:
            raise Usage("--mine stands with one topic, whose code it is")
        if watch and own.in_session:
            raise Usage("no cell can change while --watch waits: leave it out")
        if watch:
            return self.watch(names, mine)
        return self.once(names, own, json)

    def once(self, names: list[str], own: Mine, json: bool = False) -> int:
        """Check once; without names, the next open topic and those before."""
        known = progress.read(self.site)
        asked = bool(names)
        again: list[str] = []
        if not asked:
            following = self.next_topic(known)
            again = self.earlier(known, following)
            names = [following] if following else []
        verdicts = []
        for name in names:
            verdicts.append(self.judged(name, known, own))
            if not json:
                speak(summary(self.site, verdicts[-1]))
        for name in again:
            verdict = self.judged(name, known, Mine())
            verdicts.append(verdict)
            if verdict.bad and not json:
                print(f"\n{name} had passed before:")
                speak(summary(self.site, verdict))
        if not own.given:
            known = self.enter(verdicts, known)
        if json:
            print(results.of_verdicts(verdicts))
        else:
            self.close(verdicts, known, bool(own.given))
        return int(any(verdict.bad for verdict in verdicts))

    def enter(self, verdicts: list[Verdict], known: Progress) -> Progress:
        """What is in the file of progress now; another run may have ended."""
        latest = progress.read(self.site)
        for verdict in verdicts:
            name = verdict.topic.id
            latest.topics[name] = known.topics[name]
            latest.modules[name] = known.modules[name]
        progress.write(self.site, latest)
        return latest

    def close(
        self, verdicts: list[Verdict], known: Progress, own: bool
    ) -> None:
        """The last lines: what holds, and what comes next."""
        counts: dict[str, int] = {}
        for verdict in verdicts:
            counts[verdict.state] = counts.get(verdict.state, 0) + 1
        if counts:
            parts = [f"{n} {state}" for state, n in counts.items()]
            count = some(len(verdicts), "topic", "topics")
            print(f"{count}: {', '.join(parts)}")
        if own or any(verdict.bad for verdict in verdicts):
            return
        following = self.next_topic(known)
        stale = [
            topic.id
            for topic in self.site.topics.values()
            if progress.state(self.site, known, topic) == "stale"
        ]
        if following is None and stale:
            print(f"changed since they passed: {', '.join(stale)}")
            print(f"next: {PROGRAM}")
        elif following is None:
            speak(closing.page(self.site))
        elif all(verdict.state == "pass" for verdict in verdicts):
            topic = self.site.topics[following]
            print(f"next: {PROGRAM} {topic.id}  ({topic.title})")

    def watch(self, names: list[str], mine: list[str] | None) -> int:
        """Check now, and again whenever the code under check may change."""
        saved = changes(self.site, self.own(mine))  # while it runs, too
        self.again(names, mine)
        print("watching; Ctrl-C ends it")
        for changed in saved:
            print()
            inside = [t for t in self.site.topics if t in changed]
            self.again(names or inside, mine)
        return 0

    def again(self, names: list[str], mine: list[str] | None) -> None:
        """Check once; what cannot be done now is told, for it may be later."""
        try:
            self.once(names, self.own(mine))
        except (Usage, MineError) as error:
            complain(error)

    def status(self, json: bool) -> int:
        """How all topics stand, without running anything."""
        known = progress.read(self.site)
        states = {
            topic.id: progress.state(self.site, known, topic)
            for topic in self.site.topics.values()
        }
        if json:
            print(results.of_states(states))
        else:
            width = max(map(len, states))
            speak(f"{n:<{width}}  {s}" for n, s in states.items())
            done = sum(s == "pass" for s in states.values())
            print(f"{done} of {len(states)} pass")
        return int(any(state in BAD for state in states.values()))

    # --- the others ----------------------------------------------------------

    def hint(
        self,
        topic: str,
        *,
        level: Annotated[
            Level,
            Parameter(
                help="1 where to look, 2 the likely cause, 3 the book's "
                "line, 4 the difference from the book's module"
            ),
        ] = 1,
        mine: Own = None,
    ) -> int:
        """A hint about the first check that fails, as strong as you want."""
        found = topic_of(self.site, topic)
        own = self.own(mine)
        verdict = judge(self.site, found, mine=own, say=whisper)
        require_reached(verdict)
        speak(lessons.hint(self.site, verdict, level))
        if failures(verdict.report) and level < 4:
            program = "%check" if own.in_session else PROGRAM
            more = f"{program} hint {topic} --level {level + 1}"
            print(f"more: {more}{own.options}")
        return 0

    def explain(self, topic: str) -> int:
        """What a topic is for, when it is done, and its known mistakes."""
        found = topic_of(self.site, topic)
        known = progress.read(self.site)
        state = progress.state(self.site, known, found)
        speak(lessons.explain(self.site, found, state))
        return 0

    def reset(
        self,
        topic: str,
        *,
        stub: Annotated[
            bool,
            Parameter(negative="", help="signatures alone, to write yourself"),
        ] = False,
        yes: Annotated[bool, Parameter(negative="", help="do not ask")] = False,
    ) -> int:
        """Put the book's module back; yours is kept in a file beside it."""
        found = topic_of(self.site, topic)
        path = self.site.path(found)
        if not yes:
            what = "an empty form of the book's" if stub else "the book's"
            try:
                answer = input(f"replace {path} by {what}? [y/N] ")
            except EOFError:
                print()
                form = " --stub" if stub else ""
                raise Usage(
                    "nobody is there to say yes, and nothing was changed; "
                    f"type: {PROGRAM} reset {topic}{form} --yes"
                ) from None
            if answer.strip().lower() not in ("y", "yes"):
                print("nothing was changed")
                return 0
        kept = lessons.keep(self.site, found, stub)
        known = progress.read(self.site)
        known.topics.pop(found.id, None)
        progress.write(self.site, known)
        print(f"{path} is the book's{' stub' if stub else ''} again")
        if kept:
            print(f"yours is in {kept}")
        return 0

    def doctor(self) -> int:
        """Whether everything is there that checks need."""
        lines, good = [], True
        for name, question in (
            ("Python", lambda: sys.version.split()[0]),
            ("torch", lambda: torch.__version__),
            ("topics", lambda: f"{len(self.site.topics)} with checks"),
            ("the book's code", lambda: f"in {self.site.reference}"),
            (
                "progress",
                lambda: f"{len(progress.read(self.site).topics)} topics tried",
            ),
            ("accelerator", parity),
        ):
            try:
                lines.append(f"  ✓ {name}: {question()}")
            except (PlaceError, OSError, RuntimeError) as error:
                good = False
                lines.append(f"  ✗ {name}: {error}")
        speak(lines)
        return int(not good)

    def break_(
        self,
        topic: str,
        *,
        seed: Annotated[int, Parameter(help="another number, another one")] = 1,
        answer: Annotated[
            int | None, Parameter(help="the number of the mistake, unasked")
        ] = None,
    ) -> int:
        """Find the mistake: one is planted in a copy, and you name it."""
        found = topic_of(self.site, topic)
        bug, lines = lessons.riddle(self.site, found, seed)
        speak(lines)
        bugs = list(known_ways(self.site, found, whisper))
        print("Which one is it?")
        speak(f"  {i:2} {name}" for i, name in enumerate(bugs, 1))
        if answer is None:
            try:
                answer = int(input("number: "))
            except (EOFError, ValueError):
                print(f"answer with --answer NUMBER --seed {seed}")
                return 0
        if answer == bugs.index(bug) + 1:
            print(f"right: {bug}")
            return 0
        print("no: its values would be different. Look again at what was got")
        return 1

    def experiment(
        self,
        name: str | None = None,
        *,
        seed: Annotated[
            int,
            Parameter(
                help="another number, other luck",
                validator=Number(gte=0, lt=2**32),
            ),
        ] = 1,
    ) -> int:
        """Run an experiment on the whole library; without a name, list all."""
        if name is not None:
            return experiment.run(self.site, name, seed)
        speak(experiment.listing(self.site))
        return 0

    def list_(self) -> int:
        """The topics in the order of the book, and their titles."""
        topics = self.site.topics
        width = max(map(len, topics))
        speak(f"{t.id:<{width}}  {t.title}" for t in topics.values())
        return 0


def parity() -> str:
    """Whether an accelerator, if there is one, multiplies as the CPU does."""
    if not torch.accelerator.is_available():
        return "none; checks need none"
    device = torch.accelerator.current_accelerator()
    x = torch.sin(torch.arange(4096.0)).view(64, 64)
    gap = float(((x.to(device) @ x.to(device)).cpu() - x @ x).abs().max())
    if gap > 1e-3:
        raise RuntimeError(f"{device} multiplies differently, by {gap:.1e}")
    return f"{device} agrees with the CPU"


def make_app(site: Site, cells: Cells | None = None) -> App:
    """The tree of commands."""
    desk = Desk(site, cells)
    app = App(
        name=PROGRAM,
        help=HELP,
        help_epilogue=EXAMPLES,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=False),
        version_flags=[],
        result_action="return_value",
    )
    app.default(desk.check)
    for name in ("hint", "explain", "reset", "doctor", "experiment"):
        app.command(getattr(desk, name), name=name)
    app.command(desk.break_, name="break")
    app.command(desk.list_, name="list")
    return app


def here() -> Site:
    """The repository in which the engine stands."""
    return Site(Path(__file__).parent.parent)


def complain(error: object) -> int:
    """Say what is wrong; returns the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return 2


def main(
    arguments: list[str] | None = None,
    site: Site | None = None,
    cells: Cells | None = None,
) -> int:
    """Command line; returns the exit code, as the help says.

    `cells` are those of the notebook in which the command is typed.
    """
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app = make_app(site or here(), cells)
        command, bound, _ = app.parse_args(
            words, exit_on_error=False, print_error=False
        )
        code = int(command(*bound.args, **bound.kwargs) or 0)
        sys.stdout.flush()
        return code
    except CycloptsError as error:
        return complain(f"{error} Try: {PROGRAM} --help")
    except (Usage, MineError, PlaceError) as error:
        return complain(error)
    except BrokenPipeError:
        return leave_unread()
    except OSError as error:  # a full disk, a folder that may not be written
        return complain(error)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def leave_unread() -> int:
    """The program that read the output has gone; end without a word."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return 141


def require_reached(verdict: Verdict) -> None:
    """Raise Usage where checks have run and none came to the given code."""
    if verdict.passed or verdict.failing:
        return
    start = f"no check of {verdict.topic.id} runs the code that you gave"
    if verdict.lacking:
        names = dict.fromkeys(c["lacks"] for c in verdict.lacking)
        raise Usage(f"{start}, as it does not take: {', '.join(names)}")
    if verdict.aside:
        raise Usage(
            f"{start}; give what they ask for, with --mine FILE.py:NAME for "
            "each"
        )


# --- the older command --------------------------------------------------------


def show_topic(site: Site, name: str) -> int:
    """Check a topic and print it; returns how many checks fail."""
    verdict = judge(site, site.topics[name], say=whisper)
    speak(summary(site, verdict))
    return verdict.failing


def show_bugs(site: Site, name: str) -> int:
    """Print the check that catches each known mistake; how many escape."""
    print(f"{name}: bugs planted one at a time")
    escaped = 0
    site, topic = site.itself, site.topics[name]
    ways = known_ways(site, topic, silent)
    for bug in known_bugs(site, topic):
        if bug not in ways:
            print(f"  ✗ {bug}\n      the module has not its text, or not once")
            escaped += 1
            continue
        found = failures(ways[bug])
        escaped += not found
        by = "NOT CAUGHT"
        if found:
            first = next(iter(found.values()))
            by = f"caught by: {first.get('title') or first['told']['what']}"
        print(f"  {'✓' if found else '✗'} {bug}\n      {by}")
    return escaped


def older(arguments: list[str] | None = None, site: Site | None = None) -> int:
    """The command `checks`: topics, --list and --bugs, without progress."""
    words = sys.argv[1:] if arguments is None else arguments
    site = site or here()
    known = sorted(site.topics)
    names = [word for word in words if not word.startswith("-")]
    flags = set(words) - set(names)
    if flags & {"-h", "--help"}:
        print(OLDER)
        return 0
    if flags - {"--list", "--bugs"}:
        return complain(f"{' '.join(sorted(flags))}: see --help")
    if "--list" in flags and len(words) > 1:
        return complain("--list stands alone: it lists every topic")
    if "--list" in flags:
        speak(known)
        return 0
    try:
        chosen = [topic_of(site, n).id for n in dict.fromkeys(names)] or known
        started = perf_counter()
        run = show_bugs if "--bugs" in flags else show_topic
        failed = sum(run(site, name) for name in chosen)
    except (Usage, PlaceError) as error:
        return complain(error)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    seconds = perf_counter() - started
    verdict = "all hold" if not failed else f"{failed} failed"
    count = some(len(chosen), "topic", "topics")
    print(f"{count}, {verdict}, {seconds:.1f} s")
    return int(failed > 0)


OLDER = """\
Run the checks: does my implementation do what the book's does?

    python -m checks                 every check of this repository
    python -m checks attention bpe   the checks of these topics
    python -m checks --list          the topics that have checks
    python -m checks --bugs bpe      plant known bugs; each must be caught

python -m check --help tells what the newer command can do."""
