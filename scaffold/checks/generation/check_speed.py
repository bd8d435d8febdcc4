"""What a stopwatch, a roofline and a fast step must do."""

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from scratchlm.generation import speed
from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import next_logits
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config

from ..expect import close, equal, raises, true
from ..inputs import settled


def built(config: GPTConfig) -> GPT:
    """A model whose weights are the same on every machine."""
    return settled(GPT(config).eval())


def check_turns_alternate() -> None:
    """Two works, three turns: one more to warm up, and turn about."""
    calls: list[str] = []
    times = speed.take_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3
    )
    equal("".join(calls), "abababab", "the order of the calls")
    equal(
        {name: len(runs) for name, runs in times.items()},
        {"a": 3, "b": 3},
        "times kept",
        hint="the first turn warms up and does not count",
    )


def check_medians() -> None:
    """One slow run does not move the median."""
    equal(speed.medians({"a": [1.0, 90.0, 2.0]}), {"a": 2.0}, "the median")


def check_work_of_a_product() -> None:
    """(2, 3) @ (3, 5): 2 · 2 · 3 · 5 operations, 6 + 15 + 10 numbers."""
    equal(speed.linear_work(2, 3, 5), (60, 124), "in float32")
    equal(speed.linear_work(2, 3, 5, 2), (60, 62), "in two bytes each")


def check_roofline() -> None:
    """Below the ridge memory is the limit, above it arithmetic."""
    roof = speed.Roofline(flops=100.0, bandwidth=10.0)
    equal(roof.ridge, 10.0, "operations per byte at the ridge")
    equal(roof.attainable(2.0), 20.0, "far below the ridge")
    equal(roof.attainable(50.0), 100.0, "far above it")


def check_fast_step() -> None:
    """A token at a time gives the scores that `next_logits` gives."""
    forms = {
        "GPT-2": gpt2_config(11, 8, 2, 2, 8),
        "Llama, two heads of keys": llama_config(11, 8, 2, 4, 16, kv_heads=2),
        "queries and keys normalized": speed.fast_model(11, 8),
    }
    ids = torch.tensor([[1, 5, 2, 9, 10, 0, 3, 3], [7, 7, 1, 0, 2, 4, 6, 8]])
    for name, config in forms.items():
        model = built(config)
        step = speed.FastStep(model)
        slow, fast = KVCache(config, 2), KVCache(config, 2)
        with torch.no_grad():
            for n, new in enumerate(ids.split([3, 1, 1, 1, 1, 1], dim=1)):
                close(
                    step(model, new, fast),
                    next_logits(model, new, slow),
                    f"{name}, piece {n}",
                    tol=1e-3,
                    hint="position, norms, keys of the right heads, residual",
                )
        equal(fast.length, 8, f"{name}: positions in the cache")


def check_another_model() -> None:
    """A step knows the weights of its model and of no other."""
    one, other = (GPT(gpt2_config(11, 8, 1, 1, 8)) for _ in range(2))
    ids = torch.tensor([[1]])
    raises(
        ValueError,
        lambda: speed.FastStep(one)(other, ids, KVCache(other.config)),
        "the weights of another model",
    )


def check_size() -> None:
    """The fast model is no larger than the GPT-2 it is compared with."""
    fast = sum(p.numel() for p in GPT(speed.fast_model(65)).parameters())
    true(fast <= 809_856, f"{fast:,} parameters, 809,856 allowed")


def check_rates_are_of_the_sizes_asked_for() -> None:
    """Whole products of so many rows, inputs and outputs are timed."""
    with FlopCounterMode(display=False) as counter:
        rate = speed.matmul_rate(2, 300, 50, turns=1)
    each = 2 * 2 * 300 * 50  # a multiplication and an addition
    total = counter.get_total_flops()
    equal(total % each, 0, f"what is left of {total:,} operations")
    true(total >= 2 * each, "a product to warm up, and one to be timed")
    true(rate > 0, "operations in a second")


def check_what_the_fast_step_leaves_to_others() -> None:
    """Two tokens at once, and norms at the end, have the same scores, too."""
    model = built(gpt2_config(11, 8, 2, 2, 8))
    late = built(replace(model.config, norm_order="post"))
    for name, one, count in (
        ("two tokens", model, 2),
        ("norms at the end", late, 1),
    ):
        ids = torch.tensor([[3, 7][:count]])
        close(
            speed.FastStep(one)(one, ids, KVCache(one.config)),
            next_logits(one, ids),
            f"scores after {name}",
            tol=1e-3,
            hint="only one new token of a model of the usual form is fast",
        )


BUGS = {
    "the warm-up counts": ("if turn > 0:", "if turn >= 0:"),
    "who comes first changes with the turn": (
        "for name, work in works.items():",
        "for name, work in sorted(works.items(), reverse=turn % 2 > 0):",
    ),
    "a mean for the median": (
        "statistics.median(runs)",
        "statistics.fmean(runs)",
    ),
    "the result is not written": (
        "rows * inputs + inputs * outputs + rows * outputs",
        "rows * inputs + inputs * outputs",
    ),
    "the higher ceiling counts": ("return min(self", "return max(self"),
    "the position is forgotten": (
        "x = x + self.position[cache.length]",
        "x = x + self.position[0]",
    ),
    "queries stand where keys should": (
        "store.append(qk[:, self.heads :], v)",
        "store.append(qk[:, : v.shape[1]], v)",
    ),
    "the second norm is forgotten": (
        "return self.mlp(self.norm2(x))",
        "return self.mlp(x)",
    ),
    "the stream is replaced": (
        "x = x + block.mlp_sublayer(x)",
        "x = block.mlp_sublayer(x)",
    ),
    "the last norm is forgotten": (
        "self.head(self.norm(x))",
        "self.head(x)",
    ),
    "keys are turned as if they stood first": (
        "self.attention.normalize_and_rotate(qk, store.length)",
        "self.attention.normalize_and_rotate(qk, 0)",
    ),
}
