"""The command `completion`: a script for a shell, made from the parser.

Nothing is listed here: commands, options and their values are read from
argparse's own actions, so the script knows what the parser knows. The values
of --track, --budget and --mode are those that exist.
"""

import argparse
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scaffold.options import DEFAULT, make_parser
from scaffold.plan import MODES, budgets, tracks

FILES = "files"  # in the place of values: any path


@dataclass(frozen=True)
class Option:
    """An option, or a word without one: then it has no names."""

    names: tuple[str, ...]
    help: str
    values: tuple[str, ...]  # of what follows it
    files: bool  # whether a path follows it
    takes: bool  # whether anything does


def values(action: argparse.Action) -> tuple[str, ...]:
    """The words that may follow, as far as they can be listed."""
    known = {"track": tracks(), "budget": budgets(), "mode": MODES}
    if action.dest in known:
        return tuple(known[action.dest])
    return tuple(map(str, action.choices or ()))


def options(parser: argparse.ArgumentParser) -> list[Option]:
    """The options of a command, and its words."""
    return [
        Option(
            tuple(action.option_strings),
            str(action.help or "").split(":")[0].split(" (")[0],
            values(action),
            action.type is Path,
            action.nargs != 0,
        )
        for action in parser._actions  # the parser has no other list
    ]


def commands() -> dict[str, list[Option]]:
    """The commands by name, with their options."""
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {name: options(one) for name, one in action.choices.items()}
    raise AssertionError("the parser has no commands")


def named(found: list[Option]) -> list[str]:
    """All that begins with a dash."""
    return [name for option in found for name in option.names]


def cases(found: list[Option]) -> Iterator[tuple[str, str]]:
    """Options that something follows, as `a|b`, and what: words or FILES."""
    for option in found:
        if option.takes and option.names:
            words = " ".join(option.values)
            yield (
                "|".join(option.names),
                FILES if option.files else words,
            )


def bare(found: list[Option]) -> str:
    """What may stand without an option: words, FILES, or nothing."""
    for option in found:
        if not option.names:
            return FILES if option.files else " ".join(option.values)
    return ""


BASH = """\
# Completes `python -m scaffold` in bash; made by its command `completion`.
_scaffold_words() {{
  local word
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done \\
    < <(compgen -W "$1" -- "$2")
}}
_scaffold() {{
  local current=${{COMP_WORDS[COMP_CWORD]}}
  local before=${{COMP_WORDS[COMP_CWORD-1]}}
  [[ ${{COMP_WORDS[1]}} == -m && ${{COMP_WORDS[2]}} == scaffold ]] || return
  (( COMP_CWORD > 2 )) || return
  local command={default} known="{commands}"
  [[ " $known " == *" ${{COMP_WORDS[3]}} "* ]] && command=${{COMP_WORDS[3]}}
  if (( COMP_CWORD == 3 )) && [[ $current != -* ]]; then
    _scaffold_words "$known" "$current"
    return
  fi
  case $command in
{cases}
  esac
}}
complete -o default -o bashdefault -F _scaffold python python3
"""
ZSH = """\
# Completes `python -m scaffold` in zsh; made by its command `completion`.
_scaffold() {{
  if [[ $words[2] != -m || $words[3] != scaffold ]] || (( CURRENT < 4 )); then
    autoload -Uz _python && _python "$@"
    return
  fi
  local command={default} before=$words[CURRENT-1]
  local -a known=({commands})
  (( $known[(Ie)$words[4]] )) && (( CURRENT > 4 )) && command=$words[4]
  if (( CURRENT == 4 )) && [[ $PREFIX != -* ]]; then
    compadd -- $known
    return
  fi
  case $command in
{cases}
  esac
}}
compdef _scaffold python python3
"""


def bash_case(command: str, found: list[Option]) -> str:
    """The branch of one command."""
    rows = [f"  {command})", "    case $before in"]
    for names, words in cases(found):
        reply = f'_scaffold_words {shlex.quote(words)} "$current"'
        rows.append(
            f"      {names}) {'' if words == FILES else reply + '; '}return;;"
        )
    rows.append("    esac")
    rows.append("    if [[ $current == -* ]]; then")
    rows.append(f'      _scaffold_words "{" ".join(named(found))}" "$current"')
    words = bare(found)
    if words and words != FILES:
        rows.append("    else")
        rows.append(f'      _scaffold_words "{words}" "$current"')
    elif not words:
        rows.append("    elif [[ -z $current ]]; then")
        rows.append(f'      _scaffold_words "{" ".join(named(found))}" ""')
    rows.append("    fi;;")
    return "\n".join(rows)


def zsh_case(command: str, found: list[Option]) -> str:
    """The branch of one command."""
    rows = [f"  {command})", "    case $before in"]
    for names, words in cases(found):
        reply = "_files" if words == FILES else f"compadd -- {words}"
        reply = reply if words else "_message 'a value'"
        rows.append(f"      {names}) {reply}; return;;")
    rows.append("    esac")
    rows.append(f"    compadd -- {' '.join(named(found))}")
    words = bare(found)
    if words:
        rows.append(
            "    " + ("_files" if words == FILES else f"compadd {words}")
        )
    rows.append("    ;;")
    return "\n".join(rows)


def script(text: str, case: Callable[[str, list[Option]], str]) -> str:
    """A shell's script, with a branch for each command."""
    found = commands()
    return text.format(
        default=DEFAULT,
        commands=" ".join(found),
        cases="\n".join(case(*item) for item in found.items()),
    )


def bash() -> str:
    """A script for bash."""
    return script(BASH, bash_case)


def zsh() -> str:
    """A script for zsh."""
    return script(ZSH, zsh_case)


FISH = """\
# Completes `python -m scaffold` in fish; made by its command `completion`.
function __scaffold_command
  set -l words (commandline -opc)
  test (count $words) -ge 3; and test "$words[2] $words[3]" = "-m scaffold"
  or return 1
  set -l command {default}
  if test (count $words) -ge 4; and contains -- $words[4] {commands}
    set command $words[4]
  end
  test (count $argv) -eq 0; and test (count $words) -eq 3; and return 0
  contains -- $command $argv
end
"""


def fish() -> str:
    """A script for fish."""
    found = commands()
    rows = [FISH.format(default=DEFAULT, commands=" ".join(found))]
    programs = "  complete -c $program"
    rows.append("for program in python python3")
    rows.append(f"{programs} -n __scaffold_command -xa '{' '.join(found)}'")
    for command, known in found.items():
        when = f"-n '__scaffold_command {command}'"
        if bare(known) != FILES:
            rows.append(f"{programs} {when} -f")
        for option in known:
            names = [f"-l {n[2:]}" for n in option.names if n.startswith("--")]
            names += [f"-s {n[1:]}" for n in option.names if len(n) == 2]
            end = f"-d {shlex.quote(option.help)}" if names else ""
            if option.takes:
                words = " ".join(option.values)
                end += " -rF" if option.files else f" -xa '{words}'"
            row = " ".join(filter(None, [programs, when, *names, end.strip()]))
            rows.append(row)
    return "\n".join([*rows, "end"]) + "\n"


def show(options: argparse.Namespace) -> int:
    """Print the script for a shell."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](), end="")
    return 0
