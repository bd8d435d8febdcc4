"""The command line: its commands, their options, and what they are for."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomllib

from press.edition import edition
from scaffold.plan import MODES, ScaffoldError, budgets, tracks
from scaffold.wishes import LICENSES

PROGRAM = "python -m scaffold"
DEFAULT = "new"  # the command where none is named
SHELLS = ("bash", "zsh", "fish")

INTRODUCTION = """\
Make a repository of your own from the sources of the book.

It holds the library, its tests and checks, a plan by the week, and a
configuration for your machine. It is a Git repository with a first commit, and
its tests pass at once. No command asks anything; every choice is an option.
"""
BEGIN = """\
begin here:
  python -m scaffold ../my-model --track practitioner
  python -m scaffold list            what there is, what it takes
  python -m scaffold new --help      every option of it
  python -m scaffold --version       the edition of the book that it uses
"""
CODES = """\
exit codes:
  0 done   1 a bug of ours   2 an option or a value that is not understood
  3 the destination is not free            4 Git, Python or a library is missing
  5 these options exclude each other       130 interrupted
"""
NEW = """\
examples:
  python -m scaffold --track practitioner
  python -m scaffold ~/my-first-model --track beginner
  python -m scaffold --track practitioner --mode stubs
  python -m scaffold --track practitioner --data ~/letters.txt
  python -m scaffold --track researcher --budget gpu24 --out ~/lab
  python -m scaffold --track practitioner --start 2026-12-01
  python -m scaffold --track researcher --budget gpu8 --usd 0.05 --dry-run
  python -m scaffold ../my-second --answers ../my-model/.scaffold.toml

then, in the new folder:
  python3 -m venv .venv && . .venv/bin/activate
  python -m pip install -r requirements.txt
  python -m pytest      its tests
  python train.py       train the model of config.toml
  python sample.py      let it write
"""
ESTIMATE = """\
examples:
  python -m scaffold estimate --track practitioner --budget gpu24
  python -m scaffold estimate --track practitioner --data ~/letters.txt
  python -m scaffold estimate --track researcher --budget node8 --hourly-usd 20

Nothing runs for it, and nothing is written. Operations and memory are counted;
time and money assume a rate. `python train.py --dry-run`, in the new folder,
measures a step on your machine.
"""
UPDATE = """\
A later edition of the book may have better checks and rules. Those, and the
programs that start them, are the book's, and so are the pages of notes/ as long
as you have not written on them; the library, its tests, config.toml, README.md,
card.yml and all files of your own are yours, and stay as they are.
A file of the book's that you did not change is replaced. Beside one that you
changed, the new one is written as FILE.new (or FILE.new.2, where an earlier one
lies), and the commands are printed that would merge the two. Nothing is merged
unless you type them, and nothing is committed: `git status` and `git diff` show
what happened.
What else you changed has to be committed before, so that you can take the
update back; progress.json may wait.

examples:
  python -m scaffold diff ~/my-first-model      what would change
  python -m scaffold update ~/my-first-model
"""
COMPLETION = """\
examples:
  python -m scaffold completion bash > ~/.scaffold-completion
  echo 'source ~/.scaffold-completion' >> ~/.bashrc

  python -m scaffold completion fish > ~/.config/fish/conf.d/scaffold.fish
"""


class Commands(argparse.ArgumentParser):
    """A parser that takes options without a command for those of `new`."""

    new: argparse.ArgumentParser  # of that command

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """The options; with the command that is meant."""
        words = list(sys.argv[1:] if args is None else args)
        named = words and (words[0] in HELP or words[0] in ("-h", "--help"))
        if not named:
            self.refuse_slip(words[:1])
            words = [DEFAULT, *words]
        if words[0] == DEFAULT:
            words = self.answered(words)
        found, rest = super().parse_known_args(words, namespace)
        if found.command == DEFAULT:
            self.settle(found)
        # Python 3.11 takes no DEST that stands behind an option.
        late = found.command == DEFAULT and found.dest is None
        if late and rest and not rest[0].startswith("-"):
            found.dest = Path(rest.pop(0))
        return found, rest

    def answered(self, words: list[str]) -> list[str]:
        """The words, with those of a file of answers before one's own."""
        only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        only.add_argument(ANSWERS, type=Path)
        self.read: Path | None = only.parse_known_args(words)[0].answers
        if self.read is None:
            return words
        try:
            return [words[0], *typed(self.read, self.new), *words[1:]]
        except ScaffoldError as error:
            self.error(str(error))

    def settle(self, found: argparse.Namespace) -> None:
        """The track that --defaults means; without one it is an error."""
        if found.answers != self.read:
            self.error("write --answers in full, not a part of the word")
        if found.defaults and found.track is None:
            found.track = next(iter(tracks()))
        if found.track is None:
            self.error(
                "the following arguments are required: --track (or "
                "--defaults, which is a beginner's)"
            )

    def refuse_slip(self, words: list[str]) -> None:
        """Refuse to make a folder that has nearly the name of a command."""
        for word in filter(str.isalpha, words):  # a path may have any name
            for meant in difflib.get_close_matches(word, HELP, 1, 0.75):
                self.error(
                    f"no command {word!r}; {meant!r} is one, and a folder of "
                    f"that name is ./{word}"
                )


