"""What limits speed, measured, and two fast forms of clear code.

A machine multiplies at some rate and moves memory at some rate; how many
operations a piece of work does per byte says which of the two it waits for
(Williams et al., 2009). Where it waits for neither, it waits for Python:
`FastStep` writes the next token with as few calls as it can. `fast_model`
and `fast_training` are the settings that learn most in a minute on a
processor.

Left out: compilers, accelerators, several machines.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from scratchlm.generation.cache import KVCache, LayerCache
from scratchlm.generation.generate import next_logits
from scratchlm.model.block import Block
from scratchlm.model.embeddings import TokenEmbedding
from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.layers import GELUMLP, LayerNorm
from scratchlm.training.precision import Precision
from scratchlm.training.trainer import TrainConfig

# --- a stopwatch -------------------------------------------------------------


def take_turns(
    works: Mapping[str, Callable[[], object]],
    turns: int = 5,
    what: str = "turns",
) -> dict[str, list[float]]:
    """Seconds of each piece of work in `turns` rounds, after a warm-up.

    The pieces alternate, so that whatever slows the machine down for a while
    slows all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in tqdm(range(turns + 1), desc=what, leave=False, disable=None):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
            if turn > 0:
                times[name].append(seconds)
    return times


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each list: one slow turn does not move it.

    >>> medians({"ours": [1.0, 9.0, 2.0]})
    {'ours': 2.0}
    """
    return {name: statistics.median(runs) for name, runs in times.items()}


def median_seconds(work: Callable[[], object], turns: int = 5) -> float:
    """The median of `take_turns` for one piece of work."""
    return medians(take_turns({"it": work}, turns))["it"]


# --- the roofline ------------------------------------------------------------


@dataclass(frozen=True)
class Roofline:
    """The two ceilings of a machine: arithmetic, and the way to memory.

    Williams et al. (2009). `flops` is in operations per second, `bandwidth`
    in bytes per second.
    """

    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """Operations per byte above which arithmetic is the limit.

        >>> Roofline(flops=400e9, bandwidth=20e9).ridge
        20.0
        """
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """The most operations per second at so many per byte moved."""
        return min(self.flops, self.bandwidth * intensity)


def linear_work(
    rows: int, inputs: int, outputs: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """Operations of (rows, inputs) @ (inputs, outputs), and bytes moved.

    Each matrix goes over the wire once: read, read and written.

    >>> linear_work(1, 100, 100)
    (20000, 40800)
    """
    numbers = rows * inputs + inputs * outputs + rows * outputs
    return 2 * rows * inputs * outputs, bytes_per_number * numbers


def matmul_rate(
    rows: int,
    inputs: int,
    outputs: int,
    dtype: torch.dtype = torch.float32,
    turns: int = 9,
) -> float:
    """Operations per second of one matrix product, measured."""
    a = torch.ones(rows, inputs, dtype=dtype)
    b = torch.ones(outputs, inputs, dtype=dtype)
    operations, _ = linear_work(rows, inputs, outputs)
    repeats = max(1, round(2e8 / operations))  # not too short to be timed

    def work() -> None:
        for _ in range(repeats):
            F.linear(a, b)

    return repeats * operations / median_seconds(work, turns)


def memory_rate(megabytes: int = 256, turns: int = 5) -> float:
    """Bytes per second that a sum over so much memory reads."""
    x = torch.ones(megabytes * 2**20 // 4)
    return x.nbytes / median_seconds(x.sum, turns)


def measure_roofline(dtype: torch.dtype = torch.float32) -> Roofline:
    """The ceilings of this machine, with the threads that torch uses."""
    return Roofline(matmul_rate(1024, 1024, 1024, dtype), memory_rate())


# --- training ----------------------------------------------------------------


def fast_model(vocab_size: int, context: int = 128) -> GPTConfig:
    """0.8 million parameters that learn fast on a processor.

    Compared with GPT-2's form of that size: rotary positions, normalized
    queries and keys, a head of its own, no biases, and attention written
    out, which beats the library's kernel there for short texts.
    """
    return GPTConfig(
        vocab_size,
        context,
        layers=4,
        heads=4,
        channels=128,
        position="rotary",
        bias=False,
        tied=False,
        qk_norm="layernorm",
        fused=False,
    )


def fast_training(steps: int, precision: Precision = "auto") -> TrainConfig:
    """Muon at a constant rate that falls to 0 in the last fifth."""
    return TrainConfig(
        steps=steps,
        learning_rate=5e-3,
        schedule="stable",
        warmup=20,
        optimizer="muon",
        weight_decay=0.0,
        precision=precision,
        evaluate_every=steps,
        checkpoint_every=steps,
    )


# --- generation --------------------------------------------------------------


def without_module(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a layer computes, as a plain function.

    A call of a module costs some microseconds before anything is computed;
    here the weights are looked up once. Other modules, such as quantized
    ones, stay as they are.
    """
    if type(module) is nn.Linear:
        matrix, offset = module.weight, module.bias
        return lambda x: F.linear(x, matrix, offset)
    if type(module) is TokenEmbedding:
        table = module.weight
        return lambda ids: F.embedding(ids, table)
    if type(module) is LayerNorm:
        shape, eps = module.weight.shape, module.eps
        weight, bias = module.weight, module.bias
        return lambda x: F.layer_norm(x, shape, weight, bias, eps)
    if type(module) is GELUMLP:
        up, down = without_module(module.up), without_module(module.down)
        approximate = module.approximate
        return lambda x: down(F.gelu(up(x), approximate=approximate))
    return module


