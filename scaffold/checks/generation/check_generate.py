"""What writing token by token must do."""

from typing import Any

import torch
from torch import Tensor

from scratchlm.generation import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config, llama_config

from ..expect import close, equal, raises, true
from ..inputs import settled

GREEDY = SamplingConfig(temperature=0)


def counter(dropout: float = 0.0) -> GPT:
    """A model that answers n with n + 1, up to 9, then 0 again."""
    model = blank(10, 16, dropout)
    with torch.no_grad():
        model.token.weight[:, :10] = torch.eye(10)
        model.head.weight[:, :10] = torch.eye(10).roll(1, 0)
    return model


def clock() -> GPT:
    """A model that says at which position its last token stands: 0 to 7."""
    model = blank(8, 8)
    assert model.position is not None
    with torch.no_grad():
        model.position.weight.copy_(torch.eye(8))
        model.head.weight.copy_(torch.eye(8))
    return model


def blank(size: int, context: int, dropout: float = 0.0) -> GPT:
    """One layer that adds nothing: the embedding goes to the head."""
    config = gpt2_config(size, context, 1, 1, context, dropout, tied=False)
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for parameter in model.norm.parameters():
            if parameter is not getattr(model.norm, "bias", None):
                parameter.fill_(1)
    return model


def mixer() -> GPT:
    """A model in which every token depends on all before it."""
    return settled(GPT(llama_config(11, 8, 2, 4, 16, kv_heads=2)).eval())


def rows(model: GPT, ids: list[list[int]], count: int, **more: Any) -> list:
    """What is written after ids, a list for each row."""
    start = torch.tensor(ids)
    steps = list(generate.generate(model, start, count, GREEDY, **more))
    return torch.stack(steps, dim=1).tolist()


def check_counting() -> None:
    """A model that counts, counts: after 3 and 7 come 4 5 6 and 8 9 0."""
    for cached in (True, False):
        equal(
            rows(counter(), [[1, 3], [2, 7]], 3, cached=cached),
            [[4, 5, 6], [8, 9, 0]],
            f"greedy, cached={cached}",
            hint="read the logits of the last position, append, repeat",
        )


def check_stop() -> None:
    """A text that is over gets nothing but the stop token."""
    equal(
        rows(counter(), [[3], [1]], 9, stop_id=5),
        [[4, 5, 5, 5], [2, 3, 4, 5]],
        "after 3 and after 1, until 5",
        hint="remember which rows are over, end when all are",
    )


def check_full_context() -> None:
    """With room for 8 tokens: 8 are seen, then half is dropped, and again."""
    for cached in (True, False):
        equal(
            rows(clock(), [[0]], 14, cached=cached),
            [[0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5]],
            f"position of the last token, cached={cached}",
            hint="forget the older half, rewind the cache, read the rest",
        )
    equal(rows(clock(), [[0] * 30], 1), [[5]], "after a prompt of 30 tokens")


def check_cache_changes_nothing() -> None:
    """Thirty tokens, far beyond the context: the same with the cache."""
    prompts = [[3, 1, 4], [1, 5, 9]]
    wanted = rows(mixer(), prompts, 30, cached=False)
    equal(
        rows(mixer(), prompts, 30),
        wanted,
        "greedy tokens with the cache",
        hint="give the model only what the cache has not read",
    )


def check_reads_once() -> None:
    """With a cache, the 5 tokens of a prompt and 3 more are read once."""
    model, read = counter(), []

    def look(layer: object, inputs: tuple[Tensor, ...]) -> None:
        read.append(inputs[0].shape[1])

    model.token.register_forward_pre_hook(look)
    rows(model, [[1, 2, 3, 4, 5]], 4)
    equal(sum(read), 8, "tokens read in all, 5 of them the prompt")


def check_prompts_of_different_lengths() -> None:
    """7 and 1 2 5 in one batch: 8 9 0 …, and 2 5 of the prompt, then 6 7."""
    for pad in (0, 3):
        ids = [[7, pad, pad], [1, 2, 5]]
        for cached in (True, False):
            equal(
                rows(
                    counter(),
                    ids,
                    4,
                    cached=cached,
                    lengths=torch.tensor([1, 3]),
                ),
                [[8, 9, 0, 1], [2, 5, 6, 7]],
                f"after 7 and after 1 2 5, padded with {pad}",
                hint="read up to the shortest prompt; while a longer one goes "
                "on, its own token is taken, not the model's",
            )
    equal(
        rows(
            counter(),
            [[1, 0], [1, 8]],
            5,
            stop_id=8,
            lengths=torch.tensor([1, 2]),
        ),
        [[2, 3, 4, 5, 6], [8, 9, 0, 1, 2]],
        "until 8, with which the second prompt ends",
        hint="a stop token stops a row only where the model chose it",
    )


def check_no_dropout() -> None:
    """A model in training writes without dropout, and is in training after."""
    model = counter(dropout=0.9).train()
    equal(
        rows(model, [[0]], 9),
        [[1, 2, 3, 4, 5, 6, 7, 8, 9]],
        "counting with a dropout of 0.9",
        hint="model.eval() while reading",
    )
    true(model.training, "the model is in training mode again")


