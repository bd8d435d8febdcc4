"""Solutions: files that are whole, and digests of them."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from scratchlm.text.files import FileError, file_sha256


def duplicates(folder: Path) -> list[list[Path]]:
    """Groups of files below a folder that hold the same bytes.

    A file whose size no other has is not hashed.
    """
    by_size = defaultdict(list)
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            by_size[path.stat().st_size].append(path)
    by_digest = defaultdict(list)
    for paths in by_size.values():
        if len(paths) > 1:
            for path in paths:
                by_digest[file_sha256(path)].append(path)
    return [group for group in by_digest.values() if len(group) > 1]


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Let one program at a time into a folder.

    The file holds the number of the process. If that process is gone, it
    died without a farewell, and its lock counts no more.
    """
    path = Path(folder) / "lock"
    try:
        claim(path)
    except FileExistsError:
        owner = path.read_text().strip()
        if not owner or is_running(int(owner)):
            raise FileError(f"{folder} is in use by process {owner}") from None
        path.unlink()
        claim(path)
    try:
        yield
    finally:
        path.unlink()


def claim(path: Path) -> None:
    """Write our number into a new file; an error if the file is there.

    To look first and to write then would leave a gap for a second program;
    the mode "x" does both in one step.
    """
    with open(path, "x") as file:
        file.write(str(os.getpid()))


def is_running(process: int) -> bool:
    """Whether a process is there; signal 0 only asks (POSIX)."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def tree_sha256(path: Path, piece: int = 1 << 24) -> str:
    """The SHA-256 of the digests of a file's pieces, computed side by side.

    The size of the pieces belongs to what is hashed. Without it two sizes
    would agree on files of one piece, and disagree on all larger ones.
    """

    def digest(start: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(piece)).digest()

    with ThreadPoolExecutor() as pool:
        digests = pool.map(digest, range(0, path.stat().st_size, piece))
    return hashlib.sha256(b"%d:" % piece + b"".join(digests)).hexdigest()
