"""Accumulation and recomputation are exact, and the bytes are counted."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scratchlm.model.gpt import (
    GPT,
    count_parameters,
    gpt2_config,
    memory_estimate,
    next_token_loss,
)
from scratchlm.training.memory import (
    IGNORED,
    accumulate_gradients,
    count_targets,
    memory_use,
    recompute,
    saved_bytes,
    storage_bytes,
)


def small_gpt(dropout: float = 0.0) -> GPT:
    """A GPT of two layers with random weights, in training mode."""
    torch.manual_seed(3)
    return GPT(
        gpt2_config(
            vocab_size=11,
            context=8,
            layers=2,
            heads=2,
            channels=16,
            dropout=dropout,
        )
    ).train()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Name → gradient."""
    return {n: p.grad for n, p in model.named_parameters()}


class TableModel(nn.Module):
    """A row of logits for each token, whatever came before."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(vocab_size, vocab_size))

    def forward(self, ids: Tensor) -> Tensor:
        return self.table[ids]


def mean_of_means(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> None:
    """What many loops did for years: every piece weighs the same."""
    for ids, targets in batches:
        loss = next_token_loss(model(ids), targets) / len(batches)
        loss.backward()


def test_count_targets() -> None:
    targets = torch.tensor([[1, IGNORED], [IGNORED, IGNORED]])
    assert count_targets(targets) == 1


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    keep=st.floats(0.1, 1.0),
    seed=st.integers(0, 2**31),
)
def test_pieces_equal_the_whole(
    rows: list[int], keep: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    total = sum(rows)
    ids = torch.randint(7, (total, 5), generator=generator)
    targets = torch.randint(7, (total, 5), generator=generator)
    hidden = torch.rand(total, 5, generator=generator) > keep
    targets[hidden] = IGNORED
    targets[0, 0] = 3  # one at least is left
    whole, pieces = TableModel(7), TableModel(7)
    loss = next_token_loss(whole(ids), targets)
    loss.backward()
    batches = list(zip(ids.split(rows), targets.split(rows), strict=True))
    got = accumulate_gradients(pieces, batches)
    assert got == pytest.approx(loss.item(), abs=1e-5)
    torch.testing.assert_close(
        pieces.table.grad, whole.table.grad, rtol=0, atol=1e-6
    )


def test_mean_of_means_is_wrong() -> None:
    ids = torch.zeros(2, 4, dtype=torch.int64)
    targets = torch.tensor([[1, -100, -100, -100], [2, 2, 2, 2]])
    batches = [(ids[:1], targets[:1]), (ids[1:], targets[1:])]
    right, wrong = TableModel(3), TableModel(3)
    accumulate_gradients(right, batches)
    mean_of_means(wrong, batches)
    assert (right.table.grad - wrong.table.grad).abs().max() > 0.1


def test_pieces_of_different_length() -> None:
    model = TableModel(5)
    short = (torch.tensor([[1]]), torch.tensor([[2]]))
    long = (torch.tensor([[1, 1, 1]]), torch.tensor([[3, 3, 3]]))
    loss = accumulate_gradients(model, [short, long])
    logs = model.table.log_softmax(-1)[1]
    wanted = -(logs[2] + 3 * logs[3]).item() / 4
    assert loss == pytest.approx(wanted, abs=1e-6)


def test_adds_to_gradients_already_there() -> None:
    model = TableModel(4)
    batch = [(torch.tensor([[0, 1]]), torch.tensor([[1, 2]]))]
    accumulate_gradients(model, batch)
    once = model.table.grad.clone()
    accumulate_gradients(model, batch)
    torch.testing.assert_close(model.table.grad, 2 * once, rtol=0, atol=0)


def test_nothing_to_predict() -> None:
    batch = (torch.zeros(1, 2, dtype=torch.int64), torch.full((1, 2), IGNORED))
    with pytest.raises(ValueError, match="no target counts"):
        accumulate_gradients(TableModel(3), [batch])


def test_bfloat16_is_near() -> None:
    ids = torch.randint(11, (2, 8))
    losses = [
        accumulate_gradients(small_gpt(), [(ids, ids)], precision)
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recompute_equals_plain_and_library(dropout: float) -> None:
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Linear(6, 12), nn.GELU(), nn.Dropout(dropout), nn.Linear(12, 6)
    )
    x = torch.randn(4, 6)
    results = []
    for run in (
        lambda f, x: f(x),
        recompute,
        lambda f, x: checkpoint(f, x, use_reentrant=False),
    ):
        module, start = copy.deepcopy(layers), x.clone().requires_grad_()
        torch.manual_seed(9)
        y = run(module, start)
        y.square().sum().backward()
        after = torch.rand(3)  # the random state goes on as if run once
        results.append(
            [y, start.grad, after, *(p.grad for p in module.parameters())]
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_recompute_wants_an_input_with_gradient() -> None:
    with pytest.raises(ValueError, match="requires_grad"):
        recompute(nn.Linear(2, 2), torch.zeros(1, 2))


def test_checkpointed_gpt_is_bitwise_equal() -> None:
    ids = torch.randint(11, (3, 8))
    model = small_gpt()
    found = []
    for on in (False, True):
        model.checkpoint_activations = on
        model.zero_grad()
        accumulate_gradients(model, [(ids, ids)])
        found.append({n: g.clone() for n, g in gradients(model).items()})
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def test_checkpointed_gpt_keeps_less() -> None:
    ids = torch.randint(11, (3, 8))
    model = small_gpt()
    kept = []
    for on in (False, True):
        model.checkpoint_activations = on
        kept.append(memory_use(model, ids, ids).activations)
    assert kept[1] < kept[0] / 2


def test_saved_bytes_of_a_linear_layer() -> None:
    linear, x = nn.Linear(3, 5), torch.zeros(7, 3)
    # The weight's gradient needs x, and nothing else is needed.
    assert saved_bytes(linear, lambda: linear(x)) == 7 * 3 * 4


def test_saved_bytes_of_a_recomputed_chain() -> None:
    chain = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 3))
    x = torch.zeros(7, 3, requires_grad=True)
    plain = saved_bytes(chain, lambda: chain(x))
    assert plain == 7 * 3 * 4 + 7 * 50 * 4  # x, and tanh's output, once
    assert saved_bytes(chain, lambda: recompute(chain, x)) == 7 * 3 * 4


def test_storage_counts_shared_memory_once() -> None:
    x = torch.zeros(10)
    assert storage_bytes([x, x[:5], x.view(2, 5)]) == 40
    assert storage_bytes([]) == 0


def test_memory_use() -> None:
    model, ids = small_gpt(), torch.randint(11, (2, 8))
    use = memory_use(model, ids, ids)
    weights = 4 * count_parameters(model)
    assert (use.weights, use.gradients) == (weights, weights)
    assert use.moments == 2 * weights
    assert use.activations > 0
    assert use.total == 4 * weights + use.activations
    computed = memory_estimate(model.config, 2).activations
    assert use.activations == pytest.approx(computed, rel=0.01)
    double = memory_use(model, ids.repeat(2, 1), ids.repeat(2, 1))
    assert double.activations > 1.8 * use.activations
