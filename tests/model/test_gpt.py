"""The whole model against closed forms, and its properties.

That it equals the library is tested with the solutions, which translate
the library's weights.
"""

import copy
import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    MemoryEstimate,
    activation_floats,
    check_ids,
    count_parameters,
    flops_per_token,
    gpt2_config,
    llama_config,
    memory_estimate,
    next_token_loss,
    parameter_table,
)
from scratchlm.model.layers import LayerNorm
from scratchlm.training.memory import memory_use

GPT2 = gpt2_config(40, 16, 2, 4, 32)
LLAMA = llama_config(40, 16, 2, 4, 32, kv_heads=2)
FORMS = [
    GPT2,
    LLAMA,
    replace(LLAMA, tied=True, kv_heads=None, hidden=50),
    replace(GPT2, bias=False, tied=False, mlp="gelu"),
    replace(GPT2, norm_order="post"),
    replace(GPT2, norm="rmsnorm", kv_heads=1, position="rotary"),
    replace(LLAMA, head_size=12, rope_base=500.0, norm_eps=0.01),
    replace(GPT2, head_size=6, kv_heads=2, norm_eps=0.01),
    replace(LLAMA, qkv_bias=True, rope_factor=4.0, rope_original=8),
    replace(LLAMA, norm_order="branch"),
    replace(LLAMA, norm_order="branch", qk_norm="rmsnorm_all"),
    replace(GPT2, qk_norm="rmsnorm", qkv_bias=False, head_size=6),
]


def make(config: GPTConfig, seed: int = 0) -> GPT:
    """A model whose every weight looks trained, in evaluation mode."""
    torch.manual_seed(seed)
    model = GPT(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        else:
            nn.init.normal_(parameter, mean=1, std=0.3)
    return model.eval()


class Memory:
    """The smallest store of keys and values."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.append((k, v))
        self.length += k.shape[2]
        ks, vs = zip(*self.kept, strict=True)
        return torch.cat(ks, dim=2), torch.cat(vs, dim=2)


def some_ids(seed: int = 1, batch: int = 3, time: int = 16) -> Tensor:
    """Random ids below 40."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(40, (batch, time), generator=generator)


# --- counting ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (gpt2_config(), 124_439_808),
        (gpt2_config(tied=False), 163_037_184),
        (gpt2_config(65, 256, 6, 6, 384, bias=False), 10_745_088),
        (gpt2_config(65, 64, 4, 4, 128, bias=False), 804_096),
        (llama_config(), 6_738_415_616),
        *[(config, None) for config in FORMS],
    ],
)
def test_parameters_counted_and_computed(
    config: GPTConfig, count: int | None
) -> None:
    with torch.device("meta"):  # shapes without numbers
        model = GPT(config)
    computed = sum(parameter_table(config).values())
    assert count_parameters(model) == computed
    assert count in (None, computed)


def test_parameter_table_by_part() -> None:
    table = parameter_table(replace(GPT2, norm_order="post"))
    model = GPT(replace(GPT2, norm_order="post"))
    assert table["norms"] == 4 * 2 * 32
    assert table["tokens"] == count_parameters(model.token)
    assert table["positions"] == 16 * 32
    assert table["head"] == 0
    block = model.blocks[0]
    assert table["attention"] == 2 * count_parameters(block.attention)
    assert table["feed-forward"] == 2 * count_parameters(block.mlp)
    assert parameter_table(LLAMA)["head"] == 40 * 32


@pytest.mark.parametrize("config", FORMS)
def test_flops_equal_those_counted(config: GPTConfig) -> None:
    model, ids = GPT(config), some_ids()
    for block in model.blocks:
        block.attention.reference = True  # the counter knows no kernel
    with FlopCounterMode(display=False) as counter:
        loss = next_token_loss(model(ids), ids)
        forward = counter.get_total_flops()
        loss.backward()
    assert forward * 3 == ids.numel() * flops_per_token(config)
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.parametrize("config", [c for c in FORMS if c.qk_norm == "none"])
@pytest.mark.parametrize("batch", [1, 3])
def test_memory_estimate_equals_what_autograd_keeps(
    config: GPTConfig, batch: int
) -> None:
    model, ids, targets = GPT(config), some_ids(1, batch), some_ids(2, batch)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = next_token_loss(model(ids), targets)
    for tensor in (*model.parameters(), *model.buffers()):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    estimate = memory_estimate(config, batch)
    # All but the count of targets, one number.
    assert sum(kept.values()) == estimate.activations + 4
    assert estimate.weights == 4 * count_parameters(model)
    del loss


