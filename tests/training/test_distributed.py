"""Several processes take the step of one, and what they save is whole."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    allreduce_hook,
)
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from scratchlm.model.gpt import GPT, llama_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import distributed, memory
from scratchlm.training.checkpoint import load_model, pack_optimizers
from scratchlm.training.device import Prefetch, Sent
from scratchlm.training.distributed import (
    RankLost,
    RankTrainer,
    ShardTrainer,
    SummedLoss,
    Word,
    accumulate_over_ranks,
    all_targets,
    assist,
    drill,
    drill_model,
    drill_steps,
    dropout_seed,
    held_bytes,
    joined,
    launch,
    leading,
    load_shards,
    local,
    noticing,
    rank_bytes,
    ring_bytes,
    save_shards,
    shard,
    share,
    take_steps,
    whole,
)
from scratchlm.training.memory import IGNORED, accumulate_gradients
from scratchlm.training.scaling import use_mup
from scratchlm.training.trainer import (
    Interrupted,
    NonFiniteLoss,
    TrainConfig,
    Trainer,
    read_log,
    read_train_config,
)

Among = Callable[[int, Callable[[int], Any]], list[Any]]
TOKENS = np.random.default_rng(0).integers(11, size=300)
HELD_OUT = TOKENS[:31]


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process, which is this one."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def vector(model: nn.Module, gradient: bool = False) -> Tensor:
    """All weights, or all gradients, as one long vector."""
    return torch.cat(
        [
            whole(p.grad if gradient else p).detach().flatten()
            for p in model.parameters()
        ]
    )


def wrapped(way: str, ranks: int) -> nn.Module:
    """The drill's model, under DDP or under FSDP2."""
    if way == "DDP":
        return DistributedDataParallel(SummedLoss(drill_model()))
    return shard(drill_model(), init_device_mesh("cpu", (ranks,)))


def shares(rank: int, ranks: int, steps: int = 4) -> list[list[Any]]:
    """A rank's part of the steps of the drill."""
    return [
        [share(batch, rank, ranks) for batch in step]
        for step in drill_steps(steps)
    ]


# --- a step ------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 5, 6])
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_row_falls_to_one_rank(rows: int, ranks: int) -> None:
    ids = torch.arange(3 * rows).view(rows, 3)
    parts = [share((ids, -ids), rank, ranks) for rank in range(ranks)]
    got = torch.cat([part[0] for part in parts])
    assert sorted(got.tolist()) == ids.tolist()
    assert all(torch.equal(x, -y) for x, y in parts)
    sizes = [len(part[0]) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_rank_without_rows_is_refused() -> None:
    ids = torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="2 rows leaves some of 3"):
        share((ids, ids), 0, 3)


@pytest.mark.parametrize(("ranks", "way"), [(2, "DDP"), (3, "FSDP2")])
def test_a_step_is_that_of_one_process(
    ranks: int, way: str, among: Among
) -> None:
    batches = drill_steps(1)[0]
    alone = drill_model()
    loss = accumulate_gradients(alone, batches).item()
    wanted = vector(alone, gradient=True)

    def work(rank: int) -> tuple[float, list[float]]:
        with joined():
            model = wrapped(way, ranks)
            got = accumulate_over_ranks(model, shares(rank, ranks, 1)[0])
            return got.item(), vector(model, gradient=True).tolist()

    for got, gradient in among(ranks, work):
        assert got == pytest.approx(loss, abs=1e-6)
        assert (torch.tensor(gradient) - wanted).abs().max() < 1e-6


def test_gradients_travel_once_with_the_last(among: Among) -> None:
    def work(rank: int) -> tuple[int, bool]:
        trips: list[Tensor] = []

        def hook(group, bucket):  # type: ignore[no-untyped-def]
            trips.append(bucket.buffer().clone())
            return allreduce_hook(group, bucket)

        with joined():
            model = wrapped("DDP", 2)
            assert isinstance(model, DistributedDataParallel)
            model.register_comm_hook(None, hook)
            own = shares(rank, 2, 1)[0]
            accumulate_over_ranks(model, own)
            alone = SummedLoss(drill_model())
            for ids, targets in own:
                alone(ids, targets).backward()
            factor = 2 / all_targets(own)
            norm = factor * vector(alone, gradient=True).norm()
            return len(trips), torch.allclose(trips[-1].norm(), norm)

    assert among(2, work) == [(1, True), (1, True)]


