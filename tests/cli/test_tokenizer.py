"""Tokenizers from the command line."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.cli.app import main
from scratchlm.text.characters import FORMAT
from scratchlm.text.files import write_json

Capture = pytest.CaptureFixture[str]


def test_train_and_encode(capsys: Capture) -> None:
    Path("text.txt").write_text("low lower lowest " * 20)
    for kind in ("bpe", "characters"):
        words = ["text.txt", "--kind", kind, "--vocab-size", "260"]
        out = f"made/{kind}.json"
        assert main(["tokenizer", "train", *words, "--out", out]) == 0
        said = "unused   --vocab-size" in capsys.readouterr().out
        assert said == (kind == "characters")
        assert main(["tokenizer", "encode", "--tokenizer", out, "lower"]) == 0
        text = capsys.readouterr().out
        pieces = re.findall(r"^ +\d+ '(.*)'$", text, re.M)
        assert "".join(pieces) == "lower"
        assert f"5 characters, {len(pieces)} tokens" in text


def test_nothing_that_is_read_is_written_over(
    run: Path, fails: Callable[[list[str]], str]
) -> None:
    text = Path("text.txt")
    text.write_text("low lower lowest " * 20)
    words = ["tokenizer", "train", "text.txt", "--vocab-size", "260"]
    assert "over what is read" in fails([*words, "--out", "./text.txt"])
    assert text.read_text().startswith("low lower")
    kept = run / "tokenizer.json"
    before = kept.read_bytes()
    words = ["tokenizer", "export", "--tokenizer", str(kept), "--out"]
    assert "over what is read" in fails([*words, str(kept)])
    assert "is sealed" in fails([*words, str(run / "other.json")])
    assert kept.read_bytes() == before


def test_what_can_be_read_only_once(fails: Callable[[list[str]], str]) -> None:
    os.mkfifo("pipe")
    for words in ("tokenizer train pipe", "train --corpus pipe"):
        assert "is no file that can be read twice" in fails(words.split())


def test_export(capsys: Capture, fails: Callable[[list[str]], str]) -> None:
    Path("text.txt").write_text("low lower lowest " * 20)
    for kind in ("bpe", "characters"):
        words = ["--kind", kind, "--vocab-size", "260", "--out", f"{kind}.json"]
        assert main(["tokenizer", "train", "text.txt", *words]) == 0
    for name in ("tokenizers", "tiktoken"):
        words = ["--tokenizer", "bpe.json", "--format", name, "--out", name]
        assert main(["tokenizer", "export", *words]) == 0
        assert Path(name).stat().st_size > 0
    words = ["tokenizer", "export", "--tokenizer", "characters.json"]
    assert "no merges to export" in fails([*words, "--out", "x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "gone.txt"], "gone.txt"),
        (["train", "text.txt", "--vocab-size", "5"], "5"),
        (["train", "text.txt", "--vocab-size", "0"], "0"),
        (["encode", "low", "--tokenizer", "gone.json"], "gone.json"),
        (["encode", "low", "--tokenizer", "text.txt"], "text.txt"),
        (["encode", "low"], "--tokenizer"),
        (["encode", "low", "--tokenizer", "none.json"], "none.json holds no"),
    ],
)
def test_what_cannot_be(
    words: list[str], message: str, fails: Callable[[list[str]], str]
) -> None:
    Path("text.txt").write_text("low lower lowest " * 20)
    write_json(Path("none.json"), {"format": FORMAT, "alphabet": ""})
    assert message in fails(["tokenizer", *words])