@pytest.mark.parametrize(
    "change",
    [
        {"fused": False},
        {"fused": False, "dropout": 0.1},
        {"fused": False, "position": "rotary"},
        {"fused": False, "dropout": 0.1, "norm_order": "post"},
    ],
    ids=str,
)
def test_memory_estimate_of_attention_written_out(
    change: dict[str, Any],
) -> None:
    config = replace(gpt2_config(256, 64, 3, 8, 64), **change)
    ids, targets = torch.randint(250, (2, 4, 64))
    measured = memory_use(GPT(config).train(), ids, targets)
    computed = memory_estimate(config, 4)
    kept, peak = computed.activations, computed.peak
    assert 0.85 * kept < measured.activations < 1.02 * kept
    assert 0.75 * peak < measured.peak < 1.02 * peak


def test_what_dropout_multiplies_by_is_kept() -> None:
    plain = replace(GPT2, fused=False)
    more = activation_floats(replace(plain, dropout=0.1))
    layers, heads, context = GPT2.layers, GPT2.heads, GPT2.context
    masks = GPT2.channels * (1 + 2 * layers)
    masks += 2 * layers * heads * context
    assert more == activation_floats(plain) + masks
    kernel = activation_floats(GPT2)
    assert activation_floats(plain) == kernel + layers * heads * context


def test_the_peak_is_where_most_is_held() -> None:
    # Few tokens: while the optimizer works on the larger of its two groups.
    few = replace(GPT2, context=1)
    for config in (few, replace(few, vocab_size=5000, tied=False)):
        table = parameter_table(config)
        largest = table["attention"] + table["feed-forward"] + table["head"]
        assert largest > sum(table.values()) / 2
        peak = memory_estimate(config, 1).peak
        assert peak == 4 * (4 * sum(table.values()) + largest)
    # A large matrix for both ends: when its two gradients are added up.
    tied = memory_estimate(replace(few, vocab_size=5000), 1)
    assert tied.peak == 4 * tied.weights + 2 * 4 * 5000 * 32
    # Many tokens: when the loss is made, with logits and their gradient.
    many, weights = memory_estimate(GPT2, 50), count_parameters(GPT(GPT2))
    logits = 50 * 16 * 40
    assert many.peak == 12 * weights + many.activations + 8 * logits


def test_memory_estimate_adds_up() -> None:
    assert MemoryEstimate(1, 2, 3, 4, 9).total == 10
    one, two = (memory_estimate(GPT2, batch) for batch in (1, 2))
    assert two.activations == 2 * one.activations
    assert one.moments == 2 * one.gradients == 2 * one.weights
    # GPT-2's smallest: weights, gradients and moments of 4 bytes.
    small = memory_estimate(gpt2_config(), 1)
    assert small.total - small.activations == 16 * 124_439_808


# --- configuration ----------------------------------------------------------


def test_configuration_survives_json() -> None:
    for config in FORMS:
        assert GPTConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize("field", ["norm", "mlp", "position"])
def test_unknown_names(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}='nope'.*choose one of"):
        replace(GPT2, **{field: "nope"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0: choose 1"),
        ({"context": 0}, "context=0: choose 1"),
        ({"layers": 0}, "layers=0: choose 1"),
        ({"channels": -4, "hidden": 8}, "channels=-4: choose 1"),
        ({"hidden": 0}, "hidden=0: choose 1"),
        ({"dropout": 1.0}, "dropout=1.0 is a share"),
        ({"dropout": math.nan}, "dropout=nan is a share"),
        ({"dropout": -0.1}, "dropout=-0.1 is a share"),
        ({"norm_eps": 0.0}, "norm_eps=0.0"),
        ({"norm_eps": math.nan}, "norm_eps=nan"),
        ({"heads": 0}, "do not split into 0 heads"),
        ({"channels": 33}, "33 channels do not split into 4 heads"),
        ({"kv_heads": 3}, "cannot share 3 heads"),
        ({"head_size": 0}, "head_size=0"),
        ({"head_size": 7, "position": "rotary"}, "7 channels do not make"),
        ({"channels": 36, "position": "rotary"}, "heads of 9 channels"),
        ({"rope_base": 0.0, "position": "rotary"}, "rope_base=0.0"),
        ({"rope_base": 1e-300, "position": "rotary"}, "rope_base=1e-300"),
        ({"rope_base": math.nan}, "rope_base=nan"),  # used or not
        ({"rope_base": math.inf}, "rope_base=inf"),
        ({"rope_base": 0.5}, "rope_base=0.5: choose 1"),
    ],
)
def test_sizes_that_no_model_has(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GPT2, **change)
    assert replace(GPT2, dropout=0.0, layers=1, hidden=1).inner == 1
    assert replace(GPT2, rope_base=1.0).rope_base == 1
    assert replace(GPT2, head_size=7).channels_per_head == 7  # not rotary