def check_no_gradients() -> None:
    """Nothing of what is read is kept for a way back."""
    tracked = []

    def step(*given: Any) -> Tensor:
        scores = generate.next_logits(*given)
        tracked.append(scores.requires_grad)
        return scores

    for cached in (True, False):
        rows(mixer(), [[3, 1, 4]], 2, step=step, cached=cached)
    equal(
        tracked,
        [False] * 4,
        "whether scores keep a way back to the weights",
        hint="torch.no_grad() around the writing",
    )


def check_scores_of_the_next_token() -> None:
    """A score for each token of the vocabulary, in a row for each text."""
    model = mixer()
    ids = torch.tensor([[3, 1, 4], [1, 5, 9]])
    got = generate.next_logits(model, ids)
    equal(tuple(got.shape), (2, 11), "the shape of scores for two texts")
    equal(got.dtype, torch.float32, "the type of scores")
    close(got, model(ids)[:, -1], "the model's scores at the last position")
    (step,) = generate.generate(model, ids, 1, GREEDY)
    equal(tuple(step.shape), (2,), "the shape of a step, for two texts")
    equal(step.dtype, torch.int64, "the type of new tokens")
    true(not generate.make_cache(model, ids, 2).length, "a cache is empty")
    fixed = torch.tensor([[4.0, 3.0, 2.0, 1.0, *[-1.0] * 6]])
    steps = generate.generate(
        counter(),
        torch.tensor([[5]]),
        4,
        SamplingConfig(temperature=0, repetition_penalty=10.0),
        step=lambda model, ids, cache: fixed,
    )
    equal(
        [int(new) for new in steps],
        [0, 1, 2, 3],
        "what follows when the likeliest must not repeat",
        hint="the penalty must see the whole text",
    )


def check_padding() -> None:
    """Shorter prompts are filled up; lengths must fit their prompts."""
    ids, lengths = generate.pad_prompts([[7, 8, 9], [5]], pad_id=2)
    equal(ids.tolist(), [[7, 8, 9], [5, 2, 2]], "two prompts as one batch")
    equal((ids.dtype, lengths.tolist()), (torch.int64, [3, 1]), "their lengths")
    for wrong in ([1], [0, 1], [1, 4], [1, 2, 3]):
        raises(
            ValueError,
            lambda n=wrong: rows(  # type: ignore
                counter(), ids.tolist(), 1, lengths=torch.tensor(n)
            ),
            f"lengths {wrong} for two prompts of up to 3 tokens",
        )
    fixed = torch.tensor([[1.0, *[0.0] * 9]])
    for strange in ([[10]], [[-1]], [[1, 10]]):
        raises(
            ValueError,
            lambda asked=strange: rows(  # type: ignore
                counter(), asked, 1, step=lambda *given: fixed
            ),
            f"the unknown token in {strange}, before anything is read",
        )
    none = generate.pad_prompts([[], [5]])
    equal(none[0].dtype, torch.int64, "the type of ids beside an empty text")
    equal(none[1].tolist(), [0, 1], "the lengths of an empty text and of one")


def check_the_smallest_window() -> None:
    """A model with room for one token sees the last one, always."""
    starts = [generate.window_start(length, 1) for length in (1, 2, 3, 9)]
    equal(starts, [0, 1, 2, 8], "where the view of one token begins")
    starts = [generate.window_start(length, 3) for length in (3, 4, 5, 6)]
    equal(starts, [0, 1, 2, 3], "where the view of three tokens begins")


BUGS = {
    "the first position is scored": (
        "model.features(ids, cache)[:, -1]",
        "model.features(ids, cache)[:, 0]",
    ),
    "all is read again in spite of the cache": (
        "known = 0 if cache is None else cache.length",
        "known = 0",
    ),
    "the cache stays when the window moves": (
        "if cache is not None and moved != start:",
        "if cache is not None and moved < start:",
    ),
    "rows that are over go on": (
        "new = new.masked_fill(over, stop_id)",
        "new = new.clone()",
    ),
    "nothing ends it": (
        "if stop_id is not None and over.all():",
        "if stop_id is not None and over.numel() == 0:",
    ),
    "prompts are read with their padding": (
        "ids = ids[:, : int(lengths.min())]",
        "ids = ids[:, : int(lengths.max())]",
    ),
    "longer prompts are written over": (
        "new = torch.where(reading, prompts[:, place].to(new.dtype), new)",
        "new = torch.where(reading, new, new)",
    ),
    "a stop token in a prompt stops it": (
        "over = (new == stop_id) & ~reading",
        "over = new == stop_id",
    ),
    "dropout stays on": (
        "if training:\n        model.eval()",
        "if not training:\n        model.eval()",
    ),
    "all of the context is dropped at once": (
        "hop = max(1, context // 2)",
        "hop = context",
    ),
    "scores have one dimension too many": (
        "return model.head(model.features(ids, cache)[:, -1])",
        "return model.head(model.features(ids, cache)[:, -1])[None]",
    ),
    "a penalty does not see the text": (
        "new = sample(logits, sampling, generator, seen=ids)",
        "new = sample(logits, sampling, generator, seen=ids[:, -1:])",
    ),
    "prompts are filled up with zeros": (
        "padding_value=pad_id",
        "padding_value=0",
    ),
    "lengths beyond the prompt are taken": (
        " or lengths.max() > t:",
        ":",
    ),
    "gradients are kept for a way back": (
        "@torch.no_grad()\n",
        "",
    ),
}
