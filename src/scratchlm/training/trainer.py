"""The training loop: from a model, tokens and settings to trained weights.

A run lives in one folder: its settings, a log with a line per step, the
checkpoint from which it resumes exactly, the best weights, and snapshots of
the weights at chosen steps. Whatever changes the numbers is in
`TrainConfig`; whatever only watches (progress, samples, TensorBoard) cannot
change them.

Several processes share one step in `scratchlm.training.distributed`.
"""

import json
import math
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from types import FrameType
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.files import (
    SEAL,
    FileError,
    append_text,
    read_bytes,
    read_seal,
)
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.checkpoint import (
    INPUTS,
    Progress,
    blaming,
    branch_run,
    checkpoint_folder,
    keep_weights,
    load_checkpoint,
    log_size,
    read_settings,
    reseal,
    restore_log,
    save_checkpoint,
    sealed_names,
    start_run,
    step_of,
    sweep,
    under,
    undisturbed,
)
from scratchlm.training.memory import (
    accumulate_gradients,
    batch_loss,
    count_targets,
)
from scratchlm.training.muon import muon_and_adamw
from scratchlm.training.optimizer import (
    AdamW,
    clip_gradients,
    nonfinite_gradients,
    parameter_groups,
)
from scratchlm.training.precision import (
    Precision,
    autocast,
    fast_precision,
    float32_products,
)
from scratchlm.training.schedule import (
    Schedule,
    cosine,
    set_learning_rate,
    warmup_stable_decay,
)

Rule = Literal["adamw", "fused_adamw", "muon"]
Span = tuple[int, int, int]
FIXED = ("optimizer", "weight_decay")  # what a branch cannot change
LOGGED = ("step", "train_loss", "seconds")  # in every line
LogRecord = dict[str, Any]  # what the log says of one step


@dataclass(frozen=True)
class TrainConfig:
    """All that decides how a run goes, besides the model and the tokens.

    "auto" becomes the precision in which the device is fastest. The fused
    AdamW is the library's, one kernel for all tensors. "stable" is warm-up,
    stable, decay. Raises ValueError for settings that no run can have.
    """

    steps: int  # updates of the weights
    learning_rate: float = 3e-3  # the highest
    schedule: Literal["cosine", "stable"] = "cosine"  # of the rate
    warmup: int = 50  # steps until the rate is highest
    optimizer: Rule = "adamw"  # how gradients become steps
    weight_decay: float = 0.1  # pull of matrices towards zero
    clip: float = 1.0  # largest norm of the gradient
    accumulate: int = 1  # batches to one step
    precision: Precision = "float32"  # of matrix products
    compile: bool = False  # the blocks, by torch.compile
    checkpoint_activations: bool = False  # less memory, a third more time
    evaluate_every: int = 100  # steps from evaluation to evaluation
    checkpoint_every: int = 100  # steps from checkpoint to checkpoint
    patience: int | None = None  # end after so many evaluations without a best
    snapshots: tuple[int, ...] = ()  # steps whose weights are kept

    def __post_init__(self) -> None:
        """Refuse settings that no run can have, and say which."""
        for name in (
            "steps",
            "accumulate",
            "evaluate_every",
            "checkpoint_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError("weight_decay must be 0 or more, and finite")
        if self.warmup < 0:
            raise ValueError("warmup must be 0 or more")
        if self.patience is not None and self.patience < 1:
            raise ValueError("patience must be 1 or more, or none at all")
        for name, known in choices(TrainConfig).items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}")


