"""Checkpoints come back bit for bit, survive crashes, and say what is wrong."""

import json
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, next_token_loss
from scratchlm.training import checkpoint as module
from scratchlm.training.checkpoint import (
    CheckpointError,
    Progress,
    current,
    differences,
    load_checkpoint,
    load_model,
    load_weights,
    parameter_names,
    random_state,
    read_json,
    read_tensors,
    save_checkpoint,
    save_weights,
    set_random_state,
    start_run,
    unique_tensors,
    unpack_optimizers,
    weights_file,
    write_json,
)
from scratchlm.training.muon import muon_and_adamw
from scratchlm.training.optimizer import AdamW, parameter_groups

CONFIG = gpt2_config(
    vocab_size=13, context=8, layers=2, heads=2, channels=16, dropout=0.2
)


def make(
    kind: str = "adamw", seed: int = 0, config: GPTConfig = CONFIG
) -> tuple[GPT, list[Optimizer]]:
    """A small model and its optimizers."""
    torch.manual_seed(seed)
    model = GPT(config)
    if kind == "muon":
        return model, muon_and_adamw(model)
    return model, [AdamW(parameter_groups(model, 0.1), lr=1e-2)]


def train(model: GPT, optimizers: list[Optimizer], steps: int) -> list[float]:
    """Some steps on random tokens, with dropout; returns the losses."""
    losses = []
    for _ in range(steps):
        ids = torch.randint(13, (4, 9))
        loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return losses


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models have the same bits."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    model, optimizers = make(kind)
    train(model, optimizers, 3)
    progress = Progress(3, {"epoch": 1, "at": 5}, {"best": 0.1 + 0.2})
    save_checkpoint(tmp_path / "c", model, optimizers, progress, {"a": (1,)})
    losses = train(model, optimizers, 3)
    other, others = make(kind, seed=99)
    train(other, others, 1)
    got = load_checkpoint(tmp_path / "c", other, others, {"a": (1,)})
    assert got == progress
    assert train(other, others, 3) == losses
    assert same_weights(model, other)
    for one, two in zip(optimizers, others, strict=True):
        for g, h in zip(one.param_groups, two.param_groups, strict=True):
            for key in g.keys() - {"params"}:
                assert g[key] == h[key]
                assert type(g[key]) is type(h[key])


def test_random_state_of_all_three() -> None:
    state = json.loads(json.dumps(random_state()))
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    random.gauss(0, 1)
    np.random.randn()
    set_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_random_state_of_accelerators(monkeypatch: Any) -> None:
    states = [torch.tensor([1, 2], dtype=torch.uint8)]
    given: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.append)
    set_random_state(random_state())
    assert torch.equal(given[0][0], states[0])


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    model, _ = make()
    path = tmp_path / "model.safetensors"
    save_weights(path, model)
    with safe_open(str(path), "pt") as file:
        names = list(file.keys())
    assert len(names) == len(list(model.parameters()))
    names_all = set(model.state_dict())
    assert set(names) < names_all  # the tied one has two names there
    other, _ = make(seed=5)
    load_weights(path, other)
    assert same_weights(model, other)
    assert unique_tensors(other).keys() == set(names)


def test_names_without_the_compiler_s_prefix() -> None:
    model, _ = make()
    wrapped = nn.Module()
    wrapped._orig_mod = model
    assert unique_tensors(wrapped).keys() == unique_tensors(model).keys()
    names = parameter_names(model).values()
    assert not any(name.startswith("_orig_mod") for name in names)


class Crash(Exception):
    """Power failure, in the test."""


@pytest.mark.parametrize("call", range(17))
def test_a_crash_leaves_old_or_new(
    tmp_path: Path, monkeypatch: Any, call: int
) -> None:
    folder = tmp_path / "c"
    model, optimizers = make()
    save_checkpoint(folder, model, optimizers, Progress(1, {}), {})
    train(model, optimizers, 1)
    count = 0

    def fragile(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count > call:
                raise Crash
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "rename"),
            (os, "replace"),
            (os, "fsync"),
            (module, "save_file"),
            (module.shutil, "rmtree"),
        ):
            patch.setattr(owner, name, fragile(getattr(owner, name)))
        with pytest.raises(Crash):
            save_checkpoint(folder, model, optimizers, Progress(2, {}), {})
    other, others = make(seed=7)
    step = load_checkpoint(folder, other, others, {}).step
    assert step in (1, 2)
    assert same_weights(model, other) == (step == 2)
    save_checkpoint(folder, model, optimizers, Progress(3, {}), {})
    assert load_checkpoint(folder, other, others, {}).step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_reads_the_old_one_between_two_names(tmp_path: Path) -> None:
    model, optimizers = make()
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), {})
    os.rename(tmp_path / "c", tmp_path / "c.old")
    assert current(tmp_path / "c").name == "c.old"
    assert load_checkpoint(tmp_path / "c", model, optimizers, {}).step == 1


