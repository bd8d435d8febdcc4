"""Several processes, one step: replicas, shards, and who writes.

Each process (a *rank*) takes a share of the rows of every batch. With DDP
(Li et al., 2020) each rank holds the whole model, and gradients are averaged
over the ranks; with FSDP2 (Zhao et al., 2023) each holds a slice of it, and
borrows the other slices while a block needs them. However many targets the
shares hold, the step is that of one process with the whole batch.
`RankTrainer` is the book's trainer under `torchrun`, `ShardTrainer` the
trainer for a model that no single card holds.

Left out: dividing a layer, the layers, or one long text among processes.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from datetime import timedelta
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
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
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from scratchlm.model.gpt import GPT, GPTConfig, llama_config
from scratchlm.training.checkpoint import (
    Progress,
    blaming,
    checkpoint_folder,
    load_checkpoint,
    read_state,
    undisturbed,
    verified,
)
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
    Span,
    StopRequest,
    TrainConfig,
    Trainer,
    apply_settings,
    make_optimizers,
    span_batches,
    spans,
)

Batch = tuple[Tensor, Tensor]  # ids and targets, both (B, T)
LOST = ("by peer", "Broken pipe", "imed out", "NCCL")  # a connection's end
PATIENCE = timedelta(hours=2)  # how long ranks wait while rank 0 evaluates


# --- what a rank must know about the others ----------------------------------


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
    """The rows of a batch that go to one rank: every `ranks`-th.

    Each row goes to one rank. ValueError if a rank would get none.

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

    DDP and FSDP do their work when what they wrap is *called*. Calling a
    method of the model directly would leave the ranks on their own.
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

    It encloses the forward pass as well, since DDP decides there what its
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
    """Leave each rank a slice of every parameter, with FSDP2.

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
    """Read what this rank needs from a folder, however many ranks wrote it.

    The folder's index is a pickle: never open one that a stranger made.
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
        heard = " ".join(str(error).split())[-200:]  # the cause comes last
        raise RankLost(
            "another process of this run is gone or out of reach; nothing is "
            "lost up to the last checkpoint: train --resume goes on from "
            f"there. The last words: {heard}"
        ) from error


@contextmanager
def joined(device: str = "cpu") -> Iterator[int]:
    """Meet the other processes that `torchrun` started; yields the rank."""
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


class Word(IntEnum):
    """What rank 0 tells all ranks to do next, together."""

    END = 0  # nothing more
    STEP = 1  # train on a batch
    JUDGE = 2  # score the validation text
    GATHER = 3  # put the weights together
    SAVE = 4  # the weights, and the moments


def agree(word: Word = Word.END) -> Word:
    """The word of rank 0, on all ranks; those above 0 bring none."""
    said = torch.tensor(int(word))
    dist.broadcast(said, src=0)
    return Word(int(said))


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
        if rank := dist.get_rank():  # rank 0 has the state that is saved
            torch.manual_seed(dropout_seed(self.step, rank))
        own = [self.rows(batch) for batch in batches]
        return accumulate_over_ranks(self.replica, own, self.config.precision)

    def rows(self, batch: Batch) -> Batch:
        """This rank's rows; of a batch sent ahead, only these were sent."""
        own = Sent(share(batch, dist.get_rank(), dist.get_world_size()))
        if isinstance(batch, Sent):
            own.there = batch.there
        return own

    @contextmanager
    def together(self, word: Word) -> Iterator[nn.Module]:
        """All ranks do what is inside, once rank 0 has given them the word."""
        with noticing():
            if dist.get_rank() == 0:
                agree(word)
            yield self.replica

    def train_step(self) -> LogRecord:
        """One update, in which all ranks take part."""
        with self.together(Word.STEP):
            return super().train_step()

    def take_part(self, word: Word) -> None:
        """What a rank above 0 does at a word: a step, here, and no more."""
        self.train_step()

    def load(self, verify: bool = True) -> None:
        """Resume from the checkpoint; ranks above 0 only read it."""
        if dist.get_rank() == 0:
            return super().load(verify)
        progress = self.read(verify)
        self.step = progress.step
        self.train.load_state_dict(progress.cursor)

    def read(self, verify: bool) -> Progress:
        """What a rank above 0 needs from the checkpoint: here, all of it."""
        return load_checkpoint(
            self.folder, self.model, self.optimizers, self.settings(), verify
        )


@contextmanager
def leading() -> Iterator[None]:
    """Rank 0 does what is inside; however it ends, all may go."""
    try:
        yield
    finally:
        with suppress(RuntimeError):  # of a process that is gone
            agree(Word.END)


def assist(make: Callable[[], RankTrainer]) -> None:
    """What ranks above 0 do: what rank 0 says, until it has no more to say.

    `make` is called at the first word; by then rank 0 has a checkpoint.
    Whether a signal ends the run is for rank 0 to decide.
    """
    trainer = None
    with StopRequest(), suppress(NonFiniteLoss), noticing():
        while word := agree():
            trainer = trainer or make()
            trainer.take_part(word)


# --- a model that no card holds ----------------------------------------------


