"""What a checkpoint must bring back."""

import math
import random
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training import checkpoint

from ..expect import close, equal, raises, true
from ..inputs import scattered


def make(seed: int = 0) -> tuple[nn.Sequential, list[torch.optim.Optimizer]]:
    """A small model with a tied weight, and its optimizer."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    scattered(model, 0.5 + seed / 10)
    return model, [torch.optim.AdamW(model.parameters(), lr=0.1)]


def step(model: nn.Module, optimizers: list[Any]) -> None:
    """One update on a fixed example."""
    x = torch.tensor([[1.0, -2.0, 0.5]])
    model(x).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def folder() -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp()) / "checkpoint"


def check_training_goes_on_bit_for_bit() -> None:
    """Three steps, save, load elsewhere, three steps: six steps."""
    model, optimizers = make()
    for _ in range(3):
        step(model, optimizers)
    where, progress = folder(), checkpoint.Progress(3, {"at": 7})
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    other, others = make(seed=1)
    step(other, others)
    got = checkpoint.load_checkpoint(where, other, others, {})
    equal(
        (got.step, got.cursor),
        (3, {"at": 7}),
        "the step and the place in the data",
    )
    for name, one, two in (
        ("after loading", model[2].weight, other[2].weight),
        ("its bias", model[2].bias, other[2].bias),
    ):
        equal(two, one, f"the weights {name}")
    for _ in range(3):
        step(model, optimizers)
        step(other, others)
    equal(
        other[0].weight,
        model[0].weight,
        "the weights three steps later",
        hint="Adam's moments and its count of steps belong to the state",
    )


def check_learning_rate_comes_back() -> None:
    """What the schedule last set is what the optimizer has."""
    model, optimizers = make()
    optimizers[0].param_groups[0]["lr"] = 0.05
    where = folder()
    progress = checkpoint.Progress(0, {})
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    optimizers[0].param_groups[0]["lr"] = 0.9
    checkpoint.load_checkpoint(where, model, optimizers, {})
    equal(optimizers[0].param_groups[0]["lr"], 0.05, "the learning rate")


def check_random_numbers_go_on() -> None:
    """Python's, NumPy's and torch's next numbers come again."""
    model, optimizers = make()
    where = folder()
    progress = checkpoint.Progress(0, {})
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    wanted = (random.random(), np.random.rand(), torch.rand(1).item())
    checkpoint.load_checkpoint(where, model, optimizers, {})
    equal(
        (random.random(), np.random.rand(), torch.rand(1).item()),
        wanted,
        "the numbers of random, numpy.random and torch after loading",
        hint="without them, dropout differs after a resume",
    )


def check_a_failed_save_leaves_the_one_before() -> None:
    """When a save breaks off, the checkpoint before is still whole."""
    model, optimizers = make()
    where = folder()
    progress = checkpoint.Progress(1, {})
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    kept = next(model.parameters()).detach().clone()
    step(model, optimizers)
    broken = checkpoint.Progress(1, {"not for JSON": object()})
    raises(
        TypeError,
        lambda: checkpoint.save_checkpoint(
            where, model, optimizers, broken, {}
        ),
        "saving what JSON cannot hold",
    )
    got = checkpoint.load_checkpoint(where, model, optimizers, {})
    equal(got.step, 1, "the step of the checkpoint that is left")
    equal(
        model[0].weight,
        kept,
        "its weights",
        hint="write to new names, and let the seal name them at the end",
    )


def check_a_crash_before_the_seal() -> None:
    """New files that no seal names yet do not count."""
    model, optimizers = make()
    where = folder()
    progress = checkpoint.Progress(5, {})
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    seal = (where / "seal.json").read_bytes()
    kept = next(model.parameters()).detach().clone()
    step(model, optimizers)
    progress = checkpoint.Progress(6, {})
    old = {p: p.read_bytes() for p in where.rglob("*") if p.is_file()}
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    for path, data in old.items():  # as if the crash had come before
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (where / "seal.json").write_bytes(seal)
    got = checkpoint.load_checkpoint(where, model, optimizers, {})
    equal(
        got.step,
        5,
        "the step after a crash",
        hint="the files of step 6 are there, and the seal does not name them",
    )
    equal(model[0].weight, kept, "the weights after a crash")
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    got = checkpoint.load_checkpoint(where, model, optimizers, {})
    equal(got.step, 6, "the step after saving again")
    names = sorted(p.name for p in (where / "checkpoint").iterdir())
    equal(len(names), 1, "the checkpoints that are left")


def check_one_changed_byte_is_seen() -> None:
    """In each file of a checkpoint; nothing is loaded then."""
    model, optimizers = make()
    step(model, optimizers)
    where = folder()
    progress = checkpoint.Progress(1, {})
    checkpoint.save_checkpoint(where, model, optimizers, progress, {})
    for path in sorted(p for p in where.rglob("*") if p.is_file()):
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        raises(
            ValueError,
            lambda: checkpoint.load_checkpoint(where, model, optimizers, {}),
            f"loading after a bit of {path.name} was flipped",
            hint="hold each file against the SHA-256 in the seal",
        )
        path.write_bytes(data)
    checkpoint.load_checkpoint(where, model, optimizers, {})


