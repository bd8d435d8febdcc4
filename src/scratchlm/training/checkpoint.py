"""Checkpoints: stop training, and go on as if nothing had happened.

A checkpoint is two safetensors files and one JSON file: weights, the
optimizers' moments, the step, the place in the data, the state of every
random generator, and the configuration. It is in the folder of its run,
whose seal names the files that count. A new checkpoint gets new names, and
counts from the moment the seal is replaced, so a crash at any time leaves
the one before intact. There is no pickle: a stranger's file of weights
cannot run code here.

Left out: shards of models larger than one machine's memory, which
`scratchlm.training.distributed` has.
"""

import json
import os
import random
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.optim import Optimizer

from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.files import (
    PARTIAL,
    SEAL,
    FileError,
    entry,
    explaining,
    file_sha256,
    read_bytes,
    read_json,
    read_seal,
    replacing,
    sync,
    sync_folder,
    verify,
    write_json,
    write_seal,
    write_text,
)

FORMAT = 2  # of a run's folder; a reader of another format refuses it
OWN = ("checkpoint", "stable", "best", "snapshots")  # swept, if not sealed
INPUTS = ("tokenizer.json", "train.tokens", "validation.tokens")
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
OURS = re.compile(  # what we write into them, and what is unfinished
    r"(checkpoint|stable)/step-\d{6,}(-again)?/"
    r"((model|optimizer)\.safetensors|state\.json)(\.partial)?"
    r"|(best|snapshots)/step-\d{6,}\.safetensors(\.partial)?"
    r"|[a-z]+\.(json|jsonl|svg|tokens)\.partial"
)
RUNS = "SCRATCHLM_RUNS"  # in the environment: a place other than runs/
UNREAD = ("stable/", "snapshots/")  # when a run is taken up
WAY_OUT = (
    "Take it from a copy, or train again in another folder; --no-verify "
    "goes on with what is there, right or wrong"
)
ERRORS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
TYPES = {  # what safetensors calls the types of numbers
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}


class CheckpointError(FileError):
    """A checkpoint is missing, damaged, or from another model."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: everything that is neither weight nor moment."""

    step: int
    cursor: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by name; one with two names appears once.

    Weight tying gives one tensor two names, and safetensors refuses to write
    shared memory twice. The first name stands for both.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to one safetensors file, atomically.

    Eight bytes that say how long the header is, the header in JSON, and the
    numbers. Wide types come first, so that each number begins at a multiple
    of its width.
    """
    order = sorted(tensors)
    order.sort(key=lambda name: -tensors[name].element_size())
    header: dict[str, Any] = {}
    at = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(Path(path)) as partial, open(partial, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            flat = tensors[name].detach().cpu().contiguous().flatten()
            file.write(flat.view(torch.uint8).numpy().data)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights to one safetensors file, atomically."""
    write_tensors(path, unique_tensors(model))


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Make errors about what a file holds name the file."""
    try:
        yield
    except (FileError, torch.OutOfMemoryError):
        raise  # a full device says nothing about the file
    except ERRORS as error:
        kind = type(error).__name__
        raise CheckpointError(
            f"{path} does not hold what it should ({kind}: {error}); take it "
            "from a copy, or train again in another folder"
        ) from error


def compare(
    wanted: Mapping[str, Tensor], got: Mapping[str, Tensor], what: str
) -> None:
    """Raise CheckpointError unless names, shapes and types all agree."""
    problems = []
    missing = [name for name in wanted if name not in got]
    unexpected = [name for name in got if name not in wanted]
    if missing:
        problems.append("missing: " + ", ".join(missing))
    if unexpected:
        problems.append("unexpected: " + ", ".join(unexpected))
    for name in wanted.keys() & got.keys():
        a, b = wanted[name], got[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            problems.append(
                f"{name}: saved {tuple(b.shape)} {b.dtype}, "
                f"now {tuple(a.shape)} {a.dtype}"
            )
    if problems:
        raise CheckpointError(f"{what} does not fit; " + "; ".join(problems))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into main memory; errors name the file.

    The bytes are read, not mapped: a file that is mapped cannot be renamed
    on Windows. NaN or infinity means damage, or a run that diverged.
    """
    data = read_bytes(path)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path} holds NaN or infinity in {name}: nothing can be "
                "done with it; take an earlier file"
            )
    return tensors


