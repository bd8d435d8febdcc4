"""Solutions to the exercises on letting the model write."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from scratchlm.generation.cache import KVCache
from scratchlm.model.gpt import GPT


@torch.no_grad()
def score(model: GPT, ids: Tensor, prompt: int) -> Tensor:
    """Log-probability of what follows the prompt, in nats: (B, T) → (B,).

    Of a model in evaluation mode, for texts that fit its context. Raises
    ValueError without a prompt: nothing predicts the first token.
    """
    if prompt < 1:
        raise ValueError(f"a prompt of {prompt} tokens: give 1 or more")
    logs = model(ids[:, :-1]).log_softmax(dim=-1)  # (B, T - 1, V)
    said = logs.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (B, T - 1)
    return said[:, prompt - 1 :].sum(dim=1)


def until(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Pieces of text up to a stop string, which is not passed on.

    Holds back what may be the beginning of it, and no more.

    >>> list(until(["The E", "nd. The", " EN", "D. No"], "END"))
    ['The ', 'End. The', ' ']
    """
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            before = held[: held.index(stop)]
            if before:
                yield before
            return
        keep = next(
            n for n in range(len(stop) - 1, -1, -1) if held.endswith(stop[:n])
        )
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            yield ready
    if held:
        yield held


@torch.no_grad()
def advance(model: GPT, text: list[int], cache: KVCache) -> list[int]:
    """Read what the cache has not; the likeliest token after each of it."""
    logits = model(torch.tensor([text[cache.length :]]), cache)
    return logits[0].argmax(dim=-1).tolist()


def draft_and_verify(
    model: GPT, draft: GPT, prompt: list[int], new: int, ahead: int = 4
) -> tuple[list[int], int]:
    """Write greedily with `model`, guessing ahead with a smaller one.

    Returns the new tokens and how often `model` had to read. Leviathan et
    al. (2022), for the greedy case: the guesses that the model agrees with
    are kept, and its own token after them. Text and guesses must fit both
    contexts.
    """
    text, reads = list(prompt), 0
    big, small = KVCache(model.config), KVCache(draft.config)
    while len(text) < len(prompt) + new:
        guess = list(text)
        for _ in range(ahead):
            guess.append(advance(draft, guess, small)[-1])
        wanted = advance(model, guess, big)[-ahead - 1 :]
        reads += 1
        agreed = 0
        while agreed < ahead and guess[len(text) + agreed] == wanted[agreed]:
            agreed += 1
        text += wanted[: agreed + 1]
        for cache in (big, small):  # forget the guesses that were wrong
            cache.rewind(min(cache.length, len(text) - 1))
    return text[len(prompt) : len(prompt) + new], reads
