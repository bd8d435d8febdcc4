"""Solutions on batches: blocks, steps, bytes, answers, long prompts."""

from itertools import permutations

import pytest
import torch
from torch import nn

from scratchlm.generation.batch import (
    BlockPool,
    Engine,
    Request,
    block_names,
    write_all,
)
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config, llama_config
from solutions.generation.batch import (
    PatientEngine,
    blocks_held,
    count_steps,
    several,
    step_bytes,
)

GREEDY = SamplingConfig(temperature=0)


def build() -> GPT:
    torch.manual_seed(0)
    model = GPT(gpt2_config(23, 64, 2, 2, 16)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


MODEL = build()


@pytest.mark.parametrize(
    ("size", "wanted"), [(16, (7, 34)), (4, (21, 6)), (64, (4, 178))]
)
def test_blocks_of_any_size(size: int, wanted: tuple[int, int]) -> None:
    lengths = [5, 16, 17, 40]
    assert blocks_held(lengths, size) == wanted
    tables = [list(range(n))[::size] for n in lengths]
    assert sum(map(len, tables)) == wanted[0]


def test_a_name_that_leaves_out_what_came_before() -> None:
    one, other = [5, 6, 7, 8, 9], [1, 2, 7, 8, 9]
    assert one[2:4] == other[2:4]
    assert block_names(one, 2)[1] != block_names(other, 2)[1]
    pool = BlockPool(MODEL.config, 4, 2)
    pool.name(pool.take(), block_names(one, 2)[0])
    assert pool.find(block_names(other, 2)) == []


def test_orders_of_a_batch() -> None:
    orders = set(permutations([1, 1, 1, 9, 9, 9]))
    static = {order: count_steps(order, 3, False) for order in orders}
    assert static[(1, 1, 1, 9, 9, 9)] == min(static.values()) == 10
    assert static[(1, 9, 1, 9, 1, 9)] == max(static.values()) == 18
    free = {count_steps(order, 3) for order in orders}
    assert free == {10, 11}


@pytest.mark.parametrize("continuous", [True, False])
def test_steps_are_those_of_the_engine(continuous: bool) -> None:
    lengths = [3, 1, 6, 2, 2, 5, 1]
    engine = Engine(MODEL, rows=3, continuous=continuous)
    for length in lengths:
        engine.add([1, 2, 3], Request(length, GREEDY))
    steps = 0
    while engine.busy:
        engine.step()
        steps += 1
    assert steps == count_steps(lengths, 3, continuous)


def test_bytes_of_a_step() -> None:
    for config, texts in (
        (llama_config(), 26),
        (llama_config(kv_heads=8), 89),
    ):
        weights, caches = step_bytes(config, [1000] * texts)
        assert caches > weights
        weights, caches = step_bytes(config, [1000] * (texts - 1))
        assert caches < weights
    small = MODEL.config  # tied: the head is fetched, the table is not
    assert step_bytes(small, [])[0] == 2 * sum(
        p.numel() for name, p in MODEL.named_parameters() if "pos" not in name
    )


def test_several_answers_and_one_reading() -> None:
    prompt = [n % 23 for n in range(40)]
    request = Request(6, SamplingConfig(), seed=7)
    engine = Engine(MODEL, block_size=16)
    got = several(engine, prompt, request, 4)
    wanted = [
        write_all(Engine(MODEL), [prompt], [Request(6, seed=7 + n)])[0]
        for n in range(4)
    ]
    assert got == wanted
    assert len({tuple(text) for text in got}) > 1
    read = engine.tokens_read - 4 * 5  # the last token is never read
    assert read == 40 + 3 * 8


def test_long_prompts_in_pieces_change_nothing() -> None:
    lengths = (50, 3, 17, 9, 40)
    prompts = [[(7 * n + k) % 23 for n in range(k)] for k in lengths]
    requests = [Request(12, GREEDY)] * 5
    most = {}
    texts = {}
    for kind in (Engine, PatientEngine):
        options = {} if kind is Engine else {"budget": 8}
        engine = kind(MODEL, rows=4, block_size=4, **options)
        ids = [engine.add(*pair) for pair in zip(prompts, requests)]
        texts[kind] = {id: [] for id in ids}
        most[kind] = 0
        while engine.busy:
            before = engine.tokens_read
            for new in engine.step():
                texts[kind][new.id].append(new.token)
            most[kind] = max(most[kind], engine.tokens_read - before)
        assert len(engine.pool.free) == len(engine.pool.holders)
    assert texts[PatientEngine] == texts[Engine]
    assert most[Engine] > 70
    assert most[PatientEngine] <= 8 + 3
