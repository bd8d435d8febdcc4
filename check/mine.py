"""A reader's own code, of any name, in the place of the book's.

    --mine my_model.py:MyAttention              a class for the book's class
    --mine "my_model.py:attend as scaled_dot_product_attention"
    --mine adapter.py                           names that the file sets
    --mine notebook.ipynb:MyAttention           what its cells define
    --mine MyAttention                          of a cell, in `%check`

An adapter is a file that gives the book's names to other things, and says
what the layers are called there:

    from my_model import Attn
    SingleHeadAttention = Attn
    weights = {"query": "W_q", "key": "W_k", "value": "W_v"}

`weights` leads from the book's name of a layer to yours. A layer that holds
three in one is cut by rows: `{"query": "qkv[0/3]", "key": "qkv[1/3]"}`. The
other way, `{"qkv": "W_q + W_k + W_v"}` joins three layers to the book's one.
Arguments may have other names and stand at other places (`check.calls`); where
a name cannot be guessed, `arguments = {"kv_heads": "groups"}` says it.
"""

import hashlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from check.calls import arguments, in_words
from check.cells import Cells, extracted, read_notebook

NAMED = r"(?P<name>\w+)(?:\s+as\s+(?P<book>\w+))?"
GIVEN = re.compile(rf"(?P<file>.+?\.(?:py|ipynb))(?::{NAMED})?")
IN_CELL = re.compile(NAMED)
NOT_THEIRS = {"builtins", "torch", "scratchlm"}
SLICE = re.compile(r"(?P<name>[\w.]+)\[(?P<part>\d+)/(?P<parts>\d+)\]")


class MineError(Exception):
    """What was given as one's own code cannot be used; says why."""


@dataclass(frozen=True)
class Given:
    """Something to put in the place of the book's, and where it stands."""

    typed: str
    file: Path
    name: str = ""  # without one, all that has a name of the book's
    book: str = ""  # the book's name, if that was given, too
    source: Path | None = None  # the notebook or folder, if it is from cells


