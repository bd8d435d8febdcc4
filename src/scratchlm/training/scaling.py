"""Before the large run: its operations, its law, its plan, its rates.

Four questions that small models answer for a large one. How much arithmetic
will it take? `operations` says exactly, and the library's own counter agrees.
How low will its loss be? `fit_law` fits the law of Hoffmann et al. (2022) to
many small runs. How large should it be, and how much should it read, for the
hours and the memory there are? `plan`. At which learning rate? That of a
narrow model, if start and rates follow its width (Yang et al., 2022):
`use_mup`.

Left out: laws for repeated text and for batches, and transfer across depths.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from scratchlm.model.block import rms
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    flops_per_token,
    gpt2_config,
    memory_estimate,
    parameter_table,
)
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.muon import hidden_matrices
from scratchlm.training.optimizer import AdamW, parameter_groups
from scratchlm.training.schedule import set_learning_rate
from scratchlm.training.trainer import TrainConfig, Trainer, seconds_per_step

# --- operations --------------------------------------------------------------


def operations(config: GPTConfig) -> dict[str, int]:
    """What training on one token takes, by part, at full context.

    A product of a row with a matrix takes two operations per weight, and on
    the way back two such products are made. The parts add up to
    `flops_per_token`; norms, softmax and the like are not counted.

    >>> tiny = gpt2_config(50, context=8, layers=1, heads=1, channels=4)
    >>> operations(tiny)["scores and means"]  # 6 · 2 · T · C
    384
    >>> sum(operations(tiny).values()) == flops_per_token(tiny)
    True
    """
    bare = parameter_table(
        replace(config, bias=False, qkv_bias=False, tied=False)
    )
    attended = config.heads * config.channels_per_head
    return {
        "projections": 6 * bare["attention"],
        "scores and means": 12 * config.layers * attended * config.context,
        "feed-forward": 6 * bare["feed-forward"],
        "head": 6 * bare["head"],
    }


def multiplied_weights(config: GPTConfig) -> int:
    """N: the weights that every token is multiplied with, head included.

    >>> multiplied_weights(gpt2_config())
    123532032
    """
    table = operations(config)
    return (sum(table.values()) - table["scores and means"]) // 6


def counted_operations(work: Callable[[], object]) -> int:
    """What the library counts while `work` runs: its matrix products.

    Its counter sees each product that is made, on the way back as well. It
    has no formula for the fused attention of processors, and counts it as
    nothing: build the model with ``fused=False`` to count.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