class FastBlock:
    """A block for one new token, called without modules."""

    def __init__(self, block: Block) -> None:
        """Take the parts of a block that normalizes first."""
        self.norm1 = without_module(block.norm1)
        self.norm2 = without_module(block.norm2)
        self.mlp = without_module(block.mlp)
        a = self.attention = block.attention
        self.heads, self.both = a.heads, a.heads + a.kv_heads
        self.head_size, self.grouped = a.head_size, a.heads != a.kv_heads
        self.qkv, self.out = without_module(a.qkv), without_module(a.out)

    def attention_sublayer(self, x: Tensor, store: LayerCache) -> Tensor:
        """Attention of (B, C) to itself and all that is stored: (B, C)."""
        qkv = self.qkv(self.norm1(x))
        qkv = qkv.view(x.shape[0], -1, 1, self.head_size)  # (B, H+2K, 1, D)
        qk, v = qkv[:, : self.both], qkv[:, self.both :]
        qk = self.attention.normalize_and_rotate(qk, store.length)
        k, v = store.append(qk[:, self.heads :], v)
        attended = F.scaled_dot_product_attention(
            qk[:, : self.heads],
            k,
            v,
            enable_gqa=self.grouped,
        )  # (B, H, 1, D)
        return self.out(attended.flatten(1))

    def mlp_sublayer(self, x: Tensor) -> Tensor:
        """The feed-forward layer of (B, C): (B, C)."""
        return self.mlp(self.norm2(x))


class FastStep:
    """`next_logits` for one new token, with as few calls as possible.

    Computes what `GPT` computes, from the same weights, without modules:
    no dropout, no hooks, no checks except for room. If there is more
    than one new token, or no cache, or a model that trains, normalizes last
    or attends in another way, it lets `next_logits` do the work.
    """

    def __init__(self, model: GPT) -> None:
        """Take the weights of a model; later changes to them are seen."""
        plain = all(  # and not through a window, say
            type(block.attention) is MultiHeadAttention
            for block in model.blocks
        )
        self.model = model
        self.usual = plain and model.config.norm_order == "pre"
        self.blocks = [FastBlock(cast(Block, b)) for b in model.blocks]
        self.norm = without_module(model.norm)
        self.token = without_module(model.token)
        self.head = without_module(model.head)
        learned = model.position
        self.position = None if learned is None else learned.weight

    @torch.no_grad()
    def __call__(
        self, model: GPT, ids: Tensor, cache: KVCache | None = None
    ) -> Tensor:
        """Scores of the token after ids (B, T), as `next_logits`: (B, V).

        Raises ValueError for a model other than that of the weights.
        """
        if model is not self.model:
            raise ValueError("this step was made for another model")
        single = cache is not None and ids.shape[1] == 1
        if not (single and self.usual) or model.training:
            return next_logits(model, ids, cache)
        assert cache is not None
        x = self.token(ids[:, 0])  # (B, C)
        if self.position is not None:
            x = x + self.position[cache.length]
        for block, store in zip(self.blocks, cache, strict=True):
            x = x + block.attention_sublayer(x, store)
            x = x + block.mlp_sublayer(x)
        return self.head(self.norm(x))