def own_device() -> torch.device:
    """Where this process computes, according to what `joined` was told."""
    if "cuda:nccl" in dist.get_backend_config():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def on_paper(config: GPTConfig) -> GPT:
    """A model whose weights have shapes, but no numbers and no memory.

    Each weight is let go as soon as it is made, before the next one is.
    """

    def forget(module: nn.Module, name: str, weight: nn.Parameter) -> Any:
        return None if weight.is_meta else nn.Parameter(weight.to("meta"))

    hook = register_module_parameter_registration_hook(forget)
    try:
        return GPT(config)
    finally:
        hook.remove()


def make_room(model: nn.Module, device: torch.device) -> None:
    """Give memory to weights that have none: to this rank's slices alone."""
    model._apply(
        lambda t: torch.empty_like(t, device=device) if t.is_meta else t
    )


def divide(tensor: Tensor, like: Tensor) -> Tensor:
    """Rank 0's tensor in slices, cut as another one is.

    Ranks above 0 pass one of the same shape, on paper.
    """
    assert isinstance(like, DTensor)
    place = like.device
    full = (
        torch.empty_like(tensor, device=place)
        if tensor.is_meta
        else tensor.to(place)
    )
    return distribute_tensor(full, like.device_mesh, like.placements)


def stepped(optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters of an optimizer, in the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Rate, decay and so on of a parameter group, but not its parameters.

    >>> settings_of({"params": [], "lr": 0.1, "scale": 0.5})
    {'lr': 0.1, 'scale': 0.5}
    """
    return {k: v for k, v in group.items() if k != "params"}


def outline(state: Mapping[str, Any]) -> dict[str, Any]:
    """What an optimizer keeps for a parameter; None for each large tensor.

    >>> outline({"step": 3, "exp_avg": torch.zeros(2, 2)})
    {'step': 3, 'exp_avg': None}
    """
    return {k: None if getattr(v, "ndim", 0) else v for k, v in state.items()}


def divide_moments(theirs: Optimizer, ours: Optimizer) -> None:
    """Give each rank its slices of the state that rank 0 has, and loses.

    What is not sliced goes to every rank: the settings of each group, and
    for each parameter such things as the step count.
    """
    told = [
        [settings_of(group) for group in theirs.param_groups],
        [outline(theirs.state.get(p, {})) for p in stepped(theirs)],
    ]
    dist.broadcast_object_list(told, src=0)
    settings, states = told
    for group, its in zip(ours.param_groups, settings, strict=True):
        group |= its
    for a, b, state in zip(stepped(theirs), stepped(ours), states, strict=True):
        full = theirs.state.pop(a, {})
        for name, value in state.items():
            if value is None:
                value = divide(full.get(name, a.detach()), b)
            elif isinstance(value, Tensor):
                value = value.to(b.device)
            ours.state[b][name] = value


def gather_moments(ours: Optimizer, theirs: Optimizer) -> None:
    """Put the state together again, in rank 0's main memory."""
    for mine, its in zip(ours.param_groups, theirs.param_groups, strict=True):
        its |= settings_of(mine)
    for a, b in zip(stepped(ours), stepped(theirs), strict=True):
        for name, value in ours.state[a].items():
            if isinstance(value, Tensor):
                value = whole(value).to(b.device)  # on paper, that is nowhere
            theirs.state[b][name] = value


class ShardTrainer(RankTrainer):
    """The trainer for a model of which each process holds a slice.

    Rank 0 has all of it in main memory when it begins, resumes and writes.
    So the files are those of one process, and any number of processes may
    resume from them.
    """

    def __init__(
        self,
        model: GPT,
        train: Any,
        validation: Any,
        config: TrainConfig,
        *rest: Any,
        **options: Any,
    ) -> None:
        """A `Trainer`; ValueError for Muon, which needs whole matrices.

        Also for a precision left open, which would be that of the processor.
        """
        if config.optimizer == "muon":
            raise ValueError(
                "Muon makes each update from a whole matrix, and no process "
                "holds one: choose adamw or fused_adamw for a divided model"
            )
        if config.precision == "auto":
            raise ValueError(
                "a divided model begins in main memory, so 'auto' would "
                "measure the processor: name a precision"
            )
        plain = replace(config, compile=False)  # the whole is never trained
        super().__init__(model, train, validation, plain, *rest, **options)
        self.config = replace(self.config, compile=config.compile)
        self.device = own_device()

    @staticmethod
    def blank(config: GPTConfig, device: str) -> GPT:
        """In main memory, wherever it trains; above rank 0 on paper."""
        return on_paper(config) if dist.get_rank() else GPT(config)

    def read(self, verify: bool) -> Progress:
        """Step and place in the text; rank 0 hands out weights and moments."""
        path = checkpoint_folder(self.folder, verify) / "state.json"
        name = path.relative_to(self.folder).as_posix()
        with verified(self.folder, [name], verify), blaming(path):
            state = read_state(path, self.settings())
            return Progress(**state["progress"])

    @cached_property
    def replica(self) -> SummedLoss:
        """The model in slices; made at the first word, on all ranks."""
        self.kept = self.model, self.optimizers
        with undisturbed(self.device):
            self.model = on_paper(self.model.config)
        apply_settings(self.model, self.config)
        ranks = dist.get_world_size()
        mesh = init_device_mesh(self.device.type, (ranks,))
        summed = shard(self.model, mesh)
        make_room(summed, self.device)
        for a, b in zip(self.kept[0].parameters(), summed.parameters()):
            local(b.data).copy_(local(divide(a.data, b)))
        self.optimizers = make_optimizers(self.model, self.config)
        for theirs, ours in zip(self.kept[1], self.optimizers):
            divide_moments(theirs, ours)
        return summed

    def clip(self) -> Tensor:
        """Shorten the gradient, using the norm of all slices of all ranks."""
        return whole(super().clip())

    def nonfinite(self) -> list[str]:
        """The parameters whose gradients are not numbers, in any slice."""
        counts = {
            name: int(whole((~weight.grad.isfinite()).sum()))
            for name, weight in self.model.named_parameters()
            if weight.grad is not None
        }
        sizes = {name: w.numel() for name, w in self.model.named_parameters()}
        return [f"{k} ({n} of {sizes[k]})" for k, n in counts.items() if n]

    def take_part(self, word: Word) -> None:
        """What a rank above 0 does at a word."""
        if word is Word.STEP:
            self.train_step()
        elif word is Word.JUDGE:
            self.judge()
        else:
            self.gather(word)

    def gather(self, word: Word) -> None:
        """Put the whole together in rank 0's main memory, part by part."""
        with self.together(word), torch.no_grad():
            model, optimizers = self.kept
            pairs = zip(self.model.parameters(), model.parameters())
            for ours, its in pairs:
                its.copy_(whole(ours))  # on paper nothing is copied
            if word is Word.SAVE:
                for mine, theirs in zip(self.optimizers, optimizers):
                    gather_moments(mine, theirs)

    @contextmanager
    def put_together(self, word: Word) -> Iterator[None]:
        """Inside, `model` and `optimizers` are those of one process."""
        self.gather(word)
        slices = self.model, self.optimizers
        self.model, self.optimizers = self.kept
        try:
            yield
        finally:
            self.model, self.optimizers = slices
            for optimizer in self.kept[1]:
                optimizer.state.clear()

    def save(self, part: str = "checkpoint") -> None:
        """Write one process's checkpoint; at first the whole model is here."""
        if "replica" not in vars(self):
            return super().save(part)
        with self.put_together(Word.SAVE):
            super().save(part)

    def finish_step(self) -> None:
        """All that follows an update, with the whole where it is needed."""
        due = self.is_due(self.config.evaluate_every)
        if not due and self.step not in self.config.snapshots:
            return super().finish_step()
        with self.put_together(Word.GATHER):
            super().finish_step()

    def judge(self) -> float:
        """The validation loss; each rank scores some rows of every batch."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        tokens, context = self.validation, self.model.config.context
        judged = torch.zeros((), dtype=torch.float64, device=self.device)
        with self.together(Word.JUDGE) as model, torch.no_grad():
            model.eval()
            cuts = spans(len(tokens), context, context)
            for batch in span_batches(cuts, 32):
                own = batch[rank::ranks]
                loss = self.score(own or batch[:1])  # blocks need all ranks
                judged += loss if own else 0.0
            model.train()
            assert isinstance(model, FSDPModule)
            model.reshard()  # or what is not in a block would stay whole
            dist.all_reduce(judged)
        return float(judged) / (len(tokens) - 1)

    def score(self, rows: Sequence[Span]) -> Tensor:
        """Total nats of some windows of the validation text."""
        precision = self.config.precision
        cut = [np.asarray(self.validation[b : end + 1]) for b, _, end in rows]
        ids = torch.from_numpy(np.stack(cut).astype(np.int64))
        ids = ids.to(self.device)  # (B, T + 1)
        cast = autocast(self.device.type, precision)
        with float32_products(precision), cast:
            nats: Tensor = self.replica(ids[:, :-1], ids[:, 1:])
        return nats


# --- checked to be the same --------------------------------------------------


def meeting_place() -> dict[str, str]:
    """An address of this machine at which processes can find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # the system finds a port
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def launch(processes: int, *command: str) -> None:
    """Start a Python program several times, and wait for all of them.

    What `torchrun --standalone` does, at its plainest: each process finds its
    rank and the meeting place in its environment.
    Their output is shown only if one fails, in the RuntimeError that is
    raised.
    """
    shared = os.environ | meeting_place()
    shared |= {"WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile(
        "w+",
        encoding="utf-8",
        errors="replace",  # their encoding may differ
    ) as said:
        started = [
            subprocess.Popen(
                [sys.executable, *command],
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=said,
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

    In every other row only the first two targets count.
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
    """Train on the steps; returns the optimizer, given or new."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-4)
    for micro_batches in steps:
        optimizer.zero_grad()
        accumulate(model, micro_batches)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return optimizer


def drill(folder: Path) -> dict[str, dict[str, float]]:
    """Train alone, under DDP and under FSDP2; compare weights and bytes.

    Each rank trains alone on whole batches, and in the other two ways on its
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
