"""Gates on what must not be in the repository: secrets, unsafe calls.

ruff's rules of the family S see the Python files (``pyproject.toml`` names
the few exceptions); here they see the cells of the pages as well, line for
line. What ruff does not know, pickle in all its clothes, is looked for by its
syntax. detect-secrets looks for keys and passwords in every file.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import yaml
from detect_secrets.core.scan import get_plugins, scan_file
from detect_secrets.plugins.keyword import DENYLIST
from detect_secrets.settings import transient_settings

from press.gates.book import Book, module_of, parse
from press.gates.chapters import called
from press.gates.trees import imported

CELL_RULES = "S,F821"
# assert is how a page proves what it says; random numbers and processes are
# watched by the sandbox in which cells run
CELL_FREE = "S101,S311,S603,S607"
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal"}
PICKLES |= {"shelve", "joblib", "jsonpickle", "copyreg"}
CODE = (
    *("src", "press", "scaffold", "solutions", "records", "benchmarks"),
    "compliance",
    "check",
)
PLUGINS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
SEARCHED = (
    "book",
    "src",
    "press",
    "scaffold",
    "solutions",
    "records",
    "benchmarks",
    "compliance",
    "check",
    "tests",
    "docs",
    ".ci",
    ".github",
)
# What detect-secrets does not know: whom a model's author has an account
# with, and where somebody's own files lie. Readers' repositories ask, too.
PRIVATE = Path(__file__).parents[2] / "compliance" / "secrets.yml"
SILENCE = "detect_secrets.filters.allowlist.is_line_allowlisted"
LISTED = re.compile(r"(allow|white)list[ -](nextline[ -])?secret")
PLANTS = "tests/press/test_gates_safety.py"  # which plants them


def cell_file(book: Book, name: str) -> str:
    """A page's cells as a module; all other lines are empty."""
    page = book.pages[name]
    lines = [""] * (len(page.text.splitlines()) + 1)
    for block in page.named("code-cell"):
        for number, line in enumerate(block.lines, block.start - 1):
            lines[number] = line
    return "\n".join(lines) + "\n"


def pickled(book: Book) -> list[str]:
    """Nothing is pickled, no YAML makes objects, `eval` is not handed on."""
    problems = []
    for name in book.files(*CODE):
        for line, why in objects_in(book.read(name), module_of(name)):
            problems.append(f"{name}:{line}: {why}")
    for name in book.pages:
        for line, why in objects_in(cell_file(book, name), "page"):
            problems.append(f"{name}:{line}: {why}")
    return problems


@lru_cache(maxsize=2048)
def objects_in(text: str, module: str) -> tuple[tuple[int, str], ...]:
    """What `makes_objects` finds in a text, if it is Python."""
    try:
        return tuple(makes_objects(parse(text), module))
    except SyntaxError:
        return ()  # which the gate `cells` reports


