"""Broken code: one kind and exact message each, and never our traceback."""

import re
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from check import memory, process
from check.commands import main
from check.diagnose import failures
from check.expect import equal
from check.mine import Placed
from check.places import Site
from press.roadmap import load

WAIT = 60.0  # seconds that broken code may need to begin
WEIGHTS = "    scores = q @ k.transpose(-2, -1)  # (..., Tq, Tk)\n"
OTHERS = [t.id for t in load().topics if t.id not in ("attention", "browser")]
# What is done to the module: text, replacement; and what is said of it.
BROKEN = {
    "syntax": (
        WEIGHTS,
        "    scores = (q @\n",
        ["Python cannot read this line", "attention.py:45"],
    ),
    "a name": (
        WEIGHTS,
        "    scores = q @ keys\n",
        ["a name is used that was never set: name 'keys' is not defined"],
    ),
    "no return": (
        "    return scores.softmax(dim=-1)\n",
        "    scores.softmax(dim=-1)\n",
        ["a function returned nothing: is its body written"],
    ),
    "a text": (
        "    return scores.softmax(dim=-1)\n",
        "    return 'weights'\n",
        ["TypeError: unsupported operand", "attention.py:67"],
    ),
    "a shape": (
        WEIGHTS,
        "    scores = q @ k\n",
        ["shapes that do not fit together", "attention.py:45"],
    ),
    "another shape": (
        "    return scores.softmax(dim=-1)\n",
        "    return scores.softmax(dim=-1)[None]\n",
        ["the shape", "expected  (3, 3)", "got       (1, 3, 3)"],
    ),
    "a dtype": (
        WEIGHTS,
        "    scores = q @ k.double().transpose(-2, -1)\n",
        ["types of numbers that do not fit together", "attention.py:45"],
    ),
    "exit": (
        WEIGHTS,
        "    raise SystemExit\n",
        ["the code ends the program (exit)", "attention.py:45"],
    ),
    "the end of the process": (
        WEIGHTS,
        "    import os; os._exit(3)\n",
        [
            "✗ Scores 0, ln 2 and ln 3 give weights 1/6, 1/3 and 1/2",
            "the code ended the whole process (exit code 3)",
        ],
    ),
    "the end before a check": (
        "import math\n",
        "import os; os._exit(3)\n",
        [
            "✗ it came to an end before its checks had",
            "the code ended the whole process (exit code 3)",
        ],
    ),
    "a question": (
        WEIGHTS,
        "    scores = float(input('scores? '))\n",
        ["the code asks for input()", "attention.py:45"],
    ),
    "the network": (
        WEIGHTS,
        "    import urllib.request as r; r.urlopen('http://192.0.2.1/')\n",
        ["the code uses the network (192.0.2.1)", "attention.py:45"],
    ),
    "without end": (
        WEIGHTS,
        "    return attention_weights(q, k, causal)\n",
        ["a function calls itself again and again"],
    ),
    "a missing name": (
        "def causal_mask(",
        "def mask(",
        ["name 'causal_mask' is not defined"],
    ),
    "a wrong call": (
        "def causal_mask(\n    queries: int, keys: int,",
        "def causal_mask(\n    queries: int,",
        ["takes from 1 to 2 positional arguments but 3 were given"],
    ),
    "an import": (
        "import math\n",
        "import nothing_at_all\n",
        ["nothing_at_all", "attention.py:11"],
    ),
}


