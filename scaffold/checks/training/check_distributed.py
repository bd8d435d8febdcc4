"""What a step of several processes must do."""

import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.files import read_json
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import distributed
from scratchlm.training.checkpoint import checkpoint_folder, read_tensors
from scratchlm.training.trainer import TrainConfig, Trainer, read_log

from ..expect import close, equal, raises, true
from ..inputs import scattered

FUNCTIONS = ("all_reduce", "get_rank", "get_world_size", "is_initialized")


class Ranks:
    """Ranks that are threads: no process starts, no port is opened."""

    def __init__(self, count: int) -> None:
        self.count, self.me = count, threading.local()
        self.meeting = threading.Barrier(count, timeout=30)
        self.shown: list[Tensor] = [torch.zeros(())] * count

    def get_rank(self, group: Any = None) -> int:
        """Which thread asks."""
        rank: int = self.me.rank
        return rank

    def get_world_size(self, group: Any = None) -> int:
        """How many threads there are."""
        return self.count

    def is_initialized(self) -> bool:
        """Threads need not meet first."""
        return True

    def all_reduce(self, tensor: Tensor, *args: Any, **options: Any) -> None:
        """The sum of what all threads hold, in place."""
        self.shown[self.me.rank] = tensor.detach().clone()
        self.meeting.wait()
        total = torch.stack(self.shown).sum(dim=0)
        self.meeting.wait()
        tensor.detach().copy_(total)

    def start(self, rank: int, work: Callable[[int], Any]) -> Any:
        """One thread's part; an error lets the others go."""
        self.me.rank = rank
        try:
            return work(rank)
        except Exception:
            self.meeting.abort()
            raise

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What `work` returns on each rank."""
        fakes = {name: getattr(self, name) for name in FUNCTIONS}
        with (
            mock.patch.multiple(dist, **fakes),
            ThreadPoolExecutor(self.count) as pool,
        ):
            jobs = [pool.submit(self.start, r, work) for r in range(self.count)]
            errors = [job.exception() for job in jobs]
        for error in errors:
            if error and not isinstance(error, threading.BrokenBarrierError):
                raise error
        return [job.result() for job in jobs]


class Replica(DistributedDataParallel):
    """What DDP does, for threads: its forward decides about its backward."""

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        nn.Module.__init__(self)
        self.module, self.ranks, self.trips = module, ranks, 0
        self.require_backward_grad_sync, self.due = True, True
        for parameter in module.parameters():
            parameter.register_post_accumulate_grad_hook(self.travel)

    def forward(self, *inputs: Any) -> Any:
        """Compute, and note whether gradients are to travel."""
        self.due = self.require_backward_grad_sync
        return self.module(*inputs)

    def travel(self, parameter: Tensor) -> None:
        """The mean of a gradient over the ranks."""
        if self.due and parameter.grad is not None:
            self.trips += 1
            self.ranks.all_reduce(parameter.grad)
            parameter.grad /= self.ranks.count


class Tally(nn.Module):
    """Two logits, the same for every position, and their loss, summed."""

    def __init__(self, odds: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, math.log(odds)]))

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Minus the logarithms of the targets' probabilities."""
        return -self.logits.log_softmax(-1)[targets[targets >= 0]].sum()


def piece(*targets: int) -> tuple[Tensor, Tensor]:
    """A micro-batch of one row: targets that count, then hidden ones."""
    row = torch.tensor([[*targets, *[-100] * (4 - len(targets))]])
    return torch.zeros_like(row), row


# Token 0 is a target three times, token 1 five times.
UNEVEN = [[piece(0), piece(1, 1)], [piece(1, 1, 1), piece(0, 0)]]


