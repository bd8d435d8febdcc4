"""The whole model on one page: a decoder-only transformer.

Embed, repeat blocks, normalize, score every token. `gpt2_config` gives the
form of GPT-2 (Radford et al., 2019), `llama_config` that of Llama (Touvron et
al., 2023). Tests check both against the `transformers` library. Besides the
model: its loss, and what it will cost, computed before it is built.

Left out: encoders, mixtures of experts, stretching the context.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scratchlm.model.block import Block
from scratchlm.model.embeddings import (
    LearnedPositions,
    Rotary,
    TokenEmbedding,
)
from scratchlm.model.heads import KVStore, MultiHeadAttention, check_heads
from scratchlm.model.layers import (
    GELUMLP,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    swiglu_hidden,
)

LOGITS_AT_ONCE = 2**23  # more are never held: 32 MiB in float32

CHOICES = {
    "norm": ("layernorm", "rmsnorm"),
    "mlp": ("gelu", "gelu_tanh", "swiglu"),
    "position": ("learned", "rotary"),
    "norm_order": ("pre", "post", "branch"),
    "qk_norm": ("none", "layernorm", "rmsnorm", "rmsnorm_all"),
}


@dataclass(frozen=True)
class GPTConfig:
    """The form of a model, in numbers and names that JSON can keep.

    `kv_heads`, `head_size` and `hidden` left open become `heads`, an even
    split of the channels, and the size that the feed-forward layer prefers.
    Raises ValueError for what no model can be built from.
    """

    vocab_size: int  # tokens there are; for bpe, how many to learn
    context: int  # tokens it looks back on
    layers: int  # blocks
    heads: int  # of attention, in a block
    channels: int  # numbers for a token
    kv_heads: int | None = None  # of keys and values; fewer share
    head_size: int | None = None  # numbers of a head
    hidden: int | None = None  # numbers inside a feed-forward layer
    norm: str = "layernorm"  # layernorm or rmsnorm
    mlp: str = "gelu"  # gelu, gelu_tanh or swiglu
    position: str = "learned"  # learned or rotary
    dropout: float = 0.0  # share of values dropped in training
    bias: bool = True  # added by linear layers and norms
    tied: bool = True  # the head shares its weights with the tokens
    norm_order: str = "pre"  # where norms stand: pre, post or branch
    qk_norm: str = "none"  # of q and k: none, layernorm, rmsnorm, rmsnorm_all
    fused: bool = True  # attention by the library's kernel
    rope_base: float = 10000.0  # of rotary positions: how slow they get
    norm_eps: float = 1e-5  # added under the root of a norm
    qkv_bias: bool | None = None  # of queries, keys, values; else as bias
    rope_factor: float = 1.0  # by how much the slow waves are slowed down
    rope_original: int = 8192  # the context before the waves were slowed

    def __post_init__(self) -> None:
        """Refuse what no model can be built from."""
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise ValueError(
                    f"{field}={getattr(self, field)!r} is unknown: choose "
                    f"one of {', '.join(known)}"
                )
        check_sizes(self)

    @property
    def key_heads(self) -> int:
        """How many heads of keys and values there are, chosen or usual."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def channels_per_head(self) -> int:
        """The size of a head, chosen or usual."""
        if self.head_size is not None:
            return self.head_size
        return self.channels // self.heads

    @property
    def inner(self) -> int:
        """The hidden size of the feed-forward layers, chosen or usual."""
        if self.hidden is not None:
            return self.hidden
        if self.mlp == "swiglu":
            return swiglu_hidden(self.channels)
        return 4 * self.channels


