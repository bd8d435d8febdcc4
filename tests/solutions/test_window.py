"""Solutions on windows: reach, chunks, and keys that move."""

import pytest
import torch
from torch.nn import functional as F

from scratchlm.model.embeddings import Rotary
from scratchlm.model.flash import PeakMemory
from scratchlm.model.gpt import GPT, llama_config
from scratchlm.model.window import RollingStore, WindowedAttention, window_mask
from solutions.model.window import (
    chunked_attention,
    held_share,
    moved_back,
    reach,
    see_window_in_turns,
    unfinished,
)


def test_numbers_by_hand() -> None:
    assert reach(1, 1) == 0
    assert reach(3, 5) == 12
    assert held_share(10, 50) == 1
    assert held_share(100, 20, sinks=5) == 0.25
    assert unfinished(4, 100.0, 63) == 0
    assert unfinished(4, 100.0, 62) == 1


def test_a_rolling_store_holds_that_share() -> None:
    store = RollingStore(8)
    for _ in range(40):
        k, _ = store.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
    assert k.shape[2] / 40 == held_share(40, 8)


@pytest.mark.parametrize("length", [1, 8, 31, 40])
@pytest.mark.parametrize("window", [1, 8, 50])
def test_chunks_equal_the_mask(length: int, window: int) -> None:
    generator = torch.Generator().manual_seed(length)
    q, k, v = torch.randn(3, 2, 3, length, 4, generator=generator)
    mask = window_mask(length, length, window)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    got = chunked_attention(q, k, v, window)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_chunks_need_memory_that_grows_with_the_length() -> None:
    peaks = []
    for length in (256, 512, 1024):
        q, k, v = torch.randn(3, 1, 1, length, 4)
        with PeakMemory() as memory:
            chunked_attention(q, k, v, 16)
        peaks.append(memory.peak)
    assert peaks[2] / peaks[1] < 2.2
    assert peaks[1] / peaks[0] < 2.2


def test_keys_move_back() -> None:
    rotary, x = Rotary(8, 32), torch.randn(1, 2, 5, 8)
    moved = moved_back(rotary.apply_rotary(x, start=20), rotary, 13)
    wanted = rotary.apply_rotary(x, start=7)
    torch.testing.assert_close(moved, wanted, atol=1e-5, rtol=1e-4)


def test_windows_in_turns() -> None:
    torch.manual_seed(0)
    model = GPT(llama_config(9, 8, layers=6, heads=1, channels=4, hidden=4))
    for whole, windows in ((2, 3), (6, 5), (1, 0)):
        mixed = see_window_in_turns(model, 3, whole)
        kinds = [
            isinstance(b.attention, WindowedAttention) for b in mixed.blocks
        ]
        assert sum(kinds) == windows
        assert not kinds[-1]
