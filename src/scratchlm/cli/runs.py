"""Runs in their folders: what they were asked for, and what is in them."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter
from filelock import FileLock, Timeout

from scratchlm.cli.errors import UserError
from scratchlm.model.gpt import GPTConfig
from scratchlm.text.files import PARTIAL, read_json
from scratchlm.text.prepare import AnyTokenizer, load_tokenizer
from scratchlm.text.tokens import BatchCursor, open_tokens
from scratchlm.training.checkpoint import (
    OWN,
    blaming,
    check_seal,
    form_of,
    has_run,
    sealed_names,
)

LOCK = ".lock"  # in a run's folder, while somebody trains there
OURS = {"config.json", "log.jsonl", "loss.svg", "seal.json", "tensorboard"}
OURS |= {"tokenizer.json", "train.tokens", "validation.tokens", *OWN}
OTHERS = {  # what a config.json has if it is not a run's
    "scheme": "a quantized model, which load_quantized reads in Python",
    "model_type": "an exported model; make a run of it with import",
}


def folder_of(corpus: str) -> Path:
    """Where a run on a text lives unless told otherwise: runs/, and its name.

    >>> folder_of("texts/my notes.txt").as_posix()
    'runs/my-notes'
    """
    name = re.sub(r"\W+", "-", Path(corpus.rstrip("/")).stem).strip("-")
    return Path("runs") / (name[:60] or "text")


# The options of each command that opens a run.
TOYTOWN = Path("runs/toytown")
RunFolder = Annotated[Path, Parameter(help="the run's folder (runs/toytown)")]
Snapshot = Annotated[
    int | None, Parameter(help="the model at this step, not at its best")
]
Device = Annotated[str, Parameter(help="cpu, cuda or mps (cpu)")]
Verify = Annotated[
    bool, Parameter(help="whether files must be as they were sealed (on)")
]


def read_settings(folder: Path) -> dict[str, Any]:
    """What a run's config.json says; the folder must hold a run."""
    if not has_run(folder):
        raise UserError(
            f"{folder} holds no run; train one first: "
            f"python -m scratchlm train --out {shlex.quote(str(folder))}"
        )
    path = folder / "config.json"
    found = read_json(path)
    for name, what in OTHERS.items():
        if isinstance(found, dict) and name in found:
            raise UserError(f"{folder} is no run but {what}")
    for name in ("model", "training", "data"):
        if not isinstance(found, dict) or not isinstance(found.get(name), dict):
            raise UserError(
                f"{path} is damaged: it does not say {name!r}; copy it from "
                "a backup, or train again in another folder"
            )
    return found


def taken(folder: Path, verify: bool = True) -> dict[str, Any]:
    """The settings of `train` that a run has taken, by name."""
    found = read_settings(folder)
    if verify:
        check_files(folder, "config.json")
    with blaming(folder / "config.json"):
        data = found["data"]
        settings = {**data.get("text", {}), **found["model"]}
        settings |= found["training"]
        settings |= {k: data[k] for k in ("batch_size", "seed") if k in data}
        return settings


def asked(folder: Path, verify: bool = True) -> dict[str, Any]:
    """The settings of `train` that a run was asked for, by name.

    What was found out at its beginning (a vocabulary, a precision, how many
    steps fit into the time) is as asked for, unless a branch changed it.
    """
    settings = taken(folder, verify)
    found = read_settings(folder)["data"].get("resolved", {})
    with blaming(folder / "config.json"):
        for name, (wanted, got) in found.items():
            if settings[name] == got:
                settings[name] = wanted
        return settings


def check_files(folder: Path, *names: str) -> None:
    """Refuse files of a run that are not as they were sealed."""
    sealed = set(sealed_names(folder))
    check_seal(folder, [name for name in names if name in sealed])


def run_tokenizer(folder: Path, verify: bool = True) -> AnyTokenizer:
    """The tokenizer that the run was trained with, and no other."""
    settings = read_settings(folder)
    if verify:
        check_files(folder, "config.json", "tokenizer.json")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    wanted = settings["data"].get("fingerprint", tokenizer.fingerprint)
    size = settings["model"].get("vocab_size")
    if tokenizer.fingerprint != wanted or tokenizer.vocab_size != size:
        raise UserError(
            f"{folder / 'tokenizer.json'} is not the tokenizer that this run "
            "was trained with; its numbers would mean other pieces. Copy the "
            "run's own there"
        )
    return tokenizer


def check_folder(folder: Path) -> None:
    """Refuse a folder in which a run would write over what is not its own.

    What a run that died early left may be there, or other files, but not
    both: then files with our names may be somebody else's.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in found if not path.name.startswith(".")]
    ours = [name for name in names if name.removesuffix(PARTIAL) in OURS]
    others = [name for name in names if name not in ours]
    if ours and others:
        raise UserError(
            f"{folder} holds other things ({others[0]}), so its {ours[0]} may "
            "be yours and would be written over; name a new folder with --out"
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second training out of a folder; it is made, if need be.

    The lock is the system's, and goes with the process, however it ends. A
    folder that was made here and is empty afterwards is removed again.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another training is at work there; wait for its end, "
            "or name another folder with --out"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # not empty
            for path in new:
                path.rmdir()


@dataclass(frozen=True)
class Opened:
    """A run's settings, tokenizer, training cursor and validation tokens."""

    settings: dict[str, Any]
    model: GPTConfig
    tokenizer: AnyTokenizer
    train: BatchCursor
    validation: Any


def open_run(folder: Path, verify: bool = True) -> Opened:
    """Open what training and evaluation need of a run."""
    settings = read_settings(folder)
    tokenizer = run_tokenizer(folder, verify)
    if verify:
        check_files(folder, "train.tokens", "validation.tokens")
    mark, data = tokenizer.fingerprint, settings["data"]
    train = open_tokens(folder / "train.tokens", mark)
    validation = open_tokens(folder / "validation.tokens", mark)
    with blaming(folder / "config.json"):
        model, size = form_of(settings["model"]), data["batch_size"]
        cursor = BatchCursor(train.tokens, model.context, size, data["seed"])
    return Opened(settings, model, tokenizer, cursor, validation.tokens)


def opening(folder: Path, words: int = 3) -> str:
    """The first words of a run's validation text, to try it with.

    Only as far as they can be typed: a text may hold terminal codes.
    """
    tokenizer = run_tokenizer(folder, verify=False)
    tokens = open_tokens(folder / "validation.tokens", tokenizer.fingerprint)
    text = tokenizer.decode([int(i) for i in tokens.tokens[:80]])
    text = " ".join(text.split()[:words])
    return "".join(takewhile(str.isprintable, text))[:60]


def ranks() -> int:
    """How many processes `torchrun` started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def devices() -> list[str]:
    """The devices that are here, the processor first."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def kind_of(device: str) -> str:
    """The kind of a device, such as the "cuda" of "cuda:1"."""
    return device.partition(":")[0]


def check_device(name: str) -> str:
    """The name of a device that is here; others are refused."""
    try:
        if kind_of(name) in devices():
            torch.empty(0, device=name)
            return name
    except (RuntimeError, AssertionError):
        pass  # cuda:9 where there are two
    raise UserError(
        f"--device {name}: there is no such device here; there are: "
        f"{', '.join(devices())}"
    )
