"""What the training loop must do."""

import json
import math
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import trainer
from scratchlm.training.checkpoint import load_model

from ..expect import close, equal, raises, true

TOKENS = np.arange(200) * 7 % 11


class Coin(nn.Module):
    """Probability 3/4 for token 0 and 1/4 for token 1, come what may."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([math.log(3), 0.0]))
        self.dropout = nn.Dropout(0.9)

    def forward(self, ids: Tensor) -> Tensor:
        return self.dropout(self.logits.expand(*ids.shape, 2))


def make(folder: Path, **settings: Any) -> Any:
    """A trainer of a very small model with dropout."""
    dropout = settings.pop("dropout", 0.1)
    on_sample = settings.pop("on_sample", None)
    batch_size = settings.pop("batch_size", 3)
    rhythm = {"evaluate_every": 3, "checkpoint_every": 3}
    settings = {"steps": 6, "warmup": 2, **rhythm, **settings}
    torch.manual_seed(8)
    config = gpt2_config(
        vocab_size=11,
        context=5,
        layers=1,
        heads=2,
        channels=8,
        dropout=dropout,
    )
    return trainer.Trainer(
        GPT(config),
        BatchCursor(TOKENS, 5, batch_size, seed=2),
        TOKENS[:31],
        trainer.TrainConfig(**settings),
        folder,
        on_sample,
    )


def weights(model: nn.Module) -> Tensor:
    """All weights as one long vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def check_validation_weighs_tokens() -> None:
    """Four tokens in one window and one in the next weigh 4 to 1."""
    tokens = np.array([0, 0, 0, 0, 0, 1])
    model = Coin()
    close(
        trainer.validation_loss(model, tokens, context=4),
        (4 * math.log(4 / 3) + math.log(4)) / 5,
        "loss of 0 0 0 0 | 1 with probabilities 3/4 and 1/4",
        hint="add up nats, divide once by the tokens; dropout is off; the "
        "last window, which is shorter, counts",
    )
    true(model.training, "after that, the model is in training mode again")


class SeesLength(nn.Module):
    """Its loss at token 0 is ln 2 for each token it could look back on."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))  # tells the device

    def forward(self, ids: Tensor) -> Tensor:
        seen = torch.arange(1.0, ids.shape[1] + 1)
        rare = -seen * math.log(2)
        logits = torch.stack([rare, torch.log1p(-rare.exp())], dim=-1)
        return logits.expand(len(ids), -1, -1)


def check_every_token_is_scored_once() -> None:
    """Windows of 4, side by side and then half over each other."""
    for stride, wanted in (
        (4, [1, 2, 3, 4, 1, 2, 3, 4, 1]),
        (2, [1, 2, 3, 4, 3, 4, 3, 4, 3]),
    ):
        got = trainer.token_losses(SeesLength(), [0] * 10, 4, 2, stride)
        close(
            got / math.log(2),
            wanted,
            f"tokens looked back on, windows of 4 that advance by {stride}",
            hint="the last window is shorter and counts all the same; what "
            "the window before has scored is context only",
        )


def check_learning_rate_is_set() -> None:
    """The first step of Adam moves weights by the learning rate."""
    run = make(Path(tempfile.mkdtemp()), weight_decay=0.0, dropout=0.0)
    before = weights(run.model)
    rate = run.schedule.rate(0)
    run.train_step()
    moved = (weights(run.model) - before).abs().max().item()
    close(
        moved / rate,
        1.0,
        "the largest move, in learning rates",
        tol=1e-2,
        hint="set group['lr'] from the schedule before the step",
    )


def gradients(run: Any) -> tuple[list[Tensor], dict[str, Any]]:
    """What the optimizers see in one step, and the log's line about it."""
    seen: dict[nn.Parameter, Tensor] = {}

    def look(optimizer: Optimizer, *others: Any) -> None:
        for group in optimizer.param_groups:
            seen.update((p, p.grad.clone()) for p in group["params"])

    hook = register_optimizer_step_pre_hook(look)
    try:
        line = run.train_step()
    finally:
        hook.remove()
    return [seen[p] for p in run.model.parameters()], line


