"""Checkpoints come back bit for bit, survive crashes, and say what is wrong."""

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    llama_config,
    next_token_loss,
)
from scratchlm.text.files import (
    FileError,
    append_text,
    entry,
    read_json,
    verify,
    write_json,
    write_seal,
    write_text,
)
from scratchlm.training import checkpoint as module
from scratchlm.training.checkpoint import (
    CheckpointError,
    Progress,
    blaming,
    branch_names,
    checkpoint_folder,
    differences,
    find_run,
    form_of,
    has_run,
    keep_weights,
    load_checkpoint,
    load_model,
    load_weights,
    pack_optimizers,
    parameter_names,
    random_state,
    read_tensors,
    restore_log,
    save_checkpoint,
    save_weights,
    sealed_names,
    set_random_state,
    start_run,
    sweep,
    undisturbed,
    unique_tensors,
    unpack_optimizers,
    verified,
    weights_file,
    write_tensors,
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


class FakeDevice:
    """Several generators, and a note of each that is asked or set."""

    def __init__(self, count: int) -> None:
        self.states = [torch.tensor([9, n]).byte() for n in range(count)]
        self.calls: list[str] = []

    def get_rng_state(self, device: torch.device | None = None) -> Any:
        index = device.index if device else 0
        self.calls.append(f"get {index}")
        return self.states[index or 0]

    def set_rng_state(
        self, state: Any, device: torch.device | None = None
    ) -> None:
        index = device.index if device else 0
        self.calls.append(f"set {index}")
        self.states[index or 0] = state


@pytest.mark.parametrize("name", ["cuda:2", "mps", "xpu:0"])
def test_random_state_of_the_device_in_use_alone(
    monkeypatch: Any, name: str
) -> None:
    device = torch.device(name)
    fake = FakeDevice(4)
    if name == "mps":  # there, no device may be named
        fake.get_rng_state = lambda: fake.states[0]  # type: ignore
        fake.set_rng_state = lambda s: fake.states.__setitem__(0, s)  # type: ignore
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    index = device.index or 0
    state = json.loads(json.dumps(random_state(device)))
    wanted = [s.clone() for s in fake.states]
    fake.states = [torch.zeros(2).byte() for _ in fake.states]
    set_random_state(state, device)
    for place, got in enumerate(fake.states):
        assert torch.equal(got, wanted[place]) == (place == index)
    assert set(fake.calls) <= {f"get {index}", f"set {index}"}


def test_random_state_of_many_gpus_on_one(monkeypatch: Any) -> None:
    many, one = FakeDevice(8), FakeDevice(1)
    monkeypatch.setattr(torch, "get_device_module", lambda device: many)
    state = random_state(torch.device("cuda:7"))
    monkeypatch.setattr(torch, "get_device_module", lambda device: one)
    set_random_state(state, torch.device("cuda:0"))
    assert torch.equal(one.states[0], many.states[7])


def test_a_run_on_the_cpu_wakes_up_no_gpu(monkeypatch: Any) -> None:
    gpu = random_state()
    gpu["device"] = ["cuda", "010203"]

    def touched(*args: Any) -> None:
        raise AssertionError("a GPU was touched")

    monkeypatch.setattr(torch, "get_device_module", touched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", touched)
    state = random_state()
    assert state["device"] == ["cpu", None]
    set_random_state(gpu)  # saved on a GPU, taken up on the CPU
    with undisturbed():
        torch.rand(3)


def test_undisturbed() -> None:
    state = random_state()
    with undisturbed():
        random.random(), np.random.rand(), torch.rand(1)
    assert random_state() == state


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


def test_the_old_checkpoint_goes_when_the_new_one_counts(
    tmp_path: Path,
) -> None:
    model, optimizers = make()
    for step in (1, 2):
        save_checkpoint(tmp_path, model, optimizers, Progress(step, {}), {})
    names = ["model.safetensors", "optimizer.safetensors", "state.json"]
    wanted = [f"checkpoint/step-000002/{name}" for name in names]
    assert sealed_names(tmp_path) == wanted
    found = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(found) == 4
    assert checkpoint_folder(tmp_path).name == "step-000002"


def test_a_step_saved_twice_is_not_written_over(tmp_path: Path) -> None:
    model, optimizers = make()
    for turn in range(3):
        progress = Progress(5, {"turn": turn})
        save_checkpoint(tmp_path, model, optimizers, progress, {})
        train(model, optimizers, 1)
        got = load_checkpoint(tmp_path, model, optimizers, {})
        assert got.cursor == {"turn": turn}
    assert len(list((tmp_path / "checkpoint").iterdir())) == 1


def test_other_settings_are_named(tmp_path: Path) -> None:
    model, optimizers = make()
    config = {"model": {"channels": 16, "layers": 2}, "steps": 5}
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), config)
    other = {"model": {"channels": 32, "layers": 2}, "steps": 5}
    with pytest.raises(CheckpointError, match="channels: saved 16, now 32"):
        load_checkpoint(tmp_path / "c", model, optimizers, other)


