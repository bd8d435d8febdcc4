"""What the whole model must do."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scratchlm.model import gpt

from ..expect import close, equal, raises, true

SMALL = gpt.gpt2_config(vocab_size=7, context=8, layers=2, heads=2, channels=4)
MODERN = gpt.llama_config(
    vocab_size=7, context=8, layers=2, heads=2, channels=4, kv_heads=1
)
IDS = torch.tensor([[1, 5, 2, 2, 0, 6], [3, 1, 4, 1, 5, 2]])
WIDE = replace(MODERN, kv_heads=2, head_size=4)  # turns at two speeds
SWITCHES: tuple[tuple[gpt.GPTConfig, dict[str, Any]], ...] = (
    (SMALL, {"qk_norm": "layernorm"}),
    (MODERN, {"qk_norm": "rmsnorm"}),
    (MODERN, {"qk_norm": "rmsnorm_all"}),
    (replace(MODERN, qk_norm="rmsnorm"), {"qk_norm": "rmsnorm_all"}),
    (SMALL, {"norm_order": "post"}),
    (SMALL, {"norm_order": "branch"}),
    (SMALL, {"mlp": "gelu"}),
    (MODERN, {"kv_heads": 2}),
    (WIDE, {"rope_base": 100.0}),
)


class GrowingStore:
    """A store that concatenates, for the checks."""

    def __init__(self) -> None:
        """Empty."""
        self.length = 0
        self.past: list[tuple[Tensor, Tensor]] = []

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v; return all so far."""
        self.past.append((k, v))
        self.length += k.shape[2]
        keys, values = zip(*self.past, strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


def trained(config: gpt.GPTConfig) -> gpt.GPT:
    """A model whose weights are the same on every machine, and not small."""
    model = gpt.GPT(config).eval()
    at = 0.0
    with torch.no_grad():
        for parameter in model.parameters():
            steps = torch.arange(1.0, parameter.numel() + 1) + at
            parameter.copy_(torch.sin(1.7 * steps).view(parameter.shape))
            at += 31
    return model


def silenced(model: gpt.GPT, *names: str) -> gpt.GPT:
    """The model whose layers of these names add nothing to the stream."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(f".{layer}." in name for layer in names):
                parameter.zero_()
    return model


def gap(one: Tensor, other: Tensor) -> float:
    """The largest difference of two models' scores."""
    return float((one - other).detach().abs().max())


def check_parameters() -> None:
    """GPT-2's smallest has 124,439,808 parameters, untied 163,037,184."""
    for config, wanted, name in (
        (gpt.gpt2_config(), 124_439_808, "GPT-2"),
        (gpt.gpt2_config(tied=False), 163_037_184, "GPT-2, untied"),
        (gpt.llama_config(), 6_738_415_616, "Llama 2 7B"),
        (
            gpt.gpt2_config(65, 64, 4, 4, 128, bias=False),
            804_096,
            "4 layers, 4 heads, 128 channels, 64 positions, 65 characters",
        ),
    ):
        with torch.device("meta"):
            count = gpt.count_parameters(gpt.GPT(config))
        hint = "head and token table share one matrix if tied; no bias there"
        equal(count, wanted, f"parameters of {name}", hint)
        table = sum(gpt.parameter_table(config).values())
        equal(table, wanted, f"parameters of {name}, by the table")


def check_initial_loss() -> None:
    """A new model has no idea: its loss is the logarithm of V."""
    torch.manual_seed(0)
    model = gpt.GPT(gpt.gpt2_config(512, 16, 4, 4, 64))
    ids = torch.arange(68).view(4, 17) ** 2 % 512
    loss = gpt.next_token_loss(model(ids[:, :-1]), ids[:, 1:])
    close(
        loss,
        math.log(512),
        "the loss before the first step, ln 512",
        tol=0.1,
        hint="weights of size 0.02, logits and not probabilities",
    )
    weights = dict(model.named_parameters())
    deep = weights["blocks.0.mlp.down.weight"].std() * math.sqrt(8)
    close(deep, 0.02, "the size of what narrows × √(2L)", tol=0.002)


def check_loss_by_hand() -> None:
    """A fair coin costs ln 2; a masked target costs nothing."""
    coin = torch.zeros(1, 3, 2)
    targets = torch.tensor([[0, 1, -100]])
    close(gpt.next_token_loss(coin, targets), 0.693147, "a fair coin")
    total = gpt.next_token_loss(coin, targets, reduction="sum")
    close(total, 1.386294, "two fair coins and a masked one, summed")
    logits = torch.tensor([0.0, math.log(2), math.log(3)]).view(1, 1, 3)
    close(
        gpt.next_token_loss(logits, torch.tensor([[2]])),
        math.log(2),
        "the target has probability 1/2",
        hint="cross-entropy of logits, with one softmax",
    )


def check_silent_blocks() -> None:
    """With blocks that say nothing, the logits can be written in one line."""
    for config in (SMALL, MODERN):
        model = silenced(trained(config), "out", "down")
        rows = dict(model.named_parameters())
        x = rows["token.weight"][IDS]
        if config is SMALL:
            x = x + rows["position.weight"][:6]
            head = rows["token.weight"]
        else:
            head = rows["head.weight"]
        close(
            model(IDS),
            model.norm(x) @ head.T,
            "logits of a model that only embeds, normalizes and scores",
            tol=2e-5,
            hint="token + position, not scaled; scores, not probabilities",
        )


def check_nothing_looks_ahead() -> None:
    """A later token changes no earlier logit by even one bit."""
    for config in (SMALL, MODERN):
        model, changed = trained(config), IDS.clone()
        changed[:, 4:] = 3
        a, b = model(IDS), model(changed)
        equal(a[:, :4], b[:, :4], "logits before the change")
        true((a[:, 4:] != b[:, 4:]).any(), "logits after the change differ")


def check_pieces_with_stores() -> None:
    """Fed in pieces, with stores, the logits are those of the whole."""
    for config in (SMALL, MODERN):
        model = trained(config)
        stores = [GrowingStore() for _ in range(2)]
        pieces = [model(p, stores) for p in IDS.split([3, 1, 2], dim=1)]
        close(
            torch.cat(pieces, dim=1),
            model(IDS),
            "logits in pieces of 3, 1 and 2",
            tol=2e-5,
            hint="positions go on at the length of the store",
        )


def check_every_weight_learns() -> None:
    """The loss reaches every parameter, and every layer is its own."""
    normed = [replace(MODERN, **switch) for _, switch in SWITCHES[1:3]]
    for config in (SMALL, replace(SMALL, tied=False), MODERN, *normed):
        model = trained(config)
        gpt.next_token_loss(model(IDS), IDS).backward()
        for name, parameter in model.named_parameters():
            true(
                parameter.grad is not None and parameter.grad.any(),
                f"a gradient reaches {name}",
                hint="a part that is built and not used, or cut off",
            )
    model = trained(SMALL)
    same = model.head.weight is model.token.weight
    true(same, "head and token table are one matrix", "share it, no copy")


def check_recomputation() -> None:
    """Activation checkpointing changes no gradient by even one bit."""
    model = trained(SMALL).train()
    found = []
    for on in (False, True):
        model.checkpoint_activations = on
        model.zero_grad()
        gpt.next_token_loss(model(IDS), IDS).backward()
        gradients = [p.grad for p in model.parameters()]
        found.append([g.clone() for g in gradients if g is not None])
    for plain, again in zip(*found, strict=True):
        equal(again, plain, "a gradient with recomputation")


def check_errors() -> None:
    """What cannot be right is refused, in words."""
    model = trained(SMALL)
    cases = (
        (torch.tensor([[7]]), "token 7 in a vocabulary of 7"),
        (torch.tensor([[-1]]), "token -1"),
        (torch.zeros(1, 9, dtype=torch.int64), "9 tokens in a context of 8"),
        (torch.tensor([1, 2]), "ids without a batch dimension"),
    )
    for ids, what in cases:
        raises(ValueError, partial(model, ids), what)
    raises(ValueError, lambda: replace(SMALL, norm="none"), "an unknown norm")


def check_costs() -> None:
    """Operations and bytes of a small model, counted by hand."""
    # 2 layers: qkv 4 · 12, out 4 · 4, up and down 2 · 4 · 16, head 7 · 4
    weights = 2 * (48 + 16 + 128) + 28
    flops = 6 * weights + 12 * 2 * 4 * 8
    equal(gpt.flops_per_token(SMALL), flops, "operations on one token")
    count = sum(p.numel() for p in gpt.GPT(SMALL).parameters())
    need = gpt.memory_estimate(SMALL, batch=3)
    got = (need.weights, need.gradients, need.moments)
    equal(got, (4 * count, 4 * count, 8 * count), "bytes that stay")
    # norms 2 · 2 · (2 · 4 + 2) + 10, attention 2 · (8 + 8 + 2), mlp 2 · 32
    floats = 2 * (20 + 18 + 32) + 10
    equal(gpt.activation_floats(SMALL), floats, "numbers kept of a token")
    kept = 24 * (floats + 4) + 24 * 7
    equal(need.activations, 4 * kept, "bytes of activations")
    equal(need.total, 16 * count + 4 * kept, "bytes in all")
    peak = max(3 * count + kept + 2 * 24 * 7, 4 * count + 56)
    decaying = 2 * (60 + 20 + 80 + 68) + 0
    equal(need.peak, 4 * max(peak, 4 * count + decaying), "bytes at the peak")
    rotated = 2 * (2 * 13 + 8 + 4 + 2 + 8 + 2 + 4 * MODERN.inner) + 13
    equal(gpt.activation_floats(MODERN), rotated, "with rotary and SwiGLU")


def check_a_model_in_other_memory() -> None:
    """Moved or cast, tied weights are one; blocks keep their insides."""
    tied = replace(SMALL, tied=True)
    model = gpt.GPT(tied).to(torch.float64)
    true(model.head.weight is model.token.weight, "one matrix after a cast")
    with torch.device("meta"):
        model = gpt.GPT(tied)
    model.to_empty(device="cpu")
    true(model.head.weight is model.token.weight, "one matrix in new memory")
    true(not model.checkpoint_activations, "nothing is computed twice")
    model = trained(SMALL)
    logits = model(IDS)
    equal(tuple(logits.shape), (2, 6, 7), "the shape of scores")
    equal(logits.dtype, torch.float32, "the type of scores")
    alone = torch.cat([model(row[None]) for row in IDS])
    close(logits, alone, "two texts at once, and one at a time", tol=1e-4)
    wide = replace(MODERN, norm_eps=100.0)
    apart = gap(trained(wide)(IDS), trained(MODERN)(IDS))
    true(apart > 1e-3, "the ε of the settings is that of the norms")
    wide = replace(SMALL, norm_eps=100.0)
    apart = gap(trained(wide)(IDS), trained(SMALL)(IDS))
    true(apart > 1e-3, "and so it is with layer norm")


def check_every_switch_turns_something() -> None:
    """Each switch of the settings, once it is turned, changes the scores."""
    for config, switch in SWITCHES:
        ((name, value),) = switch.items()
        other = replace(config, **switch)
        # The two bends are never more than half a thousandth apart.
        least = 1e-5 if name == "mlp" else 1e-3
        true(
            gap(trained(config)(IDS), trained(other)(IDS)) > least,
            f"scores with {name}={value} are not those with "
            f"{name}={getattr(config, name)}",
            hint="give each part what the settings say of it",
        )


def check_dropout_in_training() -> None:
    """In training, dropout is at work on the embedding and in both layers."""
    for config in (SMALL, MODERN):
        for silent, what in (
            (("out", "down"), "what is embedded"),
            (("down",), "what attention adds"),
            (("out",), "what feed-forward layers add"),
        ):
            model = trained(replace(config, dropout=0.5))
            wanted = silenced(model, *silent)(IDS)
            part = model if len(silent) == 2 else model.blocks
            part.train()
            true(
                gap(model(IDS), wanted) > 1e-3,
                f"dropout changes {what} in training, mlp={config.mlp}",
                hint="each part has the share of the settings",
            )


def check_where_the_peak_is() -> None:
    """With many tokens in the table, it is where their gradients meet."""
    wide = gpt.gpt2_config(900, 2, 1, 1, 4)  # the table is all but 230
    for config, tables in ((wide, 2), (replace(wide, tied=False), 0)):
        count = sum(p.numel() for p in gpt.GPT(config).parameters())
        table = gpt.parameter_table(config)
        decaying = sum(
            table.get(part, 0) for part in ("attention", "feed-forward", "head")
        )
        most = max(tables * 3600, decaying)
        equal(
            gpt.memory_estimate(config, batch=1).peak,
            4 * (4 * count + most),
            f"bytes at the peak, tied={config.tied}",
            hint="a tied table gets two gradients, and then their sum",
        )
    settings = gpt.llama_config(9, 8, 1, 2, 4, hidden=5)
    equal(settings.inner, 5, "the hidden size that llama_config was given")


BUGS = {
    "the last norm is left out": (
        "return self.norm(x)",
        "return x",
    ),
    "tied weights are copied": (
        "self.head.weight = self.token.weight",
        "self.head.weight = nn.Parameter(self.token.weight.clone())",
    ),
    "one block stands for all layers": (
        "make_block(c, rotary) for _ in range(c.layers)",
        "[make_block(c, rotary)] * c.layers",
    ),
    "positions start at 0 in every piece": (
        "x = x + self.position(ids.shape[1], start)",
        "x = x + self.position(ids.shape[1])",
    ),
    "no positions": (
        "x = x + self.position(ids.shape[1], start)",
        "pass",
    ),
    "weights of size 1": (
        "nn.init.normal_(parameter, std=deep if writes else 0.02)",
        "nn.init.normal_(parameter)",
    ),
    "softmax before the loss": (
        "return self.head(self.features(ids, stores))",
        "return self.head(self.features(ids, stores)).softmax(-1)",
    ),
    "embeddings are scaled by √C": (
        "x = self.token(ids)",
        "x = self.token(ids) * self.config.channels**0.5",
    ),
    "masked targets count": (
        "ignore_index=-100",
        "ignore_index=-1",
    ),
    "the first layer's store serves all": (
        "None if stores is None else stores[i]",
        "None if stores is None else stores[0]",
    ),
    "a head that is shared costs nothing": (
        "replace(config, bias=False, qkv_bias=False, tied=False)",
        "replace(config, bias=False, qkv_bias=False, tied=True)",
    ),
    "gradients weigh nothing": (
        "4 * weights, 4 * weights, 8 * weights, 4 * kept, 4 * peak",
        "4 * weights, 0 * weights, 8 * weights, 4 * kept, 4 * peak",
    ),
    "turned queries are not counted": (
        "attention += 2 * attended + keys",
        "attention += 0",
    ),
    "norms have an eps of their own": (
        "return LayerNorm(config.channels, config.bias, config.norm_eps)",
        "return LayerNorm(config.channels, config.bias)",
    ),
    "queries and keys are never normalized": (
        'qk_norm=c.qk_norm == "layernorm",',
        "qk_norm=False,",
    ),
    "learned norms of queries and keys are left out": (
        "norms=head_norms(c),",
        "norms=None,",
    ),
    "one norm serves all heads in either form": (
        'whole = config.qk_norm == "rmsnorm_all"',
        "whole = False",
    ),
    "norms always come first": (
        "make_norm(c), mlp, c.norm_order)",
        "make_norm(c), mlp)",
    ),
    "the base of the turns is always 10,000": (
        "                c.rope_base,\n",
        "                10000.0,\n",
    ),
    "the bend is always the tanh": (
        'tanh = c.mlp == "gelu_tanh"',
        "tanh = True",
    ),
    "each query head has keys of its own": (
        "        c.kv_heads,\n",
        "        None,\n",
    ),
    "nothing that is embedded is dropped": (
        "self.dropout = nn.Dropout(c.dropout)",
        "self.dropout = nn.Dropout(0.0)",
    ),
    "attention drops nothing": (
        "        c.dropout,\n",
        "        0.0,\n",
    ),
    "GELU layers drop nothing": (
        "GELUMLP(c.channels, c.inner, c.bias, c.dropout, tanh)",
        "GELUMLP(c.channels, c.inner, c.bias, 0.0, tanh)",
    ),
    "SwiGLU layers drop nothing": (
        "SwiGLU(c.channels, c.inner, c.bias, c.dropout)",
        "SwiGLU(c.channels, c.inner, c.bias)",
    ),
}
