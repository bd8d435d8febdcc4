"""The loop keeps its promises: exact resume, exact log, no silent failure."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scratchlm.model.flash import PeakMemory
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    memory_estimate,
)
from scratchlm.text.files import FileError, read_json, write_json
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import checkpoint as checkpoint_module
from scratchlm.training import trainer as module
from scratchlm.training.checkpoint import (
    CheckpointError,
    checkpoint_folder,
    keep_weights,
    load_model,
    weights_file,
)
from scratchlm.training.muon import hidden_matrices
from scratchlm.training.schedule import cosine, warmup_stable_decay
from scratchlm.training.trainer import (
    Interrupted,
    NonFiniteLoss,
    StopRequest,
    TrainConfig,
    Trainer,
    branch_part,
    choices,
    entropy_floor,
    make_optimizers,
    make_schedule,
    read_log,
    read_train_config,
    same_rates,
    seconds_per_step,
    span_batches,
    spans,
    tensorboard_writer,
    token_losses,
    validation_loss,
)

VOCAB, CONTEXT = 17, 8
TOKENS = np.random.default_rng(0).integers(VOCAB, size=700)
HELD_OUT = TOKENS[:61]


def cursor() -> BatchCursor:
    """Batches whose epoch ends in the middle of the tests' runs."""
    return BatchCursor(TOKENS, CONTEXT, 4, seed=5)


def make(folder: Path, on_sample: Any = None, **changes: Any) -> Trainer:
    """A trainer of a small model with dropout."""
    dropout = changes.pop("dropout", 0.2)
    config = replace(
        TrainConfig(
            steps=20,
            warmup=3,
            accumulate=2,
            evaluate_every=10,
            checkpoint_every=10,
        ),
        **changes,
    )
    torch.manual_seed(11)
    random.seed(11)
    np.random.seed(11)
    model = GPT(
        gpt2_config(
            vocab_size=VOCAB,
            context=CONTEXT,
            layers=2,
            heads=2,
            channels=16,
            dropout=dropout,
        )
    )
    return Trainer(model, cursor(), HELD_OUT, config, folder, on_sample)


def without_time(folder: Path) -> list[dict[str, Any]]:
    """The log without the column that no two runs share."""
    return [
        {k: v for k, v in line.items() if k != "seconds"}
        for line in read_log(folder)
    ]


def assert_same_run(a: Path, b: Path, but: Sequence[str] = ()) -> None:
    """Two folders hold the same run, to the last bit, but for settings."""
    for name in ("model", "optimizer"):
        one, two = (checkpoint_folder(run) for run in (a, b))
        file = f"{name}.safetensors"
        assert (one / file).read_bytes() == (two / file).read_bytes(), name
    states = [read_json(checkpoint_folder(f) / "state.json") for f in (a, b)]
    for state in states:
        for name in ("seconds", "log"):  # times have more digits or fewer
            del state["progress"]["notes"][name]
        for name in but:
            del state["config"]["training"][name]
    assert states[0] == states[1]
    assert without_time(a) == without_time(b)
    best, other = weights_file(a), weights_file(b)
    assert best == other
    assert (a / best).read_bytes() == (b / best).read_bytes()


# A process of its own: it crashes while evaluating, or it resumes.
PROGRAM = """
import os, runpy, sys, torch
from pathlib import Path
from types import SimpleNamespace
t = SimpleNamespace(**runpy.run_path(sys.argv[3]))
torch.set_num_threads(1)
folder = Path(sys.argv[2])
if sys.argv[1] == "crash":
    def crash(model, line):
        os._exit(9)
    t.make(folder, crash).fit()
else:
    t.Trainer.resume(folder, t.cursor(), t.HELD_OUT).fit()
"""


def process(what: str, folder: Path) -> int:
    """Run `PROGRAM` in a new process; returns its exit code."""
    arguments = [sys.executable, "-c", PROGRAM, what, str(folder), __file__]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, env=env, check=False).returncode


