"""Operations to the last one, laws that are found again, plans that fit."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    flops_per_token,
    gpt2_config,
    llama_config,
    memory_estimate,
)
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import scaling
from scratchlm.training.memory import accumulate_gradients, batch_loss
from scratchlm.training.muon import hidden_matrices
from scratchlm.training.optimizer import parameter_groups
from scratchlm.training.scaling import (
    Budget,
    Law,
    counted_operations,
    family,
    fit_law,
    logit_change,
    measured_rate,
    multiplied_weights,
    mup_groups,
    mup_initialize,
    operations,
    plan,
    resampled_laws,
    use_mup,
)
from scratchlm.training.trainer import TrainConfig, Trainer

TOKENS = np.arange(400) * 7 % 11
TINY = gpt2_config(50, 8, 1, 2, 8)
FORMS: dict[str, GPTConfig] = {
    "gpt2": gpt2_config(50, 12, 2, 2, 16),
    "untied": gpt2_config(50, 12, 2, 2, 16, tied=False, bias=False),
    "llama": llama_config(50, 12, 2, 4, 16, kv_heads=2),
    "wide heads": replace(TINY, head_size=16, qk_norm="rmsnorm"),
    "post": replace(TINY, norm_order="post"),
}


def step(config: GPTConfig, batch: int) -> int:
    """What the library counts in one gradient of a whole batch."""
    model = GPT(config)
    ids = torch.zeros(batch, config.context, dtype=torch.int64)
    return counted_operations(lambda: accumulate_gradients(model, [(ids, ids)]))


# --- operations --------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_library_counts_the_same_to_the_last_one(
    name: str, batch: int
) -> None:
    config = replace(FORMS[name], fused=False)
    tokens = batch * config.context
    wanted = operations(config)
    assert step(config, batch) == tokens * sum(wanted.values())
    assert sum(wanted.values()) == flops_per_token(config)


def test_the_fused_attention_of_a_processor_is_not_seen() -> None:
    config = FORMS["gpt2"]
    table = operations(config)
    seen = step(config, 2)
    unseen = 2 * config.context * table["scores and means"]
    assert seen + unseen == 2 * config.context * sum(table.values())


def test_reading_is_a_third_of_training() -> None:
    config = replace(FORMS["llama"], fused=False)
    model, ids = GPT(config), torch.zeros(2, 12, dtype=torch.int64)
    with torch.no_grad():
        read = counted_operations(lambda: batch_loss(model, ids, ids))
    assert 3 * read == step(config, 2)


@pytest.mark.parametrize("name", FORMS)
def test_the_weights_that_multiply_are_those_of_linear_layers(
    name: str,
) -> None:
    model = GPT(FORMS[name])
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    wanted = sum(layer.weight.numel() for layer in layers)
    assert multiplied_weights(FORMS[name]) == wanted


# --- the law -----------------------------------------------------------------

TRUE = Law(0.4, a=30.0, alpha=0.45, b=90.0, beta=0.4)
GRID = [(n, m) for n in (5e3, 1e4, 2e4, 4e4) for m in (5e4, 1e5, 2e5, 4e5)]
WEIGHTS, READ = [n for n, _ in GRID], [m for _, m in GRID]
EXACT = [TRUE.loss(n, m) for n, m in GRID]


def noisy(spread: float, seed: int = 0) -> list[float]:
    """The law's losses, each off by a factor."""
    random = np.random.default_rng(seed)
    return [
        x * math.exp(e)
        for x, e in zip(
            EXACT, spread * random.standard_normal(len(EXACT)), strict=True
        )
    ]


def test_an_exact_law_is_found_again() -> None:
    found = fit_law(WEIGHTS, READ, EXACT)
    for name in ("floor", "a", "alpha", "b", "beta"):
        assert getattr(found, name) == pytest.approx(
            getattr(TRUE, name), rel=0.02
        ), name
    assert found.loss(2e5, 2e6) == pytest.approx(TRUE.loss(2e5, 2e6), rel=1e-3)


def test_a_known_floor_stays() -> None:
    found = fit_law(WEIGHTS, READ, noisy(0.01), floor=0.4)
    assert found.floor == pytest.approx(0.4, rel=1e-12)
    assert found.alpha == pytest.approx(0.45, abs=0.1)


def test_another_search_finds_nothing_better() -> None:
    """SciPy's Nelder and Mead, on the same error, from our end and apart."""
    losses = np.log(noisy(0.01, seed=3))
    n, m = np.log(WEIGHTS), np.log(READ)

    def error(x: Any) -> float:
        e, a, alpha, b, beta = x
        law = np.exp(e) + np.exp(a - alpha * n) + np.exp(b - beta * m)
        gaps = np.abs(np.log(law) - losses) / 1e-3
        return float(np.where(gaps < 1, gaps**2 / 2, gaps - 0.5).sum())

    law = fit_law(WEIGHTS, READ, np.exp(losses).tolist())
    ours = np.array(
        [
            math.log(law.floor),
            math.log(law.a),
            law.alpha,
            math.log(law.b),
            law.beta,
        ]
    )
    truth = np.array([math.log(0.4), math.log(30), 0.45, math.log(90), 0.4])
    for begin in (ours, truth):
        theirs = minimize(
            error,
            begin,
            method="Nelder-Mead",
            options={"maxiter": 4000, "maxfev": 4000},
        )
        assert error(ours) <= 1.02 * theirs.fun


