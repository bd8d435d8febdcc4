"""Many texts at once: the same tokens as each alone, whoever else is there."""

import itertools
import math
import random
import threading
from collections import deque
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchlm.generation import batch
from scratchlm.generation.batch import (
    BlockPool,
    Engine,
    Request,
    Row,
    RowAttention,
    SlotStore,
    Written,
    block_names,
    by_rows,
    make_places,
    rotate,
    write_all,
)
from scratchlm.generation.generate import generate, pad_prompts
from scratchlm.generation.sampling import SamplingConfig, sample
from scratchlm.model.embeddings import Rotary
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    llama_config,
)

GREEDY = SamplingConfig(temperature=0)
DRAWN = SamplingConfig(0.9, 20, 0.95, 0.01, 1.1)
FORMS = {
    "gpt2": gpt2_config(29, 32, 2, 2, 16, dropout=0.3),
    "llama": llama_config(29, 32, 2, 4, 16, kv_heads=2),
    "post": GPTConfig(29, 32, 2, 2, 16, norm_order="post"),
    "branch": GPTConfig(
        29,
        32,
        2,
        4,
        16,
        kv_heads=1,
        norm="rmsnorm",
        position="rotary",
        norm_order="branch",
        qk_norm="rmsnorm_all",
        bias=False,
    ),
    "qk_norm": GPTConfig(
        29,
        32,
        2,
        2,
        16,
        head_size=6,
        position="rotary",
        qk_norm="layernorm",
        tied=False,
        fused=False,
    ),
}


def build(config: GPTConfig) -> GPT:
    """A model whose next token depends on all before it."""
    torch.manual_seed(1)
    model = GPT(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {name: build(config) for name, config in FORMS.items()}


def prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(0, 29, (n,), generator=generator).tolist()
        for n in lengths
    ]


def alone(model: GPT, prompt: list[int], request: Request) -> list[int]:
    """What `generate` writes for this prompt and nobody else."""
    return [
        int(step)
        for step in generate(
            model,
            torch.tensor([prompt]),
            request.new_tokens,
            request.sampling,
            torch.Generator().manual_seed(request.seed),
            request.stop_id,
        )
    ]


def together(
    engine: Engine, asked: list[list[int]], request: Request
) -> list[list[int]]:
    """What the engine writes after all of them, for one request."""
    return write_all(engine, asked, [request] * len(asked))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_a_batch_writes_what_each_writes_alone(
    form: str, sampling: SamplingConfig
) -> None:
    model = MODELS[form]
    asked = prompts([5, 1, 19, 8, 40])  # the last is longer than the context
    request = Request(30, sampling, seed=3)  # beyond the context, too
    engine = Engine(model, blocks=64, block_size=4, rows=3)
    got = together(engine, asked, request)
    assert got == [alone(model, prompt, request) for prompt in asked]
    assert not engine.running
    assert len(engine.pool.free) == 64


def test_each_row_has_settings_and_chance_of_its_own() -> None:
    model = MODELS["llama"]
    prompt = prompts([9])[0]
    requests = [
        Request(5, GREEDY),
        Request(9, SamplingConfig(2.0), seed=1),
        Request(9, SamplingConfig(2.0), seed=2),
        Request(12, SamplingConfig(0.7, top_k=3), seed=1, stop_id=4),
    ]
    engine = Engine(model, block_size=4)
    ids = [engine.add(prompt, request) for request in requests]
    texts: dict[int, list[int]] = {id: [] for id in ids}
    ends: dict[int, str | None] = {}
    while engine.busy:
        for new in engine.step():
            assert isinstance(new, Written)
            assert new.logprobs.exp().sum().item() == pytest.approx(1, abs=1e-5)
            assert new.logprob == float(new.logprobs[new.token])
            texts[new.id].append(new.token)
            ends[new.id] = new.finish
    wanted = [alone(model, prompt, request) for request in requests]
    assert list(texts.values()) == wanted
    assert texts[ids[1]] != texts[ids[2]]
    assert [ends[id] for id in ids[:3]] == ["length"] * 3
    assert ends[ids[3]] == ("stop" if wanted[3][-1] == 4 else "length")


