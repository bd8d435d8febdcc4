"""What counts, laws, plans and the rates of wide models must be."""

from dataclasses import replace

import torch

from scratchlm.model.gpt import GPT, gpt2_config, memory_estimate
from scratchlm.training import scaling
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.muon import hidden_matrices

from ..expect import close, equal, raises, true
from ..inputs import scattered

GB = 2**30
TRUE = scaling.Law(0.4, a=30.0, alpha=0.45, b=90.0, beta=0.3)
GRID = [(n, m) for n in (5e3, 1e4, 2e4, 4e4) for m in (5e4, 1e5, 2e5, 4e5)]


def columns(odd: float = 1.0) -> list[list[float]]:
    """Weights, tokens and losses of an exact law; one loss may be odd."""
    losses = [TRUE.loss(n, m) for n, m in GRID]
    losses[5] *= odd
    return [[n for n, _ in GRID], [m for _, m in GRID], losses]


def check_operations() -> None:
    """One layer, one head, two channels, four tokens: all by hand."""
    config = gpt2_config(10, 4, 1, 1, 2)
    table = scaling.operations(config)
    wanted = {
        "projections": 6 * (2 * 6 + 2 * 2),
        "scores and means": 6 * 2 * (4 * 2),
        "feed-forward": 6 * (2 * 8 + 8 * 2),
        "head": 6 * 2 * 10,
    }
    for part, count in wanted.items():
        equal(
            table[part],
            count,
            f"operations of one token, {part}",
            hint="two per weight on the way there, four on the way back",
        )
    equal(scaling.multiplied_weights(config), 68, "weights that multiply")


def check_the_library_counts_the_same() -> None:
    """A gradient of 16 tokens, in the open form of attention."""
    config = replace(gpt2_config(10, 8, 2, 2, 4), fused=False)
    model, ids = GPT(config), torch.zeros(2, 8, dtype=torch.int64)
    counted = scaling.counted_operations(
        lambda: accumulate_gradients(model, [(ids, ids)])
    )
    wanted = 16 * sum(scaling.operations(config).values())
    equal(counted, wanted, "the library's count of a gradient of 16 tokens")


def check_the_law() -> None:
    """A loss by hand, and the lowest point of a budget."""
    law = scaling.Law(0.5, a=10.0, alpha=0.5, b=8.0, beta=0.5)
    close(law.loss(400, 1600), 1.2, "0.5 + 10 / 400^0.5 + 8 / 1600^0.5")
    law = scaling.Law(0.4, a=30.0, alpha=0.45, b=90.0, beta=0.3)
    n, m = law.best_split(6e10)
    close(6 * n * m / 6e10, 1.0, "6 · weights · tokens over the budget")
    best = law.loss(n, m)
    for factor in (0.8, 1.25):
        true(
            law.loss(n * factor, m / factor) > best,
            f"{factor} times the weights for the same budget are worse",
            hint="the exponent of the budget is beta / (alpha + beta)",
        )


def check_the_fit() -> None:
    """Losses without noise give the law back; one odd run changes little."""
    wanted = TRUE.loss(2e5, 2e6)
    found = scaling.fit_law(*columns())
    close(
        found.loss(2e5, 2e6),
        wanted,
        "the loss foretold from an exact law's losses",
        tol=5e-3,
        hint="a and b belong to log 1; the search works around the middle",
    )
    bent = scaling.fit_law(*columns(odd=1.3))
    close(
        bent.loss(2e5, 2e6),
        wanted,
        "the loss foretold with one run that went wrong",
        tol=2e-2,
        hint="squares let one run bend the law; Huber's error does not",
    )


def check_a_known_floor() -> None:
    """A floor that is given stays, even where the runs would say another."""
    found = scaling.fit_law(*columns(), floor=0.3)
    close(found.floor, 0.3, "the floor that was given", tol=1e-6)
    raises(
        ValueError,
        lambda: scaling.fit_law([1, 2, 3], [1, 2, 3], [3.0, 2.0, 1.0]),
        "a law from three runs",
    )
    raises(
        ValueError,
        lambda: scaling.fit_law(*columns(), floor=0.0),
        "a law above a floor of 0, which has no logarithm",
    )


def check_the_bootstrap() -> None:
    """As many laws as asked for; those of exact runs all foretell it."""
    wanted = TRUE.loss(2e5, 2e6)
    one, two = (
        scaling.resampled_laws(*columns(), draws=2, floor=0.4, seed=3)
        for _ in range(2)
    )
    equal(len(one), 2, "the laws of two draws")
    equal(one, two, "the same draws of the same seed")
    for law in one:
        close(law.loss(2e5, 2e6), wanted, "what a law foretells", tol=2e-2)


