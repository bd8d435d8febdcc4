"""What a device is given, how often it is waited for, and what it reaches."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from scratchlm.model.gpt import GPT, gpt2_config, llama_config
from scratchlm.model.heads import fused_attention
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import device as module
from scratchlm.training.device import (
    PEAKS,
    Lane,
    Prefetch,
    Sent,
    WaitCounter,
    compiled_graphs,
    device_seconds,
    disagreement,
    idle_share,
    prefetched,
    promised,
    tokens_per_second,
    two_clocks,
    utilization,
    wait_for,
)
from scratchlm.training.memory import accumulate_gradients, to_device
from scratchlm.training.scaling import operations
from scratchlm.training.trainer import TrainConfig, Trainer, seconds_per_step

META = torch.device("meta")
TOKENS = np.random.default_rng(0).integers(13, size=400)


def cursor(seed: int = 5) -> BatchCursor:
    """Batches whose epoch ends soon."""
    return BatchCursor(TOKENS, 8, 4, seed)


def small(**changes: Any) -> GPT:
    torch.manual_seed(3)
    config = gpt2_config(13, 8, layers=1, heads=2, channels=16)
    return GPT(replace(config, **changes))


# --- the queue ---------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    works=st.lists(st.floats(0.1, 9), min_size=1, max_size=20),
    launch=st.floats(0.1, 9),
    seed=st.integers(0, 99),
)
def test_a_timeline_keeps_its_order(
    works: list[float], launch: float, seed: int
) -> None:
    waits = set(np.flatnonzero(np.random.default_rng(seed).random(20) < 0.4))
    moments = two_clocks(works, launch, waits)
    free = 0.0
    for work, (put, begin, end) in zip(works, moments, strict=True):
        assert begin >= max(put, free)
        assert end == pytest.approx(begin + work)
        free = end
    total = moments[-1][2]
    assert total >= sum(works) + launch - 1e-9
    assert total >= two_clocks(works, launch)[-1][2] - 1e-9  # a wait costs
    everywhere = two_clocks(works, launch, range(len(works)))[-1][2]
    assert everywhere == pytest.approx(sum(works) + launch * len(works))
    assert 0 < idle_share(moments) < 1


def test_a_program_that_is_ahead_leaves_nothing_idle_but_the_start() -> None:
    moments = two_clocks([4.0] * 50, launch=1)
    assert moments[-1][2] == 1 + 50 * 4
    assert idle_share(moments) == pytest.approx(1 / 201)
    slow = two_clocks([1.0] * 50, launch=4)  # the program is the slower one
    assert slow[-1][2] == 50 * 4 + 1


ASKING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x.sum()),
    "an if": lambda x: bool(x.sum() > 0),
    "nonzero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
    "unique rows": lambda x: x.view(3, 1).unique(dim=0),
    "unique in order": lambda x: x.unique_consecutive(),
    "counts": lambda x: x.long().bincount(),
}
SILENT: dict[str, Callable[[Tensor], object]] = {
    "a sum": lambda x: x.sum(),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "places": lambda x: x[torch.tensor([0, 1], device=x.device)],
    "a shape": lambda x: x.shape[0] if x.numel() else 0,
    "a view": lambda x: x.view(3, 1).T,
}


@pytest.mark.parametrize("name", [*ASKING, *SILENT])
def test_it_counts_where_torchs_own_fake_tensors_have_no_answer(
    name: str,
) -> None:
    program = (ASKING | SILENT)[name]
    with FakeTensorMode():  # its first one takes some seconds
        fake = torch.ones(3)
        try:
            program(fake)
            judged = False
        except (DataDependentOutputException, DynamicOutputShapeException):
            judged = True
    with WaitCounter() as counter:
        try:
            program(torch.ones(3, device=META))
        except NotImplementedError:  # the size of the result is unknown
            assert counter.waits
    assert bool(counter.waits) == judged == (name in ASKING)


def test_copies_between_the_memories_are_waited_for_unless_told() -> None:
    here, there = torch.zeros(2), torch.zeros(2, device=META)
    with WaitCounter() as counter:
        assert there.tolist() == [1.0, 1.0]
        assert there.cpu().tolist() == [1.0, 1.0]
        assert torch.empty(2).copy_(there).tolist() == [1.0, 1.0]
        here.to(META)
        there.copy_(here)
        assert len(counter.waits) == 5
        here.to(META, non_blocking=True)
        there.copy_(here, non_blocking=True)
        assert there.to("cpu", non_blocking=True).tolist() == [1.0, 1.0]
        assert here.copy_(there, non_blocking=True).tolist() == [1.0, 1.0]
        here.double()
        there.double()
        there.clone().copy_(there)
    assert counter.waits == [*2 * ["_to_copy"], "copy_", "_to_copy", "copy_"]


def test_writing_by_a_mask_is_waited_for_unless_it_fills() -> None:
    x = torch.ones(3, device="meta")
    mask, values = x > 0, torch.ones(2, device="meta")
    with WaitCounter() as counter:
        x[mask] = values
    assert counter.waits == ["index_put_"]
    with WaitCounter() as counter:
        x[mask] = 0.0
        x[torch.zeros(2, dtype=torch.int64, device="meta")] = values
    assert counter.waits == []


def test_views_memory_and_the_processor_are_no_work_for_the_device() -> None:
    x, y = torch.ones(4, device=META), torch.ones(4)
    with WaitCounter() as counter:
        x.view(2, 2).T.detach()
        torch.empty(3, device=META)
        torch.empty_like(x)
        assert (y * 2).sum().item() == 8  # the processor's own
        assert counter.operations == 0
        assert counter.waits == []
        torch.zeros(3, device=META)
        (x * 2).add_(1)
    assert counter.operations == 3


def far_trainer(folder: Path, kind: type[Trainer] = Trainer) -> Trainer:
    """A trainer on a device without numbers, two batches to a step."""
    config = TrainConfig(steps=9, warmup=1, accumulate=2)
    return kind(small().to(META), cursor(), TOKENS[:30], config, folder)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_step_waits_once_for_each_line_of_its_log(
    tmp_path: Path, optimizer: Any
) -> None:
    trainer = far_trainer(tmp_path)
    config = replace(trainer.config, optimizer=optimizer)
    trainer = Trainer(trainer.model, cursor(), TOKENS[:30], config, tmp_path)
    for step in (1, 2):
        with WaitCounter() as counter:
            line = trainer.train_step()
        assert line["step"] == step
        assert counter.waits == ["_to_copy"]
        assert counter.operations > 100


class Curious(Trainer):
    """Looks at the loss of every batch."""

    def accumulate(self, batches: Any) -> Tensor:
        for batch in batches:
            loss = accumulate_gradients(self.model, [batch])
            loss.item()
        return loss


def test_an_item_in_the_loop_is_counted(tmp_path: Path) -> None:
    trainer = far_trainer(tmp_path, Curious)
    with WaitCounter() as counter:
        trainer.train_step()
    assert counter.waits == [*2 * ["_local_scalar_dense"], "_to_copy"]


def test_targets_counted_on_the_device_are_waited_for() -> None:
    ids, targets = cursor().next_batch()
    model = small().to(META)
    with WaitCounter() as counter:
        accumulate_gradients(model, [(ids.to(META), targets.to(META))])
    assert "_local_scalar_dense" in counter.waits


# --- the stopwatch -----------------------------------------------------------


def test_the_clock_is_read_when_the_device_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, due = [0.0], [0.0]  # now, and when the device will be done

    def work() -> None:
        clock[0] += 0.001  # the program puts it into the queue
        due[0] = clock[0] + 2.0

    def synchronize(device: torch.device) -> None:
        assert device == META
        clock[0] = max(clock[0], due[0])

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    assert device_seconds(work, META) == pytest.approx(2.001)
    due[0] = 100.0  # work from before does not count
    assert device_seconds(work, META, turns=1) == pytest.approx(2.001)
    wait_for(torch.device("cpu"))  # is done, always


# --- batches ahead of time ---------------------------------------------------


class Note:
    """A lane that writes down what it is told; "there" is a copy."""

    def __init__(self) -> None:
        self.sent: list[tuple[Tensor, Tensor]] = []
        self.arrived = 0

    def send(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.sent.append(batch)
        return batch[0].clone(), batch[1].clone()

    def arrive(self, copies: tuple[Tensor, Tensor]) -> None:
        known = any(torch.equal(copies[0], ids) for ids, _ in self.sent)
        self.arrived += known


def test_the_batches_are_those_of_the_cursor() -> None:
    plain, lane = cursor(), Note()
    ahead = Prefetch(cursor(), lane)
    assert (ahead.batch_size, ahead.context) == (4, 8)
    for count in range(30):  # some epochs
        sent, wanted = ahead.next_batch(), plain.next_batch()
        assert lane.arrived == count + 1
        for mine, there, right in zip(sent, sent.there, wanted, strict=True):
            assert torch.equal(mine, right)
            assert torch.equal(there, right)
        assert ahead.state_dict() == plain.state_dict()


@pytest.mark.parametrize("steps", [0, 1, 7, 12])
def test_the_state_is_that_of_the_batch_that_was_taken(steps: int) -> None:
    plain, ahead = cursor(), Prefetch(cursor(), Note())
    for _ in range(steps):
        plain.next_batch()
        ahead.next_batch()
    again = cursor()
    again.load_state_dict(ahead.state_dict())
    assert torch.equal(again.next_batch()[0], plain.next_batch()[0])


def test_it_can_be_set_back() -> None:
    ahead = Prefetch(cursor(), Note())
    start = ahead.state_dict()
    first = [ahead.next_batch()[0] for _ in range(3)]
    ahead.load_state_dict(start)
    assert ahead.state_dict() == start
    for wanted in first:
        assert torch.equal(ahead.next_batch()[0], wanted)


def test_the_next_batch_is_made_while_the_program_is_elsewhere() -> None:
    lane, made = Note(), threading.Event()
    original = lane.send

    def send(batch: Any) -> Any:
        made.set()
        return original(batch)

    lane.send = send  # type: ignore[method-assign]
    ahead = Prefetch(cursor(), lane)
    assert made.wait(10)  # nobody has asked for a batch
    made.clear()
    ahead.next_batch()
    assert made.wait(10)


def test_an_error_of_the_thread_reaches_the_program() -> None:
    class Broken(BatchCursor):
        def next_batch(self) -> tuple[Tensor, Tensor]:
            raise OSError("the disk is gone")

    ahead = Prefetch(Broken(TOKENS, 8, 4, 0), Note())
    with pytest.raises(OSError, match="disk"):
        ahead.next_batch()
    with pytest.raises(ValueError, match="seed"):  # and it can be set back
        ahead.load_state_dict(cursor(seed=1).state_dict())


def test_a_run_with_it_is_the_same_run_and_resumes(tmp_path: Path) -> None:
    runs = {}
    for name in ("plain", "ahead"):
        config = TrainConfig(
            steps=6, warmup=1, evaluate_every=6, checkpoint_every=3
        )
        model = small()
        batches: Any = cursor()
        if name == "ahead":
            batches = Prefetch(batches, Note())
        folder = tmp_path / name
        trainer = Trainer(model, batches, TOKENS[:30], config, folder)
        trainer.begin()
        losses = [trainer.train_step()["train_loss"] for _ in range(3)]
        trainer.save()
        if name == "ahead":
            batches = Prefetch(cursor(), Note())
            trainer = Trainer.resume(folder, batches, TOKENS[:30])
        losses += [trainer.train_step()["train_loss"] for _ in range(3)]
        runs[name] = losses
    assert runs["ahead"] == runs["plain"]


def test_timing_a_step_gives_the_batches_back() -> None:
    ahead = Prefetch(cursor(), Note())
    seconds = seconds_per_step(small(), ahead, TrainConfig(steps=1))  # type: ignore[arg-type]
    assert seconds > 0
    assert torch.equal(ahead.next_batch()[0], cursor().next_batch()[0])


def test_a_sent_batch_costs_no_wait_and_no_second_copy(tmp_path: Path) -> None:
    class Far(Note):
        def send(self, batch: Any) -> Any:
            self.sent.append(batch)
            return tuple(t.to(META, non_blocking=True) for t in batch)

        def arrive(self, copies: Any) -> None:
            self.arrived += copies[0].is_meta

    trainer = far_trainer(tmp_path)
    ahead = Prefetch(cursor(), Far())
    trainer.train = ahead  # type: ignore[assignment]
    batch = ahead.next_batch()
    assert isinstance(batch, Sent)
    assert to_device(batch, META) is batch.there
    with WaitCounter() as counter:
        line = trainer.train_step()
    assert counter.waits == ["_to_copy"]
    assert line["tokens"] == 2 * 4 * 8
    assert ahead.lane.arrived == 3  # type: ignore[attr-defined]


class FakeCard:
    """What `Lane` asks of CUDA, written down."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.inside = False
        patch.setattr(torch.cuda, "Stream", self.make)
        patch.setattr(torch.cuda, "stream", self.enter)
        patch.setattr(torch.cuda, "current_stream", lambda device: self)
        patch.setattr(Tensor, "pin_memory", self.pin)
        patch.setattr(Tensor, "record_stream", self.record)
        patch.setattr(Tensor, "to", self.copy)

    def make(self, device: torch.device) -> str:
        self.said.append("a stream")
        return "side"

    @contextmanager
    def enter(self, stream: str) -> Iterator[None]:
        assert stream == "side"
        self.inside = True
        yield
        self.inside = False

    def wait_stream(self, stream: str) -> None:
        self.said.append(f"main waits for {stream}")

    def pin(self, tensor: Tensor) -> Tensor:
        assert not self.inside
        self.said.append("pinned")
        return tensor

    def record(self, tensor: Tensor, stream: "FakeCard") -> None:
        assert stream is self
        self.said.append("main reads it")

    def copy(
        self, tensor: Tensor, device: torch.device, non_blocking: bool
    ) -> Tensor:
        assert self.inside
        assert non_blocking
        self.said.append("copied")
        return tensor.clone()


