"""A run may end before any of its calls to the disk, again and again.

Nothing is killed here. While a run trains, a picture of its folder is taken
before each call that changes the disk: what a killed process would leave
(all that was written), and what a power cut would leave (only what was
synced). From each picture the run is taken up, and must end with the same
bytes as one that nobody disturbed; and while it is taken up, new pictures
are taken, so that misfortunes may come in any number.
"""

import errno
import hashlib
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text import files
from scratchlm.text.files import FileError, write_text
from scratchlm.text.tokens import BatchCursor, write_tokens
from scratchlm.training.checkpoint import has_run
from scratchlm.training.trainer import TrainConfig, Trainer

VOCAB, CONTEXT = 11, 4
TOKENS = np.random.default_rng(0).integers(VOCAB, size=90)
HELD_OUT = TOKENS[:21]
Picture = dict[str, bytes | None]  # None: a folder


def program(run: Path, steps: int, optimizer: str = "adamw") -> None:
    """What a user types, and types again after a crash."""
    cursor = BatchCursor(TOKENS, CONTEXT, 2, seed=5)
    if has_run(run):
        Trainer.resume(run, cursor, HELD_OUT).fit()
        return
    write_text(run / "tokenizer.json", "{}\n")
    write_tokens(run / "train.tokens", TOKENS, VOCAB, "ab" * 32)
    torch.manual_seed(3)
    model = GPT(
        gpt2_config(
            vocab_size=VOCAB,
            context=CONTEXT,
            layers=1,
            heads=1,
            channels=4,
            dropout=0.3,
        )
    )
    config = TrainConfig(
        steps=steps,
        warmup=1,
        schedule="stable",
        evaluate_every=1,
        checkpoint_every=2,
        snapshots=(0, 1, steps),
        optimizer=optimizer,
    )
    Trainer(model, cursor, HELD_OUT, config, run).fit()


class Disk:
    """Watches one folder; says before each change what a crash leaves."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.synced: dict[str, int] = {}  # bytes that a power cut spares
        self.pictures: list[Picture] = []
        self.calls = 0
        self.fails_at: int | None = None  # the number of a call
        sys.addaudithook(self.hear)  # for good: there is no way to remove it

    def inside(self, path: Any) -> str | None:
        """The path within the folder that is watched."""
        if self.folder is None or not isinstance(path, str | Path):
            return None
        try:
            return Path(path).relative_to(self.folder).as_posix()
        except ValueError:
            return None

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Called by Python before whatever it does."""
        if self.folder is None or not event.startswith(("open", "os.")):
            return
        name = self.inside(args[0]) if args else None
        if name is None:
            return
        if event == "open":
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            if not args[2] & writes:
                return
        elif event not in CALLS:
            return
        self.count(name)
        if event == "open" and args[2] & os.O_TRUNC:
            self.synced[name] = 0
        if event == "os.rename" and (new := self.inside(args[1])):
            self.synced[new] = self.synced.pop(name, 0)
        if event == "os.remove":
            self.synced.pop(name, None)

    def fsync(self, descriptor: int) -> None:
        """In place of os.fsync: notes how much is safe now."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        name = self.inside(path)
        if name is not None:
            self.count(name)
            if not os.path.isdir(path):
                self.synced[name] = os.fstat(descriptor).st_size

    def count(self, name: str) -> None:
        """Take a picture before a call, or let the call fail."""
        self.calls += 1
        if self.fails_at is None:
            self.picture()
        elif self.calls >= self.fails_at:
            raise OSError(errno.ENOSPC, "No space left on device", name)

    def picture(self) -> None:
        """What a kill would leave now, and what a power cut would."""
        folder, self.folder = self.folder, None  # do not watch ourselves
        assert folder is not None
        now = look(folder)
        cut = {
            name: data and data[: self.synced.get(name, 0)]
            for name, data in now.items()
        }
        self.pictures += [now, cut]
        self.folder = folder

    @contextmanager
    def watching(
        self, folder: Path, fails_at: int | None = None
    ) -> Iterator[None]:
        """Take pictures of a folder; what is in it now is on the disk.

        Or let its calls fail, from one on.
        """
        self.fails_at = fails_at
        self.synced = {n: len(d) for n, d in look(folder).items() if d}
        self.pictures, self.calls = [], 0
        self.folder = folder
        try:
            yield
        finally:
            self.folder = None


CALLS = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
}


def look(folder: Path) -> Picture:
    """All that is in a folder."""
    found: Picture = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = None if path.is_dir() else path.read_bytes()
    return found


def restore(picture: Picture, folder: Path) -> Path:
    """A folder as it is in a picture."""
    folder.mkdir(parents=True)
    for name, data in picture.items():
        if data is None:
            (folder / name).mkdir(parents=True, exist_ok=True)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return folder


def key(picture: Picture) -> str:
    """Equal for equal pictures."""
    total = hashlib.sha256()
    for name, data in sorted(picture.items()):
        total.update(f"{name} {data is None} {len(data or b'')} ".encode())
        total.update(data or b"")
    return total.hexdigest()


def contents(picture: Picture) -> dict[str, bytes]:
    """The files of a finished run; which name a step got is all the same."""
    return {
        name.replace("-again", ""): data
        for name, data in picture.items()
        if data is not None and name != "seal.json"
    }


@pytest.fixture(scope="module")
def disk() -> Disk:
    return Disk()


@pytest.fixture(autouse=True)
def still(monkeypatch: Any, disk: Disk) -> None:
    """No clock, so that equal runs are equal bytes; and no waiting."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(os, "fsync", disk.fsync)


