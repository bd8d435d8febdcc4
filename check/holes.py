"""Functions that wait for their body, and how to make one wait."""

import ast
from dataclasses import dataclass
from functools import cache

Function = ast.FunctionDef | ast.AsyncFunctionDef
KEPT = {"__init__", "__post_init__"}  # what a class is made of
HOLE = "raise NotImplementedError"


@dataclass(frozen=True)
class Hole:
    """A function without a body, and where it begins."""

    name: str
    line: int


def functions(node: ast.AST, inside: str = "") -> list[tuple[str, Function]]:
    """The functions and methods of a module by name, none inside another."""
    found: list[tuple[str, Function]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            found.append((inside + child.name, child))
        elif isinstance(child, ast.ClassDef):
            found += functions(child, f"{inside}{child.name}.")
    return found


def is_refusal(node: ast.AST) -> bool:
    """Whether it raises what says that nothing is written there yet."""
    return isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(
        node
    )


def is_empty(function: Function) -> bool:
    """Whether nothing but a docstring, `...`, `pass` or a refusal is there."""
    for node in function.body:
        if isinstance(node, ast.Pass):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if is_refusal(node):
            continue
        return False
    return True


def parsed(text: str) -> list[tuple[str, Function]]:
    """The functions of a module; none of what is not Python.

    That says so itself when it is imported.
    """
    try:
        return functions(ast.parse(text))
    except (SyntaxError, ValueError):
        return []


def both(text: str, reference: str) -> list[tuple[str, Function, Function]]:
    """The functions that a module and its reference have, by name."""
    book = dict(parsed(reference))
    return [(x, made, book[x]) for x, made in parsed(text) if x in book]


def waits(made: Function, book: Function) -> bool:
    """Whether a function is empty, and the reference's is not."""
    return is_empty(made) and not is_empty(book)


def holes(text: str, reference: str) -> list[Hole]:
    """Functions that are empty here and not in the reference.

    >>> holes("def f():\\n    ...\\n", "def f():\\n    return 1\\n")
    [Hole(name='f', line=1)]
    """
    return [
        Hole(name, made.lineno)
        for name, made, book in both(text, reference)
        if waits(made, book)
    ]


def refuses(function: Function) -> bool:
    """Whether it still says somewhere that it is not written."""
    return any(map(is_refusal, ast.walk(function)))


@cache  # a program asks for each module several times as it starts
def unwritten(text: str, reference: str) -> tuple[str, ...]:
    """Functions that are empty, or begun and not ended; the reference's not.

    >>> unwritten(
    ...     "def f(x):\\n    x += 1\\n    raise NotImplementedError\\n",
    ...     "def f(x):\\n    return x + 1\\n",
    ... )
    ('f',)
    """
    if text == reference:
        return ()
    found = both(text, reference)
    empty = [name for name, made, book in found if waits(made, book)]
    begun = [
        name
        for name, made, book in found
        if name not in empty and refuses(made) and not refuses(book)
    ]
    return (*empty, *begun)


def stub(text: str) -> str:
    """The module with the bodies of its functions taken out.

    Signatures and docstrings stay, and so does what makes a class.

    >>> print(stub('def f():\\n    "Say one."\\n    return 1\\n'), end="")
    def f():
        "Say one."
        raise NotImplementedError
    """
    lines = text.splitlines()
    for name, function in reversed(functions(ast.parse(text))):
        if is_empty(function) or name.rpartition(".")[2] in KEPT:
            continue
        body = function.body
        first, start = body[0], body[0].lineno
        if ast.get_docstring(function) is not None:
            start = (first.end_lineno or start) + 1
        indent = " " * first.col_offset
        if start <= function.lineno:  # all on one line
            continue
        end = body[-1].end_lineno or start
        lines[start - 1 : end] = [indent + HOLE]
    return "\n".join(lines) + "\n"
