"""The solutions about files."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scratchlm.text.files import FileError
from solutions.text import files
from solutions.text.files import duplicates, is_running, lock, tree_sha256


def test_duplicates(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in (
        ("a", "one"),
        ("b", "two"),
        ("sub/c", "one"),
        ("long", "three"),
    ):
        (tmp_path / name).write_text(text)
    hashed = []
    original = files.file_sha256
    monkeypatch.setattr(
        files, "file_sha256", lambda p: hashed.append(p.name) or original(p)
    )
    assert duplicates(tmp_path) == [[tmp_path / "a", tmp_path / "sub" / "c"]]
    assert sorted(hashed) == ["a", "b", "c"]


def test_one_program_at_a_time(tmp_path: Path) -> None:
    with lock(tmp_path):
        match = f"by process {os.getpid()}"
        with pytest.raises(FileError, match=match), lock(tmp_path):
            pass
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()
    with pytest.raises(KeyError), lock(tmp_path):
        raise KeyError
    with lock(tmp_path):
        pass


def test_the_lock_of_the_dead_counts_no_more(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "lock").write_text(str(dead.pid))
    assert not is_running(dead.pid)
    with lock(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_process_of_somebody_else(monkeypatch: Any) -> None:
    def kill(process: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert is_running(1)


def test_tree(tmp_path: Path) -> None:
    path = tmp_path / "x"
    data = os.urandom(2500)
    path.write_bytes(data)
    parts = [data[:1000], data[1000:2000], data[2000:]]
    text = b"".join(hashlib.sha256(part).digest() for part in parts)
    wanted = hashlib.sha256(b"1000:" + text).hexdigest()
    assert tree_sha256(path, 1000) == wanted
    assert tree_sha256(path, 1250) != wanted
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert tree_sha256(path, 1000) != wanted
