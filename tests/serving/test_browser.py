"""The page's script, in V8: equal to Python, token by token."""

import atexit
import base64
import gc
import hashlib
import json
import math
import re
import threading
import unicodedata
import weakref
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from py_mini_racer import JSEvalException, MiniRacer
from torch import nn

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig, probabilities
from scratchlm.generation.speed import fast_model
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    count_parameters,
    gpt2_config,
    llama_config,
)
from scratchlm.model.heads import attention_maps
from scratchlm.serving.browser import (
    SCRIPT_PATTERNS,
    check_form,
    load_into,
    model_page,
    packed_weights,
    read_script,
    run_facts,
)
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.text.bpe import GPT2_PATTERN, PATTERN, pre_tokenize
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.tokenizer import Tokenizer

SIZES: dict[str, Any] = {"vocab_size": 300, "context": 16, "layers": 2}
SIZES |= {"heads": 4, "channels": 24}
FORMS = {
    "gpt2": gpt2_config(**SIZES),
    "gpt2 without bias, untied": gpt2_config(**SIZES, bias=False, tied=False),
    "exact gelu": GPTConfig(**SIZES),
    "llama": llama_config(**SIZES),
    "llama, shared keys, tied": llama_config(**SIZES, kv_heads=2, tied=True),
    "wide heads, one of keys": replace(
        llama_config(**SIZES, kv_heads=1), head_size=10, hidden=33
    ),
    "another base and epsilon": replace(
        llama_config(**SIZES), rope_base=500.0, norm_eps=1e-2
    ),
    "biases of queries alone": replace(llama_config(**SIZES), qkv_bias=True),
    "fast": replace(fast_model(300), **SIZES),
}
TEXT = "The baker's loaves; the smith's 12 nails. The old bridge, so cold!\n\n"
TEXT += (
    "It’s naïve: 3½ cafés, 東京 and 🌉🌉 (two bridges)…  “Yes”\tshe'D said.\n"
)
ENDS = "<|endoftext|>"


def trained(config: GPTConfig) -> GPT:
    """A model with weights that look trained."""
    torch.manual_seed(0)
    model = GPT(config).eval()
    for name, weights in model.named_parameters():
        wide = 1.0 if weights.ndim == 1 else weights.shape[1] ** -0.5
        nn.init.normal_(weights, mean=float("norm" in name), std=wide)
    model.tie()
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT * 3, 300)


def engine_of(model: GPT, tokenizer: Any) -> MiniRacer:
    engine = MiniRacer()
    load_into(engine, model, tokenizer)
    return engine


@pytest.fixture(scope="module")
def engine(tokenizer: Tokenizer) -> MiniRacer:
    return engine_of(trained(FORMS["gpt2"]), tokenizer)