def step(odds: float = 1.0) -> list[tuple[Tensor, float, int]]:
    """Gradient, loss, and how often gradients travelled, on each rank."""
    ranks = Ranks(2)

    def work(rank: int) -> tuple[Tensor, float, int]:
        model = Replica(Tally(odds), ranks)
        loss = distributed.accumulate_over_ranks(model, UNEVEN[rank])
        gradient = model.module.logits.grad
        return gradient, float(loss), model.trips

    return ranks.run(work)


def check_every_row_falls_to_one_rank() -> None:
    """Seven rows on three ranks: each row once, none twice."""
    ids = torch.arange(7)[:, None]
    parts = [distributed.share((ids, -ids), rank, 3) for rank in range(3)]
    equal(
        sorted(row for x, _ in parts for row in x.flatten().tolist()),
        list(range(7)),
        "the rows of all ranks together",
        hint="a rank that ignores its number reads what others read",
    )
    equal(
        [(-y).flatten().tolist() for _, y in parts],
        [x.flatten().tolist() for x, _ in parts],
        "the rows of the targets, and those of the ids",
    )
    raises(
        ValueError,
        lambda: distributed.share((ids, ids), 0, 8),
        "seven rows for eight ranks",
    )


def check_every_token_weighs_the_same() -> None:
    """Pieces of 1, 2, 3 and 2 targets weigh 1, 2, 3 and 2."""
    for rank, (gradient, _, _) in enumerate(step()):
        # softmax = (1/2, 1/2): three times (-1/2, 1/2), five (1/2, -1/2)
        close(
            gradient,
            torch.tensor([0.125, -0.125]),
            f"gradient on rank {rank}: targets 0 | 1 1 and 1 1 1 | 0 0",
            hint="divide by the targets of all ranks and pieces, and multiply "
            "by the ranks, over which DDP takes the mean; a mean of means "
            "gives 0, or 0.1333; gradients that did not travel differ",
        )


def check_gradients_travel_once() -> None:
    """One exchange in a step, with the last micro-batch."""
    equal(
        [trips for _, _, trips in step()],
        [1, 1],
        "how often each rank's gradient travelled",
        hint="set no_sync before the forward pass, for all pieces but the last",
    )


def check_loss_of_all_ranks() -> None:
    """The loss returned is the mean over the tokens of all ranks."""
    wanted = (3 * math.log(4) + 5 * math.log(4 / 3)) / 8
    for rank, (_, loss, _) in enumerate(step(odds=3.0)):
        close(loss, wanted, f"loss on rank {rank}, odds of 1 to 3")


def check_nothing_to_predict() -> None:
    """Without any target every rank raises, and none waits for ever."""

    def work(rank: int) -> None:
        raises(
            ValueError,
            lambda: distributed.all_targets([piece()]),
            f"rank {rank} of a step without targets",
        )

    Ranks(2).run(work)


def check_seeds() -> None:
    """No two ranks, and no two steps, drop the same values."""
    seeds = [
        distributed.dropout_seed(step, rank)
        for step in range(20)
        for rank in range(8)
    ]
    equal(
        len(set(seeds)),
        len(seeds),
        "different seeds of 20 steps on 8 ranks",
        hint="the same seed everywhere drops the same values everywhere",
    )


def check_bytes() -> None:
    """16 bytes for a weight, less what is divided; a ring sends twice."""
    equal(
        [distributed.rank_bytes(1000, 8, stage) for stage in range(4)],
        [16000, 9000, 5500, 2000],
        "bytes of 1000 parameters on each of 8 ranks, stages 0 to 3",
        hint="moments take 8 bytes, gradients 4, weights 4",
    )
    equal(distributed.ring_bytes(8000, 8), 14000, "2 (n - 1) / n of 8000")


@contextmanager
def one_process() -> Iterator[int]:
    """A group of one: all that is sent comes back, without a second process."""
    ours = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    ours |= distributed.meeting_place()
    with mock.patch.dict(os.environ, ours), distributed.joined() as rank:
        yield rank


