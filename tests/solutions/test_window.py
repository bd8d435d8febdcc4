"""Solutions on windows: blocks, ramps, mixed layers, sinks, dynamic waves."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from scratchlm.model.embeddings import Rotary, slow_down, wave_frequencies
from scratchlm.model.gpt import GPT, llama_config
from scratchlm.model.window import WindowAttention, raise_base, reach, yarn
from solutions.model.window import (
    DynamicRotary,
    blocks_met,
    by_turns,
    narrowest,
    positions_kept,
    some_windows,
    weights_with_sink,
)

SMALL = llama_config(30, 24, layers=4, heads=2, channels=16)


@pytest.mark.parametrize("layers", [1, 3, 7])
@pytest.mark.parametrize("wanted", [1, 2, 15, 16, 17])
def test_the_narrowest_window(layers: int, wanted: int) -> None:
    window = narrowest(layers, wanted)
    assert reach(layers, window) >= wanted
    assert window == 1 or reach(layers, window - 1) < wanted


@pytest.mark.parametrize("window", [1, 128, 129, 200, 257, 600])
def test_blocks_are_those_of_the_library(window: int) -> None:
    def near(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < window)

    mask = create_block_mask(near, None, None, 1024, 1024, device="cpu")
    met, count = blocks_met(1024, window, 128)
    assert mask.sparsity() == pytest.approx(100 * (1 - met / count))


def test_the_papers_ramp_has_that_of_llama_3_in_it() -> None:
    waves = wave_frequencies(64)
    torch.testing.assert_close(
        by_turns(waves, 8.0, 4096, fast=4), slow_down(waves, 8.0, 4096)
    )
    paper, code = by_turns(waves, 8.0, 4096, 32), yarn(waves, 8.0, 4096)
    assert not torch.allclose(paper, code, rtol=0.05)
    assert torch.equal(paper[:3], code[:3])
    torch.testing.assert_close(paper[-3:], code[-3:])


def test_mixed_layers_see_everything_in_the_end() -> None:
    torch.manual_seed(0)
    model = some_windows(GPT(SMALL).eval(), window=2, every=4)
    kinds = [isinstance(b.attention, WindowAttention) for b in model.blocks]
    assert kinds == [True, True, True, False]
    ids = torch.randint(30, (1, 24))
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % 30
    with torch.no_grad():
        gap = (model(ids) - model(changed)).abs()[0, -1].max()
    assert gap > 1e-7
    assert positions_kept(4, 2, every=4, length=24) == 24 + 3 * 2
    assert positions_kept(4, 50, every=2, length=24) == 4 * 24


def test_a_sink_takes_what_nobody_wants() -> None:
    scores = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
    never = torch.full((2,), -torch.inf)
    torch.testing.assert_close(
        weights_with_sink(scores, never), scores.softmax(dim=-1)
    )
    got = weights_with_sink(scores, torch.tensor([0.0, 9.0])).sum(dim=-1)
    wanted = scores.exp().sum(-1) / (scores.exp().sum(-1) + 1)
    torch.testing.assert_close(got[0], wanted[0])
    assert got[1].max() < 0.1


def test_dynamic_waves_leave_short_texts_alone() -> None:
    x = torch.randn(1, 2, 40, 8, generator=torch.Generator().manual_seed(0))
    rotary, old = DynamicRotary(8, 16, 64), Rotary(8, 64)
    short = x[:, :, :16]
    torch.testing.assert_close(
        rotary.apply_rotary(short), old.apply_rotary(short)
    )
    rotary.apply_rotary(x)
    waves = raise_base(wave_frequencies(8), 40 / 16)
    torch.testing.assert_close(rotary.cos[1], waves.cos())
    torch.testing.assert_close(
        rotary.apply_rotary(short), old.apply_rotary(short)
    )
    with pytest.raises(ValueError, match="other waves"):
        rotary.apply_rotary(short, start=3)