def test_a_lane_copies_beside_and_the_main_queue_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        card = FakeCard(patch)
        # bound methods take no tensor: hand it over
        for name in ("pin_memory", "record_stream", "to"):
            method = getattr(Tensor, name)
            patch.setattr(
                Tensor, name, lambda t, *a, m=method, **k: m(t, *a, **k)
            )
        ahead = prefetched(cursor(), torch.device("cuda"))
        batch = ahead.next_batch()
        ahead.coming.result()
    assert isinstance(ahead.lane, Lane)
    assert torch.equal(batch.there[0], cursor().next_batch()[0])
    sending = ["pinned", "pinned", "copied", "copied"]
    said = iter(card.said)
    assert [next(said) for _ in range(8)] == [
        "a stream",
        *sending,
        "main waits for side",
        *2 * ["main reads it"],
    ]
    assert list(said) == sending  # the second batch


def test_where_no_card_is_the_cursor_stays_as_it_is() -> None:
    plain = cursor()
    for name in ("cpu", "mps"):
        assert prefetched(plain, torch.device(name)) is plain


# --- what is reached ---------------------------------------------------------


def test_devices_are_known_by_what_torch_calls_them() -> None:
    for name, peak in {
        "NVIDIA A100-SXM4-80GB": 312e12,
        "NVIDIA A100 80GB PCIe": 312e12,
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756e12,
        "NVIDIA H100 NVL": 835e12,
        "NVIDIA GeForce RTX 4090": 165e12,
        "NVIDIA L40S": 362e12,
        "AMD Instinct MI300X": 1300e12,
    }.items():
        assert promised(name) == peak
    assert promised("NVIDIA GeForce GTX 1080") is None
    for other in (
        "NVIDIA RTX A1000",
        "NVIDIA GB200",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    ):
        assert promised(other) is None
    assert promised("NVIDIA H200 NVL") < promised("NVIDIA H200")
    assert all(promised(name) == peak for name, peak in PEAKS.items())