def test_crash_and_new_process_equal_one_run(tmp_path: Path) -> None:
    make(tmp_path / "whole").fit()
    # Saved at step 10, then gone in the middle of the evaluation.
    assert process("crash", tmp_path / "parts") == 9
    folder = checkpoint_folder(tmp_path / "parts")
    state = read_json(folder / "state.json")
    assert state["progress"]["step"] == 10
    assert process("resume", tmp_path / "parts") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "muon"},
        {"precision": "bfloat16", "schedule": "stable"},
        {"checkpoint_activations": True, "patience": 9},
    ],
)
def test_stop_and_resume_equals_one_run(
    tmp_path: Path, monkeypatch: Any, changes: dict[str, Any]
) -> None:
    make(tmp_path / "whole", steps=8, evaluate_every=3, **changes).fit()
    trainer = make(tmp_path / "parts", steps=8, evaluate_every=3, **changes)
    original = trainer.train_step

    def train_step() -> Any:
        line = original()
        if line["step"] == 5:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
        return line

    monkeypatch.setattr(trainer, "train_step", train_step)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"after step 5.*--resume --out"):
        trainer.fit()
    assert signal.getsignal(signal.SIGINT) is before
    again = Trainer.resume(tmp_path / "parts", cursor(), HELD_OUT)
    assert again.step == 5
    again.fit()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_watching_changes_nothing(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def watch(model: GPT, line: dict[str, Any]) -> None:
        torch.rand(100)
        seen.append((line["step"], model.training))

    make(tmp_path / "blind", steps=6, evaluate_every=2).fit()
    make(tmp_path / "seen", watch, steps=6, evaluate_every=2).fit()
    assert seen == [(2, False), (4, False), (6, False)]
    assert_same_run(tmp_path / "blind", tmp_path / "seen")


def test_log_and_folder(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=6, evaluate_every=4, snapshots=(0, 3, 6))
    best = trainer.fit()
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["tokens"] for line in lines] == [64 * s for s in range(1, 7)]
    scored = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in scored] == [4, 6]
    assert best == min(line["validation_loss"] for line in scored)
    assert lines[0]["train_loss"] == pytest.approx(math.log(VOCAB), abs=0.2)
    model = load_model(tmp_path)
    assert validation_loss(model, HELD_OUT, CONTEXT) == best
    names = sorted(p.name for p in (tmp_path / "snapshots").iterdir())
    assert names == [f"step-{s:06d}.safetensors" for s in (0, 3, 6)]
    assert load_model(tmp_path, snapshot=0).config == trainer.model.config
    assert read_json(tmp_path / "config.json") == json.loads(
        json.dumps(trainer.settings())
    )


def test_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    trainer = make(tmp_path, weight_decay=0.0, dropout=0.0, clip=1e9)
    schedule = make_schedule(trainer.config)
    for step in range(4):
        line = trainer.train_step()
        assert line["learning_rate"] == schedule.rate(step)
        for group in trainer.optimizers[0].param_groups:
            assert group["lr"] == pytest.approx(schedule.rate(step))
    assert schedule.rate(0) < schedule.rate(2)


def test_first_step_of_adam_is_the_learning_rate(tmp_path: Path) -> None:
    trainer = make(tmp_path, weight_decay=0.0)
    before = trainer.model.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    rate = trainer.train_step()["learning_rate"]
    for name, tensor in trainer.model.state_dict().items():
        moved = (tensor - before[name]).abs().max().item()
        assert moved == pytest.approx(rate, rel=1e-2), name


def test_accumulation_sees_one_large_batch(tmp_path: Path) -> None:
    two = make(tmp_path / "2", accumulate=2, dropout=0.0)
    one = make(tmp_path / "1", accumulate=1, dropout=0.0)
    batches = [cursor().next_batch() for _ in range(1)]
    source = cursor()
    batches = [source.next_batch() for _ in range(2)]
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    one.next_batch = lambda: (x, y)  # type: ignore[method-assign]
    a, b = one.train_step(), two.train_step()
    assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
    assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)
    assert a["tokens"] == b["tokens"]


def test_clips_before_stepping(tmp_path: Path) -> None:
    trainer = make(tmp_path, clip=1e-3)
    line = trainer.train_step()
    assert line["gradient_norm"] > 1e-3  # the log says what it was
    squares = sum(
        p.grad.square().sum().item() for p in trainer.model.parameters()
    )
    assert math.sqrt(squares) == pytest.approx(1e-3, rel=1e-3)


def test_nan_stops_and_spares_the_weights(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=9, evaluate_every=2, checkpoint_every=2)
    original = trainer.next_batch

    def next_batch() -> Any:
        if trainer.step == 3:
            with torch.no_grad():
                trainer.model.get_parameter(name).fill_(math.nan)
        return original()

    name = next(n for n, _ in trainer.model.named_parameters())
    trainer.next_batch = next_batch  # type: ignore[method-assign]
    why = r"step 4: loss nan.*rate too"
    with pytest.raises(NonFiniteLoss, match=why) as error:
        trainer.fit()
    text = str(error.value)  # names some parameters, and counts the rest
    assert text.count(" of ") == 3
    assert "more parameters" in text
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
    again = Trainer.resume(tmp_path, cursor(), HELD_OUT)
    assert again.step == 2
    assert again.fit() < 10


def test_patience(tmp_path: Path, monkeypatch: Any) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0, 1.0])
    monkeypatch.setattr(module, "validation_loss", lambda *a, **k: next(losses))
    trainer = make(tmp_path, steps=30, evaluate_every=1, patience=2)
    assert trainer.fit() == 2.0
    assert trainer.step == 4  # 2.5 and 2.0 were no better than 2.0
    best = load_model(tmp_path)
    last = list(trainer.model.parameters())
    assert not torch.equal(next(best.parameters()), last[0])


def test_another_run_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path, steps=1).fit()
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="another run"):
        make(tmp_path, steps=1).fit()
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_resume_before_the_first_step(tmp_path: Path) -> None:
    make(tmp_path / "a", steps=2).fit()
    make(tmp_path / "b", steps=2).begin()  # and the lights go out
    Trainer.resume(tmp_path / "b", cursor(), HELD_OUT).fit()
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_resume_of_a_finished_run(tmp_path: Path) -> None:
    best = make(tmp_path, steps=3).fit()
    lines = without_time(tmp_path)
    assert Trainer.resume(tmp_path, cursor(), HELD_OUT).fit() == best
    assert without_time(tmp_path) == lines


