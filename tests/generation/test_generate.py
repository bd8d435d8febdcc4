"""Writing: cached as uncached, stops, batches, seeds, and a full context."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import (
    check_lengths,
    generate,
    make_cache,
    next_logits,
    pad_prompts,
    read_on,
    window_start,
)
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config

GREEDY = SamplingConfig(temperature=0)


def build(config: GPTConfig) -> GPT:
    """A model whose next token depends on all before it."""
    torch.manual_seed(1)
    model = GPT(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {
    "gpt2": build(gpt2_config(29, 16, 2, 2, 16)),
    "llama": build(llama_config(29, 16, 2, 4, 16, kv_heads=2)),
}
PROMPT = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def written(model: GPT, ids: Tensor, count: int, **options: object) -> Tensor:
    """All steps side by side: (B, steps)."""
    steps = list(generate(model, ids, count, **options))  # type: ignore
    return torch.stack(steps, dim=1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("form", MODELS)
@pytest.mark.parametrize("count", [1, 11, 64])  # 64: far beyond the context
@pytest.mark.parametrize(
    "sampling", [GREEDY, SamplingConfig(0.9, 20, 0.95, 0.01, 1.1)]
)
def test_the_cache_changes_nothing(
    form: str, count: int, sampling: SamplingConfig
) -> None:
    both = [
        written(
            MODELS[form],
            PROMPT,
            count,
            sampling=sampling,
            generator=seeded(),
            cached=cached,
        )
        for cached in (True, False)
    ]
    assert both[0].shape == (2, count)
    assert torch.equal(both[0], both[1])


@torch.no_grad()
def naive_greedy(model: GPT, ids: list[int], count: int) -> list[int]:
    """One text, no cache, no batch: what `generate` must equal."""
    ids, prompt = list(ids), len(ids)
    for _ in range(count):
        start = window_start(len(ids), model.config.context)
        logits = model(torch.tensor([ids[start:]]))[0, -1]
        ids.append(int(logits.argmax()))
    return ids[prompt:]


@settings(deadline=None, max_examples=25)
@given(
    form=st.sampled_from(sorted(MODELS)),
    prompt=st.lists(st.integers(0, 28), min_size=1, max_size=45),
    count=st.integers(1, 30),
)
def test_greedy_equals_the_naive_loop(
    form: str, prompt: list[int], count: int
) -> None:
    model = MODELS[form]
    got = written(model, torch.tensor([prompt]), count, sampling=GREEDY)
    assert got[0].tolist() == naive_greedy(model, prompt, count)


@settings(deadline=None, max_examples=100)
@given(length=st.integers(1, 400), context=st.integers(1, 40))
def test_the_window_fits_and_keeps_half(length: int, context: int) -> None:
    start = window_start(length, context)
    seen = length - start
    assert 1 <= seen <= context
    assert start == 0 or seen > context - max(1, context // 2)
    assert window_start(length + 1, context) in (
        start,
        start + max(1, context // 2),
    )


def test_a_row_of_a_batch_is_written_as_if_alone() -> None:
    model = MODELS["llama"]
    together = written(model, PROMPT, 20, sampling=GREEDY)
    for row in range(2):
        alone = written(model, PROMPT[row : row + 1], 20, sampling=GREEDY)
        assert torch.equal(together[row], alone[0])


UNEVEN = [[3], [1, 4, 1, 5, 9, 2], [6, 5, 3]]


def test_short_prompts_are_filled_up_behind_their_end() -> None:
    ids, lengths = pad_prompts(UNEVEN, pad_id=28)
    assert lengths.tolist() == [1, 6, 3]
    for row, prompt in zip(ids.tolist(), UNEVEN, strict=True):
        assert row == prompt + [28] * (6 - len(prompt))
    assert ids.dtype == lengths.dtype == torch.long


@settings(deadline=None, max_examples=8)
@given(
    form=st.sampled_from(sorted(MODELS)),
    prompts=st.lists(
        st.lists(st.integers(0, 28), min_size=1, max_size=20),
        min_size=1,
        max_size=4,
    ),
    pad=st.integers(0, 28),
    cached=st.booleans(),
)
def test_prompts_of_any_lengths_are_continued_as_if_alone(
    form: str, prompts: list[list[int]], pad: int, cached: bool
) -> None:
    """Far beyond the context, too, and whatever the padding is."""
    ids, lengths = pad_prompts(prompts, pad)
    first = min(map(len, prompts))
    got = written(
        MODELS[form], ids, 24, sampling=GREEDY, cached=cached, lengths=lengths
    )
    for row, prompt in zip(got.tolist(), prompts, strict=True):
        text = prompt[:first] + row
        assert text[: len(prompt)] == prompt
        alone = naive_greedy(MODELS[form], prompt, len(text) - len(prompt))
        assert text[len(prompt) :] == alone


def test_a_stop_token_inside_a_prompt_stops_nothing() -> None:
    model, stop = MODELS["gpt2"], 4
    uneven = [3], [1, 5, stop]
    ids, lengths = pad_prompts(uneven, pad_id=stop)
    got = written(
        model, ids, 12, sampling=GREEDY, stop_id=stop, lengths=lengths
    )
    for row, prompt in zip(got.tolist(), uneven, strict=True):
        own = row[len(prompt) - 1 :]
        alone = naive_greedy(model, prompt, len(own))
        if stop in alone:
            alone[alone.index(stop) :] = [stop] * (
                len(alone) - alone.index(stop)
            )
        assert own == alone


def test_what_is_over_before_another_prompt_is_read_stays_over() -> None:
    def step(model: GPT, ids: Tensor, cache: KVCache | None) -> Tensor:
        return torch.eye(29)[7].expand(len(ids), 29)

    ids, lengths = pad_prompts([[3], [1, 2, 3, 4]])
    got = written(
        MODELS["gpt2"],
        ids,
        9,
        sampling=GREEDY,
        stop_id=7,
        lengths=lengths,
        step=step,
    )
    assert got.tolist() == [[7] * 4, [2, 3, 4, 7]]


def test_a_penalty_does_not_see_what_is_not_read_yet() -> None:
    def step(model: GPT, ids: Tensor, cache: KVCache | None) -> Tensor:
        return torch.arange(1.0, 30.0).expand(len(ids), 29)

    ids, lengths = pad_prompts([[3], [1, 27]], pad_id=28)
    never_again = SamplingConfig(0, repetition_penalty=1e6)
    got = written(
        MODELS["gpt2"],
        ids,
        3,
        sampling=never_again,
        lengths=lengths,
        step=step,
    )
    assert got.tolist() == [[28, 27, 26], [27, 28, 26]]


@pytest.mark.parametrize("lengths", [[1], [0, 3, 3], [1, 2, 7], [[1, 2, 3]]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    ids, _ = pad_prompts(UNEVEN)
    with pytest.raises(ValueError, match="3 numbers from 1 to 6"):
        next(generate(MODELS["gpt2"], ids, 1, lengths=torch.tensor(lengths)))
    with pytest.raises(ValueError, match="3 numbers"):
        check_lengths(ids, torch.tensor(lengths))


def test_the_prompt_goes_on_or_the_new_token_stands() -> None:
    ids, lengths = pad_prompts([[5, 6], [7]])
    new = torch.tensor([1, 2])
    tokens, reading = read_on(new, ids, lengths, 1)
    assert tokens.tolist() == [6, 2]
    assert reading.tolist() == [True, False]
    tokens, reading = read_on(new, ids, lengths, 2)
    assert tokens.tolist() == [1, 2]
    assert not reading.any()


def test_the_seed_decides_and_nothing_else() -> None:
    model, plain = MODELS["gpt2"], SamplingConfig(temperature=2.0)
    runs = []
    for seed in (1, 1, 2):
        torch.rand(3)  # the global generator does not matter
        runs.append(
            written(model, PROMPT, 12, sampling=plain, generator=seeded(seed))
        )
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_it_stops_after_the_stop_token() -> None:
    model = MODELS["gpt2"]
    free = written(model, PROMPT[:1], 40, sampling=GREEDY)[0].tolist()
    stop = free[6]
    got = written(model, PROMPT[:1], 40, sampling=GREEDY, stop_id=stop)
    assert got[0].tolist() == free[: free.index(stop) + 1]


def test_rows_that_are_over_wait_for_the_others() -> None:
    model = MODELS["gpt2"]
    free = written(model, PROMPT, 40, sampling=GREEDY).tolist()
    stop = next(t for t in free[0] if t in free[1])
    ends = [row.index(stop) + 1 for row in free]
    got = written(model, PROMPT, 40, sampling=GREEDY, stop_id=stop)
    assert got.shape[1] == max(ends)
    for row, end, wanted in zip(got.tolist(), ends, free, strict=True):
        assert row == wanted[:end] + [stop] * (max(ends) - end)


class CountingGPT(GPT):
    """Notes how many positions it was asked to read."""

    read: list[int]

    def features(self, ids: Tensor, stores: object = None) -> Tensor:
        self.read.append(ids.shape[1])
        return super().features(ids, stores)  # type: ignore


def test_with_a_cache_each_token_is_read_once() -> None:
    model = CountingGPT(gpt2_config(29, 16, 1, 2, 8)).eval()
    model.read = []
    written(model, PROMPT, 12)
    assert model.read == [5] + [1] * 11
    model.read = []
    written(model, PROMPT, 12, cached=False)
    assert model.read == list(range(5, 17))
    model.read = []  # 16 fit; then half is dropped and the rest read anew
    written(model, PROMPT, 22)
    assert model.read == [5] + [1] * 11 + [9] + [1] * 7 + [9] + [1]


def test_tokens_come_one_by_one() -> None:
    model = CountingGPT(gpt2_config(29, 16, 1, 2, 8)).eval()
    model.read = []
    steps = generate(model, PROMPT, 10**9)
    next(steps)
    next(steps)
    assert model.read == [5, 1]


def test_a_model_in_training_is_left_in_training() -> None:
    config = gpt2_config(29, 16, 2, 2, 16, dropout=0.5)
    model = build(config)
    calm = written(model, PROMPT, 8, sampling=GREEDY)
    model.train()
    assert torch.equal(written(model, PROMPT, 8, sampling=GREEDY), calm)
    assert model.training
    with pytest.raises(ValueError, match="not in a vocabulary"):
        next_logits(model, torch.tensor([[99]]))
    assert model.training


def test_only_the_last_position_is_scored() -> None:
    model = MODELS["gpt2"]
    with torch.no_grad():
        got = next_logits(model, PROMPT)
        assert torch.allclose(got, model(PROMPT)[:, -1], atol=1e-5)


def test_the_head_reads_the_last_position_alone() -> None:
    seen: list[tuple[int, ...]] = []
    model = build(gpt2_config(29, 16, 1, 2, 8))
    model.head.register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape))
    )
    next_logits(model, PROMPT)
    assert seen == [(2, 8)]


def test_gradients_are_off_only_inside() -> None:
    inside: list[bool] = []

    def step(model: GPT, ids: Tensor, cache: KVCache | None) -> Tensor:
        inside.append(torch.is_grad_enabled())
        return next_logits(model, ids, cache)

    first = next(generate(MODELS["gpt2"], PROMPT, 3, step=step))
    assert inside == [False]
    assert torch.is_grad_enabled()
    assert first.shape == (2,)


def test_a_step_of_ones_own_scores_the_next_token() -> None:
    def step(model: GPT, ids: Tensor, cache: KVCache | None) -> Tensor:
        return torch.eye(29)[11].expand(len(ids), 29)

    got = written(MODELS["gpt2"], PROMPT, 3, sampling=GREEDY, step=step)
    assert got.tolist() == [[11] * 3] * 2


def test_a_penalty_sees_the_whole_text_and_not_the_window_alone() -> None:
    def step(model: GPT, ids: Tensor, cache: KVCache | None) -> Tensor:
        return torch.arange(1.0, 30.0).expand(len(ids), 29)

    never_again = SamplingConfig(0, repetition_penalty=1e6)
    got = written(MODELS["gpt2"], PROMPT, 22, sampling=never_again, step=step)
    for row, prompt in zip(got.tolist(), PROMPT.tolist(), strict=True):
        fresh = sorted(set(range(29)) - set(prompt), reverse=True)
        assert row == fresh[:22]  # the prompt has left the window of 16


def test_unless_told_otherwise_tokens_are_drawn() -> None:
    model = MODELS["gpt2"]
    texts = [written(model, PROMPT, 12, generator=seeded(s)) for s in (1, 2)]
    assert not torch.equal(*texts)
    assert not torch.equal(
        texts[0], written(model, PROMPT, 12, sampling=GREEDY)
    )


def test_the_cache_is_no_larger_than_what_will_be_read() -> None:
    model = MODELS["gpt2"]
    assert make_cache(model, PROMPT, 3)[1].capacity == 8
    assert make_cache(model, PROMPT, 999)[1].capacity == 16
    assert make_cache(model, PROMPT, 3)[0].k.shape[0] == 2
    half = make_cache(build(model.config).to(torch.bfloat16), PROMPT, 3)
    assert half[0].k.dtype == half[0].v.dtype == torch.bfloat16
    with torch.device("meta"):
        elsewhere = GPT(model.config)
    assert make_cache(elsewhere, PROMPT, 3)[0].v.is_meta


def test_a_model_that_does_not_train_is_left_so() -> None:
    model = build(gpt2_config(29, 16, 1, 2, 8))
    written(model, PROMPT, 3)
    assert not model.training


def test_half_precision_weights_have_a_cache_of_their_kind() -> None:
    model = build(gpt2_config(29, 16, 2, 2, 16)).to(torch.bfloat16)
    assert written(model, PROMPT, 20).shape == (2, 20)


def test_prompts_of_half_the_bytes() -> None:
    plain = SamplingConfig(0, repetition_penalty=1.5)
    wanted = written(MODELS["llama"], PROMPT, 20, sampling=plain)
    got = written(MODELS["llama"], PROMPT.int(), 20, sampling=plain)
    assert torch.equal(got, wanted)


def test_nothing_asked_nothing_written() -> None:
    for count in (0, -1, -10):
        for cached in (True, False):
            steps = generate(MODELS["gpt2"], PROMPT, count, cached=cached)
            assert list(steps) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(1, 0, dtype=torch.long), r"shape \(B, T\)"),
        (torch.zeros(0, 3, dtype=torch.long), r"shape \(B, T\)"),
        (torch.tensor([1, 2]), r"shape \(B, T\)"),
        (torch.tensor([[29]]), "not in a vocabulary of 29"),
    ],
)
def test_refused(ids: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(generate(MODELS["gpt2"], ids, 3))


def test_parts_that_do_not_train_stay_so() -> None:
    model = build(gpt2_config(29, 16, 2, 2, 16, dropout=0.5)).train()
    model.blocks[0].eval()  # frozen
    before = [part.training for part in model.modules()]
    next_logits(model, PROMPT)
    assert [part.training for part in model.modules()] == before


def test_padding_is_a_token_of_the_vocabulary() -> None:
    model = MODELS["gpt2"]
    for pad_id, known in ((28, True), (29, False), (-1, False)):
        ids, lengths = pad_prompts([[7, 8, 9], [5]], pad_id)
        steps = generate(model, ids, 1, lengths=lengths)
        if known:
            assert len(list(steps)) == 1
        else:
            with pytest.raises(ValueError, match=f"token {pad_id}"):
                list(steps)
    assert "of the vocabulary" in " ".join(str(pad_prompts.__doc__).split())
