"""The training loop: from a model, tokens and settings to trained weights.

A run lives in one folder: its settings, a log with a line per step, the
checkpoint from which it resumes exactly, the best weights, and snapshots of
the weights at chosen steps. Whatever changes the numbers stands in
`TrainConfig`; whatever only watches (progress, samples, TensorBoard) cannot
change them.

Left out: several machines or accelerators.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from scratchlm.model.gpt import GPT, next_token_loss
from scratchlm.text.files import SEAL, append_text, read_seal
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.checkpoint import (
    Progress,
    blaming,
    branch_run,
    checkpoint_folder,
    keep_weights,
    load_checkpoint,
    read_settings,
    restore_log,
    save_checkpoint,
    start_run,
    sweep,
    undisturbed,
)
from scratchlm.training.memory import accumulate_gradients, count_targets
from scratchlm.training.muon import muon_and_adamw
from scratchlm.training.optimizer import (
    AdamW,
    clip_gradients,
    parameter_groups,
)
from scratchlm.training.precision import autocast
from scratchlm.training.schedule import (
    Schedule,
    cosine,
    warmup_stable_decay,
)

FIXED = ("optimizer", "weight_decay")  # what a branch cannot change
INPUTS = ("tokenizer.json", "train.tokens", "validation.tokens")
LogRecord = dict[str, Any]  # what the log says of one step


@dataclass(frozen=True)
class TrainConfig:
    """All that decides how a run goes, next to the model and the tokens."""

    steps: int
    learning_rate: float = 3e-3
    schedule: str = "cosine"  # or "stable": warm-up, stable, decay
    warmup: int = 50
    optimizer: str = "adamw"  # or "muon": Muon for the matrices
    weight_decay: float = 0.1
    clip: float = 1.0
    accumulate: int = 1  # batches to one step
    precision: str = "float32"  # or "bfloat16"
    checkpoint_activations: bool = False
    evaluate_every: int = 100
    patience: int | None = None  # evaluations without a new best
    snapshots: tuple[int, ...] = ()  # steps whose weights are kept

    def __post_init__(self) -> None:
        """Refuse settings that no run can have, and say which."""
        for name in ("steps", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        for name, known in (
            ("schedule", ("cosine", "stable")),
            ("optimizer", ("adamw", "muon")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}")


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is no longer a number."""


class Interrupted(Exception):
    """Training was asked to stop; all is saved."""


class StopRequest:
    """Ctrl-C, heard between two steps instead of in the middle of one.

    A second Ctrl-C stops at once. The signal by which clusters announce
    that a machine is taken away (SIGTERM) is heard in the same way.
    """

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.requested = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Listen; Python allows that in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.handle)
        return self

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the wish; the second time, obey at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *error: object) -> None:
        """Let signals do again what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)


def validation_loss(
    model: nn.Module,
    tokens: Any,
    context: int,
    batch_size: int = 32,
    precision: str = "float32",
) -> float:
    """Mean nats per token over all of `tokens`, each predicted once.

    Cuts the tokens, a 1-D array, into windows of `context`; the last one
    is shorter, and counts by its tokens. Dropout is off meanwhile.
    """
    ids = torch.from_numpy(np.array(tokens, dtype=np.int64))
    if len(ids) < 2:
        raise ValueError("validation needs two tokens at least")
    device = next(model.parameters()).device
    full = (len(ids) - 1) // context * context
    x, y = ids[:full].view(-1, context), ids[1 : full + 1].view(-1, context)
    batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    if full < len(ids) - 1:
        batches.append((ids[None, full:-1], ids[None, full + 1 :]))
    was_training, total = model.training, 0.0
    model.eval()
    with torch.inference_mode(), autocast(device.type, precision):
        for x, y in batches:
            logits = model(x.to(device))  # (B, T, V)
            loss = next_token_loss(logits, y.to(device), reduction="sum")
            total += loss.item()
    model.train(was_training)
    return total / (len(ids) - 1)


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """AdamW for all, or Muon for the matrices and AdamW for the rest."""
    if config.optimizer == "muon":
        return muon_and_adamw(
            model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            dtype=getattr(torch, config.precision),
        )
    groups = parameter_groups(model, config.weight_decay)
    return [AdamW(groups, lr=config.learning_rate)]


def make_schedule(config: TrainConfig) -> Schedule:
    """The learning rate of every step of the run."""
    make = cosine if config.schedule == "cosine" else warmup_stable_decay
    warmup = min(config.warmup, config.steps // 2)
    return make(peak=config.learning_rate, warmup=warmup, steps=config.steps)


def same_rates(a: TrainConfig, b: TrainConfig, step: int) -> bool:
    """Whether two runs have the same learning rates before a step.

    >>> short, long = (
    ...     TrainConfig(steps=n, schedule="stable") for n in (1000, 2000)
    ... )
    >>> same_rates(short, long, 800), same_rates(short, long, 900)
    (True, False)
    """
    one, two = make_schedule(a), make_schedule(b)
    return all(one.rate(n) == two.rate(n) for n in range(step))


def read_train_config(run: Path) -> TrainConfig:
    """The settings of a run's loop, from its config.json."""
    _, settings = read_settings(run)
    with blaming(Path(run) / "config.json"):
        training = settings["training"]
        training["snapshots"] = tuple(training["snapshots"])
        return TrainConfig(**training)