def test_resume_refuses_changed_settings(tmp_path: Path) -> None:
    make(tmp_path, steps=2).fit()
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"steps": 2', '"steps": 3'))
    with pytest.raises(CheckpointError, match=r"config\.json is not what seal"):
        Trainer.resume(tmp_path, cursor(), HELD_OUT)
    with pytest.raises(CheckpointError, match="steps: saved 2, now 3"):
        Trainer.resume(tmp_path, cursor(), HELD_OUT, verify=False)


def test_log_survives_a_torn_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    whole = '{"step": 1, "train_loss": 2.5, "seconds": 0.5}\n'
    log.write_text(whole + whole.replace("1", "2") + whole[:4])
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    for damaged in (
        whole + '{"step"\n',
        whole + '{"step": 2, "train_loss": 2.5}\n',
        whole.replace("1", '"1"'),
        whole.replace("2.5", "null"),
        whole.replace("}", ', "validation_loss": []}'),
        "[]\n",
        "3\n",
        '{"a": "\xff"}\n',
        "\n",
    ):
        log.write_bytes(damaged.encode("latin-1"))
        with pytest.raises(FileError, match=r"log\.jsonl:\d is damaged"):
            read_log(tmp_path)
    log.unlink()
    with pytest.raises(FileError, match=r"log\.jsonl is not there"):
        read_log(tmp_path)


class Constant(nn.Module):
    """The same logits everywhere, with dropout on them."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.dropout = nn.Dropout(0.9)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.logits.expand(*ids.shape, -1)
        return self.dropout(rows)


def test_validation_counts_tokens_not_batches() -> None:
    model = Constant([math.log(3), 0.0])  # 3/4 and 1/4
    tokens = np.array([0, 0, 0, 0, 0, 1])
    wanted = (4 * math.log(4 / 3) + math.log(4)) / 5
    for batch_size in (1, 7):
        got = validation_loss(model, tokens, 4, batch_size)
        assert got == pytest.approx(wanted, abs=1e-6)
    assert model.training
    exact = validation_loss(model, tokens[:5], 4)
    assert exact == pytest.approx(math.log(4 / 3), abs=1e-6)
    with pytest.raises(ValueError, match="takes two to predict"):
        validation_loss(model, tokens[:1], 4)
    model.eval()
    validation_loss(model, tokens, 2)
    assert not model.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be 1"),
        ({"accumulate": 0}, "accumulate"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"clip": math.nan}, "clip"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"warmup": -1}, "warmup must be 0"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"learning_rate": math.inf}, "finite"),
        ({"patience": 0}, "patience"),
        ({"schedule": "linear"}, "cosine or stable"),
        ({"optimizer": "sgd"}, "adamw or fused_adamw or muon"),
        ({"precision": "float16"}, "float32 or tf32 or bfloat16"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TrainConfig(steps=1), **changes)


def test_warmup_fits_into_a_short_run() -> None:
    schedule = make_schedule(TrainConfig(steps=4, warmup=100))
    rates = [schedule.rate(step) for step in range(4)]
    assert max(rates) == pytest.approx(3e-3)


def test_optimizers() -> None:
    config = gpt2_config(
        vocab_size=VOCAB, context=CONTEXT, layers=2, heads=2, channels=16
    )
    model = GPT(config)
    count = len(list(model.parameters()))
    for kind, number in (("adamw", 1), ("muon", 2)):
        made = make_optimizers(model, TrainConfig(steps=1, optimizer=kind))
        assert len(made) == number
        groups = [group for o in made for group in o.param_groups]
        assert sum(len(group["params"]) for group in groups) == count


def test_second_ctrl_c_stops_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_stop_request_outside_the_main_thread() -> None:
    def listen() -> None:
        with StopRequest() as stop:
            results.append(stop.before)

    results: list[Any] = []
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert results == [{}]


def test_tensorboard(tmp_path: Path) -> None:
    trainer = make(tmp_path / "a", steps=1)
    loud = Trainer(
        trainer.model,
        cursor(),
        HELD_OUT,
        trainer.config,
        tmp_path / "b",
        tensorboard=True,
    )
    loud.fit()
    events = list((tmp_path / "b" / "tensorboard").iterdir())
    assert len(events) == 1
    assert b"validation_loss" in events[0].read_bytes()


def test_tensorboard_that_is_not_there(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        tensorboard_writer()


# --- losses, token by token --------------------------------------------------


class Table(nn.Module):
    """Predicts from the last token alone, by a table of logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits[ids]


def random_gpt(dropout: float = 0.0) -> GPT:
    """A GPT that has an opinion."""
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(
            vocab_size=11,
            context=8,
            layers=2,
            heads=2,
            channels=16,
            dropout=dropout,
        )
    )
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return model


@given(st.integers(2, 60), st.integers(1, 12), st.data())
@settings(deadline=None, max_examples=60)
def test_every_token_is_scored_once(
    length: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context))
    scored: list[int] = []
    for begin, fresh, end in spans(length, context, stride):
        assert begin <= fresh < end <= begin + context
        if begin:  # with overlap, nothing is scored from too little
            assert fresh - begin >= context - stride
        scored += range(fresh + 1, end + 1)
    assert scored == list(range(1, length))


