"""A reader's own code, of any name, stands in the place of the book's."""

import json
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from check.commands import main
from check.mine import Mine, read_mine
from check.places import Site
from check.running import watched
from check.watch import changes, times

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


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (
            "import nothing_like_it\n\ndef fn():\n    return 1\n",
            ":fn as attend",
        ),
        ("from my_modle import X\nSingleHeadAttention = X\n", ""),
        ("from . import my_model\nSingleHeadAttention = my_model.A\n", ""),
    ],
)
def test_code_that_cannot_be_imported_is_not_taken_for_the_books(
    text: str,
    given: str,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "own.py"
    file.write_text(text, encoding="utf-8")
    given = given.replace("attend", "scaled_dot_product_attention")
    assert main(["attention", "--mine", f"{file}{given}"], site) == 1
    said = capsys.readouterr().out
    assert "it cannot be imported" in said
    assert "own.py:1" in said
    assert "✓" not in said


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


PLAIN = HEADS.replace(
    "n_kv=None, dropout=0.0, bias=True,\n"
    "                 rotary=None, reference=False):",
    "bias=True):",
).replace(
    "        n_kv = n_kv or n_head\n", "        n_kv, rotary = n_head, None\n"
)
PLAIN = PLAIN.replace("x, store=None):", "x):\n        store = None")
BROKEN = {
    "": ("", ""),
    "the output projection is forgotten": ("return self.W_o", "return "),
    "heads are joined without a transpose": (
        "y.transpose(1, 2).flatten(2)",
        "y.reshape(x.shape)",
    ),
}


@pytest.mark.parametrize("cause", BROKEN)
def test_a_switch_that_it_does_not_offer_is_not_asked_for(
    cause: str,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A class as many books have it: no groups, no store, one form."""
    assert "n_head, bias=True):" in PLAIN
    assert "forward(self, x):" in PLAIN
    text = PLAIN.replace(*BROKEN[cause]) if cause else PLAIN
    (tmp_path / "my_heads.py").write_text(text, encoding="utf-8")
    adapter = tmp_path / "adapter_plain.py"
    adapter.write_text(HEADS_ADAPTER, encoding="utf-8")
    assert main(["heads", "--mine", str(adapter)], site) == int(bool(cause))
    out = " ".join(capsys.readouterr().out.split())
    assert "unexpected keyword" not in out
    assert cause in out
    if not cause:
        assert out.count("✓") >= 5
        assert "✓ Changing the future changes the past by exactly 0" in out
        assert "✓ Two heads hear the same words" in out
        assert "✓ Fed in chunks" not in out
        said = out.partition("about what your code does not take")[2]
        assert said.startswith(", whole or in part: ")
        for switch in ("kv_heads", "reference", "dropout", "rotary", "store"):
            assert switch in said


def test_an_adapter_names_arguments_that_nobody_could_guess(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Groups stand behind the bias, and have a name of their own."""
    head = "n_kv=None, dropout=0.0, bias=True,"
    assert head in HEADS
    text = HEADS.replace(head, "bias=True, groups=None, dropout=0.0,")
    text = text.replace("n_kv = n_kv or", "n_kv = groups or")
    (tmp_path / "my_heads.py").write_text(text, encoding="utf-8")
    adapter = tmp_path / "adapter_heads.py"
    said = {}
    for name in ("groups", "grp", ""):
        line = f'arguments = {{"kv_heads": "{name}"}}\n' if name else ""
        adapter.write_text(HEADS_ADAPTER + line, encoding="utf-8")
        assert len(adapter.read_text().splitlines()) <= 5
        code = main(["heads", "--mine", str(adapter)], site)
        said[name] = code, " ".join(capsys.readouterr().out.split())
    shares = "✓ Four query heads over two value heads: 0 and 1 share, 2 and 3"
    assert said["groups"][0] == 0
    assert shares in said["groups"][1]
    assert said[""][0] == 0
    assert shares not in said[""][1]
    assert "in part: kv_heads" in said[""][1]
    assert said["grp"][0] == 1
    assert "takes an argument of that name" in said["grp"][1]


UNASKED = """\
class Attn(MultiHeadAttention):
    def __init__(self, channels, n_head, *, secret):
        super().__init__(channels, n_head)
"""


def test_what_it_must_be_given_and_no_check_gives_is_told(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = "from scratchlm.model.heads import MultiHeadAttention\n\n"
    path = tmp_path / "own.py"
    path.write_text(start + UNASKED, encoding="utf-8")
    given = f"{path}:Attn as MultiHeadAttention"
    assert main(["heads", "--mine", given], site) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "missing 1 required keyword-only argument: 'secret'" in out


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


UNUSED = """\
from scratchlm.model.attention import SingleHeadAttention

class Mine(SingleHeadAttention):
    def never_called(self):
        return 1
"""


def test_code_that_no_check_runs_is_refused(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A class that takes nothing of the reader's method has not passed."""
    path = tmp_path / "own.py"
    path.write_text(UNUSED, encoding="utf-8")
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


def test_watching_checks_the_code_that_was_given(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrong at first, right after a change; no pass is entered for either."""
    write(tmp_path, APART | {"power": "0"})

    def one_change(site: Site, mine: Mine) -> Iterator[set[str]]:
        assert {p.name for p in mine.files} == {"my_model.py"}
        write(tmp_path, APART)
        yield set()

    monkeypatch.setattr("check.commands.changes", one_change)
    given = f"{tmp_path / 'my_model.py'}:fn as attention_weights"
    assert main(["attention", "--watch", "--mine", given], site) == 0
    before, after = capsys.readouterr().out.split("watching;")
    assert "1 topic: 1 fail" in before
    assert "the scale is missing" in before
    assert "1 topic: 1 pass" in after
    assert not site.progress.exists()


def test_watching_goes_on_when_no_check_runs_the_code(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "own.py"
    path.write_text(UNUSED, encoding="utf-8")
    seen = iter([set[str]()])
    monkeypatch.setattr("check.commands.changes", lambda *_: seen)
    given = f"{path}:Mine as SingleHeadAttention"
    assert main(["attention", "--watch", "--mine", given], site) == 0
    said = "error: no check of attention runs the code"
    assert capsys.readouterr().err.count(said) == 2


def test_a_change_of_given_code_is_seen(site: Site, tmp_path: Path) -> None:
    adapter = write(tmp_path, APART)
    mine = read_mine([str(adapter)])
    model = tmp_path / "my_model.py"
    assert {adapter, model} <= times(site, mine).keys()
    seen = changes(site, mine, pause=0.01)
    thread = threading.Timer(0.2, lambda: model.write_text("# another\n"))
    thread.start()
    assert next(seen) == set()
    thread.join()


def following(out: str) -> list[str]:
    """The command that was printed as the next one, as words."""
    found = re.search(r"^ *(?:next|more:?) +python -m check (.+)$", out, re.M)
    assert found, out
    return shlex.split(found[1])


@pytest.mark.parametrize("given", ["adapter", "fn as attention_weights"])
def test_a_hint_is_about_the_code_that_was_given(
    given: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that is printed leads to the next, to the book's lines."""
    swapped = {"called": "self.W_k(x), self.W_q(x), self.W_v(x)", "power": "0"}
    folder = tmp_path / ("a folder, whose name is so long that " + "x" * 60)
    folder.mkdir()
    adapter = write(folder, APART | swapped)
    option = str(adapter)
    if given != "adapter":
        option = f"{folder / 'my_model.py'}:{given}"
    assert main(["attention", "--mine", option], site) == 1
    words = following(capsys.readouterr().out)
    said = []
    for level in (1, 2, 3):
        assert words[:2] == ["hint", "attention"]
        assert words[-2:] == ["--mine", option]
        assert main(words, site) == 0
        said.append(capsys.readouterr().out)
        words = following(said[-1])
        assert f"--level {level + 1}" in " ".join(words)
    assert main(words, site) == 0
    last = capsys.readouterr().out
    assert "in my_model.py:" in said[0]
    if given == "adapter":
        assert "query and key are exchanged" in said[1]
        assert "self.query(x), self.key(x), self.value(x)" in said[2]
        assert "class SingleHeadAttention" in last
        assert "def attention_weights" not in last
    else:
        assert "the scale is missing" in said[1]
        assert "math.sqrt(q.shape[-1])" in said[2]
        assert "def attention_weights" in last
        assert "class SingleHeadAttention" not in last


WRONG = """\
import torch

def fn(q, k, causal=True):
    weights = torch.ones(q.shape[-2], k.shape[-2]).tril()
    return {result}
"""


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("weights.double()", "types of numbers that do not fit together"),
        ("weights[:, :, None]", "shapes that do not fit together"),
        ("weights.repeat(1, 2)", "shapes that do not fit together"),
        ("weights.nothing", "my_model.py:5"),
    ],
)
def test_what_it_returns_is_its_own_fault(
    result: str,
    said: str,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The book's line that takes a wrong type or shape is not to be mended."""
    path = tmp_path / "my_model.py"
    path.write_text(WRONG.format(result=result), encoding="utf-8")
    given = f"{path}:fn as attention_weights"
    assert main(["attention", "--mine", given], site) == 1
    out = capsys.readouterr().out
    assert said in " ".join(out.split())
    assert "attention.py" not in out
    found = re.search(r"^      in +my_model\.py:(\d+)", out, re.M)
    assert found, out
    assert int(found[1]) in (3, 5)


def test_what_the_file_imports_from_the_book_is_not_its_own(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write(tmp_path, APART)
    text = adapter.read_text(encoding="utf-8")
    given = "from scratchlm.model.attention import causal_mask\n"
    adapter.write_text(given + text, encoding="utf-8")
    assert main(["attention", "--mine", str(adapter)], site) == 0
    assert "do not run your code" in capsys.readouterr().out


def test_code_that_runs_in_another_thread_has_run() -> None:
    def work() -> None:
        """What is watched."""

    with watched(frozenset([work.__code__])) as called:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert called == ["work"]
    with watched(frozenset([work.__code__])) as called:
        pass
    assert called == []
