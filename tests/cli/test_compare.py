"""Runs side by side, drawn and in numbers."""

import io
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.cli import plot
from scratchlm.cli.app import main
from scratchlm.cli.compare import table
from scratchlm.text.files import (
    entry,
    read_json,
    read_seal,
    write_json,
    write_seal,
)

Fails = Callable[[list[str]], str]
LOG = [
    {"step": 1, "train_loss": 5.0, "seconds": 60.0},
    {"step": 2, "train_loss": 4.0, "seconds": 90.0, "validation_loss": 4.5},
    {"step": 3, "train_loss": 3.0, "seconds": 120.0, "validation_loss": 4.6},
]


def keep_log(run: Path, text: str) -> None:
    """Give a run another log, under its seal."""
    log = run / "log.jsonl"
    log.write_text(text)
    write_seal(run, {**read_seal(run), "log.jsonl": entry(log, grows=True)})


@pytest.fixture
def other(run: Path) -> Path:
    """A run that differs in its rate and is better."""
    shutil.copytree(run, "other")
    found = read_json(Path("other/config.json"))
    found["training"]["learning_rate"] = 0.5
    write_json(Path("other/config.json"), found)
    config = entry(Path("other/config.json"))
    write_seal(Path("other"), {**read_seal(run), "config.json": config})
    lines = "".join(json.dumps(line) + "\n" for line in LOG)
    keep_log(Path("other"), lines)
    return Path("other")


def test_two_runs(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(run), "other", "--svg", "both.svg"]) == 0
    text = capsys.readouterr().out
    assert "nats per token" in text
    row = next(x for x in text.splitlines() if x.startswith("other "))
    assert row.split() == ["other", "3", "2.0", "4.5000", "2"]
    assert text.split("what differs:")[1].split("both.svg")[0].split() == [
        "learning_rate",
        "0.003",
        "0.5",
    ]
    assert "both.svg: drawn" in text


def test_what_runs_became_is_compared(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both were asked for "auto", and one was given something else."""
    found = read_json(other / "config.json")
    before = found["training"]["precision"]
    found["training"]["precision"] = "bfloat16"
    found["data"]["resolved"] = {"precision": [before, "bfloat16"]}
    write_json(other / "config.json", found)
    config = entry(other / "config.json")
    write_seal(other, {**read_seal(other), "config.json": config})
    assert main(["compare", str(run), "other"]) == 0
    words = capsys.readouterr().out.split("what differs:")[1].split()
    at = words.index("precision")
    assert words[at + 1 : at + 3] == [before, "bfloat16"] != [before] * 2


def test_one_run_shows_both_its_losses(
    other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "other"]) == 0
    text = capsys.readouterr().out
    assert "training" in text
    assert "validation" in text
    assert "what differs" not in text


def test_what_cannot_be(run: Path, fails: Fails) -> None:
    assert "one run or more" in fails(["compare"])
    assert "end it in .svg" in fails(["compare", str(run), "--svg", "x.png"])
    assert "nowhere holds no run" in fails(["compare", str(run), "nowhere"])
    shutil.copytree(run, "young")
    keep_log(Path("young"), "")
    assert "young has no step yet" in fails(["compare", "young"])
    assert not fails(["compare", "young"]).count("Traceback")


def test_a_run_that_was_not_judged_yet(
    other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_log(other, json.dumps(LOG[0]) + "\n")
    assert main(["compare", "other"]) == 0
    assert "\nother      1\n" in capsys.readouterr().out


def test_columns_line_up() -> None:
    rows = [("run", "steps"), ("a long one", "5"), ("b", "1000")]
    lines = ["run         steps", "a long one      5", "b            1000"]
    assert table(rows).splitlines() == lines


def test_a_picture_for_the_terminal() -> None:
    text = plot.terminal_plot({"a": LOG}, width=60, height=12)
    lines = text.splitlines()
    assert len(lines) == 12 + 2
    assert lines[-2:] == ["· training", "o validation"]
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in text
    assert lines[2].lstrip().startswith("5.0┤·")  # the highest is on top


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_a_picture_in_letters_that_the_output_has(
    run: Path, other: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["compare", "other"]) == 0
    narrow.seek(0)
    text = narrow.read()
    assert "\\" not in text
    lines = text.splitlines()
    corner = "┤" if encoding == "cp437" else "+"
    assert lines[2].lstrip().startswith(f"5.0{corner}")
    if encoding == "ascii":
        assert set(lines[1].strip()) == {"+", "-"}
        assert "." in lines[2]


def test_more_runs_than_marks() -> None:
    logs = {f"run-{n}": LOG for n in range(10)}
    logs |= {"a/very/long/name" * 9: LOG, "not judged": LOG[:1]}
    lines = plot.terminal_plot(logs).splitlines()
    assert lines[-11].endswith(" run-0")
    assert [line[2:] for line in lines[-11:]] == list(logs)[:-1]
    assert lines[2].startswith("4.600┤")
    assert lines[13].startswith("4.500┤")  # one not judged is not at 0


def test_a_loss_that_is_no_number_does_not_stop_the_others(
    other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*LOG, {**LOG[-1], "step": 4, "validation_loss": math.nan}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    keep_log(other, text)
    assert main(["compare", "other", "--svg", "x.svg"]) == 0
    assert "4.5000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ["{}", "[]", '{"step": 1}', '{"step": "1", "train_loss": 2.0}']
)
def test_a_log_that_somebody_changed(
    line: str, other: Path, fails: Fails
) -> None:
    text = json.dumps(LOG[0]) + "\n"
    keep_log(other, f"{text}{line}\n{text}")
    assert "other/log.jsonl:2 is damaged" in fails(["compare", "other"])


def test_names_with_dollars_are_names(other: Path) -> None:
    other.rename("a$b_{$")
    shutil.copytree("a$b_{$", "two")
    names = ["a$b_{$", "two"]
    assert main(["compare", *names, "--svg", "x.svg"]) == 0
    assert re.search(r">a\$b_\{\$</text>", Path("x.svg").read_text())


def test_a_picture_as_a_file() -> None:
    for name in ("one.svg", "two.svg"):
        plot.save_plot({"a": LOG, "b": LOG[:2]}, Path(name))
    one = Path("one.svg").read_text()
    assert one == Path("two.svg").read_text()
    assert "<dc:date>" not in one
    texts = re.findall(r">([^<>]+)</text>", one)
    assert {"step", "nats per token", "a", "b"} <= set(texts)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_log_that_was_cut_is_refused(
    share: float, run: Path, fails: Fails
) -> None:
    shutil.copytree(run, "cut")
    log, sealed = Path("cut/log.jsonl"), read_seal(run)["log.jsonl"]
    left = int(share * (sealed["size"] - 1))
    log.write_bytes(log.read_bytes()[:left])
    assert "cut/log.jsonl" in fails(["compare", str(run), "cut"])


def test_a_log_that_has_grown_since_its_seal_is_shown(
    other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("other/log.jsonl").open("a") as log:
        log.write(json.dumps({**LOG[-1], "step": 4}) + "\n")
    assert main(["compare", "other"]) == 0
    assert "\nother      4" in capsys.readouterr().out
