"""What a run will need, said before it is begun."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from scratchlm.cli import estimate
from scratchlm.cli.errors import UserError
from scratchlm.model.gpt import (
    GPT,
    flops_per_token,
    gpt2_config,
    memory_estimate,
)
from scratchlm.training.trainer import TrainConfig

SHAPE = gpt2_config(300, 16, 3, 2, 16)
LOOP = TrainConfig(10)
BIG = gpt2_config(1024, 256, 8, 8, 512)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with as much memory as a test wants."""

    def have(size: float) -> None:
        monkeypatch.setattr(estimate, "machine_memory", lambda _: int(size))

    return have


def test_units_are_those_of_people() -> None:
    seconds = (5, 89, 200, 8000)
    said = [estimate.duration(s) for s in seconds]
    assert said == ["5 s", "89 s", "3 min", "2.2 h"]
    assert estimate.size(2.5e9) == "2.5 GB"
    assert estimate.size(20e6) == "20 MB"


def test_a_container_may_allow_less(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=8000)
    )
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(estimate, "CGROUP", limit)
    found = [estimate.machine_memory("cpu")]
    for text in ("max\n", "3000\n", "9000\n"):
        limit.write_text(text)
        found.append(estimate.machine_memory("cpu"))
    assert found == [8000, 8000, 3000, 8000]


def test_recomputed_blocks_keep_their_input_alone() -> None:
    plain = estimate.peak_memory(BIG, LOOP, 8)
    assert plain == memory_estimate(BIG, 8).peak
    less = replace(LOOP, checkpoint_activations=True)
    one = estimate.peak_memory(replace(BIG, layers=1), less, 8)
    assert one == memory_estimate(replace(BIG, layers=1), 8).peak
    assert estimate.peak_memory(BIG, less, 8) < plain / 2


def test_what_cannot_fit_is_refused_with_a_way_out(memory: Any) -> None:
    need = estimate.peak_memory(BIG, LOOP, 64)
    memory(2 * need)
    said = estimate.check_memory(BIG, LOOP, 64, "cpu")
    assert said.startswith(f"about {estimate.size(need)} at the highest, of")
    assert "if it does not fit" not in said
    memory(1.1 * need)
    said = estimate.check_memory(BIG, LOOP, 64, "cpu")
    assert "--batch-size 32 --accumulate 2 does the same" in said
    memory(estimate.peak_memory(BIG, LOOP, 16))
    with pytest.raises(UserError, match="--batch-size 16 --accumulate 4"):
        estimate.check_memory(BIG, LOOP, 64, "cpu")
    memory(1000)
    with pytest.raises(UserError, match="a smaller --batch-size"):
        estimate.check_memory(BIG, LOOP, 64, "cpu")


def test_slices_share_what_is_held(memory: Any) -> None:
    deep = replace(BIG, layers=64)
    found = memory_estimate(deep, 8)
    held = found.weights + found.gradients + found.moments
    passing = 2 * memory_estimate(replace(deep, layers=1), 1).weights
    for count in (2, 4):
        need = estimate.peak_memory(deep, LOOP, 8, count)
        gone = held * (count - 1) // count
        assert need == found.peak - gone + passing
    assert estimate.peak_memory(deep, LOOP, 8, 1) == found.peak
    half = estimate.size(estimate.peak_memory(deep, LOOP, 4, 2))
    third = estimate.size(estimate.peak_memory(deep, LOOP, 3, 3))
    assert estimate.on_each(deep, LOOP, 8, (2, 3)) == (
        f"about {half} on each of 2, {third} on each of 3 processes"
    )
    memory(1e12)
    said = estimate.check_memory(deep, LOOP, 8, "cuda", 4)
    assert said.endswith(", on each of 4 processes")
    memory(1000)
    with pytest.raises(UserError, match="torchrun, --shard with more proc"):
        estimate.check_memory(deep, LOOP, 8, "cuda", 4)
    with pytest.raises(UserError, match=r"torchrun, --shard$"):
        estimate.check_memory(deep, LOOP, 8, "cuda")