def test_sizes_left_open() -> None:
    assert (GPT2.key_heads, LLAMA.key_heads) == (4, 2)
    assert GPT2.channels_per_head == 8
    assert replace(GPT2, head_size=5, channels=33).channels_per_head == 5


def test_the_model_has_what_the_configuration_says() -> None:
    model = GPT(replace(LLAMA, head_size=6, rope_base=500.0, norm_eps=0.01))
    rotary = model.blocks[1].attention.rotary
    assert rotary is model.blocks[0].attention.rotary  # one pair of tables
    assert (rotary.head_size, rotary.context) == (6, 16)
    assert rotary.base == 500.0
    norms = [model.norm, model.blocks[0].norm1, model.blocks[1].norm2]
    assert [norm.eps for norm in norms] == [0.01] * 3
    assert GPT(replace(GPT2, norm_eps=0.02)).norm.eps == 0.02


@pytest.mark.parametrize("config", [GPT2, LLAMA])
def test_every_part_is_made_as_the_configuration_says(
    config: GPTConfig,
) -> None:
    config = replace(config, dropout=0.25, hidden=50, kv_heads=2)
    for qk_norm, fused, order in (
        ("layernorm", False, "post"),
        ("none", True, "pre"),
        ("none", True, "branch"),
    ):
        model = GPT(
            replace(config, qk_norm=qk_norm, fused=fused, norm_order=order)
        )
        drops = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
        assert drops == [0.25] * 5  # before the blocks, and two in each
        for block in model.blocks:
            attention = block.attention
            assert attention.reference is not fused
            assert attention.qk_norm is (qk_norm == "layernorm")
            assert (attention.heads, attention.kv_heads) == (4, 2)
            rotates = config.position == "rotary"
            assert (attention.rotary is not None) is rotates
            assert block.norm_order == order
            assert block.mlp.up.out_features == 50


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("config", [GPT2, LLAMA, replace(GPT2, mlp="gelu")])
def test_biases_are_everywhere_or_nowhere(
    config: GPTConfig, bias: bool
) -> None:
    model = GPT(replace(config, bias=bias))
    for part in model.modules():
        if isinstance(part, nn.Linear) and part is not model.head:
            assert (part.bias is not None) is bias
        if isinstance(part, LayerNorm):
            assert (part.bias is not None) is bias
    assert model.head.bias is None


def test_the_bend_is_the_one_that_is_named() -> None:
    for name, approximate in (("gelu", "none"), ("gelu_tanh", "tanh")):
        mlp = GPT(replace(GPT2, mlp=name)).blocks[0].mlp
        assert mlp.approximate == approximate


def test_families_take_what_they_are_given() -> None:
    config = llama_config(7, 8, 1, 2, 12, 1, 50, 0.5, True)
    wanted = GPTConfig(
        7,
        8,
        1,
        2,
        12,
        kv_heads=1,
        hidden=50,
        norm="rmsnorm",
        mlp="swiglu",
        position="rotary",
        dropout=0.5,
        bias=False,
        tied=True,
    )
    assert config == wanted
    config = gpt2_config(7, 8, 1, 2, 12, 0.5, False, False)
    wanted = GPTConfig(
        7, 8, 1, 2, 12, mlp="gelu_tanh", dropout=0.5, bias=False, tied=False
    )
    assert config == wanted
    assert gpt2_config() == GPTConfig(50257, 1024, 12, 12, 768, mlp="gelu_tanh")


