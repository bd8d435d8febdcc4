"""Five ways to say positions: each by hand, and the model around them."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from scratchlm.model.attention import causal_mask
from scratchlm.model.embeddings import Rotary, sinusoidal_positions
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.positions import (
    ALiBi,
    Learned,
    PositionedAttention,
    PositionedModel,
    Positions,
    Sinusoidal,
    Turned,
    alibi_slopes,
)

CPU = torch.device("cpu")
WAYS: dict[str, Callable[[], Positions]] = {
    "none": Positions,
    "learned": lambda: Learned(12, 16),
    "sinusoidal": lambda: Sinusoidal(1.0),
    "RoPE": lambda: Turned(4, 12),
    "ALiBi": lambda: ALiBi(4),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


def model(way: str, layers: int) -> PositionedModel:
    """A model whose weights and positions look trained."""
    torch.manual_seed(0)
    made = PositionedModel(20, WAYS[way](), layers, heads=4, channels=16)
    for parameter in made.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return made.eval()


def test_nothing_is_said_anywhere() -> None:
    silent, x = Positions(), drawn(2, 3, 8)
    assert silent.add(x) is x
    assert silent.turn(x) is x
    seen = causal_mask(5, 5)
    bias = silent.bias(5, CPU)
    assert bool((bias[seen] == 0).all())
    assert bool((bias[~seen] == -math.inf).all())


def test_what_is_added() -> None:
    x = drawn(2, 5, 8)
    learned = Learned(6, 8)
    for t in range(5):
        wanted = x[:, t] + learned.table.weight[t]
        assert torch.equal(learned.add(x)[:, t], wanted)
    waves = Sinusoidal(0.5).add(x) - x
    wanted = 0.5 * sinusoidal_positions(5, 8).expand(2, 5, 8)
    torch.testing.assert_close(waves, wanted, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="do not fit a context of 6"):
        learned.add(drawn(1, 7, 8))


def test_what_is_turned() -> None:
    x = drawn(2, 3, 5, 8)
    assert torch.equal(Turned(8, 9).turn(x), Rotary(8, 9).apply_rotary(x))
    with pytest.raises(ValueError, match="do not fit a context of 4"):
        Turned(8, 4).turn(x)


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
def test_slopes_are_those_of_the_paper(heads: int) -> None:
    slopes = alibi_slopes(heads).tolist()
    ratio = 2 ** (-8 / heads)
    assert slopes == pytest.approx([ratio ** (i + 1) for i in range(heads)])
    assert slopes[-1] == 2**-8
    if heads == 8:
        assert slopes == [1 / 2**i for i in range(1, 9)]


@pytest.mark.parametrize("heads", [0, 3, 12, -4])
def test_other_numbers_of_heads_are_refused(heads: int) -> None:
    with pytest.raises(ValueError, match="choose a power of two"):
        alibi_slopes(heads)


def test_penalties_by_hand() -> None:
    long = ALiBi(4).bfloat16().bias(1101, CPU)
    torch.testing.assert_close(long, ALiBi(4).bias(1101, CPU))
    bias = ALiBi(2).bias(3, CPU)
    inf = math.inf
    for head, slope in enumerate((1 / 16, 1 / 256)):
        wanted = [
            [0, -inf, -inf],
            [-slope, 0, -inf],
            [-2 * slope, -slope, 0],
        ]
        assert bias[head].tolist() == wanted


@pytest.mark.parametrize("heads", [2, 4, 8])
def test_equals_the_bias_of_bloom(heads: int) -> None:
    """Theirs grows along the keys; a row's softmax sees no difference."""
    theirs = build_alibi_tensor(torch.ones(1, 7), heads, torch.float32)
    scores = drawn(heads, 7, 7)
    future = ~causal_mask(7, 7)
    wanted = (scores + theirs).masked_fill(future, -math.inf).softmax(dim=-1)
    got = (scores + ALiBi(heads).bias(7, CPU)).softmax(dim=-1)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rotated", [False, True])
def test_the_layer_is_the_one_of_the_book(rotated: bool) -> None:
    torch.manual_seed(0)
    ours = PositionedAttention(16, 4)
    rotary = Rotary(4, 12) if rotated else None
    theirs = MultiHeadAttention(16, 4, bias=False, rotary=rotary)
    theirs.load_state_dict(ours.state_dict())
    x = drawn(2, 7, 16)
    got = ours(x, Turned(4, 12) if rotated else Positions())
    torch.testing.assert_close(got, theirs(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_the_future_does_not_change_the_past(way: str) -> None:
    ids = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(1))
    made = model(way, layers=2)
    before = made(ids)
    ids[:, 6:] = 3
    assert before.shape == (2, 9, 20)
    after = made(ids)
    torch.testing.assert_close(after[:, :6], before[:, :6], atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_one_layer_without_positions_sees_a_bag_of_words(way: str) -> None:
    ids = torch.tensor([[4, 9, 1, 7, 2]])
    swapped = torch.tensor([[1, 7, 9, 4, 2]])
    made = model(way, layers=1)
    gap = (made(ids) - made(swapped))[0, -1].abs().max().item()
    assert (gap < 1e-5) == (way == "none")


@pytest.mark.parametrize("way", ["RoPE", "ALiBi", "none"])
def test_only_distances_count(way: str) -> None:
    """The same scores for a text that begins later."""
    positions = WAYS[way]()
    q, k = drawn(1, 4, 5, 4), drawn(1, 4, 5, 4, seed=1)
    q, k = torch.cat([q, q], dim=2), torch.cat([k, k], dim=2)  # said twice
    scores = positions.turn(q) @ positions.turn(k).mT / 2
    scores = scores + positions.bias(10, CPU)
    torch.testing.assert_close(
        scores[..., 5:, 5:], scores[..., :5, :5], atol=1e-5, rtol=0
    )


def test_every_parameter_learns() -> None:
    made = model("learned", layers=2)
    made(torch.tensor([[1, 2, 3]])).square().sum().backward()
    gradients = [parameter.grad for parameter in made.parameters()]
    assert all(g is not None and float(g.norm()) > 0 for g in gradients)