def test_a_layer_tells_how_long_all_take() -> None:
    small, speed = replace(SHAPE, layers=1), estimate.Speed(2.0, 6.0)
    more = flops_per_token(SHAPE) / flops_per_token(small)
    deep = speed.of(small, SHAPE, 3)
    assert deep.step == pytest.approx(2 * more)
    assert deep.batch == pytest.approx(2 * more)
    assert speed.of(SHAPE, SHAPE, 1) == speed


def test_advice_when_memory_ran_out(memory: Any) -> None:
    memory(1e9)
    said = estimate.advice_on_memory(BIG, LOOP, 64, "cuda")
    assert said.startswith("cuda ran out of memory: about")
    assert "--batch-size 32 --accumulate 2" in said
    assert "--checkpoint-activations" in said
    odd = estimate.advice_on_memory(BIG, LOOP, 33, "cuda")
    assert "does the same" not in odd  # half of it would be another step
    less = replace(LOOP, checkpoint_activations=True)
    said = estimate.advice_on_memory(BIG, less, 1, "cuda")
    assert "--batch-size" not in said
    assert "--checkpoint-activations" not in said
    assert "a smaller model or --context" in said


def test_measuring_leaves_no_trace() -> None:
    torch.manual_seed(3)
    model = GPT(SHAPE).train()
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    batches = estimate.exercise(16, 4)
    speed = estimate.measure(model, batches, LOOP)
    assert speed.step > 0
    assert speed.batch > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    after = list(model.parameters())
    assert all(map(torch.equal, before, after))
    assert all(p.grad is None for p in after)


def test_an_evaluation_takes_whole_batches() -> None:
    speed = estimate.Speed(1.0, 2.0)
    window = estimate.JUDGED * 10  # tokens of one batch
    found = [speed.evaluation(n, 10) for n in (1, window, window + 1)]
    assert found == [2.0, 2.0, 4.0]


def test_the_fastest_device_is_found_by_trying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def trial(device: str) -> float:
        tried.append(device)
        return {"cpu": 2.0, "mps": 3.0, "cuda": 1.0}[device]

    assert estimate.choose_device("cpu", trial) == "cpu"
    monkeypatch.setattr(estimate, "devices", lambda: ["cpu"])
    assert estimate.choose_device("auto", trial) == "cpu"
    assert tried == []  # there was nothing to choose
    monkeypatch.setattr(estimate, "devices", lambda: ["cpu", "mps"])
    assert estimate.choose_device("auto", trial) == "cpu"
    monkeypatch.setattr(estimate, "devices", lambda: ["cpu", "cuda"])
    assert estimate.choose_device("auto", trial) == "cuda"


def test_slow_choices_are_named(
    monkeypatch: pytest.MonkeyPatch, memory: Any
) -> None:
    model = GPT(SHAPE)
    memory(1e12)
    monkeypatch.setattr(estimate, "devices", lambda: ["cpu"])
    monkeypatch.setattr(estimate, "slowdown", lambda *_: 8.0)
    assert estimate.slow_choices(model, LOOP, 4) == []
    auto = replace(LOOP, precision="auto")  # what it chose was measured
    assert estimate.slow_choices(model, auto, 4) == []
    slow = replace(LOOP, precision="bfloat16", checkpoint_activations=True)
    first, second = estimate.slow_choices(model, slow, 4)
    assert "bfloat16 takes 8.0 times as long as float32 here" in first
    assert "--checkpoint-activations costs a third more time" in second
    monkeypatch.setattr(estimate, "slowdown", lambda *_: 0.5)
    monkeypatch.setattr(estimate, "devices", lambda: ["cpu", "cuda"])
    memory(100)
    [only] = estimate.slow_choices(model, slow, 4)
    assert only == "there is a faster device: --device cuda"
