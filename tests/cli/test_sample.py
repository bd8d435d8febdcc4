"""Letting a model write, from the command line."""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scratchlm.cli.app import main
from scratchlm.text.files import read_json, write_json

Fails = Callable[[list[str]], str]
Capture = pytest.CaptureFixture[str]


def test_the_dice_decide(run: Path, capsys: Capture) -> None:
    words = ["sample", "--run", str(run), "--prompt", "Mrs Pell"]
    words += ["--tokens", "20", "--top-k", "50", "--top-p", "0.9"]
    texts = []
    for seed in ("1", "1", "2"):
        assert main([*words, "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("Mrs Pell") for text in texts)


def test_every_way_to_choose(run: Path, capsys: Capture) -> None:
    words = ["sample", "--run", str(run), "--tokens", "9"]
    texts = []
    for more in (
        [],
        ["--temperature", "0"],
        ["--min-p", "0.9"],
        ["--temperature", "0", "--repetition-penalty", "5"],
        ["--snapshot", "0"],
    ):
        assert main([*words, *more]) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) >= 3


def test_a_prompt_from_standard_input(
    run: Path, monkeypatch: Any, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Mr Dunn\n"))
    words = ["sample", "--run", str(run), "--tokens", "2", "--prompt", "-"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("Mr Dunn")


def test_line_after_line(
    run: Path, monkeypatch: Any, capsys: Capture
) -> None:
    for end in ("", "\nnever read\n"):
        typed = io.StringIO("Mr Dunn\nMrs Pell\n" + end)
        monkeypatch.setattr(sys, "stdin", typed)
        words = ["sample", "--run", str(run), "--tokens", "2", "--interactive"]
        assert main(words) == 0
        text = capsys.readouterr().out
        assert text.count("> ") == 3
        assert "> Mr Dunn" in text
        assert "> Mrs Pell" in text
        assert "never" not in text


def test_the_end_of_the_input_ends_its_line(
    run: Path, monkeypatch: Any, capsys: Capture
) -> None:
    words = ["sample", "--run", str(run), "--tokens", "2", "--interactive"]
    for typed, last in (("", "> \n"), ("\n", "> ")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert main(words) == 0
        assert capsys.readouterr().out.endswith(last)


def test_a_line_that_cannot_be_is_not_the_last(
    monkeypatch: Any, capsys: Capture
) -> None:
    Path("own.txt").write_text("abc " * 200, encoding="utf-8")
    words = "--preset tiny --steps 1 --corpus own.txt --tokenizer characters"
    small = "--layers 1 --channels 16 --context 8 --batch-size 2 --out own"
    assert main(["train", *words.split(), *small.split()]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("b\né\ncab\n"))
    words = "sample --run own --tokens 2 --interactive"
    assert main(words.split()) == 0
    said = capsys.readouterr()
    assert "é" in said.err
    assert "> cab" in said.out


@pytest.mark.parametrize("words", [["--prompt", "-"], ["--interactive"]])
def test_input_that_is_no_text(
    words: list[str], run: Path, monkeypatch: Any, fails: Fails
) -> None:
    words = ["sample", "--run", str(run), *words]
    typed = io.TextIOWrapper(io.BytesIO(b"M\xfcller\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", typed)
    assert "standard input is not utf-8" in fails(words)
    monkeypatch.setattr(sys, "stdin", None)
    assert "no standard input" in fails(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "0"], "--tokens 0"),
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "nan"], "top_p"),
        (["--device", "abacus"], "no such device"),
        (["--snapshot", "5"], "5"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", "99999999999999999999"], "--seed 9999"),
        (["--interactive", "--prompt", "Mr"], "leave --prompt"),
    ],
)
def test_what_cannot_be(
    words: list[str], message: str, run: Path, fails: Fails
) -> None:
    assert message in fails(["sample", "--run", str(run), *words])


def test_where_there_is_no_run(fails: Fails) -> None:
    for command in ("sample", "evaluate"):
        error = fails([command, "--run", "nowhere"])
        assert error == (
            "error: nowhere holds no run; train one first: "
            "python -m scratchlm train --out nowhere\n"
        )


def test_letters_that_it_has_never_seen(fails: Fails, capsys: Capture) -> None:
    Path("own.txt").write_text("abc " * 200, encoding="utf-8")
    words = "--preset tiny --steps 1 --corpus own.txt --tokenizer characters"
    small = "--layers 1 --channels 16 --context 8 --batch-size 2 --out own"
    assert main(["train", *words.split(), *small.split()]) == 0
    assert main(["sample", "--run", "own", "--tokens", "3"]) == 0
    assert "é" in fails(["sample", "--run", "own", "--prompt", "é"])


def test_another_tokenizer_is_refused(run: Path, fails: Fails) -> None:
    copy = Path("copy")
    shutil.copytree(run, copy)
    Path("own.txt").write_text("other words, " * 99, encoding="utf-8")
    words = ["own.txt", "--vocab-size", "300", "--out"]
    assert main(["tokenizer", "train", *words, "own.json"]) == 0
    shutil.copyfile("own.json", "copy/tokenizer.json")
    for command in ("sample", "evaluate"):
        assert "tokenizer.json" in fails([command, "--run", "copy"])
        error = fails([command, "--run", "copy", "--no-verify"])
        assert "is not the tokenizer that this run was trained with" in error


@pytest.mark.parametrize("lost", ["model", "training", "data"])
def test_a_damaged_configuration_is_named(
    lost: str, run: Path, fails: Fails
) -> None:
    shutil.copytree(run, "copy")
    found = read_json(Path("copy/config.json"))
    del found[lost]
    write_json(Path("copy/config.json"), found)
    for command in ("sample", "evaluate"):
        error = fails([command, "--run", "copy"])
        assert f"config.json is damaged: it does not say '{lost}'" in error
    write_json(Path("copy/config.json"), {})
    assert "config.json" in fails(["sample", "--run", "copy"])
    Path("copy/config.json").write_text("{")
    assert "config.json" in fails(["sample", "--run", "copy"])