def check_sizes(config: GPTConfig) -> None:
    """Raise ValueError for numbers that no model can be built from."""
    for field in ("vocab_size", "context", "layers", "channels", "inner"):
        if getattr(config, field) < 1:
            name = "hidden" if field == "inner" else field
            raise ValueError(
                f"{name}={getattr(config, field)}: choose 1 or more"
            )
    if not 0 <= config.dropout < 1:
        raise ValueError(
            f"dropout={config.dropout} is a share: 0 for none, below 1"
        )
    if not 0 < config.norm_eps < math.inf:
        raise ValueError(f"norm_eps={config.norm_eps}: choose one above 0")
    for field in ("rope_base", "rope_factor", "rope_original"):
        if not 1 <= getattr(config, field) < math.inf:
            value = getattr(config, field)
            raise ValueError(f"{field}={value}: choose 1 or more")
    c = config
    check_heads(c.channels, c.heads, c.key_heads, c.head_size)
    if c.position == "rotary" and c.channels_per_head % 2:
        raise ValueError(
            f"heads of {c.channels_per_head} channels do not make pairs, "
            "which rotary positions need: choose an even head_size"
        )


def gpt2_config(
    vocab_size: int = 50257,
    context: int = 1024,
    layers: int = 12,
    heads: int = 12,
    channels: int = 768,
    dropout: float = 0.0,
    bias: bool = True,
    tied: bool = True,
) -> GPTConfig:
    """GPT-2; without arguments the smallest, of 124 million parameters."""
    return GPTConfig(
        vocab_size,
        context,
        layers,
        heads,
        channels,
        mlp="gelu_tanh",
        dropout=dropout,
        bias=bias,
        tied=tied,
    )


def llama_config(
    vocab_size: int = 32000,
    context: int = 4096,
    layers: int = 32,
    heads: int = 32,
    channels: int = 4096,
    kv_heads: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = False,
) -> GPTConfig:
    """Llama; without arguments Llama 2 7B, of 6.7 billion parameters."""
    return GPTConfig(
        vocab_size,
        context,
        layers,
        heads,
        channels,
        kv_heads,
        hidden=hidden,
        norm="rmsnorm",
        mlp="swiglu",
        position="rotary",
        dropout=dropout,
        bias=False,
        tied=tied,
    )


