"""Fast and plain agree; rooflines and stopwatches count right."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import generate, next_logits
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import (
    FastStep,
    Roofline,
    fast_model,
    fast_training,
    linear_work,
    matmul_rate,
    measure_roofline,
    median_seconds,
    medians,
    memory_rate,
    take_turns,
    without_module,
)
from scratchlm.model.embeddings import TokenEmbedding
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    count_parameters,
    gpt2_config,
    llama_config,
)
from scratchlm.model.layers import GELUMLP, LayerNorm, RMSNorm
from scratchlm.model.window import use_window
from scratchlm.training.trainer import make_optimizers

FORMS = {
    "gpt2": gpt2_config(50, 24, 3, 4, 32),
    "gpt2 without biases": gpt2_config(50, 24, 3, 4, 32, bias=False),
    "exact gelu": GPTConfig(50, 24, 3, 4, 32, tied=False),
    "llama": llama_config(50, 24, 3, 4, 32),
    "grouped": llama_config(50, 24, 3, 4, 32, kv_heads=2),
    "one head of keys": llama_config(50, 24, 3, 4, 32, kv_heads=1),
    "heads of their own size": GPTConfig(
        50, 24, 3, 4, 32, 2, head_size=6, position="rotary", norm_eps=0.01
    ),
    "fast": fast_model(50, 24),
    "qwen": replace(
        llama_config(50, 24, 3, 4, 32, 2), qk_norm="rmsnorm", qkv_bias=True
    ),
    "post-norm": GPTConfig(50, 24, 3, 4, 32, norm_order="post"),
}


def build(config: GPTConfig) -> GPT:
    """A model whose weights are large enough to tell mistakes."""
    torch.manual_seed(1)
    model = GPT(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_fast_step_scores_as_the_plain_one(name: str, batch: int) -> None:
    model = build(FORMS[name])
    step = FastStep(model)
    ids = torch.randint(50, (batch, 24))
    slow, fast = (KVCache(model.config, batch) for _ in range(2))
    with torch.no_grad():
        for piece in ids.split([5, *[1] * 10, 3, *[1] * 6], dim=1):
            want = next_logits(model, piece, slow)
            got = step(model, piece, fast)
            assert torch.allclose(got, want, atol=1e-4), name
    assert fast.length == slow.length == 24
    for a, b in zip(fast, slow, strict=True):
        assert torch.allclose(a.k, b.k, atol=1e-4)
        assert torch.allclose(a.v, b.v, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "grouped", "fast"])
def test_the_same_text_is_written(name: str) -> None:
    """Far beyond the context, where the window jumps."""
    model = build(FORMS[name])
    prompt = torch.tensor([[1, 2, 3], [4, 5, 6]])
    settings = SamplingConfig(temperature=0.9, top_k=20)
    texts = []
    for step in (next_logits, FastStep(model)):
        chance = torch.Generator().manual_seed(3)
        new = generate(model, prompt, 60, settings, chance, step=step)
        texts.append(torch.stack(list(new)))
    assert torch.equal(*texts)


def test_changed_weights_are_seen() -> None:
    """After a step of training the fast form computes with the new ones."""
    model = build(FORMS["gpt2"])
    step = FastStep(model)
    ids = torch.randint(50, (1, 1))
    with torch.no_grad():
        before = step(model, ids, KVCache(model.config))
    for optimizer in make_optimizers(model, fast_training(10)):
        model(ids).sum().backward()
        optimizer.step()
    with torch.no_grad():
        after = step(model, ids, KVCache(model.config))
        want = next_logits(model, ids, KVCache(model.config))
    assert torch.allclose(after, want, atol=1e-4)
    assert not torch.allclose(before, after, atol=1e-4)


def test_a_model_in_training_is_read_without_dropout() -> None:
    config = gpt2_config(50, 24, 2, 4, 32, dropout=0.5)
    model = build(config).train()
    step, ids = FastStep(model), torch.tensor([[7]])
    scores = [step(model, ids, KVCache(config)) for _ in range(2)]
    assert torch.equal(*scores)
    assert model.training


def test_another_model_is_refused() -> None:
    step = FastStep(build(FORMS["gpt2"]))
    other = build(FORMS["gpt2"])
    with pytest.raises(ValueError, match="another model"):
        step(other, torch.tensor([[1]]), KVCache(other.config))


def test_functions_compute_what_modules_compute() -> None:
    x = torch.randn(5, 32)
    torch.manual_seed(2)
    for module in (
        LayerNorm(32),
        LayerNorm(32, bias=False),
        RMSNorm(32),
        GELUMLP(32),
        GELUMLP(32, bias=False, tanh=True),
    ):
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        assert torch.equal(without_module(module)(x), module(x))


def test_works_take_turns() -> None:
    calls: list[str] = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = take_turns(works, 4)
    assert calls == ["a", "b"] * 5
    assert [len(times[name]) for name in works] == [4, 4]
    assert medians({"a": [3.0, 1.0, 2.0]}) == {"a": 2.0}
    assert median_seconds(lambda: None, 3) >= 0


def test_a_slow_work_is_seen_as_slow() -> None:
    small, large = torch.ones(50, 50), torch.ones(600, 600)
    times = medians(
        take_turns({"s": lambda: small @ small, "l": lambda: large @ large})
    )
    assert times["l"] > 3 * times["s"]


def test_the_roofline_bends_at_the_ridge() -> None:
    roof = Roofline(400.0, 20.0)
    assert roof.ridge == 20
    assert roof.attainable(roof.ridge) == 400
    assert roof.attainable(5) == 100
    assert roof.attainable(1e9) == 400
    assert linear_work(10, 20, 30, 2) == (12_000, 2 * (200 + 600 + 300))


@pytest.mark.always
def test_ceilings_are_measured() -> None:
    roof = measure_roofline()
    for value in (roof.flops, roof.bandwidth, memory_rate(16, 3)):
        assert 1e8 < value < 1e15
    few = matmul_rate(1, 4096, 4096, turns=5)  # 64 MiB, in no cache
    many = matmul_rate(128, 4096, 4096, turns=5)
    assert many > 2 * few  # one row waits for memory


def test_the_roofline_is_that_of_the_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[object, ...]] = []

    def rate(*arguments: object) -> float:
        asked.append(arguments)
        return 4.0

    module = "scratchlm.generation.speed"
    monkeypatch.setattr(module + ".matmul_rate", rate)
    monkeypatch.setattr(module + ".memory_rate", lambda: 2.0)
    assert measure_roofline(torch.bfloat16) == Roofline(4.0, 2.0)
    assert asked == [(1024, 1024, 1024, torch.bfloat16)]


def test_the_fast_recipe_is_what_the_text_says() -> None:
    config = fast_model(65)
    assert (config.context, config.layers, config.heads) == (128, 4, 4)
    assert (config.position, config.channels) == ("rotary", 128)
    assert config.qk_norm == "layernorm"
    assert (config.bias, config.tied, config.fused) == (False,) * 3
    training = fast_training(500)
    assert training.steps == 500
    assert training.evaluate_every == training.checkpoint_every == 500
    assert (training.optimizer, training.schedule) == ("muon", "stable")
    assert (training.learning_rate, training.warmup) == (5e-3, 20)
    assert (training.weight_decay, training.precision) == (0, "auto")
    assert fast_training(5, "float32").precision == "float32"


def test_a_fast_step_records_no_gradients() -> None:
    model = build(FORMS["fast"])
    scores = FastStep(model)(model, torch.tensor([[7]]), KVCache(model.config))
    assert torch.is_grad_enabled()
    assert not scores.requires_grad


def test_post_norm_and_training_are_left_to_the_plain_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, ...]] = []

    def plain(model: GPT, ids: torch.Tensor, cache: KVCache) -> torch.Tensor:
        calls.append(tuple(ids.shape))
        return torch.zeros(1, 50)

    monkeypatch.setattr("scratchlm.generation.speed.next_logits", plain)
    usual, last = build(FORMS["gpt2"]), build(FORMS["post-norm"])
    one, two = torch.tensor([[1]]), torch.tensor([[1, 2]])
    FastStep(usual)(usual, one, KVCache(usual.config))
    assert calls == []
    FastStep(last)(last, one, KVCache(last.config))
    assert calls == [(1, 1)]
    FastStep(usual)(usual, one)
    FastStep(usual)(usual, two, KVCache(usual.config))
    FastStep(usual)(usual.train(), one, KVCache(usual.config))
    assert calls == [(1, 1), (1, 1), (1, 2), (1, 1)]


def test_the_median_is_not_moved_by_one_slow_turn() -> None:
    assert medians({"a": [1.0, 100.0, 3.0], "b": [4.0, 2.0]}) == {
        "a": 3.0,
        "b": 3.0,
    }


def test_the_fast_model_is_no_larger_than_its_peer() -> None:
    assert count_parameters(GPT(fast_model(65))) <= 809_856


def test_scores_of_normalized_queries_are_bounded() -> None:
    """No score exceeds √D, whatever the weights are."""
    config = fast_model(50, 24)
    attention = GPT(config).blocks[0].attention
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=30)
    q, k, _ = attention.split(torch.randn(2, 24, 128), 0)
    scores = q @ k.mT / math.sqrt(attention.head_size)
    assert scores.abs().max() <= math.sqrt(attention.head_size) + 1e-3
    attention.qk_norm = False
    q, k, _ = attention.split(torch.randn(2, 24, 128), 0)
    assert (q @ k.mT).abs().max() > 1000


def test_the_iteration_of_muon_runs_in_bfloat16() -> None:
    """Where training does; the weights stay float32 and move alike."""
    moved = []
    for precision in ("float32", "bfloat16"):
        model = build(FORMS["fast"])
        before = model.blocks[0].mlp.up.weight.clone()
        optimizers = make_optimizers(model, fast_training(10, precision))
        model(torch.arange(20)[None]).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        weight = model.blocks[0].mlp.up.weight
        assert weight.dtype == torch.float32
        moved.append((weight - before).flatten())
    likeness = torch.cosine_similarity(*moved, dim=0)
    assert 0.9 < likeness < 1 - 1e-6


@torch.no_grad()
def test_a_window_is_looked_through_by_a_fast_step_too() -> None:
    model = use_window(build(FORMS["llama"]), 4)
    slow, fast = KVCache(model.config), KVCache(model.config)
    step, ids = FastStep(model), torch.randint(50, (1, 20))
    for piece in ids.split([12, *[1] * 8], dim=1):
        want = next_logits(model, piece, slow)
        got = step(model, piece, fast)
        assert torch.allclose(got, want, atol=1e-4)


class Twice(nn.Linear):
    """A matrix of another kind, by its type alone."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class TwiceNorm(LayerNorm):
    """A norm of another kind."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class TwiceMLP(GELUMLP):
    """A feed-forward layer of another kind."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class TwiceToken(TokenEmbedding):
    """A table of another kind."""

    def forward(self, ids: Tensor) -> Tensor:
        return 2 * super().forward(ids)


@pytest.mark.parametrize(
    "layer",
    [Twice(8, 8), TwiceNorm(8), TwiceMLP(8, 16), TwiceToken(9, 8)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_of_another_kind_stays_as_it_is(layer: nn.Module) -> None:
    assert without_module(layer) is layer