def put_weights(
    model: nn.Module, saved: Mapping[str, Tensor], path: Path
) -> None:
    """Copy tensors into the model, in place; `path` is where they are from."""
    tensors = unique_tensors(model)
    compare(tensors, saved, str(path))
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])


def load_weights(path: Path, model: nn.Module) -> None:
    """Copy the weights of a safetensors file into the model."""
    put_weights(model, read_tensors(path), path)


CPU = torch.device("cpu")


def packed(numbers: Any, kind: str = "<u4") -> str:
    """Numbers as the hexadecimal digits of their bytes, for JSON.

    >>> packed([1, 258])
    '0100000002010000'
    """
    return np.asarray(numbers, dtype=kind).tobytes().hex()


def unpacked(digits: str, kind: str = "<u4") -> np.ndarray:
    """The numbers that were packed."""
    return np.frombuffer(bytearray.fromhex(digits), dtype=kind)


def device_state(device: torch.device) -> str | None:
    """The state of an accelerator's generator; the CPU has torch's own."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    if device.type == "mps":  # there is only one
        return packed(module.get_rng_state(), "u1")
    return packed(module.get_rng_state(device), "u1")


def random_state(device: torch.device = CPU) -> dict[str, Any]:
    """The state of the generators in use, for JSON.

    Python's, NumPy's and torch's, and that of the device where the model
    is. Others are not touched: asking an accelerator wakes it up.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, packed(internal), gauss],
        "numpy": [name, packed(keys), position, has_gauss, cached],
        "torch": packed(torch.get_rng_state(), "u1"),
        "device": [device.type, device_state(device)],
    }


def set_random_state(
    state: Mapping[str, Any], device: torch.device = CPU
) -> None:
    """Restore the generators to what `random_state` returned.

    The device's only if the device is of the kind that was saved: a GPU's
    state means nothing to a CPU.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(unpacked(internal).tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, unpacked(keys), position, has_gauss, cached))
    torch.set_rng_state(torch.from_numpy(unpacked(state["torch"], "u1")))
    kind, saved = state["device"]
    if saved is not None and kind == device.type:
        module = torch.get_device_module(device)
        args = () if kind == "mps" else (device,)
        module.set_rng_state(torch.from_numpy(unpacked(saved, "u1")), *args)


@contextmanager
def undisturbed(device: torch.device = CPU) -> Iterator[None]:
    """Let random numbers be drawn without affecting those that follow."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)


def parameter_names(model: nn.Module) -> dict[Tensor, str]:
    """Parameter → its name, by identity."""
    return {p: name for name, p in unique_tensors(model).items()}