# --- the law -----------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """Loss = floor + a / weights^alpha + b / tokens^beta, in nats.

    Hoffmann et al. (2022), equation 2. The floor is what no model and no
    text can take away, and the other two terms are what too small a model
    and too little text cost.
    """

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, weights: float, tokens: float) -> float:
        """Nats per token of a model of this size after so many tokens.

        >>> Law(0.5, a=10.0, alpha=0.5, b=8.0, beta=0.5).loss(400, 1600)
        1.2
        """
        return (
            self.floor
            + self.a / weights**self.alpha
            + self.b / tokens**self.beta
        )

    def best_split(self, total: float) -> tuple[float, float]:
        """Weights and tokens of the lowest loss for a number of operations.

        They satisfy 6 · weights · tokens = total, and on logarithmic axes
        both terms are equally steep there (Hoffmann et al., 2022, equation 4).

        >>> Law(0.5, a=10.0, alpha=0.5, b=10.0, beta=0.5).best_split(6e6)
        (1000.0, 1000.0)
        """
        product, both = total / 6, self.alpha + self.beta
        ratio = self.alpha * self.a / (self.beta * self.b)
        weights = (ratio * product**self.beta) ** (1 / both)
        return weights, product / weights


def log_law(theta: Tensor, n: Tensor, m: Tensor) -> Tensor:
    """The logarithm of the law at the logarithms n, m (R,) → (R,).

    theta (5,) is log floor, log a, alpha, log b, beta. As logarithms the
    three terms are added by logsumexp, and none can become negative.
    """
    e, a, alpha, b, beta = theta
    terms = [e.expand_as(n), a - alpha * n, b - beta * m]
    return torch.stack(terms).logsumexp(dim=0)


def descend(
    theta: Tensor, points: Tensor, fixed: bool, huber: float
) -> tuple[float, Tensor]:
    """The lowest error near theta (5,), and where it is.

    points (3, R): logarithms of weights, tokens and losses. The error is
    Huber's: squares up to `huber`, straight lines beyond, so that one odd
    run does not bend the law. It is a sum in units of `huber` squared:
    were it tiny, the search would end before it began (Besiroglu et al.,
    2024).
    """
    theta = theta.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [theta],
        max_iter=100,
        tolerance_grad=1e-4,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def error() -> Tensor:
        search.zero_grad()
        gaps = (log_law(theta, points[0], points[1]) - points[2]) / huber
        total = F.huber_loss(gaps, torch.zeros_like(gaps), reduction="sum")
        total.backward()
        if fixed and theta.grad is not None:
            theta.grad[0] = 0.0  # the floor is known
        return total

    search.step(error)  # type: ignore[no-untyped-call]
    return error().item(), theta.detach()


def starts(low: float, floor: float | None) -> list[Tensor]:
    """Where to begin the search: (5,) each, `low` the lowest log loss."""
    shares = [0.4, 0.9] if floor is None else [floor / math.exp(low)]
    return [
        torch.tensor(
            [low + math.log(share), low - 1, power, low - 1, power],
            dtype=torch.float64,
        )
        for share in shares
        for power in (0.3, 1.0)
    ]


def fit_law(
    weights: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    floor: float | None = None,
    huber: float = 1e-3,
) -> Law:
    """The law that fits R runs best; a known `floor` stays as it is.

    Five numbers need more than five runs, of several sizes and several
    lengths: ValueError for fewer. The search begins at several places,
    since it may get stuck in a hollow, and the best result counts.
    """
    if floor is not None and not floor > 0:
        raise ValueError(f"a floor of {floor} has no logarithm: choose more")
    runs = torch.tensor([weights, tokens, losses], dtype=torch.float64)
    if runs.shape[1] < 6 or min(len(r.unique()) for r in runs[:2]) < 3:
        raise ValueError(
            "a law has five numbers: fit it to six runs or more, of three "
            "sizes and three lengths at least"
        )
    points = runs.log()
    middle = points[:2].mean(dim=1, keepdim=True)
    points[:2] -= middle  # put a and b there, not far off at log 1
    ends = [
        descend(theta, points, floor is not None, huber)
        for theta in starts(points[2].min().item(), floor)
    ]
    _, theta = min(ends, key=lambda end: end[0])
    theta[1] += theta[2] * middle[0, 0]
    theta[3] += theta[4] * middle[1, 0]
    e, a, alpha, b, beta = theta.tolist()
    return Law(math.exp(e), math.exp(a), alpha, math.exp(b), beta)


def resampled_laws(
    weights: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    draws: int = 20,
    floor: float | None = None,
    seed: int = 0,
) -> list[Law]:
    """Laws of R runs drawn from the R runs, with replacement: the bootstrap.

    What differs from one to the next is what the runs leave open. Draws
    from which no law can be fitted are drawn again; ValueError if that
    would never end.
    """
    fit_law(weights, tokens, losses, floor=floor)  # or no draw has a law
    generator = torch.Generator().manual_seed(seed)
    rows = list(zip(weights, tokens, losses, strict=True))
    laws: list[Law] = []
    while len(laws) < draws:
        at = torch.randint(len(rows), (len(rows),), generator=generator)
        drawn = [rows[i] for i in at.tolist()]
        try:
            laws.append(fit_law(*zip(*drawn, strict=True), floor=floor))
        except ValueError:
            continue
    return laws


# --- the plan ----------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """What a run may take: hours or money, and a machine.

    `rate` is the operations a second that the machine gets done, and not
    those that its maker promises; `memory` is in bytes, `price` is per hour.
    """

    hours: float
    rate: float
    memory: int
    money: float = math.inf
    price: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the machine may work, by the clock and the purse.

        >>> Budget(10, 1e12, 8 * 2**30, money=6.0, price=2.0).seconds / 3600
        3.0
        """
        paid = self.money / self.price if self.price else math.inf
        return 3600 * min(self.hours, paid)

    @property
    def operations(self) -> float:
        """What the machine gets done in this time."""
        return self.rate * self.seconds


@dataclass(frozen=True)
class Plan:
    """A model and its run, as `plan` found them."""

    config: GPTConfig
    weights: int  # that are multiplied
    tokens: int  # to read
    steps: int
    windows: int  # at a time
    accumulate: int  # times, to one step
    memory: int  # bytes at the peak
    hours: float


def family(
    vocab_size: int, context: int, head_size: int = 64, largest: int = 48
) -> list[GPTConfig]:
    """GPT-2s of one shape, the smallest first: one more head for each layer.

    >>> family(50257, 1024)[11] == gpt2_config()
    True
    """
    return [
        gpt2_config(vocab_size, context, n, n, n * head_size)
        for n in range(1, largest + 1)
    ]


def fitting_windows(config: GPTConfig, most: int, memory: int) -> int:
    """How many windows fit at a time: `most`, its half, its quarter; or 0."""
    while most and memory_estimate(config, most).peak > memory:
        most //= 2
    return most


