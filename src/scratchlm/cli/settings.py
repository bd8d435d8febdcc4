"""Where settings come from: options, a file, the run itself, a preset.

An option wins over the file that `--config` names. Under both lies, for a
new run, the preset; for a run that is continued, what that run was asked
for, and above that a preset if one is named. That way a setting is written
once, in its dataclass, and what nobody sets has a value that somebody chose.

Help for a field is the comment beside it, so that a class fits on a page.
"""

import inspect
import io
import json
import os
import tokenize
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import tomllib
from cyclopts import App, Group, Parameter
from cyclopts.argument import Argument, ArgumentCollection
from cyclopts.config import Dict

from scratchlm.cli.errors import UserError
from scratchlm.text.files import FileError, read_bytes

GROUPS = {
    name: Group(name, sort_key=place)
    for place, name in enumerate(("Text", "Model", "Training", "Run"), 1)
}


def options(group: str) -> Parameter:
    """Every field of a dataclass as an option of its own, in a group.

    None is required: `fill_in` finds a value for what nobody gave.
    """
    return Parameter(
        name="*",
        group=GROUPS[group],
        required=False,
        show_default=False,
        negative_bool=() if group == "Run" else None,
        negative_iterable="no-",
        consume_multiple=True,  # as in --snapshots 0 10
    )


def field_comments(kind: type) -> dict[str, str]:
    """The comment beside each field of a dataclass.

    >>> from scratchlm.cli.train import TextOptions
    >>> field_comments(TextOptions)["characters"]
    'how much of Toytown to write'
    """
    found, name, seen = {}, "", {field.name for field in fields(kind)}
    source = io.StringIO(inspect.cleandoc(inspect.getsource(kind)))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.NAME and token.string in seen:
            name, line = token.string, token.start[0]
            seen.remove(name)
        elif token.type == tokenize.COMMENT and name and token.start[0] == line:
            found[name] = token.string.lstrip("# ")
    return found


def describe(kind: type, defaults: Mapping[str, Any]) -> None:
    """Give fields their help: the comment, and the default in parentheses."""
    comments = field_comments(kind)
    for field in fields(kind):
        if text := comments.get(field.name):
            value = defaults.get(field.name)
            if value is True:
                text += " (on)"
            elif value not in (None, False, (), ""):
                text += f" ({as_typed(value)})"
            field.metadata = MappingProxyType({"help": text})


def as_typed(value: Any) -> str:
    """A value as it would be typed.

    >>> as_typed(0.003), as_typed((0, 10))
    ('0.003', '0 10')
    """
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


BELOW = "the preset"  # the source of what neither an option nor a file set


def find(arguments: ArgumentCollection, name: str) -> Argument | None:
    """The argument of this name, if somebody gave it a value."""
    for argument in arguments:
        if name in argument.names and argument.tokens:
            return argument
    return None


def value_of(arguments: ArgumentCollection, name: str, default: str) -> str:
    """What was given for an option, as text; the last of several."""
    argument = find(arguments, name)
    return argument.tokens[-1].value if argument else default


def is_on(
    arguments: ArgumentCollection, name: str, default: bool = False
) -> bool:
    """Whether a switch is on, by what was said last."""
    argument = find(arguments, name)
    if argument is None:
        return default
    token = argument.tokens[-1]
    if isinstance(token.implicit_value, bool):
        return token.implicit_value  # the bare option, without a value
    return token.value.lower() in ("true", "t", "yes", "y", "1")