def test_a_stop_token_ends_a_row_where_the_model_chose_it() -> None:
    model = MODELS["gpt2"]
    prompt = prompts([7])[0]
    free = alone(model, prompt, Request(8, GREEDY))
    request = Request(8, GREEDY, stop_id=free[2])
    engine = Engine(model)
    (got,) = together(engine, [[free[2], *prompt]], request)
    assert got == alone(model, [free[2], *prompt], request)
    (got,) = together(engine, [prompt], request)
    assert got == free[: free.index(free[2]) + 1]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_arrivals_any_pool_any_order(seed: int) -> None:
    chance = random.Random(seed)
    model = MODELS[chance.choice(["gpt2", "llama"])]
    size, new = chance.randint(1, 9), chance.randint(1, 12)
    asked = prompts([chance.randint(1, 24) for _ in range(6)], seed)
    for i, prompt in enumerate(asked):  # some begin alike
        asked[i] = asked[0][: chance.randint(0, 20)] + prompt
    least = max(-(-min(32, len(p) + new - 1) // size) for p in asked)
    blocks = chance.randint(least, least + 12)
    engine = Engine(model, blocks, size, chance.randint(1, 5))
    request = Request(new, GREEDY)
    texts: dict[int, list[int]] = {}
    coming = list(asked)
    while engine.busy or coming:
        for _ in range(min(len(coming), chance.randint(0, 3))):
            texts[engine.add(coming.pop(0), request)] = []
        for step in engine.step():
            texts[step.id].append(step.token)
        held = [block for row in engine.running for block in row.blocks]
        assert sum(engine.pool.holders) == len(held)
        assert len(set(held)) + len(engine.pool.free) == blocks
        assert not set(held) & set(engine.pool.free)
    assert list(texts.values()) == [alone(model, p, request) for p in asked]


def test_a_full_pool_takes_the_youngest_row_and_loses_nothing() -> None:
    model, request = MODELS["llama"], Request(17, DRAWN, seed=5)
    asked = prompts([10, 10, 10])
    engine = Engine(model, blocks=8, block_size=4)
    lost = 0
    ids = [engine.add(prompt, request) for prompt in asked]
    texts: dict[int, list[int]] = {id: [] for id in ids}
    while engine.busy:
        for step in engine.step():
            texts[step.id].append(step.token)
        lost += sum(row.written > 0 for row in engine.waiting)
        oldest_first = [row.id for row in (*engine.running, *engine.waiting)]
        assert oldest_first == sorted(oldest_first)
    assert lost > 0  # a row was written, and had to wait again
    assert list(texts.values()) == [alone(model, p, request) for p in asked]


def test_beginnings_are_read_once() -> None:
    model, request = MODELS["gpt2"], Request(2, GREEDY)
    prompt = prompts([12])[0]
    engine = Engine(model, block_size=4)
    first = together(engine, [prompt], request)
    assert engine.tokens_read == 13
    second = together(engine, [prompt], request)  # all but the last block
    assert engine.tokens_read == 13 + 4 + 1
    longer = together(engine, [[*prompt, 7]], request)  # all but one token
    assert engine.tokens_read == 18 + 1 + 1
    assert first == second == [alone(model, prompt, request)]
    assert longer == [alone(model, [*prompt, 7], request)]
    other = Request(2, GREEDY, salt="someone else")
    together(engine, [prompt], other)
    assert engine.tokens_read == 20 + 13


def test_what_was_written_is_a_beginning_too() -> None:
    model, request = MODELS["llama"], Request(9, GREEDY)
    prompt = prompts([4])[0]
    engine = Engine(model, block_size=4)
    (answer,) = together(engine, [prompt], request)
    read = engine.tokens_read
    follow = [*prompt, *answer, 1, 2]  # 12 of its 15 tokens are stored
    assert together(engine, [follow], request) == [
        alone(model, follow, request)
    ]
    assert engine.tokens_read == read + 3 + 8


def test_two_that_read_the_same_at_once() -> None:
    model, request = MODELS["gpt2"], Request(6, GREEDY)
    prompt = prompts([9])[0]
    engine = Engine(model, block_size=4)
    texts = together(engine, [prompt, prompt], request)
    assert texts == 2 * [alone(model, prompt, request)]
    assert len(engine.pool.named) == 3  # and not six


def test_a_block_is_forgotten_when_it_is_used_again() -> None:
    model, request = MODELS["gpt2"], Request(1, GREEDY)
    one, other = prompts([12, 12])
    engine = Engine(model, blocks=3, block_size=4)
    together(engine, [one], request)
    together(engine, [other], request)
    assert engine.pool.find(block_names(one, 4)) == []
    assert len(engine.pool.find(block_names(other, 4))) == 3


def test_a_text_that_is_cancelled_leaves_its_blocks() -> None:
    model, request = MODELS["gpt2"], Request(20, GREEDY)
    asked = prompts([5, 6, 7])
    engine = Engine(model, rows=2)
    a, b, c = (engine.add(prompt, request) for prompt in asked)
    engine.step()
    engine.cancel(a)  # is running
    engine.cancel(c)  # is waiting
    engine.cancel(99)  # is nobody
    wanted = alone(model, asked[1], request)
    got = []
    while engine.busy:
        for step in engine.step():
            assert step.id == b
            got.append(step.token)
    assert got == wanted[1:]
    assert not any(engine.pool.holders)


def test_a_static_batch_waits_for_its_last_row() -> None:
    model = MODELS["gpt2"]
    passes = {}
    for continuous in (True, False):
        engine = Engine(model, rows=2, continuous=continuous)
        for prompt, new in zip(prompts([3, 4, 5, 6]), (2, 12, 2, 12)):
            engine.add(prompt, Request(new, GREEDY))
        passes[continuous] = 0
        while engine.busy:
            engine.step()
            passes[continuous] += 1
    assert passes == {True: 16, False: 24}


def test_add_from_many_threads() -> None:
    model, request = MODELS["gpt2"], Request(4, GREEDY)
    asked = prompts([3, 9, 5, 4, 8, 6], seed=2)
    engine = Engine(model, rows=4)
    ids: dict[int, int] = {}

    def add(i: int) -> None:
        ids[i] = engine.add(asked[i], request)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    texts: dict[int, list[int]] = {}
    while engine.busy or any(thread.is_alive() for thread in threads):
        for step in engine.step():
            texts.setdefault(step.id, []).append(step.token)
    assert [texts[ids[i]] for i in range(6)] == [
        alone(model, prompt, request) for prompt in asked
    ]


def test_what_cannot_be_written_is_refused() -> None:
    engine = Engine(MODELS["gpt2"], blocks=3, block_size=4)
    with pytest.raises(ValueError, match="may need 4 blocks, there are 3"):
        engine.add([1, 2, 3], Request(11))
    engine.add([1, 2, 3], Request(10))  # the last token is never read
    with pytest.raises(ValueError, match="token 29 is not in"):
        engine.add([29])
    with pytest.raises(ValueError, match="shape"):
        engine.add([])
    with pytest.raises(ValueError, match="1 new token or more"):
        engine.add([1], Request(0))


def test_places_by_hand() -> None:
    places = make_places(
        [[2, 0], [1]], torch.tensor([3, 0]), torch.tensor([1, 2]), 2, 8
    )
    assert places.positions.tolist() == [[3, 0], [0, 1]]
    assert places.new.tolist() == [[1, 8], [2, 3]]
    assert places.slots.tolist() == [[4, 5, 0, 1], [2, 3, 0, 1]]
    t, f = True, False
    assert places.seen.tolist() == [
        [[[t, t, t, t], [t, f, f, f]]],
        [[[t, f, f, f], [t, t, f, f]]],
    ]


def test_stale_memory_is_never_read() -> None:
    model, request = MODELS["llama"], Request(6, GREEDY)
    engine = Engine(model, blocks=12, block_size=4)
    for memory in engine.pool.memory:
        memory.fill_(1e4)  # what somebody left behind
    asked = prompts([5, 11])
    got = together(engine, asked, request)
    assert got == [alone(model, prompt, request) for prompt in asked]


@torch.no_grad()
def test_one_pass_over_rows_is_a_pass_over_each() -> None:
    for model in MODELS.values():
        asked = prompts([3, 7, 1])
        ids, counts = pad_prompts(asked)
        pool = BlockPool(model.config, 6, 4)
        places = make_places(
            [[3], [0, 5], [2]], torch.zeros(3, dtype=torch.long), counts, 4, 24
        )
        got = by_rows(model)(ids, pool.stores(places))
        for row, prompt in zip(got, asked):
            wanted = model(torch.tensor([prompt]))[0]
            torch.testing.assert_close(
                row[: len(prompt)], wanted, atol=2e-5, rtol=0
            )


def test_a_twin_shares_all_weights_and_leaves_the_model_as_it_is() -> None:
    model = build(FORMS["llama"]).train()
    before = [type(block.attention) for block in model.blocks]
    twin = by_rows(model)
    assert [type(block.attention) for block in model.blocks] == before
    assert model.training
    assert not twin.training
    assert model.blocks[0].attention.rotary is not None
    ours = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in twin.parameters()} == ours
    with pytest.raises(ValueError, match="RowAttention is not known"):
        by_rows(twin)


def test_rotating_rows_is_rotating_each() -> None:
    rotary = Rotary(8, 20)
    x = torch.randn(2, 3, 2, 8)
    got = rotate(rotary, x, torch.tensor([[4, 5], [17, 18]]))
    torch.testing.assert_close(got[:1], rotary.apply_rotary(x[:1], 4))
    torch.testing.assert_close(got[1:], rotary.apply_rotary(x[1:], 17))
    with torch.device("meta"):
        late = Rotary(8, 20)
    torch.testing.assert_close(
        rotate(late, x, torch.tensor([[4, 5], [17, 18]])), got
    )


def test_names_depend_on_all_that_came_before() -> None:
    names = block_names([1, 2, 3, 4, 3, 4], 2)
    assert len(set(names)) == 3
    assert block_names([1, 2, 3], 2) == names[:1]
    assert block_names([9, 2, 3, 4], 2)[1] != names[1]
    assert block_names([1, 2, 3, 4], 2, "salt")[0] != names[0]
    assert block_names([1], 2) == []


def test_a_store_says_where_its_tokens_stand() -> None:
    places = make_places([[0]], torch.tensor([1]), torch.tensor([2]), 4, 4)
    store = SlotStore(torch.zeros(5, 1, 2), torch.zeros(5, 1, 2), places)
    assert store.length.tolist() == [[1, 2]]
    k, v = store.append(torch.ones(1, 1, 2, 2), 2 * torch.ones(1, 1, 2, 2))
    assert k[0, 0, :, 0].tolist() == [0, 1, 1]
    assert v[0, 0, :, 1].tolist() == [0, 2, 2]
    assert RowAttention.__doc__


def without_token_2() -> GPT:
    """A model that makes nothing but NaN of a text with token 2 in it."""
    model = build(FORMS["llama"])
    with torch.no_grad():
        model.token.weight[2] = math.nan
    return model


def test_a_text_that_overflows_spoils_no_other() -> None:
    model, request = without_token_2(), Request(4, GREEDY)
    wanted = alone(model, [5, 6, 7], request)
    assert 2 not in wanted
    engine = Engine(model, blocks=7, block_size=4)
    bad = engine.add([2] * 9, request)
    engine.add([5, 6, 7], request)
    got = list[Written]()
    while engine.busy:
        got += engine.step()
    assert [new.token for new in got if new.id != bad] == wanted
    for _ in range(3):  # in the blocks that it leaves behind
        got = together(engine, [[5, 6, 7], [8] * 9], request)
        assert got[0] == wanted


def test_a_text_without_scores_ends_alone() -> None:
    model, request = without_token_2(), Request(4, SamplingConfig(1.0))
    engine, texts = Engine(model), dict[int, list[Any]]()
    good, bad = engine.add([5, 6], request), engine.add([7, 2], request)
    while engine.busy:
        for new in engine.step():
            texts.setdefault(new.id, []).append(new)
    assert [new.finish for new in texts[bad]] == ["failed"]
    wanted = alone(model, [5, 6], request)
    assert [new.token for new in texts[good]] == wanted
    assert len(engine.pool.free) == len(engine.pool.holders)
    with pytest.raises(RuntimeError, match="has no scores, but NaN"):
        together(Engine(model), [[5, 6], [7, 2]], request)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_step_that_fails_loses_no_token(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, request = MODELS["gpt2"], Request(4, GREEDY)
    engine, calls, failed = Engine(model), itertools.count(1), False

    def failing(*given: Any) -> Any:
        if next(calls) == at:
            raise RuntimeError("planted")
        return sample(*given)

    monkeypatch.setattr(batch, "sample", failing)
    asked = prompts([3, 7])
    texts: dict[int, list[int]] = {engine.add(p, request): [] for p in asked}
    while engine.busy:
        try:
            for new in engine.step():
                texts[new.id].append(new.token)
        except RuntimeError:
            failed = True
    assert failed
    assert list(texts.values()) == [alone(model, p, request) for p in asked]


class Late(deque[Row]):
    """Whenever it is found empty, another thread adds and cancels a text."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.left = engine, 3

    def __bool__(self) -> bool:
        found = len(self) > 0
        if not found and self.left:
            self.left -= 1
            self.engine.cancel(self.engine.add([1], Request(3)))
        return found


def test_no_cancellation_is_lost_between_two_looks() -> None:
    engine = Engine(MODELS["gpt2"])
    engine.incoming = Late(engine)
    assert [engine.step() for _ in range(6)] == [[]] * 6
    assert not engine.busy


def test_an_engine_may_have_texts_of_others() -> None:
    model, request = MODELS["gpt2"], Request(3, GREEDY)
    engine = Engine(model)
    with pytest.raises(ValueError, match="shape"):
        together(engine, [[1], []], request)
    assert together(engine, [[3]], request) == [alone(model, [3], request)]


@pytest.mark.parametrize("size", ["blocks", "block_size", "rows"])
def test_an_engine_of_nothing_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        Engine(MODELS["gpt2"], **{size: 0})
