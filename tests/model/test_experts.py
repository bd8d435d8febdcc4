"""Mixtures of experts: equal to the library's, and to one layer alone."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import (
    MixtralSparseMoeBlock,
    load_balancing_loss_func,
)

from scratchlm.generation.cache import KVCache
from scratchlm.model.experts import (
    Experts,
    Router,
    Routing,
    add_experts,
    balance_loss,
    count_active,
    load,
    mix_densely,
    mix_sorted,
    route,
    watch_routers,
    within_capacity,
)
from scratchlm.model.gpt import (
    GPT,
    count_parameters,
    llama_config,
    next_token_loss,
    parameter_table,
)
from scratchlm.model.layers import SwiGLU

SMALL = llama_config(50, 16, layers=2, heads=4, channels=32, hidden=48)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixture(
    experts: int = 5, k: int = 2, renormalize: bool = True, channels: int = 8
) -> Experts:
    torch.manual_seed(experts + 10 * k)
    layers = [SwiGLU(channels, 12) for _ in range(experts)]
    return Experts(Router(channels, experts, k, renormalize), layers)


def to_mixtral(layer: Experts, channels: int) -> MixtralSparseMoeBlock:
    """The library's block with the weights of ours."""
    config = MixtralConfig(
        hidden_size=channels,
        intermediate_size=12,
        num_local_experts=len(layer.experts),
        num_experts_per_tok=layer.router.k,
    )
    theirs = MixtralSparseMoeBlock(config).eval()
    pairs = [
        torch.cat([expert.get_parameter(f"{n}.weight") for n in ("gate", "up")])
        for expert in layer.experts
    ]
    downs: list[Tensor] = [
        expert.get_parameter("down.weight") for expert in layer.experts
    ]
    with torch.no_grad():
        theirs.gate.weight.copy_(layer.router.scores.weight)
        theirs.experts.gate_up_proj.copy_(torch.stack(pairs))
        theirs.experts.down_proj.copy_(torch.stack(downs))
    return theirs


# --- routing -----------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 4])
def test_equals_the_block_of_mixtral(k: int) -> None:
    layer = mixture(experts=4, k=k)
    x = drawn(3, 7, 8)
    wanted = to_mixtral(layer, 8)(x)
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_balance_is_that_of_the_library(k: int) -> None:
    scores = drawn(40, 6)
    wanted = load_balancing_loss_func((scores,), 6, k)
    got = balance_loss(route(scores, k))  # theirs counts each choice fully
    torch.testing.assert_close(k * got, wanted)


def test_weights_are_a_softmax_of_the_chosen_scores() -> None:
    scores = drawn(9, 5)
    routing = route(scores, 3)
    top = scores.topk(3, dim=-1)
    assert torch.equal(routing.chosen, top.indices)
    torch.testing.assert_close(routing.weights, top.values.softmax(dim=-1))


def test_without_renormalizing_the_weights_are_shares_of_all() -> None:
    scores = drawn(9, 5)
    routing = route(scores, 2, renormalize=False)
    wanted = scores.softmax(dim=-1).gather(1, routing.chosen)
    torch.testing.assert_close(routing.weights, wanted)
    assert (routing.weights.sum(dim=-1) < 1).all()


def test_shares_are_float32_whatever_the_scores_are() -> None:
    routing = route(drawn(4, 3).bfloat16(), 2)
    assert routing.shares.dtype == routing.weights.dtype == torch.float32
    layer = mixture().bfloat16()
    assert layer(drawn(2, 8).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("k", [0, 4, -1])
def test_impossible_numbers_of_experts_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} of 3 experts"):
        route(torch.zeros(2, 3), k)


def test_one_renormalized_choice_teaches_its_router_nothing() -> None:
    grads = {}
    for renormalize in (True, False):
        layer = mixture(experts=4, k=1, renormalize=renormalize)
        layer(drawn(20, 8)).square().sum().backward()
        grad = layer.router.scores.weight.grad
        assert grad is not None
        grads[renormalize] = grad.abs().max().item()
    assert grads[True] < 1e-6
    assert grads[False] > 1e-4


# --- mixing ------------------------------------------------------------------


def by_hand(layer: Experts, x: Tensor) -> Tensor:
    """One token and one choice at a time."""
    rows = []
    for row in x:
        scores = (layer.router.scores.weight @ row).tolist()
        best = sorted(range(len(scores)), key=lambda e: -scores[e])
        best = best[: layer.router.k]
        total = sum(math.exp(scores[e]) for e in best)
        parts = [
            math.exp(scores[e]) / total * layer.experts[e](row) for e in best
        ]
        rows.append(torch.stack(parts).sum(dim=0))
    return torch.stack(rows)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