def check_clipping_comes_before_the_step() -> None:
    """Gradients are clipped to the norm asked for, the log has the old."""
    run = make(Path(tempfile.mkdtemp()), clip=0.001)
    found, line = gradients(run)
    norm = sum(g.square().sum() for g in found) ** 0.5
    close(norm, 0.001, "the norm the optimizer saw", tol=1e-5)
    true(line["gradient_norm"] > 0.01, "the norm in the log is unclipped")


def check_gradients_do_not_pile_up() -> None:
    """The second step's gradient holds nothing of the first's."""
    run = make(Path(tempfile.mkdtemp()), dropout=0.0, clip=1e9)
    run.train_step()
    ids, targets = run.next_batch()
    run.train.next_batch = lambda: (ids, targets)
    for parameter in run.model.parameters():
        parameter.grad = None
    trainer.accumulate_gradients(run.model, [(ids, targets)])
    wanted = [p.grad.clone() for p in run.model.parameters()]
    for found, gradient in zip(gradients(run)[0], wanted, strict=True):
        close(
            found,
            gradient,
            "the gradient of a step",
            tol=1e-6,
            hint="zero the gradients before every step",
        )


def check_batches_add_up_to_one_step() -> None:
    """A step of two batches of 3 is the step of one batch of 6."""
    steps = []
    for accumulate, batch_size in ((1, 6), (2, 3)):
        run = make(
            Path(tempfile.mkdtemp()),
            accumulate=accumulate,
            batch_size=batch_size,
            dropout=0.0,
            clip=1e9,
        )
        steps.append(gradients(run))
    (whole, wanted), (parts, line) = steps
    equal(line["tokens"], wanted["tokens"], "tokens of a step")
    close(line["train_loss"], wanted["train_loss"], "the loss of a step")
    for found, gradient in zip(parts, whole, strict=True):
        close(
            found,
            gradient,
            "the gradient of two batches of 3, and of one of 6",
            tol=1e-6,
            hint="add up as many batches as `accumulate` says",
        )


def lowered(run: Any) -> list[bool]:
    """The modes, training or not, in which autocast was on in a run."""
    seen = set()

    def look(layer: nn.Module, inputs: Any) -> None:
        if torch.is_autocast_enabled("cpu"):
            seen.add(layer.training)

    hook = register_module_forward_pre_hook(look)
    try:
        run.fit()
    finally:
        hook.remove()
    return sorted(seen)


def check_precision_is_that_of_the_settings() -> None:
    """Steps and evaluations in bfloat16, and in float32."""
    for precision, modes in (("float32", []), ("bfloat16", [False, True])):
        folder = Path(tempfile.mkdtemp()) / "run"
        equal(
            lowered(make(folder, precision=precision, steps=1)),
            modes,
            f"where autocast is on, evaluating (False) and in training "
            f"(True), with {precision}",
            hint="hand the settings' precision on to both",
        )


def check_a_stop_leaves_no_trace() -> None:
    """Stopped after 3 of 6 steps and resumed: the weights of 6 steps."""
    one = Path(tempfile.mkdtemp())
    two = Path(tempfile.mkdtemp())
    whole = make(one)
    whole.fit()
    parts = make(two, on_sample=crash)
    raises(Crash, parts.fit, "a crash while evaluating at step 3")
    torch.manual_seed(999)
    again = trainer.Trainer.resume(
        two, BatchCursor(TOKENS, 5, 3, seed=2), TOKENS[:31]
    )
    equal(again.step, 3, "the step at which the run resumes")
    again.fit()
    equal(
        weights(again.model),
        weights(whole.model),
        "weights after the resume",
        hint="save before evaluating; the place in the data and the random "
        "states belong to the checkpoint",
    )
    logs = [
        [(line["step"], line["train_loss"]) for line in trainer.read_log(f)]
        for f in (one, two)
    ]
    equal(logs[1], logs[0], "the log: every step once")