@dataclass(frozen=True)
class Mine:
    """What to put in the place of the book's."""

    given: tuple[Given, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in which it stands."""
        return tuple(each.file.resolve() for each in self.given)

    @property
    def watched(self) -> set[Path]:
        """Those files, and the others beside them that they may import."""
        typed = [each.source or each.file.resolve() for each in self.given]
        beside = (p for file in typed for p in file.parent.glob("*.py"))
        return {*typed, *beside}

    @property
    def in_session(self) -> bool:
        """Whether some of it stands in the cells of a running notebook."""
        return any(e.source and e.source.is_dir() for e in self.given)

    @property
    def options(self) -> str:
        """What gives the same once more, to stand behind a command.

        >>> Mine((Given("a.py:f as g", Path("a.py"), "f", "g"),)).options
        " --mine 'a.py:f as g'"
        """
        return "".join(f" --mine {quoted(each.typed)}" for each in self.given)


def quoted(text: str) -> str:
    """The text as this machine's shell takes it for one word."""
    if os.name == "nt":
        return subprocess.list2cmdline([text])
    return shlex.quote(text)


def read_mine(
    texts: list[str], folder: Path = Path(), cells: Cells | None = None
) -> Mine:
    """From what was typed; raises MineError for what makes no sense.

    In `folder`, code from cells becomes a file; `cells` are those of the
    session in which the command was given.

    >>> read_mine(["a.py:f as attend"]).given
    Traceback (most recent call last):
    check.mine.MineError: --mine a.py: there is no such file
    """
    return Mine(tuple(read_given(t.strip(), folder, cells) for t in texts))


def read_given(text: str, folder: Path, cells: Cells | None) -> Given:
    """One of them."""
    if cells is not None and (found := IN_CELL.fullmatch(text)):
        names = found["name"], found["book"] or ""
        file = write_cells(cells, names[0], folder, "no cell that was run")
        return Given(text, file, *names, source=Path.cwd())
    found = GIVEN.fullmatch(text)
    if not found:
        raise MineError(
            f"--mine {text}: write FILE.py, FILE.py:NAME, or "
            '"FILE.py:NAME as BOOKS_NAME"; FILE.ipynb:NAME for a notebook; '
            "NAME alone is for %check inside one"
        )
    file = Path(found["file"])
    names = found["name"] or "", found["book"] or ""
    if not file.is_file():
        raise MineError(f"--mine {file}: there is no such file")
    if file.suffix == ".py":
        return Given(text, file, *names)
    if not names[0]:
        raise MineError(f"--mine {text}: of a notebook, write {text}:NAME")
    try:
        inside = read_notebook(file)
    except ImportError as error:
        raise MineError(f"{file} cannot be read without {error.name}") from None
    except Exception:  # nbformat has many for what is no notebook
        raise MineError(f"{file} is not a notebook that can be read") from None
    mark = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    apart = folder / mark  # two notebooks may use one name
    made = write_cells(inside, names[0], apart, f"no cell of {file}")
    return Given(text, made, *names, source=file.resolve())


def write_cells(cells: Cells, name: str, folder: Path, none: str) -> Path:
    """A file with the code of cells that a name needs."""
    text = extracted(cells, name)
    if text is None:
        raise MineError(f"{none} defines {name}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return file


@dataclass(frozen=True)
class Placed:
    """What stands in the place of the book's, in the check's process."""

    code: frozenset[CodeType] = frozenset()  # by which a run of it is known
    # By the book's name: the reader's, and the file and line where it stands.
    names: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files from which it comes."""
        return tuple({Path(code.co_filename) for code in self.code})


def start(thing: Any) -> tuple[str, str, int]:
    """A thing's name, and the file and line where it begins, if it has any."""
    name = getattr(thing, "__name__", type(thing).__name__)
    try:
        own = inspect.unwrap(thing)
        file, (_, line) = inspect.getfile(own), inspect.getsourcelines(own)
    except (TypeError, OSError):
        return name, "", 0
    return name, file, line


def put_in_place(mine: Mine, module: ModuleType) -> Placed:
    """Set the reader's classes and functions as the module's."""
    code: set[CodeType] = set()
    names = {}
    for each in mine.given:
        path = each.file.resolve()
        source = each.source or path
        folder = source if source.is_dir() else source.parent
        sys.path.insert(0, str(folder))
        spec = importlib.util.spec_from_file_location(f"mine_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        own = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = own
        spec.loader.exec_module(own)
        mapping = dict(getattr(own, "weights", {}))
        named = dict(getattr(own, "arguments", {}))
        found = dict(wanted(own, each, module))
        refuse_unknown(own, named, list(found.values()))
        for target, thing in found.items():
            code |= set(code_of(thing))
            names[target] = start(thing)
            thing = in_words(thing, getattr(module, target), named)
            if isinstance(thing, type) and mapping:
                thing = adapted(thing, mapping)
            setattr(module, target, thing)
    return Placed(frozenset(code), names)


def refuse_unknown(
    own: ModuleType, named: dict[str, str], things: list[Any]
) -> None:
    """Refuse names of arguments that none of the things takes."""
    known = {name for thing in things for name in arguments(thing)}
    for book, name in named.items():
        if name not in known:
            raise MineError(
                f"{own.__file__}: arguments says that {book} is {name}, and "
                "nothing there takes an argument of that name"
            )


def code_of(thing: Any) -> Iterator[CodeType]:
    """The code of a function, or of a class and those that it builds on."""
    if isinstance(thing, type):
        for each in thing.__mro__:
            if each.__module__.partition(".")[0] not in NOT_THEIRS:
                for part in vars(each).values():
                    yield from code_of(part)
        return
    for name in ("fget", "__func__"):  # a property; a static or class method
        thing = getattr(thing, name, thing)
    found = getattr(inspect.unwrap(thing), "__code__", None)
    if isinstance(found, CodeType):
        yield found


def wanted(
    own: ModuleType, given: Given, module: ModuleType
) -> Iterator[tuple[str, Any]]:
    """The book's names and what stands for each."""
    name, book = given.name, given.book
    theirs = {
        key: value
        for key, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
        and isinstance(value, type | FunctionType)
    }
    if not name:
        found = {
            key: value
            for key, value in vars(own).items()
            if key in theirs and value is not theirs[key]
        }
        if not found:
            names = ", ".join(theirs)
            raise MineError(f"{own.__file__} sets none of the names {names}")
        yield from found.items()
        return
    if not hasattr(own, name):
        raise MineError(f"{own.__file__} has no {name}")
    thing = getattr(own, name)
    if not book:
        book = name if name in theirs else guess(given, thing, theirs)
    if book not in theirs:
        names = ", ".join(theirs)
        raise MineError(f"the topic has no {book}; it has: {names}")
    yield book, thing


def guess(given: Given, thing: Any, theirs: dict[str, Any]) -> str:
    """The book's name for a class or function, where there is no doubt.

    For a class it is the last layer that the topic defines, for a function
    the only one that has to be given arguments of the same names.
    """
    layers = [
        key
        for key, value in theirs.items()
        if isinstance(value, type) and issubclass(value, nn.Module)
    ]
    if isinstance(thing, type) and layers:
        return layers[-1]
    same = [key for key, f in theirs.items() if asks(f) == asks(thing)]
    if len(same) == 1 and isinstance(thing, FunctionType):
        return same[0]
    names = ", ".join(theirs)
    raise MineError(
        f"which of the book's is {given.name}? Write "
        f'--mine "{given.typed} as NAME", with one of: {names}'
    )


def asks(thing: Any) -> list[str] | None:
    """The arguments that a function has to be given; of a class, None.

    >>> asks(lambda q, k, causal=True: 0)
    ['q', 'k']
    """
    if not isinstance(thing, FunctionType):
        return None
    parameters = inspect.signature(thing).parameters.values()
    return [p.name for p in parameters if p.default is p.empty]


class Part:
    """Some rows of a layer's weights, as if they were a layer."""

    def __init__(self, layer: nn.Module, part: int, parts: int) -> None:
        """The rows of `part` of `parts`."""
        self.layer, self.part, self.parts = layer, part, parts

    def rows(self, name: str) -> Tensor | None:
        """Those of the weights or of the biases; a view."""
        whole = getattr(self.layer, name, None)
        return None if whole is None else whole.chunk(self.parts)[self.part]

    @property
    def weight(self) -> Tensor | None:
        """The rows of the weights."""
        return self.rows("weight")

    @property
    def bias(self) -> Tensor | None:
        """The biases of these rows."""
        return self.rows("bias")

    def __call__(self, x: Tensor) -> Tensor:
        """What the layer would give for these rows."""
        assert self.weight is not None
        return F.linear(x, self.weight, self.bias)


class Rows:
    """The weights of several layers as one matrix that can be set."""

    def __init__(self, parts: list[Tensor]) -> None:
        """Of the parts, one below the other."""
        self.parts = parts

    def copy_(self, value: Tensor) -> None:
        """Set all of them."""
        sizes = [len(part) for part in self.parts]
        for part, rows in zip(self.parts, value.split(sizes), strict=True):
            part.copy_(rows)

    def zero_(self) -> None:
        """Set all of them to 0."""
        for part in self.parts:
            part.zero_()

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked, the joined matrix answers."""
        return getattr(torch.cat(self.parts), name)


class Joined:
    """Several layers as if they were one."""

    def __init__(self, layers: list[nn.Module]) -> None:
        """One below the other."""
        self.layers = layers

    def __getattr__(self, name: str) -> Any:
        """The joined weights or biases."""
        parts = [getattr(layer, name) for layer in self.layers]
        return None if parts[0] is None else Rows(parts)


def find(layer: nn.Module, way: str) -> Any:
    """The layer that a text of `weights` leads to."""
    if "+" in way:
        return Joined([find(layer, name.strip()) for name in way.split("+")])
    if cut := SLICE.fullmatch(way):
        whole = layer.get_submodule(cut["name"])
        return Part(whole, int(cut["part"]), int(cut["parts"]))
    return layer.get_submodule(way)


def adapted(theirs: type, mapping: dict[str, str]) -> type:
    """The reader's class, whose layers answer to the book's names, too."""
    back = {mine: book for book, mine in mapping.items()}

    class Adapted(theirs):  # type: ignore[misc, valid-type]
        __doc__ = theirs.__doc__

        def __getattr__(self, name: str) -> Any:
            if name in mapping:
                return find(self, mapping[name])
            return super().__getattr__(name)

        def named_parameters(self, *args: Any, **more: Any) -> Any:
            for name, value in super().named_parameters(*args, **more):
                stem, _, last = name.rpartition(".")
                yield f"{back.get(stem, stem)}.{last}".lstrip("."), value

    Adapted.__name__ = Adapted.__qualname__ = theirs.__name__
    return Adapted
