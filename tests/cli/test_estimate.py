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
from scratchlm.model.flash import PeakMemory
from scratchlm.model.gpt import (
    GPT,
    flops_per_token,
    gpt2_config,
    memory_estimate,
)
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.optimizer import AdamW, parameter_groups
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
    assert estimate.peak_memory(BIG, less, 8) == memory_estimate(BIG, 0).peak
    wide = memory_estimate(BIG, 64).peak
    assert estimate.peak_memory(BIG, less, 64) < wide / 2


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_gradients_of_earlier_batches_are_there(accumulate: int) -> None:
    shape = gpt2_config(1024, 128, 4, 4, 256)
    batch = torch.zeros(2, 4, 128, dtype=torch.int64)
    with PeakMemory() as memory:
        model = GPT(shape)
        optimizer = AdamW(parameter_groups(model, 0.1))
        for _ in range(2):  # the moments come with the first step
            model.zero_grad()
            accumulate_gradients(model, [tuple(batch)] * accumulate)
            optimizer.step()
    loop = replace(LOOP, accumulate=accumulate)
    need = estimate.peak_memory(shape, loop, 4)
    assert memory.peak == pytest.approx(need, rel=0.03)


def test_timing_takes_no_more_than_the_run() -> None:
    shape = gpt2_config(60_000, 128, 1, 1, 16)
    with PeakMemory() as memory:
        model = GPT(shape)
        estimate.measure(model, estimate.exercise(128, 1), LOOP)
    assert memory.peak < estimate.peak_memory(shape, LOOP, 1)


def test_what_cannot_fit_is_refused_with_a_way_out(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = estimate.peak_memory(BIG, LOOP, 64)
    memory(2 * need)
    said = estimate.check_memory(BIG, LOOP, 64, "cpu")
    assert said.startswith(f"about {estimate.size(need)} at the highest, of")
    assert "if it does not fit" not in said
    memory(1.1 * need)
    said = estimate.check_memory(BIG, LOOP, 64, "cpu")
    assert "--batch-size 32 --accumulate 2 does the same" in said
    four = replace(LOOP, accumulate=4)
    memory(estimate.peak_memory(BIG, four, 16))
    with pytest.raises(UserError, match="--batch-size 16 --accumulate 4"):
        estimate.check_memory(BIG, LOOP, 64, "cpu")
    monkeypatch.setenv("WORLD_SIZE", "4")  # the option is that of all
    with pytest.raises(UserError, match="--batch-size 64 --accumulate 4"):
        estimate.check_memory(BIG, LOOP, 64, "cpu")
    memory(1000)
    with pytest.raises(UserError, match="a smaller --batch-size"):
        estimate.check_memory(BIG, LOOP, 64, "cpu")


def test_slices_share_what_is_held(memory: Any) -> None:
    deep = replace(BIG, layers=64)
    found = memory_estimate(deep, 8)
    held = found.weights + found.moments  # no gradients yet, at the peak
    passing = 2 * memory_estimate(replace(deep, layers=1), 1).weights
    for count in (2, 4):
        need = estimate.peak_memory(deep, LOOP, 8, count)
        gone = held * (count - 1) // count
        assert need == found.peak - gone + passing
        kept = held // count + found.activations
        assert need > kept  # what is there all the time
    often = replace(LOOP, accumulate=2)
    more = estimate.peak_memory(deep, often, 8, 4)
    assert more - need == found.gradients // 4
    least = memory_estimate(deep, 0).peak
    gone = (held + found.gradients) * 3 // 4
    assert estimate.peak_memory(deep, LOOP, 0, 4) == least - gone + passing
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
    assert estimate.slow_choices(model, slow, 4) == []  # it was measured
    [only] = estimate.slow_choices(model, slow, 4, SHAPE, 1, "cpu")
    assert only == "there is a faster device: --device cuda"


def test_a_run_is_judged_as_often_as_its_trainer_does() -> None:
    facts = {"batch_size": 4, "corpus": "a", "train_tokens": 900}
    facts |= {"validation_tokens": 16 * estimate.JUDGED}
    speed = estimate.Speed(0.0, 10.0)
    for steps, judged in ((800, "10 s"), (801, "20 s"), (799, "10 s")):
        config = replace(LOOP, steps=steps, evaluate_every=800)
        said = estimate.describe_run(SHAPE, config, facts, speed)
        assert f"measured, and {judged} for evaluations" in said


def test_with_dropout_attention_keeps_its_weights_but_on_a_card() -> None:
    without = gpt2_config(64, 64, layers=2, heads=2, channels=16)
    model = replace(without, dropout=0.1)
    assert estimate.as_kept(model, "cuda:1") is model
    assert estimate.as_kept(without, "cpu") is without
    assert not estimate.as_kept(model, "cpu").fused
    need = [
        estimate.check_memory(form, LOOP, 64, "cpu").partition(" at the")[0]
        for form in (without, model)
    ]
    assert need[0] != need[1]