@pytest.mark.parametrize("config", FORMS)
def test_a_model_built_on_meta_is_the_same_model(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    with torch.device("meta"):
        built, assigned = GPT(config), GPT(config)
    built.to_empty(device="cpu").load_state_dict(model.state_dict())
    assigned.load_state_dict(model.state_dict(), assign=True)
    for other in (built.eval(), assigned.eval()):
        assert torch.equal(other(ids), model(ids))
        same = other.head.weight is other.token.weight
        assert same is config.tied
        assert count_parameters(other) == count_parameters(model)


@pytest.mark.parametrize("config", FORMS)
def test_a_copy_is_a_model_of_its_own(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    wanted = model(ids)
    other = copy.deepcopy(model)
    assert torch.equal(other(ids), wanted)
    assert (other.head.weight is other.token.weight) is config.tied
    with torch.no_grad():
        other.token.weight.zero_()
    assert torch.equal(model(ids), wanted)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(ids), wanted)


def test_inner() -> None:
    assert GPT2.inner == 128
    assert LLAMA.inner == 96
    assert replace(GPT2, hidden=7).inner == 7
    assert llama_config().inner == 11008


# --- the model --------------------------------------------------------------


@pytest.mark.parametrize("config", FORMS)
def test_the_future_changes_nothing(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    changed = ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 40
    a, b = model(ids), model(changed)
    assert torch.equal(a[:, :9], b[:, :9])
    assert not torch.isclose(a[:, 9:], b[:, 9:]).all(dim=-1).any()


@pytest.mark.parametrize("config", FORMS)
def test_the_texts_of_a_batch_are_strangers(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    torch.testing.assert_close(model(ids)[1:2], model(ids[1:2]))


@pytest.mark.parametrize("config", FORMS)
def test_order_matters(config: GPTConfig) -> None:
    model, ids = make(config), some_ids(batch=1)
    swapped = ids.clone()
    swapped[0, [2, 5]] = ids[0, [5, 2]]
    assert (model(ids) - model(swapped))[0, 8:].abs().max() > 1e-3


@pytest.mark.parametrize("config", FORMS)
def test_every_parameter_hears_from_the_loss(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    next_token_loss(model(ids), ids).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("config", FORMS)
def test_in_pieces_with_stores(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    stores = [Memory() for _ in range(config.layers)]
    pieces = [model(p, stores) for p in ids.split([4, 3, 1, 5, 3], dim=1)]
    torch.testing.assert_close(
        torch.cat(pieces, dim=1), model(ids), atol=1e-5, rtol=1e-4
    )


def test_shorter_than_the_context() -> None:
    model, ids = make(GPT2), some_ids()
    torch.testing.assert_close(model(ids[:, :5]), model(ids)[:, :5])


def test_features_are_what_the_head_reads() -> None:
    model, ids = make(LLAMA), some_ids()
    assert model.features(ids).shape == (3, 16, 32)
    assert torch.equal(model.head(model.features(ids)), model(ids))


def test_tying_shares_one_matrix() -> None:
    tied, untied = GPT(GPT2), GPT(replace(GPT2, tied=False))
    assert tied.head.weight is tied.token.weight
    assert untied.head.weight is not untied.token.weight
    assert not torch.equal(untied.head.weight, untied.token.weight)
    assert tied.to(torch.float64).head.weight is tied.token.weight


def test_initial_loss_is_that_of_no_idea() -> None:
    for config in (GPT2, LLAMA, replace(GPT2, norm_order="post")):
        torch.manual_seed(0)
        model, ids = GPT(replace(config, vocab_size=500)), some_ids()
        loss = next_token_loss(model(ids), some_ids(2)).item()
        assert loss == pytest.approx(math.log(500), abs=0.15)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(500, 64, 8, 4, 128))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.split(".")[-2] in ("out", "down")
            wanted = 0.02 / math.sqrt(16) if writes else 0.02
            assert parameter.std().item() == pytest.approx(wanted, rel=0.05)
        else:
            wanted = 0.0 if name.endswith("bias") else 1.0
            assert bool((parameter == wanted).all()), name
    torch.manual_seed(0)
    again = GPT(gpt2_config(500, 64, 8, 4, 128))
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_dropout_only_while_training() -> None:
    model, ids = make(replace(GPT2, dropout=0.2)), some_ids()
    assert torch.equal(model(ids), model(ids))
    calm = model.embed(ids, 0)
    model.train()
    assert not torch.equal(model(ids), model(ids))
    stream = model.embed(ids, 0)
    assert 0.1 < (stream == 0).float().mean() < 0.3
    kept = stream != 0
    torch.testing.assert_close(stream[kept], calm[kept] / 0.8)


@pytest.mark.parametrize(
    ("on", "training", "runs"),
    [(True, True, 2), (False, True, 1), (True, False, 1)],
)
def test_blocks_are_run_again_only_where_it_is_asked_for(
    on: bool, training: bool, runs: int
) -> None:
    model, ids = make(GPT2).train(training), some_ids()
    assert not model.checkpoint_activations
    model.checkpoint_activations = on
    calls = []
    for block in model.blocks:
        block.norm1.register_forward_hook(lambda *_: calls.append(1))
    next_token_loss(model(ids), ids).backward()
    assert len(calls) == 2 * runs


def test_stores_are_filled_where_activations_are_not_kept() -> None:
    model, ids = make(LLAMA).train(), some_ids()
    wanted = model(ids)
    model.checkpoint_activations = True
    stores = [Memory() for _ in range(2)]
    pieces = [model(piece, stores) for piece in ids.split(8, dim=1)]
    torch.testing.assert_close(
        torch.cat(pieces, dim=1), wanted, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("config", FORMS)
def test_recomputation_changes_no_bit(config: GPTConfig) -> None:
    model, ids = make(replace(config, dropout=0.1)).train(), some_ids()
    found = []
    for on in (False, True):
        model.checkpoint_activations = on
        model.zero_grad()
        torch.manual_seed(5)
        loss = next_token_loss(model(ids), ids)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_half_the_bits() -> None:
    for config in (GPT2, LLAMA):
        model, ids = make(config), some_ids()
        exact = model(ids).log_softmax(-1)
        rough = model.to(torch.bfloat16)(ids)
        assert rough.dtype == torch.bfloat16
        assert (rough.float().log_softmax(-1) - exact).abs().max() < 0.5


# --- errors -----------------------------------------------------------------


def test_ids_out_of_range() -> None:
    model = GPT(GPT2)
    with pytest.raises(ValueError, match=r"token 40 .*0 to 39"):
        model(torch.tensor([[1, 40]]))
    with pytest.raises(ValueError, match="token -1 "):
        model(torch.tensor([[1, -1]]))
    none = torch.zeros(1, 0, dtype=torch.int64)
    for ids in (torch.tensor([1, 2]), none, none.T):
        with pytest.raises(ValueError, match=r"\(B, T\)"):
            model(ids)
    check_ids(torch.zeros(1, 3, dtype=torch.int64, device="meta"), 40)


@pytest.mark.parametrize("config", FORMS)
def test_too_many_tokens(config: GPTConfig) -> None:
    model, ids = make(config), some_ids()
    with pytest.raises(ValueError, match=r"0 to 16 .* context of 16"):
        model(torch.cat([ids, ids[:, :1]], dim=1))
    stores = [Memory() for _ in range(2)]
    model(ids[:, :12], stores)
    with pytest.raises(ValueError, match=r"12 to 16 .* context of 16"):
        model(ids[:, :5], stores)
    assert stores[0].length == 12  # nothing was stored by the refusal


def test_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="33 channels"):
        GPT(replace(GPT2, channels=33))


# --- the loss ---------------------------------------------------------------


def test_loss_of_a_fair_coin() -> None:
    logits = torch.zeros(2, 3, 2)
    targets = torch.tensor([[0, 1, 0], [1, 1, 0]])
    assert next_token_loss(logits, targets).item() == pytest.approx(0.693147)
    total = next_token_loss(logits, targets, reduction="sum").item()
    assert total == pytest.approx(6 * math.log(2))
    each = next_token_loss(logits, targets, reduction="none")
    assert each.shape == (6,)


def test_loss_is_minus_the_log_of_the_target() -> None:
    logits = torch.randn(2, 3, 7)
    targets = torch.randint(7, (2, 3))
    chosen = logits.log_softmax(-1).gather(-1, targets[..., None])
    torch.testing.assert_close(next_token_loss(logits, targets), -chosen.mean())


def test_masked_targets_do_not_count() -> None:
    logits = torch.randn(1, 4, 7)
    targets = torch.tensor([[3, -100, 5, -100]])
    wanted = F.cross_entropy(logits[0, [0, 2]], targets[0, [0, 2]])
    torch.testing.assert_close(next_token_loss(logits, targets), wanted)
    none = torch.full((1, 4), -100)
    assert next_token_loss(logits, none).isnan()
    assert next_token_loss(logits, none, reduction="sum") == 0


def test_ids_and_targets_of_half_the_bytes() -> None:
    model, ids = make(GPT2), some_ids()
    assert torch.equal(model(ids.int()), model(ids))
    loss = next_token_loss(model(ids), ids)
    assert torch.equal(next_token_loss(model(ids), ids.int()), loss)


def test_loss_of_half_precision_logits() -> None:
    logits = torch.randn(2, 3, 1000).bfloat16()
    targets = torch.randint(1000, (2, 3))
    got = next_token_loss(logits, targets)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, next_token_loss(logits.float(), targets))
