"""What writing a file, and sealing it, must do."""

import os
import tempfile
from pathlib import Path
from typing import Any

from scratchlm.text import files

from ..expect import equal, raises, true


def folder() -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp())


def sealed() -> Path:
    """A folder of two files and their seal."""
    where = folder()
    for name in ("a.txt", "b/c.txt"):
        files.write_text(where / name, f"this is {name}\n")
    names = ("a.txt", "b/c.txt")
    files.write_seal(where, {n: files.entry(where / n) for n in names})
    return where


def check_an_interrupted_file_is_not_there() -> None:
    """The old text stays, and nothing lies beside it."""
    path = folder() / "x.txt"
    files.write_text(path, "old\n")

    def interrupted() -> None:
        with files.replacing(path) as partial:
            partial.write_text("ne")
            equal(path.read_text(), "old\n", "the file while it is written")
            raise KeyboardInterrupt

    raises(KeyboardInterrupt, interrupted, "an interruption")
    equal(path.read_text(), "old\n", "the file after an interruption")
    equal(
        [p.name for p in path.parent.iterdir()],
        ["x.txt"],
        "the names in the folder",
        hint="remove the partial file when the body raises an error",
    )


def check_contents_reach_the_disk_before_the_name() -> None:
    """fsync comes before the renaming, or a power cut leaves no bytes."""
    calls: list[str] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def note_fsync(descriptor: Any) -> None:
        calls.append("fsync")
        fsync(descriptor)

    def note_replace(source: Any, target: Any) -> None:
        calls.append("rename")
        replace(source, target)

    path = folder() / "x.txt"
    os.fsync = note_fsync  # type: ignore[assignment]
    os.replace = os.rename = note_replace  # type: ignore[assignment]
    try:
        files.write_text(path, "new\n")
    finally:
        os.fsync, os.replace, os.rename = fsync, replace, rename
    equal(calls[:2], ["fsync", "rename"], "the calls, in their order")


def check_json_is_strict() -> None:
    """No NaN goes out or comes in, and errors name the file."""
    path = folder() / "x.json"
    raises(
        ValueError,
        lambda: files.write_json(path, {"loss": float("nan")}),
        "writing NaN",
    )
    true(not path.exists(), "nothing was written")
    path.write_text('{"loss": NaN}')
    raises(files.FileError, lambda: files.read_json(path), "reading NaN")
    path.write_text('{"loss": ')
    raises(files.FileError, lambda: files.read_json(path), "half a file")
    files.write_json(path, {"loss": 0.1 + 0.2})
    equal(files.read_json(path), {"loss": 0.1 + 0.2}, "what comes back")


def check_sha256_is_that_of_everybody() -> None:
    """Of the three letters abc, from the standard; and of a beginning."""
    path = folder() / "x"
    path.write_text("abcdef")
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    equal(files.file_sha256(path, 3), wanted, "the SHA-256 of abc")
    path.write_text("abc")
    equal(files.file_sha256(path), wanted, "the SHA-256 of a file with abc")


def check_damage_is_found() -> None:
    """A bit, the end, the whole file: each is named; growing is allowed."""
    where = sealed()
    path = where / "b" / "c.txt"
    data = path.read_bytes()
    files.verify(where)
    for what, changed in (
        ("a flipped bit", bytes([data[0] ^ 1]) + data[1:]),
        ("a lost byte", data[:-1]),
        ("no bytes", b""),
    ):
        path.write_bytes(changed)
        raises(
            files.FileError,
            lambda: files.verify(where),
            f"verifying with {what}",
            hint="compare the size, then the SHA-256",
        )
        files.verify(where, ["a.txt"])
    path.write_bytes(data + b"more")
    raises(files.FileError, lambda: files.verify(where), "a file has grown")
    files.write_seal(where, {"b/c.txt": files.entry(path, grows=True)})
    path.write_bytes(data + b"more and more")
    files.verify(where)
    path.unlink()
    raises(files.FileError, lambda: files.verify(where), "a file is gone")


def check_the_seal_knows_itself() -> None:
    """A digit that changed in the seal is its own damage, not a file's."""
    where = sealed()
    path = where / "seal.json"
    text = path.read_text()
    path.write_text(text.replace("a.txt", "z.txt"))
    try:
        files.verify(where)
    except files.FileError as error:
        true(
            str(error).startswith(str(path)),
            "the error is about the seal",
            hint="a digest over the seal's own lines",
        )
    else:
        raises(files.FileError, lambda: None, "verifying with a changed seal")


BUGS = {
    "the old file is written over": (
        "    partial = path.with_name(path.name + PARTIAL)\n    try:",
        "    partial = path\n    try:",
    ),
    "the partial file stays behind": (
        "        with suppress(OSError):\n"
        "            partial.unlink(missing_ok=True)\n",
        "        pass\n",
    ),
    "the contents are not waited for": (
        "        sync(partial)\n",
        "",
    ),
    "NaN is written": (
        "allow_nan=False",
        "allow_nan=True",
    ),
    "NaN is read": (
        "json.loads(data.decode(), parse_constant=refuse)",
        "json.loads(data.decode())",
    ),
    "the whole file is hashed": (
        "file.read(min(left, CHUNK))",
        "file.read(CHUNK)",
    ),
    "only sizes are compared": (
        'grown or file_sha256(path, sealed["size"]) != sealed["sha256"]',
        "grown",
    ),
    "the seal is not held against itself": (
        "if digest(files) == wanted and ",
        "if wanted and ",
    ),
}
