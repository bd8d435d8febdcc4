r"""A trained model as one page: an HTML file that needs nothing else.

Its weights are codes of 8 bits with a scale for each row, as `quantize` makes
them, in a safetensors file that is written into the page as text. Beside them
stand the form of the model, its tokenizer, and the script of
`browser.js`, which computes what `scratchlm.model.plain` computes. A policy
in the page forbids it to fetch anything or to run any script but its own
(Content Security Policy, West and Sartori, W3C).

Left out: norms after the parts, learned norms of queries and keys, slowed
rotation, patterns of others; what is left out is refused by name.
"""

import atexit
import base64
import hashlib
import html
import json
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any
from weakref import WeakMethod

from safetensors.torch import save

from scratchlm.model.gpt import GPT, GPTConfig, count_parameters
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.text.bpe import GPT2_PATTERN, PATTERN
from scratchlm.text.prepare import AnyTokenizer
from scratchlm.training.checkpoint import unique_tensors

HERE = Path(__file__).parent
KNOWN = {
    "norm": ("layernorm", "rmsnorm"),
    "mlp": ("gelu", "gelu_tanh", "swiglu"),
    "position": ("learned", "rotary"),
    "norm_order": ("pre",),
    "qk_norm": ("none", "layernorm"),
    "rope_factor": (1.0,),
}  # the forms that the script computes

# The same patterns for JavaScript, which lacks (?i:…) in places, and for
# which white space is not quite what it is for Unicode. U+017F is the long s.
SPACE = r"\p{White_Space}"
SCRIPT_PATTERNS = {
    PATTERN: (
        r"'(?:[sdmtSDMT\u017f]|[lL][lL]|[vV][eE]|[rR][eE])"
        r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        rf"| ?[^{SPACE}\p{{L}}\p{{N}}]+[\r\n]*|{SPACE}*[\r\n]+"
        rf"|{SPACE}+(?!\P{{White_Space}})|{SPACE}+"
    ),
    GPT2_PATTERN: (
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+"
        rf"| ?[^{SPACE}\p{{L}}\p{{N}}]+"
        rf"|{SPACE}+(?!\P{{White_Space}})|{SPACE}+"
    ),
}


def check_form(config: GPTConfig) -> None:
    """Raise ValueError for a form that the script does not compute."""
    for field, known in KNOWN.items():
        value = getattr(config, field)
        if value not in known:
            raise ValueError(
                f"{field}={value!r} is not written in the page's script, "
                f"which computes {', '.join(map(str, known))}"
            )


def run_facts(model: GPT, tokenizer: AnyTokenizer) -> dict[str, Any]:
    """What the script has to know besides the weights, ready for JSON.

    The form of the model and what tokenizer.json says, with its pattern in
    JavaScript. ValueError for what the script cannot compute.
    """
    check_form(model.config)
    facts: dict[str, Any] = json.loads(tokenizer.to_json())
    pattern = facts.get("pattern", PATTERN)
    if pattern not in SCRIPT_PATTERNS:
        raise ValueError(
            f"the pattern {pattern!r} is not written in JavaScript here; "
            "those of GPT-2 and of this book are"
        )
    facts["pattern"] = SCRIPT_PATTERNS[pattern]
    return {"model": asdict(model.config), "tokenizer": facts}


def packed_weights(model: GPT) -> bytes:
    """The model as a safetensors file of codes and scales, in memory.

    About a byte for each weight; norms, biases and positions take four.
    """
    small = quantize_model(model, Scheme(bits=8, group="row"))
    tensors = unique_tensors(small)
    return save({k: v.detach().contiguous() for k, v in tensors.items()})


def inline_json(data: object) -> str:
    """JSON that can stand in a script element, whatever its texts say.

    >>> inline_json("</script>")
    '"\\\\u003c/script>"'
    """
    return json.dumps(data).replace("<", r"\u003c")


def source_hash(text: str) -> str:
    """The name by which a policy allows this text and no other.

    >>> source_hash("start();")
    "'sha256-E6jQvrT2ZivWG9GJ4AAEZf4MhI7l3QkLroW4hgvUT4c='"
    """
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def content_policy(style: str, script: str) -> str:
    """The policy of a page: these two texts, and no request to anywhere."""
    return (
        f"default-src 'none'; script-src {source_hash(script)}; "
        f"style-src {source_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def read_script() -> str:
    """The script, which defines everything and starts nothing."""
    return (HERE / "browser.js").read_text(encoding="utf-8")


def model_page(
    model: GPT, tokenizer: AnyTokenizer, title: str, opening: str = ""
) -> str:
    """A whole HTML page with the model in it; the same for the same model.

    `opening` is the text that is shown first. Raises ValueError for a
    model or a tokenizer that the script cannot compute.
    """
    style = (HERE / "browser.css").read_text(encoding="utf-8")
    script = f"{read_script()}start();\n"
    heads = [
        f'<option value="{layer},{head}">layer {layer + 1}, head {head + 1}'
        "</option>"
        for layer in range(model.config.layers)
        for head in range(model.config.heads)
    ]
    template = Template((HERE / "browser.html").read_text(encoding="utf-8"))
    return template.substitute(
        policy=content_policy(style, script),
        title=html.escape(title),
        style=style,
        weights=f"{count_parameters(model):,}",
        opening=html.escape(opening),
        heads="".join(heads),
        run=inline_json(run_facts(model, tokenizer)),
        base64=base64.b64encode(packed_weights(model)).decode(),
        script=script,
    )


# --- without a page ----------------------------------------------------------

# What a browser adds to the language, and what we want to call.
STAND_INS = """
class TextEncoder {
  encode(text) {
    const bytes = unescape(encodeURIComponent(text));
    return Uint8Array.from(bytes, (c) => c.charCodeAt(0));
  }
}
class TextDecoder {
  decode(bytes) {
    const text = escape(String.fromCharCode(...bytes));
    try { return decodeURIComponent(text); } catch { return "\\ufffd"; }
  }
}
"""
CALLS = """
const model = new Model(run.model, readTensors(new Uint8Array(memory)));
const tokenizer = new Tokenizer(run.tokenizer);
const encode = (text) => tokenizer.encode(text);
const decode = (ids) => tokenizer.decode(ids);
const read = (ids) => Array.from(model.read(ids));
function write(ids, count) {
  for (let i = 0; i < count; i++) ids.push(choose(model.read(ids), 0));
  return ids;
}
"""


def load_into(
    engine: Any, model: GPT, tokenizer: AnyTokenizer, script: str = ""
) -> None:
    """Define the script, or another form of it, and a model in an engine.

    `engine` is a `MiniRacer`: V8, the engine of Chromium, in our process.
    Its `call` then knows encode, decode, read (all scores after a text) and
    write (a text, and the likeliest tokens after it). One that is still there
    when Python ends is closed: V8 would wait forever for a Python that is gone.
    """
    end = WeakMethod(engine.close)  # which keeps no engine for the end
    atexit.register(lambda: (close := end()) and close())
    engine.eval(STAND_INS + (script or read_script()))
    data = packed_weights(model)
    shared = f"const memory = new SharedArrayBuffer({len(data)}); memory"
    engine.eval(shared)[:] = data
    facts = run_facts(model, tokenizer)
    engine.eval(f"const run = {inline_json(facts)};{CALLS}")