def test_a_full_device_does_not_blame_the_file(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError), blaming(tmp_path):
        raise torch.OutOfMemoryError("CUDA out of memory")


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
    halves = {"weight": torch.zeros(3, 2).half(), "bias": torch.zeros(3)}
    save_file(halves, path)
    with pytest.raises(CheckpointError) as error:
        load_weights(path, model)
    fault = "weight: saved (3, 2) torch.float16, now (3, 2) torch.float32"
    assert str(error.value).endswith(f"does not fit; {fault}")
    assert torch.equal(model.weight, before)


def test_other_optimizers_are_refused(tmp_path: Path) -> None:
    model, optimizers = make()
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), {})
    with pytest.raises(CheckpointError, match="saved with 1 optimizers, now 2"):
        load_checkpoint(tmp_path / "c", model, optimizers * 2, {})
    mixed = [AdamW(list(model.parameters()), lr=1e-2)]
    with pytest.raises(CheckpointError, match="other parameters"):
        load_checkpoint(tmp_path / "c", model, mixed, {})


@pytest.mark.parametrize("fused", [False, True])
def test_moments_go_where_the_parameter_is(fused: bool) -> None:
    """The count of steps as well, if one kernel does all of it there."""
    model = nn.Linear(2, 2, device="meta")
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.defaults["fused"] = fused  # which this device could not be
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
    assert state["m"].device.type == "meta"
    assert state["step"].device.type == ("meta" if fused else "cpu")


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is not there"):
        read_tensors(tmp_path / "nothing.safetensors")
    model, optimizers = make()
    save_checkpoint(tmp_path / "c", model, optimizers, Progress(1, {}), {})
    folder = checkpoint_folder(tmp_path / "c")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model.*bytes.*it was cut"):
        load_checkpoint(tmp_path / "c", model, optimizers, {})
    with pytest.raises(CheckpointError, match=r"model.*is damaged"):
        load_checkpoint(tmp_path / "c", model, optimizers, {}, verify=False)
    state = read_json(folder / "state.json")
    write_json(folder / "state.json", {**state, "format": 99})
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(tmp_path / "c", model, optimizers, {}, verify=False)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for bad in (math.nan, math.inf, -math.inf):
        save_file({"a": torch.ones(2), "b": torch.tensor([1, bad])}, path)
        with pytest.raises(CheckpointError, match="NaN or infinity in b"):
            read_tensors(path)


