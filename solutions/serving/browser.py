"""Solutions to the exercises on the model in a page.

Those in JavaScript are changes to the page's script: functions that take its
text and return another, and fail where it does not hold what they change.
"""

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

from safetensors.torch import save

from scratchlm.model.gpt import GPT
from scratchlm.serving.browser import source_hash
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.training.checkpoint import unique_tensors


def page_bytes(weights: int, bytes_per_weight: int = 1) -> int:
    """What the weights take in a page: base64 makes four signs of three bytes.

    >>> page_bytes(10_000_000), page_bytes(10_000_000, 4)
    (13333336, 53333336)
    """
    return -(-weights * bytes_per_weight // 3) * 4


SURPRISES = """
const surprises = (ids) => ids.slice(1).map((id, i) =>
  -Math.log2(softmax(read(ids.slice(0, i + 1)))[id]));
"""


def surprises(engine: Any, ids: list[int]) -> list[float]:
    """Bits that the engine's model needs for each token but the first.

    `engine` is one that `load_into` has filled.
    """
    engine.eval(SURPRISES)
    return engine.call("surprises", ids)


# --- whom a page asks --------------------------------------------------------


FETCHED = {"src", "action", "data", "poster"}  # attributes with an address


class Asking(HTMLParser):
    """Gathers what a page fetches, and what it runs."""

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__()
        self.found: list[str] = []
        self.policy = ""
        self.script: str | None = None  # that is being read

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        """Sources and links, handlers, and where a script begins."""
        named = dict(attrs)
        for name, value in attrs:
            if name.startswith("on"):
                self.found.append(f"{tag} has code in {name}")
            fetched = name in FETCHED or (tag == "link" and name == "href")
            if fetched and urlsplit(value or "").scheme != "data":
                self.found.append(f"{tag} asks for {value}")
        if named.get("http-equiv", "") == "Content-Security-Policy":
            self.policy = named.get("content") or ""
        kind = named.get("type") or "text/javascript"
        runs = "javascript" in kind or kind == "module"
        if tag == "script" and runs and "src" not in named:
            self.script = ""

    def handle_data(self, data: str) -> None:
        """The text of a script."""
        if self.script is not None:
            self.script += data

    def handle_endtag(self, tag: str) -> None:
        """The end of a script, whose hash the policy has to name."""
        if tag == "script" and self.script is not None:
            if source_hash(self.script) not in self.policy:
                self.found.append("a script that the policy does not name")
            self.script = None


def asks_outside(html: str) -> list[str]:
    """What a page would fetch, or run without its policy's leave.

    >>> asks_outside('<img src="https://example.com/a.png" onclick="f()">')
    ['img asks for https://example.com/a.png', 'img has code in onclick']
    """
    page = Asking()
    page.feed(html)
    page.close()
    return page.found


# --- changes to the script ---------------------------------------------------


def changed(script: str, *changes: tuple[str, str]) -> str:
    """The script with each text replaced, each of which it has once."""
    for old, new in changes:
        if script.count(old) != 1:
            raise ValueError(f"the script has {old!r} not once")
        script = script.replace(old, new)
    return script


MULTIPLIED = """Float32Array.from(
        data, (code, i) => code * scales[Math.floor(i / columns)]);"""
OF_FLOATS = """function product(matrix, x, bias) {
  const out = new Float32Array(matrix.length / x.length);"""
OF_CODES = """function product({ data: matrix, scales }, x, bias) {
  const out = new Float32Array(scales.length);"""
ROW = 'let x = w["token.weight"].slice(id * n, (id + 1) * n);'
ROW_OF_CODES = """const { data, scales } = w["token.weight"];
    const row = data.subarray(id * n, (id + 1) * n);
    let x = Float32Array.from(row, (code) => code * scales[id]);"""


def keep_codes(script: str) -> str:
    """Matrices stay codes of one byte; a scale ends the sum of its row."""
    return changed(
        script,
        (MULTIPLIED, "{ data, scales };"),
        (OF_FLOATS, OF_CODES),
        ("let sum = bias ? bias[row] : 0;", "let sum = 0;"),
        ("= sum;", "= sum * scales[row] + (bias ? bias[row] : 0);"),
        (ROW, ROW_OF_CODES),
    )


ATTEND = "x = add(x, this.attention(i, this.norm(`${at}.norm1`, x)));"
THINK = (
    "x = add(x, this.feedForward(`${at}.mlp`, this.norm(`${at}.norm2`, x)));"
)
ATTEND_AROUND = """x = this.around(
        `${at}.norm1`, x, (y) => this.attention(i, y));"""
THINK_AROUND = """x = this.around(
        `${at}.norm2`, x, (y) => this.feedForward(`${at}.mlp`, y));"""
LAST = 'this.norm("norm", x));'
LAST_UNLESS = 'c.norm_order === "post" ? x : this.norm("norm", x));'
AROUND = """  /** A part of a block, added to the stream, with its norm. */
  around(name, x, part) {
    const order = this.form.norm_order;
    if (order === "post") return this.norm(name, add(x, part(x)));
    if (order === "branch") return add(x, this.norm(name, part(x)));
    return add(x, part(this.norm(name, x)));
  }

"""
BEFORE = "  /** The last token looks at all"


def any_order(script: str) -> str:
    """Norms before the parts, behind each sum, or on what a part adds."""
    return changed(
        script,
        (ATTEND, ATTEND_AROUND),
        (THINK, THINK_AROUND),
        (LAST, LAST_UNLESS),
        (BEFORE, AROUND + BEFORE),
    )


def packed_nibbles(model: GPT, group: int = 32) -> bytes:
    """A safetensors file of codes of four bits, two in a byte.

    A group of neighbors in a row shares a scale.
    """
    small = quantize_model(model, Scheme(bits=4, group=group))
    tensors = unique_tensors(small)
    return save({k: v.detach().contiguous() for k, v in tensors.items()})


PAIRS = """  U8: (buffer) => {
    const pairs = new Uint8Array(buffer);
    return Int8Array.from({ length: 2 * pairs.length },
      (_, i) => ((pairs[i >> 1] >> (i % 2 * 4)) & 15) - 8);
  },
"""


def read_nibbles(script: str) -> str:
    """`readTensors` for codes of four bits, whatever their groups are."""
    return changed(script, ("  F32: (buffer)", f"{PAIRS}  F32: (buffer)"))