def walk(
    disk: Disk,
    tmp_path: Path,
    steps: int,
    crashes: int,
    every: int = 1,
    optimizer: str = "adamw",
) -> tuple[int, int]:
    """Crash everywhere, up to so many times in a row; count what was tried.

    Each state of the disk is tried once, however it came about, or only one
    of `every`.
    """
    calm = tmp_path / "calm"
    calm.mkdir()
    with disk.watching(calm):
        program(calm, steps, optimizer)
    wanted, calls = contents(look(calm)), disk.calls
    assert wanted, "the run wrote nothing"
    seen: dict[str, Picture] = {}
    waiting = disk.pictures
    for crash in range(crashes):
        fresh = {key(p): p for p in waiting if key(p) not in seen}
        seen |= fresh
        waiting = []
        for place, picture in enumerate(list(fresh.values())):
            if place % every:
                continue
            run = restore(picture, tmp_path / f"{crash}-{place}")
            last = crash + 1 == crashes
            with nullcontext() if last else disk.watching(run):
                program(run, steps, optimizer)
            found = contents(look(run))
            assert found.keys() == wanted.keys(), sorted(picture)
            assert found == wanted, sorted(picture)
            if not last:
                waiting += disk.pictures
    return calls, len(seen)


def test_a_run_ends_well_whatever_call_it_died_at(
    disk: Disk, tmp_path: Path
) -> None:
    calls, states = walk(disk, tmp_path, steps=2, crashes=2, every=13)
    assert calls > 100
    assert states > 50


@pytest.mark.judge
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_ends_well_after_three_crashes_anywhere(
    disk: Disk, tmp_path: Path, optimizer: str
) -> None:
    calls, states = walk(disk, tmp_path, 4, 3, optimizer=optimizer)
    print(f"{optimizer}: {calls} calls, {states} states of the disk")
    assert calls > 200
    assert states > 200


def test_the_walk_sees_what_is_not_synced(
    disk: Disk, tmp_path: Path, monkeypatch: Any
) -> None:
    """Without waiting for contents, a power cut loses a run."""
    monkeypatch.setattr(files, "sync", lambda path: None)
    with pytest.raises(FileError):
        walk(disk, tmp_path, steps=1, crashes=1)