def test_both_forms_equal_a_loop_by_hand(e: int, k: int, tokens: int) -> None:
    layer = mixture(experts=e, k=min(k, e))
    x = drawn(tokens, 8, seed=e)
    wanted, routing = by_hand(layer, x), layer.router(x)
    for mix in (mix_densely, mix_sorted):
        got = mix(x, routing, layer.experts)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_gradients_of_both_forms_agree() -> None:
    layer, x = mixture(), drawn(30, 8)
    found = []
    for mix in (mix_densely, mix_sorted):
        layer.zero_grad()
        mix(x, layer.router(x), layer.experts).square().sum().backward()
        grads = (p.grad for p in layer.parameters())
        found.append([grad.clone() for grad in grads if grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_one_expert_is_a_layer_alone_bit_for_bit() -> None:
    layer, x = mixture(experts=1, k=1), drawn(2, 9, 8)
    wanted = layer.experts[0](x.flatten(0, 1)).view_as(x)
    assert torch.equal(layer(x), wanted)


def test_copies_of_one_expert_are_that_expert() -> None:
    layer, x = mixture(experts=4, k=3), drawn(2, 9, 8)
    for expert in layer.experts:
        expert.load_state_dict(layer.experts[0].state_dict())
    wanted = layer.experts[0](x)
    torch.testing.assert_close(layer(x), wanted, atol=1e-6, rtol=1e-5)


def test_the_order_of_experts_does_not_matter() -> None:
    layer, x = mixture(), drawn(2, 9, 8)
    order = [3, 0, 4, 1, 2]
    other = copy.deepcopy(layer)
    other.experts = nn.ModuleList(layer.experts[e] for e in order)
    other.router.scores.weight.data = layer.router.scores.weight[order]
    torch.testing.assert_close(other(x), layer(x), atol=1e-6, rtol=1e-5)


class Counting(nn.Module):
    """An expert that remembers how many tokens it saw."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C), unchanged."""
        self.seen += len(x)
        return x


def test_experts_see_only_those_who_chose_them() -> None:
    experts = [Counting() for _ in range(6)]
    layer, x = Experts(Router(8, 6, 2), experts), drawn(40, 8)
    torch.testing.assert_close(layer(x), x)  # weights sum to 1
    wanted = layer.router(x).chosen.flatten().bincount(minlength=6)
    assert [expert.seen for expert in experts] == wanted.tolist()
    assert sum(expert.seen for expert in experts) == 80


# --- capacity ----------------------------------------------------------------


def chosen(*rows: list[int], experts: int = 3) -> Routing:
    choices = torch.tensor(rows)
    shares = torch.full((len(rows), experts), 1 / experts)
    return Routing(shares, choices, torch.full(choices.shape, 0.5))


def test_first_choices_queue_before_second_ones() -> None:
    routing = chosen([0, 1], [1, 0], [0, 2], [1, 2])
    assert within_capacity(routing, 1).tolist() == [
        [True, False],
        [True, False],
        [False, True],
        [False, False],
    ]
    kept = within_capacity(routing, 2)
    assert kept.tolist() == [[True, False]] * 2 + [[True, True]] * 2
    assert within_capacity(routing, 3).all()


def test_dropped_choices_add_nothing() -> None:
    experts = [Counting() for _ in range(3)]
    x = drawn(4, 8)
    routing = chosen([0, 1], [1, 0], [0, 2], [1, 2])
    kept = within_capacity(routing, 1)
    got = mix_sorted(x, routing, experts, kept)
    torch.testing.assert_close(got, x * 0.5 * kept.sum(dim=1, keepdim=True))
    assert [expert.seen for expert in experts] == [1, 1, 1]


def test_capacity_is_a_multiple_of_an_even_share() -> None:
    experts = [Counting() for _ in range(4)]
    layer = Experts(Router(8, 4, 1), experts, capacity_factor=1.5)
    nn.init.zeros_(layer.router.scores.weight)  # all choose the same one
    layer(drawn(2, 20, 8))
    assert sorted(expert.seen for expert in experts) == [0, 0, 0, 15]
    layer.capacity_factor = 4
    assert torch.equal(layer(x := drawn(1, 7, 8)), x)
    layer.capacity_factor = 0.001  # at least one finds room
    assert (layer(drawn(5, 8)).abs().sum(dim=1) > 0).sum() == 1


def test_no_queue_no_neighbors() -> None:
    """Without a capacity a token's result is its own."""
    layer, x = mixture(), drawn(6, 9, 8)
    alone = torch.cat([layer(row[None]) for row in x])
    torch.testing.assert_close(layer(x), alone, atol=1e-6, rtol=1e-5)


# --- balance -----------------------------------------------------------------


def test_balance_between_even_and_collapsed() -> None:
    even = chosen(*([e, (e + 1) % 3] for e in range(3)))
    torch.testing.assert_close(load(even), torch.full((3,), 1 / 3))
    torch.testing.assert_close(balance_loss(even), torch.tensor(1.0))
    sure = route(torch.tensor([[60.0, 0, 0, 0]] * 5), k=1)
    torch.testing.assert_close(balance_loss(sure), torch.tensor(4.0))
    torch.manual_seed(0)
    near = route(torch.randn(400, 4), 1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = balance_loss(near)
    assert torch.equal(rounded, balance_loss(near))
    assert load(sure).tolist() == [1, 0, 0, 0]


def test_balance_pulls_towards_the_empty_expert() -> None:
    scores = torch.tensor([[0.4, 0.1, 0.0]] * 8, requires_grad=True)
    balance_loss(route(scores, 1)).backward()
    assert scores.grad is not None
    down, *up = scores.grad.sum(dim=0).tolist()
    assert down > 0
    assert max(up) < 0


# --- in a model --------------------------------------------------------------


def test_a_model_with_experts() -> None:
    torch.manual_seed(0)
    model = add_experts(GPT(SMALL), experts=6, k=2, hidden=24)
    table = parameter_table(SMALL)
    per_expert, router = 3 * 32 * 24, 6 * 32
    rest = sum(table.values()) - table["feed-forward"]
    assert count_parameters(model) == rest + 2 * (6 * per_expert + router)
    assert count_active(model) == rest + 2 * (2 * per_expert + router)
    third = model.get_submodule("blocks.0.mlp.experts.3")
    down = third.get_parameter("down.weight").std().item()
    up = third.get_parameter("up.weight").std().item()
    assert up == pytest.approx(0.02, rel=0.1)
    assert down == pytest.approx(0.02 / math.sqrt(4), rel=0.1)


def test_a_model_without_experts_is_active_as_a_whole() -> None:
    model = GPT(SMALL)
    assert count_active(model) == count_parameters(model)


def test_it_reads_with_a_cache_as_without() -> None:
    torch.manual_seed(0)
    model = add_experts(GPT(SMALL), experts=4, k=2, hidden=24).eval()
    ids = torch.randint(50, (2, 12))
    with torch.no_grad():
        whole = model(ids)
        cache = KVCache(SMALL, batch_size=2)
        parts = [model(part, cache) for part in ids.split([5, 1, 6], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)


def test_full_experts_let_the_future_into_the_past() -> None:
    """What the capacity costs: a reason to see that it can happen."""
    torch.manual_seed(0)
    ids = torch.randint(50, (1, 16))
    changed = ids.clone()
    changed[0, 15] = (ids[0, 15] + 1) % 50
    moved = []
    for factor in (None, 1.0):
        torch.manual_seed(1)
        model = add_experts(
            GPT(SMALL), experts=4, k=2, hidden=24, capacity_factor=factor
        )
        for block in model.blocks:
            block.get_parameter("mlp.router.scores.weight").data *= 50
        with torch.no_grad():
            gap = (model(ids) - model(changed))[0, :15].abs().max().item()
        moved.append(gap)
    assert moved[0] < 1e-5
    assert moved[1] > 1e-4


def test_routers_are_watched_and_then_left_alone() -> None:
    torch.manual_seed(0)
    model = add_experts(GPT(SMALL), experts=4, k=2, hidden=24)
    ids = torch.randint(50, (3, 10))
    with watch_routers(model) as seen:
        model(ids)
    assert len(seen) == SMALL.layers
    assert all(r.chosen.shape == (30, 2) for r in seen)
    model(ids)
    assert len(seen) == SMALL.layers
    with pytest.raises(RuntimeError, match="stop"), watch_routers(model):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks for m in model.modules())


def test_it_learns_and_stays_balanced() -> None:
    torch.manual_seed(0)
    model = add_experts(GPT(SMALL), experts=4, k=1, hidden=24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.randint(50, (8, 17))
    losses = []
    for _ in range(15):
        with watch_routers(model) as seen:
            loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss + 0.1 * sum(balance_loss(r) for r in seen)).backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5
    assert all(load(r).max() < 0.9 for r in seen)


def test_more_experts_than_there_are() -> None:
    with pytest.raises(ValueError, match="5 of 3 experts: choose 1 to 3"):
        route(torch.zeros(1, 3), k=5)


def test_a_capacity_that_is_a_whole_number() -> None:
    torch.manual_seed(0)
    layers = [SwiGLU(4, 8) for _ in range(2)]
    layer = Experts(Router(4, 2, k=1), layers, capacity_factor=1.15)
    with torch.no_grad():  # the sign of the first number decides
        layer.router.scores.weight.zero_()
        layer.router.scores.weight[:, 0] = torch.tensor([1.0, -1.0])
    rows = torch.randn(200, 4)
    rows[:, 0] = torch.where(torch.arange(200) < 115, 1.0, -1.0)
    out = layer(rows)  # 115 for the first, who takes 1.15 times 100
    assert (out.abs().sum(dim=1) > 0).all()
    rows[115, 0] = 1.0  # one too many
    assert (layer(rows)[115] == 0).all()


def test_experts_are_of_the_models_type_and_mode() -> None:
    form = replace(SMALL, dropout=0.5)
    model = add_experts(GPT(form).bfloat16().eval(), 4, k=2, hidden=24)
    assert model(torch.zeros(1, 5, dtype=torch.long)).dtype == torch.bfloat16
    assert not any(part.training for part in model.modules())
    model = add_experts(GPT(form), 4, k=2, hidden=24)
    layer, x = model.blocks[0].get_submodule("mlp"), drawn(1, 9, 32)
    assert not torch.equal(layer(x), layer(x))  # dropout is on
    assert torch.equal(layer.eval()(x), layer(x))