def makes_objects(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Where code reads or writes what rebuilds objects by running code."""
    for line, what in imported(tree, module):
        if what.split(".")[0] in PICKLES:
            yield line, f"imports {what.split('.')[0]}"
    names = aliases(tree)
    judged: set[ast.AST] = set()
    for name, call in called(tree):
        what = full_name(call.func, names)
        if what in SEEN and isinstance(call.func, ast.Name | ast.Attribute):
            judged.add(call.func)  # ruff has a rule for the call
        elif what in RISKY:
            judged.add(call.func)
            if why := RISKY[what](call):
                yield call.lineno, f"{what} {why}"
        elif name in PICKLING:
            yield call.lineno, f"{name} pickles"
        elif name in UNSAFE_YAML:
            yield call.lineno, f"{name} makes objects"
        elif named(call, "allow_pickle", "False") != "False":
            yield call.lineno, f"{name} with allow_pickle"
    for node in ast.walk(tree):
        what = full_name(node, names)
        if isinstance(node, ast.Subscript) and what in PICKLES:
            yield node.lineno, f"imports {what}"
        elif what in SEEN | RISKY.keys() and node not in judged:
            yield getattr(node, "lineno", 1), f"{what} is passed on"


def aliases(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, as ``L`` for ``torch.load``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    found[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = full
    return found


def full_name(node: ast.AST, names: dict[str, str]) -> str:
    """The full name of what an expression refers to, "" for others."""
    if isinstance(node, ast.Name):
        return names.get(node.id, ALIASES.get(node.id, node.id))
    if isinstance(node, ast.Attribute):
        owner = full_name(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    if isinstance(node, ast.Call) and full_name(node.func, names) == "getattr":
        owner = full_name(node.args[0], names) if node.args else ""
        name = node.args[1] if len(node.args) > 1 else None
        if owner and isinstance(name, ast.Constant):
            return f"{owner}.{name.value!s}".removeprefix("builtins.")
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return looked_up(ast.unparse(node.value), str(node.slice.value), names)
    return ""


def looked_up(table: str, key: str, names: dict[str, str]) -> str:
    """What a key of a module's dictionary refers to, "" for other tables."""
    if table == "sys.modules":
        return key
    if found := re.fullmatch(r"vars\((\w+)\)|(\w+)\.__dict__", table):
        owner = found[1] or found[2]
        return f"{names.get(owner, owner)}.{key}"
    return ""


def named(call: ast.Call, name: str, default: str) -> str:
    """The code of a keyword argument; of `**options`, which may hold it."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return ast.unparse(keyword.value)
        if isinstance(keyword.value, ast.Dict) and keyword.arg is None:
            keys = [ast.unparse(key) for key in keyword.value.keys if key]
            if repr(name) in keys:
                return "some option"
    return default


def pickles(call: ast.Call) -> str:
    """Why a call reads or writes a pickle."""
    return "pickles"


def unless_weights(call: ast.Call) -> str:
    """Why ``torch.load`` may run code: it reads more than weights."""
    return "" if named(call, "weights_only", "") == "True" else "pickles"


def unless_told(call: ast.Call) -> str:
    """Why ``numpy.load`` may run code: its third argument says so."""
    told = ast.unparse(call.args[2]) if len(call.args) > 2 else "False"
    told = named(call, "allow_pickle", told)
    unpacked = [word.value for word in call.keywords if word.arg is None]
    if not all(isinstance(options, ast.Dict) for options in unpacked):
        told = "options from elsewhere"
    return "" if told == "False" else "with allow_pickle"


def unless_safe(call: ast.Call) -> str:
    """Why YAML may make objects: its loader is none of the safe ones."""
    loader = "".join(map(ast.unparse, call.args[1:]))
    loader = named(call, "Loader", loader).rpartition(".")[2]
    return "" if loader in ("SafeLoader", "CSafeLoader") else "makes objects"


ALIASES = {"np": "numpy"}  # where a cell leaves the import to another
RISKY: dict[str, Callable[[ast.Call], str]] = {
    "torch.load": unless_weights,
    "torch.serialization.load": unless_weights,
    "torch.save": pickles,
    "torch.serialization.save": pickles,
    "torch.jit.load": pickles,
    "torch.hub.load": pickles,
    "numpy.load": unless_told,
    "yaml.load": unless_safe,
    "yaml.load_all": unless_safe,
}
PICKLING = {"read_pickle", "to_pickle"}
UNSAFE_YAML = {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
SEEN = {"eval", "exec", "os.system", "os.popen"}
SEEN |= {"subprocess.getoutput", "subprocess.getstatusoutput"}


def silenced(book: Book) -> list[str]:
    """No comment silences a scanner; exceptions are in pyproject.toml."""
    problems = []
    for name in book.files(*CODE, "tests"):
        text = book.read(name)
        if not re.search("noqa|allowlist|whitelist", text.lower()):
            continue
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            words = token.string.lower()
            if token.type != tokenize.COMMENT:
                continue
            codes = re.findall(r"[a-z]+\d+", words.partition("noqa")[2])
            bare = "noqa" in words and not codes
            rule = any(re.fullmatch(r"s\d+", code) for code in codes)
            if bare or rule or LISTED.search(words):
                problems.append(f"{name}:{token.start[0]}: {token.string}")
    return problems


def unsafe(book: Book) -> list[str]:
    """No cell runs text, unpickles, opens a shell, or hides a secret."""
    with tempfile.TemporaryDirectory() as folder:
        for name in book.pages:
            path = Path(folder, name).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(cell_file(book, name), encoding="utf-8")
        command = [sys.executable, "-m", "ruff", "check", "--isolated"]
        command += ["--select", CELL_RULES, "--ignore", CELL_FREE]
        command += ["--ignore-noqa"]
        command += ["--output-format", "json", "--exit-zero", folder]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True
        )
        root = Path(folder).resolve()
        return [
            f"{Path(item['filename']).relative_to(root).with_suffix('.md')}:"
            f"{item['location']['row']}: {item['code']} {item['message']}"
            for item in json.loads(done.stdout)
        ]


def searched(book: Book) -> list[str]:
    """The files in which somebody could leave a secret."""
    names = book.files(*SEARCHED, suffix="")
    names += [path.name for path in book.root.iterdir() if path.is_file()]
    return sorted({*names} - {".git", PLANTS})


@lru_cache(maxsize=1)
def private() -> dict[str, str]:
    """Kind → pattern of what names a person's accounts or folders."""
    found: dict[str, str] = yaml.safe_load(PRIVATE.read_text(encoding="utf-8"))
    return found


def secrets(book: Book) -> list[str]:
    """No key, token, password or home folder stands in a file."""
    settings = {"plugins_used": [{"name": name} for name in PLUGINS]}
    problems = []
    with transient_settings(settings) as used:
        used.disable_filters(SILENCE)
        patterns = [re.compile("|".join(DENYLIST), re.IGNORECASE)]
        for plugin in get_plugins():
            patterns += getattr(plugin, "denylist", [])
        for name in searched(book):
            try:
                text = book.read(name)
            except UnicodeDecodeError:
                continue  # a picture
            for kind, pattern in private().items():
                for match in re.finditer(pattern, text):
                    line = text.count("\n", 0, match.start()) + 1
                    problems.append(f"{name}:{line}: {kind}")
            if not any(pattern.search(text) for pattern in patterns):
                continue  # which the slow way, line by line, would say too
            for found in scan_file(str(book.root / name)):
                problems.append(f"{name}:{found.line_number}: {found.type}")
    return problems