def test_utilization_is_what_the_paper_computes() -> None:
    config = gpt2_config(50304, 1024, 12, 12, 768)
    # Appendix B: (6 N + 12 L H Q T) R / P, here with N the multiplied ones
    weights = 12 * 12 * 768**2 + 50304 * 768
    wanted = (6 * weights + 12 * 12 * 12 * 64 * 1024) * 1e5 / 312e12
    assert utilization(config, 1e5, 312e12) == pytest.approx(wanted)
    assert utilization(config, 312e12 / sum(operations(config).values()), 1) > 1
    for peak in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="peak"):
            utilization(config, 1.0, peak)


def test_a_rate_needs_two_lines_and_time() -> None:
    log = [{"tokens": 10 * n, "seconds": 9 + 0.5 * n} for n in range(5)]
    assert tokens_per_second(log) == pytest.approx(20)
    with pytest.raises(ValueError, match="1 lines"):
        tokens_per_second(log[:1])
    with pytest.raises(ValueError, match="time"):
        tokens_per_second([log[0], log[0]])


# --- is it the same run? -----------------------------------------------------


def test_a_device_agrees_with_itself_and_the_model_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small(dropout=0.5)
    batch = cursor().next_batch()
    gaps = disagreement(model, batch, "cpu")
    assert set(gaps) == {"loss", *(n for n, _ in model.named_parameters())}
    assert set(gaps.values()) == {0.0}
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("spoiled", [1.5, float("nan"), float("inf")])
def test_a_wrong_gradient_is_named(
    spoiled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = module.accumulate_gradients, [0]

    def wrong(model: GPT, batches: Any) -> Tensor:
        loss = original(model, batches)
        calls[0] += 1
        if calls[0] == 2:  # on the device
            grad = model.head.weight.grad
            assert grad is not None
            grad[0, 0] += spoiled * grad.abs().max()
        return loss

    monkeypatch.setattr(module, "accumulate_gradients", wrong)
    gaps = disagreement(small(tied=False), cursor().next_batch(), "cpu")
    worst = max(gaps, key=lambda name: gaps[name])
    assert worst == "head.weight"
    if spoiled == 1.5:
        assert gaps[worst] == pytest.approx(1.5)
    else:
        assert gaps[worst] == float("inf")
    assert sorted(gaps.values())[-2] == 0


# --- what the compiler sees --------------------------------------------------


@pytest.mark.always
def test_graphs_breaks_and_compiling_again_are_counted() -> None:
    def whole(x: Tensor) -> Tensor:
        return (x * 2).relu().sum()

    def broken(x: Tensor) -> Tensor:
        y = x * 2
        if y.sum() > 0:  # nobody knows, before it has run
            y = y + 1
        return y.relu()

    assert compiled_graphs(whole, [(torch.ones(3),)]) == [3]
    assert compiled_graphs(broken, [(torch.ones(3),)]) == [3, 2]
    calls = [(torch.ones(n),) for n in (3, 3, 4, 5, 6)]
    assert len(compiled_graphs(whole, calls)) == 2  # once more, for any n


def test_our_blocks_are_one_graph_at_every_length() -> None:
    for config in (
        gpt2_config(13, 16, 1, 2, 8),
        llama_config(13, 16, 1, 2, 8, kv_heads=1),
    ):
        block = GPT(config).blocks[0]
        calls = [(torch.randn(2, n, 8),) for n in (5, 6, 7)]
        sizes = compiled_graphs(block, calls)
        assert len(sizes) == 2
        assert sizes[0] == sizes[1]


def test_attention_is_the_same_compiled() -> None:
    compiled = torch.compile(fused_attention, backend="eager")
    for queries, keys in ((4, 4), (1, 4), (3, 7), (5, 5), (1, 1)):
        q, k, v = (torch.randn(1, 2, n, 4) for n in (queries, keys, keys))
        torch.testing.assert_close(compiled(q, k, v), fused_attention(q, k, v))
    torch.compiler.reset()
