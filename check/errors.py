"""What went wrong, in words: one sentence for each kind of broken code."""

import re
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from check.expect import EMPTY, CheckFailed
from check.values import anywhere

HERE = Path(__file__).parent
INSTALLED = {"site-packages", "dist-packages"}
LOST = re.compile(r"has no attribute '(\w+)'|cannot import name '(\w+)'")


class Stopped(BaseException):
    """Code did what ends a check; no `except Exception` swallows it."""


class TooLong(Stopped):
    """The code ran beyond its time."""


class TooMuch(Stopped):
    """The code wanted more memory than it may take."""


class InputAsked(Stopped):
    """The code called `input()`, and nobody sits there to answer."""


class NetworkUsed(Stopped):
    """The code wanted to talk to another machine."""


@dataclass(frozen=True)
class Told:
    """A failure, in its parts."""

    kind: str  # what is compared with known mistakes: its class
    what: str
    wanted: str = ""
    got: str = ""
    allowed: str = ""
    hint: str = ""
    file: str = ""  # of the reader's code, if the failure came from there
    line: int = 0
    message: str = ""  # Python's own words

    @property
    def text(self) -> str:
        """What and where, on the lines of a short report."""
        lines = [self.what]
        if self.wanted or self.got:
            lines += [f"  expected: {self.wanted}", f"  got:      {self.got}"]
        return "\n".join(lines)

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def spot(error: BaseException, own: tuple[Path, ...]) -> tuple[str, int]:
    """File and line of the last step in the reader's own files, or "", 0."""
    if isinstance(error, SyntaxError) and error.filename:
        if belongs(error.filename, own):
            return error.filename, error.lineno or 0
        return "", 0
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if belongs(frame.filename, own):
            return frame.filename, frame.lineno or 0
    return "", 0


def belongs(file: str, own: tuple[Path, ...]) -> bool:
    """Whether a file is one of these, or lies in one of these folders."""
    return any(Path(file).is_relative_to(place) for place in own)


def at_fault(error: BaseException, own: tuple[Path, ...]) -> bool:
    """Whether the reader's code failed, or a library that it called.

    A layer of torch that lacks a name says so itself, and so does a stand-in
    of this package for one.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if belongs(frame.filename, own):
            return True
        installed = INSTALLED & {*Path(frame.filename).parts}
        if not installed and not belongs(frame.filename, (HERE,)):
            return False
    return False


def wants_memory(error: BaseException) -> bool:
    """Whether memory has run out: Python's words for it, or torch's."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def hungry(error: BaseException, own: tuple[Path, ...]) -> str:
    """The function of the reader's in which memory ran out."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if belongs(frame.filename, own):
            return f"{frame.name}()" if frame.name[0] != "<" else frame.name
    return "the code"


def tell(error: BaseException, own: tuple[Path, ...]) -> Told:
    """A failure in words; `own` are the reader's files and folders."""
    file, line = spot(error, own)
    kind = type(error).__name__
    if wants_memory(error):
        what = f"{hungry(error, own)} wants more memory than there is"
        return Told(TooMuch.__name__, what, file=file, line=line)
    message = " ".join(anywhere(str(error)).split())[:300]
    if isinstance(error, CheckFailed):
        return Told(
            "CheckFailed",
            error.what,
            error.wanted,
            error.got,
            error.allowed,
            error.hint,
        )
    what = sentence(error, kind, message, own)
    return Told(kind, what, file=file, line=line, message=message)


def sentence(
    error: BaseException, kind: str, message: str, own: tuple[Path, ...]
) -> str:
    """One sentence that says what kind of mistake it is."""
    if isinstance(error, SyntaxError):
        shown = (error.text or "").strip()
        return f"Python cannot read this line: {shown}  ({error.msg})"
    if isinstance(error, NotImplementedError):
        return "not written yet"
    if isinstance(error, SystemExit):
        return "the code ends the program (exit); a function should return"
    if isinstance(error, InputAsked):
        return "the code asks for input(); a check has nobody who types"
    if isinstance(error, NetworkUsed):
        return f"the code uses the network ({message}); checks run without"
    if isinstance(error, TooLong):
        return f"the code does not come to an end: {message}"
    if isinstance(error, RecursionError):
        return "a function calls itself again and again, without an end"
    if isinstance(error, NameError):
        return f"a name is used that was never set: {message}"
    if isinstance(error, ImportError | AttributeError):
        return missing(error, message, own)
    if "NoneType" in message:
        return f"{EMPTY} ({kind}: {message})"
    if "shape" in message or "size of tensor" in message:
        return f"shapes that do not fit together ({kind}: {message})"
    if "dtype" in message or "scalar type" in message:
        return f"types of numbers that do not fit together ({kind}: {message})"
    if isinstance(error, TypeError) and not at_fault(error, own):
        return f"called in a way that it does not take: {message}"
    return f"{kind}: {message}"


def missing(error: BaseException, message: str, own: tuple[Path, ...]) -> str:
    """A name that is looked for and not there."""
    found = LOST.search(message)
    if "NoneType" in message:
        return f"{EMPTY} ({message})"
    if not found:
        return f"{type(error).__name__}: {message}"
    name = found[1] or found[2]
    if at_fault(error, own):
        return f"there is no {name}: {message}"
    return (
        f"the check asks for {name}, and your code has none ({message}). "
        f'With --mine, a file says what it is called: weights = {{"{name}": …}}'
    )