def test_the_file_is_read_and_not_mapped(tmp_path: Path) -> None:
    """What is mapped sees a change of the file; Windows refuses to rename."""
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.arange(1000.0)})
    tensors = read_tensors(path)
    path.write_bytes(b"x" * path.stat().st_size)
    assert torch.equal(tensors["a"], torch.arange(1000.0))
    assert "w.safetensors" not in Path("/proc/self/maps").read_text()


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "flag": torch.tensor([True, False, True]),
        "byte": torch.arange(5, dtype=torch.uint8),
        "code": torch.arange(-2, 3, dtype=torch.int8),
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(7).bfloat16(),
        "single": torch.randn(2, 3, 4).transpose(0, 2),
        "double": torch.randn(3).double(),
        "int": torch.arange(3, dtype=torch.int32),
        "long": torch.arange(3),
        "scalar": torch.tensor(4.0),
        "empty": torch.zeros(0, 3),
        "grad": torch.randn(2, requires_grad=True),
    }
    path = tmp_path / "w.safetensors"
    write_tensors(path, tensors)
    for found in (load_file(path), read_tensors(path)):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
    with safe_open(str(path), "pt") as file:
        assert file.get_slice("single").get_shape() == [4, 3, 2]
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    for value in json.loads(raw[8 : 8 + length]).values():
        width = int(value["dtype"].lstrip("BFIU").replace("OOL", "8")) // 8
        assert value["data_offsets"][0] % width == 0


def test_a_run_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRATCHLM_RUNS", raising=False)
    with pytest.raises(CheckpointError, match=r"train --out runs/toytown$"):
        find_run()
    for place in (Path("runs"), tmp_path / "my models"):
        run = place / "small"
        model, optimizers = make()
        start_run(run, {})
        save_checkpoint(run, model, optimizers, Progress(0, {}), {})
        assert find_run("small") == run
        monkeypatch.setenv("SCRATCHLM_RUNS", str(tmp_path / "my models"))
        if place == Path("runs"):
            with pytest.raises(CheckpointError, match=r"models/small'$"):
                find_run("small")


def test_never_on_top_of_another_run(tmp_path: Path) -> None:
    model, optimizers = make()
    start_run(tmp_path, {"model": 1})
    assert not has_run(tmp_path)
    start_run(tmp_path, {"model": 2})  # the first one died before a checkpoint
    save_checkpoint(tmp_path, model, optimizers, Progress(0, {}), {})
    assert has_run(tmp_path)
    with pytest.raises(FileExistsError, match="another run"):
        start_run(tmp_path, {"model": 3})
    assert read_json(tmp_path / "config.json") == {"model": 2}
    append_text(tmp_path / "log.jsonl", "{}\n")
    (tmp_path / "seal.json").unlink()
    with pytest.raises(FileExistsError, match="another run"):
        start_run(tmp_path, {"model": 3})


def save_run(run: Path, steps: Sequence[int] = (0, 7)) -> list[GPT]:
    """A run with a checkpoint at each step, and the models it had then."""
    models = []
    settings = {"model": asdict(CONFIG)}
    start_run(run, settings)
    for step in steps:
        model, optimizers = make(seed=step)
        progress = Progress(step, {})
        names = ["config.json", "log.jsonl"]
        save_checkpoint(run, model, optimizers, progress, settings, names)
        models.append(model)
    return models


def test_load_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run that came to its"):
        load_model(tmp_path)
    models = save_run(tmp_path)
    assert same_weights(load_model(tmp_path), models[-1])
    best, kept = make(seed=40)[0], make(seed=50)[0]
    keep_weights(tmp_path, "best", 4, kept, alone=True)
    keep_weights(tmp_path, "best", 5, best, alone=True)
    keep_weights(tmp_path, "best", 5, kept, alone=True)  # it stays
    found = load_model(tmp_path)
    assert same_weights(found, best)
    assert not found.training
    assert [p.name[5:11] for p in (tmp_path / "best").iterdir()] == ["000005"]
    with pytest.raises(CheckpointError, match="there are: none"):
        load_model(tmp_path, snapshot=20)
    keep_weights(tmp_path, "snapshots", 20, kept)
    keep_weights(tmp_path, "snapshots", 30, kept)
    assert same_weights(load_model(tmp_path, snapshot=20), kept)
    with pytest.raises(CheckpointError, match="there are: 20, 30"):
        weights_file(tmp_path, snapshot=40)


