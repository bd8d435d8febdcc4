"""What a command says when it cannot go on.

An error that the user can mend is one sentence and exit code 2. Any other is
a bug of ours and keeps its traceback, which is what we need to mend it.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run this again",
    errno.EDQUOT: "your quota of disk space is used up; free some of it",
    errno.EACCES: "permission denied; name a place that you may use",
    errno.EPERM: "permission denied; name a place that you may use",
    errno.EROFS: "the disk is read-only; name another place",
    errno.EEXIST: "a file has this name already; name another place",
    errno.ENOENT: "there is no such file; is the path right?",
    errno.EISDIR: "this is a folder, and a file is needed",
    errno.ENOTDIR: "this is a file, and a folder is needed",
    errno.EFBIG: "the file grows beyond what this system allows",
}


class UserError(Exception):
    """A mistake that the message tells how to mend."""


@contextmanager
def users_input() -> Iterator[None]:
    """Inside, a ValueError is about what the user gave, not about a bug.

    Put it around the narrowest call that reads the user's files or values.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def from_system(error: OSError) -> str:
    """A refusal of the operating system, as a sentence with the file in it.

    >>> from_system(PermissionError(13, "Permission denied", "runs/a"))
    'runs/a: permission denied; name a place that you may use'
    """
    if error.filename is None and error.errno is None:
        return str(error)
    advice = ADVICE.get(error.errno or 0, (error.strerror or "").lower())
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{advice}"


def missing(error: ImportError) -> str:
    """What to say about a missing package; any other error is raised.

    The command line's library reports it at second hand.
    """
    cause = error.__cause__ or error
    package = str(getattr(cause, "name", "")).partition(".")[0]
    ours = package == __name__.partition(".")[0]
    if ours or not isinstance(cause, ModuleNotFoundError):
        raise error
    return (
        f"{package} is not installed for {sys.executable}; use the Python of "
        "the environment, as in .venv/bin/python, or install what "
        "requirements.txt lists"
    )


def is_mendable(error: BaseException) -> bool:
    """Whether the message already tells the user what to do.

    These are the errors that the library raises for damaged files, for runs
    that do not fit, and for losses that are no longer numbers.
    """
    if isinstance(error, UserError):
        return True
    from scratchlm.text.exchange import ExchangeError
    from scratchlm.text.files import FileError
    from scratchlm.text.prepare import MaterialError
    from scratchlm.text.tokens import TokenFileError
    from scratchlm.training.checkpoint import CheckpointError
    from scratchlm.training.trainer import NonFiniteLoss

    files = (FileError, MaterialError, TokenFileError, CheckpointError)
    return isinstance(error, (*files, ExchangeError, NonFiniteLoss))
