"""The solutions of the exercises on scaling."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.scaling import Law, counted_operations, operations
from solutions.training.scaling import (
    cheapest,
    parabola_minimum,
    price_of_half,
    recomputed_operations,
    tokens_for,
)

LAW = Law(0.4, a=30.0, alpha=0.45, b=90.0, beta=0.3)


def test_recomputing_is_counted_to_the_last_operation() -> None:
    config = replace(gpt2_config(50, 12, 3, 2, 16), fused=False)
    model, ids = GPT(config).train(), torch.zeros(2, 12, dtype=torch.int64)
    model.checkpoint_activations = True
    counted = counted_operations(
        lambda: accumulate_gradients(model, [(ids, ids)])
    )
    each = sum(operations(config).values()) + recomputed_operations(config)
    assert counted == 24 * each


def test_so_many_times_the_operations_halve_the_distance() -> None:
    factor = price_of_half(LAW)
    near = LAW.loss(*LAW.best_split(1e12)) - LAW.floor
    far = LAW.loss(*LAW.best_split(factor * 1e12)) - LAW.floor
    assert far == pytest.approx(near / 2)


def test_a_model_too_small_never_gets_there() -> None:
    tokens = tokens_for(LAW, 1e5, 0.8)
    assert LAW.loss(1e5, tokens) == pytest.approx(0.8)
    assert tokens_for(LAW, 1e3, 0.8) == math.inf


def test_what_is_much_used_is_smaller() -> None:
    n, m = cheapest(LAW, 0.7, served=0)
    alone = LAW.best_split(6 * n * m)
    assert n == pytest.approx(alone[0], rel=0.02)
    small, longer = cheapest(LAW, 0.7, served=10 * m)
    assert small < n
    assert longer > m
    assert LAW.loss(small, longer) == pytest.approx(0.7)


def test_the_parabola_finds_the_bottom_of_a_budget() -> None:
    n, _ = LAW.best_split(1e12)
    off = {}
    for factor in (2.0, 4.0):
        sizes = [n * factor**k for k in range(-2, 3)]
        losses = [LAW.loss(size, 1e12 / 6 / size) for size in sizes]
        off[factor] = parabola_minimum(sizes, losses) / n - 1
    assert 0.03 < off[2.0] < 0.05
    assert 0.15 < off[4.0] < 0.2
    with pytest.raises(ValueError, match="rise at both ends"):
        parabola_minimum(sizes, list(-np.array(losses)))