class Crash(Exception):
    """An error that no training loop knows of."""


def crash(model: nn.Module, line: dict[str, Any]) -> None:
    """What a crash looks like from inside."""
    raise Crash


def check_nan_stops() -> None:
    """A loss that is no number stops, before it reaches the weights."""
    run = make(Path(tempfile.mkdtemp()))
    ids, targets = run.next_batch()
    run.model = Poisoned(run.model)
    before = weights(run.model)
    run.train.next_batch = lambda: (ids, targets)
    raises(RuntimeError, run.train_step, "a step whose loss is NaN")
    equal(weights(run.model), before, "the weights after that")


class Poisoned(nn.Module):
    """A model all of whose logits are NaN."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(ids)
        return logits * math.nan


def check_what_a_run_writes() -> None:
    """Settings, a line for each step, and the losses where they are due."""
    folder = Path(tempfile.mkdtemp()) / "run"
    run = make(folder, evaluate_every=2, snapshots=(4,))
    run.data = {"entropy_nats": 30.0, "validation_tokens": 21}
    best = run.fit()
    lines = trainer.read_log(folder)
    equal([line["step"] for line in lines], [1, 2, 3, 4, 5, 6], "the steps")
    due = [line["step"] for line in lines if "validation_loss" in line]
    equal(due, [2, 4, 6], "steps with a validation loss")
    losses = [line["validation_loss"] for line in lines if line["step"] in due]
    close(best, min(losses), "the best of the validation losses")
    equal(
        [line["tokens"] for line in lines],
        [15 * n for n in range(1, 7)],
        "tokens that were learned from",
    )
    close(
        [line["learning_rate"] for line in lines],
        [run.schedule.rate(n) for n in range(6)],
        "the learning rates",
    )
    true(lines[-1]["seconds"] >= lines[0]["seconds"] > 0, "seconds go on")
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    equal(settings["data"], run.data, "what config.json says of the data")
    equal(settings["training"]["steps"], 6, "and of the steps")
    equal(settings["model"]["channels"], 8, "and of the model")
    close(trainer.entropy_floor(run.data), 1.5, "nats no model can beat")
    equal(trainer.entropy_floor({}), None, "without a known entropy")
    equal(trainer.read_train_config(folder), run.config, "settings, read")
    true((folder / "snapshots").is_dir(), "the weights of step 4 are kept")
    true("--resume" in run.how_to_resume(), "it is told how to go on")


def check_each_optimizer() -> None:
    """AdamW in two forms, and Muon: each steps, at the rate asked for."""
    for name, count in (("adamw", 1), ("fused_adamw", 1), ("muon", 2)):
        run = make(Path(tempfile.mkdtemp()), optimizer=name, learning_rate=0.01)
        made = run.optimizers
        equal(len(made), count, f"optimizers for {name}")
        rates = {group["lr"] for o in made for group in o.param_groups}
        true(0.01 in rates, f"the rate of {name}")
        found = sum(
            p.numel() for o in made for g in o.param_groups for p in g["params"]
        )
        wanted = sum(p.numel() for p in run.model.parameters())
        equal(found, wanted, f"numbers that {name} moves")
        before = {p: p.detach().clone() for p in run.model.parameters()}
        run.train_step()
        groups = [group for o in made for group in o.param_groups]
        close(
            [float(group["lr"]) for group in groups],
            [run.schedule.rate(0)] * len(groups),
            f"the rates of all groups of {name} in the first step",
            hint="set the rate of every optimizer, and of every group",
        )
        moved = [
            any(
                not torch.equal(p, before[p])
                for group in o.param_groups
                for p in group["params"]
            )
            for o in made
        ]
        equal(
            moved,
            [True] * count,
            f"whether each optimizer of {name} moves something",
            hint="every optimizer steps",
        )


def check_settings_that_no_run_can_have() -> None:
    """Refused, with the name of the setting."""
    for name, value in (
        ("steps", 0),
        ("accumulate", 0),
        ("evaluate_every", 0),
        ("checkpoint_every", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("clip", 0.0),
        ("weight_decay", -0.1),
        ("warmup", -1),
        ("patience", 0),
        ("schedule", "linear"),
        ("optimizer", "sgd"),
        ("precision", "float8"),
    ):
        settings: dict[str, Any] = {"steps": 1, name: value}
        raises(
            ValueError,
            partial(trainer.TrainConfig, **settings),
            f"{name}={value}",
        )
    for length, stride in ((1, 1), (9, 0), (9, 5)):
        raises(
            ValueError,
            partial(next, trainer.spans(length, 4, stride)),
            f"{length} tokens, windows of 4 that advance by {stride}",
        )


def check_timing_changes_nothing() -> None:
    """Weights, the place in the data and random numbers stay."""
    run = make(Path(tempfile.mkdtemp()))
    before, place = weights(run.model), run.train.state_dict()
    torch.manual_seed(5)
    seconds = trainer.seconds_per_step(run.model, run.train, run.config)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    equal(drawn, torch.rand(1), "the next random number")
    true(0 < seconds < 60, "seconds of a step")
    equal(weights(run.model), before, "the weights")
    equal(run.train.state_dict(), place, "the place in the data")
    equal(
        [p.grad for p in run.model.parameters() if p.grad is not None],
        [],
        "gradients that are left",
    )


def fit_to(run: Any, losses: list[float]) -> Any:
    """Train a run whose evaluations find these losses; returns the best."""
    rest, usual = iter(losses), trainer.validation_loss
    try:
        trainer.validation_loss = lambda *given, **more: next(rest)
        return run.fit()
    finally:
        trainer.validation_loss = usual


def check_patience() -> None:
    """Two evaluations without a new best, and the run is over."""
    for losses, step, wanted in (
        ([3.0, 2.0, 2.5, 2.0, 1.0], 4, 2.0),
        ([3.0, 4.0, 2.0, 5.0, 1.0, 9.0, 9.0], 7, 1.0),
    ):
        run = make(
            Path(tempfile.mkdtemp()) / "run",
            steps=9,
            evaluate_every=1,
            patience=2,
        )
        best = fit_to(run, losses)
        equal(
            run.step,
            step,
            f"the step after which patience is at its end, losses {losses}",
            hint="with every new best it begins anew",
        )
        equal(best, wanted, "the best loss")


def check_the_best_weights_are_kept() -> None:
    """After the losses 3, 4, 1 and 2, those of the third step are kept."""
    folder = Path(tempfile.mkdtemp()) / "run"
    run = make(folder, steps=4, evaluate_every=1, snapshots=(3,))
    fit_to(run, [3.0, 4.0, 1.0, 2.0])
    equal(
        weights(load_model(folder)),
        weights(load_model(folder, snapshot=3)),
        "the weights kept as the best, and the snapshot of step 3",
        hint="keep them where the loss is lower than ever, and nowhere else",
    )


def check_a_branch_goes_on() -> None:
    """A longer run from a shorter one's checkpoint, with its own settings."""
    source, folder = (Path(tempfile.mkdtemp()) / name for name in "ab")
    settings = {"schedule": "stable", "warmup": 1}
    make(source, steps=10, **settings).fit()
    config = trainer.TrainConfig(steps=14, **settings)  # type: ignore
    short = trainer.TrainConfig(steps=10, **settings)  # type: ignore
    equal(
        [trainer.same_rates(short, config, n) for n in (9, 10)],
        [True, False],
        "whether rates are the same for 9 steps, and for 10",
    )
    new = trainer.Trainer.branch(
        source, folder, config, BatchCursor(TOKENS, 5, 3, seed=2), TOKENS[:31]
    )
    equal(new.step, 8, "the step from which the branch goes on")
    equal(new.config, config, "its settings")
    new.fit()
    equal(new.step, 14, "its last step")
    raises(
        ValueError,
        lambda: trainer.Trainer.branch(
            source,
            folder.with_name("c"),
            replace(config, weight_decay=0.3),
            BatchCursor(TOKENS, 5, 3, seed=2),
            TOKENS[:31],
        ),
        "a branch with another decay of weights",
    )