def test_a_text_that_cannot_be_scored_leaves_dropout_on() -> None:
    model = random_gpt(dropout=0.5).train()
    with pytest.raises(ValueError, match="it takes two"):
        token_losses(model, [1], CONTEXT)
    assert model.training


def test_spans_refuse_what_cannot_be() -> None:
    for length in (0, 1):
        with pytest.raises(ValueError, match="two to predict one"):
            list(spans(length, 4, 4))
    for stride in (0, 5):
        with pytest.raises(ValueError, match="never scored"):
            list(spans(8, 4, stride))


def test_batches_hold_windows_of_one_length() -> None:
    groups = list(span_batches(spans(24, 4, 4), 2))
    assert [len(group) for group in groups] == [2, 2, 1, 1]
    cuts = [cut for group in groups for cut in group]
    assert cuts == list(spans(24, 4, 4))
    for group in groups:
        assert len({end - begin for begin, _, end in group}) == 1


@pytest.mark.parametrize("stride", [None, 3, 1])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_a_table_needs_no_window(stride: int | None, batch_size: int) -> None:
    torch.manual_seed(1)
    table = torch.randn(7, 7)
    ids = torch.randint(7, (50,))
    wanted = -table.log_softmax(dim=1)[ids[:-1], ids[1:]]
    got = token_losses(Table(table), ids.numpy(), 5, batch_size, stride)
    assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("stride", [8, 5, 1])
def test_a_gpt_against_one_window_at_a_time(stride: int) -> None:
    model = random_gpt().eval()
    ids = torch.randint(11, (39,))
    got = token_losses(model, ids.tolist(), 8, 3, stride)
    wanted = []
    with torch.no_grad():
        for begin, fresh, end in spans(39, 8, stride):
            logs = model(ids[None, begin:end])[0].log_softmax(dim=-1)
            for i in range(fresh, end):
                wanted.append(-float(logs[i - begin, ids[i + 1]]))
    assert got.tolist() == pytest.approx(wanted, abs=1e-5)


def test_dropout_is_off_and_the_mode_kept() -> None:
    model = random_gpt(dropout=0.5)
    ids = list(range(11)) * 3
    for mode in (True, False):
        model.train(mode)
        first = token_losses(model, ids, 8)
        assert torch.equal(first, token_losses(model, ids, 8))
        assert model.training is mode
    assert not first.requires_grad


# --- waiting, rhythm, watching -----------------------------------------------


def test_a_step_waits_for_its_device_once(
    tmp_path: Path, monkeypatch: Any
) -> None:
    # Tensors on "meta" have no numbers: to look at one is an error.
    waits: list[str] = []

    def look(tensor: Tensor) -> list[float]:
        waits.append(tensor.device.type)
        return [1.0] * len(tensor)

    trainer = make(tmp_path, accumulate=3)
    far = Trainer(
        trainer.model.to("meta"),
        cursor(),
        HELD_OUT,
        replace(trainer.config, optimizer="muon"),
        tmp_path,
    )
    monkeypatch.setattr(Tensor, "tolist", look)
    for step in (1, 2):
        assert far.train_step()["step"] == step
    assert waits == ["meta", "meta"]


