"""Solutions on the cache: counting reads, forks, bytes."""

import pytest
import torch

from scratchlm.generation.cache import KVCache
from scratchlm.model.gpt import GPT, llama_config
from solutions.generation.cache import (
    ByteCache,
    fork,
    round_to_bytes,
    tokens_read,
)

CONFIG = llama_config(29, 32, 2, 4, 32, kv_heads=2)


def model_and_text() -> tuple[GPT, torch.Tensor]:
    torch.manual_seed(0)
    return GPT(CONFIG).eval(), torch.randint(29, (1, 20))


@pytest.mark.parametrize("prompt", [1, 7])
@pytest.mark.parametrize("new", [0, 1, 2, 9])
def test_reads_are_counted(prompt: int, new: int) -> None:
    lengths = [prompt + i for i in range(new)]
    assert tokens_read(prompt, new, cached=False) == sum(lengths)
    wanted = lengths[-1] if lengths else 0
    assert tokens_read(prompt, new, cached=True) == wanted


@torch.no_grad()
def test_a_fork_continues_in_several_ways() -> None:
    model, ids = model_and_text()
    cache = KVCache(CONFIG)
    model(ids, cache)
    endings = torch.randint(29, (3, 6))
    got = model(endings, fork(cache, CONFIG, 3))
    whole = model(torch.cat([ids.expand(3, -1), endings], dim=1))
    assert torch.allclose(got, whole[:, 20:], atol=1e-5)
    assert cache.length == 20


def test_rounding_errs_by_half_a_step() -> None:
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    rounded, scale = round_to_bytes(x)
    assert rounded.dtype == torch.int8
    assert ((rounded * scale - x).abs() <= scale / 2 + 1e-6).all()
    assert (round_to_bytes(torch.zeros(1, 4))[0] == 0).all()


@torch.no_grad()
def test_bytes_are_nearly_enough() -> None:
    model, ids = model_and_text()
    stores = [ByteCache() for _ in range(CONFIG.layers)]
    got = torch.cat([model(part, stores) for part in ids.split(7, 1)], 1)
    gap = (got - model(ids)).abs().max()
    assert stores[0].length == 20
    assert 0 < gap < 0.02