def make_norm(config: GPTConfig) -> nn.Module:
    """The norm that the configuration names."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.channels, config.norm_eps)
    return LayerNorm(config.channels, config.bias, config.norm_eps)


def make_block(config: GPTConfig, rotary: Rotary | None) -> Block:
    """One block of the form that the configuration describes."""
    c = config
    mlp: nn.Module
    if c.mlp == "swiglu":
        mlp = SwiGLU(c.channels, c.inner, c.bias, c.dropout)
    else:
        tanh = c.mlp == "gelu_tanh"
        mlp = GELUMLP(c.channels, c.inner, c.bias, c.dropout, tanh)
    attention = MultiHeadAttention(
        c.channels,
        c.heads,
        c.kv_heads,
        c.dropout,
        c.bias,
        rotary,
        reference=not c.fused,
        qk_norm=c.qk_norm == "layernorm",
        head_size=c.head_size,
        qkv_bias=c.qkv_bias,
        norms=head_norms(c),
    )
    return Block(make_norm(c), attention, make_norm(c), mlp, c.norm_order)


def head_norms(config: GPTConfig) -> tuple[RMSNorm, RMSNorm] | None:
    """The learned norms of queries and of keys, if there are any.

    One of D numbers, the same for each head (Qwen3), or one for all heads
    at once (OLMo 2).
    """
    if not config.qk_norm.startswith("rmsnorm"):
        return None
    whole = config.qk_norm == "rmsnorm_all"
    d, eps = config.channels_per_head, config.norm_eps
    queries, keys = config.heads, config.key_heads
    return (
        RMSNorm(queries * d if whole else d, eps),
        RMSNorm(keys * d if whole else d, eps),
    )


class GPT(nn.Module):
    """A language model: ids in, a score for every possible next token out.

    `checkpoint_activations` recomputes each block on the way back instead of
    keeping its insides: less memory, about a third more work.
    """

    def __init__(self, config: GPTConfig) -> None:
        """Random weights; seed torch before, for the same ones again."""
        super().__init__()
        c = self.config = config
        self.checkpoint_activations = False
        self.token = TokenEmbedding(c.vocab_size, c.channels)
        self.position, rotary = None, None
        if c.position == "learned":
            self.position = LearnedPositions(c.context, c.channels)
        else:  # one pair of tables for all layers
            rotary = Rotary(
                c.channels_per_head,
                c.context,
                c.rope_base,
                c.rope_factor,
                c.rope_original,
            )
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(
            make_block(c, rotary) for _ in range(c.layers)
        )
        last = c.norm_order != "post"  # whose stream is normalized anyway
        self.norm = make_norm(c) if last else nn.Identity()
        self.head = nn.Linear(c.channels, c.vocab_size, bias=False)
        self.tie()
        self.register_load_state_dict_post_hook(GPT.tie)
        self.initialize()

    def tie(self, *_: object) -> None:
        """Give the head the very matrix of the tokens, if they share one."""
        if self.config.tied:
            self.head.weight = self.token.weight

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> Any:
        """Follow the model to other memory; what was one stays one."""
        super()._apply(fn, recurse)
        self.tie()
        return self

    def initialize(self) -> None:
        """Weights from N(0, 0.02²), smaller where they write to the stream.

        Each layer adds twice to the stream; dividing by √(2L) keeps the sum
        in range (Radford et al., 2019, section 2.3). Biases start at 0.
        """
        deep = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=deep if writes else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """The stream before the first block: (B, T) → (B, T, C)."""
        check_ids(ids, self.config.vocab_size)
        x = self.token(ids)
        if self.position is not None:
            x = x + self.position(ids.shape[1], start)
        return self.dropout(x)

    def features(
        self, ids: Tensor, stores: Sequence[KVStore] | None = None
    ) -> Tensor:
        """What the head reads: (B, T) → (B, T, C).

        With one store for each layer, the ids continue what is stored.
        Raises ValueError for ids and positions out of range.
        """
        x = self.embed(ids, 0 if stores is None else stores[0].length)
        recompute = self.checkpoint_activations and self.training
        recompute = recompute and stores is None  # keys are stored once
        for i, block in enumerate(self.blocks):
            if recompute:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x, None if stores is None else stores[i])
        return self.norm(x)

    def forward(
        self, ids: Tensor, stores: Sequence[KVStore] | None = None
    ) -> Tensor:
        """Logits of the token after each: (B, T) → (B, T, V)."""
        return self.head(self.features(ids, stores))


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise ValueError for anything but (B, T) ids below `vocab_size`.

    On an accelerator only the shape is looked at: to look at the numbers
    would make the program wait for them.
    """
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"ids must have the shape (B, T) with B and T ≥ 1, not "
            f"{tuple(ids.shape)}: for one text, torch.tensor([ids])"
        )
    if ids.device.type != "cpu":
        return
    low, high = (int(x) for x in torch.aminmax(ids))
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"token {low if low < 0 else high} is not in a vocabulary of "
            f"{vocab_size} (0 to {vocab_size - 1}): was the text encoded "
            "with another tokenizer?"
        )