def check_what_does_not_fit_is_refused() -> None:
    """Another shape or another setting is an error, and changes nothing."""
    model, optimizers = make()
    where = folder()
    progress = checkpoint.Progress(0, {})
    config = {"model": {"channels": 3}}
    checkpoint.save_checkpoint(where, model, optimizers, progress, config)
    raises(
        ValueError,
        lambda: checkpoint.load_checkpoint(
            where, model, optimizers, {"model": {"channels": 4}}
        ),
        "loading with 4 channels what was saved with 3",
    )
    path, other = where / "small.safetensors", nn.Linear(3, 4)
    checkpoint.save_weights(path, nn.Linear(3, 1))
    before = other.weight.clone()
    raises(
        ValueError,
        lambda: checkpoint.load_weights(path, other),
        "loading a 1 x 3 weight into one of 4 x 3",
        hint="copy_ repeats a single row without a word: compare shapes",
    )
    equal(other.weight, before, "the weights after the refusal")


def check_tied_weights_stay_tied() -> None:
    """A weight with two names is written once, and one tensor after."""
    model, _ = make()
    names = list(checkpoint.unique_tensors(model))
    equal(
        names,
        ["0.weight", "0.bias", "2.bias"],
        "the names of the tensors to write",
    )
    true(model[2].weight is model[0].weight, "the weights are one tensor")


def whole_run(where: Path) -> GPT:
    """A run of two steps with best weights, snapshots, and a log of both."""
    model = scattered(GPT(FORM), 0.1)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1)]
    settings = {"model": asdict(FORM), "training": {"steps": 4}}
    checkpoint.start_run(where, settings)
    log = where / "log.jsonl"
    for number in (1, 2):
        model(torch.tensor([[1, 2, 3]])).square().sum().backward()
        optimizers[0].step()
        log.write_text(log.read_text() + f'{{"step": {number}}}\n')
        progress = checkpoint.Progress(
            number, {"at": number}, {"log": checkpoint.log_size(where)}
        )
        own = ("config.json", "log.jsonl")
        checkpoint.save_checkpoint(
            where, model, optimizers, progress, settings, own
        )
        checkpoint.keep_weights(where, "best", number, model, alone=True)
        checkpoint.keep_weights(where, "snapshots", number, model)
        for parameter in model.parameters():
            parameter.data *= 1.5
    return model


FORM = gpt2_config(5, 4, 1, 1, 4)


def check_best_and_snapshots() -> None:
    """The last best weights alone, and those of each step that was kept."""
    where = folder()
    last = whole_run(where).token.weight / 1.5
    best = sorted(path.name for path in (where / "best").iterdir())
    equal(best, ["step-000002.safetensors"], "the best weights that are left")
    got = checkpoint.load_model(where)
    close(got.token.weight, last, "the best weights")
    equal(got.training, False, "whether the model is ready to train")
    two = checkpoint.load_model(where, snapshot=2).token.weight
    one = checkpoint.load_model(where, snapshot=1).token.weight
    close(two, last, "the weights of step 2")
    true(not torch.equal(one, two), "those of step 1 are others")
    raises(
        checkpoint.CheckpointError,
        lambda: checkpoint.load_model(where, snapshot=3),
        "weights of a step that was not kept",
    )
    raises(
        FileExistsError,
        lambda: checkpoint.start_run(where, {}),
        "a new run in the folder of another",
    )


def check_a_branch() -> None:
    """A copy goes on with other settings, and the first run stays."""
    where = folder()
    whole_run(where)
    old = {p: p.read_bytes() for p in where.rglob("*") if p.is_file()}
    (where / "log.jsonl").write_bytes(old[where / "log.jsonl"] + b"lost")
    branch = where.with_name("branch")
    checkpoint.branch_run(where, branch, {"steps": 9})
    form, settings = checkpoint.read_settings(branch)
    equal(form, FORM, "the form of the model")
    equal(settings["training"], {"steps": 9}, "the settings of the branch")
    log = (branch / "log.jsonl").read_bytes()
    equal(log, old[where / "log.jsonl"], "the log, up to the checkpoint")
    close(
        checkpoint.load_model(branch).token.weight,
        checkpoint.load_model(where).token.weight,
        "the best weights of both",
    )
    for path in sorted(old.keys() - {where / "log.jsonl"}):
        equal(path.read_bytes(), old[path], f"{path.name} of the first run")
    for steps, error in ((9, FileExistsError), (2, ValueError)):
        place = branch if steps == 9 else where.with_name("again")
        raises(
            error,
            lambda p=place, n=steps: checkpoint.branch_run(  # type: ignore
                where, p, {"steps": n}
            ),
            f"a branch of {steps} steps in {place.name}",
        )
    true(not where.with_name("again").exists(), "nothing is left of it")


