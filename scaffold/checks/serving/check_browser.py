"""What a page and its script must do: as Python does, and ask nobody."""

import json
import re
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from py_mini_racer import MiniRacer

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.serving import browser
from scratchlm.serving.quantize import (
    QuantizedMatrix,
    Scheme,
    quantize_model,
)
from scratchlm.text.bpe import pre_tokenize
from scratchlm.text.tokenizer import Tokenizer

from ..expect import close, equal, raises, true
from ..inputs import scattered

TEXT = "Mrs Pell's 12 loaves, naïve and warm; 東京 🌉  two\n"
CUTS = "I'll we'RE so!\u0085! 1234 x_y ½ (yes)\ufeff"


def tokenizer() -> Tokenizer:
    """A few merges, learned from the text."""
    return Tokenizer.train(TEXT, 275)


def gpt2() -> GPTConfig:
    """A small GPT-2, learned positions and all."""
    return gpt2_config(275, context=16, layers=2, heads=2, channels=16)


def llama() -> GPTConfig:
    """A small Llama whose query heads share two heads of keys."""
    return llama_config(275, 16, 2, heads=4, channels=16, kv_heads=2)


def model(config: GPTConfig) -> GPT:
    """Weights that are no longer tiny."""
    return scattered(GPT(config).eval(), 0.42)


def engine(config: GPTConfig) -> MiniRacer:
    """The script and a model, without a page."""
    made = MiniRacer()
    browser.load_into(made, model(config), tokenizer())
    return made


def by_python(config: GPTConfig, ids: list[int], count: int) -> list[int]:
    """The likeliest tokens, by the quantized model in PyTorch."""
    small = quantize_model(model(config), Scheme())
    greedy = SamplingConfig(temperature=0)
    return [int(t) for t in generate(small, torch.tensor([ids]), count, greedy)]


def check_the_weights() -> None:
    """Codes times scales are the weights of the grid."""
    small = quantize_model(model(gpt2()), Scheme())
    made = engine(gpt2())
    made.eval("var told = (name) => Array.from(model.tensors[name])")
    for name in ("token", "blocks.1.mlp.down"):
        matrix = cast(QuantizedMatrix, small.get_submodule(f"{name}.matrix"))
        close(
            made.call("told", f"{name}.weight"),
            matrix.rows().flatten(),
            f"the weights of {name}",
            hint="a scale is bfloat16, the upper half of a float32, and "
            "belongs to a row",
        )


def check_tokens() -> None:
    """Text becomes the same tokens, and comes back."""
    made, ours = engine(gpt2()), tokenizer()
    for text in (TEXT, CUTS):
        ids = made.call("encode", text)
        equal(
            made.call("decode", ids),
            text,
            "a text, there and back",
            hint="a pattern with \\p needs the flag u",
        )
        equal(
            ids,
            ours.encode(text),
            "the tokens",
        )
    made.eval("var words = (text) => text.match(tokenizer.pattern)")
    equal(
        made.call("words", CUTS),
        pre_tokenize(CUTS),
        "the words that a text is cut into",
        hint="\\s is not the same in both languages",
    )
    made = MiniRacer()
    ordered = Tokenizer([(97, 98), (98, 99)])
    browser.load_into(made, model(gpt2()), ordered)
    equal(
        made.call("encode", "abc"),
        [256, 99],
        "the tokens of abc, where ab was learned before bc",
        hint="join the pair that was learned first",
    )


def check_scores() -> None:
    """The scores after a text are those of the quantized model."""
    ids = tokenizer().encode(TEXT)[:10]
    exact = replace(gpt2(), mlp="gelu", qk_norm="layernorm")
    for name, config in (
        ("GPT-2's form", gpt2()),
        ("Llama's form", llama()),
        ("exact GELU and QK-norm", exact),
    ):
        with torch.no_grad():
            small = quantize_model(model(config), Scheme())
            wanted = small(torch.tensor([ids]))[0, -1]
        got = engine(config).call("read", ids)
        true(
            None not in got,
            f"{name}: no score is NaN",
            hint="an index beyond the end of an array gives undefined",
        )
        close(
            got,
            wanted,
            f"{name}: the scores of the next token",
            tol=1e-3,
            hint="compare after one token, then after two: is it the "
            "position, the heads, the nonlinearity?",
        )


def check_the_window() -> None:
    """Beyond the context, too, the same tokens are written."""
    ids = tokenizer().encode(TEXT)[:10]
    for config in (gpt2(), llama()):
        equal(
            engine(config).call("write", ids, 30)[10:],
            by_python(config, ids, 30),
            "30 tokens in a context of 16",
            hint="the older half is dropped, and the rest is read anew at "
            "its new positions",
        )


def check_what_is_remembered() -> None:
    """A text that was changed in the middle is read from there."""
    made, ids = engine(gpt2()), [70, 71, 72, 73, 74, 75]
    first = made.call("read", ids)
    made.call("read", [70, 71, 90, 91])
    close(
        made.call("read", ids),
        first,
        "the scores after a detour",
        hint="only the tokens that are the same may be kept",
    )


