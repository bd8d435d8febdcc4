"""Gates on tests: what claims to test does test, and each assertion can fail.

A test that asserts nothing, or only that something can be called, is no
test. Nor is an assertion behind a `return`, under `if False`, in a function
that nobody calls, or of something that is always true.
"""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from press.gates.book import Book, parse
from press.gates.chapters import called

RAISES = {"raises", "warns", "fail"}
LEAVES = {"skip", "fail", "exit", "xfail"}  # called, they end a test
SWALLOWS = {"AssertionError", "Exception", "BaseException"}
SAYS = ("assert", "check", "expect", "replay")  # what asserts by its name
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
SAME = (ast.Eq, ast.Is, ast.LtE, ast.GtE)
Function = ast.FunctionDef | ast.AsyncFunctionDef
SIZES = {"len", "abs"}
IDLE = re.compile(
    r"mark\.(skip|xfail)\b(?!.*(condition|raises))|mark\.skipif\((True|1)\b"
)


def proofs(book: Book) -> list[str]:
    """Each test asserts something that could be false, and gets there."""
    problems = []
    for name in book.files("tests"):
        for line, problem in problems_of(book.read(name)):
            problems.append(f"{name}:{line}: {problem}")
    return problems


@lru_cache(maxsize=512)
def problems_of(text: str) -> tuple[tuple[int, str], ...]:
    """What is wrong with the tests of a module."""
    tree = parse(text)
    helpers = asserting(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, Function):
            found += weak(node, helpers)
    return tuple(found + list(unreached(tree)))


def asserting(tree: ast.Module) -> set[str]:
    """Functions of a module that assert, directly or through others."""
    functions = {
        node.name: node for node in ast.walk(tree) if isinstance(node, Function)
    }
    found = {name for name, node in functions.items() if asserts(node, set())}
    while True:
        more = {n for n, f in functions.items() if asserts(f, found)}
        if more <= found:
            return found
        found |= more


def asserts(node: ast.AST, helpers: set[str]) -> bool:
    """Whether a function asserts, expects an error, or calls one that does."""
    if any(isinstance(part, ast.Assert) for part in ast.walk(node)):
        return True
    return any(
        name in RAISES | helpers or name.startswith(SAYS)
        for name, _ in called(node)
    )


def weak(node: Function, helpers: set[str]) -> Iterator[tuple[int, str]]:
    """What makes a test no test."""
    if node.name.startswith("test_"):
        fixture = any("fixture" in ast.unparse(d) for d in node.decorator_list)
        if not fixture and not asserts(node, helpers):
            yield node.lineno, f"{node.name} asserts nothing"
        found = [n for n in ast.walk(node) if isinstance(n, ast.Assert)]
        others = any(
            name in RAISES | helpers or name.startswith("assert_")
            for name, _ in called(node)
        )
        if found and not others and all(hollow(n.test) for n in found):
            yield node.lineno, f"{node.name} asserts only that it is there"
    for part in ast.walk(node):
        if isinstance(part, ast.Assert) and always(part.test):
            yield part.lineno, "an assertion that is always true"
    for mark in node.decorator_list:
        if idle(mark):
            yield node.lineno, f"{node.name} is never run: {ast.unparse(mark)}"


def idle(mark: ast.expr) -> bool:
    """Whether a test with this mark is skipped, or has no cases."""
    if isinstance(mark, ast.Call) and next(called(mark))[0] == "parametrize":
        return len(mark.args) > 1 and empty(mark.args[1])
    return bool(IDLE.search(ast.unparse(mark)))


def hollow(test: ast.expr) -> bool:
    """Whether an assertion only says that there is something."""
    if isinstance(test, ast.BoolOp):
        return all(hollow(value) for value in test.values)
    if isinstance(test, ast.Call):
        name = getattr(test.func, "attr", None) or getattr(test.func, "id", "")
        if name == "all" and test.args and isinstance(
            test.args[0], ast.GeneratorExp
        ):
            return hollow(test.args[0].elt)
        return name in ("callable", "hasattr")
    if isinstance(test, ast.Compare):
        right = test.comparators[0]
        none = isinstance(right, ast.Constant) and right.value is None
        return none and isinstance(test.ops[0], ast.IsNot)
    return isinstance(test, ast.Name | ast.Attribute)