def next_token_loss(
    logits: Tensor, targets: Tensor, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of (B, T, V) logits with (B, T) next tokens, in nats.

    Targets of −100 do not count. Computed in float32 whatever the logits
    are. `reduction` is mean, sum or none, the last giving (B · T,). The mean
    of no target at all is NaN.

    >>> next_token_loss(torch.zeros(1, 3, 8), torch.tensor([[1, 5, -100]]))
    tensor(2.0794)
    """
    return F.cross_entropy(
        logits.float().flatten(0, 1),  # (B · T, V)
        targets.flatten().long(),
        ignore_index=-100,
        reduction=reduction,
    )


def count_parameters(model: nn.Module) -> int:
    """How many numbers are learned; shared ones count once."""
    return sum(p.numel() for p in model.parameters())


def parameter_table(config: GPTConfig) -> dict[str, int]:
    """How many parameters each part has, without building any of them.

    >>> parameter_table(gpt2_config())["attention"]
    28348416
    >>> sum(parameter_table(gpt2_config()).values())
    124439808
    """
    c, bias = config, int(config.bias)
    qkv_bias = bias if c.qkv_bias is None else int(c.qkv_bias)
    attended = c.heads * c.channels_per_head
    qkv = attended + 2 * c.key_heads * c.channels_per_head
    heads = sum(n.weight.numel() for n in head_norms(c) or ())
    wide = 2 * c.inner if c.mlp == "swiglu" else c.inner
    norm = c.channels * (1 + bias * (c.norm == "layernorm"))
    learned = c.position == "learned"
    return {
        "tokens": c.vocab_size * c.channels,
        "positions": c.context * c.channels if learned else 0,
        "attention": c.layers
        * ((c.channels + qkv_bias) * qkv + (attended + bias) * c.channels),
        "feed-forward": c.layers
        * ((c.channels + bias) * wide + (c.inner + bias) * c.channels),
        "norms": norm * (2 * c.layers + (c.norm_order != "post"))
        + c.layers * heads,
        "head": 0 if c.tied else c.vocab_size * c.channels,
    }


def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations of training on one token, at full context.

    Two per weight of a matrix forward and four back (Kaplan et al., 2020,
    section 2.1), and the scores and means of attention (Chowdhery et al.,
    2022, appendix B), not halved for the causal mask. A third of it is the
    cost of reading one token.
    """
    bare = parameter_table(
        replace(config, bias=False, qkv_bias=False, tied=False)
    )
    weights = bare["attention"] + bare["feed-forward"] + bare["head"]
    attended = config.heads * config.channels_per_head
    return 6 * weights + 12 * config.layers * attended * config.context


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a training step in float32, by what they are for.

    Weights and moments are there all the time, activations until the
    gradients are made from them. `peak` is the most held at one moment.
    """

    weights: int
    gradients: int
    moments: int
    activations: int
    peak: int

    @property
    def total(self) -> int:
        """The four parts together, without what passes by."""
        parts = (self.weights, self.gradients, self.moments)
        return sum(parts) + self.activations


def activation_floats(config: GPTConfig) -> int:
    """Numbers that autograd keeps of each token, loss and ids left out.

    For this book's layers, without QK-norm and recomputation. Attention that
    is not fused keeps its weights, and with dropout three forms of them; so
    does the library's kernel on a processor, if there is dropout.
    """
    c = config
    attended = c.heads * c.channels_per_head
    keys = c.key_heads * c.channels_per_head
    rms = c.norm == "rmsnorm"
    norm = 3 * c.channels + 1 if rms else 2 * c.channels + 2
    attention = 2 * attended + 2 * keys + c.heads
    if not c.fused:
        attention += c.heads * c.context * (3 if c.dropout else 1)
    if c.position == "rotary":  # turned queries and keys, and a copy
        attention += 2 * attended + keys
    mlp = 4 * c.inner if c.mlp == "swiglu" else 2 * c.inner
    dropped = c.channels if c.dropout else 0  # what values are multiplied by
    blocks = c.layers * (2 * norm + attention + mlp + 2 * dropped)
    last = c.channels if c.norm_order == "post" else norm
    return dropped + blocks + last


def memory_estimate(config: GPTConfig, batch: int) -> MemoryEstimate:
    """What AdamW on (batch, context) ids will need, before it is tried.

    Gradients are as large as the weights, the two moments twice that. The
    peak comes when the loss is made, when scores that were kept get their
    gradients, at the end of the way back, or while the optimizer works.
    """
    c, tokens = config, batch * config.context
    table = parameter_table(c)
    weights, matrix = sum(table.values()), c.vocab_size * c.channels
    kept = tokens * (activation_floats(c) + 4)  # with ids and targets
    logits = tokens * c.vocab_size
    if logits > LOGITS_AT_ONCE:  # see training.memory.ChunkedCrossEntropy
        kept += matrix  # a gradient; the other takes the features' place
        loss = LOGITS_AT_ONCE + max(LOGITS_AT_ONCE, matrix)
    else:
        kept += logits  # their log-softmax
        loss = 2 * logits
    decaying = table["attention"] + table["feed-forward"] + table["head"]
    scores = 0 if c.fused else 2 * tokens * c.heads * c.context
    peak = max(
        3 * weights + kept + max(loss, scores),
        4 * weights + matrix * (2 if c.tied else 0),  # two gradients, a sum
        4 * weights + decaying,
    )
    return MemoryEstimate(
        4 * weights, 4 * weights, 8 * weights, 4 * kept, 4 * peak
    )
