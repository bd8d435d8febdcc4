"""Solutions to the exercises on windows and stretched waves."""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.embeddings import Rotary, wave_frequencies
from scratchlm.model.gpt import GPT
from scratchlm.model.window import WindowedAttention, window_mask


def reach(layers: int, window: int) -> int:
    """How many positions back a token can come from, through all layers.

    >>> reach(32, 4096)
    131040
    """
    return layers * (window - 1)


def held_share(length: int, window: int, sinks: int = 0) -> float:
    """The share of a full cache that a rolling one holds at this length.

    >>> held_share(32768, 4096)
    0.125
    """
    return min(length, window + sinks) / length


def unfinished(head_size: int, base: float, context: int) -> int:
    """How many waves of a head do not go round once within the context.

    >>> unfinished(16, 10000.0, 64)
    5
    """
    turns = context * wave_frequencies(head_size, base) / (2 * math.pi)
    return int((turns < 1).sum())


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attention through a window with work that grows with the length only.

    (B, H, T, D) each, as many queries as keys. Each chunk of `window`
    queries meets its own keys and those of the chunk before.
    """
    b, h, t, d = q.shape
    pad = -t % window
    q, k, v = (F.pad(x, (0, 0, 0, pad)) for x in (q, k, v))
    q, k, v = (x.view(b, h, -1, window, d) for x in (q, k, v))
    k, v = (  # the chunk before, and nothing before the first
        torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3)
        for x in (k, v)
    )
    mask = window_mask(window, 2 * window, window, device=q.device)
    mask = mask.repeat(q.shape[2], 1, 1)  # (chunks, window, 2 window)
    mask[0, :, :window] = False
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.flatten(2, 3)[:, :, :t]


def moved_back(keys: Tensor, rotary: Rotary, by: int) -> Tensor:
    """Turned keys (B, K, T, D) as if they stood `by` positions earlier."""
    cos, sin = rotary.cos[by], rotary.sin[by]  # (D / 2,)
    a, b = keys.chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


def see_window_in_turns(model: GPT, window: int, whole: int = 2) -> GPT:
    """A copy that sees all in every `whole`-th layer, and a window elsewhere.

    Gemma 2 has windows in every second layer, Gemma 3 in five of six.
    """
    model = copy.deepcopy(model)
    for i, block in enumerate(model.blocks):
        if (i + 1) % whole:
            block.attention = WindowedAttention(block.attention, window)
    return model
