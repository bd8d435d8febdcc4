"""Of all that can happen to a file of a run, nothing passes in silence.

Each file is cut, emptied, deleted, taken from another run, and has its bits
flipped. Whatever reads the run then either refuses, with the file's name, or
gives what it would have given.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scratchlm.__main__ import main
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.files import read_seal
from scratchlm.text.tokens import BatchCursor, open_tokens, write_tokens
from scratchlm.training.checkpoint import (
    check_seal,
    load_model,
    sealed_names,
)
from scratchlm.training.trainer import TrainConfig, Trainer, read_log

TEXT = "Mrs Pell keeps the bakery by the old bridge.\n" * 5
Damage = Callable[[Path, Path], None]  # the file, and another run's


def make_run(run: Path, seed: int = 0, channels: int = 8) -> Path:
    """A run of four steps, with all the files that a run has."""
    tokenizer = CharTokenizer.train(TEXT + "z" * seed)
    run.mkdir()
    tokenizer.save(run / "tokenizer.json")
    ids = tokenizer.encode(TEXT[seed:])
    size, mark = tokenizer.vocab_size, tokenizer.fingerprint
    write_tokens(run / "train.tokens", ids, size, mark)
    write_tokens(run / "validation.tokens", ids[:40], size, mark)
    torch.manual_seed(seed)
    model = GPT(
        gpt2_config(
            vocab_size=size, context=8, layers=1, heads=2, channels=channels
        )
    )
    config = TrainConfig(steps=4, warmup=1, evaluate_every=2, snapshots=(0, 3))
    data = {
        "corpus": "toytown",
        "tokenizer": "characters",
        "train_tokens": len(ids),
        "validation_tokens": 40,
        "validation_bytes": 40,
        "batch_size": 2,
        "seed": seed,
    }
    cursor = BatchCursor(np.array(ids), 8, 2, seed)
    Trainer(model, cursor, ids[:40], config, run, data=data).fit()
    return run


@pytest.fixture(autouse=True)
def still(monkeypatch: Any) -> None:
    """No clock, so that equal runs are equal bytes."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run, one of another seed, and one of another size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: 0.0)
        folder = tmp_path_factory.mktemp("runs")
        return [
            make_run(folder / "a"),
            make_run(folder / "b", seed=1),
            make_run(folder / "c", channels=16),
        ]


def digest(run: Path) -> str:
    """Of all files of a folder but snapshots, and their names."""
    total = hashlib.sha256()
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if not name.startswith("snapshots/"):
            total.update(name.encode() + path.read_bytes())
    return total.hexdigest()


def weights(model: GPT) -> str:
    """Of a model's configuration and weights."""
    total = hashlib.sha256(repr(model.config).encode())
    for parameter in model.parameters():
        total.update(parameter.detach().numpy().tobytes())
    return total.hexdigest()


def resume(run: Path) -> str:
    """Take the run up again, from its own files, as the command line does."""
    check_seal(run, ["tokenizer.json"])
    tokenizer = CharTokenizer.load(run / "tokenizer.json")
    train = open_tokens(run / "train.tokens", tokenizer.fingerprint)
    held_out = open_tokens(run / "validation.tokens", tokenizer.fingerprint)
    cursor = BatchCursor(train.tokens, 8, 2, 0)
    Trainer.resume(run, cursor, held_out.tokens).fit()
    read_log(run)
    return digest(run)


READERS: dict[str, Callable[[Path], str]] = {
    "resume": resume,
    "best": lambda run: weights(load_model(run)),
    "first snapshot": lambda run: weights(load_model(run, snapshot=0)),
    "snapshot": lambda run: weights(load_model(run, snapshot=3)),
}


def cut(share: float, less: int = 0) -> Damage:
    """Only the beginning is left."""

    def damage(path: Path, other: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share) - less])

    return damage


def flip(share: float, bit: int) -> Damage:
    """One bit is another."""

    def damage(path: Path, other: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int((len(data) - 1) * share)] ^= 1 << bit
        path.write_bytes(data)

    return damage


def delete(path: Path, other: Path) -> None:
    """The file is gone."""
    path.unlink()


def swap(path: Path, other: Path) -> None:
    """The file is another run's."""
    shutil.copyfile(other, path)


