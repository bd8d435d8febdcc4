"""What a memory of keys and values must do."""

from collections.abc import Callable

import torch
from torch import Tensor

from scratchlm.generation import cache
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config

from ..expect import close, equal, grows, raises
from ..inputs import settled


def trained(config: GPTConfig) -> GPT:
    """A model whose weights are not random, and sharp."""
    return settled(GPT(config).eval(), 0.5)


def forms() -> dict[str, GPT]:
    """Learned positions, and rotary ones with shared keys."""
    return {
        "GPT-2's form": trained(gpt2_config(11, 13, 2, 4, 16)),
        "Llama's form": trained(llama_config(11, 13, 2, 4, 16, kv_heads=2)),
    }


def ones(positions: int, value: float) -> Tensor:
    """(1, 1, positions, 2) times the value."""
    return value * torch.ones(1, 1, positions, 2)


def one_by_one(positions: int) -> Callable[[], object]:
    """A cache for so many positions, filled one after the other."""
    layer = cache.LayerCache(1, 1, positions, 512)
    k, v = torch.ones(1, 1, 1, 512), torch.ones(1, 1, 1, 512)

    def fill() -> None:
        for _ in range(positions):
            layer.append(k, v)

    return fill


def check_past_first() -> None:
    """Two positions, then one: the cache returns all three in order."""
    layer = cache.LayerCache(1, 1, capacity=5, head_size=2)
    layer.append(ones(2, 1), ones(2, 10))
    k, v = layer.append(ones(1, 2), ones(1, 20))
    hint = "write at [length : length + T], return what is filled"
    close(k[0, 0, :, 0], [1, 1, 2], "keys after 2 + 1 positions", hint=hint)
    close(v[0, 0, :, 0], [10, 10, 20], "values", hint=hint)
    equal(layer.length, 3, "length after 2 + 1 positions")
    grows(
        one_by_one,
        1000,
        "the time for twice as many positions, one by one",
        hint="write the new ones into memory taken once, and copy no old ones",
    )
    halves = cache.LayerCache(1, 1, 5, 2, torch.bfloat16)
    held = halves.append(ones(1, 1).bfloat16(), ones(1, 1).bfloat16())
    types = [part.dtype for part in held]
    equal(types, [torch.bfloat16] * 2, "types of keys and values")


def check_same_logits() -> None:
    """In chunks of 4, 3, 1 and 5: the logits of the whole, everywhere."""
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9]] * 2)
    ids[1] = ids[0].flip(0)
    for name, model in forms().items():
        stores = cache.KVCache(model.config, batch_size=2)
        with torch.no_grad():
            parts = [model(part, stores) for part in ids.split([4, 3, 1, 5], 1)]
            close(
                torch.cat(parts, dim=1),
                model(ids),
                f"{name}: logits with the cache, and without",
                tol=1e-4,
                hint="each layer has a cache of its own",
            )


def check_rewind() -> None:
    """Rewound to 4, the cache reads another ending as if it were the first."""
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
    for name, model in forms().items():
        stores = cache.KVCache(model.config)
        with torch.no_grad():
            model(torch.tensor([[3, 1, 4, 1, 7, 7]]), stores)
            stores.rewind(4)
            equal(stores[-1].length, 4, "length of the last layer's cache")
            close(
                model(ids[:, 4:], stores),
                model(ids)[:, 4:],
                f"{name}: logits of the other ending",
                tol=1e-4,
            )


def check_overflow() -> None:
    """One position too many is a ValueError that names the room there is."""
    layer = cache.LayerCache(1, 1, capacity=4, head_size=2)
    layer.append(ones(4, 1), ones(4, 1))
    raises(
        ValueError,
        lambda: layer.append(ones(1, 2), ones(1, 2)),
        "a fifth position in a cache for four",
    )
    equal(layer.length, 4, "length after the refusal")
    layer = cache.LayerCache(1, 2, capacity=4, head_size=2)
    fits = torch.ones(1, 2, 1, 2)
    for name, wrong in (
        ("two texts", fits.expand(2, 2, 1, 2)),
        ("one head", fits[:, :1]),
        ("a head of one number", fits[..., :1]),
    ):
        raises(
            ValueError,
            lambda wrong=wrong: layer.append(wrong, wrong),  # type: ignore
            f"{name} in a cache for one text, two heads of two numbers",
        )
    equal(layer.length, 0, "length after these refusals")


def check_bytes() -> None:
    """2 · layers · batch · key heads · head size · tokens · 4 bytes."""
    config = llama_config(11, 13, 2, 4, 16, kv_heads=2)
    wanted = 2 * 2 * 3 * 2 * 4 * 10 * 4
    hint = "only the K heads of keys are stored, not the H of queries"
    equal(
        cache.KVCache(config, batch_size=3, capacity=10).bytes,
        wanted,
        "bytes of a cache for 3 texts of 10 tokens",
        hint=hint,
    )
    equal(cache.cache_bytes(config, 3, 10), wanted, "cache_bytes", hint=hint)
    whole = cache.KVCache(config, batch_size=3).bytes
    equal(whole, wanted // 10 * 13, "bytes of a cache for the whole context")
    equal(cache.cache_bytes(config, 3), whole, "cache_bytes of the context")


BUGS = {
    "every chunk is written at the start": (
        "self.k[:, :, self.length : end] = k.detach()",
        "self.k[:, :, : k.shape[2]] = k.detach()",
    ),
    "keys are stored as values": (
        "self.v[:, :, self.length : end] = v.detach()",
        "self.v[:, :, self.length : end] = k.detach()",
    ),
    "positions that are empty are returned too": (
        "return self.k[:, :, :end], self.v[:, :, :end]",
        "return self.k, self.v",
    ),
    "one position too many is let in": (
        "if end > self.capacity:",
        "if end > self.capacity + 1:",
    ),
    "only the first layer is rewound": (
        "for layer in self:\n            layer.rewind(length)",
        "self[0].rewind(length)",
    ),
    "there is room for keys of all query heads": (
        "config.key_heads,\n",
        "config.heads,\n",
    ),
    "values are always in 32 bits": (
        "self.v = torch.zeros(shape, dtype=dtype, device=device)",
        "self.v = torch.zeros(shape, device=device)",
    ),
}
