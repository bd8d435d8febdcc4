"""Writing, token by token: read, choose, append, repeat.

The model reads a text and scores what may come next; one token is chosen
and appended, and so on, until a stop token or a number of tokens. With a
cache each token is read once; without, all of them are read for every new
one. Both write the same text. Prompts of different lengths are padded at their
ends and read up to the shortest; the longer ones are read on while the others
already write, so that no padding is ever read (Touvron et al., 2023, in their
code).

Left out: beam search, drafts by a smaller model, rows that come and go.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from scratchlm.generation.cache import KVCache
from scratchlm.generation.sampling import SamplingConfig, sample
from scratchlm.model.gpt import GPT, check_ids


def window_start(length: int, context: int) -> int:
    """The start of the part of a text that the model can still read.

    A text that fits is read from 0. When it outgrows the context, its older
    half is dropped, and again each time the rest has filled up: between half
    of the context and all of it is in view.

    >>> [window_start(length, context=8) for length in (8, 9, 12, 13, 17)]
    [0, 4, 4, 8, 12]
    """
    hop = max(1, context // 2)
    excess = max(0, length - context)
    return -(-excess // hop) * hop  # rounded up to whole hops


def next_logits(
    model: GPT, ids: Tensor, cache: KVCache | None = None
) -> Tensor:
    """Scores of the token after ids (B, T), which may continue a cache: (B, V).

    Dropout is off, whatever mode the model is in. The head works on the last
    position only.
    """
    parts = model.modules() if model.training else ()
    training = [part for part in parts if part.training]  # some may be frozen
    if training:
        model.eval()
    try:
        return model.head(model.features(ids, cache)[:, -1])
    finally:
        for part in training:
            part.training = True


def make_cache(model: GPT, ids: Tensor, new_tokens: int) -> KVCache:
    """An empty cache of the model's kind, with room for what it will read."""
    b, t = ids.shape
    weight = next(model.parameters())
    room = min(model.config.context, t + max(0, new_tokens))
    return KVCache(model.config, b, room, weight.dtype, weight.device)


def pad_prompts(
    prompts: Sequence[Sequence[int]], pad_id: int = 0
) -> tuple[Tensor, Tensor]:
    """Texts of different lengths as one batch: ids (B, T), lengths (B,).

    Shorter rows are filled up at their end. Which token of the vocabulary
    fills them does not matter to `generate`, which never reads it.

    >>> pad_prompts([[7, 8, 9], [5]])
    (tensor([[7, 8, 9],
            [5, 0, 0]]), tensor([3, 1]))
    """
    rows = [torch.tensor(prompt, dtype=torch.long) for prompt in prompts]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad_id)
    return ids, torch.tensor([len(row) for row in rows])


def check_lengths(ids: Tensor, lengths: Tensor | None) -> Tensor:
    """The lengths of prompts (B, T), on their device: all T if none are given.

    Raises ValueError unless there is one from 1 to T for each row.
    """
    b, t = ids.shape
    if lengths is None:
        return torch.full((b,), t, device=ids.device)
    if lengths.shape != (b,) or lengths.min() < 1 or lengths.max() > t:
        raise ValueError(
            f"lengths must be {b} numbers from 1 to {t}, one for each "
            f"prompt, not {lengths.tolist()}"
        )
    return lengths.to(ids.device)


def read_on(
    new: Tensor, prompts: Tensor, lengths: Tensor, place: int
) -> tuple[Tensor, Tensor]:
    """What is at a place: the prompt's own token, or else the new one.

    new (B,), prompts (B, T), lengths (B,) → tokens (B,), and in which rows
    the prompt goes on there (B,).
    """
    reading = place < lengths
    if place < prompts.shape[1]:
        new = torch.where(reading, prompts[:, place].to(new.dtype), new)
    return new, reading


@torch.no_grad()
def generate(
    model: GPT,
    ids: Tensor,
    new_tokens: int,
    sampling: SamplingConfig | None = None,
    generator: torch.Generator | None = None,
    stop_id: int | None = None,
    cached: bool = True,
    step: Callable[[GPT, Tensor, KVCache | None], Tensor] = next_logits,
    lengths: Tensor | None = None,
) -> Iterator[Tensor]:
    """Continue texts (B, T) by up to `new_tokens`; yields (B,) at a time.

    Tokens are yielded as soon as they are chosen. A text in which `stop_id`
    was chosen is over and gets nothing but `stop_id`; when all are over, no
    more is yielded. Of a text longer than the context the model sees only
    what `window_start` leaves. `step` scores the next token: `next_logits`,
    or another form of it. With `lengths` (B,) prompts may be padded at
    their ends; writing begins after the shortest, and meanwhile the rest of
    a longer one is what is yielded for its row. Raises ValueError, at the
    first step, for ids that the model does not know and for an empty text.
    """
    check_ids(ids, model.config.vocab_size)
    lengths, prompts = check_lengths(ids, lengths), ids
    ids = ids[:, : int(lengths.min())]
    sampling = sampling or SamplingConfig()
    cache = make_cache(model, ids, new_tokens) if cached else None
    start = 0
    over = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
    for _ in range(new_tokens):
        moved = window_start(ids.shape[1], model.config.context)
        if cache is not None and moved != start:
            cache.rewind()
        start = moved
        known = 0 if cache is None else cache.length
        logits = step(model, ids[:, start + known :], cache)
        new = sample(logits, sampling, generator, seen=ids)
        if stop_id is not None:
            new = new.masked_fill(over, stop_id)  # stays over
        new, reading = read_on(new, prompts, lengths, ids.shape[1])
        if stop_id is not None:
            over = (new == stop_id) & ~reading  # a prompt may hold one
        yield new
        if stop_id is not None and over.all():
            return
        ids = torch.cat([ids, new[:, None]], dim=1)