def check_a_group_of_one() -> None:
    """DDP and FSDP2 on one rank: the weights of training alone."""
    count = sum(p.numel() for p in distributed.drill_model().parameters())
    with tempfile.TemporaryDirectory() as name, one_process() as rank:
        equal(rank, 0, "the rank of the only process")
        for word in distributed.Word:
            equal(distributed.agree(word), word, "the word of rank 0")
        found = distributed.drill(Path(name))
    equal(list(found), ["alone", "DDP", "FSDP2"], "the ways of training")
    for way, told in found.items():
        close(told["difference"], 0.0, f"difference of {way}", tol=1e-5)
        sizes = [told[part] for part in ("weights", "gradients", "moments")]
        equal(
            sizes,
            [4 * count, 4 * count, 8 * count],
            f"bytes that one rank holds with {way}",
            hint="float32: 4 for a weight, 4 for its gradient, 8 for moments",
        )


def check_the_drill_moves_weights() -> None:
    """Four steps, two pieces each, uneven; every one leaves its mark."""
    steps = distributed.drill_steps()
    equal([len(pieces) for pieces in steps], [2] * 4, "pieces of each step")
    for pieces in steps:
        shapes = [(tuple(x.shape), tuple(y.shape)) for x, y in pieces]
        equal(shapes, [((5, 16), (5, 16))] * 2, "shapes of ids and targets")
        counts = [(y >= 0).sum(1).tolist() for _, y in pieces]
        equal(counts, [[16, 2, 16, 2, 16]] * 2, "targets that count, by row")
        for x, y in pieces:
            true(bool((y[0, :-1] == x[0, 1:]).all()), "targets come next")
    calls: list[int] = []
    moved = distributed.drill_model()

    def accumulate(model: nn.Module, pieces: Any) -> Tensor:
        calls.append(len(pieces))
        for parameter in model.parameters():
            true(parameter.grad is None, "no gradient of the step before")
            parameter.grad = torch.full_like(parameter, 5.0)
        return torch.zeros(())

    before = [p.detach().clone() for p in moved.parameters()]
    distributed.take_steps(moved, steps, accumulate)
    equal(calls, [2] * 4, "calls, each with the pieces of a step")
    for old, new in zip(before, moved.parameters(), strict=True):
        gap = (old - new).abs()
        close(gap, torch.full_like(gap, 4e-4), "four steps of 1e-4", tol=1e-5)


def check_shards_come_back() -> None:
    """Weights and moments that were written are those that are read."""
    steps = distributed.drill_steps(2)
    with tempfile.TemporaryDirectory() as name, one_process():
        place = Path(name) / "shards"
        mesh = init_device_mesh("cpu", (1,))
        models = [
            distributed.shard(distributed.drill_model(), mesh) for _ in "ab"
        ]
        one, other = (
            distributed.take_steps(
                model, steps[:1], distributed.accumulate_over_ranks
            )
            for model in models
        )
        distributed.take_steps(
            models[0], steps[1:], distributed.accumulate_over_ranks, one
        )
        distributed.save_shards(place, models[0], one)
        distributed.load_shards(place, models[1], other)
        pairs = zip(models[0].parameters(), models[1].parameters())
        for a, b in pairs:
            equal(distributed.whole(b), distributed.whole(a), "weights")
            for key, value in one.state[a].items():
                equal(
                    distributed.local(other.state[b][key]),
                    distributed.local(value),
                    f"{key} of a weight",
                    hint="load the optimizer's state with the model's",
                )


TOKENS = torch.arange(200).numpy() * 7 % 11


