"""A reader's own code, of any name, stands in the place of the book's."""

import json
from pathlib import Path

import pytest

from check.commands import main
from check.places import Site

SINGLE = """\
import math, torch
from torch import nn

class MyAttention(nn.Module):
    def __init__(self, channels, head_size):
        super().__init__()
        {layers}
    def forward(self, x):
        q, k, v = {called}
        s = q @ k.mT / math.sqrt(q.shape[-1])
        s = s.masked_fill(torch.ones_like(s).triu(1).bool(), -math.inf)
        return {result}

def fn(q, k, causal=True):
    s = q @ k.mT / q.shape[-1] ** {power}
    if causal:
        later = torch.ones(s.shape[-2:]).triu(1 + s.shape[-1] - s.shape[-2])
        s = s.masked_fill(later.bool(), -math.inf)
    return s.softmax(-1)
"""
APART = {
    "layers": "self.W_q, self.W_k, self.W_v = (nn.Linear(channels, "
    "head_size, bias=False) for _ in range(3))",
    "called": "self.W_q(x), self.W_k(x), self.W_v(x)",
    "result": "s.softmax(-1) @ v",
    "power": "0.5",
}
FUSED = APART | {
    "layers": "self.qkv = nn.Linear(channels, 3 * head_size, bias=False)",
    "called": "self.qkv(x).chunk(3, -1)",
}
NAMES = '{"query": "W_q", "key": "W_k", "value": "W_v"}'
ROWS = '{"query": "qkv[0/3]", "key": "qkv[1/3]", "value": "qkv[2/3]"}'
ADAPTER = """\
from my_model import MyAttention
SingleHeadAttention = MyAttention
weights = {}
"""


def write(folder: Path, model: dict[str, str], weights: str = NAMES) -> Path:
    """A model and its adapter; returns the adapter."""
    text = SINGLE.format(**model)
    (folder / "my_model.py").write_text(text, encoding="utf-8")
    adapter = folder / "adapter.py"
    adapter.write_text(ADAPTER.format(weights), encoding="utf-8")
    assert len(adapter.read_text().splitlines()) <= 5
    return adapter


@pytest.mark.parametrize("form", [(APART, NAMES), (FUSED, ROWS)])
def test_layers_of_other_names_pass(
    form: tuple[dict[str, str], str], site: Site, tmp_path: Path
) -> None:
    adapter = write(tmp_path, *form)
    assert main(["attention", "--mine", str(adapter)], site) == 0
    assert not site.progress.exists()  # the book's module was not checked


