"""A hole in each module, for the reader to fill.

A hole is the body of one function, cut out of the module as the book prints
it, when a repository is made. So it cannot be older than the book. `holes.yml`
says which function that is, and the steps to it.
"""

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from check.closing import code_lines
from check.holes import Function, functions
from check.places import LIBRARY, told_in
from press.roadmap import Topic
from scaffold.plan import ScaffoldError, read_yaml

ROOT = Path(__file__).parent.parent
LONGEST = 12  # lines of code that a reader writes at a time
WIDTH = 79
PART_OF_MESSAGE = 56  # characters, some of which take more than a byte
INIT = '''\
"""The reader's own library, in which some functions are still to be written.

As long as a module has such a function, the book's module stands in for it.
When all are written, the lines below do nothing, and can go.
"""

from check.standin import stand_in

stand_in(__file__)
'''


@dataclass(frozen=True)
class Span:
    """The lines of a function's body below its docstring, from 0."""

    function: Function
    start: int
    end: int

    @property
    def indent(self) -> int:
        """How many spaces stand before each line of the body."""
        return self.function.body[0].col_offset


def chosen() -> dict[str, str]:
    """The function of each topic whose body is the reader's to write."""
    return {name: hole["function"] for name, hole in described().items()}


def described() -> dict[str, Any]:
    """What `holes.yml` says of each topic's hole."""
    return read_yaml("holes.yml")


def span(text: str, name: str) -> Span:
    """Where the body of a function stands; ScaffoldError if it does not."""
    function = dict(functions(ast.parse(text))).get(name)
    if function is None or ast.get_docstring(function) is None:
        raise ScaffoldError(
            f"holes.yml: there is no function {name} with a docstring; name "
            "one that the module has"
        )
    first, last = function.body[0], function.body[-1]
    return Span(function, first.end_lineno or 0, last.end_lineno or 0)


def body(text: str, name: str) -> list[str]:
    """The lines of a function below its docstring."""
    found = span(text, name)
    return text.splitlines()[found.start : found.end]


def fill(text: str, name: str, lines: list[str]) -> str:
    """The module with these lines for the body of a function.

    >>> fill('def f():\\n    "One."\\n    return 2\\n', "f", ["    return 1"])
    'def f():\\n    "One."\\n    return 1\\n'
    """
    found = span(text, name)
    whole = text.splitlines()
    whole[found.start : found.end] = lines
    return "\n".join(whole) + "\n"


def shapes(text: str, name: str) -> Iterator[str]:
    """What the comments in a body say of the shapes of its variables."""
    found = span(text, name)
    names = {}
    for node in ast.walk(found.function):
        if isinstance(node, ast.Assign):
            for line in range(node.lineno, (node.end_lineno or 0) + 1):
                names[line] = ast.unparse(node.targets[0]).strip("()")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line = token.start[0]
        told = token.string.lstrip("# ")
        inside = found.start < line <= found.end and line in names
        if token.type == tokenize.COMMENT and inside and told[0] == "(":
            yield f"{names[line]} {told}"


def steps(topic: str, text: str, name: str) -> list[str]:
    """The way to the function, and the shapes on it, as comments."""
    margin = " " * span(text, name).indent
    told = [
        f"{number}. {step}"
        for number, step in enumerate(described()[topic]["steps"], 1)
    ]
    if sizes := "; ".join(shapes(text, name)):
        told.append(f"Shapes in the book: {sizes}")
    lines = []
    for step in told:
        lines += textwrap.wrap(
            step,
            WIDTH - 2,
            initial_indent=f"{margin}# ",
            subsequent_indent=f"{margin}#    ",
            break_long_words=False,
        )
    return lines


def refusal(topic: Topic, name: str, indent: int) -> list[str]:
    """What is raised where the body was: topic, section and command."""
    page = (ROOT / topic.files["chapter"]).read_text(encoding="utf-8")
    title, shown = told_in(page)
    section = dict(reversed(shown)).get(name.split(".")[0], "")
    where = f"chapter '{title}'"
    where += f", section '{section}'" if section else ""
    message = (
        f"{topic.id}: {name} is yours to write; read the {where}, and check "
        f"what you wrote with: python -m check {topic.id}"
    )
    parts = textwrap.wrap(message, PART_OF_MESSAGE, break_on_hyphens=False)
    margin = " " * indent
    quoted = [f'{margin}    "{part} "' for part in parts]
    quoted[-1] = quoted[-1].removesuffix(' "') + '"'
    return [f"{margin}raise NotImplementedError(", *quoted, f"{margin})"]


def dug(topic: Topic, text: str) -> str:
    """The topic's module with its hole."""
    name = chosen()[topic.id]
    found = span(text, name)
    count = len(code_lines("\n".join(body(text, name))))
    if count > LONGEST:
        raise ScaffoldError(
            f"holes.yml: {name} of {topic.id} has {count} lines; name a "
            f"function of at most {LONGEST}"
        )
    margin = " " * found.indent
    lines = "one line" if count == 1 else f"{count} lines"
    head = f"{margin}# Yours to write; the book takes {lines}."
    hole = [head, *steps(topic.id, text, name)]
    return fill(text, name, hole + refusal(topic, name, found.indent))


def dig(folder: Path, topics: tuple[Topic, ...]) -> None:
    """Make the holes in the library of a new repository."""
    for topic in topics:
        path = folder / LIBRARY / topic.package / f"{topic.id}.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(dug(topic, text), encoding="utf-8")
    (folder / LIBRARY / "__init__.py").write_text(INIT, encoding="utf-8")