def choices(config: type) -> dict[str, tuple[str, ...]]:
    """The fields of a dataclass that name one of several: name → names.

    >>> choices(TrainConfig)["schedule"]
    ('cosine', 'stable')
    """
    found = {}
    for name, hint in get_type_hints(config).items():
        parts = [hint, *get_args(hint)]  # a union has its parts as arguments
        known = [
            word
            for part in parts
            for word in get_args(part)
            if isinstance(word, str)
        ]
        if known:
            found[name] = tuple(known)
    return found


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is no longer a number."""


class Interrupted(Exception):
    """Training was asked to stop; everything is saved."""


class StopRequest:
    """Ctrl-C, heard between two steps instead of in the middle of one.

    A second Ctrl-C stops at once. The signal by which clusters announce
    that a machine will be taken away (SIGTERM) is heard in the same way.
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
        """Make signals do what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)


def spans(length: int, context: int, stride: int) -> Iterator[Span]:
    """Cut `length` tokens into windows so that each token is scored once.

    Yields (begin, fresh, end): from the tokens begin ... end - 1 the model
    predicts the tokens begin + 1 ... end, and those after `fresh` count;
    the others were scored by the window before. The next window begins
    `stride` tokens later. Raises ValueError for fewer than two tokens, and
    for a stride that is longer than the context and would leave a hole.

    >>> list(spans(8, context=4, stride=4))
    [(0, 0, 4), (4, 4, 7)]
    >>> list(spans(8, context=4, stride=2))
    [(0, 0, 4), (2, 4, 6), (4, 6, 7)]
    """
    if length < 2:
        raise ValueError(f"{length} tokens: it takes two to predict one")
    if not 1 <= stride <= context:
        raise ValueError(
            f"stride {stride} with a context of {context}: choose 1 to "
            f"{context}, or tokens are never scored"
        )
    begin = fresh = end = 0
    while end < length - 1:
        end = min(begin + context, length - 1)
        yield begin, fresh, end
        begin, fresh = begin + stride, end


def span_batches(cuts: Iterator[Span], batch_size: int) -> Iterator[list[Span]]:
    """Up to `batch_size` windows at a time, all of one length."""
    for _, equal in groupby(cuts, key=lambda cut: cut[2] - cut[0]):
        while batch := list(islice(equal, batch_size)):
            yield batch


def token_losses(
    model: nn.Module,
    tokens: Any,
    context: int,
    batch_size: int = 32,
    stride: int | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """Nats for each of N tokens but the first: (N - 1,), in order.

    `tokens` is a 1-D array or list of ids; a file on disk is read piece by
    piece. Windows of `context` tokens begin every `stride` tokens, side by
    side unless told otherwise. Dropout is off meanwhile.
    """
    device = next(model.parameters(), torch.empty(0)).device
    cuts = spans(len(tokens), context, context if stride is None else stride)
    was_training, losses = model.training, []
    model.eval()
    try:
        with torch.inference_mode(), float32_products(precision):
            for batch in span_batches(cuts, batch_size):
                rows = [np.asarray(tokens[b : end + 1]) for b, _, end in batch]
                ids = torch.from_numpy(np.stack(rows).astype(np.int64))
                ids = ids.to(device)  # (B, T + 1)
                with autocast(device.type, precision):
                    nats = batch_loss(model, ids[:, :-1], ids[:, 1:], "none")
                for row, (b, fresh, _) in zip(
                    nats.view(len(batch), -1), batch, strict=True
                ):
                    losses.append(row[fresh - b :])
    finally:
        model.train(was_training)
    return torch.cat(losses).cpu()  # the one wait for the device


def validation_loss(
    model: nn.Module,
    tokens: Any,
    context: int,
    batch_size: int = 32,
    precision: Precision = "float32",
) -> float:
    """Mean nats per token of a text in windows side by side."""
    losses = token_losses(
        model, tokens, context, batch_size, precision=precision
    )
    return float(losses.double().mean())


def entropy_floor(data: Mapping[str, Any]) -> float | None:
    """Nats per token that only luck can beat on a run's validation text.

    `data` is what config.json says about it; None if the entropy is unknown.
    All tokens but the first are predicted: their number is the divisor.

    >>> entropy_floor({"entropy_nats": 30.0, "validation_tokens": 21})
    1.5
    """
    if "entropy_nats" not in data:
        return None
    return float(data["entropy_nats"]) / (data["validation_tokens"] - 1)


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """AdamW for all, or Muon for the matrices and AdamW for the rest."""
    if config.optimizer == "muon":
        return muon_and_adamw(
            model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            dtype=torch.bfloat16
            if config.precision == "bfloat16"
            else torch.float32,
        )
    groups = parameter_groups(model, config.weight_decay)
    if config.optimizer == "fused_adamw":
        return [
            torch.optim.AdamW(
                groups, config.learning_rate, (0.9, 0.95), fused=True
            )
        ]
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


def branch_part(
    source: Path, old: TrainConfig, config: TrainConfig, verify: bool = True
) -> str:
    """The checkpoint to go on from: the last one, or that before the decay.

    The one before the decay, if the learning rates are the same only up to
    there.
    """
    names = sealed_names(source, verify)
    last = step_of(checkpoint_folder(source, verify).name)
    if under(names, "stable") and not same_rates(old, config, last):
        stable = checkpoint_folder(source, verify, "stable").name
        if same_rates(old, config, step_of(stable)):
            return "stable"
    return "checkpoint"


def read_train_config(run: Path, verify: bool = True) -> TrainConfig:
    """The settings of a run's loop, from its config.json."""
    _, settings = read_settings(run, verify)
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
    for number, text in enumerate(read_bytes(path).split(b"\n")[:-1], 1):
        try:
            line = dict(json.loads(text))
            sum([*(line[name] for name in LOGGED), *line.values()])  # numbers
            lines.append(line)
        except (ValueError, TypeError, LookupError) as error:
            raise FileError(f"{path}:{number} is damaged: {error}") from error
    return lines


