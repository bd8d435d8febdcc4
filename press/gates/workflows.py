"""A gate on the workflows that test, build and publish the book by themselves.

Whether GitHub understands them, actionlint judges. This gate asks what it
cannot know: whether the commands are ours. A target that was renamed, or a
module that was moved, would be noticed by nobody before the next release.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from press.gates.book import Book
from press.pages import papers
from press.roadmap import TRACKS

FOLDER = ".github/workflows"
ACTION = re.compile(r"[\w-]+(?:/[\w.-]+)+@v\d+(?:\.\d+){0,2}")
MAKE = re.compile(r"\bmake\b((?: +[\w=./-]+)+)")
MODULE = re.compile(r"python3? -m ([\w.]+)([^\n]*)")
SECRET = re.compile(r"token|secret|passw|credential|_key\b", re.I)
RIGHTS = {"read", "write", "none"}


def workflows(book: Book) -> list[str]:
    """Workflows call commands that exist, by actions of a fixed version."""
    problems = []
    for name in book.files(FOLDER, suffix=".yml"):
        try:
            found = yaml.safe_load(book.read(name))
        except yaml.YAMLError as error:
            problems.append(f"{name}: {' '.join(str(error).split())}")
            continue
        if not isinstance(found, dict) or "jobs" not in found:
            problems.append(f"{name}: no jobs")
            continue
        if "permissions" not in found:
            problems.append(f"{name}: has all permissions: name those it needs")
        for key, value in settings(found):
            problems += [f"{name}: {x}" for x in wrong(book, key, value)]
    return problems


def settings(part: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every setting of a workflow that is no list and no mapping."""
    if isinstance(part, dict):
        for name, value in part.items():
            yield from settings(value, str(name))
    elif isinstance(part, list):
        for value in part:
            yield from settings(value, key)
    else:
        yield key, str(part)


def wrong(book: Book, key: str, value: str) -> Iterator[str]:
    """What is wrong with one setting."""
    if key == "uses" and not ACTION.fullmatch(value):
        yield f"{value} has no fixed version: write owner/name@v1"
    elif key == "run":
        yield from no_targets(book, value)
        yield from no_modules(book, value)
    elif SECRET.search(key) and "${{" not in value and value not in RIGHTS:
        yield f"{key} stands there in plain words: use a secret of GitHub"


def no_targets(book: Book, script: str) -> Iterator[str]:
    """What a script asks Make for that the Makefile does not have."""
    makefile = book.read("Makefile")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.M))
    settable = set(re.findall(r"^(\w+) \?=", makefile, re.M))
    settable |= set(re.findall(r"\$\((\w+)\)", makefile)) | {"TORCH"}
    for words in MAKE.findall(script):
        for word in words.split():
            name, equals, value = word.partition("=")
            if not equals and word not in targets:
                yield f"make {word}: the Makefile has no such target"
            elif equals and name not in settable:
                yield f"make {word}: the Makefile has no {name}"
            elif name == "PAPER" and value not in papers():
                yield f"make {word}: there is no such paper"
            elif name == "TRACK" and value not in TRACKS:
                yield f"make {word}: there is no such track"


def no_modules(book: Book, script: str) -> Iterator[str]:
    """What a script asks Python for that this repository does not have."""
    whole = script.replace("\\\n", " ")
    for module, rest in MODULE.findall(whole):
        path = module.replace(".", "/")
        places = [f"{path}.py", f"{path}/__main__.py", f"src/{path}.py"]
        places.append(f"src/{path}/__main__.py")
        file = next((place for place in places if book.exists(place)), None)
        if file is None:
            yield f"python -m {module}: there is no such module"
            continue
        for option in re.findall(r"(?<=\s)--[\w-]+", rest):
            if f'"{option}"' not in book.read(file):
                yield f"python -m {module}: {file} has no {option}"