def test_a_step_without_targets_is_refused_by_all(among: Among) -> None:
    def work(rank: int) -> bool:
        ids = torch.zeros(1, 4, dtype=torch.int64)
        with joined(), pytest.raises(ValueError, match="no target counts"):
            all_targets([(ids, torch.full_like(ids, IGNORED))])
        return True

    assert among(2, work) == [True, True]


@pytest.mark.usefixtures("alone")
def test_a_step_without_targets_is_refused_by_one() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="no target counts"):
        all_targets([(ids, torch.full_like(ids, IGNORED))])


def test_one_rank_may_have_nothing_to_predict(among: Among) -> None:
    def work(rank: int) -> int:
        ids = torch.zeros(1, 4, dtype=torch.int64)
        targets = ids if rank else torch.full_like(ids, IGNORED)
        with joined():
            return all_targets([(ids, targets)])

    assert among(2, work) == [4, 4]


def test_training_and_its_bytes(among: Among, tmp_path: Path) -> None:
    def work(rank: int) -> dict[str, dict[str, float]]:
        with joined():
            return drill(tmp_path)

    both = among(2, work)
    for found in both:
        for way in ("DDP", "FSDP2"):
            assert found[way]["difference"] < 1e-6
        for part in ("weights", "gradients", "moments"):
            assert found["DDP"][part] == found["alone"][part]
    for part in ("weights", "gradients", "moments"):
        divided = sum(found["FSDP2"][part] for found in both)
        assert divided == both[0]["alone"][part]
        assert both[0]["FSDP2"][part] < 0.6 * both[0]["alone"][part]


