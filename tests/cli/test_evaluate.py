"""Scores of a run, from the command line."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from scratchlm.cli.app import main
from scratchlm.text.corpus import write_documents
from scratchlm.text.toytown import write_corpus
from scratchlm.training.trainer import read_log

from .conftest import SMALL


def scores(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    """What `evaluate` prints, by name."""
    assert main(["evaluate", *words]) == 0
    text = capsys.readouterr().out.replace(",", "")
    found = re.findall(r"^(\S.*?)\s{2,}([\d.]+)", text, re.M)
    return {name: float(value) for name, value in found}


def test_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = scores(capsys, "--run", str(run))
    nats = found["nats per token"]
    losses = [x.get("validation_loss", 99) for x in read_log(run)]
    assert nats == pytest.approx(min(losses), abs=1e-3)
    gap = nats - found["entropy"]
    assert found["distance from it"] == pytest.approx(gap, abs=2e-4)
    assert found["perplexity"] == pytest.approx(2.718281828**nats, rel=1e-3)
    assert found["bits per byte"] > 0
    begin = scores(capsys, "--run", str(run), "--snapshot", "0")
    assert begin["nats per token"] > nats


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_is_scored_in_the_precision_of_its_training(
    precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [precision if word == "float32" else word for word in SMALL]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    seen: set[bool] = set()
    hook = register_module_forward_pre_hook(
        lambda *_: seen.add(torch.is_autocast_enabled("cpu"))
    )
    try:
        assert main(["evaluate", "--run", str(tmp_path / "run")]) == 0
    finally:
        hook.remove()
    said = capsys.readouterr().out
    assert re.search(rf"^precision +{precision}$", said, re.M)
    assert seen == {precision == "bfloat16"}


def test_windows_that_overlap_see_more(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        scores(capsys, "--run", str(run), "--stride", stride)
        for stride in ("16", "4")
    ]
    assert found[0] == scores(capsys, "--run", str(run), "--batch-size", "7")
    assert found[0]["tokens"] == found[1]["tokens"]
    assert found[0]["nats per token"] != found[1]["nats per token"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stride", "0"], "choose 1 to 16, the context"),
        (["--stride", "17"], "choose 1 to 16, the context"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--device", "abacus"], "no such device"),
    ],
)
def test_what_cannot_be(
    words: list[str], message: str, run: Path, fails: Callable[[list[str]], str]
) -> None:
    assert message in fails(["evaluate", "--run", str(run), *words])


def test_another_text(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fails: Callable[[list[str]], str],
) -> None:
    """A prepared test.jsonl is for this; one file is the sum of its parts."""
    stories = [story.text for story in write_corpus(4_000, seed=5)]
    files = [tmp_path / name for name in ("test.jsonl", "same.jsonl", "a.txt")]
    for file, texts in zip(files, (stories, stories * 2), strict=False):
        write_documents(file, [{"text": text} for text in texts])
    one, two = (
        scores(capsys, "--run", str(run), "--text", str(file))
        for file in files[:2]
    )
    assert two["tokens"] == pytest.approx(2 * one["tokens"], abs=1)
    mean = one["nats per token"]
    assert two["nats per token"] == pytest.approx(mean, rel=0.05)
    size = sum(len(text.encode()) for text in stories)
    nats = mean * one["tokens"]
    assert one["bits per byte"] == pytest.approx(
        nats / math.log(2) / size, rel=1e-3
    )
    assert "entropy" not in one
    assert one["tokens"] != scores(capsys, "--run", str(run))["tokens"]
    words = ["evaluate", "--run", str(run), "--text"]
    files[0].write_text('{"text": ""}\n' * 3)
    assert "too little text" in fails([*words, str(files[0])])
    for text, message in (("", "too little text"), (None, "a.txt")):
        files[2].unlink(missing_ok=True)
        if text is not None:
            files[2].write_text(text)
        assert message in fails([*words, str(files[2])])