def test_other_settings_are_named(tmp_path: Path) -> None:
    model, optimizers = make()
    config = {"model": {"channels": 16, "layers": 2}, "steps": 5}
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), config)
    other = {"model": {"channels": 32, "layers": 2}, "steps": 5}
    with pytest.raises(CheckpointError, match="channels: saved 16, now 32"):
        load_checkpoint(tmp_path / "c", model, optimizers, other)


def test_differences() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences({"a": 1}, {"b": 2}) == [
        "a: saved 1, now None",
        "b: saved None, now 2",
    ]


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = nn.Linear(2, 3)
    save_file({"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}, path)
    before = model.weight.clone()
    with pytest.raises(CheckpointError) as error:
        load_weights(path, model)
    text = str(error.value)
    assert "missing: bias" in text
    assert "unexpected: extra" in text
    assert "weight: saved (3, 4) torch.float32, now (3, 2)" in text
    assert torch.equal(model.weight, before)


def test_other_optimizers_are_refused(tmp_path: Path) -> None:
    model, optimizers = make()
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), {})
    with pytest.raises(CheckpointError, match="saved with 1 optimizers, now 2"):
        load_checkpoint(tmp_path / "c", model, optimizers * 2, {})
    mixed = [AdamW(list(model.parameters()), lr=1e-2)]
    with pytest.raises(CheckpointError, match="other parameters"):
        load_checkpoint(tmp_path / "c", model, mixed, {})


def test_moments_go_where_the_parameter_is() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    groups = [
        {k: v for k, v in group.items() if k != "params"}
        | {"params": ["weight", "bias"]}
        for group in optimizer.param_groups
    ]
    rest = [{"numbers": {"0/bias/count": 4}, "groups": groups}]
    tensors = {"0/bias/m": torch.ones(2), "0/bias/step": torch.tensor(4.0)}
    unpack_optimizers(model, [optimizer], tensors, rest)
    state = optimizer.state[model.bias]
    assert state["count"] == 4
    assert state["m"].tolist() == [1, 1]
    assert state["step"].item() == 4


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.json is not there"):
        read_json(tmp_path / "nothing.json")
    with pytest.raises(CheckpointError, match="is not there"):
        read_tensors(tmp_path / "nothing.safetensors")
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": ')
    with pytest.raises(CheckpointError, match="damaged"):
        read_json(broken)
    model, optimizers = make()
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), {})
    weights = tmp_path / "c" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "c", model, optimizers, {})
    state = tmp_path / "c" / "state.json"
    write_json(state, {**read_json(state), "format": 99})
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(tmp_path / "c", model, optimizers, {})


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_never_on_top_of_another_run(tmp_path: Path) -> None:
    start_run(tmp_path / "run", {"model": 1})
    with pytest.raises(FileExistsError, match="another run"):
        start_run(tmp_path / "run", {"model": 2})
    assert read_json(tmp_path / "run" / "config.json") == {"model": 1}


def test_load_model(tmp_path: Path) -> None:
    models = [make(seed=s)[0] for s in range(3)]
    write_json(tmp_path / "config.json", {"model": asdict(CONFIG)})
    save_weights(tmp_path / "checkpoint" / "model.safetensors", models[0])
    assert same_weights(load_model(tmp_path), models[0])
    save_weights(tmp_path / "best" / "model.safetensors", models[1])
    best = load_model(tmp_path)
    assert same_weights(best, models[1])
    assert not best.training
    with pytest.raises(CheckpointError, match="there are: none"):
        load_model(tmp_path, snapshot=20)
    save_weights(tmp_path / "snapshots" / "step-000020.safetensors", models[2])
    assert same_weights(load_model(tmp_path, snapshot=20), models[2])
    with pytest.raises(CheckpointError, match="there are: 20"):
        weights_file(tmp_path, snapshot=30)
