"""Several processes, one step: replicas, shards, and who writes.

Each process (a *rank*) takes a share of the rows of every batch. With DDP
(Li et al., 2020) each rank holds the whole model, and gradients are averaged
over the ranks; with FSDP2 (Zhao et al., 2023) each holds a slice of it, and
borrows the other slices while a block needs them. However many targets the
shares hold, the step is that of one process with the whole batch.
`RankTrainer` is the book's trainer under `torchrun`.

Left out: dividing a layer, the layers, or one long text among processes.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    contextmanager,
    nullcontext,
    suppress,
)
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from scratchlm.model.gpt import GPT, llama_config
from scratchlm.training.checkpoint import load_checkpoint
from scratchlm.training.device import Sent
from scratchlm.training.memory import (
    IGNORED,
    accumulate_gradients,
    batch_loss,
    count_targets,
    to_device,
)
from scratchlm.training.precision import (
    Precision,
    autocast,
    float32_products,
)
from scratchlm.training.trainer import (
    LogRecord,
    NonFiniteLoss,
    StopRequest,
    Trainer,
)

Batch = tuple[Tensor, Tensor]  # ids and targets, both (B, T)
LOST = ("by peer", "Broken pipe", "imed out", "NCCL")  # a connection's end
PATIENCE = timedelta(hours=2)  # how long ranks wait while rank 0 evaluates


# --- what one has to know about the others -----------------------------------


def ring_bytes(held: int, ranks: int) -> int:
    """Bytes that each rank sends while all add up what they hold, in a ring.

    >>> [ring_bytes(1200, ranks) for ranks in (1, 2, 4)]
    [0, 1200, 1800]
    """
    return 2 * (ranks - 1) * held // ranks


def rank_bytes(parameters: int, ranks: int, stage: int) -> int:
    """Bytes of weights, gradients and moments on each rank, in float32.

    The stages of ZeRO (Rajbhandari et al., 2020) divide the moments (1),
    the gradients too (2), and the weights too (3); stage 0 is DDP.

    >>> [rank_bytes(1000, ranks=4, stage=stage) for stage in range(4)]
    [16000, 10000, 7000, 4000]
    """
    moments, gradients, weights = (
        size / ranks if stage > place else size
        for place, size in enumerate((8, 4, 4))
    )
    return round(parameters * (weights + gradients + moments))


def share(batch: Batch, rank: int, ranks: int) -> Batch:
    """The rows of a batch that fall to one rank: every `ranks`-th.

    Each row falls to one rank. ValueError where a rank would get none.

    >>> ids = torch.arange(5)[:, None]
    >>> [share((ids, ids), r, 2)[0].flatten().tolist() for r in range(2)]
    [[0, 2, 4], [1, 3]]
    """
    ids, targets = batch
    if len(ids) < ranks:
        raise ValueError(
            f"a batch of {len(ids)} rows leaves some of {ranks} processes "
            "without work: take a larger batch, or fewer processes"
        )
    return ids[rank::ranks], targets[rank::ranks]


def all_targets(micro_batches: Sequence[Batch]) -> int:
    """How many targets count in a step, over all ranks.

    `micro_batches` are those of this rank. Raises ValueError, on every
    rank, when no target counts.
    """
    own = sum(count_targets(targets) for _, targets in micro_batches)
    total = torch.tensor(own)
    dist.all_reduce(total)
    if not total:
        raise ValueError(f"no target counts in this step: all are {IGNORED}")
    return int(total)


# --- one step ----------------------------------------------------------------


class SummedLoss(nn.Module):
    """A model and its loss in one: ids, targets (B, T) → nats, summed.

    DDP and FSDP do their work when what they wrap is *called*. A method of
    the model that is called past them would leave the ranks on their own.
    """

    def __init__(self, model: nn.Module) -> None:
        """Hold the model; there are no weights but its own."""
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """`batch_loss`, which may make the logits in chunks."""
        return batch_loss(self.model, ids, targets)


def travelling(model: nn.Module, now: bool) -> AbstractContextManager[None]:
    """The context of a micro-batch: whether gradients go to other ranks.

    It is around the forward pass as well, since DDP decides there what its
    backward pass will do.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
    elif isinstance(model, DistributedDataParallel) and not now:
        return model.no_sync()
    return nullcontext()