def test_best_weights_that_are_gone_are_missed(tmp_path: Path) -> None:
    save_run(tmp_path)
    best = make(seed=40)[0]
    keep_weights(tmp_path, "best", 5, best, alone=True)
    (tmp_path / "best" / "step-000005.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best.*is not there.*copy"):
        load_model(tmp_path)
    (tmp_path / "best").rmdir()
    with pytest.raises(CheckpointError, match=r"best.*is not there"):
        load_model(tmp_path)


def test_a_model_of_another_form_is_not_taken(tmp_path: Path) -> None:
    """2 heads instead of 4 fit the same weights, and write nonsense."""
    save_run(tmp_path)
    path = tmp_path / "config.json"
    config = read_json(path)
    config["model"]["heads"] = 4
    write_json(path, config)
    with pytest.raises(CheckpointError, match=r"config\.json is not what seal"):
        load_model(tmp_path)
    assert load_model(tmp_path, verify=False).config.heads == 4


@pytest.mark.parametrize("post", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_a_form_saved_by_its_old_names(post: bool, normed: bool) -> None:
    today = GPTConfig(
        11,
        8,
        2,
        2,
        16,
        norm_order="post" if post else "pre",
        qk_norm="layernorm" if normed else "none",
    )
    new = ("norm_order", "qk_norm", "qkv_bias", "rope_factor", "rope_original")
    old = {k: v for k, v in asdict(today).items() if k not in new}
    assert form_of({**old, "post_norm": post, "qk_norm": normed}) == today
    assert form_of({**old, "post_norm": post}).norm_order == today.norm_order
    assert form_of(asdict(today)) == today


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"model": 3}', '{"model": {"layers": 2}}']
)
def test_what_is_no_configuration(tmp_path: Path, content: str) -> None:
    save_run(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json (is not|has)"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json does not hold"):
        load_model(tmp_path, verify=False)


