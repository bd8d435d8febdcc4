"""Files that are whole, or not there; and seals, which tell if one changed.

A program can die at any moment, and a disk can fill up in the middle of a
line. So a file is written beside its place, put on the disk, and renamed:
a reader sees the old one or the new one. Whatever takes several files has
one more, the seal, which names each with its size and its SHA-256. Replacing
the seal is the moment from which all of them count.

Left out: locks. Two programs that write into one folder are not kept apart
here; `train` does that for its own.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"  # the ending of a file that is being written
SEAL = "seal.json"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}  # for folders, on some
CHUNK = 1 << 20  # bytes that are hashed at once


class FileError(ValueError):
    """A file cannot be read or written, or is not what was sealed."""


def sync(path: Path) -> None:
    """Wait until a file is on the disk, and not only on its way there."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
        if sys.platform == "darwin":  # there it may stay in the drive's memory
            import fcntl  # Windows has none

            with suppress(OSError):  # not every disk knows this call
                fcntl.fcntl(file, fcntl.F_FULLFSYNC)


def sync_folder(folder: Path) -> None:
    """The same for a folder's list of names; Windows has no such call."""
    if os.name == "posix":
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:  # we may write there, and not look
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk when we return."""
    if not folder.is_dir() and folder.parent != folder:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Make the error name the file when a disk is full or refuses to write."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def concerns(error: OSError, partial: Path) -> bool:
    """Whether an error is about this file, and not about another."""
    if error.filename is None:
        return error.errno in FULL  # or else it was the network
    if error.errno in FULL - {errno.EIO}:
        return True
    ours = map(str, (partial, *partial.parents))  # a folder above, too
    return str(error.filename) in ours


def cannot_write(path: Path, error: OSError) -> FileError:
    """The sentence for a disk that is full or refuses."""
    return FileError(
        f"{path} could not be written: {error.strerror}. What was there "
        "before is as it was; make room, or name another place, and run again"
    )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes `path`'s name once all is written.

    An error in between leaves nothing behind, and a file that had the name
    keeps it; otherwise the new one takes over its permissions. Raises
    FileError when the disk is full or refuses to write.
    """
    path, renamed = Path(path), False
    partial = path.with_name(path.name + PARTIAL)
    try:
        make_folder(path.parent)
        partial.unlink(missing_ok=True)  # of a crash, or a link elsewhere
        yield partial
        sync(partial)
        if path.is_file():
            shutil.copymode(path, partial)
        os.replace(partial, path)  # one step: old before, new after
        renamed = True
        sync_folder(path.parent)
    except OSError as error:
        if renamed:
            raise FileError(
                f"{path} is written, but may not outlast a power cut: "
                f"{error.strerror}"
            ) from error
        if not concerns(error, partial):
            raise
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8: all of it, or nothing.

    Lines end alike on every system, so that equal texts are equal files.
    """
    with replacing(path) as partial:
        partial.write_bytes(text.encode())


def append_text(path: Path, text: str) -> None:
    """Write text at the end of a file; a crash may leave a part of it.

    An error does not: the file is then as long as it was.
    """
    with explaining(path), open(path, "ab", buffering=0) as file:
        size, left = file.tell(), memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file: all of it, or nothing; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_bytes(path: Path, size: int = -1) -> bytes:
    """What is in a file, or its first `size` bytes; errors name the file."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise FileError(f"{path} is not there") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; errors name the file."""
    data = read_bytes(path)
    try:
        return json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: {error}") from error


def refuse(constant: str) -> None:
    """JSON has no NaN and no infinity, though Python reads them."""
    raise ValueError(f"{constant} is no JSON")


def file_sha256(path: Path, size: int | None = None) -> str:
    """The SHA-256 of a file, or of its first `size` bytes.

    Reads a megabyte at a time, so a file of any size takes little memory.
    """
    left = Path(path).stat().st_size if size is None else size
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while left > 0 and (data := file.read(min(left, CHUNK))):
            total.update(data)
            left -= len(data)
    return total.hexdigest()


Entry = dict[str, Any]  # {"size": bytes, "sha256": hexadecimal}


def entry(path: Path, grows: bool = False) -> Entry:
    """What the seal says of a file that is there, or of one that `grows`."""
    size = path.stat().st_size
    found = {"size": size, "sha256": file_sha256(path, size)}
    return {**found, "grows": True} if grows else found


def digest(files: Mapping[str, Entry]) -> str:
    """The SHA-256 of a seal's own lines."""
    text = json.dumps(files, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_seal(folder: Path, files: Mapping[str, Entry]) -> None:
    """Say which files of the folder count from now on, and what they hold.

    Names are relative to the folder, with "/" between the parts.
    """
    data = {"files": dict(sorted(files.items())), "sha256": digest(files)}
    write_json(Path(folder) / SEAL, data)


def read_seal(folder: Path) -> dict[str, Entry]:
    """The files that count, by name; FileError if the seal is damaged."""
    path = Path(folder) / SEAL
    data = read_json(path)
    try:
        files, wanted = data["files"], data["sha256"]
        kinds = {(type(e["size"]), type(e["sha256"])) for e in files.values()}
        inside = all(map(stays_inside, files))
        if digest(files) == wanted and inside and kinds <= {(int, str)}:
            return {name: dict(files[name]) for name in files}
    except (LookupError, TypeError, ValueError, AttributeError):
        pass
    raise FileError(f"{path} is damaged: it does not agree with itself")


def stays_inside(name: str) -> bool:
    r"""Whether a name in a seal is that of a file in its folder.

    >>> stays_inside("best/a.json"), stays_inside("best/../../a.json")
    (True, False)
    """
    return not re.search(r"(^|/)\.\.(/|$)|^/|[\\:]", name)


def damage(path: Path, sealed: Entry) -> str | None:
    """What is wrong with a file, in words; None if it is as sealed.

    Of a file that grows, only the bytes that were sealed are looked at.
    """
    try:
        size = path.stat().st_size
        if size < sealed["size"]:
            wanted = f"{sealed['size']:,}"
            return f"has {size:,} bytes, not the {wanted} of {SEAL}: it was cut"
        grown = size > sealed["size"] and not sealed.get("grows")
        if grown or file_sha256(path, sealed["size"]) != sealed["sha256"]:
            return f"is not what {SEAL} says: it was changed or is damaged"
    except FileNotFoundError:
        return f"is not there, though {SEAL} names it"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def verify(folder: Path, names: Iterable[str] | None = None) -> None:
    """Raise FileError unless the files are as they were sealed.

    All that the seal knows, or those of `names`; several at a time, since
    hashing leaves other threads free to hash.
    """
    sealed = read_seal(folder)
    names = sealed.keys() if names is None else list(names)
    if unknown := [name for name in names if name not in sealed]:
        raise FileError(f"{Path(folder) / SEAL} does not know {unknown[0]}")
    with ThreadPoolExecutor() as pool:
        paths = {name: Path(folder) / name for name in names}
        found = pool.map(lambda n: damage(paths[n], sealed[n]), names)
        problems = [
            f"{paths[name]} {problem}"
            for name, problem in zip(names, found, strict=True)
            if problem
        ]
    if problems:
        raise FileError("; ".join(problems))