def pack_optimizers(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> tuple[dict[str, Tensor], list[Any]]:
    """The optimizers' state as named tensors, and the rest for JSON.

    A tensor's name joins its optimizer's place, its parameter's name and
    its own, as in ``0/blocks.1.mlp.up.weight/exp_avg``.
    """
    names = parameter_names(model)
    tensors: dict[str, Tensor] = {}
    rest: list[Any] = []
    for place, optimizer in enumerate(optimizers):
        numbers: dict[str, Any] = {}
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                full = f"{place}/{names[parameter]}/{key}"
                if isinstance(value, Tensor):
                    tensors[full] = value.detach().cpu().contiguous()
                else:
                    numbers[full] = value
        groups = [
            {k: v for k, v in group.items() if k != "params"}
            | {"params": [names[p] for p in group["params"]]}
            for group in optimizer.param_groups
        ]
        rest.append({"numbers": numbers, "groups": groups})
    return tensors, rest


def unpack_optimizers(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    tensors: Mapping[str, Tensor],
    rest: Sequence[Any],
) -> None:
    """Give the optimizers the state that `pack_optimizers` took."""
    if len(rest) != len(optimizers):
        raise CheckpointError(
            f"saved with {len(rest)} optimizers, now {len(optimizers)}"
        )
    parameters = {n: p for p, n in parameter_names(model).items()}
    for place, (optimizer, saved) in enumerate(
        zip(optimizers, rest, strict=True)
    ):
        restore_groups(optimizer, saved["groups"], parameters)
        optimizer.state.clear()
        fused = optimizer.defaults.get("fused")  # its count is on the device
        state = {**saved["numbers"], **tensors}
        for full, value in state.items():
            owner, name, key = full.split("/")
            if int(owner) == place:
                parameter = parameters[name]
                if isinstance(value, Tensor) and (value.ndim or fused):
                    value = value.to(parameter.device)
                optimizer.state[parameter][key] = value


def restore_groups(
    optimizer: Optimizer, saved: Sequence[Any], parameters: Mapping[str, Tensor]
) -> None:
    """Set each parameter group's numbers; it must hold the same tensors."""
    names = {id(tensor): name for name, tensor in parameters.items()}
    groups = optimizer.param_groups
    now = [[names[id(p)] for p in group["params"]] for group in groups]
    if now != [old["params"] for old in saved]:
        raise CheckpointError(
            "the optimizer's groups hold other parameters than when they "
            "were saved: was it made with other settings?"
        )
    for group, old in zip(groups, saved, strict=True):
        for key, value in old.items():
            if key != "params":
                was_tuple = isinstance(group.get(key), tuple)
                group[key] = tuple(value) if was_tuple else value


def differences(saved: Any, now: Any, path: str = "") -> list[str]:
    """Where two configurations differ, a line each.

    >>> differences({"layers": 4, "heads": 4}, {"layers": 6, "heads": 4})
    ['layers: saved 4, now 6']
    """
    if not (isinstance(saved, dict) and isinstance(now, dict)):
        return [] if saved == now else [f"{path}: saved {saved}, now {now}"]
    lines = []
    for key in saved.keys() | now.keys():
        inner = f"{path}.{key}" if path else key
        lines += differences(saved.get(key), now.get(key), inner)
    return sorted(lines)


def sealed_names(run: Path, verify: bool = True) -> list[str]:
    """The files of a run that count, according to its seal.

    Without `verify`, if the seal is damaged, those that are there.
    """
    if verify and not has_run(run):
        raise CheckpointError(
            f"{run} holds no run that came to its first checkpoint: train "
            "one there, from the beginning"
        )
    try:
        return sorted(read_seal(run))
    except FileError as error:
        if verify:
            raise CheckpointError(f"{error}. {WAY_OUT}") from error
    found = [p for part in OWN for p in (run / part).rglob("*.*")]
    top = [run / name for name in ("config.json", "log.jsonl", *INPUTS)]
    found += [path for path in top if path.exists()]
    names = sorted(p.relative_to(run).as_posix() for p in found)
    return [name for name in names if not name.endswith(PARTIAL)]


def reseal(run: Path) -> None:
    """Seal what is there, if the seal is damaged or lost.

    For a run that goes on unverified: without a seal nothing counts, and
    `sweep` would remove it all.
    """
    try:
        read_seal(run)
    except FileError:
        names = sealed_names(run, verify=False)
        write_seal(run, {n: entry(run / n, n == "log.jsonl") for n in names})


def under(names: Iterable[str], part: str) -> list[str]:
    """Those of the names that are in a folder.

    >>> under(["log.jsonl", "best/step-000010.safetensors"], "best")
    ['best/step-000010.safetensors']
    """
    return [name for name in names if name.startswith(part + "/")]


def step_of(name: str) -> int:
    """The step in the name of a run's file or folder.

    >>> step_of("checkpoint/step-000010-again"), step_of("step-1234567")
    (10, 1234567)
    """
    return int(re.findall(r"step-(\d+)", name)[-1])


def commit(run: Path, names: Iterable[str], part: str | None = None) -> None:
    """Make files count from now on; they replace the old ones in `part`."""
    sealed = read_seal(run) if (run / SEAL).exists() else {}
    old = under(sealed, part) if part else []
    kept = {name: sealed[name] for name in sealed if name not in old}
    for name in names:
        with explaining(run / name):
            sync(run / name)  # the log's last lines, too, must be there
        kept[name] = entry(run / name, grows=name == "log.jsonl")
    write_seal(run, kept)
    sweep(run)


def sweep(run: Path) -> None:
    """Remove what does not count: old files, and what a crash left.

    Files with names other than ours stay. What cannot be removed, such as a
    file that somebody is reading on Windows, goes the next time.
    """
    counts = set(read_seal(run)) if (run / SEAL).exists() else set()
    found = [path for part in OWN for path in (run / part).rglob("*")]
    for path in sorted([*found, *run.glob("*" + PARTIAL)], reverse=True):
        name = path.relative_to(run).as_posix()
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()  # fails if something is in it
            elif OURS.fullmatch(name) and name not in counts:
                path.unlink()


def new_place(run: Path, part: str, step: int) -> str:
    """Where in a run's folder the files of a new checkpoint go."""
    place = f"{part}/step-{step:06d}"
    if (run / SEAL).exists() and under(read_seal(run), place):
        place += "-again"  # what counts is never written over
    return place


def save_checkpoint(
    run: Path,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    progress: Progress,
    config: Mapping[str, Any],
    others: Sequence[str] = (),
    part: str = "checkpoint",
    device: torch.device | None = None,
) -> None:
    """Write all that is needed to go on from here, replacing the one before.

    That is, the one in the same `part` of the run. `others` are files of the
    folder that belong to it as they are now, and `device` is where the run
    trains, if not where the model is. Until the seal is replaced, the
    earlier checkpoint is the one that counts; a crash at any moment leaves
    one of the two intact.
    """
    place = new_place(Path(run), part, progress.step)
    folder = Path(run) / place
    tensors, rest = pack_optimizers(model, optimizers)
    state = {
        "format": FORMAT,
        "config": config,
        "progress": asdict(progress),
        "optimizers": rest,
        "random": random_state(device or device_of(model)),
    }
    save_weights(folder / "model.safetensors", model)
    write_tensors(folder / "optimizer.safetensors", tensors)
    write_json(folder / "state.json", state)
    commit(Path(run), [*(f"{place}/{name}" for name in FILES), *others], part)


def keep_weights(
    run: Path, part: str, step: int, model: nn.Module, alone: bool = False
) -> None:
    """Keep a step's weights in a part of the run; `alone`: the others go.

    After a crash a step may come a second time; what is sealed stays.
    """
    name = f"{part}/step-{step:06d}.safetensors"
    if name not in sealed_names(run):
        save_weights(run / name, model)
        commit(run, [name], part if alone else None)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device


def checkpoint_folder(
    run: Path, verify: bool = True, part: str = "checkpoint"
) -> Path:
    """Where the files of the run's checkpoint are."""
    for name in reversed(under(sealed_names(run, verify), part)):
        if name.endswith("/state.json"):
            return (Path(run) / name).parent
    raise CheckpointError(f"{run} holds no checkpoint")


def check_seal(run: Path, names: Iterable[str]) -> None:
    """Raise CheckpointError unless files of a run are as they were sealed."""
    try:
        verify(run, names)
    except FileError as error:
        raise CheckpointError(f"{error}. {WAY_OUT}") from error


@contextmanager
def verified(run: Path, names: Iterable[str], verify: bool) -> Iterator[None]:
    """Verify files while the body reads them.

    The block ends without an error only if they are as they were sealed.
    Damage outranks an error in the body, which it may have caused.
    """
    if not verify:
        yield
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        verdict = pool.submit(check_seal, run, names)
        try:
            yield
        finally:
            verdict.result()


def load_checkpoint(
    run: Path,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    config: Mapping[str, Any],
    verify: bool = True,
    device: torch.device | None = None,
) -> Progress:
    """Restore model, optimizers and random generators; return the rest.

    Everything is read into main memory first and then copied to where the
    model is; `device` is where the run trains, if that is elsewhere. Raises
    CheckpointError, naming what is wrong, when the files are missing or
    damaged, or belong to a model or run of another shape. What is not read
    here, such as snapshots, is not verified; without `verify` nothing is,
    and a flipped bit in the weights goes unnoticed.
    """
    run = Path(run)
    names = [n for n in sealed_names(run, verify) if not n.startswith(UNREAD)]
    folder = checkpoint_folder(run, verify)
    where = [folder / f"{name}.safetensors" for name in ("model", "optimizer")]
    with verified(run, names, verify):
        state = read_state(folder / "state.json", config)
        weights, moments = map(read_tensors, where)
    put_weights(model, weights, where[0])
    with blaming(where[1]):
        unpack_optimizers(model, optimizers, moments, state["optimizers"])
    with blaming(folder / "state.json"):
        set_random_state(state["random"], device or device_of(model))
        return Progress(**state["progress"])


def read_state(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What state.json says, if it has this format and these settings."""
    state = read_json(path)
    with blaming(path):
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} has format {state.get('format')}, this program "
                f"reads format {FORMAT}"
            )
        now = json.loads(json.dumps(config))  # tuples become lists, as saved
        saved = dict(state["config"])
        with suppress(LookupError, TypeError, ValueError):  # no model's form
            saved["model"] = asdict(form_of(saved["model"]))
        if lines := differences(saved, now):
            raise CheckpointError(
                f"the settings are not those of the checkpoint in {path}; "
                + "; ".join(lines)
            )
        return dict(state)


def has_run(folder: Path) -> bool:
    """Whether a run is here that has reached its first checkpoint.

    One that died before that has lost nothing, and can be started again. A
    log without a seal is what is left of a run that lost its seal.
    """
    log = Path(folder) / "log.jsonl"
    begun = log.exists() and log.stat().st_size > 0
    return begun or (Path(folder) / SEAL).exists()


def find_run(name: str = "toytown") -> Path:
    """The folder of a run that `python -m scratchlm train` made.

    It is in `runs/`, in the folder where Python was started, or where the
    environment variable SCRATCHLM_RUNS says. Raises CheckpointError, with
    the command that makes the run, if there is none.
    """
    folder = Path(os.environ.get(RUNS) or "runs") / name
    if not has_run(folder):
        raise CheckpointError(
            f"{folder} holds no run; train one first: "
            f"python -m scratchlm train --out {shlex.quote(str(folder))}"
        )
    return folder


def log_size(run: Path) -> int:
    """How many bytes the log of a run has."""
    log = Path(run) / "log.jsonl"
    return log.stat().st_size if log.exists() else 0


def restore_log(run: Path, size: int) -> None:
    """Cut the log back to the size that it had at the checkpoint.

    Later lines tell of steps that are lost; the run takes them again. Those
    up to the end of the stable rate may have been sealed with their own
    checkpoint, so the seal gives them up before they are cut.
    """
    log = Path(run) / "log.jsonl"
    if size >= log_size(run):
        return
    with explaining(log):
        sealed = read_seal(run) if (Path(run) / SEAL).exists() else {}
        if log.name in sealed and sealed[log.name]["size"] > size:
            less = {"size": size, "sha256": file_sha256(log, size)}
            sealed[log.name] |= less
            write_seal(run, sealed)
        os.truncate(log, size)


def start_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Open a folder for a new run; never on top of another one."""
    folder = Path(folder)
    if has_run(folder):
        raise FileExistsError(
            f"{folder} holds another run: resume it, or name another folder"
        )
    sweep(folder)
    write_json(folder / "config.json", config)
    write_text(folder / "log.jsonl", "")


def branch_run(
    source: Path,
    run: Path,
    training: Mapping[str, Any],
    verify: bool = True,
    part: str = "checkpoint",
) -> None:
    """Copy a run, so that the copy can go on with other settings.

    The copy begins at the checkpoint in `part`; what came later stays behind.
    The new folder gets its name when it is complete.
    """
    if run.exists() and any(run.iterdir()):
        raise FileExistsError(f"{run} is not empty: name another folder")
    folder = checkpoint_folder(source, verify, part)
    names = branch_names(source, folder.relative_to(source).as_posix())
    if verify:
        check_seal(source, names)
    state = branch_state(folder / "state.json", training)
    if not under(names, "best"):  # they are from a later step: left behind
        state["progress"]["notes"] |= {"best": None, "waiting": 0}
    files = {name: name.replace(part, OWN[0], 1) for name in names}
    half = run.with_name(run.name + PARTIAL)
    try:
        fill_branch(source, half, files, state)
        with explaining(run):
            if run.exists():
                run.rmdir()
            os.replace(half, run)
            sync_folder(run.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def branch_state(path: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """What state.json says, with other training settings."""
    state = read_json(path)
    with blaming(path):
        step = state["progress"]["step"]
        state["config"]["training"] = dict(training)
    if training["steps"] <= step:
        run = path.parent.parent.parent
        raise ValueError(f"{run} took {step} steps already: ask for more")
    return dict(state)


def fill_branch(
    source: Path, half: Path, files: Mapping[str, str], state: Mapping[str, Any]
) -> None:
    """Copy a run's files under their new names; write what is different."""
    shutil.rmtree(half, ignore_errors=True)  # left by a crash
    for name, new in files.items():
        if new.endswith("/state.json"):
            write_json(half / new, state)
            continue
        with replacing(half / new) as copy:
            shutil.copyfile(source / name, copy)
    write_json(half / "config.json", state["config"])
    restore_log(half, state["progress"]["notes"].get("log", 0))
    found = [path for path in half.rglob("*") if path.is_file()]
    write_seal(half, {})
    commit(half, [path.relative_to(half).as_posix() for path in found])


def branch_names(source: Path, place: str) -> list[str]:
    """The files of a run that belong to a checkpoint in it.

    The best weights belong only if they are not from a later step.
    """
    names, last = sealed_names(source, verify=False), step_of(place)
    best = [name for name in under(names, "best") if step_of(name) <= last]
    inputs = [name for name in names if "/" not in name]
    return [*inputs, *best, *under(names, place)]


def weights_file(
    run: Path, snapshot: int | None = None, verify: bool = True
) -> str:
    """The name of a run's best weights, or of those at one of its steps.

    Before the first evaluation the last weights are the best.
    """
    names = sealed_names(run, verify)
    if snapshot is None:
        if best := under(names, "best"):
            return best[-1]
        last = checkpoint_folder(run, verify) / "model.safetensors"
        return last.relative_to(run).as_posix()
    there = under(names, "snapshots")
    name = f"snapshots/step-{snapshot:06d}.safetensors"
    if name not in there:
        steps = ", ".join(map(str, sorted(map(step_of, there))))
        raise CheckpointError(
            f"{run} has no snapshot of step {snapshot}; there are: "
            f"{steps or 'none'}"
        )
    return name


def form_of(saved: Mapping[str, Any]) -> GPTConfig:
    """The form that a config.json gives, which may use old fields.

    >>> sizes = {"vocab_size": 9, "context": 4, "layers": 1, "heads": 1}
    >>> old = {**sizes, "channels": 2, "post_norm": True, "qk_norm": False}
    >>> form_of(old).norm_order, form_of(old).qk_norm
    ('post', 'none')
    """
    fields = dict(saved)
    if "post_norm" in fields:
        fields["norm_order"] = "post" if fields.pop("post_norm") else "pre"
    if isinstance(fields.get("qk_norm"), bool):
        fields["qk_norm"] = "layernorm" if fields["qk_norm"] else "none"
    return GPTConfig(**fields)


def read_settings(
    run: Path, verify: bool = True
) -> tuple[GPTConfig, dict[str, Any]]:
    """What config.json says: the model's form, and all of it."""
    if verify:
        check_seal(run, ["config.json"])
    path = Path(run) / "config.json"
    settings = read_json(path)
    with blaming(path):
        return form_of(settings["model"]), settings


def load_model(
    run: Path, snapshot: int | None = None, verify: bool = True
) -> GPT:
    """The trained model in a run's folder, on the CPU, ready for use.

    Without `snapshot` the best weights, by validation loss; with it those
    of that step. With `verify`, configuration and weights must be as they
    were sealed.
    """
    run = Path(run)
    name = weights_file(run, snapshot, verify)
    try:
        config, _ = read_settings(run, verify)
        with verified(run, [name], verify):
            weights = read_tensors(run / name)
            model = GPT(config)
        put_weights(model, weights, run / name)
        return model.eval()
    except FileError:
        if weights_file(run, snapshot, verify) == name:
            raise
    return load_model(run, snapshot, verify)  # it was replaced meanwhile