def test_one_odd_run_does_not_bend_the_law() -> None:
    odd = list(EXACT)
    odd[5] *= 1.3
    found = fit_law(WEIGHTS, READ, odd)
    assert found.loss(1e5, 1e6) == pytest.approx(TRUE.loss(1e5, 1e6), rel=0.01)


@pytest.mark.parametrize(
    ("weights", "tokens"),
    [([1, 2, 3, 1, 2], [1, 1, 1, 2, 3]), ([1, 2] * 3, [1, 2, 3, 4, 5, 6])],
)
def test_too_few_runs_make_no_law(
    weights: list[float], tokens: list[float]
) -> None:
    with pytest.raises(ValueError, match="five numbers"):
        fit_law(weights, tokens, [1.0] * len(weights))


def test_the_best_split_is_the_lowest_point_of_its_budget() -> None:
    for total in (1e9, 1e12, 6e14):
        n, m = TRUE.best_split(total)
        assert 6 * n * m == pytest.approx(total)
        best = TRUE.loss(n, m)
        for factor in (0.5, 0.9, 1.1, 2.0):
            assert TRUE.loss(n * factor, m / factor) > best


def test_the_published_law_makes_chinchilla() -> None:
    """70 billion weights, 1.4 trillion tokens for 5.76e23 operations."""
    law = Law(1.8172, 482.01, 0.3478, 2085.43, 0.3658)  # Besiroglu et al.
    n, m = law.best_split(5.76e23)
    assert n == pytest.approx(70e9, rel=0.1)
    assert m == pytest.approx(1.4e12, rel=0.1)


@pytest.mark.always
def test_resampling_shows_what_noise_leaves_open() -> None:
    spread = {}
    for noise in (0.002, 0.03):
        laws = resampled_laws(WEIGHTS, READ, noisy(noise), draws=4, floor=0.4)
        assert len(laws) == 4
        spread[noise] = np.std([law.loss(2e5, 2e6) for law in laws])
    assert spread[0.002] < spread[0.03]