def accumulate_over_ranks(
    model: nn.Module,
    micro_batches: Sequence[Batch],
    precision: Precision = "float32",
) -> Tensor:
    """Add the gradient of the mean loss over all tokens of all ranks.

    `model` is a `SummedLoss`, wrapped; `micro_batches` are this rank's, as
    many as every other rank has. DDP and FSDP take the mean over the ranks,
    so each loss is multiplied by their number first. Returns the mean loss
    in nats per token, the same on every rank. Raises ValueError when no
    target counts.
    """
    total, last = all_targets(micro_batches), len(micro_batches)
    factor = dist.get_world_size() / total
    device = next(model.parameters()).device
    nats = torch.zeros((), device=device)
    with float32_products(precision):
        for place, batch in enumerate(micro_batches, start=1):
            ids, targets = to_device(batch, device)
            with travelling(model, place == last):
                with autocast(device.type, precision):
                    loss = model(ids, targets)
                (loss * factor).backward()
            nats += loss.detach()
    dist.all_reduce(nats)
    return nats / total


# --- a slice for each rank ---------------------------------------------------


def shard(model: GPT, mesh: DeviceMesh) -> SummedLoss:
    """Leave each rank a slice of every parameter, by FSDP2.

    The blocks first, then the rest: each is put together when its turn
    comes, and taken apart again. Make the optimizer afterwards, for the
    slices.
    """
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    summed = SummedLoss(model)
    fully_shard(summed, mesh=mesh)
    return summed


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, which may be all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, put together from all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def held_bytes(model: nn.Module, optimizer: Optimizer) -> dict[str, int]:
    """Bytes that this rank holds between two steps, part by part."""
    parameters = list[Tensor](model.parameters())
    parts = {
        "weights": parameters,
        "gradients": [p.grad for p in parameters if p.grad is not None],
        "moments": [
            value
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor) and value.ndim
        ],
    }
    return {
        name: sum(local(tensor).nbytes for tensor in tensors)
        for name, tensors in parts.items()
    }