def test_an_engine_is_closed_before_python_ends(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is left open can wait forever for a Python that has ended."""
    at_the_end: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_the_end.append)
    engine = engine_of(trained(FORMS["gpt2"]), tokenizer)
    assert engine.eval("1 + 1") == 2
    for close in at_the_end:
        close()
    with pytest.raises(AssertionError):
        engine.eval("1 + 1")


def test_an_engine_that_nobody_has_is_closed(tokenizer: Tokenizer) -> None:
    """It has a thread and three open files; many of them would be too many."""
    gc.collect()  # of other tests
    before = threading.active_count()
    engine = engine_of(trained(FORMS["gpt2"]), tokenizer)
    assert threading.active_count() > before
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    assert threading.active_count() == before


# --- the model ---------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_scores_and_writing_are_those_of_python(
    name: str, tokenizer: Tokenizer
) -> None:
    model = trained(FORMS[name])
    small = quantize_model(model, Scheme())
    engine = engine_of(model, tokenizer)
    ids = tokenizer.encode(TEXT)[:12]
    for length in (1, 7, 12):
        with torch.no_grad():
            wanted = small(torch.tensor([ids[:length]]))[0, -1]
        got = torch.tensor(engine.call("read", ids[:length]))
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    greedy = SamplingConfig(temperature=0)
    new = generate(small, torch.tensor([ids]), 40, greedy)  # two windows on
    written = engine.call("write", ids, 40)
    assert written[:12] == ids
    assert written[12:] == [int(step[0]) for step in new]


def test_what_is_remembered_changes_nothing(engine: MiniRacer) -> None:
    ids = list(range(40, 52))
    first = engine.call("read", ids)
    engine.call("read", [*ids[:5], 7, 8])  # another end
    engine.call("read", [9])
    assert engine.call("read", ids) == first
    assert engine.call("read", ids) == first


def test_attention_is_that_of_python(tokenizer: Tokenizer) -> None:
    model = trained(FORMS["llama, shared keys, tied"])
    engine = engine_of(model, tokenizer)
    ids = tokenizer.encode(TEXT)[:10]
    engine.call("read", ids)
    got = json.loads(engine.eval("JSON.stringify(model.weights)"))
    maps = attention_maps(quantize_model(model, Scheme()), torch.tensor([ids]))
    wanted = torch.stack([layer[0, :, -1] for layer in maps])  # (L, H, T)
    torch.testing.assert_close(torch.tensor(got), wanted, atol=1e-5, rtol=1e-4)


def test_the_error_function(engine: MiniRacer) -> None:
    engine.eval("const ask = (x) => erf(x)")
    for x in (-4.0, -1.0, -0.1, 0.0, 0.3, 2.5):
        assert engine.call("ask", x) == pytest.approx(math.erf(x), abs=2e-7)


@given(
    st.lists(st.floats(-200, 200, width=32), min_size=2, max_size=9),
    st.sampled_from([0.05, 0.7, 1.0, 2.0]),
)
@settings(max_examples=30, deadline=None)
def test_temperature(
    engine: MiniRacer, scores: list[float], heat: float
) -> None:
    engine.eval("var soft = (s, t) => softmax(s, t)")
    got = torch.tensor(engine.call("soft", scores, heat)).float()
    wanted = probabilities(torch.tensor(scores), SamplingConfig(heat))
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)


def test_choices(engine: MiniRacer) -> None:
    engine.eval("var pick = (s, t, x) => choose(s, t, () => x)")
    scores = [math.log(p) for p in (0.2, 0.5, 0.3)]
    drawn = [engine.call("pick", scores, 1, x) for x in (0.1, 0.3, 0.69, 0.71)]
    assert drawn == [0, 1, 1, 2]
    assert engine.call("pick", scores, 0, 0.99) == 1
    assert engine.call("pick", [1, 2, 2, 2, 0], 0, 0.99) == 1  # the first
    assert engine.call("pick", scores, 1, 1.1) == 1  # a sum rounded


def test_any_number_of_scores(engine: MiniRacer) -> None:
    count = engine.eval("softmax(new Float32Array(200000), 1).length")
    assert count == 200_000


# --- the tokenizer -----------------------------------------------------------


def test_tokens_are_those_of_python(
    engine: MiniRacer, tokenizer: Tokenizer
) -> None:
    for text in (TEXT, "", " ", "a", "🌉", "'ſ 's", "\ufeff\x85 x", ENDS):
        ids = tokenizer.encode(text)
        assert engine.call("encode", text) == ids
        assert engine.call("decode", ids) == text


signs = st.characters(exclude_categories=["Cs", "Cn"], max_codepoint=0xFFFF)
odd = st.sampled_from(" \t\n\r\x85\u2028\ufeff'ſsSdlLvVeErRtmM’½²٣12aé東🌉_.-")


@given(st.text(st.one_of(odd, signs), max_size=30))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("pattern", [PATTERN, GPT2_PATTERN])
def test_words_are_cut_as_in_python(
    engine: MiniRacer, pattern: str, text: str
) -> None:
    engine.eval('var cut = (t, p) => t.match(new RegExp(p, "gu")) ?? []')
    words = engine.call("cut", text, SCRIPT_PATTERNS[pattern])
    assert words == pre_tokenize(text, pattern)


@pytest.mark.parametrize("name", ["L", "N", "White_Space"])
def test_classes_of_signs_are_the_same(engine: MiniRacer, name: str) -> None:
    engine.eval(
        "var members = (name) => {"
        r"  const one = new RegExp(`\\p{${name}}`, 'u');"
        "  const all = Array.from({length: 65536}, (_, i) => i);"
        "  return all.filter((i) => one.test(String.fromCodePoint(i)));"
        "}"
    )
    one = regex.compile(rf"\p{{{name}}}")
    ours = {i for i in range(65536) if one.match(chr(i))}
    newer = ours ^ set(engine.call("members", name))
    assert all(unicodedata.category(chr(i)) == "Cn" for i in newer)


def test_characters(tokenizer: Tokenizer) -> None:
    letters = CharTokenizer.train(TEXT)
    config = replace(FORMS["gpt2"], vocab_size=letters.vocab_size)
    engine = engine_of(trained(config), letters)
    assert engine.call("encode", TEXT) == letters.encode(TEXT)
    assert engine.call("decode", letters.encode("bridges 🌉")) == "bridges 🌉"
    with pytest.raises(JSEvalException, match="has never seen “Ж”"):
        engine.call("encode", "Жук")


# --- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm_order", "post"),
        ("qk_norm", "rmsnorm"),
        ("rope_factor", 8.0),
    ],
)
def test_forms_that_are_not_written(field: str, value: Any) -> None:
    config = replace(FORMS["llama"], **{field: value})
    with pytest.raises(ValueError, match=f"{field}={value!r} is not written"):
        check_form(config)


def test_a_pattern_that_is_not_translated(tokenizer: Tokenizer) -> None:
    other = Tokenizer(tokenizer.merges, pattern=r"\w+")
    with pytest.raises(ValueError, match="is not written in JavaScript"):
        run_facts(trained(FORMS["gpt2"]), other)


def test_a_type_that_the_script_does_not_know(engine: MiniRacer) -> None:
    head = b'{"x":{"dtype":"F64","shape":[0],"data_offsets":[0,0]}}'
    data = list(len(head).to_bytes(8, "little") + head)
    engine.eval("var open = (x) => Object.keys(readTensors(new Uint8Array(x)))")
    with pytest.raises(JSEvalException, match="not a function"):
        engine.call("open", data)


# --- the page ----------------------------------------------------------------


class Elements(HTMLParser):
    """What the page is made of: tags, attributes, and texts by their tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.inside = ""
        self.feed(text)

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.attributes += attrs
        self.inside = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self.inside] = self.texts.get(self.inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def test_the_page_is_whole(tokenizer: Tokenizer) -> None:
    model = trained(FORMS["gpt2"])
    words = ("A & B </script>", "if 1 < 2 </textarea>")
    text = model_page(model, tokenizer, *words)
    assert text == model_page(model, tokenizer, *words)  # the same bytes
    found = Elements(text)
    assert (found.texts["h1"], found.texts["text"]) == words
    assert json.loads(found.texts["run"]) == run_facts(model, tokenizer)
    assert ENDS in json.loads(found.texts["run"])["tokenizer"]["special_tokens"]
    weights = base64.b64decode(found.texts["weights"])
    assert weights == packed_weights(model)
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert "style" not in dict(found.attributes)
    assert text.count("<option") == 8
    assert f"model of {count_parameters(model):,} numbers" in text


def test_the_policy_allows_what_is_there(tokenizer: Tokenizer) -> None:
    text = model_page(trained(FORMS["gpt2"]), tokenizer, "A page")
    policy = next(
        value or ""
        for name, value in Elements(text).attributes
        if name == "content"
    )
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert inside is not None
        digest = hashlib.sha256(inside[1].encode()).digest()
        digest64 = base64.b64encode(digest).decode()
        assert f"{tag}-src 'sha256-{digest64}'" in policy


def test_three_megabytes_hold_the_models_of_the_book() -> None:
    sizes = {"vocab_size": 1024, "context": 128, "layers": 4, "heads": 4}
    for config in (
        gpt2_config(**sizes, channels=128),
        llama_config(**sizes, channels=128),
        fast_model(1024),
    ):
        assert 4 / 3 * len(packed_weights(GPT(config))) < 2.5e6


def test_the_script_can_be_printed() -> None:
    lines = read_script().splitlines()
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 80
    assert "</script" not in read_script()