@pytest.mark.always
def test_draws_without_a_law_are_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of six runs a draw often has two sizes only."""
    refused = []

    def tried(*rows: Any, **options: Any) -> Law:
        try:
            return fit_law(*rows, **options)
        except ValueError as error:
            refused.append(str(error))
            raise

    monkeypatch.setattr(scaling, "fit_law", tried)
    at = [0, 5, 10, 3, 9, 4]
    rows = [[column[i] for i in at] for column in (WEIGHTS, READ, EXACT)]
    laws = resampled_laws(*rows, draws=4, floor=0.4, seed=1)
    assert len(laws) == 4
    assert len(refused) == 1
    assert "three sizes" in refused[0]


@pytest.mark.always
def test_runs_without_a_law_are_refused_at_once() -> None:
    few = WEIGHTS[:5], READ[:5], EXACT[:5]
    with pytest.raises(ValueError, match="six runs"):
        resampled_laws(*few, draws=1)
    with pytest.raises(ValueError, match=r"floor of 0\.0 has no logarithm"):
        resampled_laws(WEIGHTS, READ, EXACT, draws=1, floor=0.0)


# --- the plan ----------------------------------------------------------------

GB = 2**30


def test_the_plan_is_the_largest_that_fits() -> None:
    budget, models = Budget(10, 1e12, 8 * GB), family(1000, 256)
    found = plan(budget, models, step_tokens=2**13)
    fits = [
        c
        for c in models
        if 20 * multiplied_weights(c) * flops_per_token(c) <= 3.6e16
        and memory_estimate(c, 1).peak <= 8 * GB
    ]
    assert found.config == fits[-1]
    assert found.tokens >= 20 * found.weights
    assert found.windows * found.accumulate * 256 == 2**13
    assert found.steps * 2**13 == found.tokens
    assert found.memory == memory_estimate(found.config, found.windows).peak
    assert found.memory <= 8 * GB
    assert 9.9 < found.hours <= 10


def test_money_and_memory_and_use_make_it_smaller() -> None:
    models = family(1000, 256)
    rich = Budget(100, 1e12, 64 * GB)
    most = plan(rich, models)
    poor = plan(replace(rich, money=20.0, price=2.0), models)
    assert poor.weights < most.weights
    assert poor.hours == pytest.approx(10, rel=0.01)
    narrow = plan(replace(rich, memory=GB // 2), models)
    assert narrow.weights < most.weights
    much_used = plan(rich, models, tokens_per_weight=200)
    assert much_used.weights < most.weights
    assert much_used.tokens > most.tokens


def test_a_step_of_less_than_a_window_is_a_window() -> None:
    found = plan(Budget(1, 1e12, 8 * GB), family(500, 256), step_tokens=1)
    assert found.windows == found.accumulate == 1


@pytest.mark.parametrize("change", [{"hours": 1e-6}, {"memory": 1000}])
def test_what_nobody_can_train_is_refused(change: dict[str, Any]) -> None:
    budget = replace(Budget(10, 1e12, 8 * GB), **change)
    with pytest.raises(ValueError, match="no candidate"):
        plan(budget, family(1000, 256))


def test_the_rate_is_operations_over_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "seconds_per_step", lambda *_: 2.0)
    cursor = BatchCursor(TOKENS, 8, 4, seed=1)
    rate = measured_rate(GPT(TINY), cursor, TrainConfig(steps=1, accumulate=3))
    assert rate == flops_per_token(TINY) * 8 * 4 * 3 / 2
    monkeypatch.undo()
    assert measured_rate(GPT(TINY), cursor, TrainConfig(steps=1)) > 0


# --- rates for every width ---------------------------------------------------


def wide(channels: int, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    heads = channels // 8
    return GPT(gpt2_config(11, 8, 2, heads, channels, tied=False))


def trained(channels: int, mup: bool, steps: int = 3) -> Trainer:
    config = TrainConfig(steps=9, warmup=0, weight_decay=0.0, clip=1e9)
    cursor = BatchCursor(TOKENS, 8, 4, seed=1)
    made = Trainer(wide(channels), cursor, TOKENS, config, Path("nowhere"))
    if mup:
        use_mup(made, base=16)
    for _ in range(steps):
        made.train_step()
    return made


def test_at_the_base_nothing_changes() -> None:
    plain, same = trained(16, mup=False), trained(16, mup=True)
    for a, b in zip(
        plain.model.parameters(), same.model.parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_the_start_follows_the_width() -> None:
    plain, changed = wide(64), wide(64)
    mup_initialize(changed, base=16)  # k = 4
    inside = {id(p) for p in hidden_matrices(changed)}
    for (name, a), b in zip(
        plain.named_parameters(), changed.parameters(), strict=True
    ):
        factor = 0.5 if id(b) in inside else 1.0
        factor = 0.25 if name == "head.weight" else factor
        torch.testing.assert_close(b, a * factor, msg=name)


def test_the_first_step_of_matrices_is_a_kth_as_long() -> None:
    """Adam's first step is the rate, in each number with a gradient."""
    before = trained(64, mup=True, steps=0).model.state_dict()
    start = {name: value.clone() for name, value in before.items()}
    after = trained(64, mup=True, steps=1)
    rate = after.config.learning_rate
    inside = {id(p) for p in hidden_matrices(after.model)}
    for name, parameter in after.model.named_parameters():
        moved = (parameter.detach() - start[name]).abs().max().item()
        matrix = id(parameter) in inside or name == "head.weight"
        wanted = rate / 4 if matrix else rate
        assert moved == pytest.approx(wanted, rel=0.02), name


def test_the_decay_pulls_alike_at_every_width() -> None:
    for channels in (16, 64):
        matrices, rest = mup_groups(wide(channels), 16, weight_decay=0.1)
        pull = matrices["scale"] * matrices["weight_decay"]
        assert pull == pytest.approx(0.1)
        assert rest["weight_decay"] == 0.0
        assert "scale" not in rest


def test_what_a_step_does_no_longer_grows_with_the_width() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(11, (2, 4, 8), generator=generator)
    moved: dict[bool, list[float]] = {False: [], True: []}
    for channels in (32, 256):
        for mup in (False, True):
            model = wide(channels)
            groups = parameter_groups(model, 0.1)
            if mup:
                mup_initialize(model, 32)
                groups = mup_groups(model, 32)
            change = logit_change(model, groups, (ids[0], ids[1]), 1e-3, 3)
            moved[mup].append(change)
    assert moved[False][0] == moved[True][0]  # at the base
    assert moved[False][1] > 2.5 * moved[False][0]
    assert 0.5 < moved[True][1] / moved[True][0] < 1.6


@pytest.mark.parametrize("optimizer", ["muon", "fused_adamw"])
def test_another_optimizer_is_refused(tmp_path: Path, optimizer: Any) -> None:
    config = TrainConfig(steps=9, optimizer=optimizer)
    cursor = BatchCursor(TOKENS, 8, 4, seed=1)
    trainer = Trainer(wide(32), cursor, TOKENS, config, tmp_path / "run")
    with pytest.raises(ValueError, match="make the trainer with optimizer='a"):
        use_mup(trainer, 16)


def test_a_head_that_is_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="tied=False"):
        mup_initialize(GPT(TINY), base=4)
