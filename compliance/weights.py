"""Rules on weights: they are numbers, all of them, and those of the run."""

import zipfile
from contextlib import suppress
from pathlib import Path

from compliance.rules import Finding, Findings, Site, rule
from scratchlm.text.files import SEAL, FileError, damage, read_seal
from scratchlm.training.checkpoint import read_tensors

PICKLED = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"}
SUPPLY = "OWASP LLM04:2026, Supply Chain"
EDITION = "2026-08-04"


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or a ZIP file with one in it.

    Since Python 3.0 a pickle begins with the byte 0x80 and its protocol.
    PyTorch puts one into a ZIP file, as data.pkl. Older ones are known by
    the ending of the name.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK" and zipfile.is_zipfile(path):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    known = start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"
    return (known and len(start) > 1) or path.suffix.lower() in PICKLED


@rule("files", SUPPLY, EDITION)
def pickle(path: Path, site: Site) -> Findings:
    """No file is a pickle, which is a program that runs when it is opened."""
    if is_pickle(path):
        yield Finding(
            str(path),
            "it is a pickle, or is named like one",
            "save weights with safetensors.torch.save_file, and all else as "
            "JSON; do not open this file",
        )


@rule("tensors", SUPPLY, EDITION)
def tensors(path: Path, site: Site) -> Findings:
    """A file of weights can be read whole, and each number in it is one."""
    try:
        read_tensors(path)
    except FileError as error:
        yield Finding(
            str(path), str(error), "take the file from a copy, or train again"
        )


@rule("sealed", SUPPLY, EDITION)
def seal(run: Path, site: Site) -> Findings:
    """The files of a run are those that were sealed, byte by byte."""
    try:
        sealed = read_seal(run)
    except FileError as error:
        yield Finding(str(run / SEAL), str(error), "take the run from a copy")
        return
    for name, entry in sealed.items():
        if why := damage(run / name, entry):
            yield Finding(
                str(run / name), why, "take it from a copy, or train again"
            )