def unique(pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Names and values; ValueError for what is no name or occurs twice.

    >>> unique([("steps", 7), ("batch_size", 8)])
    {'steps': 7, 'batch-size': 8}
    """
    found = {}
    for name, value in pairs:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no name of a setting")
        name = name.replace("_", "-")
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def parse_json(text: str) -> Any:
    """JSON in which no name may occur twice."""
    return json.loads(text, object_pairs_hook=unique)


def parse_yaml(text: str) -> Any:
    """YAML, as far as it is data; the first level has each name once."""
    import yaml

    try:
        node = yaml.compose(text, yaml.SafeLoader)
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if isinstance(node, yaml.MappingNode):
        unique([(key.value, value) for key, value in node.value])
    return found


FILES: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
    ".json": parse_json,
}


def read_file(path: Path) -> dict[str, Any]:
    """The settings of a file, by their names."""
    if path.suffix not in FILES:
        raise UserError(
            f"{path}: settings are read from {', '.join(FILES)}; "
            "rename the file, or write one of these"
        )
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of settings")
    try:
        found = FILES[path.suffix](read_bytes(path).decode("utf-8-sig"))
        if not isinstance(found, dict | None):
            raise ValueError("it is to be names with their values")
        found = unique(list((found or {}).items()))
        if "config" in found:
            raise ValueError("it cannot name another file (config)")
        if no := [name for name in found if name.startswith("no-")]:
            raise ValueError(f"for {no[0]} write {no[0][3:]}, with false or []")
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path} holds no settings: {why}") from error
    return found


def check_values(
    app: App, commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Refuse fractions, which would be rounded, and paths without a name."""
    for argument in arguments:
        kinds = {argument.hint, *get_args(argument.hint)}
        for token in argument.tokens:
            value = token.value
            if int in kinds and not is_whole(value):
                raise UserError(
                    f"{argument.name} {value}: choose a whole number below 2^63"
                )
            if Path in kinds and value == "":
                raise UserError(
                    f"{argument.name} is empty: it needs a folder or file"
                )


def is_whole(value: str) -> bool:
    """Whether a number is whole, of 64 bits; what is not a number passes.

    >>> is_whole("7"), is_whole("7.5"), is_whole("nan"), is_whole("seven")
    (True, False, False, True)
    """
    for kind in (int, float):
        with suppress(ValueError):
            number = kind(value)
            return abs(number) < 2**63 and number % 1 == 0
    return True


def fill_in(
    app: App, commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Give a value to what no option set: from file, then run or preset."""
    from scratchlm.cli.presets import preset
    from scratchlm.cli.runs import asked, folder_of

    def fill(settings: Mapping[str, Any], source: str) -> None:
        inside = {commands[-1]: settings}  # else "corpus" is a command's name
        Dict(inside, source=source)(app, commands, arguments)

    if path := value_of(arguments, "--config", ""):
        fill(read_file(Path(path)), path)
    run = value_of(arguments, "--from", "")
    if is_on(arguments, "--resume"):
        text = value_of(arguments, "--corpus", "toytown")
        run = value_of(arguments, "--out", "") or str(folder_of(text))
    layers = []
    if not run or find(arguments, "--preset"):
        layers.append(preset(value_of(arguments, "--preset", "small")))
    if run:
        verify = is_on(arguments, "--verify", True)
        layers.append(asked(Path(run), verify))
        if "steps" not in layers[-1] and not find(arguments, "--steps"):
            raise UserError(
                f"{run} was not trained here, so no training goes on; name "
                "a run that was"
            )
    for found in layers:
        fill({k: v for k, v in found.items() if v is not None}, BELOW)


def mention_unused(
    app: App, commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Say which options have no part in what `train` will do."""
    from scratchlm.cli.train import encoded

    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one speaks
    text = value_of(arguments, "--corpus", "toytown")
    unused: dict[str, str] = {}
    if text != "toytown":
        reason = "the text of --corpus is taken as it is"
        unused |= dict.fromkeys(("--characters", "--corpus-seed"), reason)
    if encoded(text):
        unused["--vocab-size"] = f"{text} brings its tokenizer"
    elif (kind := value_of(arguments, "--tokenizer", "bpe")) != "bpe":
        unused["--vocab-size"] = f"--tokenizer {kind} has a size of its own"
    if value_of(arguments, "--position", "learned") == "learned":
        waves = ("--rope-base", "--rope-factor", "--rope-original")
        unused |= dict.fromkeys(waves, "learned positions have no waves")
    for name, reason in unused.items():
        argument = find(arguments, name)
        if argument and argument.tokens[-1].source != BELOW:
            print(f"unused   {name}: {reason}")