def test_without_a_seal(tmp_path: Path) -> None:
    models = save_run(tmp_path)
    (tmp_path / "seal.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"seal\.json is damaged"):
        load_model(tmp_path)
    assert same_weights(load_model(tmp_path, verify=False), models[-1])


def test_a_file_replaced_while_it_is_read(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """A run trains on while another program loads its best weights."""
    save_run(tmp_path)
    later = make(seed=5)[0]
    keep_weights(tmp_path, "best", 4, make(seed=4)[0], alone=True)
    verify = module.verify

    def meanwhile(run: Path, names: Any) -> None:
        keep_weights(tmp_path, "best", 5, later, alone=True)
        verify(run, names)

    monkeypatch.setattr(module, "verify", meanwhile)
    assert same_weights(load_model(tmp_path), later)


def test_another_run_s_moments_are_named(tmp_path: Path) -> None:
    model, optimizers = make()
    train(model, optimizers, 1)
    save_checkpoint(tmp_path, model, optimizers, Progress(1, {}), {})
    path = checkpoint_folder(tmp_path) / "optimizer.safetensors"
    for tensors in (
        {"0/nothing/exp_avg": torch.ones(2)},
        {"nothing": torch.ones(2)},
        {"0/head.weight/exp_avg": torch.ones(2)},
    ):
        write_tensors(path, tensors)
        with pytest.raises(CheckpointError, match=r"optimizer\.safetensors"):
            load_checkpoint(tmp_path, model, optimizers, {}, verify=False)


def test_documented_names_are_real(tmp_path: Path) -> None:
    model = GPT(llama_config(13, context=8, layers=2, heads=2, channels=16))
    optimizers: list[Optimizer] = [AdamW(model.parameters(), lr=1e-2)]
    train(model, optimizers, 1)
    tensors, _ = pack_optimizers(model, optimizers)
    example = re.findall(r"``(.+?)``", str(pack_optimizers.__doc__))
    assert len(example) == 1
    assert example[0] in tensors


def test_only_the_state_that_was_saved_is_there_after(tmp_path: Path) -> None:
    """A parameter that had no moments then has none after loading."""
    model, optimizers = make()
    save_checkpoint(tmp_path, model, optimizers, Progress(0, {}), {})
    train(model, optimizers, 2)
    assert optimizers[0].state
    load_checkpoint(tmp_path, model, optimizers, {})
    assert not optimizers[0].state


def test_sweeping_leaves_what_is_not_ours(tmp_path: Path) -> None:
    save_run(tmp_path)
    kept = ["loss.svg", "tensorboard/events", "notes.md"]
    kept += ["best/model.pt", "snapshots/monday.img", "film.mkv.partial"]
    kept += ["checkpoint/step-000009/notes.txt", "checkpoint/1/state.json"]
    gone = ["seal.json.partial", "best/step-000003.safetensors.partial"]
    gone += ["checkpoint/step-000009-again/state.json"]
    gone += ["stable/step-1234567/optimizer.safetensors.partial"]
    for name in kept + gone:
        write_text(tmp_path / name, "x")
    sweep(tmp_path)
    for name in kept:
        assert (tmp_path / name).exists()
    for name in gone:
        assert not (tmp_path / name).exists()
    assert not (tmp_path / "checkpoint" / "step-000009-again").exists()
    assert not list((tmp_path / "stable").iterdir())
    assert len(sealed_names(tmp_path)) == 5


def test_steps_beyond_a_million(tmp_path: Path) -> None:
    """Their names have more digits, and are not sorted as numbers are."""
    model, _ = make()
    save_run(tmp_path, (999_999, 1_000_000))
    assert checkpoint_folder(tmp_path).name == "step-1000000"
    for step in (1_000_000, 999_999):
        keep_weights(tmp_path, "snapshots", step, model)
    with pytest.raises(CheckpointError, match="there are: 999999, 1000000"):
        weights_file(tmp_path, snapshot=5)
    keep_weights(tmp_path, "best", 999_999, model, alone=True)
    names = branch_names(tmp_path, "checkpoint/step-1000000")
    assert "best/step-999999.safetensors" in names
    names = branch_names(tmp_path, "checkpoint/step-000300")
    assert "best/step-999999.safetensors" not in names


def test_damage_outweighs_the_errors_that_it_leads_to(tmp_path: Path) -> None:
    save_run(tmp_path)
    with pytest.raises(KeyError), verified(tmp_path, ["config.json"], True):
        {}["the body's own error"]
    (tmp_path / "config.json").write_text("")
    with (
        pytest.raises(CheckpointError, match=r"config\.json has 0 bytes"),
        verified(tmp_path, ["config.json"], True),
    ):
        {}["an error that comes of it"]
    with pytest.raises(KeyError), verified(tmp_path, ["config.json"], False):
        {}["the body's own error"]


def test_a_run_that_is_damaged_is_not_put_into_the_model(
    tmp_path: Path,
) -> None:
    models = save_run(tmp_path)
    model, optimizers = make(seed=9)
    before = [p.detach().clone() for p in model.parameters()]
    path = checkpoint_folder(tmp_path) / "optimizer.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    settings = {"model": asdict(CONFIG)}
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors"):
        load_checkpoint(tmp_path, model, optimizers, settings)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
    path.write_bytes(data)
    load_checkpoint(tmp_path, model, optimizers, settings)
    assert same_weights(model, models[-1])


def test_a_run_without_a_checkpoint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sealed_names", lambda *_: ["config.json"])
    with pytest.raises(module.CheckpointError, match="holds no checkpoint"):
        module.checkpoint_folder(tmp_path)


def test_the_seal_forgets_lines_of_the_log_before_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that dies in between is taken for damaged."""
    log = tmp_path / "log.jsonl"
    log.write_text("first\nsecond\n")
    write_seal(tmp_path, {"log.jsonl": entry(log, grows=True)})
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "truncate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore_log(tmp_path, 6)
    verify(tmp_path)
    restore_log(tmp_path, 6)
    verify(tmp_path)
    assert log.read_text() == "first\n"
    restore_log(tmp_path, 60)
    log.write_text("fir")
    with pytest.raises(FileError, match="cut"):
        verify(tmp_path)
