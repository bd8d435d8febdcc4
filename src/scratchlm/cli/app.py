"""The frame of the command line: which commands there are, and how they end.

Nothing here imports torch. A command's help is read from its docstring as
text, and its module is imported when the command is called; that way the list
of commands is there at once.
"""

import ast
import contextlib
import importlib.util
import os
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import (
    ColumnSpec,
    DefaultFormatter,
    DescriptionRenderer,
    HelpEntry,
    PanelSpec,
)
from rich.box import SIMPLE
from rich.text import Text

from scratchlm.cli.errors import (
    UserError,
    from_system,
    is_mendable,
    missing,
)
from scratchlm.cli.settings import check_values, fill_in, mention_unused
from scratchlm.cli.signals import INTERRUPTED, stopping_at_once

PROGRAM = "python -m scratchlm"
CLOSED_PIPE = 141  # 128 and the number of the signal
START = f"""\
Begin with:
  {PROGRAM} train --preset tiny --out runs/first
  {PROGRAM} sample --run runs/first

Help for a command: {PROGRAM} COMMAND --help"""


def typed(entry: HelpEntry) -> Text:
    """How an option is typed: "--steps INT", "--[no-]bias", "TEXT"."""
    if entry.positional_label:
        return Text(entry.positional_label)
    names = ", ".join(entry.positive_names + entry.positive_shorts)
    if entry.negative_names and not entry.metavar:
        names = names.replace("--", "--[no-]", 1)
    return Text(f"{names} {entry.metavar}" if entry.metavar else names)


def purpose(entry: HelpEntry) -> Any:
    """What an option is for; the text already names its default."""
    render = DescriptionRenderer()
    return render(entry.copy(required=False, default=None))


@lru_cache
def parsed(module: str) -> ast.Module:
    """A module's text as a tree, once for all commands in it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def teaching(module: str, name: str) -> dict[str, str]:
    """A function's help and its example, without importing the module.

    Both are in its docstring: what comes before "Example:", and the rest.
    """
    for node in parsed(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            text = ast.get_docstring(node) or ""
            before, _, after = text.partition("\n\nExample:")
            return {"help": before, "help_epilogue": f"Example:{after}"}
    raise LookupError(f"{module} has no function {name}")


def add(parent: App, path: str, **settings: Any) -> None:
    """A command, "module:function", that is imported when it is called."""
    module, _, name = path.partition(":")
    shown = name.rstrip("_")  # "import" is a word of Python's own
    parent.command(path, name=shown, **teaching(module, name), **settings)


def installed() -> str:
    """The version; in a repository that was made for a reader there is none."""
    try:
        return version("scratchlm")
    except PackageNotFoundError:
        return "run from its folder, not installed"


def make_app() -> App:
    """The tree of commands."""
    looks: dict[str, Any] = {
        "help_format": "plaintext",
        "help_formatter": DefaultFormatter(
            panel_spec=PanelSpec(box=SIMPLE, padding=(0, 0)),
            column_specs=(
                ColumnSpec(typed, style="cyclopts.name", overflow="fold"),
                ColumnSpec(purpose, overflow="fold"),
            ),
        ),
    }
    app = App(
        name=PROGRAM,
        help="A large language model from scratch.",
        help_epilogue=START,
        version=installed,
        result_action="return_value",
        config=(check_values,),
        default_parameter=Parameter(allow_repeating=True),  # the last wins
        **looks,
    )
    corpus = App(
        name="corpus",
        help="Get, write, clean or encode text.",
        help_epilogue=f"Example:\n  {PROGRAM} corpus get shakespeare",
    )
    add(corpus, "scratchlm.cli.corpus:get")
    add(corpus, "scratchlm.cli.corpus:toytown")
    add(corpus, "scratchlm.cli.corpus:filter_")
    add(corpus, "scratchlm.cli.corpus:prepare")
    add(corpus, "scratchlm.cli.corpus:shards")
    tokenizer = App(
        name="tokenizer",
        help="Train, try or export a tokenizer.",
        help_epilogue=f"Example:\n  {PROGRAM} tokenizer train notes.txt",
    )
    add(tokenizer, "scratchlm.cli.tokenizer:train")
    add(tokenizer, "scratchlm.cli.tokenizer:encode")
    add(tokenizer, "scratchlm.cli.tokenizer:export")
    app.command(corpus)
    app.command(tokenizer)
    steps = (fill_in, check_values, mention_unused)
    add(app, "scratchlm.cli.train:train", config=steps)
    add(app, "scratchlm.cli.sample:sample")
    add(app, "scratchlm.cli.evaluate:evaluate")
    add(app, "scratchlm.cli.compare:compare")
    add(app, "scratchlm.cli.quantize:quantize")
    add(app, "scratchlm.cli.export:export")
    add(app, "scratchlm.cli.export:import_")
    add(app, "scratchlm.cli.chat:chat")
    add(app, "scratchlm.cli.serve:serve")
    add(app, "scratchlm.cli.page:page")
    add(app, "scratchlm.cli.doctor:doctor")
    return app


def tolerate_any_encoding() -> None:
    """Write letters that a terminal or a file cannot take as codes.

    Standard output is not UTF-8 everywhere; a run must not die of a dash.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # replaced by a plain object
            stream.reconfigure(errors="backslashreplace")  # type: ignore


def complain(error: object) -> int:
    """Say what is wrong, in one paragraph; returns the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return 2


def parse(app: App, words: list[str]) -> Any:
    """The command that the words ask for, with its arguments: a call.

    Configurations are made here, so a ValueError is about their values.
    """
    with stopping_at_once():
        try:
            command, bound, _ = app.parse_args(
                words, exit_on_error=False, print_error=False
            )
        except CycloptsError as error:
            words = [PROGRAM, *(error.command_chain or ()), "--help"]
            raise UserError(f"{error} Try: {' '.join(words)}") from error
        except ImportError as error:
            raise UserError(missing(error)) from error
        except ValueError as error:
            raise UserError(str(error)) from error
    return lambda: command(*bound.args, **bound.kwargs)


def close_quietly() -> int:
    """Nobody reads our output any more; that is no error of ours."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done. 2: a mistake that the message tells how to mend. 130: stopped
    with Ctrl-C. 141: the reader of our output went away.
    """
    tolerate_any_encoding()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        parse(make_app(), words)()
        print(end="", flush=True)  # there may be no output at all
    except KeyboardInterrupt as stopped:
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return close_quietly()
    except SystemExit as end:  # as Rich ends if nobody reads a help text
        if isinstance(end.__context__, BrokenPipeError):
            return close_quietly()
        raise
    except OSError as error:
        return complain(from_system(error))
    except Exception as error:
        if not is_mendable(error):
            raise
        return complain(error)
    return 0