BUGS = {
    "mean of the batches' means": (
        "losses.append(row[fresh - b :])",
        "losses.append(row[fresh - b :].mean()[None])",
    ),
    "dropout stays on while validating": ("    model.eval()\n", ""),
    "the last, shorter window is left out": (
        "while end < length - 1:",
        "while end + context < length:",
    ),
    "tokens in the overlap are scored twice": (
        "losses.append(row[fresh - b :])",
        "losses.append(row)",
    ),
    "windows begin too late": (
        "begin + stride, end",
        "begin + stride + 1, end",
    ),
    "the schedule is computed but not set": (
        "        set_learning_rate(self.optimizers, rate)\n",
        "",
    ),
    "gradients are never zeroed": (
        "            optimizer.zero_grad()\n",
        "            pass\n",
    ),
    "the place in the data is not restored": (
        "            self.train.load_state_dict(progress.cursor)\n",
        "",
    ),
    "the resumed log repeats lines": (
        "        restore_log(self.folder, size)\n",
        "",
    ),
    "NaN goes into the weights": (
        "if not (math.isfinite(loss) and math.isfinite(norm)):",
        "if False:",
    ),
    "config.json does not tell of the data": (
        '"data": self.data,',
        '"data": {},',
    ),
    "the log has the next step's rate": (
        '"learning_rate": rate,',
        '"learning_rate": self.schedule.rate(self.step),',
    ),
    "tokens of the last step alone are told": (
        "self.tokens += sum(",
        "self.tokens = sum(",
    ),
    "timing moves the place in the data": (
        "    train.load_state_dict(place)\n",
        "",
    ),
    "a run waits for ever": (
        "return patience is not None and self.waiting >= patience",
        "return False",
    ),
    "a branch begins where the rate had fallen": (
        '    return "checkpoint"\n\n\ndef read_train',
        '    return "checkpoint"\n\n\nsame_rates = lambda *given: True\n'
        "\n\ndef read_train",
    ),
    "a branch may change what moments belong to": (
        "        if names := [n for n in FIXED",
        "        if names := [n for n in ()",
    ),
    "any clip is taken": (
        'for name in ("learning_rate", "clip"):',
        'for name in ("learning_rate",):',
    ),
    "only the first optimizer steps": (
        "            optimizer.step()\n        self.step += 1\n",
        "            optimizer.step()\n            break\n"
        "        self.step += 1\n",
    ),
    "only the first optimizer gets its rate": (
        "        set_learning_rate(self.optimizers, rate)\n",
        "        set_learning_rate(self.optimizers[:1], rate)\n",
    ),
    "a step has one batch, whatever is asked": (
        "for _ in range(config.accumulate)]",
        "for _ in range(1)]",
    ),
    "steps are in float32, whatever is asked": (
        "(self.model, batches, self.config.precision)",
        "(self.model, batches)",
    ),
    "evaluations are in float32, whatever is asked": (
        "            precision=self.config.precision,\n",
        "",
    ),
    "patience does not begin anew": (
        "self.best, self.waiting = loss, 0",
        "self.best = loss",
    ),
    "the last weights are kept as the best": (
        '            keep_weights(self.folder, "best", self.step, self.model, '
        "True)\n        else:\n            self.waiting += 1\n",
        "        else:\n            self.waiting += 1\n"
        '        keep_weights(self.folder, "best", self.step, self.model, '
        "True)\n",
    ),
}