def break_it(site: Site, old: str, new: str) -> None:
    path = site.path(site.topics["attention"])
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_has_its_message(
    kind: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, said = BROKEN[kind]
    break_it(site, old, new)
    assert main(["attention"], site) == 1
    out = capsys.readouterr().out
    words = " ".join(out.split())
    for part in said:
        assert " ".join(part.split()) in words, out
    assert "Traceback" not in out
    assert "check/running.py" not in out
    assert len(out.splitlines()) <= 25


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Code that says that it runs; no time is up before it has."""
    mark = tmp_path / "begun"

    def limit(check: str) -> float:
        until = monotonic() + WAIT
        while not mark.exists() and monotonic() < until:
            sleep(0.01)
        return 0.0

    monkeypatch.setattr(process, "PATIENCE", 0.1)
    monkeypatch.setattr("check.verdict.limit_of", lambda *a: limit)
    return f"open({str(mark)!r}, 'a').close()"


def test_the_line_that_never_ends_is_named(
    begun: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(site, WEIGHTS, f"    while True:\n        {begun}\n")
    assert main(["attention"], site) == 1
    out = capsys.readouterr().out
    assert "the code does not come to an end" in out
    assert "attention.py:4" in out


def test_what_cannot_be_interrupted_is_ended(
    begun: str,
    site: Site,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.3)
    loop = f"    while True:\n        try:\n            while True: {begun}\n"
    break_it(site, WEIGHTS, f"{loop}        except BaseException: pass\n")
    assert main(["attention"], site) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "it had to be stopped from outside" in words
    assert "✗ it does not come to an end" in words
    assert "it came to an end" not in words


@pytest.mark.skipif(not process.FORK, reason="checks share one process")
def test_a_check_that_ends_its_process_ends_no_other(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "        import os; os.kill(os.getpid(), 9)\n"
    break_it(site, WEIGHTS, f"    if q.shape == (3, 1):\n{line}{WEIGHTS}")
    assert main(["attention"], site) == 1
    out = capsys.readouterr().out
    assert "the code ended the whole process (SIGKILL)" in " ".join(out.split())
    assert out.count("✗") == 2  # of those checks that ask so
    assert out.count("✓") == 5


@pytest.mark.skipif(not process.FORK, reason="checks share one process")
def test_a_check_leaves_nothing_to_the_next() -> None:
    left: list[int] = []

    def check() -> None:
        """Nothing is there, and something is left."""
        equal(left, [], "what is there")
        left.append(1)

    for _ in range(2):
        assert process.forked(check, (), Placed())["passed"]
    assert left == []


HUNGRY = {
    "a list that grows": "    rows = []\n    while True:\n"
    "        rows.append([len(rows)] * 1000)\n",
    "numbers that grow": "    rows = []\n    while True:\n"
    "        rows.append(10**9 + len(rows))\n",
    "a tensor": "    scores = torch.ones(10**12)\n",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("kind", HUNGRY)
def test_memory_that_runs_out_is_told_beside_the_reference(
    kind: str,
    site: Site,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MARGIN", 2**28)
    break_it(site, WEIGHTS, HUNGRY[kind])
    assert main(["attention"], site) == 1
    out = capsys.readouterr().out
    words = " ".join(out.split())
    said = re.search(
        r"attention_weights\(\) wants more memory than there is for a check, "
        r"0\.25 GiB; the book's code takes (\d+) MiB",
        words,
    )
    assert said, out
    assert 1 <= int(said[1]) < 2**8
    assert re.search(r"in +scratchlm/model/attention.py:4\d", out)
    assert "come to an end" not in out


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize(
    "name",
    [
        "attention",
        "browser",  # whose engine reserves a terabyte
        *(pytest.param(n, marks=pytest.mark.judge) for n in OTHERS),
    ],
)
def test_the_margin_is_four_times_what_any_topic_takes(
    name: str, book: Site
) -> None:
    topic = book.topics[name]
    report = process.run(process.Job(book, topic, book.sources))
    assert failures(report) == {}
    assert 0 < report["bytes"] < memory.MARGIN / 4


def test_prints_are_caught_and_cut(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "    print('here ' * 10_000)\n    scores = q @ k.transpose(-2, -1)\n"
    break_it(site, WEIGHTS, more + "    return scores.softmax(dim=-1)\n")
    assert main(["attention"], site) == 1
    out = capsys.readouterr().out
    assert "printed   here here" in out
    assert out.count("here") < 110  # of 10,000
    assert len(out.splitlines()) <= 25


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            "self.queries(x)",
            "there is no queries: 'SingleHeadAttention' object",
        ),
        ("self.query((x, None))", "TypeError: linear(): argument 'input'"),
    ],
)
def test_a_slip_that_torch_reports_is_the_readers(
    wrong: str, said: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(site, "self.query(x)", wrong)
    assert main(["attention"], site) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert said in words
    assert "the check asks for" not in words
    assert "called in a way" not in words


@pytest.mark.parametrize("name", ["attention", "heads"])
@pytest.mark.parametrize("line", [b"# caf\xe9\n", b"name = 'caf\xe9'\n"])
def test_bytes_that_are_no_text_are_told(
    line: bytes, name: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Python refuses them, which it may not do in a comment."""
    path = site.path(site.topics["attention"])
    path.write_bytes(line + path.read_bytes())
    code = main([name], site)
    out = capsys.readouterr().out
    assert ("Python cannot read this line" in out) is bool(code)
    assert code or line.startswith(b"#")


@pytest.mark.skipif(not process.FORK, reason="there are no forks")
@pytest.mark.parametrize("card", [True, False])
def test_beside_a_card_no_notebook_is_forked(
    card: bool, monkeypatch: pytest.MonkeyPatch, book: Site
) -> None:
    job = process.Job(book, book.topics["attention"], book.sources)
    before = process.run(job)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: card)
    assert process.forks()
    monkeypatch.setattr("builtins.get_ipython", None, raising=False)
    assert process.forks() is not card
    titles = [check["title"] for check in before["checks"]]
    after = process.run(job)
    assert failures(after) == failures(before) == {}
    assert [check["title"] for check in after["checks"]] == titles
