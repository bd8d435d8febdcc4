"""Writing with a cache, beside `transformers`, and what one token costs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Row, load
from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import generate, next_logits
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import FastStep, medians, take_turns
from scratchlm.model.gpt import GPT, gpt2_config

TOKENS, PROMPT, CONTEXT = 256, 8, 1024
TARGETS = {1: (3.0, "3 times"), 16: (1.5, "1.5 times")}  # by batch size
COSTS = (1, 256, 512, 1024)  # the tokens whose costs are compared
REPEATED = 20  # one token alone is too short to be timed
FLAT = 1.5  # so many times the first token may the last one cost
GREEDY = SamplingConfig(temperature=0)


def pair() -> tuple[GPT, Any]:
    """Our model and the peer's, 4 layers of 128 channels, equal weights."""
    peer = load("transformers")
    torch.manual_seed(0)
    config = peer.GPT2Config(
        vocab_size=65,
        n_positions=CONTEXT,
        n_embd=128,
        n_layer=4,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = peer.GPT2LMHeadModel(config).eval()
    ours = GPT(gpt2_config(65, CONTEXT, 4, 4, 128)).eval()
    copy_weights(theirs, ours)
    return ours, theirs


@torch.no_grad()
def copy_weights(theirs: Any, ours: GPT) -> None:
    """Give our model the peer's weights, which stand in the same order.

    The peer keeps the matrices of its blocks the other way round, (in, out).
    """
    pairs = zip(ours.parameters(), theirs.named_parameters(), strict=True)
    for mine, (name, other) in pairs:
        turned = other.ndim == 2 and ".h." in name
        wanted = other.t() if turned else other
        assert mine.shape == wanted.shape, name
        mine.copy_(wanted)


def prompts(batch: int) -> Tensor:
    """Different beginnings: (B, T)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(65, (batch, PROMPT), generator=generator)


def writing(ours: GPT, theirs: Any, batch: int) -> Row:
    """256 tokens, greedy, with a cache on both sides."""
    ids, step = prompts(batch), FastStep(ours)

    def write() -> Tensor:
        new = generate(ours, ids, TOKENS, GREEDY, step=step)
        return torch.stack(list(new), dim=1)

    def peer() -> Tensor:
        found: Tensor = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
        return found[:, PROMPT:]

    if not torch.equal(write(), peer()):
        raise AssertionError("the two write different texts")
    what = f"write {TOKENS} tokens, greedy, batch {batch}"
    times = take_turns({"ours": write, "peer": peer}, what=what)
    seconds = medians(times)
    rate = {name: batch * TOKENS / s for name, s in seconds.items()}
    least, words = TARGETS[batch]
    return Row(
        what,
        rate["ours"],
        rate["peer"],
        "transformers",
        "tokens/s",
        words,
        rate["ours"] >= least * rate["peer"],
        times,
        "transformers writes greedily with its own cache, in float32",
    )


@torch.no_grad()
def token_costs(model: GPT) -> list[Row]:
    """What follows n tokens, the last of them new: n = 1 and n = 1,024."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(65, (1, CONTEXT), generator=generator)

    def cached(n: int) -> Callable[[], None]:
        cache = KVCache(model.config)
        next_logits(model, ids[:, :n], cache)

        def work() -> None:
            for _ in range(REPEATED):
                cache.rewind(n - 1)
                next_logits(model, ids[:, n - 1 : n], cache)

        return work

    works: dict[str, Callable[[], object]] = {}
    for n in COSTS:
        works[f"cached {n}"] = cached(n)
    works["uncached"] = lambda: next_logits(model, ids)
    times = take_turns(works, turns=11, what="cost of a token")
    seconds = medians(times)
    first = seconds["cached 1"] / REPEATED
    last = seconds[f"cached {CONTEXT}"] / REPEATED
    return [
        Row(
            f"token {CONTEXT:,} beside the first, with cache",
            1000 * last,
            1000 * first,
            "first token",
            "ms",
            "flat",
            last <= FLAT * first,
            times,
        ),
        Row(
            f"token {CONTEXT:,}, with cache and without",
            1000 * last,
            1000 * seconds["uncached"],
            "no cache",
            "ms",
            "less",
            last < seconds["uncached"],
            times,
        ),
    ]


def rows() -> list[Row]:
    """All that is measured about generation."""
    ours, theirs = pair()
    written = [writing(ours, theirs, batch) for batch in TARGETS]
    return [*written, *token_costs(ours)]