def test_the_walk_sees_what_is_written_in_place(
    disk: Disk, tmp_path: Path, monkeypatch: Any
) -> None:
    """A seal that is written over is half a seal at some moment."""

    @contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        files.make_folder(path.parent)
        yield path
        files.sync(path)

    monkeypatch.setattr(files, "replacing", in_place)
    with pytest.raises(FileError):
        walk(disk, tmp_path, steps=1, crashes=1)


class FullFile(io.FileIO):
    """A file on a disk with so many bytes left."""

    left: ClassVar[int] = 0

    def write(self, data: Any) -> int:
        """Write what fits; raise when that is less than all."""
        view = memoryview(data).cast("B")
        fits = min(len(view), FullFile.left)
        FullFile.left -= fits
        super().write(view[:fits])
        if fits < len(view):
            raise OSError(errno.ENOSPC, "No space left on device")
        return fits


def open_on_full_disk(
    path: Any, mode: str = "r", *more: Any, **how: Any
) -> Any:
    """In place of `open`: what is written new comes out of what is left."""
    kind = mode.replace("b", "")
    if kind not in ("w", "a", "x"):
        return OPEN(path, mode, *more, **how)
    assert "b" in mode, f"{path} is opened as text: its line ends may vary"
    return io.BufferedWriter(FullFile(path, kind))


OPEN = open


def no_space(run: Path, steps: int) -> str:
    """The sentence about a full disk, or nothing if it was not noticed."""
    try:
        program(run, steps)
    except FileError as error:
        said = str(error)
    else:
        return ""
    assert "No space left on device" in said
    assert str(run) in said
    return said


def fill_at_each_byte(
    tmp_path: Path, monkeypatch: Any, steps: int, tries: int
) -> int:
    """Let the disk fill up at some bytes of all; returns how many there are."""
    calm = tmp_path / "calm"
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", open_on_full_disk)
        patch.setattr("io.open", open_on_full_disk)
        FullFile.left = 1 << 40
        program(calm, steps)
        total = (1 << 40) - FullFile.left
        for left in np.linspace(0, total - 1, tries).astype(int).tolist():
            FullFile.left = left
            assert no_space(tmp_path / str(left), steps), left
    for left in sorted(tmp_path.iterdir()):
        program(left, steps)
        found, wanted = contents(look(left)), contents(look(calm))
        assert found == wanted, left.name
    return total


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: Any) -> None:
    assert fill_at_each_byte(tmp_path, monkeypatch, 1, 9) > 10_000


@pytest.mark.judge
def test_a_disk_that_fills_up_at_any_byte(
    tmp_path: Path, monkeypatch: Any
) -> None:
    total = fill_at_each_byte(tmp_path, monkeypatch, 3, 800)
    print(f"800 of {total:,} bytes")


def refuse_each_call(
    disk: Disk, tmp_path: Path, steps: int, every: int
) -> tuple[int, int]:
    """Let calls fail; returns how many were tried, and how many noticed."""
    calm = tmp_path / "calm"
    calm.mkdir()
    with disk.watching(calm):
        program(calm, steps)
    wanted, noticed = contents(look(calm)), 0
    numbers = range(1, disk.calls + 1, every)
    for number in numbers:
        run = tmp_path / str(number)
        run.mkdir()
        with disk.watching(run, fails_at=number):
            noticed += bool(no_space(run, steps))
        program(run, steps)
        assert contents(look(run)) == wanted, number
    return len(numbers), noticed


def test_a_disk_that_refuses(disk: Disk, tmp_path: Path) -> None:
    tried, noticed = refuse_each_call(disk, tmp_path, steps=1, every=13)
    assert tried - noticed <= 1  # old files that could not be removed


@pytest.mark.judge
def test_a_disk_that_refuses_any_call(disk: Disk, tmp_path: Path) -> None:
    tried, noticed = refuse_each_call(disk, tmp_path, steps=3, every=1)
    print(f"{tried} calls refused, {noticed} noticed")
    assert noticed > 0.9 * tried