def unsealed_inputs(run: Path) -> list[str]:
    """The files a run was given that its seal does not know yet."""
    known = read_seal(run) if (run / SEAL).exists() else {}
    return [n for n in INPUTS if n not in known and (run / n).exists()]


def read_log(folder: Path) -> list[LogRecord]:
    """The lines of a run's log; a last line cut off by a crash is left out.

    Each has the step, its training loss, learning rate, gradient norm, the
    tokens seen and the seconds taken so far; some have a validation loss.
    """
    path = Path(folder) / "log.jsonl"
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if text.endswith("\n"):
            lines.append(json.loads(text))
    return lines


def tensorboard_writer(folder: Path) -> Any:
    """A writer of TensorBoard's event files; the package is optional."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "TensorBoard is asked for but not installed; get it with: "
            "pip install tensorboard"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))


class Trainer:
    """Trains a model in a folder; stops and resumes without a trace."""

    def __init__(
        self,
        model: GPT,
        train: BatchCursor,
        validation: Any,
        config: TrainConfig,
        folder: Path,
        on_sample: Callable[[GPT, LogRecord], None] | None = None,
        data: Mapping[str, Any] | None = None,
        tensorboard: bool = False,
    ) -> None:
        """Prepare; nothing is written before `fit`.

        `train` gives the batches, `validation` are tokens (1-D).
        `on_sample` is called after every evaluation with the model and the
        log's line. `data` says what the tokens are, for config.json.
        """
        self.model, self.train, self.validation = model, train, validation
        self.config, self.folder = config, Path(folder)
        self.on_sample, self.data = on_sample, dict(data or {})
        self.device = next(model.parameters()).device
        self.optimizers = make_optimizers(model, config)
        self.bases = [
            [group["lr"] for group in optimizer.param_groups]
            for optimizer in self.optimizers
        ]
        self.schedule = make_schedule(config)
        self.board = tensorboard_writer(self.folder) if tensorboard else None
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.best, self.waiting = math.inf, 0
        self.line: LogRecord = {}  # of the last step, without its evaluation
        self.resumed = False
        model.checkpoint_activations = config.checkpoint_activations

    def settings(self) -> dict[str, Any]:
        """What config.json says: model, training and data."""
        return {
            "model": asdict(self.model.config),
            "training": asdict(self.config),
            "data": self.data,
        }

    @classmethod
    def resume(
        cls,
        folder: Path,
        train: BatchCursor,
        validation: Any,
        on_sample: Callable[[GPT, LogRecord], None] | None = None,
        tensorboard: bool = False,
        device: str = "cpu",
        verify: bool = True,
    ) -> "Trainer":
        """The trainer of a run as it was when its checkpoint was saved.

        Settings come from the folder; `train` must be a cursor over the
        same tokens, made with the same settings. With `verify` every file
        must be as it was sealed.
        """
        model_config, settings = read_settings(folder)
        trainer = cls(
            GPT(model_config).to(device),
            train,
            validation,
            read_train_config(folder),
            folder,
            on_sample,
            settings.get("data"),
            tensorboard,
        )
        trainer.load(verify)
        return trainer

    @classmethod
    def branch(
        cls,
        source: Path,
        folder: Path,
        config: TrainConfig,
        train: BatchCursor,
        validation: Any,
        **options: Any,
    ) -> "Trainer":
        """A new run that begins where the checkpoint of another one is.

        `config` may differ from the other run's in all but what `FIXED`
        names. Where the learning rates up to the checkpoint are the same
        in both (`same_rates`), the new run is what a run with these
        settings would have been from its first step on.
        """
        old = read_train_config(source)
        if names := [n for n in FIXED if getattr(old, n) != getattr(config, n)]:
            raise ValueError(
                f"a run that goes on cannot change {' and '.join(names)}: "
                "the optimizer's moments belong to what was; train from the "
                "beginning"
            )
        branch_run(source, folder, asdict(config))
        return cls.resume(folder, train, validation, **options)

    def save(self) -> None:
        """Write the checkpoint: the run as it is between two steps."""
        notes = {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best": self.best if self.best < math.inf else None,
            "waiting": self.waiting,
            "line": self.line,
        }
        save_checkpoint(
            self.folder,
            self.model,
            self.optimizers,
            Progress(self.step, self.train.state_dict(), notes),
            self.settings(),
            ["config.json", "log.jsonl", *unsealed_inputs(self.folder)],
        )

    def load(self, verify: bool = True) -> None:
        """Take up the checkpoint, and the log up to there."""
        progress = load_checkpoint(
            self.folder, self.model, self.optimizers, self.settings(), verify
        )
        with blaming(checkpoint_folder(self.folder) / "state.json"):
            self.step = progress.step
            self.train.load_state_dict(progress.cursor)
            notes = progress.notes
            self.tokens, self.seconds = notes["tokens"], notes["seconds"]
            self.best = math.inf if notes["best"] is None else notes["best"]
            self.waiting, self.line = notes["waiting"], notes["line"]
        sweep(self.folder)
        restore_log(self.folder)
        self.resumed = True

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """The cursor's next batch, where the model is."""
        x, y = self.train.next_batch()
        return x.to(self.device), y.to(self.device)

    def train_step(self) -> LogRecord:
        """One update of the weights; returns the log's line about it."""
        rate = self.schedule.rate(self.step)
        for optimizer, bases in zip(self.optimizers, self.bases, strict=True):
            for group, base in zip(optimizer.param_groups, bases, strict=True):
                group["lr"] = base * rate / self.config.learning_rate
            optimizer.zero_grad()
        batches = [self.next_batch() for _ in range(self.config.accumulate)]
        loss = accumulate_gradients(self.model, batches, self.config.precision)
        norm = clip_gradients(self.model.parameters(), self.config.clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteLoss(self.describe_failure(loss, norm))
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.tokens += sum(count_targets(y) for _, y in batches)
        return {
            "step": self.step,
            "train_loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": self.tokens,
        }

    def describe_failure(self, loss: float, norm: float) -> str:
        """What to say when the loss is no longer a number."""
        return (
            f"step {self.step + 1}: loss {loss}, gradient norm {norm}. The "
            "weights are as they were before this step, and the last "
            f"checkpoint is in {self.folder}. Usual causes: a learning rate "
            f"too high (now {self.config.learning_rate}), no warm-up (now "
            f"{self.config.warmup} steps), damaged tokens"
        )

    def evaluate(self) -> float:
        """Validation loss now; keeps the weights if they are the best."""
        loss = validation_loss(
            self.model,
            self.validation,
            self.model.config.context,
            precision=self.config.precision,
        )
        if loss < self.best:
            self.best, self.waiting = loss, 0
            keep_weights(self.folder, "best", self.step, self.model, True)
        else:
            self.waiting += 1
        return loss

    def is_due(self) -> bool:
        """Whether this step ends with a checkpoint and an evaluation."""
        every, last = self.config.evaluate_every, self.config.steps
        return self.step % every == 0 or self.step == last

    def out_of_patience(self) -> bool:
        """Whether the validation loss has not fallen for too long."""
        patience = self.config.patience
        return patience is not None and self.waiting >= patience

    def snapshot(self) -> None:
        """Keep this step's weights, if it is one to keep."""
        if self.step in self.config.snapshots:
            keep_weights(self.folder, "snapshots", self.step, self.model)

    def finish_step(self) -> None:
        """All that follows an update: evaluate, keep, log, show."""
        line = {**self.line, "seconds": round(self.seconds, 3)}
        if self.is_due():
            line["validation_loss"] = self.evaluate()
        self.snapshot()
        append_text(self.folder / "log.jsonl", json.dumps(line) + "\n")
        if self.board:
            for name in line.keys() - {"step"}:
                self.board.add_scalar(name, line[name], self.step)
        if self.on_sample and "validation_loss" in line:
            self.model.eval()
            with undisturbed(self.device):  # watching changes nothing
                self.on_sample(self.model, line)
            self.model.train()

    def begin(self) -> None:
        """Open the folder of a new run, or finish a resumed run's step."""
        self.model.train()
        if not self.resumed:
            start_run(self.folder, self.settings())
            self.save()
        if self.step > 0:
            self.finish_step()
        else:
            self.snapshot()

    def fit(self) -> float:
        """Train to the last step; returns the best validation loss.

        Raises Interrupted after Ctrl-C, with all saved; NonFiniteLoss when
        the loss is no longer a number; FileExistsError rather than writing
        over another run.
        """
        self.begin()
        with StopRequest() as stop, self.progress_bar() as bar:
            while self.step < self.config.steps and not self.out_of_patience():
                start = time.perf_counter()
                self.line = self.train_step()
                self.seconds += time.perf_counter() - start
                if self.is_due() or stop.requested:
                    self.save()  # before evaluating, which may fail
                if stop.requested:
                    raise Interrupted(self.how_to_resume())
                self.finish_step()
                bar.set_postfix(loss=f"{self.line['train_loss']:.3f}")
                bar.update()
        if self.board:
            self.board.close()
        return self.best

    def progress_bar(self) -> Any:
        """A bar on a terminal, silence in a file."""
        return tqdm(
            total=self.config.steps,
            initial=self.step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
        )

    def how_to_resume(self) -> str:
        """What to say after Ctrl-C."""
        return (
            f"stopped after step {self.step}, all is saved; go on with: "
            f"python -m scratchlm train --resume --out {self.folder}"
        )