def tensorboard_writer() -> Any:
    """The class that writes TensorBoard's files; the package is optional."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "TensorBoard is asked for but not installed; get it with: "
            "pip install tensorboard"
        ) from error
    return SummaryWriter


def apply_settings(model: GPT, config: TrainConfig) -> None:
    """Let the model recompute or compile its blocks, as the run wants."""
    model.checkpoint_activations = config.checkpoint_activations
    if config.compile:
        for block in model.blocks:  # alike, so one is compiled for all
            block.compile()


def settle(config: TrainConfig, model: GPT, batch_size: int) -> TrainConfig:
    """The settings with the precision that "auto" stands for here."""
    if config.precision != "auto":
        return config
    shape, device = model.config, next(model.parameters()).device
    rows = batch_size * shape.context
    cuda = device.type == "cuda"  # this card, and not the first one
    with torch.cuda.device(device) if cuda else nullcontext():
        fast = fast_precision(device.type, rows, shape.channels)
    return replace(config, precision=fast)


def seconds_per_step(
    model: GPT, train: BatchCursor, config: TrainConfig
) -> float:
    """Time a step, at rate 0 and on the model itself: nothing is changed.

    Weights, random state and the place in the data are as they were, and
    the gradients are cleared. Needs no more memory than training will.
    """
    config = settle(config, model, train.batch_size)
    apply_settings(model, config)
    place, optimizers = train.state_dict(), make_optimizers(model, config)
    set_learning_rate(optimizers, 0.0)
    model.train()
    with undisturbed(next(model.parameters()).device):
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            batch = [train.next_batch()]
            accumulate_gradients(model, batch, config.precision).item()
            middle = time.perf_counter()
            clip_gradients(model.parameters(), config.clip)
            for optimizer in optimizers:
                optimizer.step()
            next(model.parameters())[0, 0].item()  # waits for all of it
            end = time.perf_counter()
            model.zero_grad()
    train.load_state_dict(place)
    return config.accumulate * (middle - start) + (end - middle)


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
        if len(validation) < 2:
            raise ValueError(
                f"{len(validation)} tokens to validate with: it takes two to "
                "predict one; hold out more of the text"
            )
        self.model, self.train, self.validation = model, train, validation
        self.folder = Path(folder)
        self.on_sample, self.data = on_sample, dict(data or {})
        self.device = next(model.parameters()).device
        self.config = config = settle(config, model, train.batch_size)
        self.optimizers = make_optimizers(model, config)
        self.schedule = make_schedule(config)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.best, self.waiting = math.inf, 0
        self.line: LogRecord = {}  # of the last step, without its evaluation
        self.resumed, self.board = False, None
        self.writer = tensorboard_writer() if tensorboard else None
        apply_settings(model, config)

    def settings(self) -> dict[str, Any]:
        """What config.json says: model, training and data."""
        return {
            "model": asdict(self.model.config),
            "training": asdict(self.config),
            "data": self.data,
        }

    @staticmethod
    def blank(config: GPTConfig, device: str) -> GPT:
        """A model that waits for the weights of a checkpoint."""
        return GPT(config).to(device)

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
        model_config, settings = read_settings(folder, verify)
        trainer = cls(
            cls.blank(model_config, device),
            train,
            validation,
            read_train_config(folder, verify),
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
        verify: bool = True,
        **options: Any,
    ) -> "Trainer":
        """A new run that begins where the checkpoint of another one is.

        `config` may differ from the other run's in all but what `FIXED`
        names. If the learning rates up to the checkpoint are the same
        in both (`same_rates`), the new run is what a run with these
        settings would have been from its first step on.
        """
        old = read_train_config(source, verify)
        if names := [n for n in FIXED if getattr(old, n) != getattr(config, n)]:
            raise ValueError(
                f"a run that goes on cannot change {' and '.join(names)}: "
                "the optimizer's moments belong to what was; train from the "
                "beginning"
            )
        if config.precision == "auto":  # what is written must be settled
            form, _ = read_settings(source, verify)
            blank = cls.blank(form, options.get("device", "cpu"))
            config = settle(config, blank, train.batch_size)
            del blank  # its memory is needed
        part = branch_part(source, old, config, verify)
        branch_run(source, folder, asdict(config), verify, part)
        return cls.resume(folder, train, validation, verify=verify, **options)

    def save(self, part: str = "checkpoint") -> None:
        """Write the checkpoint: the run as it is between two steps."""
        notes = {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best": self.best if self.best < math.inf else None,
            "waiting": self.waiting,
            "line": self.line,
            "log": log_size(self.folder),
        }
        save_checkpoint(
            self.folder,
            self.model,
            self.optimizers,
            Progress(self.step, self.train.state_dict(), notes),
            self.settings(),
            ["config.json", "log.jsonl", *unsealed_inputs(self.folder)],
            part,
            self.device,
        )

    def load(self, verify: bool = True) -> None:
        """Resume from the checkpoint, and cut the log back to it."""
        progress = load_checkpoint(
            self.folder,
            self.model,
            self.optimizers,
            self.settings(),
            verify,
            self.device,
        )
        if not verify:
            reseal(self.folder)
        with blaming(checkpoint_folder(self.folder) / "state.json"):
            self.step = progress.step
            self.train.load_state_dict(progress.cursor)
            notes = progress.notes
            self.tokens, self.seconds = notes["tokens"], notes["seconds"]
            self.best = math.inf if notes["best"] is None else notes["best"]
            self.waiting, self.line = notes["waiting"], notes["line"]
            size = int(notes["log"])
        sweep(self.folder)
        restore_log(self.folder, size)
        self.resumed = True

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """The cursor's next batch, in main memory."""
        return self.train.next_batch()

    def accumulate(self, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Add the gradient of a step's mean loss; returns the loss."""
        return accumulate_gradients(self.model, batches, self.config.precision)

    def train_step(self) -> LogRecord:
        """One update of the weights; returns the log's line about it.

        Waits for the device once, when all but the update is done.
        """
        config = self.config
        rate = self.schedule.rate(self.step)
        set_learning_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        batches = [self.next_batch() for _ in range(config.accumulate)]
        total = self.accumulate(batches)
        length = self.clip()
        loss, norm = torch.stack([total, length]).tolist()  # the wait
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

    def clip(self) -> Tensor:
        """Shorten the gradient, if it is too long; returns its length."""
        return clip_gradients(self.model.parameters(), self.config.clip)

    def nonfinite(self) -> list[str]:
        """The parameters whose gradients contain NaN or infinity."""
        return nonfinite_gradients(self.model)

    def describe_failure(self, loss: float, norm: float) -> str:
        """What to say when the loss is no longer a number."""
        found = self.nonfinite()
        bad = ", ".join(found[:3]) or "none"
        if len(found) > 3:
            bad += f" and {len(found) - 3} more parameters"
        return (
            f"step {self.step + 1}: loss {loss}, gradient norm {norm}; "
            f"gradients that are NaN or infinite: {bad}. The "
            "weights are as they were before this step, and the last "
            f"checkpoint is in {self.folder}. Usual causes: a learning rate "
            f"too high (now {self.config.learning_rate}), no warm-up (now "
            f"{self.config.warmup} steps), damaged tokens"
        )

    def judge(self) -> float:
        """Validation loss now."""
        return validation_loss(
            self.model,
            self.validation,
            self.model.config.context,
            precision=self.config.precision,
        )

    def evaluate(self) -> float:
        """Validation loss now; keeps the weights if they are the best."""
        loss = self.judge()
        if loss < self.best:
            self.best, self.waiting = loss, 0
            keep_weights(self.folder, "best", self.step, self.model, True)
        else:
            self.waiting += 1
        return loss

    def is_due(self, every: int) -> bool:
        """Whether what is done every so many steps is due after this one."""
        return self.step % every == 0 or self.step == self.config.steps

    def is_last_stable(self) -> bool:
        """Whether the rate falls from here on, after a stretch at its peak."""
        schedule = self.schedule
        end = schedule.warmup + schedule.stable
        return self.config.schedule == "stable" and self.step == end

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
        if self.is_due(self.config.evaluate_every):
            line["validation_loss"] = self.evaluate()
        self.snapshot()
        append_text(self.folder / "log.jsonl", json.dumps(line) + "\n")
        self.show_on_board(line)
        if self.on_sample and "validation_loss" in line:
            self.model.eval()
            with undisturbed(self.device):  # watching changes nothing
                self.on_sample(self.model, line)
            self.model.train()

    def show_on_board(self, line: LogRecord) -> None:
        """Write the line for TensorBoard, if it is asked for.

        Steps that were shown and then lost in a crash are no longer shown.
        """
        if self.writer and not self.board:
            board = str(self.folder / "tensorboard")
            self.board = self.writer(board, purge_step=self.step)
        if self.board:
            for name in line.keys() - {"step"}:
                self.board.add_scalar(name, line[name], self.step)

    def begin(self) -> None:
        """Open the folder of a new run, or finish a resumed run's step."""
        self.model.train()
        if not self.resumed:
            start_run(self.folder, self.settings())
            self.save()
        if self.line:  # of a step that was saved, but not yet finished
            self.finish_step()
        else:
            self.snapshot()

    def fit(self) -> float:
        """Train to the last step; returns the best validation loss.

        Raises Interrupted after Ctrl-C, with all saved; NonFiniteLoss when
        the loss is no longer a number; FileExistsError rather than writing
        over another run.
        """
        try:
            self.begin()
            with StopRequest() as stop, self.progress_bar() as bar:
                while not self.is_done():
                    self.advance(stop)
                    bar.set_postfix(loss=f"{self.line['train_loss']:.3f}")
                    bar.update()
        finally:
            if self.board:
                self.board.close()
        return self.best

    def is_done(self) -> bool:
        """Whether the last step has been taken, or patience has run out."""
        return self.step >= self.config.steps or self.out_of_patience()

    def advance(self, stop: StopRequest) -> None:
        """One step and all that follows it; a checkpoint comes first."""
        start = time.perf_counter()
        self.line = self.train_step()
        self.seconds += time.perf_counter() - start
        if self.is_last_stable():
            self.save("stable")  # up to here, a longer run is the same
        if self.is_due(self.config.checkpoint_every) or stop.requested:
            self.save()  # before evaluating, which may fail
        if stop.requested:
            raise Interrupted(self.how_to_resume())
        self.finish_step()

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
            "python -m scratchlm train --resume --out "
            f"{shlex.quote(str(self.folder))}"
        )
