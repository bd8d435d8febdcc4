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
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

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
PICKLES |= {"shelve", "joblib"}
CODE = ("src", "press", "scaffold", "solutions", "records", "benchmarks")
PLUGINS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
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
    "tests",
    ".ci",
)
TEXT = {".py", ".md", ".yml", ".yaml", ".json", ".toml", ".cfg", ".txt"}
TEXT |= {".js", ".css", ".html", ".sty", ".sh", ".in", ".env", ".bib", ""}
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
    """Nothing is pickled or unpickled, and no YAML makes objects."""
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
    for name, call in called(tree):
        owner = ast.unparse(call.func).rpartition(".")[0]
        given = {k.arg: ast.unparse(k.value) for k in call.keywords}
        loader = given.get("Loader") or "".join(map(ast.unparse, call.args[1:]))
        what = f"{owner}.{name}"
        if what == "torch.save" or (
            what == "torch.load" and given.get("weights_only") != "True"
        ):
            yield call.lineno, f"{what} pickles"
        elif given.get("allow_pickle", "False") != "False":
            yield call.lineno, f"{what} with allow_pickle"
        elif name in ("unsafe_load", "full_load", "unsafe_load_all") or (
            what == "yaml.load" and "SafeLoader" not in loader
        ):
            yield call.lineno, f"{what} makes objects"


def silenced(book: Book) -> list[str]:
    """No comment silences a scanner; exceptions are in pyproject.toml."""
    problems = []
    for name in book.files(*CODE, "tests"):
        text = book.read(name)
        if "noqa" not in text.lower() and "allowlist" not in text:
            continue
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            words = token.string.lower()
            if token.type != tokenize.COMMENT:
                continue
            codes = words.partition("noqa")[2].strip(" :").upper()
            bare = "noqa" in words and not codes
            rule = codes[:1] == "S" and codes[1:2].isdigit()
            if bare or rule or "allowlist secret" in words:
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
    kept = {n for n in names if Path(n).suffix in TEXT and n != PLANTS}
    return sorted(kept - {".git"})


def secrets(book: Book) -> list[str]:
    """No key, token or password stands in a file."""
    settings = {"plugins_used": [{"name": name} for name in PLUGINS]}
    problems = []
    with transient_settings(settings):
        patterns = [re.compile("|".join(DENYLIST), re.IGNORECASE)]
        for plugin in get_plugins():
            patterns += getattr(plugin, "denylist", [])
        for name in searched(book):
            text = book.read(name)
            if not any(pattern.search(text) for pattern in patterns):
                continue  # which the slow way, line by line, would say too
            for found in scan_file(str(book.root / name)):
                problems.append(f"{name}:{found.line_number}: {found.type}")
    return problems