AS_JSON = "print JSON, for programs"

HELP = {
    "new": "make a repository; the command where none is named",
    "list": "tracks and budgets, with the hours and the money they take",
    "estimate": "operations, memory, time and money of one run",
    "doctor": "say whether this machine has what a run takes, and for "
    "which budget",
    "diff": "what `update` would change in a repository",
    "update": "replace checks and rules by those of this edition",
    "completion": "a script that completes these commands in your shell",
}


# What stands in a file of answers is what a stamp keeps, and no more.
ANSWERS = "--answers"
NO_ANSWERS = {"help", "version", "dest", "out", "answers", "dry_run", "json"}
NO_ANSWERS |= {"quiet", "defaults", "input", "color", "force"}


def typed(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """A file of answers as the words that one would type for them.

    It is TOML: options by their names, at the top or under `answers`, as in
    the `.scaffold.toml` of a repository.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScaffoldError(f"--answers {path}: {error}") from error
    known = {
        action.dest: action
        for action in parser._actions  # the parser has no other list
        if action.dest not in NO_ANSWERS
    }
    words: list[str] = []
    answers = data.get("answers", data)
    if not isinstance(answers, dict):
        raise ScaffoldError(f"--answers {path}: answers is no table")
    for name, value in answers.items():
        action = known.get(name.replace("-", "_"))
        if action is None or isinstance(value, dict | list):
            names = ", ".join(known)
            raise ScaffoldError(
                f"--answers {path}: {name} is no answer; there are: {names}"
            )
        if isinstance(value, bool) is not (action.nargs == 0):
            raise ScaffoldError(
                f"--answers {path}: {name} cannot be {str(value).lower()!r}"
            )
        option = action.option_strings[-1]
        if value is action.const:
            words.append(option)
        elif action.type is Path:
            words.append(f"{option}={path.parent / str(value)}")
        elif not isinstance(value, bool):
            words.append(f"{option}={value}")
    return words


def listing(title: str, entries: dict[str, str]) -> str:
    """A list for the help text."""
    rows = [f"  {name:<14}{text}" for name, text in entries.items()]
    return "\n".join([f"{title}:", *rows])


def choices() -> str:
    """The tracks and budgets, for a help text."""
    aims = {name: item["aim"] for name, item in tracks().items()}
    sizes = {name: item["title"] for name, item in budgets().items()}
    return listing("tracks", aims) + "\n\n" + listing("budgets", sizes)


def add_plan(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    """The options that decide what a run takes."""
    help_ = "who you are, see below"
    parser.add_argument("--track", required=needed, help=help_)
    parser.add_argument(
        "--budget", default="cpu", help="what you have, see below (%(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="a text of your own: a UTF-8 file, JSON lines, or a folder "
        "that `scratchlm corpus prepare` wrote (Toytown)",
    )
    parser.add_argument(
        "--hours",
        type=float,
        help="the longest that the run may take: a model that takes longer is "
        "made smaller, and `train` stops in time (no limit)",
    )
    parser.add_argument(
        "--usd", type=float, help="the same limit, in dollars (no limit)"
    )
    parser.add_argument(
        "--hourly-usd",
        type=float,
        help="what an hour of your machine costs (see budgets.yml)",
    )


def add_new(parser: argparse.ArgumentParser) -> None:
    """The options of `new`."""
    parser.add_argument(
        "dest", nargs="?", type=Path, help="the same as --out, and shorter"
    )
    add_plan(parser, needed=False)
    parser.add_argument(
        "--mode",
        default="",
        help=f"{' or '.join(MODES)}: modules with a hole each, of at most "
        "twelve lines, that you fill, or whole ones (beginner: stubs, the "
        "others: solutions)",
    )
    parser.add_argument(
        "--out", type=Path, help="an empty or new folder (llm-TRACK)"
    )
    parser.add_argument(
        "--start",
        default="",
        help="the first day of week 1, as 2026-12-01: writes plan.ics, a "
        "calendar of the plan (no calendar)",
    )
    parser.add_argument(
        "--name", default="", help="what it is called (the folder's name)"
    )
    parser.add_argument(
        "--author", default="", help="you, in its package and its commits"
    )
    parser.add_argument(
        "--license",
        choices=LICENSES,
        default="MIT",
        help="for what you add: %(choices)s (%(default)s); the book's files "
        "stay under its own",
    )
    parser.add_argument(
        "--no-git",
        dest="git",
        action="store_false",
        help="make no Git repository",
    )
    parser.add_argument(
        "--no-commit",
        dest="commit",
        action="store_false",
        help="add the files to the Git repository, and commit nothing",
    )
    parser.add_argument(
        "--branch", default="", help="the first branch's name (main)"
    )
    add_how(parser)


def add_how(parser: argparse.ArgumentParser) -> None:
    """The options of `new` that decide how it is done, and what is said."""
    parser.add_argument(
        "--reproducible",
        action="store_true",
        help="the same commit wherever it is made, dated by SOURCE_DATE_EPOCH "
        "or the book's edition",
    )
    parser.add_argument(
        ANSWERS,
        type=Path,
        metavar="FILE",
        help="options by their names, as TOML: the .scaffold.toml of a "
        "repository makes it once more; what is typed wins over it (no file)",
    )
    parser.add_argument(
        "-y",
        "--defaults",
        action="store_true",
        help="take the default of everything that is not named, --track "
        "included (beginner)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write into a folder even if it is not empty: what is there "
        "stays, and where a name is taken the book's file is FILE.new",
    )
    parser.add_argument(
        "--no-input",
        dest="input",
        action="store_false",
        help="accepted for scripts; no command asks anything anyway",
    )
    parser.add_argument(
        "--no-color",
        dest="color",
        action="store_false",
        help="accepted for scripts; no command prints colors anyway",
    )
    parser.add_argument(
        "-n",
        "--dry-run",
        action="store_true",
        help="list the files and what the run takes, and write nothing",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="with --dry-run: print the list as JSON, for programs",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing but errors"
    )
    parser.add_argument(
        "--version",
        action="version",
        version=edition().words,
        help="print the edition whose files it writes",
    )


def add_others(commands: Any) -> None:
    """The commands that write nothing, or what is there already."""
    made = commands("list", choices())
    made.add_argument("--json", action="store_true", help=AS_JSON)
    made = commands("estimate", f"{choices()}\n\n{ESTIMATE}")
    add_plan(made)
    made.add_argument("--json", action="store_true", help=AS_JSON)
    commands("doctor", "example:\n  python -m scaffold doctor\n\n" + CODES)
    for name in ("diff", "update"):
        commands(name, UPDATE).add_argument(
            "dest",
            nargs="?",
            type=Path,
            default=Path(),
            help="the folder of a repository that the scaffold made (this one)",
        )
    commands("completion", COMPLETION).add_argument(
        "shell", choices=SHELLS, help="the shell that you type in"
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line, with the tracks and budgets that exist."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Commands(
        prog=PROGRAM,
        description=INTRODUCTION,
        epilog="\n\n".join([BEGIN.rstrip(), choices(), CODES]),
        formatter_class=form,
    )
    known = parser.add_subparsers(
        dest="command",
        metavar="COMMAND",
        parser_class=argparse.ArgumentParser,
        required=True,
    )

    def command(name: str, epilog: str) -> argparse.ArgumentParser:
        """A command with its text from HELP."""
        return known.add_parser(
            name,
            help=HELP[name],
            description=f"{HELP[name][0].upper()}{HELP[name][1:]}.",
            epilog=epilog,
            formatter_class=form,
        )

    parser.new = command("new", f"{choices()}\n\n{NEW}\n{CODES}")
    add_new(parser.new)
    add_others(command)
    return parser
