"""Checkpoints: stop training, and go on as if nothing had happened.

A checkpoint is a folder of two safetensors files and one JSON file: weights,
the optimizers' moments, the step, the place in the data, the state of every
random generator, and the configuration. It appears under its name only when
it is complete, so a crash in the middle leaves the one before. There is no
pickle: a file of weights from a stranger cannot run code here.

Left out: sharded checkpoints of models larger than one machine's memory.
"""

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from scratchlm.model.gpt import GPT, GPTConfig

FORMAT = 1  # of the folder; a reader of another format refuses it


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another model."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: all that is neither weight nor moment."""

    step: int
    cursor: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by name; one that has two names comes once.

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


def sync(path: Path) -> None:
    """Wait until a file is on the disk, and not only on its way there."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """The same for a folder's list of names; Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes `path`'s name once all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    yield partial
    sync(partial)
    os.replace(partial, path)  # one step: old before, new after
    sync_folder(path.parent)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights to one safetensors file, atomically."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in unique_tensors(model).items()
    }
    with replacing(Path(path)) as partial:
        save_file(tensors, partial)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=1, allow_nan=False)
    with replacing(Path(path)) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; errors name the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


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
    """Read a safetensors file into main memory; errors name the file."""
    try:
        return load_file(path, device="cpu")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there") from None
    except Exception as error:  # the library's own, or one of the disk
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Copy the weights of a safetensors file into the model, in place."""
    saved = read_tensors(path)
    tensors = unique_tensors(model)
    compare(tensors, saved, path.name)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])


def random_state() -> dict[str, Any]:
    """The state of Python's, NumPy's and torch's generators, for JSON."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [
            name,
            np.asarray(keys).tolist(),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [],
    }
    if torch.cuda.is_available():
        state["cuda"] = [s.tolist() for s in torch.cuda.get_rng_state_all()]
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every generator back to what `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    keys = np.array(keys, dtype=np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if state["cuda"] and torch.cuda.is_available():
        states = [torch.tensor(s, dtype=torch.uint8) for s in state["cuda"]]
        torch.cuda.set_rng_state_all(states)


def parameter_names(model: nn.Module) -> dict[Tensor, str]:
    """Parameter → its name, by identity."""
    return {p: name for name, p in unique_tensors(model).items()}


def pack_optimizers(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> tuple[dict[str, Tensor], list[Any]]:
    """The optimizers' state as named tensors, and the rest for JSON.

    A tensor is called by its optimizer's place, its parameter's name and
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
        state = {**saved["numbers"], **tensors}
        for full, value in state.items():
            owner, name, key = full.split("/")
            if int(owner) == place:
                parameter = parameters[name]
                if isinstance(value, Tensor) and value.ndim:
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


def beside(folder: Path, ending: str) -> Path:
    """The path next to a folder's, as `checkpoint.old` to `checkpoint`."""
    return folder.with_name(folder.name + ending)


def swap_in(folder: Path) -> None:
    """Let ``folder.new`` become `folder`; the old one goes last."""
    old = beside(folder, ".old")
    if folder.exists():
        os.rename(folder, old)
    os.rename(beside(folder, ".new"), folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def clean_up(folder: Path) -> None:
    """Put away what a crash in the middle of a save left behind."""
    old = beside(folder, ".old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(beside(folder, ".new"), ignore_errors=True)


def current(folder: Path) -> Path:
    """Where the last whole checkpoint is, also after a crash."""
    old = beside(folder, ".old")
    return old if old.exists() and not folder.exists() else folder


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    progress: Progress,
    config: Mapping[str, Any],
) -> None:
    """Write all that is needed to go on from here; replaces the one before.

    Until the new one is complete and on the disk, the one before keeps its
    name. Of a crash at any moment, one of the two is left, whole.
    """
    folder = Path(folder)
    clean_up(folder)
    new = beside(folder, ".new")
    new.mkdir(parents=True)
    tensors, rest = pack_optimizers(model, optimizers)
    save_weights(new / "model.safetensors", model)
    with replacing(new / "optimizer.safetensors") as partial:
        save_file(tensors, partial)
    state = {
        "format": FORMAT,
        "config": config,
        "progress": asdict(progress),
        "optimizers": rest,
        "random": random_state(),
    }
    write_json(new / "state.json", state)
    swap_in(folder)


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    config: Mapping[str, Any],
) -> Progress:
    """Put model, optimizers and random generators back; return the rest.

    All is read into main memory first and then copied to where the model
    is. Raises CheckpointError, and names what is wrong, when the files are
    not there or damaged, or belong to a model or run of another shape.
    """
    folder = current(Path(folder))
    state = read_json(folder / "state.json")
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has format {state.get('format')}, this program "
            f"reads format {FORMAT}"
        )
    now = json.loads(json.dumps(config))  # tuples become lists, as saved
    if lines := differences(state["config"], now):
        raise CheckpointError(
            "the settings are not those of the checkpoint; " + "; ".join(lines)
        )
    tensors = read_tensors(folder / "optimizer.safetensors")
    load_weights(folder / "model.safetensors", model)
    unpack_optimizers(model, optimizers, tensors, state["optimizers"])
    set_random_state(state["random"])
    return Progress(**state["progress"])


def start_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Open a folder for a new run; never on top of another one."""
    path = Path(folder) / "config.json"
    if path.exists():
        raise FileExistsError(
            f"{folder} holds another run: resume it, or name another folder"
        )
    write_json(path, config)


def weights_file(run: Path, snapshot: int | None = None) -> Path:
    """The file of a run's best weights, or of those at one of its steps."""
    best = run / "best" / "model.safetensors"
    if snapshot is None:
        last = current(run / "checkpoint") / "model.safetensors"
        return best if best.exists() else last
    path = run / "snapshots" / f"step-{snapshot:06d}.safetensors"
    if not path.exists():
        there = sorted((run / "snapshots").glob("step-*.safetensors"))
        steps = ", ".join(str(int(p.stem[5:])) for p in there) or "none"
        raise CheckpointError(
            f"{run} has no snapshot of step {snapshot}; there are: {steps}"
        )
    return path


def load_model(run: Path, snapshot: int | None = None) -> GPT:
    """The trained model in a run's folder, on the CPU, ready for use.

    Without `snapshot` the best weights, by validation loss; with it those
    of that step.
    """
    config = read_json(Path(run) / "config.json")
    model = GPT(GPTConfig(**config["model"]))
    load_weights(weights_file(Path(run), snapshot), model)
    return model.eval()