def check_a_trainer_among_ranks() -> None:
    """Rank 0 of one trains as one process does, and goes on after a stop."""
    settings = TrainConfig(
        steps=4, warmup=1, evaluate_every=2, checkpoint_every=2
    )

    def make(kind: type[Trainer], folder: Path) -> Trainer:
        model = scattered(GPT(gpt2_config(11, 5, 1, 2, 8)), 0.1)
        cursor = BatchCursor(TOKENS, 5, 3, seed=2)
        return kind(model, cursor, TOKENS[:31], settings, folder, None)

    with tempfile.TemporaryDirectory() as name, one_process():
        alone = make(Trainer, Path(name) / "alone")
        alone.fit()
        ranked = make(distributed.RankTrainer, Path(name) / "ranked")
        with distributed.leading():
            ranked.fit()
        pairs = zip(alone.model.parameters(), ranked.model.parameters())
        for a, b in pairs:
            close(b, a, "weights after four steps", tol=1e-5)
        log = (Path(name) / "ranked" / "log.jsonl").read_text().splitlines()
        equal(json.loads(log[-1])["step"], 4, "the last step in the log")
        again = make(distributed.RankTrainer, Path(name) / "ranked")
        again.load()
        equal(again.step, 4, "the step after loading")
        with mock.patch.object(dist, "get_rank", return_value=1):
            later = make(distributed.RankTrainer, Path(name) / "ranked")
            later.load()
        equal(later.step, 4, "the step of a rank that only reads")
        equal(
            later.train.state_dict(),
            again.train.state_dict(),
            "the place in the text of every rank",
        )


class Halt(Exception):
    """A run is cut off."""


def check_a_divided_trainer() -> None:
    """A run in slices, cut off and taken up, writes what one process does."""
    settings = TrainConfig(
        steps=4, warmup=1, evaluate_every=2, checkpoint_every=2
    )
    shape = gpt2_config(11, 5, 2, 2, 8, dropout=0.2)

    def halt(model: GPT, line: dict[str, Any]) -> None:
        raise Halt

    def run(kind: Any, folder: Path, *rest: Any) -> Any:
        torch.manual_seed(3)
        cursor = BatchCursor(TOKENS, 5, 3, seed=2)
        model = scattered(GPT(shape), 0.1)
        return kind(model, cursor, TOKENS[:31], settings, folder, *rest)

    with tempfile.TemporaryDirectory() as name, one_process():
        one, two = Path(name) / "one", Path(name) / "two"
        run(Trainer, one).fit()
        with suppress(Halt), distributed.leading():
            run(distributed.ShardTrainer, two, halt).fit()
        again = distributed.ShardTrainer.resume(
            two, BatchCursor(TOKENS, 5, 3, seed=2), TOKENS[:31]
        )
        with distributed.leading():
            again.fit()
        logs = [read_log(folder) for folder in (two, one)]
        for got, wanted in zip(*logs, strict=True):
            del wanted["seconds"]
            for key, value in wanted.items():
                close(
                    got[key],
                    value,
                    f"{key} in the log of step {wanted['step']}",
                    tol=1e-5,
                    hint="rank 0 draws what one process would; judge without "
                    "dropout, and train with it again",
                )
        files = [checkpoint_folder(folder) for folder in (two, one)]
        for part in ("model.safetensors", "optimizer.safetensors"):
            got, wanted = (read_tensors(folder / part) for folder in files)
            equal(sorted(got), sorted(wanted), f"the names in {part}")
            for key, tensor in wanted.items():
                close(
                    got[key],
                    tensor,
                    f"{key} in {part}",
                    tol=1e-5,
                    hint="gather weights and moments before they are written, "
                    "and hand both out when a run is taken up",
                )
        got, wanted = (read_json(folder / "state.json") for folder in files)
        equal(got["optimizers"], wanted["optimizers"], "rates and counts")
    raises(
        ValueError,
        lambda: distributed.ShardTrainer(
            GPT(shape),
            None,
            TOKENS,
            replace(settings, optimizer="muon"),
            Path(),
        ),
        "Muon, which needs whole matrices",
    )


