"""Small mistakes, planted one at a time: what a source could say instead.

The operators are those of mutmut (https://github.com/boxed/mutmut), which
works on the concrete syntax tree of LibCST, and a few of our own for what
goes wrong in numerical code: a guard left out, a method dropped from a
chain, a gradient that is recorded after all, a finite number for infinity.

Left out is what no test should hold: the wording of errors, annotations,
docstrings, assertions for the type checker, progress bars.
"""

import ast
import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

Operator = tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]
SILENT = m.Attribute(attr=m.Name("no_grad") | m.Name("inference_mode"))


@dataclass(frozen=True)
class Mutant:
    """A module with one mistake: where, what stood there, what does now."""

    module: str
    where: str  # the function or method, the innermost
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names it, wherever its line moves to."""
        return self.module, self.where, self.before, self.after


# --- operators of our own ----------------------------------------------------


def one_less(node: cst.Integer) -> Iterator[cst.CSTNode]:
    """The next lower integer; mutmut takes the next higher one."""
    if node.evaluated_value > 0:
        yield cst.Integer(str(node.evaluated_value - 1))


def first_string(node: cst.BaseString) -> Iterator[cst.CSTNode]:
    """One other string; mutmut has three of the kind."""
    yield from list(mutators.operator_string(node))[:1]


def leave_out(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """No call for its effect, no error: `pass` instead."""
    if len(node.body) == 1 and m.matches(
        node.body[0], m.Raise() | m.Expr(value=m.Call())
    ):
        yield node.with_changes(body=[cst.Pass()])


def return_nothing(node: cst.Return) -> Iterator[cst.CSTNode]:
    """None for the value."""
    if node.value is not None and not m.matches(node.value, m.Name("None")):
        yield node.with_changes(value=cst.Name("None"))


def turn_around(node: cst.If) -> Iterator[cst.CSTNode]:
    """The other branch."""
    inner = node.test.with_changes(
        lpar=[cst.LeftParen()], rpar=[cst.RightParen()]
    )
    yield node.with_changes(test=cst.UnaryOperation(cst.Not(), inner))


def drop_method(node: cst.Call) -> Iterator[cst.CSTNode]:
    """A method left out of a chain: `x.float().mean()` as `x.mean()`."""
    if m.matches(node.func, m.Attribute(value=m.Name() | m.Call())):
        value = cast(cst.Attribute, node.func).value
        if not m.matches(value, m.Name("torch") | m.Name("F") | m.Name("nn")):
            yield value


def record_gradients(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """No `no_grad`, as a decorator or around a block."""
    if isinstance(node, cst.FunctionDef):
        kept = [
            d
            for d in node.decorators
            if not m.matches(d.decorator, m.Call(func=SILENT))
        ]
        if len(kept) < len(node.decorators):
            yield node.with_changes(decorators=kept)
    elif m.matches(node, m.With(items=[m.WithItem(m.Call(func=SILENT))])):
        body = cast(cst.With, node).body
        yield cst.If(cst.Name("True"), body)


def finite(node: cst.Attribute) -> Iterator[cst.CSTNode]:
    """A large number for infinity."""
    if m.matches(node, m.Attribute(m.Name("math"), m.Name("inf"))):
        yield cst.Float("1e4")


OPERATORS: list[Operator] = [
    *(
        (kind, operator)
        for kind, operator in mutators.mutation_operators
        if operator is not mutators.operator_string
    ),
    (cst.BaseString, first_string),
    (cst.Integer, one_less),
    (cst.SimpleStatementLine, leave_out),
    (cst.Return, return_nothing),
    (cst.If, turn_around),
    (cst.Call, drop_method),
    (cst.FunctionDef, record_gradients),
    (cst.With, record_gradients),
    (cst.Attribute, finite),
]

# What is not looked into.
PASSED_OVER = (
    m.Annotation()
    | m.Import()
    | m.ImportFrom()
    | m.Decorator()
    | m.Assert()
    | m.Raise()
    | m.Call(func=m.Name("cast") | m.Name("tqdm"))
    | m.Expr(value=m.SimpleString() | m.ConcatenatedString())
    | m.ClassDef(bases=[m.Arg(value=m.Name("Protocol"))])
)


class Finder(cst.CSTVisitor):
    """All places of a module where something else could stand."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        """None found yet."""
        super().__init__()
        self.found: list[tuple[str, int, cst.CSTNode, cst.CSTNode]] = []
        self.inside: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Note what the operators make of a node, then look inside."""
        if m.matches(node, PASSED_OVER):
            return False
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self.inside.append(node.name.value)
        where = ".".join(self.inside)
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                place = self.get_metadata(PositionProvider, node, None)
                line = place.start.line if place else 0
                for other in operator(node):
                    self.found.append((where, line, node, other))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        """Come out of a definition."""
        kinds = (cst.FunctionDef, cst.ClassDef)
        if isinstance(original_node, kinds) and self.inside:
            self.inside.pop()


class Source:
    """A module's text, and what can be planted in it."""

    def __init__(self, module: str, text: str) -> None:
        """Reads the text; makes no mutant yet, since that takes time."""
        self.module, self.text = module, text
        wrapper = MetadataWrapper(cst.parse_module(text))
        finder = Finder()
        wrapper.visit(finder)
        self.tree, self.found = wrapper.module, finder.found
        self.meaning = ast.dump(ast.parse(text))

    def __len__(self) -> int:
        """How many places there are."""
        return len(self.found)

    def mutant(self, index: int) -> Mutant | None:
        """One of them, or None for one that changes nothing or is no code."""
        where, line, node, other = self.found[index]
        source = cast(cst.Module, self.tree.deep_replace(node, other)).code
        try:
            if ast.dump(ast.parse(source)) == self.meaning:
                return None
        except SyntaxError:
            return None
        before, after = changed(self.text, source)
        return Mutant(self.module, where, line, before, after, source)


def changed(old: str, new: str) -> tuple[str, str]:
    """The lines in which two texts differ, without their indentation.

    >>> changed("a\\n  b\\nc\\n", "a\\n  d\\nc\\n")
    ('b', 'd')
    """
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), n=0, lineterm=""
    )
    body = list(lines)[2:]
    return tuple(  # type: ignore[return-value]
        " ".join(" ".join(line[1:].split()) for line in body if line[0] == sign)
        for sign in "-+"
    )