def shards(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Weights and moments by name, each tensor with its place in the whole."""
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments}


def save_shards(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Let every rank write what it holds into one folder, at once."""
    dcp.save(shards(model, optimizer), checkpoint_id=folder)


def load_shards(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Read what this rank needs of a folder, however many ranks wrote it.

    The folder's index is a pickle: open none that a stranger has made.
    """
    state = shards(model, optimizer)
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
    )


# --- the trainer of several processes ----------------------------------------


class RankLost(RuntimeError):
    """Another process of the run is gone."""


@contextmanager
def noticing() -> Iterator[None]:
    """Say in one sentence that a connection to another process broke."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        raise RankLost(
            "another process of this run is gone; nothing is lost up to the "
            "last checkpoint: train --resume goes on from there"
        ) from error


@contextmanager
def joined(device: str = "cpu") -> Iterator[int]:
    """Meet the other processes that `torchrun` started; gives the rank."""
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def another_step(wanted: bool = True) -> bool:
    """Whether another step comes: rank 0 decides, all learn it."""
    word = torch.tensor(int(wanted))
    dist.broadcast(word, src=0)
    return bool(word)


def dropout_seed(step: int, rank: int) -> int:
    """A seed for what a rank drops in a step; the same after a resume.

    >>> dropout_seed(1, rank=1), dropout_seed(1, rank=2)
    (65537, 65538)
    """
    return (step << 16) + rank


class RankTrainer(Trainer):
    """The trainer of one process among several; rank 0 alone writes.

    Rank 0 calls `fit`, as ever. The others call `assist`, and take part in
    each step. The batch is that of one process, divided among the ranks.
    """

    @cached_property
    def replica(self) -> nn.Module:
        """The model under DDP; made at the first step, on all ranks."""
        return DistributedDataParallel(
            SummedLoss(self.model), gradient_as_bucket_view=True
        )

    def accumulate(self, batches: Sequence[Batch]) -> Tensor:
        """This rank's part of a step; every rank gets gradient and loss."""
        if rank := dist.get_rank():  # rank 0 draws what one process would
            torch.manual_seed(dropout_seed(self.step, rank))
        own = [self.rows(batch) for batch in batches]
        return accumulate_over_ranks(self.replica, own, self.config.precision)

    def rows(self, batch: Batch) -> Batch:
        """This rank's rows; of a batch that was sent ahead no others were."""
        own = Sent(share(batch, dist.get_rank(), dist.get_world_size()))
        if isinstance(batch, Sent):
            own.there = batch.there
        return own

    def train_step(self) -> LogRecord:
        """One update, in which all ranks take part."""
        with noticing():
            if dist.get_rank() == 0:
                another_step()
            return super().train_step()

    def load(self, verify: bool = True) -> None:
        """Take up the checkpoint; ranks above 0 read it, and no more."""
        if dist.get_rank() == 0:
            return super().load(verify)
        progress = load_checkpoint(
            self.folder, self.model, self.optimizers, self.settings(), verify
        )
        self.step = progress.step
        self.train.load_state_dict(progress.cursor)


@contextmanager
def leading() -> Iterator[None]:
    """What rank 0 does inside; at its end, whatever it is, all may go."""
    try:
        yield
    finally:
        with suppress(RuntimeError):  # of a process that is gone
            another_step(False)


def assist(make: Callable[[], Trainer]) -> None:
    """What ranks above 0 do: take part in each step until rank 0 is done.

    `make` is called at the first step; by then rank 0 has a checkpoint.
    Whether a signal ends the run is for rank 0 to decide.
    """
    trainer = None
    with StopRequest(), suppress(NonFiniteLoss), noticing():
        while another_step():
            trainer = trainer or make()
            trainer.train_step()


# --- seen to be the same -----------------------------------------------------


def meeting_place() -> dict[str, str]:
    """An address of this machine at which processes can find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # the system finds a port
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def launch(processes: int, *command: str) -> None:
    """Start a Python program several times, and wait for all of them.

    What `torchrun --standalone` does, without its watch over them: each
    process finds its rank and the meeting place in its environment. Raises
    RuntimeError with their words where one of them fails.
    """
    shared = os.environ | meeting_place()
    shared |= {"WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        started = [
            subprocess.Popen(
                [sys.executable, *command],
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=said,
            )
            for rank in range(processes)
        ]
        failed = first_failure(started)
        said.seek(0)
        if failed:
            raise RuntimeError(f"a process failed:\n{said.read()}")


def first_failure(started: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait until all have ended, or one has failed: then end the others."""
    codes: list[int | None] = [None]
    while None in codes and not any(codes):
        time.sleep(0.05)
        codes = [process.poll() for process in started]
    for process in started:
        process.kill()
        process.wait()
    return any(codes)


def drill_model() -> GPT:
    """A small Llama with random weights, the same in every process."""
    torch.manual_seed(4)
    return GPT(llama_config(64, 16, 2, 4, 32, hidden=64, tied=True))


def drill_steps(steps: int = 4, vocab_size: int = 64) -> list[list[Batch]]:
    """Steps of two uneven micro-batches of five rows and 16 tokens.

    Every other row counts in its first two targets alone.
    """
    random = torch.Generator().manual_seed(5)
    ids = torch.randint(vocab_size, (steps, 2, 5, 17), generator=random)
    targets = ids[..., 1:].clone()
    targets[:, :, 1::2, 2:] = IGNORED
    pairs = zip(ids[..., :-1], targets, strict=True)
    return [list(zip(*pair, strict=True)) for pair in pairs]


def take_steps(
    model: nn.Module,
    steps: Sequence[Sequence[Batch]],
    accumulate: Callable[[nn.Module, Sequence[Batch]], Tensor],
    optimizer: Optimizer | None = None,
) -> Optimizer:
    """Train on the steps; returns the optimizer, a new one or the given."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-4)
    for micro_batches in steps:
        optimizer.zero_grad()
        accumulate(model, micro_batches)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return optimizer


def drill(folder: Path) -> dict[str, dict[str, float]]:
    """Train alone, under DDP and under FSDP2; compare weights and bytes.

    Each rank trains alone on whole batches, and in both other ways on its
    share of them. FSDP's shards are left in the folder.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    steps = drill_steps()
    own = [[share(batch, rank, ranks) for batch in step] for step in steps]
    alone = drill_model()
    optimizer = take_steps(alone, steps, accumulate_gradients)
    found: dict[str, dict[str, float]] = {
        "alone": {"difference": 0.0, **held_bytes(alone, optimizer)}
    }
    mesh = init_device_mesh("cpu", (ranks,))
    ways: dict[str, nn.Module] = {
        "DDP": DistributedDataParallel(SummedLoss(drill_model())),
        "FSDP2": shard(drill_model(), mesh),
    }
    for name, model in ways.items():
        optimizer = take_steps(model, own, accumulate_over_ranks)
        pairs = zip(model.parameters(), alone.parameters(), strict=True)
        gaps = [(whole(a) - b).abs().max().item() for a, b in pairs]
        found[name] = {"difference": max(gaps), **held_bytes(model, optimizer)}
    save_shards(folder / "shards", ways["FSDP2"], optimizer)
    return found


def main(folder: Path) -> None:
    """What each process of the drill runs; rank 0 writes what it found."""
    torch.set_num_threads(1)
    with joined() as rank:
        found = drill(folder)
        if rank == 0:
            text = json.dumps(found)
            (folder / "drill.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