def always(test: ast.expr) -> bool:
    """Whether a condition cannot be false."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.Tuple | ast.List | ast.Set):
        return bool(test.elts)
    if isinstance(test, ast.Lambda | ast.JoinedStr):
        return True
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return never(test.operand)
    if isinstance(test, ast.IfExp):
        ways = [(never, test.body), (always, test.orelse)]
        return all(always(part) for out, part in ways if not out(test.test))
    if isinstance(test, ast.BoolOp):
        found = [always(value) for value in test.values]
        return any(found) if isinstance(test.op, ast.Or) else all(found)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return trivial(test.left, test.ops[0], test.comparators[0])
    return False


def trivial(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> bool:
    """Whether two sides compare as they do whatever the code does."""
    plain = not any(isinstance(part, ast.Call) for part in ast.walk(left))
    if plain and ast.dump(left) == ast.dump(right):
        return isinstance(sign, SAME)
    if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
        return True
    sized = isinstance(left, ast.Call) and ast.unparse(left.func) in SIZES
    zero = isinstance(right, ast.Constant) and right.value == 0
    return sized and zero and isinstance(sign, ast.GtE)


def unreached(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Assertions that no run can reach."""
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    used |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    outer = {id(n) for n in tree.body}
    outer |= {id(n) for part in classes for n in part.body}
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield from behind(body)
        if isinstance(node, ast.If | ast.While) and never(node.test):
            yield from inside(node.body, "under a condition that is never true")
        if isinstance(node, ast.For) and empty(node.iter):
            yield from inside(node.body, "in a loop over nothing")
        if isinstance(node, ast.Try | ast.With) and swallows(node):
            yield from inside(node.body, "whose failure nobody sees")
        if isinstance(node, ast.ClassDef):
            yield from uncollected(node)
        if isinstance(node, Function) and node.name not in used:
            known = node.name.startswith(("pytest_", "__"))
            known = known or (node.name[:5] == "test_" and id(node) in outer)
            if not known and not node.decorator_list:
                yield from inside(node.body, f"in {node.name}, never called")


def behind(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Assertions after the statement that leaves their block."""
    ends = [i for i, node in enumerate(body) if leaves(node)]
    if ends:
        yield from inside(body[ends[0] + 1 :], "behind the end of its block")
    for node in body:
        if not isinstance(node, ast.With):
            continue
        raising = any(
            "raises" in ast.unparse(item.context_expr) for item in node.items
        )
        if raising:
            yield from inside(node.body[1:], "behind the call that raises")


def leaves(node: ast.stmt) -> bool:
    """Whether nothing runs behind a statement of the same block."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return next(called(node.value))[0] in LEAVES
    return isinstance(node, ENDS)


def swallows(node: ast.Try | ast.With) -> bool:
    """Whether a failing assertion in a block is caught, and forgotten."""
    if isinstance(node, ast.With):
        calls = [called(item.context_expr) for item in node.items]
        found = [call for inner in calls for call in inner]
        return any(
            name == "suppress" and SWALLOWS & set(map(ast.unparse, call.args))
            for name, call in found
        )
    for handler in node.handlers:
        kinds = handler.type
        several = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
        names = {ast.unparse(kind) for kind in several if kind}
        raised = any(isinstance(n, ast.Raise) for n in ast.walk(handler))
        seen = raised or asserts(handler, set())
        if not seen and (kinds is None or names & SWALLOWS):
            return True
    return False


def uncollected(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    """Tests in a class of which pytest makes no object."""
    names = {n.name for n in node.body if isinstance(n, Function)}
    if node.name.startswith("Test") and "__init__" not in names:
        return
    for item in node.body:
        if isinstance(item, Function) and item.name.startswith("test_"):
            yield item.lineno, f"{item.name}: pytest does not collect its class"


def inside(body: list[ast.stmt], where: str) -> Iterator[tuple[int, str]]:
    """The assertions within some statements."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assert):
                yield node.lineno, f"an assertion {where}"


def never(test: ast.expr) -> bool:
    """Whether a condition is written to be false."""
    name = isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
    return name or (isinstance(test, ast.Constant) and not test.value)


def empty(iterable: ast.expr) -> bool:
    """Whether a loop runs over a literal without elements."""
    if isinstance(iterable, ast.List | ast.Tuple | ast.Set):
        return not iterable.elts
    if isinstance(iterable, ast.Call):
        return ast.unparse(iterable) in ("range(0)", "list()", "dict()")
    return isinstance(iterable, ast.Constant) and not iterable.value
