"""Files are whole or not there, and what changed after sealing is named."""

import errno
import fcntl
import hashlib
import json
import os
import resource
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from scratchlm.text import files
from scratchlm.text.files import (
    FileError,
    append_text,
    damage,
    entry,
    file_sha256,
    make_folder,
    read_bytes,
    read_json,
    read_seal,
    replacing,
    verify,
    write_json,
    write_seal,
    write_text,
)


def names(folder: Path) -> list[str]:
    """What is in a folder, and in those below."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_the_new_file_takes_the_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    write_text(path, "old\n")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_bytes() == b"old\n"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a", "a/b", "a/b/x.txt"]


def write_half(path: Path) -> None:
    """Begin to write, and be interrupted."""
    with replacing(path) as partial:
        partial.write_text("ha")
        raise KeyboardInterrupt


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old\n")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text() == "old\n"
    assert names(tmp_path) == ["x.txt"]


def test_what_a_crash_left_is_written_over_not_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    path = tmp_path / "x.txt"
    path.with_name("x.txt.partial").symlink_to(elsewhere)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert not path.is_symlink()
    assert elsewhere.read_text() == "precious"


def test_lines_end_alike_everywhere(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "linesep", "\r\n")
    write_text(tmp_path / "x", "één\ntwo\n")
    assert (tmp_path / "x").read_bytes() == "één\ntwo\n".encode()


def test_files_may_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "x")
    (tmp_path / "y").write_text("y")
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in "xy"]
    assert modes[0] == modes[1]


def test_contents_before_the_name_and_the_name_before_we_return(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """The order of calls: sync the file, rename, sync the folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        kind = os.fstat(descriptor).st_mode
        calls.append("folder" if stat.S_ISDIR(kind) else "file")
        fsync(descriptor)

    def note_replace(a: Any, b: Any) -> None:
        calls.append("rename")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text(tmp_path / "x", "x")
    assert calls == ["file", "rename", "folder"]
    make_folder(tmp_path / "a" / "b")
    assert calls[3:] == ["folder", "folder"]  # of a, and of b


def test_a_mac_waits_for_the_memory_of_the_drive(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """There fsync only hands the bytes over; not every disk has the other."""
    calls: list[str] = []

    def refuse(file: Any, call: int) -> None:
        calls.append(f"full {call}")
        raise OSError(errno.ENOTSUP, "no such call")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "replace", lambda *_: calls.append("rename"))
    write_text(tmp_path / "x", "x")
    assert calls == ["full 51", "rename"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_disk_without_that_call_is_written_to(
    tmp_path: Path, monkeypatch: Any, number: int
) -> None:
    """Some that are reached by a network cannot sync a list of names."""
    fsync = os.fsync

    def no_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "no such call")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    write_text(tmp_path / "a" / "x", "new")
    assert (tmp_path / "a" / "x").read_text() == "new"
    number = errno.EIO
    said = "x is written, but may not outlast a power cut"
    with pytest.raises(FileError, match=said):
        write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"