def folder(path: Path, other: Path) -> None:
    """In the file's place is a folder."""
    path.unlink()
    path.mkdir()


FEW: dict[str, Damage] = {
    "emptied": cut(0),
    "half": cut(0.5),
    "first bit": flip(0, 0),
    "a bit in the middle": flip(0.5, 3),
    "deleted": delete,
    "another run's": swap,
}
MANY: dict[str, Damage] = {
    **FEW,
    "folder": folder,
    **{f"{n} tenths": cut(n / 10) for n in range(1, 10)},
    **{f"{n} bytes less": cut(1, n) for n in (1, 2, 7, 64)},
    **{
        f"bit {bit} at {place} of 16": flip(place / 16, bit)
        for place in range(17)
        for bit in (0, 2, 5)
    },
}


def name_of(file: str) -> str:
    """What a message must contain."""
    return file.rpartition("/")[2]


def sealed_part(run: Path, file: str, data: bytes) -> bytes:
    """The bytes of a file that were sealed; of the seal, all."""
    if file == "seal.json":
        return data
    return data[: read_seal(run)[file]["size"]]


def try_all(
    original: Path, other: Path, work: Path, damages: dict[str, Damage]
) -> Iterator[tuple[str, str, Path, bool]]:
    """For each file and damage: their names, a copy, whether it matters."""
    for file in [*sealed_names(original), "seal.json"]:
        replaced = other / file
        if not replaced.exists():  # its best step may be another one
            replaced = min((other / file).parent.iterdir())
        before = (original / file).read_bytes()
        for what, damage in damages.items():
            run = work / "run"
            shutil.copytree(original, run)
            damage(run / file, replaced)
            path = run / file
            after = path.read_bytes() if path.is_file() else b""
            part = sealed_part(original, file, before)
            if file == "seal.json":  # the newline at its end says nothing
                part, after = part.rstrip(), after.rstrip()
            yield file, what, run, after[: len(part)] != part
            shutil.rmtree(run)


def test_nothing_passes_in_silence(runs: list[Path], tmp_path: Path) -> None:
    original, other, _ = runs
    right = {}
    for name, reader in READERS.items():
        copy = tmp_path / name
        shutil.copytree(original, copy)
        right[name] = reader(copy)
    cases = 0
    for file, what, run, matters in try_all(original, other, tmp_path, FEW):
        cases, refused = cases + 1, False
        for name, reader in READERS.items():
            kept, error = digest(run), None
            try:
                assert reader(run) == right[name], (file, what, name)
            except ValueError as caught:
                error = caught
            if error is not None:
                assert name_of(file) in str(error), (file, what, name)
                assert digest(run) == kept  # a refusal changes nothing
                refused = True
        assert refused or not matters, (file, what)
    assert cases == 6 * 12


@pytest.mark.judge
@pytest.mark.parametrize("which", [1, 2])
def test_nothing_passes_in_silence_on_the_command_line(
    runs: list[Path], tmp_path: Path, capsys: Any, which: int
) -> None:
    run = str(tmp_path / "run")
    commands = {
        "resume": ["train", "--resume", "--out", run],
        "evaluate": ["evaluate", "--run", run],
        **{
            f"sample {step}": [
                *("sample", "--run", run, "--tokens", "9"),
                *("--snapshot", step),
            ]
            for step in ("0", "3")
        },
    }
    right = {}
    for name, command in commands.items():
        shutil.copytree(runs[0], run)
        assert main(command) == 0
        right[name] = capsys.readouterr().out
        shutil.rmtree(run)
    refused = unharmed = 0
    for file, what, _, matters in try_all(runs[0], runs[which], tmp_path, MANY):
        codes = []
        for name, command in commands.items():
            codes.append(main(command))
            out, error = capsys.readouterr()
            case = (file, what, name, error)
            assert codes[-1] in (0, 2), case
            if codes[-1] == 2:
                assert "Traceback" not in error, case
                assert name_of(file) in error, case
                assert "error: " in error, case
            else:
                assert out == right[name], case
        assert 2 in codes or not matters, (file, what)
        refused += 2 in codes
        unharmed += 2 not in codes
    print(f"{refused} refused by name, {unharmed} without effect")
    assert refused + unharmed > 800