def check_the_plan() -> None:
    """Hours, money, memory and the tokens a model wants."""
    budget = scaling.Budget(10, 1e12, 2 * GB, money=8.0, price=2.0)
    close(budget.seconds, 4 * 3600, "seconds for 8 at 2 an hour, of 10 hours")
    models = scaling.family(1000, 256)
    found = scaling.plan(budget, models, step_tokens=2**15)
    need = memory_estimate(found.config, found.windows).peak
    true(need <= 2 * GB, "the batch of the plan fits into 2 GB")
    true(
        found.tokens >= 20 * found.weights,
        "there are twenty tokens for each weight",
    )
    true(found.hours <= 4, "the plan takes no more than the four hours")
    larger = models[models.index(found.config) + 1]
    count = scaling.multiplied_weights(larger)
    each = sum(scaling.operations(larger).values())
    true(
        20 * count * each > budget.operations,
        "the next larger model would be too much",
        hint="of all that fit, the plan wants the largest",
    )


def check_the_start_of_wide_models() -> None:
    """Four times the base: matrices start a half as large, the head 1/4."""
    torch.manual_seed(0)
    model = GPT(gpt2_config(11, 8, 2, 4, 32, tied=False))
    before = [p.std().item() for p in hidden_matrices(model)]
    head = model.head.weight.std().item()
    scaling.mup_initialize(model, base=8)
    after = [p.std().item() for p in hidden_matrices(model)]
    for old, new in zip(before, after, strict=True):
        close(
            new / old,
            0.5,
            "how much a matrix shrinks, k = 4",
            hint="random terms add up to the root of their number",
        )
    close(
        model.head.weight.std() / head,
        0.25,
        "how much the head shrinks",
        hint="what it reads has learned to agree: divide by k",
    )
    tied = GPT(gpt2_config(11, 8, 1, 1, 8))
    raises(ValueError, lambda: scaling.mup_initialize(tied, 8), "a tied head")


def check_the_rates_of_wide_models() -> None:
    """Matrices step a quarter as far, and decay as at the base."""
    model = GPT(gpt2_config(11, 8, 1, 4, 32, tied=False))
    matrices, rest = scaling.mup_groups(model, 8, weight_decay=0.1)
    close(matrices["scale"], 0.25, "the rate of matrices, in parts of the rate")
    equal(rest.get("scale", 1.0), 1.0, "the rate of all others, in such parts")
    close(
        matrices["scale"] * matrices["weight_decay"],
        0.1,
        "rate times decay of matrices, in parts of the rate",
        hint="the decay is multiplied by the rate, which is smaller now",
    )


def check_steps_move_logits() -> None:
    """More so at a larger rate; at a rate of 0 not at all."""
    batch = torch.arange(8).view(2, 4), torch.arange(1, 9).view(2, 4)
    moved = []
    for rate in (0.0, 0.001, 0.01):
        model = scattered(GPT(gpt2_config(11, 4, 1, 2, 8, tied=False)), 0.1)
        groups = [{"params": list(model.parameters())}]
        moved.append(scaling.logit_change(model, groups, batch, rate, 2))
    equal(moved[0], 0.0, "how far steps at a rate of 0 move the logits")
    true(
        0 < 2 * moved[1] < moved[2],
        "ten times the rate moves them more than twice as far",
        hint="take the steps; the gradients alone move nothing",
    )


BUGS = {
    "the way back counts like the way there": (
        '"feed-forward": 6 * bare',
        '"feed-forward": 4 * bare',
    ),
    "the head is forgotten": ('"head": 6 * bare["head"]', '"head": 0'),
    "attention is halved for the mask": (
        "12 * config.layers * attended",
        "6 * config.layers * attended",
    ),
    "the exponent of the other term": (
        "product**self.beta",
        "product**self.alpha",
    ),
    "squares instead of Huber's error": ("F.huber_loss(", "F.mse_loss("),
    "a known floor moves": ("theta.grad[0] = 0.0", "theta.grad[0] *= 1.0"),
    "a stays in the middle": (
        "theta[1] += theta[2] * middle[0, 0]",
        "theta[1] += 0.0",
    ),
    "money is no object": ("min(self.hours, paid)", "self.hours"),
    "memory is no object": (
        "while most and memory_estimate(config, most).peak > memory:",
        "while most and memory_estimate(config, most).peak < 0:",
    ),
    "one token for each weight": (
        "p.tokens >= tokens_per_weight * p.weights",
        "p.tokens >= p.weights",
    ),
    "the smallest that fits": (
        "return max(found, key=lambda p: p.weights)",
        "return min(found, key=lambda p: p.weights)",
    ),
    "matrices start 1/k as large": (
        "matrix.div_(math.sqrt(k))",
        "matrix.div_(k)",
    ),
    "the head starts like a matrix": (
        "model.head.weight.div_(k)",
        "model.head.weight.div_(math.sqrt(k))",
    ),
    "all widths have one rate": ('"scale": 1 / k', '"scale": 1.0'),
    "the decay shrinks with the rate": (
        "parameter_groups(model, weight_decay * k)",
        "parameter_groups(model, weight_decay)",
    ),
}