def check_a_lost_rank() -> None:
    """A connection that breaks is told as such; other errors stay."""

    def broken(words: str) -> Callable[[], None]:
        def fail() -> None:
            with distributed.noticing():
                raise RuntimeError(words)

        return fail

    for words in ("Connection closed by peer", "Broken pipe", "Timed out"):
        raises(distributed.RankLost, broken(words), f"an error of {words!r}")
    kinds: list[type[BaseException]] = []
    try:
        broken("shapes do not fit")()
    except RuntimeError as error:
        kinds.append(type(error))
    equal(kinds, [RuntimeError], "the kind of another error, which stays")


def check_processes_are_started() -> None:
    """Two programs with ranks 0 and 1; one that fails ends both."""
    wanted = "import os, sys; from pathlib import Path; Path(sys.argv[1], "
    wanted += "os.environ['RANK'] + os.environ['WORLD_SIZE']).touch()"
    with tempfile.TemporaryDirectory() as name:
        distributed.launch(2, "-c", wanted, name)
        there = sorted(path.name for path in Path(name).iterdir())
    equal(there, ["02", "12"], "rank and number of each process")
    fails = "import os, sys, time; os.environ['RANK'] == '1' or time.sleep(60)"
    fails += "; sys.exit('no more')"
    raises(
        RuntimeError, lambda: distributed.launch(2, "-c", fails), "a failure"
    )


FORWARD = """            with travelling(model, place == last):
                with autocast(device.type, precision):
                    loss = model(ids, targets)
                (loss * factor).backward()
"""
TOO_LATE = """            with autocast(device.type, precision):
                loss = model(ids, targets)
            with travelling(model, place == last):
                (loss * factor).backward()
"""
BUGS = {
    "the weights are not put together": (
        "                its.copy_(whole(ours))  # on paper nothing is copied",
        "                pass",
    ),
    "a checkpoint has no moments": (
        "with self.put_together(Word.SAVE):",
        "with self.put_together(Word.GATHER):",
    ),
    "moments are not handed out": (
        "            ours.state[b][name] = value\n",
        "            pass\n",
    ),
    "the model stays as it was judged, without dropout": (
        "            model.train()\n            assert isinstance",
        "            assert isinstance",
    ),
    "the learning rate is not put together": (
        "        its |= settings_of(mine)",
        "        pass",
    ),
    "moments are not loaded": (
        'optim_state_dict=state["optimizer"],',
        "optim_state_dict={},",
    ),
    "gradients are kept from step to step": (
        "        optimizer.zero_grad()\n        accumulate(",
        "        accumulate(",
    ),
    "the step is not taken up": (
        "        self.step = progress.step\n        self.train.load",
        "        self.train.load",
    ),
    "every error is a lost process": (
        "        if not any(words in str(error) for words in LOST):\n"
        "            raise\n",
        "",
    ),
    "every process is rank 0": (
        '"RANK": str(rank), "LOCAL_RANK"',
        '"RANK": "0", "LOCAL_RANK"',
    ),
    "each rank divides by its own targets": (
        "    dist.all_reduce(total)\n",
        "",
    ),
    "each micro-batch weighs the same (mean of means)": (
        "(loss * factor).backward()",
        "(loss / count_targets(targets) / last).backward()",
    ),
    "the mean over the ranks is forgotten": (
        "factor = dist.get_world_size() / total",
        "factor = 1 / total",
    ),
    "no_sync is set after the forward pass": (FORWARD, TOO_LATE),
    "gradients travel with the first micro-batch": (
        "travelling(model, place == last)",
        "travelling(model, place == 1)",
    ),
    "gradients never travel (off by one)": (
        "enumerate(micro_batches, start=1)",
        "enumerate(micro_batches, start=0)",
    ),
    "every rank reads the same rows": (
        "return ids[rank::ranks], targets[rank::ranks]",
        "return ids[::ranks], targets[::ranks]",
    ),
    "every rank drops the same values": (
        "return (step << 16) + rank",
        "return step << 16",
    ),
    "the loss is that of one rank": (
        "    dist.all_reduce(nats)\n",
        "",
    ),
}