def test_a_mistake_in_them_is_named(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = APART | {"called": "self.W_k(x), self.W_q(x), self.W_v(x)"}
    adapter = write(tmp_path, swapped)
    assert main(["attention", "--mine", str(adapter)], site) == 1
    out = capsys.readouterr().out
    assert "query and key are exchanged" in out
    assert "1 topic: 1 fail" in out
    assert "adapter.py" in out


@pytest.mark.parametrize(("power", "code"), [("0.5", 0), ("0", 1)])
def test_a_function_of_another_name(
    power: str,
    code: int,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path, APART | {"power": power})
    given = f"{tmp_path / 'my_model.py'}:fn as attention_weights"
    assert main(["attention", "--mine", given], site) == code
    assert ("the scale is missing" in capsys.readouterr().out) is bool(code)


def test_what_the_check_cannot_ask_is_told(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, APART)
    given = f"{tmp_path / 'my_model.py'}:MyAttention"
    assert main(["attention", "--mine", given], site) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "the check asks for query, and your code has none" in words
    assert 'weights = {"query": …}' in words


def test_names_that_are_not_there_are_told(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, APART)
    for name, said in (("gone", "has no gone"), ("fn as gone", "no gone")):
        given = f"{tmp_path / 'my_model.py'}:{name}"
        assert main(["attention", "--mine", given], site) == 1
        assert said in capsys.readouterr().out


HEADS = """\
import torch
from torch import nn
from torch.nn import functional as F

class Attn(nn.Module):
    def __init__(self, channels, n_head, n_kv=None, dropout=0.0, bias=True,
                 rotary=None, reference=False):
        super().__init__()
        n_kv = n_kv or n_head
        if channels % n_head or n_head % n_kv:
            raise ValueError("heads")
        self.d, self.rotary, self.g = channels // n_head, rotary, n_head // n_kv
        self.W_q = nn.Linear(channels, n_head * self.d, bias=bias)
        self.W_k = nn.Linear(channels, n_kv * self.d, bias=bias)
        self.W_v = nn.Linear(channels, n_kv * self.d, bias=bias)
        self.W_o = nn.Linear(channels, channels, bias=bias)

    def cut(self, x, layer):
        return layer(x).unflatten(2, (-1, self.d)).transpose(1, 2)

    def forward(self, x, store=None):
        q, k, v = (self.cut(x, w) for w in (self.W_q, self.W_k, self.W_v))
        start = store.length if store else 0
        if self.rotary is not None:
            q = self.rotary.apply_rotary(q, start)
            k = self.rotary.apply_rotary(k, start)
        if store is not None:
            k, v = store.append(k, v)
        k, v = (x.repeat_interleave(self.g, 1) for x in (k, v))
        seen = torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2])
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.bool())
        return self.W_o(y.transpose(1, 2).flatten(2))
"""
HEADS_ADAPTER = """\
from my_heads import Attn
MultiHeadAttention = Attn
weights = {"qkv": "W_q + W_k + W_v", "out": "W_o"}
"""


@pytest.mark.parametrize("code", [0, 1])
def test_heads_whose_projections_stand_apart(
    code: int,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The book has one layer for queries, keys and values; this has three."""
    text = HEADS.replace("return self.W_o", "return ") if code else HEADS
    (tmp_path / "my_heads.py").write_text(text, encoding="utf-8")
    adapter = tmp_path / "adapter_heads.py"
    adapter.write_text(HEADS_ADAPTER, encoding="utf-8")
    assert main(["heads", "--mine", str(adapter)], site) == code
    out = " ".join(capsys.readouterr().out.split())
    assert ("the output projection is forgotten" in out) is bool(code)


PIECES = """\
def glue(word, pair, new):
    found = []
    for token in word:
        if found and (found[-1], token) == tuple(pair):
            found[-1] = new
        else:
            found.append(token)
    return found
"""
FILTER = """\
import torch
def nucleus(logits, p):
    shares, ids = logits.softmax(-1).sort(descending=True)
    gone = shares.cumsum(-1) - shares >= max(p, 1e-30)
    gone = torch.zeros_like(gone).scatter(-1, ids, gone)
    return logits.masked_fill(gone, {score})
"""


@pytest.mark.parametrize(
    ("topic", "text", "given", "cause"),
    [
        ("bpe", PIECES, "glue as merge_word", ""),
        ("sampling", FILTER.format(score="-1e9"), "nucleus as keep_top_p", ""),
        (
            "sampling",
            FILTER.format(score="0.0"),
            "nucleus as keep_top_p",
            "what is ruled out gets the score 0",
        ),
    ],
)
def test_functions_of_other_topics(
    topic: str,
    text: str,
    given: str,
    cause: str,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    code = main([topic, "--mine", f"{path}:{given}"], site)
    out = " ".join(capsys.readouterr().out.split())
    assert code == int(bool(cause))
    assert cause in out


def test_a_class_alone_is_asked_all_that_it_can_be(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the reader did not give is the book's, and cannot pass for it."""
    adapter = write(tmp_path, APART)
    model = tmp_path / "my_model.py"
    text = model.read_text(encoding="utf-8")
    assert main(["attention", "--mine", str(adapter)], site) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("✓") == 1
    assert "6 checks do not run your code; asked for: " in out
    model.write_text(text.replace(" / math.sqrt(q.shape[-1])", "", 1))
    assert main(["attention", "--mine", str(adapter)], site) == 1
    assert "the scale is missing" in capsys.readouterr().out


def test_code_that_no_check_runs_is_refused(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A class that takes nothing of the reader's method has not passed."""
    path = tmp_path / "own.py"
    path.write_text(
        "from scratchlm.model.attention import SingleHeadAttention\n\n"
        "class Mine(SingleHeadAttention):\n"
        "    def never_called(self):\n        return 1\n",
        encoding="utf-8",
    )
    given = f"{path}:Mine as SingleHeadAttention"
    assert main(["attention", "--mine", given], site) == 2
    assert "no check of attention runs the code" in capsys.readouterr().err


def test_programs_are_told_of_checks_that_ran_the_code(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write(tmp_path, APART)
    assert main(["attention", "--json", "--mine", str(adapter)], site) == 0
    tests = json.loads(capsys.readouterr().out)["tests"]
    assert [test["status"] for test in tests] == ["pass"]
