"""The gate on claims: what prose asserts can be wrong, and is tested."""

import ast
import builtins
from collections.abc import Iterator
from contextlib import suppress

from press.extensions.claims import split
from press.gates.book import Book, parse
from press.gates.pages import Page


def parts(page: Page) -> Iterator[tuple[int, ast.AST]]:
    """All that the page's cells consist of, with the line above the cell."""
    for block in page.named("code-cell"):
        with suppress(SyntaxError):
            for node in ast.walk(parse(block.body)):
                yield block.start - 1, node


def named(page: Page) -> set[str]:
    """The names that the page's cells define or import."""
    found: set[str] = set()
    for _, node in parts(page):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
    return found


def fault(content: str, known: set[str]) -> str:
    """What is wrong with a claim; "" if nothing."""
    try:
        words, test = split(content)
    except ValueError as error:
        return str(error)
    try:
        tree = ast.parse(test, mode="eval")
    except SyntaxError:
        return f"the test of “{words}” is no Python: {test}"
    inner = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used -= inner | set(dir(builtins))
    if unknown := sorted(used - known):
        return f"the test of “{words}” uses {unknown[0]}, which no cell makes"
    compares = any(isinstance(n, ast.Compare) for n in ast.walk(tree))
    if not used or not compares:
        return f"the test of “{words}” cannot fail: {test}"
    return ""


def claims(book: Book) -> list[str]:
    """Each claim has a test in the names of its page, and one that can fail."""
    problems = []
    for page in book.pages.values():
        roles = page.roles("claim")
        known = named(page) if roles else set()
        for role in roles:
            if why := fault(role.text, known):
                problems.append(f"{page.name}:{role.line}: {why}")
    return problems


def examples(book: Book) -> list[str]:
    """A page that shows what a head does asks if the town could say that."""
    problems = []
    for page in book.pages.values():
        calls: dict[str, int] = {}
        for above, node in parts(page):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                calls.setdefault(node.func.id, above + node.lineno)
        if "attention_maps" in calls and "begins_story" not in calls:
            line = calls["attention_maps"]
            problems.append(
                f"{page.name}:{line}: is this text from the town? "
                "Assert begins_story(…) of it (scratchlm.text.toytown)"
            )
    return problems