def test_the_drill_runs_with_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = distributed.meeting_place() | {"RANK": "0", "WORLD_SIZE": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    distributed.main(tmp_path)
    found = json.loads((tmp_path / "drill.json").read_text(encoding="utf-8"))
    assert found["FSDP2"]["difference"] < 1e-6
    sizes = [sum(list(parts.values())[1:]) for parts in found.values()]
    parameters = sum(p.numel() for p in drill_model().parameters())
    assert sizes == 3 * [rank_bytes(parameters, 1, 3)]


def test_bytes_by_formula() -> None:
    held = [[rank_bytes(10**6, n, stage) for n in (1, 8)] for stage in range(4)]
    assert [row[0] for row in held] == 4 * [16 * 10**6]
    assert [row[1] for row in held] == [16e6, 9e6, 5.5e6, 2e6]
    assert ring_bytes(8, 4) == 12
    assert ring_bytes(100, 1) == 0


# --- shards ------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [3, pytest.param(1, marks=pytest.mark.judge)])
def test_any_number_of_processes_goes_on(
    ranks: int, among: Among, tmp_path: Path
) -> None:
    def first(rank: int) -> None:
        with joined():
            model = wrapped("FSDP2", 2)
            own = shares(rank, 2)[:2]
            optimizer = take_steps(model, own, accumulate_over_ranks)
            save_shards(tmp_path / "shards", model, optimizer)

    def later(rank: int) -> list[float]:
        with joined():
            model = wrapped("FSDP2", ranks)
            nn.init.zeros_(next(model.parameters()))  # so loading shows
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
            load_shards(tmp_path / "shards", model, optimizer)
            own = shares(rank, ranks)[2:]
            take_steps(model, own, accumulate_over_ranks, optimizer)
            return vector(model).tolist()

    alone = drill_model()
    take_steps(alone, drill_steps(), accumulate_gradients)
    among(2, first)
    for found in among(ranks, later):
        assert (torch.tensor(found) - vector(alone)).abs().max() < 1e-6


@pytest.mark.usefixtures("alone")
def test_one_process_saves_and_goes_on(tmp_path: Path) -> None:
    steps = drill_steps()
    model = SummedLoss(drill_model())
    optimizer = take_steps(model, steps[:2], accumulate_over_ranks)
    save_shards(tmp_path, model, optimizer)
    take_steps(model, steps[2:], accumulate_over_ranks, optimizer)
    other = SummedLoss(drill_model())
    another = torch.optim.AdamW(other.parameters(), lr=1e-4)
    load_shards(tmp_path, other, another)
    take_steps(other, steps[2:], accumulate_over_ranks, another)
    assert torch.equal(vector(model), vector(other))


def test_one_file_of_them(among: Among, tmp_path: Path) -> None:
    def work(rank: int) -> list[float]:
        with joined():
            model = wrapped("FSDP2", 2)
            optimizer = take_steps(
                model, shares(rank, 2)[:1], accumulate_over_ranks
            )
            save_shards(tmp_path / "shards", model, optimizer)
            return vector(model).tolist()

    weights = torch.tensor(among(2, work)[0])
    dcp_to_torch_save(tmp_path / "shards", tmp_path / "one.pt")
    saved = torch.load(tmp_path / "one.pt", weights_only=True)["model"]
    model = SummedLoss(drill_model())
    model.load_state_dict(saved)
    assert torch.equal(vector(model), weights)


# --- the trainer -------------------------------------------------------------


def cursor() -> BatchCursor:
    """Batches of five windows."""
    return BatchCursor(TOKENS, 6, 5, seed=2)


def fresh(
    kind: type[Trainer],
    folder: Path,
    dropout: float = 0.0,
    tied: bool = False,
    **settings: Any,
) -> Trainer:
    """A trainer at the beginning of a run of six steps."""
    torch.manual_seed(8)
    shape = llama_config(11, 6, 1, 2, 8, hidden=8, dropout=dropout, tied=tied)
    model = GPT(shape)
    config = TrainConfig(
        steps=6, warmup=2, accumulate=2, evaluate_every=3, checkpoint_every=2
    )
    config = replace(config, **settings)
    return kind(model, cursor(), HELD_OUT, config, folder)


def taken_up(kind: type[Trainer], folder: Path) -> Trainer:
    """The trainer of a run as its checkpoint has it."""
    return kind.resume(folder, cursor(), HELD_OUT)


def ring(after: int) -> Callable[[Trainer], None]:
    """Ctrl-C after so many steps."""

    def plan(trainer: Trainer) -> None:
        step = trainer.train_step

        def train_step() -> dict[str, Any]:
            line = step()
            if line["step"] == after:
                signal.raise_signal(signal.SIGINT)
            return line

        trainer.train_step = train_step  # type: ignore[method-assign]

    return plan


def program(
    folder: Path,
    begin: Callable[[], Trainer],
    plan: Callable[[Trainer], None] = lambda trainer: None,
    helper: Callable[[Any], None] = lambda trainer: None,
    kind: type[RankTrainer] = RankTrainer,
) -> Callable[[int], str]:
    """What each process runs; tells how it ended."""

    def follow() -> RankTrainer:
        trainer = taken_up(kind, folder)
        helper(trainer)
        assert isinstance(trainer, RankTrainer)
        return trainer

    def work(rank: int) -> str:
        try:
            with joined():
                if rank:
                    assist(follow)
                    return "assisted"
                with leading():
                    trainer = begin()
                    plan(trainer)
                    trainer.fit()
        except (Interrupted, NonFiniteLoss, RankLost) as error:
            return type(error).__name__
        return "done"

    return work


def numbers(folder: Path) -> Tensor:
    """The log without the seconds: a row for each step."""
    return torch.tensor(
        [
            [
                v
                for k, v in line.items()
                if k not in ("seconds", "validation_loss")
            ]
            for line in read_log(folder)
        ],
        dtype=torch.float64,
    )


def test_two_train_as_one_and_three_go_on(among: Among, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fresh(Trainer, one).fit()
    work = program(two, lambda: fresh(RankTrainer, two), ring(3))
    assert among(2, work) == ["Interrupted", "assisted"]
    work = program(two, lambda: taken_up(RankTrainer, two))
    assert among(3, work) == ["done", "assisted", "assisted"]
    torch.testing.assert_close(numbers(two), numbers(one), atol=1e-5, rtol=0)
    got, wanted = vector(load_model(two)), vector(load_model(one))
    assert (got - wanted).abs().max() < 1e-5
    assert {p.name for p in two.iterdir()} == {p.name for p in one.iterdir()}


class Near:
    """A lane that leads nowhere: copies in the same memory."""

    def send(self, batch: Any) -> Any:
        return tuple(tensor.clone() for tensor in batch)

    def arrive(self, copies: Any) -> None:
        return None


def test_each_rank_sends_its_share_ahead(among: Among, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fresh(Trainer, one).fit()

    def ahead(rank: int) -> Callable[[Trainer], None]:
        def plan(trainer: Trainer) -> None:
            own = partial(share, rank=rank, ranks=2)
            sent: Any = Prefetch(trainer.train, Near(), own)
            first = sent.coming.result()
            assert len(first[0]) == 5
            assert len(first.there[0]) == 3 - rank  # no others travel
            trainer.train = sent

        return plan

    work = program(two, lambda: fresh(RankTrainer, two), ahead(0), ahead(1))
    assert among(2, work) == ["done", "assisted"]
    torch.testing.assert_close(numbers(two), numbers(one), atol=1e-5, rtol=0)
    got, wanted = vector(load_model(two)), vector(load_model(one))
    assert (got - wanted).abs().max() < 1e-5


@pytest.mark.usefixtures("alone")
def test_rows_that_were_sent_ahead_are_those_that_are_used(
    tmp_path: Path,
) -> None:
    trainer = fresh(RankTrainer, tmp_path / "run")
    x = torch.arange(6).view(3, 2)
    batch = Sent((x, x))
    batch.there = (x + 1, x + 2)
    assert trainer.rows(batch).there is batch.there
    assert not hasattr(trainer.rows((x, x)), "there")


@pytest.mark.usefixtures("alone")
def test_a_group_of_one_trains_as_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fresh(Trainer, one).fit()
    trainer = fresh(RankTrainer, two)
    ring(3)(trainer)
    with pytest.raises(Interrupted), leading():
        trainer.fit()
    with leading():
        taken_up(RankTrainer, two).fit()
    torch.testing.assert_close(numbers(two), numbers(one), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("alone")
def test_others_take_part_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    fresh(Trainer, folder).begin()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    words, made = iter([Word.STEP, Word.STEP, Word.END]), []
    monkeypatch.setattr(distributed, "agree", lambda: next(words))
    monkeypatch.setattr(dist, "get_rank", lambda group=None: 1)

    def make() -> RankTrainer:
        trainer = taken_up(RankTrainer, folder)
        assert isinstance(trainer, RankTrainer)
        made.append(trainer)
        return trainer

    assist(make)
    assert [trainer.step for trainer in made] == [2]
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert after == before
    drawn = torch.get_rng_state()
    torch.manual_seed(dropout_seed(1, 1))  # as for the last step
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_card_has_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(
        dist, "init_process_group", lambda name, timeout: calls.append(name)
    )
    monkeypatch.setattr(dist, "get_rank", lambda: 7)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with joined("cuda:7") as rank:
        assert rank == 7
    assert calls == ["cuda:7", "cpu:gloo,cuda:nccl"]


def test_dropout_goes_on_as_it_would_have(among: Among, tmp_path: Path) -> None:
    one, cut = tmp_path / "one", tmp_path / "cut"
    among(2, program(one, lambda: fresh(RankTrainer, one, 0.3)))
    among(2, program(cut, lambda: fresh(RankTrainer, cut, 0.3), ring(3)))
    among(2, program(cut, lambda: taken_up(RankTrainer, cut)))
    assert torch.equal(numbers(one), numbers(cut))


def test_each_rank_drops_other_values() -> None:
    seeds = {dropout_seed(step, rank) for step in range(9) for rank in range(9)}
    assert len(seeds) == 81


def before(trainer: Any, number: int, act: Callable[[], object]) -> None:
    """Let a trainer do something when so many steps are behind it."""
    step = trainer.train_step

    def train_step() -> Any:
        if trainer.step == number:
            act()
        return step()

    trainer.train_step = train_step


def killed(trainer: Any) -> None:
    """A process that ends in the middle of its run, without a word."""
    before(trainer, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_killed_rank_ends_the_run_and_it_goes_on(
    among: Among, tmp_path: Path
) -> None:
    folder, one = tmp_path / "run", tmp_path / "one"
    work = program(folder, lambda: fresh(RankTrainer, folder), helper=killed)
    assert among(2, work) == ["RankLost", "gone"]
    assert len(read_log(folder)) == 4
    taken_up(Trainer, folder).fit()
    fresh(Trainer, one).fit()
    torch.testing.assert_close(numbers(folder), numbers(one), atol=1e-5, rtol=0)


def test_all_stop_when_the_loss_is_no_number(
    among: Among, tmp_path: Path
) -> None:
    folder = tmp_path / "run"

    def spoil(trainer: Any) -> None:
        weight = trainer.model.head.weight
        before(trainer, 2, lambda: nn.init.constant_(weight, torch.nan))

    work = program(folder, lambda: fresh(RankTrainer, folder), spoil, spoil)
    assert among(2, work) == ["NonFiniteLoss", "assisted"]


def test_other_errors_are_no_lost_rank() -> None:
    with pytest.raises(RuntimeError, match="shapes"), noticing():
        raise RuntimeError("shapes do not fit")
    with pytest.raises(RankLost, match="train --resume"), noticing():
        raise RuntimeError("Connection closed by peer [127.0.0.1]:5")


def test_what_broke_a_connection_is_not_kept_quiet() -> None:
    words = "NCCL error in: a.cpp\nLast error: No space left on device (28)"
    with pytest.raises(RankLost, match=r"No space left.*\(28\)$"), noticing():
        raise RuntimeError(words)


# --- a model that no card holds ----------------------------------------------


def sharded(
    folder: Path,
    begin: Callable[[], Trainer] | None = None,
    plan: Callable[[Trainer], None] = lambda trainer: None,
    helper: Callable[[Any], None] = lambda trainer: None,
) -> Callable[[int], str]:
    """What each process of a divided model runs; it goes on, untold."""
    begin = begin or (lambda: taken_up(ShardTrainer, folder))
    return program(folder, begin, plan, helper, ShardTrainer)


def same(got: Path, wanted: Path) -> None:
    """Both runs have the same log, weights, moments and files."""
    torch.testing.assert_close(numbers(got), numbers(wanted), atol=1e-5, rtol=0)
    judged = [
        [line.get("validation_loss", 0.0) for line in read_log(run)]
        for run in (got, wanted)
    ]
    assert judged[0] == pytest.approx(judged[1], abs=1e-5)
    a, b = (taken_up(Trainer, run) for run in (got, wanted))
    assert (vector(a.model) - vector(b.model)).abs().max() < 1e-5
    moments, others = (pack_optimizers(t.model, t.optimizers) for t in (a, b))
    assert moments[1] == others[1]
    torch.testing.assert_close(moments[0], others[0], atol=1e-5, rtol=0)
    names = [
        sorted(path.relative_to(run).as_posix() for path in run.rglob("*"))
        for run in (got, wanted)
    ]
    assert names[0] == names[1]


SETTINGS = [
    {"snapshots": (0, 4, 6), "schedule": "stable"},
    {"optimizer": "fused_adamw"},
    {"checkpoint_activations": True},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_divided_model_trains_as_a_whole_one(
    settings: dict[str, Any], among: Among, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fresh(Trainer, one, **settings).fit()
    work = sharded(two, lambda: fresh(ShardTrainer, two, **settings))
    assert among(2, work) == ["done", "assisted"]
    same(two, one)


def test_a_divided_head_is_that_of_the_tokens_in_chunks_too(
    among: Among, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fresh(Trainer, one, tied=True).fit()
    monkeypatch.setattr(memory, "LOGITS_AT_ONCE", 40)  # past forward, by head
    work = sharded(two, lambda: fresh(ShardTrainer, two, tied=True))
    assert among(2, work) == ["done", "assisted"]
    same(two, one)


@pytest.mark.parametrize(
    ("settings", "near"),
    [
        pytest.param({"compile": True}, 1e-5, marks=pytest.mark.judge),
        ({"precision": "bfloat16"}, 1e-2),
    ],
)
def test_slices_may_be_compiled_or_rounded(
    settings: dict[str, Any], near: float, among: Among, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fresh(Trainer, one).fit()
    work = sharded(two, lambda: fresh(ShardTrainer, two, **settings))
    assert among(2, work) == ["done", "assisted"]
    torch.testing.assert_close(numbers(two), numbers(one), atol=near, rtol=0)
    config = read_train_config(two)
    assert all(getattr(config, name) == settings[name] for name in settings)


def with_mup(trainer: Trainer) -> Trainer:
    """A run whose groups have rates and decays of their own."""
    use_mup(trainer, trainer.model.config.channels // 4)
    return trainer


def test_rates_and_decays_of_groups_stay_with_the_slices(
    among: Among, tmp_path: Path
) -> None:
    """From the start, and in a run that one process has begun."""
    one, two, cut, run = (tmp_path / name for name in ("1", "2", "3", "4"))
    for folder in (one, cut):
        with_mup(fresh(Trainer, folder)).fit()
    work = sharded(two, lambda: with_mup(fresh(ShardTrainer, two)))
    assert among(2, work) == ["done", "assisted"]
    same(two, one)
    trainer = with_mup(fresh(Trainer, run))
    ring(3)(trainer)
    with pytest.raises(Interrupted):
        trainer.fit()
    assert among(2, sharded(run)) == ["done", "assisted"]
    same(run, cut)


@pytest.mark.parametrize("way", ["adamw", "fused_adamw"])
def test_slices_change_hands(way: str, among: Among, tmp_path: Path) -> None:
    one, run = tmp_path / "one", tmp_path / "run"
    fresh(Trainer, one, optimizer=way).fit()
    begin = partial(fresh, ShardTrainer, run, optimizer=way)
    assert among(2, sharded(run, begin, ring(1))) == ["Interrupted", "assisted"]
    work = sharded(run, plan=ring(3))  # with an evaluation that was cut off
    assert among(3, work) == ["Interrupted", *2 * ["assisted"]]
    replicas = program(run, lambda: taken_up(RankTrainer, run), ring(4))
    assert among(2, replicas) == ["Interrupted", "assisted"]
    assert among(2, sharded(run, plan=ring(5)))[0] == "Interrupted"
    taken_up(Trainer, run).fit()
    same(run, one)


def test_a_divided_model_drops_the_same_after_a_stop(
    among: Among, tmp_path: Path
) -> None:
    one, cut = tmp_path / "one", tmp_path / "cut"
    among(2, sharded(one, lambda: fresh(ShardTrainer, one, 0.3)))
    among(2, sharded(cut, lambda: fresh(ShardTrainer, cut, 0.3), ring(3)))
    among(2, sharded(cut))
    assert torch.equal(numbers(one), numbers(cut))
    pair = (vector(load_model(run)) for run in (one, cut))
    assert torch.equal(*pair)


def test_each_rank_holds_its_part(among: Among, tmp_path: Path) -> None:
    def weigh(trainer: Any) -> None:
        take = trainer.train_step

        def train_step() -> dict[str, Any]:
            line: dict[str, Any] = take()
            held = held_bytes(trainer.replica, trainer.optimizers[0])
            place = tmp_path / f"{dist.get_rank()}.json"
            place.write_text(json.dumps(held))
            return line

        trainer.train_step = train_step

    run = tmp_path / "run"
    begin = partial(fresh, ShardTrainer, run)
    assert among(2, sharded(run, begin, weigh, weigh))[0] == "done"
    both = [json.loads((tmp_path / f"{r}.json").read_text()) for r in range(2)]
    trainer = taken_up(Trainer, run)
    weights = 4 * sum(p.numel() for p in trainer.model.parameters())
    for part, size in (("weights", 1), ("gradients", 1), ("moments", 2)):
        held = [found[part] for found in both]
        assert sum(held) == size * weights
        assert max(held) < 0.52 * size * weights


def test_a_lost_slice_ends_the_run_and_it_goes_on(
    among: Among, tmp_path: Path
) -> None:
    run, one = tmp_path / "run", tmp_path / "one"
    begin = partial(fresh, ShardTrainer, run)
    assert among(2, sharded(run, begin, helper=killed)) == ["RankLost", "gone"]
    assert len(read_log(run)) == 4
    assert among(2, sharded(run)) == ["done", "assisted"]
    fresh(Trainer, one).fit()
    same(run, one)


def test_all_slices_stop_when_the_loss_is_no_number(
    among: Among, tmp_path: Path
) -> None:
    def spoil(trainer: Any) -> None:
        tell = trainer.describe_failure

        def plant() -> None:  # by now the model is in slices
            up = trainer.model.blocks[0].mlp.up
            local(up.weight.data).fill_(torch.nan)

        def describe_failure(loss: float, norm: float) -> str:
            text: str = tell(loss, norm)
            (tmp_path / str(dist.get_rank())).write_text(text)
            return text

        before(trainer, 2, plant)
        trainer.describe_failure = describe_failure

    run = tmp_path / "run"
    work = sharded(run, lambda: fresh(ShardTrainer, run), spoil, spoil)
    assert among(2, work) == ["NonFiniteLoss", "assisted"]
    said = {path.name: path.read_text() for path in tmp_path.glob("[01]")}
    assert "token.weight (88 of 88)" in said["0"]  # in all slices
    assert said["0"] == said["1"]
    among(2, sharded(run))
    assert len(read_log(run)) == 6


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("way", ["adamw", "fused_adamw"])
def test_slices_of_one_are_the_whole(way: str, tmp_path: Path) -> None:
    one, run = tmp_path / "one", tmp_path / "run"
    seen: list[Any] = []
    fresh(Trainer, one, optimizer=way).fit()
    trainer = fresh(ShardTrainer, run, optimizer=way)
    ring(3)(trainer)
    with pytest.raises(Interrupted), leading():
        trainer.fit()
    again = taken_up(ShardTrainer, run)
    again.on_sample = lambda model, line: seen.append(type(model.head.weight))
    with leading():
        again.fit()
    assert seen == 2 * [nn.Parameter]  # whoever samples has it whole
    assert isinstance(next(again.model.parameters()), DTensor)
    assert again.nonfinite() == []
    gradient = again.model.head.weight.grad
    assert gradient is not None
    local(gradient)[0, :3] = torch.nan
    assert again.nonfinite() == ["head.weight (3 of 88)"]
    same(run, one)


@pytest.mark.usefixtures("alone")
def test_other_ranks_begin_on_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    fresh(Trainer, folder).fit()
    monkeypatch.setattr(dist, "get_rank", lambda group=None: 1)
    done: list[Any] = []
    trainer: Any = taken_up(ShardTrainer, folder)
    assert trainer.step == 6
    assert (
        trainer.train.state_dict()
        == taken_up(Trainer, folder).train.state_dict()
    )
    assert all(p.is_meta for p in trainer.model.parameters())
    for name in ("train_step", "judge", "gather"):
        monkeypatch.setattr(trainer, name, lambda *word: done.append(word))
    for word in list(Word)[1:]:
        trainer.take_part(word)
    assert done == [(), (), (Word.GATHER,), (Word.SAVE,)]


def test_a_divided_model_refuses_muon(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Muon makes each update from a whole"):
        fresh(ShardTrainer, tmp_path / "run", optimizer="muon")


def test_a_divided_model_refuses_a_precision_left_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a precision"):
        fresh(ShardTrainer, tmp_path / "run", precision="auto")


def test_the_device_is_that_which_was_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"gloo": "cpu:gloo,cuda:gloo", "nccl": "cpu:gloo,cuda:nccl"}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    found = {}
    for name, words in known.items():
        monkeypatch.setattr(dist, "get_backend_config", lambda w=words: w)
        found[name] = str(distributed.own_device())
    assert found == {"gloo": "cpu", "nccl": "cuda:5"}


# --- starting several --------------------------------------------------------

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def test_each_process_is_told_who_it_is(tmp_path: Path) -> None:
    words = (
        "import os, pathlib, sys; names = sys.argv[2:]; "
        "pathlib.Path(sys.argv[1], os.environ['RANK'])"
        ".write_text(' '.join(os.environ[name] for name in names))"
    )
    launch(2, "-c", words, str(tmp_path), *NAMES)
    told = [(tmp_path / str(rank)).read_text().split() for rank in range(2)]
    assert [row[:4] for row in told] == [
        [str(rank), str(rank), "2", "127.0.0.1"] for rank in range(2)
    ]
    assert told[0][4] == told[1][4]


def test_a_process_that_fails_ends_the_others() -> None:
    words = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': sys.exit('no more')\n"
        "time.sleep(600)"
    )
    with pytest.raises(RuntimeError, match="no more"):
        launch(2, "-c", words)


def test_words_in_another_encoding_are_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with pytest.raises(RuntimeError, match="t fehlt"):
        launch(1, "-c", "raise SystemExit('Ger\\xe4t fehlt')")


# --- under torchrun itself ---------------------------------------------------

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
SMALL = ["train", "--preset", "tiny", "--characters", "20000", "--context"]
SMALL += ["16", "--vocab-size", "300", "--layers", "1", "--heads", "2"]
SMALL += ["--channels", "16", "--batch-size", "6", "--warmup", "2"]
SMALL += ["--precision", "float32", "--device", "cpu", "--sample-every", "0"]


@pytest.mark.judge
def test_torchrun_starts_the_drill(tmp_path: Path) -> None:
    module = ["-m", "scratchlm.training.distributed", str(tmp_path)]
    subprocess.run([*TORCHRUN, "--nproc-per-node", "3", *module], check=True)
    found = json.loads((tmp_path / "drill.json").read_text(encoding="utf-8"))
    assert max(found[way]["difference"] for way in ("DDP", "FSDP2")) < 1e-6


def train(
    folder: Path, processes: int, *options: str
) -> subprocess.Popen[bytes]:
    """The command, under torchrun where there are several processes."""
    start = [sys.executable]
    if processes > 1:
        start = [*TORCHRUN, "--nproc-per-node", str(processes)]
    command = [*start, "-m", "scratchlm", *options, "--out", str(folder)]
    return subprocess.Popen(command, cwd=folder.parent)


@pytest.mark.judge
@pytest.mark.parametrize(
    ("victim", "more"), [(0, []), (1, []), (1, ["--shard"])]
)
def test_a_kill_under_torchrun(
    tmp_path: Path, victim: int, more: list[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    plan = [*SMALL, "--steps", "400", "--checkpoint-every", "20"]
    assert train(one, 1, *plan).wait() == 0
    running = train(two, 2, *plan, *more)
    log = two / "log.jsonl"
    while not (log.exists() and log.read_bytes().count(b"\n") > 50):
        time.sleep(0.1)
        assert running.poll() is None
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    ranks = {
        int(words.split(b"=")[1]): int(child)
        for child in children.read_text().split()
        for words in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if words.startswith(b"RANK=")
    }
    os.kill(ranks[victim], signal.SIGKILL)
    assert running.wait(timeout=120) != 0
    assert len(read_log(two)) < 400
    again = ["train", "--resume", "--device", "cpu", *more]
    assert train(two, 2, *again).wait() == 0
    torch.testing.assert_close(numbers(two), numbers(one), atol=1e-3, rtol=0)