def check_the_log_goes_back() -> None:
    """What the log says of lost steps is cut off; less stays as it is."""
    where = folder()
    whole_run(where)
    size = checkpoint.log_size(where)
    line = len('{"step": 1}\n')
    equal(size, 2 * line, "bytes of two lines")
    checkpoint.restore_log(where, size + 5)
    equal(checkpoint.log_size(where), size, "bytes after asking for more")
    checkpoint.restore_log(where, line)
    log = (where / "log.jsonl").read_text()
    equal(log, '{"step": 1}\n', "the log of the first step")
    checkpoint.check_seal(where, ["log.jsonl"])


def check_the_file_is_safetensors() -> None:
    """Another library reads what is written: names, types and numbers."""
    tensors = {
        "b": torch.tensor([1, 2, 3], dtype=torch.int64),
        "a": torch.tensor([[1.5, -2.0]]),
        "c": torch.tensor([True]),
        "d": torch.tensor([0.5, 4.0], dtype=torch.bfloat16),
        "e": torch.arange(6.0).view(2, 3).T,
    }
    path = folder().with_suffix(".safetensors")
    checkpoint.write_tensors(path, tensors)
    for got in (load_file(path), checkpoint.read_tensors(path)):
        equal(sorted(got), sorted(tensors), "the names in the file")
        for name, tensor in tensors.items():
            equal(got[name].dtype, tensor.dtype, f"the type of {name}")
            equal(got[name], tensor, f"the numbers of {name}")
    checkpoint.write_tensors(path, {"a": torch.tensor([1.0, math.nan])})
    raises(
        checkpoint.CheckpointError,
        lambda: checkpoint.read_tensors(path),
        "reading what is no number",
    )


def check_other_settings_are_named() -> None:
    """Each setting that differs has a line, in the order of its name."""
    saved = {"model": {"b": 1, "a": (1, 2)}, "steps": 3}
    now = {"model": {"b": 2, "a": (1, 2)}, "rate": 0.1, "steps": 3}
    equal(
        checkpoint.differences(saved, now),
        ["model.b: saved 1, now 2", "rate: saved None, now 0.1"],
        "what differs",
    )
    left = {"x": torch.zeros(2), "y": torch.zeros(2)}
    right = {"y": torch.zeros(3), "z": torch.zeros(2)}
    for one, other in ((left, right), (left, {"x": torch.zeros(2)})):
        raises(
            checkpoint.CheckpointError,
            lambda a=one, b=other: checkpoint.compare(  # type: ignore
                a, b, "the file"
            ),
            "comparing other names, and other shapes",
        )
    checkpoint.compare(left, dict(left), "the file")
    own = random.Random(3).getstate()[1]
    digits = checkpoint.packed(own)
    equal(checkpoint.unpacked(digits).tolist(), [*own], "numbers, from digits")


BUGS = {
    "a branch writes into the first run": (
        "half = run.with_name(run.name + PARTIAL)",
        "half = source",
    ),
    "later best weights are kept beside the first": (
        "commit(run, [name], part if alone else None)",
        "commit(run, [name], None)",
    ),
    "the branch has the settings of the first run": (
        '        state["config"]["training"] = dict(training)\n',
        "",
    ),
    "the log keeps what is lost": (
        "        os.truncate(log, size)\n",
        "        pass\n",
    ),
    "tensors lie as they lie in memory": (
        ".detach().cpu().contiguous().flatten()",
        ".detach().cpu().as_strided((tensors[name].numel(),), (1,))",
    ),
    "weights that are no numbers are loaded": (
        "if not bool(torch.isfinite(tensor).all()):",
        "if not bool(torch.isfinite(tensor).any()):",
    ),
    "a model comes back ready to train": (
        "return model.eval()",
        "return model",
    ),
    "the optimizer's moments are not restored": (
        "                optimizer.state[parameter][key] = value\n",
        "                pass\n",
    ),
    "the learning rate is not restored": (
        "                group[key] = tuple(value) if was_tuple else value\n",
        "                pass\n",
    ),
    "torch's random state is not restored": (
        "    torch.set_rng_state("
        'torch.from_numpy(unpacked(state["torch"], "u1")))\n',
        "",
    ),
    "NumPy's random state is not restored": (
        "    np.random.set_state("
        "(name, unpacked(keys), position, has_gauss, cached))\n",
        "",
    ),
    "the new checkpoint is written over the old one": (
        '        place += "-again"  # what counts is never written over\n',
        "        pass\n",
    ),
    "files are not held against the seal": (
        "pool.submit(check_seal, run, names)",
        "pool.submit(list, names)",
    ),
    "what is old stays": (
        "                path.unlink()\n",
        "                pass\n",
    ),
    "shapes are not compared": (
        "if (a.shape, a.dtype) != (b.shape, b.dtype):",
        "if a.dtype != b.dtype:",
    ),
}