def test_a_folder_that_may_not_be_listed_is_written_to(
    tmp_path: Path, monkeypatch: Any
) -> None:
    opening = os.open

    def no_folders(path: Any, flags: int, *mode: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opening(path, flags, *mode)

    monkeypatch.setattr(os, "open", no_folders)
    write_text(tmp_path / "a" / "x", "new")
    assert (tmp_path / "a" / "x").read_text() == "new"


@pytest.mark.parametrize("size", [0, 1, 5000, 9999])
def test_a_full_disk_is_one_sentence(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(FileError, match=r"x\.txt could not be written"):
            write_text(path, "a" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old\n"
    assert names(tmp_path) == ["x.txt"]


def test_a_line_at_the_end(tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        append_text(tmp_path / "log", text)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    with pytest.raises(FileError, match="none/log could not be written"):
        append_text(tmp_path / "none" / "log", "x")


def test_a_line_that_finds_no_room_leaves_no_half(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append_text(log, "one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(FileError, match="before is as it was"):
            append_text(log, "two " * 50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.read_text() == "one\n"


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    write_text(tmp_path / "key", "old")
    (tmp_path / "key").chmod(0o600)
    write_text(tmp_path / "key", "new")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_folder_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="x could not be written"):
        write_text(tmp_path / "file" / "x", "x")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    errors = [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError("a request failed"),
        FileNotFoundError(errno.ENOENT, "no such file", "another/file"),
    ]
    errors += [
        FileNotFoundError(errno.ENOENT, "no such file", str(tmp_path / "x")),
        OSError(errno.EIO, "input/output error", "another/file"),
    ]
    for error in errors:
        with pytest.raises(type(error)) as seen, replacing(tmp_path / "xy"):
            raise error
        assert seen.value is error
    assert names(tmp_path) == []


def test_errors_of_the_file_and_of_folders_above_are_told(
    tmp_path: Path,
) -> None:
    partial = tmp_path / "xy.partial"
    for place in (str(partial), partial, str(tmp_path), tmp_path.parent):
        for number in (errno.EIO, errno.EACCES):
            with (
                pytest.raises(FileError, match="xy could not be written"),
                replacing(tmp_path / "xy"),
            ):
                raise OSError(number, "it refuses", place)


def test_json_there_and_back(tmp_path: Path) -> None:
    value = {"a": [1, 0.1 + 0.2, None, "é\u2028"]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "damaged"),
        (b'{"a": ', "damaged"),
        (b'{"a": "\xff"}', "damaged"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_damaged_json_is_named(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=rf"x\.json.*{why}"):
        read_json(path)


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing is not there"):
        read_bytes(tmp_path / "nothing")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path)
    (tmp_path / "x").write_bytes(b"abc")
    assert [read_bytes(tmp_path / "x", n) for n in (2, 9)] == [b"ab", b"abc"]
    assert read_bytes(tmp_path / "x") == b"abc"


@pytest.mark.parametrize("size", [None, 0, 1, 2999, 3000, 9000])
def test_sha256(tmp_path: Path, monkeypatch: Any, size: int | None) -> None:
    monkeypatch.setattr(files, "CHUNK", 1000)
    data = os.urandom(3000)
    (tmp_path / "x").write_bytes(data)
    wanted = hashlib.sha256(data[:size]).hexdigest()
    assert file_sha256(tmp_path / "x", size) == wanted


def sealed(folder: Path) -> Path:
    """A folder of three files, sealed."""
    for name in ("a", "b", "c/d"):
        write_text(folder / name, f"this is {name}\n" * 9)
    write_seal(folder, {n: entry(folder / n) for n in ("a", "b", "c/d")})
    return folder


def test_untouched_files_pass(tmp_path: Path) -> None:
    verify(sealed(tmp_path))
    verify(tmp_path)
    verify(tmp_path, ["a", "c/d"])
    assert sorted(read_seal(tmp_path)) == ["a", "b", "c/d"]


def test_only_what_grows_may_grow(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for grows in (True, False):
        write_text(path, "one\n")
        write_seal(tmp_path, {"log": entry(path, grows)})
        append_text(path, "two\n")
        if grows:
            verify(tmp_path)
        else:
            with pytest.raises(FileError, match="log is not what seal"):
                verify(tmp_path)
    write_seal(tmp_path, {"log": entry(path, grows=True)})
    path.write_text("One\ntwo\nthree\n")
    with pytest.raises(FileError, match="log is not what seal"):
        verify(tmp_path)


@pytest.mark.parametrize("name", ["a", "b", "c/d"])
def test_each_kind_of_damage_is_named(tmp_path: Path, name: str) -> None:
    path = sealed(tmp_path) / name
    data = path.read_bytes()
    others = [other for other in ("a", "b", "c/d") if other != name]
    for at in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(FileError, match=f"{name} is not what seal"):
            verify(tmp_path)
        verify(tmp_path, others)
    for size in (0, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(FileError, match=f"{name} has {size} bytes, not"):
            verify(tmp_path)
    path.unlink()
    with pytest.raises(FileError, match=f"{name} is not there"):
        verify(tmp_path)
    path.mkdir()
    assert damage(path, {"size": 0, "sha256": ""}) is not None


def test_all_damage_is_named_at_once(tmp_path: Path) -> None:
    sealed(tmp_path)
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("")
    with pytest.raises(FileError, match=r"a is not there, .*; .*b has 0 bytes"):
        verify(tmp_path)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"seal\.json does not know e"):
        verify(sealed(tmp_path), ["e"])


def test_every_flipped_bit_of_a_seal_is_seen(tmp_path: Path) -> None:
    path = sealed(tmp_path) / "seal.json"
    data, before = path.read_bytes(), read_seal(tmp_path)
    for at in range(0, len(data), 2):
        for bit in (1, 4, 32):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            path.write_bytes(changed)
            try:
                assert read_seal(tmp_path) == before  # only a space changed
            except FileError as error:
                assert "seal.json" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "content", ["{}", "[]", "3", '{"files": 3, "sha256": ""}', "null"]
)
def test_what_is_no_seal_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "seal.json").write_text(content)
    with pytest.raises(FileError, match=r"seal\.json is damaged"):
        read_seal(tmp_path)


@pytest.mark.parametrize(
    "name", ["../a", "best/../../a", "..", "/etc/passwd", "a\\b", "c:a"]
)
def test_a_seal_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    """A run may be from a stranger, and its files are copied and removed."""
    files.write_seal(tmp_path, {name: {"size": 0, "sha256": ""}})
    with pytest.raises(FileError, match=r"seal\.json is damaged"):
        read_seal(tmp_path)
    files.write_seal(tmp_path, {"a..b/..c": {"size": 0, "sha256": ""}})
    assert list(read_seal(tmp_path)) == ["a..b/..c"]


@pytest.mark.parametrize(
    "entry",
    [3, {}, {"size": 3}, {"size": "3", "sha256": ""}, {"size": 3, "sha256": 4}],
)
def test_a_seal_of_another_form_is_refused(
    tmp_path: Path, entry: object
) -> None:
    """Even if it agrees with itself."""
    data = {"files": {"a": entry}}
    data["sha256"] = files.digest(data["files"])  # type: ignore
    (tmp_path / "seal.json").write_text(json.dumps(data))
    with pytest.raises(FileError, match=r"seal\.json is damaged"):
        read_seal(tmp_path)


def test_damage_tells_what_cannot_be_read(tmp_path: Path) -> None:
    sealed = {"size": 1, "sha256": "", "grows": True}
    found = files.damage(tmp_path, sealed)  # a folder where a file was
    assert found is not None
    assert found.startswith("cannot be read: ")