def check_temperature() -> None:
    """Large scores give no NaN, and at 0 the likeliest is chosen."""
    made = engine(gpt2())
    made.eval("var soft = (s, t) => softmax(s, t)")
    made.eval("var pick = (s, t, x) => choose(s, t, () => x)")
    got = made.call("soft", [1000, 999, 0], 1)
    true(
        None not in got,
        "no NaN among the probabilities of scores up to 1000",
        hint="take the largest score off before exp",
    )
    close(got, torch.tensor([1000.0, 999, 0]).softmax(0), "a softmax")
    scores = [0.3, 0.0, 0.1]
    got = made.call("soft", scores, 0)
    close(got, torch.tensor([1.0, 0, 0]), "the shares at temperature 0")
    equal(made.call("pick", scores, 0, 0.99), 0, "the choice at temperature 0")
    drawn = [made.call("pick", scores, 1, x) for x in (0.1, 0.5, 0.9)]
    equal(drawn, [0, 1, 2], "the choices of 0.1, 0.5 and 0.9")


def check_the_page() -> None:
    """The page holds its model, its policy, and no way out of either."""
    mine, ours = model(gpt2()), tokenizer()
    ours.special_tokens["</script>"] = ours.vocab_size
    page = browser.model_page(mine, ours, "A page", TEXT)
    run = re.search(r'id="run">(.*?)</script>', page, re.S)
    assert run is not None
    true(
        run[1].endswith("}"),
        "the facts end where their JSON ends",
        hint="a text in it may say </script>: write < as \\u003c",
    )
    equal(json.loads(run[1]), browser.run_facts(mine, ours), "the facts")
    policy = re.search(r'content="(default-src[^"]*)"', page)
    assert policy is not None
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert inside is not None
        true(
            f"{tag}-src {browser.source_hash(inside[1])}" in policy[1],
            f"the policy names the {tag} that is there",
            hint="hash the very text between the tags",
        )
    true("default-src 'none'" in policy[1], "the policy forbids the rest")


def check_what_is_refused() -> None:
    """A form that the script would compute wrongly makes no page."""
    post = replace(gpt2(), norm_order="post")
    learned = replace(gpt2(), qk_norm="rmsnorm")
    for what, config in (("norms behind", post), ("learned norms", learned)):
        raises(
            ValueError,
            partial(browser.model_page, model(config), tokenizer(), "A page"),
            f"a model with {what}",
        )


SCRIPT = 'return (HERE / "browser.js").read_text(encoding="utf-8")'


def in_script(old: str, new: str) -> tuple[str, str]:
    """A bug in the script: where it is read, it is changed."""
    return SCRIPT, f"{SCRIPT}.replace({old!r}, {new!r})"


def check_the_page_is_whole() -> None:
    """Its policy names the script it has; the opening is text, no HTML."""
    page = browser.model_page(
        model(gpt2()), tokenizer(), "Town", opening="a <b> & c"
    )
    true("a &lt;b&gt; &amp; c" in page, "the opening is shown as it is")
    (script,) = re.findall(r"script-src '(sha256-[^']+)'", page)
    true(len(script) == 7 + 44, "the policy allows one script, by its hash")
    equal(
        browser.source_hash("start();"),
        "'sha256-E6jQvrT2ZivWG9GJ4AAEZf4MhI7l3QkLroW4hgvUT4c='",
        "the hash of a script of one line",
    )


BUGS = {
    "scales are shifted by too little": in_script("half << 16", "half << 15"),
    "a weight gets the scale of another row": in_script(
        "scales[Math.floor(i / columns)]", "scales[i % scales.length]"
    ),
    "the pattern has no flag u": in_script('"gu"', '"g"'),
    "white space is that of JavaScript": (
        r'SPACE = r"\p{White_Space}"',
        r'SPACE = r"\s"',
    ),
    "any pair is joined, not the first learned": in_script(
        "if (rank < best)", "if (rank < Infinity)"
    ),
    "positions begin at one": in_script(
        "n = c.channels, t = this.ids.length;",
        "n = c.channels, t = this.ids.length + 1;",
    ),
    "scores are not divided by the root": in_script(
        "/ Math.sqrt(size)));", "));"
    ),
    "shared keys go to the wrong heads": in_script(
        "Math.floor(h * kv / c.heads)", "h % kv"
    ),
    "keys are taken for values": in_script("[kv + k]", "[k]"),
    "pairs turn the other way": in_script(
        "i < half ? -x[i + half] : x[i - half]",
        "i < half ? x[i + half] : -x[i - half]",
    ),
    "GELU bends in the wrong place": in_script("0.044715", "0.44715"),
    "queries are not normalized": in_script(
        'if (c.qk_norm === "layernorm")', "if (false)"
    ),
    "the window slides by one": in_script(
        "Math.ceil(Math.max(0, ids.length - context) / hop) * hop",
        "Math.max(0, ids.length - context)",
    ),
    "what has changed is remembered": in_script(
        "this.ids[same] === seen[same]", "same < this.ids.length"
    ),
    "the largest score is not taken off": in_script(
        "(score - top) / warm", "score / warm"
    ),
    "temperature 0 is taken for 1": in_script(
        "Math.max(temperature, 1e-9)", "temperature || 1"
    ),
    "a text may end the script": (
        r'return json.dumps(data).replace("<", r"\u003c")',
        "return json.dumps(data)",
    ),
    "the policy names the style twice": (
        "script-src {source_hash(script)}",
        "script-src {source_hash(style)}",
    ),
    "every form is taken": ("if value not in known:", "if False:"),
}