class Disk:
    """Tokens that tell how many of them were asked for at once."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens, self.asked = tokens, [0]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, places: slice) -> np.ndarray:
        found = self.tokens[places]
        self.asked.append(len(found))
        return found


def test_validation_reads_window_by_window_and_waits_once(
    monkeypatch: Any,
) -> None:
    disk, waits = Disk(HELD_OUT), []
    original = Tensor.cpu
    monkeypatch.setattr(
        Tensor, "cpu", lambda t: (waits.append(len(t)), original(t))[1]
    )
    got = token_losses(Table(torch.randn(VOCAB, VOCAB)), disk, CONTEXT, 3)
    assert len(got) == len(HELD_OUT) - 1
    assert max(disk.asked) == CONTEXT + 1
    assert waits == [len(HELD_OUT) - 1]


def test_evaluations_and_checkpoints_have_their_own_rhythm(
    tmp_path: Path, monkeypatch: Any
) -> None:
    trainer = make(tmp_path, steps=11, evaluate_every=4, checkpoint_every=3)
    saved: list[int] = []
    original = trainer.save

    def save() -> None:
        saved.append(trainer.step)
        original()

    monkeypatch.setattr(trainer, "save", save)
    trainer.fit()
    scored = [x["step"] for x in read_log(tmp_path) if "validation_loss" in x]
    assert scored == [4, 8, 11]
    assert saved == [0, 3, 6, 9, 11]


def test_a_resumed_run_evaluates_as_if_it_had_not_stopped(
    tmp_path: Path,
) -> None:
    rhythm = {"steps": 9, "evaluate_every": 2, "checkpoint_every": 5}
    make(tmp_path / "whole", **rhythm).fit()
    assert_crash_changes_nothing(tmp_path, rhythm, 6)


def assert_crash_changes_nothing(
    folder: Path, rhythm: dict[str, Any], step: int
) -> None:
    """Crash in the sample of a step, and go on from the checkpoint."""

    def crash(model: GPT, line: dict[str, Any]) -> None:
        if line["step"] == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder / "parts", crash, **rhythm).fit()
    again = Trainer.resume(folder / "parts", cursor(), HELD_OUT)
    assert again.step == 5
    again.fit()
    assert_same_run(folder / "whole", folder / "parts")


def test_a_validation_set_that_is_too_short_is_found_at_once(
    tmp_path: Path,
) -> None:
    trainer = make(tmp_path / "a")
    with pytest.raises(ValueError, match="1 tokens to validate with"):
        Trainer(
            trainer.model,
            cursor(),
            HELD_OUT[:1],
            trainer.config,
            tmp_path / "b",
        )
    assert not (tmp_path / "b").exists()


class Board:
    """What stands in for TensorBoard's writer."""

    made: ClassVar[list["Board"]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.purge_step, self.open = purge_step, True
        self.seen: list[tuple[str, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.seen.append((name, step))

    def close(self) -> None:
        self.open = False


def test_tensorboard_is_closed_and_forgets_lost_steps(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "tensorboard_writer", lambda: Board)
    Board.made.clear()
    rhythm = {"steps": 8, "evaluate_every": 6, "checkpoint_every": 4}
    trainer = make(tmp_path, **rhythm)
    trainer.writer = Board

    def crash(model: GPT, line: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    trainer.on_sample = crash
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    Trainer.resume(tmp_path, cursor(), HELD_OUT, tensorboard=True).fit()
    assert [board.open for board in Board.made] == [False, False]
    assert [board.purge_step for board in Board.made] == [1, 4]
    losses = [
        [step for name, step in board.seen if name == "train_loss"]
        for board in Board.made
    ]
    assert losses == [[1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]


def test_a_refused_run_gets_no_events(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=1)
    trainer.fit()
    again = make(tmp_path, steps=1)
    again.writer = Board
    Board.made.clear()
    with pytest.raises(FileExistsError):
        again.fit()
    assert not Board.made


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "fused_adamw"])
def test_timing_a_step_leaves_everything_as_it_was(
    tmp_path: Path, optimizer: Any
) -> None:
    trainer = make(tmp_path, optimizer=optimizer, accumulate=3)
    model, source = trainer.model, cursor()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state, place = torch.get_rng_state(), source.state_dict()
    config = replace(trainer.config, checkpoint_activations=True)
    assert 0 < seconds_per_step(model, source, config) < 5
    assert model.checkpoint_activations  # that is how it will train
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert source.state_dict() == place


def test_timing_a_step_holds_no_second_model(tmp_path: Path) -> None:
    config = gpt2_config(512, 16, 2, 2, 64)
    model, tokens = GPT(config), np.arange(999) % 512
    source = BatchCursor(tokens, 16, 1, seed=0)
    with PeakMemory() as memory:
        seconds_per_step(model, source, TrainConfig(steps=1))
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert memory.peak + weights < 1.05 * memory_estimate(config, 1).peak
    assert memory.held < 0.01 * weights


def test_auto_precision_is_settled_before_the_run(
    tmp_path: Path, monkeypatch: Any
) -> None:
    seen: list[Any] = []

    def measured(*arguments: Any) -> str:
        seen.append(arguments)
        return "bfloat16"

    monkeypatch.setattr(module, "fast_precision", measured)
    trainer = make(tmp_path, precision="auto")
    assert trainer.config.precision == "bfloat16"
    assert trainer.settings()["training"]["precision"] == "bfloat16"
    assert seen == [("cpu", 4 * CONTEXT, 16)]  # rows and channels of a step
    assert make(tmp_path, precision="float32").config.precision == "float32"
    assert len(seen) == 1


def test_blocks_are_compiled_where_asked(
    tmp_path: Path, monkeypatch: Any
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(
        nn.Module, "compile", lambda self: compiled.append(self)
    )
    trainer = make(tmp_path, compile=True)
    assert compiled == list(trainer.model.blocks)
    compiled.clear()
    make(tmp_path)
    assert not compiled


@pytest.mark.judge
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_a_compiled_run_learns_the_same(tmp_path: Path) -> None:
    settings = {"steps": 3, "dropout": 0.0}
    plain = make(tmp_path / "plain", **settings)
    fast = make(tmp_path / "fast", compile=True, **settings)
    assert fast.fit() == pytest.approx(plain.fit(), abs=1e-4)
    again = Trainer.resume(tmp_path / "fast", cursor(), HELD_OUT)
    assert again.config.compile


def test_fused_adamw_is_adamw(tmp_path: Path) -> None:
    rhythm = {"steps": 8, "evaluate_every": 3, "checkpoint_every": 5}
    ours = make(tmp_path / "ours", dropout=0.0, **rhythm)
    fused = make(
        tmp_path / "whole", dropout=0.0, optimizer="fused_adamw", **rhythm
    )
    assert fused.fit() == pytest.approx(ours.fit(), abs=1e-5)
    rhythm |= {"optimizer": "fused_adamw", "dropout": 0.0}
    assert_crash_changes_nothing(tmp_path, rhythm, 6)


def test_evaluation_runs_in_the_precision_of_the_run(
    tmp_path: Path, monkeypatch: Any
) -> None:
    trainer = make(tmp_path, steps=1, precision="bfloat16", dropout=0.0)
    best = trainer.fit()
    exact = validation_loss(trainer.model, HELD_OUT, CONTEXT)
    rough = validation_loss(
        trainer.model, HELD_OUT, CONTEXT, precision="bfloat16"
    )
    assert best == rough != exact


def test_the_floor_counts_what_is_scored() -> None:
    facts = {"entropy_nats": 30.0, "validation_tokens": 61}
    assert entropy_floor(facts) == 30.0 / (len(HELD_OUT) - 1)
    assert entropy_floor({"validation_tokens": 61}) is None


def test_words_to_choose_from_are_read_from_the_types() -> None:
    known = choices(TrainConfig)
    assert set(known) == {"schedule", "optimizer", "precision"}
    assert known["precision"] == ("auto", "float32", "tf32", "bfloat16")


def stopped_at(folder: Path, step: int, **changes: Any) -> Path:
    """A run that was stopped after a step, with its checkpoint there."""
    trainer = make(folder, checkpoint_every=step, **changes)
    original = trainer.finish_step

    def finish_step() -> None:
        if trainer.step == step:
            raise Interrupted
        original()

    trainer.finish_step = finish_step  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        trainer.fit()
    return folder


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_branch_of_a_stable_run_is_the_longer_run(
    tmp_path: Path, optimizer: str
) -> None:
    stable = {"schedule": "stable", "optimizer": optimizer}
    make(tmp_path / "long", steps=20, evaluate_every=4, **stable).fit()
    short = stopped_at(tmp_path / "short", 8, steps=12, **stable)
    before = {p: p.read_bytes() for p in short.rglob("*") if p.is_file()}
    long = make(tmp_path / "x", steps=20, evaluate_every=4, **stable).config
    assert same_rates(read_train_config(short), long, 8)
    branch = Trainer.branch(short, tmp_path / "b", long, cursor(), HELD_OUT)
    assert branch.step == 8
    branch.fit()
    a, b = (checkpoint_folder(tmp_path / name) for name in ("long", "b"))
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    losses = [
        [line["train_loss"] for line in read_log(tmp_path / name)]
        for name in ("long", "b")
    ]
    assert losses[0] == losses[1]
    assert read_train_config(tmp_path / "b") == long
    after = {p: p.read_bytes() for p in short.rglob("*") if p.is_file()}
    assert after == before


def test_a_branch_can_change_the_rate(tmp_path: Path) -> None:
    short = stopped_at(tmp_path / "a", 4, steps=6, snapshots=(0,))
    config = replace(read_train_config(short), learning_rate=1e-4, steps=7)
    assert not same_rates(read_train_config(short), config, 4)
    branch = Trainer.branch(short, tmp_path / "b", config, cursor(), HELD_OUT)
    branch.fit()
    lines = read_log(tmp_path / "b")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert lines[3]["learning_rate"] > 1e-3
    assert lines[4]["learning_rate"] < 1e-4
    assert load_model(tmp_path / "b").config == branch.model.config
    assert not (tmp_path / "b" / "snapshots").exists()


def test_what_a_branch_refuses(tmp_path: Path) -> None:
    source = stopped_at(tmp_path / "a", 4, steps=6)
    config = read_train_config(source)

    def branch(name: str, **changes: Any) -> Trainer:
        return Trainer.branch(
            source,
            tmp_path / name,
            replace(config, **changes),
            cursor(),
            HELD_OUT,
        )

    with pytest.raises(ValueError, match="cannot change optimizer and weight"):
        branch("b", optimizer="muon", weight_decay=0.5)
    with pytest.raises(ValueError, match="took 4 steps already"):
        branch("b", steps=4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(FileExistsError, match="full is not empty"):
        branch("full", steps=9)
    weights = checkpoint_folder(source) / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + b"\xff")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not"):
        branch("b", steps=9)
    assert not (tmp_path / "b").exists()
    weights.write_bytes(data)
    (tmp_path / "b.partial").mkdir()  # of a crash
    (tmp_path / "b.partial" / "rest").write_text("")
    (tmp_path / "b").mkdir()
    branch("b", steps=9).fit()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a", "b", "full"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_branch_that_is_broken_off_leaves_nothing(
    error: type[BaseException], tmp_path: Path, monkeypatch: Any
) -> None:
    source = stopped_at(tmp_path / "a", 4, steps=6)
    config = replace(read_train_config(source), steps=9)

    def stop(*_: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint_module, "write_seal", stop)
    with pytest.raises(error):
        Trainer.branch(source, tmp_path / "b", config, cursor(), HELD_OUT)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_branch_of_more_than_a_million_steps(
    tmp_path: Path, monkeypatch: Any
) -> None:
    old = TrainConfig(steps=1_100_000, schedule="stable", warmup=10)
    names = ["checkpoint/step-1100000/state.json"]
    names += ["stable/step-880000/state.json"]
    (tmp_path / "seal.json").write_text("")
    monkeypatch.setattr(module, "sealed_names", lambda *_: names)
    monkeypatch.setattr(checkpoint_module, "sealed_names", lambda *_: names)
    more = replace(old, steps=1_200_000)
    assert branch_part(tmp_path, old, more) == "stable"
    same = replace(old, clip=2.0)
    assert branch_part(tmp_path, old, same) == "checkpoint"


def test_a_branch_leaves_later_weights_behind(tmp_path: Path) -> None:
    """The best weights may come from after the checkpoint: not the branch's."""
    source = stopped_at(tmp_path / "a", 4, steps=9)
    model = make(tmp_path / "x").model
    keep_weights(source, "best", 6, model, alone=True)
    config = replace(read_train_config(source), steps=5)
    branch = Trainer.branch(source, tmp_path / "b", config, cursor(), HELD_OUT)
    assert weights_file(tmp_path / "b").startswith("checkpoint/")
    branch.fit()
    assert weights_file(tmp_path / "b").startswith("best/step-000005")


def test_a_best_loss_whose_weights_stay_behind_is_no_best_loss(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """The first best weights were replaced after the checkpoint."""
    losses = iter([3.0, 2.0, 2.5, 1.5])
    monkeypatch.setattr(Trainer, "judge", lambda _: next(losses))
    source = tmp_path / "a"
    make(source, evaluate_every=5, schedule="stable").fit()
    losses = iter([2.4, 2.1, 2.2])
    config = replace(read_train_config(source), steps=30)
    branch = Trainer.branch(source, tmp_path / "b", config, cursor(), HELD_OUT)
    assert branch.step == 16
    assert branch.fit() == 2.1
    assert weights_file(tmp_path / "b") == "best/step-000025.safetensors"


def test_a_branch_with_precision_left_open_can_be_resumed(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "fast_precision", lambda *_: "bfloat16")
    source = stopped_at(tmp_path / "a", 4, steps=6)
    config = replace(read_train_config(source), steps=7, precision="auto")
    place = tmp_path / "b"
    branch = Trainer.branch(source, place, config, cursor(), HELD_OUT)
    assert branch.config.precision == "bfloat16"
    Trainer.resume(place, cursor(), HELD_OUT).fit()
    assert len(read_log(place)) == 7


@pytest.mark.parametrize("seal", ["{}", None])
def test_a_run_that_lost_its_seal_goes_on_unverified(
    tmp_path: Path, seal: str | None
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "a"
    make(whole, steps=6, checkpoint_every=4).fit()
    stopped_at(run, 4, steps=6)
    inputs = ["tokenizer.json", "train.tokens", "validation.tokens"]
    for name in inputs:
        (run / name).write_text("{}")
    (run / "checkpoint" / "rest.partial").write_text("")  # of a crash
    (run / "seal.json").unlink()
    if seal:
        (run / "seal.json").write_text(seal)
    before = {p for p in run.rglob("*.*") if p.suffix != ".partial"}
    config = replace(read_train_config(run, verify=False), steps=7)
    with pytest.raises(CheckpointError, match="--no-verify"):
        Trainer.branch(run, tmp_path / "b", config, cursor(), HELD_OUT)
    Trainer.branch(
        run, tmp_path / "b", config, cursor(), HELD_OUT, verify=False
    )
    there = {path.name for path in (tmp_path / "b").iterdir()}
    assert {"config.json", "log.jsonl", "checkpoint", *inputs} <= there
    trainer = Trainer.resume(run, cursor(), HELD_OUT, verify=False)
    assert before <= set(run.rglob("*.*"))
    trainer.fit()
    assert_same_run(whole, run)
    Trainer.resume(run, cursor(), HELD_OUT)  # it has a seal again


def test_a_run_with_fields_of_long_ago_goes_on(tmp_path: Path) -> None:
    run = stopped_at(tmp_path / "a", 4, steps=6)

    def as_it_was(model: dict[str, Any]) -> None:
        model["post_norm"] = model.pop("norm_order") == "post"
        model["qk_norm"] = model["qk_norm"] != "none"
        del model["rope_original"]

    for path in (run / "config.json", checkpoint_folder(run) / "state.json"):
        saved = read_json(path)
        as_it_was(saved.get("config", saved)["model"])
        write_json(path, saved)
    Trainer.resume(run, cursor(), HELD_OUT, verify=False).fit()
    assert len(read_log(run)) == 6


def test_a_finished_stable_run_is_extended_from_before_its_decay(
    tmp_path: Path,
) -> None:
    """The checkpoint at the end of the stretch at the peak is kept."""
    make(tmp_path / "long", steps=30, schedule="stable").fit()
    short = tmp_path / "short"
    make(short, steps=20, schedule="stable", snapshots=(5,)).fit()
    assert checkpoint_folder(short, part="stable").name == "step-000016"
    assert checkpoint_folder(short).name == "step-000020"
    config = replace(read_train_config(short), steps=30)
    branch = Trainer.branch(short, tmp_path / "b", config, cursor(), HELD_OUT)
    assert branch.step == 16
    assert len(read_log(tmp_path / "b")) == 15  # the 16th comes with `fit`
    branch.fit()
    assert_same_run(tmp_path / "long", tmp_path / "b", but=["snapshots"])


def test_a_branch_that_is_another_run_goes_on_at_the_end(
    tmp_path: Path,
) -> None:
    source = tmp_path / "a"
    make(source, steps=6, schedule="stable").fit()
    config = replace(read_train_config(source), steps=9, learning_rate=1e-4)
    branch = Trainer.branch(source, tmp_path / "b", config, cursor(), HELD_OUT)
    assert branch.step == 6


# --- what a loop is easily wrong about ----------------------------------------


def test_every_optimizer_steps_at_the_rate_of_the_schedule(
    tmp_path: Path,
) -> None:
    trainer = make(tmp_path, optimizer="muon", weight_decay=0.0)
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    for step in range(3):
        trainer.train_step()
        rate = trainer.schedule.rate(step)
        for optimizer in trainer.optimizers:
            assert {g["lr"] for g in optimizer.param_groups} == {rate}
    for name, parameter in trainer.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_gradients_are_clipped_when_the_optimizer_sees_them(
    tmp_path: Path, monkeypatch: Any
) -> None:
    trainer = make(tmp_path, clip=1e-3, optimizer="muon")
    seen: list[float] = []

    def look(*_: Any) -> None:
        grads = [p.grad for p in trainer.model.parameters()]
        norms = torch.stack([g.norm() for g in grads if g is not None])
        seen.append(norms.norm().item())

    for optimizer in trainer.optimizers:
        optimizer.register_step_pre_hook(look)
    trainer.train_step()
    assert seen == pytest.approx([1e-3, 1e-3], rel=1e-3)


def test_no_gradient_is_left_from_the_step_before(tmp_path: Path) -> None:
    trainer = make(tmp_path, optimizer="muon", dropout=0.0, clip=1e9)
    batch = trainer.next_batch()
    trainer.next_batch = lambda: batch  # type: ignore[method-assign]
    for optimizer in trainer.optimizers:
        optimizer.step = lambda *_: None  # type: ignore[method-assign]
    norms = [trainer.train_step()["gradient_norm"] for _ in range(3)]
    assert norms == pytest.approx([norms[0]] * 3)


def test_every_step_trains_in_training_mode(tmp_path: Path) -> None:
    modes: list[bool] = []
    trainer = make(
        tmp_path, lambda *_: None, steps=6, evaluate_every=2, accumulate=1
    )
    trainer.model.eval()  # however it comes
    original = trainer.next_batch

    def next_batch() -> Any:
        modes.append(trainer.model.training)
        return original()

    trainer.next_batch = next_batch  # type: ignore[method-assign]
    trainer.fit()
    assert modes == [True] * 6


def test_patience_begins_anew_with_every_best(
    tmp_path: Path, monkeypatch: Any
) -> None:
    losses = iter([3.0, 4.0, 2.0, 5.0, 1.0, 9.0, 9.0, 0.0])
    monkeypatch.setattr(
        module, "validation_loss", lambda *a, **k: next(losses)
    )
    trainer = make(tmp_path, steps=30, evaluate_every=1, patience=2)
    assert trainer.fit() == 1.0
    assert trainer.step == 7


def test_the_best_weights_are_those_of_the_best_evaluation(
    tmp_path: Path, monkeypatch: Any
) -> None:
    losses = iter([3.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(
        module, "validation_loss", lambda *a, **k: next(losses)
    )
    trainer = make(tmp_path, steps=4, evaluate_every=1, snapshots=(2,))
    trainer.fit()
    wanted = load_model(tmp_path, snapshot=2).state_dict()
    for name, tensor in load_model(tmp_path).state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_and_evaluations_run_in_the_precision_asked_for(
    tmp_path: Path, precision: Any
) -> None:
    seen: list[tuple[bool, bool]] = []
    trainer = make(tmp_path, steps=1, precision=precision, accumulate=1)
    trainer.model.blocks[0].register_forward_pre_hook(
        lambda module, _: seen.append(
            (module.training, torch.is_autocast_enabled("cpu"))
        )
    )
    trainer.fit()
    low = precision == "bfloat16"
    assert set(seen) == {(True, low), (False, low)}


def test_settings_reach_the_optimizers_and_the_schedule() -> None:
    model = random_gpt()
    for kind in ("adamw", "fused_adamw", "muon"):
        config = TrainConfig(
            steps=100,
            optimizer=kind,  # type: ignore[arg-type]
            weight_decay=0.3,
            precision="bfloat16",
        )
        optimizers = make_optimizers(model, config)
        decays = {
            parameter: group["weight_decay"]
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for parameter in hidden_matrices(model):
            assert decays[parameter] == 0.3
        assert decays[model.token.weight] == 0.0
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                assert group.get("betas", (0.9, 0.95)) == (0.9, 0.95)
    assert optimizers[0].dtype == torch.bfloat16  # type: ignore[attr-defined]
    stable = make_schedule(TrainConfig(steps=100, schedule="stable"))
    assert stable == warmup_stable_decay(3e-3, 50, 100)
    curved = make_schedule(TrainConfig(steps=100))
    assert curved == cosine(3e-3, 50, 100)


def test_a_step_of_many_batches_is_timed_as_such(monkeypatch: Any) -> None:
    clock = iter([0.0, 50.0, 90.0, 100.0, 101.0, 103.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    model, config = random_gpt(), TrainConfig(steps=1, accumulate=5)
    source = BatchCursor(TOKENS % 11, CONTEXT, 4, seed=5)
    assert seconds_per_step(model, source, config) == 5 * 1.0 + 2.0


def test_a_step_taken_by_hand_has_no_line(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=3)
    trainer.train_step()
    trainer.fit()
    assert [line["step"] for line in read_log(tmp_path)] == [2, 3]
