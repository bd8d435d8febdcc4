"""Where settings come from: options, a file, the run itself, a preset.

An option wins over the file that `--config` names. Under both lies, for a
new run, the preset; for a run that is gone on with, what that run was asked
for. So a setting is written once, in its dataclass, and whatever nobody says
has a value that somebody chose.

Help for a field is the comment beside it, so that a class fits on a page.
"""

import inspect
import io
import tokenize
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.argument import Argument, ArgumentCollection
from cyclopts.config import Dict, Json, Toml, Yaml

from scratchlm.cli.errors import UserError

FILES: dict[str, Any] = {
    ".toml": Toml,
    ".yaml": Yaml,
    ".yml": Yaml,
    ".json": Json,
}
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
    """Give fields their help: the comment, and the default in brackets."""
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
    """A value as one types it.

    >>> as_typed(0.003), as_typed((0, 10))
    ('0.003', '0 10')
    """
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def find(arguments: ArgumentCollection, name: str) -> Argument | None:
    """The argument of this name, if somebody gave it a value."""
    for argument in arguments:
        if name in argument.names and argument.tokens:
            return argument
    return None


def value_of(arguments: ArgumentCollection, name: str, default: str) -> str:
    """What was given for an option, as text."""
    argument = find(arguments, name)
    return argument.tokens[0].value if argument else default


def read_file(path: Path) -> Any:
    """The settings of a file, ready to fill in."""
    if path.suffix not in FILES:
        raise UserError(
            f"{path}: settings are read from {', '.join(FILES)}; "
            "rename the file, or write one of these"
        )
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of settings")
    found = FILES[path.suffix](
        path, use_commands_as_keys=False, source=str(path)
    )
    try:
        assert isinstance(found.config, dict)
    except (CycloptsError, AssertionError) as error:
        raise UserError(f"{path} holds no settings: {error}") from error
    return found


def fill_in(
    app: App, commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Give values to what no option gave one: file, then run or preset."""
    from scratchlm.cli.presets import preset
    from scratchlm.cli.runs import asked

    if path := value_of(arguments, "--config", ""):
        read_file(Path(path))(app, commands, arguments)
    run = value_of(arguments, "--from", "")
    if find(arguments, "--resume"):
        run = value_of(arguments, "--out", "")
    if run:
        given = [t.keyword for a in arguments for t in a.tokens]
        settings = asked(Path(run), "--no-verify" not in given)
    else:
        settings = preset(value_of(arguments, "--preset", "small"))
    under = {k: v for k, v in settings.items() if v is not None}
    Dict(under, use_commands_as_keys=False, source="the preset")(
        app, commands, arguments
    )