def make_plan(config: GPTConfig, budget: Budget, step_tokens: int) -> Plan:
    """One model's run for the whole budget; 0 windows where none fits."""
    rows = max(1, step_tokens // config.context)  # windows of a step
    windows = fitting_windows(config, rows, budget.memory)
    accumulate = -(-rows // max(1, windows))
    step = accumulate * windows * config.context
    each = flops_per_token(config)
    steps = int(budget.operations / each / max(1, step))
    return Plan(
        config,
        weights=multiplied_weights(config),
        tokens=steps * step,
        steps=steps,
        windows=windows,
        accumulate=accumulate,
        memory=memory_estimate(config, max(1, windows)).peak,
        hours=steps * step * each / budget.rate / 3600,
    )


def plan(
    budget: Budget,
    candidates: Iterable[GPTConfig],
    tokens_per_weight: float = 20.0,
    step_tokens: int = 2**15,
) -> Plan:
    """The largest candidate that the budget can train for long enough.

    Twenty tokens per weight are about what is best for the cost of training
    (Hoffmann et al., 2022); ask for more if the model will be used a lot.
    What the largest one leaves over makes its run longer. Raises ValueError
    if not even the smallest can be trained.
    """
    plans = [make_plan(c, budget, step_tokens) for c in candidates]
    enough = [p for p in plans if p.tokens >= tokens_per_weight * p.weights]
    found = [p for p in enough if p.tokens]
    if not found:
        raise ValueError(
            "no candidate fits into the budget: allow more hours or memory, "
            "fewer tokens per weight, or a smaller model"
        )
    return max(found, key=lambda p: p.weights)


def measured_rate(model: GPT, train: BatchCursor, config: TrainConfig) -> float:
    """Operations a second that training gets done here, by two trial steps."""
    tokens = train.batch_size * train.context * config.accumulate
    seconds = seconds_per_step(model, train, config)
    return flops_per_token(model.config) * tokens / seconds


# --- rates for every width ---------------------------------------------------


def mup_initialize(model: GPT, base: int) -> None:
    """Shrink the random weights of a model wider than `base` channels.

    A sum over k times as many channels grows by √k while its terms are
    random, and by k once they have learned to agree. Matrices inside a block
    start 1/√k as large, the head 1/k (Yang et al., 2022, table 3).
    Heads must keep their size, wider models having more of them. Raises
    ValueError for a head that shares the tokens' matrix.
    """
    if model.config.tied:
        raise ValueError(
            "the head needs a start and a rate of its own: build the model "
            "with tied=False"
        )
    k = model.config.channels / base
    with torch.no_grad():
        for matrix in hidden_matrices(model):
            matrix.div_(math.sqrt(k))
        model.head.weight.div_(k)


def mup_groups(
    model: GPT, base: int, weight_decay: float = 0.1
) -> list[dict[str, Any]]:
    """Groups for AdamW: matrices of k times the width step 1/k as far.

    Embeddings, biases and norms, which are not summed over channels, keep
    the rate. The decay is multiplied by the rate in every step, so that of
    the matrices grows by k, and pulls equally at every width.
    """
    k = model.config.channels / base
    matrices, rest = parameter_groups(model, weight_decay * k)
    return [{**matrices, "scale": 1 / k}, rest]


def use_mup(trainer: Trainer, base: int) -> None:
    """Give a run that has not begun the start and the rates of μP.

    Its rate is then that of a model of `base` channels, and so may be
    chosen there. At that width nothing changes. ValueError unless the run
    was made for AdamW.
    """
    if trainer.config.optimizer != "adamw":
        raise ValueError(
            f"μP has rates for adamw, not for {trainer.config.optimizer}: "
            "make the trainer with optimizer='adamw'"
        )
    mup_initialize(trainer.model, base)
    config = trainer.config
    groups = mup_groups(trainer.model, base, config.weight_decay)
    trainer.optimizers = [AdamW(groups, lr=config.learning_rate)]


def logit_change(
    model: GPT,
    groups: list[dict[str, Any]],
    batch: tuple[Tensor, Tensor],
    rate: float,
    steps: int = 4,
) -> float:
    """How far some steps of AdamW on one batch move its logits (rms).

    If this depends on the width, so does the best rate (Yang et al., 2022,
    appendix D.1). The batch is ids and targets, (B, T) each.
    """
    optimizer = AdamW(groups, lr=rate)
    set_learning_rate([optimizer], rate)
    before = model(batch[0]).detach()
    for _ in range(steps):
        optimizer.zero_grad()
        accumulate_gradients(model, [batch])
        optimizer.step()
    return rms(model(batch[0]) - before)
