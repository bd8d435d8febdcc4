"""From a text to a trained model: one command, and nothing left half done."""

import json
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from scratchlm.cli import estimate, progress, train
from scratchlm.cli.app import main
from scratchlm.cli.errors import UserError
from scratchlm.cli.progress import TimeLimit
from scratchlm.cli.runs import alone, opening
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.files import entry, read_json, write_json, write_seal
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import write_tokens
from scratchlm.training import distributed
from scratchlm.training.checkpoint import load_model
from scratchlm.training.trainer import (
    Interrupted,
    TrainConfig,
    Trainer,
    read_log,
)

from .conftest import SMALL

TEXT = "How many loaves has Mrs Pell? Seven. " * 60
Fails = Callable[[list[str]], str]
Capture = pytest.CaptureFixture[str]


def weights(run: Path, snapshot: int | None = None) -> list[torch.Tensor]:
    """The numbers that a run has learned."""
    return list(load_model(run, snapshot).state_dict().values())


def equal(a: Path, b: Path) -> bool:
    """Whether two runs learned the same, to the bit."""
    pairs = zip(weights(a), weights(b), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_from_nothing(run: Path, capsys: Capture) -> None:
    assert main(["train", *SMALL, "--out", "other"]) == 0
    text = capsys.readouterr().out
    for word in ("parameters", "epochs", "operations", "s a step", "floor"):
        assert word in text
    assert re.search(r"memory +about \S+ [MG]B at the highest, of", text)
    config = read_json(Path("other/config.json"))
    data = config["data"]
    assert data["corpus"] == "toytown"
    assert data["entropy_nats"] > 0
    assert config["model"]["channels"] == 16
    log = read_log(Path("other"))
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert load_model(Path("other"), snapshot=0).config.vocab_size == 300
    assert load_model(Path("other"), snapshot=6).config.vocab_size == 300
    assert equal(Path("other"), run)  # the same seed, the same run
    assert Path("other/loss.svg").read_text().count("nats per token") == 1


def test_the_next_command_begins_as_its_text_does(
    run: Path, capsys: Capture
) -> None:
    Path("own.txt").write_text("Ships sail, and ropes hold. " * 90)
    words = [*SMALL, "--corpus", "own.txt", "--vocab-size", "280"]
    assert main(["train", *words]) == 0  # where the text's name says
    line = capsys.readouterr().out.strip().splitlines()[-1]
    found = re.fullmatch(r"next: .* --run runs/own --prompt '(.*)'", line)
    assert found
    assert found[1] in "Ships sail, and ropes hold. " * 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\x1b]0;owned\x07 and more " * 99, "''"),
        ("red\x1b[31m sea and more " * 99, "red"),
        ("a\0b c " * 99, "a"),
        ("\u5927\u9ce5" * 400, "\u5927\u9ce5" * 30),
    ],
)
def test_no_more_than_can_be_typed(
    text: str, wanted: str, capsys: Capture
) -> None:
    ids = CharTokenizer.train(text)
    ids.save(Path("a/tokenizer.json"))
    data = {"model": {"vocab_size": ids.vocab_size}, "training": {}, "data": {}}
    write_json(Path("a/config.json"), data)
    write_seal(Path("a"), {})
    write_tokens(
        Path("a/validation.tokens"),
        ids.encode(text),
        ids.vocab_size,
        ids.fingerprint,
    )
    assert shlex.quote(opening(Path("a"))) in (wanted, repr(wanted))


def test_a_terminal_sees_the_curve(run: Path, capsys: Capture) -> None:
    trainer = SimpleNamespace(
        data={}, model=load_model(run), device=torch.device("cpu")
    )
    train.report(run, trainer, 1.5)  # type: ignore[arg-type]
    assert "┤" not in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.sys.stdout, "isatty", lambda: True)
        train.report(run, trainer, 1.5)  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "┤" in text
    assert "done: best validation loss 1.5000" in text
    assert " tokens a second, " in text


def test_a_share_of_the_peak_is_told_where_it_is_known(
    run: Path, monkeypatch: Any
) -> None:
    lines = [{"tokens": n, "seconds": n} for n in (10, 20)]
    trainer: Any = SimpleNamespace(
        model=load_model(run), device=torch.device("cuda")
    )
    for name, words in (("NVIDIA H100 PCIe", "H100 PCIe has"), ("X", "ions")):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d, n=name: n)
        assert words in train.pace(trainer, lines)
        assert ("%" in train.pace(trainer, lines)) == (name != "X")
    name = "NVIDIA H100 PCIe"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: name)
    alone = progress.share_of_peak(trainer.model.config, 8e9, trainer.device)
    monkeypatch.setenv("WORLD_SIZE", "8")  # of eight each has an eighth
    all_ = progress.share_of_peak(trainer.model.config, 8e9, trainer.device)
    assert alone is not None
    assert all_ == (alone[0] / 8, name)
    assert f"each {name} has" in train.pace(trainer, lines)
    for few in (lines[:1], lines[:1] * 2):
        assert train.pace(trainer, few) == "too short to be timed"


def test_each_line_but_the_first_says_how_fast_it_goes(
    run: Path, monkeypatch: Any, capsys: Capture
) -> None:
    model, judged = load_model(run), {"train_loss": 1.0, "validation_loss": 1.0}
    tokenizer: Any = None  # which writes nothing here
    show = progress.show_progress(tokenizer, 0)
    for step, seconds in ((1, 2.0), (2, 4.0), (3, 4.0)):
        line: Any = {"step": step, "tokens": 3000 * step, "seconds": seconds}
        show(model, line | judged)
    first, second, third = capsys.readouterr().out.splitlines()
    assert second.endswith("   1,500 tokens/s")
    assert "tokens/s" not in first + third  # no time has passed for the third
    share = 0.314
    monkeypatch.setattr(progress, "share_of_peak", lambda *_: (share, "a card"))
    lines: Any = [{"tokens": n, "seconds": n} for n in (10, 20)]
    assert progress.speed(model, *lines) == "   1 tokens/s, MFU 31%"
    monkeypatch.setattr(
        progress, "share_of_peak", lambda shape, rate, there: (0.5, str(there))
    )
    assert progress.speed(model, *lines, "meta").endswith("MFU 50%")


def test_batches_are_fetched_ahead_on_a_card(monkeypatch: Any) -> None:
    asked: Any = object()
    monkeypatch.setattr(train, "prefetched", lambda c, d, *cut: (c, d, *cut))
    card = torch.device("cuda:1")
    assert train.ahead(asked, "cuda:1") == (asked, card)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    cursor, there, cut = train.ahead(asked, "cuda:1")
    assert (cursor, there) == (asked, card)
    ids = torch.arange(10).view(5, 2)
    assert cut((ids, ids))[0].tolist() == [[2, 3], [6, 7]]  # its own rows


def test_measuring_does_not_change_the_run(run: Path, monkeypatch: Any) -> None:
    speed = estimate.Speed(1.0, 1.0)
    monkeypatch.setattr(estimate, "measure", lambda *_: speed)
    assert main(["train", *SMALL, "--out", "unmeasured"]) == 0
    assert equal(Path("unmeasured"), run)


def stop_after(step: int) -> Callable[[Trainer], None]:
    """A `finish_step` that stops as Ctrl-C would."""
    original = Trainer.finish_step

    def finish(self: Trainer) -> None:
        if self.step == step:
            raise Interrupted(self.how_to_resume())
        original(self)

    return finish


def test_stop_and_resume(run: Path, monkeypatch: Any, capsys: Capture) -> None:
    words = ["train", *SMALL, "--out", "stopped"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "finish_step", stop_after(3))
        assert main(words) == 130
    assert "--resume --out stopped" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0  # the same settings again
    text = capsys.readouterr().out
    assert "resuming stopped after step 3" in text
    assert re.search(r"\nmemory   about \d+ MB at the highest, of", text)
    assert equal(Path("stopped"), run)
    assert main(["train", "--resume", "--out", "stopped"]) == 0  # done


@pytest.mark.parametrize(
    "words",
    [
        ["--steps", "9"],
        ["--learning-rate", "0.1"],
        ["--layers", "2"],
        ["--corpus", "shakespeare"],
        ["--seed", "5"],
        ["--config", "more.toml"],
        ["--preset", "small"],
    ],
)
def test_what_a_resumed_run_cannot_change_is_refused(
    words: list[str], run: Path, fails: Fails
) -> None:
    Path("more.toml").write_text("steps = 9\n")
    error = fails(["train", "--resume", "--out", str(run), *words])
    name = {"--config": "--steps", "--preset": "--norm"}.get(words[0], words[0])
    refused = error.partition(" cannot change")[0].removeprefix("error: ")
    assert name in refused.split(", ")
    assert words[0] == "--preset" or refused == name
    assert f"train --from {run} --out NEW" in error


def test_a_branch_is_what_a_longer_run_would_be(
    capsys: Capture, fails: Fails
) -> None:
    words = [*SMALL, "--schedule", "stable", "--steps"]
    assert main(["train", *words, "12", "--out", "long"]) == 0
    assert main(["train", *words, "6", "--out", "short"]) == 0
    before = Path("short/seal.json").read_bytes()
    more = ["train", "--from", "short", "--steps", "12"]
    assert "--out" in fails(more)
    for refused in (["--layers", "2"], ["--seed", "3"], ["--corpus", "a"]):
        error = fails([*more, *refused, "--out", "more"])
        assert f"{refused[0]} cannot change when a run is branched" in error
    assert "optimizer" in fails([*more, "--optimizer", "muon", "--out", "more"])
    assert "6 steps" in fails([*more[:-1], "6", "--out", "more"])
    assert not Path("more").exists()
    capsys.readouterr()
    assert main([*more, "--out", "more"]) == 0
    text = capsys.readouterr().out
    assert "going on in more after step 6 of short" in text
    assert re.search(r"\nmemory   about \d+ MB at the highest, of", text)
    assert "learning rates" not in text
    assert equal(Path("more"), Path("long"))
    assert [x["step"] for x in read_log(Path("more"))] == [*range(1, 13)]
    assert Path("short/seal.json").read_bytes() == before
    assert main(["train", "--resume", "--out", "more"]) == 0
    assert main(["train", "--resume", "--out", "more", "--steps", "12"]) == 0
    assert "--steps" in fails(
        ["train", "--resume", "--out", "more", "--steps", "6"]
    )


def test_a_branch_takes_the_steps_that_did_not_fit(monkeypatch: Any) -> None:
    def within(job: train.Job, *_: Any) -> train.Job:
        return replace(job, training=replace(job.training, steps=4))

    words = [*SMALL, "--snapshots", "0", "5", "--out", "few"]
    with monkeypatch.context() as patch:
        patch.setattr(train, "within", within)
        assert main(["train", *words]) == 0
    assert len(read_log(Path("few"))) == 4
    words = ["--from", "few", "--steps", "6", "--out", "more"]
    assert main(["train", *words]) == 0
    assert len(read_log(Path("more"))) == 6
    for step in (5, 6):
        assert load_model(Path("more"), snapshot=step).config.layers == 1
    assert main(["train", "--resume", "--out", "more"]) == 0


@pytest.mark.judge
def test_a_branch_that_no_longer_run_would_be(
    run: Path, capsys: Capture
) -> None:
    words = ["train", "--from", str(run), "--out", "more", "--steps", "8"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "learning rates would have been others from the first" in text


# --- time --------------------------------------------------------------------


def steps_of(speed: estimate.Speed, judge: float, gone: float) -> int:
    """The steps that a minute leaves for, so many seconds after the start."""
    job = train.Job(
        train.TextOptions(),
        gpt2_config(),
        TrainConfig(1000, evaluate_every=3),
        train.BatchOptions(),
        train.RunOptions(max_minutes=1),
    )
    start = time.monotonic() - gone
    return train.within(job, speed, judge, start).training.steps


def test_fewer_steps_where_minutes_are_few() -> None:
    assert steps_of(estimate.Speed(1.0, 0.0), 0.0, 0.0) in (56, 57)
    assert steps_of(estimate.Speed(1.0, 0.0), 0.0, 30.0) in (28, 29)
    assert steps_of(estimate.Speed(1.0, 0.0), 3.0, 0.0) in (26, 27)
    assert steps_of(estimate.Speed(1e-6, 0.0), 0.0, 0.0) == 1000


@pytest.mark.parametrize("judge", [0.0, 1.0, 20.0, 50.0])
def test_the_last_evaluation_is_in_time(judge: float) -> None:
    for every in (1, 7, 100):
        steps = estimate.steps_in(1.5, every, estimate.Speed(1.0, 0.0), judge)
        assert steps + -(-steps // every) * judge <= 90
    left = estimate.steps_in(10, 100, estimate.Speed(1.0, 0.0), judge)
    assert left > 340


def test_minutes_that_do_not_do(monkeypatch: Any, fails: Fails) -> None:
    slow = estimate.Speed(100.0, 0.0)
    monkeypatch.setattr(estimate, "measure", lambda *_: slow)
    words = ["train", *SMALL, "--out", "short", "--max-minutes"]
    assert "a step takes 100.0 s" in fails([*words, "1"])
    for minutes in ("0", "-1", "nan", "inf"):
        assert "max_minutes" in fails([*words, minutes])
    assert not Path("short").exists()


def test_money_is_time() -> None:
    """The limit that is reached first is the one that counts."""
    for price, limit in (
        (3.0, (7, "7 minutes")),
        (10.0, (3, "0.5 dollars")),
    ):
        run = train.RunOptions(max_minutes=7, max_usd=0.5, usd_per_hour=price)
        assert run.limit == pytest.approx(limit)
    assert train.RunOptions(max_minutes=7, usd_per_hour=9).limit == (
        7,
        "7 minutes",
    )
    assert train.RunOptions(usd_per_hour=9).limit is None


def test_dollars_that_do_not_do(monkeypatch: Any, fails: Fails) -> None:
    slow = estimate.Speed(100.0, 0.0)
    monkeypatch.setattr(estimate, "measure", lambda *_: slow)
    words = ["train", *SMALL, "--out", "short", "--max-usd"]
    priced = ["--usd-per-hour", "60"]
    assert "1 dollars: a step takes 100.0 s" in fails([*words, "1", *priced])
    assert "max_usd needs usd_per_hour" in fails([*words, "1"])
    for usd in ("0", "-1", "nan", "inf"):
        assert "max_usd must be" in fails([*words, usd, *priced])
        wrong = ["--usd-per-hour", usd]
        assert "usd_per_hour must be" in fails([*words, "1", *wrong])
    assert not Path("short").exists()


@pytest.mark.always
def test_a_run_stops_when_its_money_is_spent_and_says_what_it_cost(
    monkeypatch: Any, capsys: Capture
) -> None:
    speed = estimate.Speed(1e-9, 0.0)
    monkeypatch.setattr(estimate, "measure", lambda *_: speed)
    words = [*SMALL, "--steps", "100000", "--out", "paid"]
    words += ["--evaluate-every", "50000", "--sample-every", "0"]
    words += ["--max-usd", "0.02", "--usd-per-hour", "36"]  # 2 seconds
    assert main(["train", *words]) == 0
    text = capsys.readouterr().out
    assert "the 0.02 dollars are over: " in text
    assert "--resume --out paid" in text
    assert len(read_log(Path("paid"))) < 100000
    found = re.search(r"cost: (\S+) dollars for (\d+) s", text)
    assert found
    assert 0.015 < float(found[1]) < 1
    assert float(found[1]) == pytest.approx(0.01 * int(found[2]), abs=0.011)


def test_a_run_that_ends_says_what_it_cost_before_what_is_next(
    capsys: Capture,
) -> None:
    words = [*SMALL, "--out", "paid", "--usd-per-hour", "2"]
    assert main(["train", *words]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    costs = [n for n, line in enumerate(lines) if line.startswith("cost: ")]
    ends = [n for n, line in enumerate(lines) if line.startswith("done: ")]
    assert costs[0] + 1 == ends[0]
    assert lines[-1].startswith("next: ")


@pytest.mark.always
def test_a_run_that_is_slower_than_measured_stops_in_time(
    monkeypatch: Any, capsys: Capture
) -> None:
    speed = estimate.Speed(1e-9, 0.0)
    monkeypatch.setattr(estimate, "measure", lambda *_: speed)
    words = [*SMALL, "--steps", "100000", "--max-minutes", "0.02"]
    words += ["--evaluate-every", "50000", "--sample-every", "0"]
    assert main(["train", *words, "--out", "late"]) == 0
    text = capsys.readouterr().out
    assert "the 0.02 minutes are over: " in text
    assert "--resume --out late" in text
    assert len(read_log(Path("late"))) < 100000


def test_minutes_that_are_over_at_once(run: Path, capsys: Capture) -> None:
    shutil.copytree(run, "copy")
    words = ["train", "--resume", "--out", "copy", "--max-minutes", "1e-9"]
    assert main(words) == 0
    assert "minutes are over" in capsys.readouterr().out
    assert main(words[:4]) == 0
    assert equal(Path("copy"), run)


def test_minutes_that_are_over_before_there_is_a_run(
    monkeypatch: Any, capsys: Capture
) -> None:
    def fit(self: Trainer) -> float:
        time.sleep(1)  # the clock is heard meanwhile
        return 1.0

    monkeypatch.setattr(train, "within", lambda job, *_: job)
    monkeypatch.setattr(Trainer, "fit", fit)
    words = ["train", *SMALL, "--out", "late", "--max-minutes", "1e-9"]
    assert main(words) == 130
    assert "go on" not in capsys.readouterr().out
    assert not Path("late").exists()


def test_minutes_that_no_clock_can_count() -> None:
    with TimeLimit(1e30) as limit:
        assert limit.timer is not None
        assert limit.timer.interval == threading.TIMEOUT_MAX
    assert not limit.over


# --- before anything is read -------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--context", "1000000"], "context"),
        (["--batch-size", "10000000"], "memory"),
        (["--seed", "-1"], "seed"),
        (["--warmup", "-1"], "warmup"),
        (["--weight-decay", "nan"], "weight_decay"),
        (["--patience", "0"], "patience"),
        (["--dropout", "nan"], "dropout"),
        (["--device", "meta"], "no such device"),
        (["--device", "cuda:77"], "no such device"),
        (["--tokenizer", "gone.json"], "gone.json"),
        (["--characters", "0"], "characters"),
        (["--vocab-size", "256"], "257 is the least"),
        (["--batch-size", "0"], "batch_size"),
        (["--sample-every", "-1"], "sample_every"),
        (["--resume", "--from", "runs/a"], "exclude each other"),
        (["--resume", "--dry-run"], "is for a new run"),
        (["--snapshots", "-3"], "--snapshots"),
        (["--corpus", ""], "corpus is empty"),
        (["--out", ""], "--out is empty: it needs a folder"),
        (["--out", "."], "--out needs a folder"),
        (["--corpus-seed", "-1"], "corpus_seed"),
        (["--precision", "tf32"], "cpu cannot train in it; choose auto or"),
        (["--out", "file"], "file: a file has this name already"),
        (["--out", "file/a"], "this is a file, and a folder is needed"),
        (["--out", "link"], "link: a file has this name already"),
    ],
)
def test_settings_are_checked_before_any_text(
    words: list[str], message: str, monkeypatch: Any, fails: Fails
) -> None:
    def read(text: Any) -> None:
        raise AssertionError("a text was read")

    monkeypatch.setattr(train, "read_material", read)
    Path("file").write_text("mine")
    Path("link").symlink_to("nowhere")
    if "--resume" in words:  # settings come from this run
        config = {"model": {}, "training": {}, "data": {}}
        write_json(Path("runs/a/config.json"), config)
        sealed = {"config.json": entry(Path("runs/a/config.json"))}
        write_seal(Path("runs/a"), sealed)
    assert message in fails(["train", *SMALL, "--out", "runs/a", *words])


def test_another_run_is_left_alone(run: Path, fails: Fails) -> None:
    before = sorted(p.name for p in run.iterdir())
    error = fails(["train", *SMALL, "--out", str(run)])
    assert "holds another run" in error
    assert f"--resume --out {run}" in error
    assert sorted(p.name for p in run.iterdir()) == before


def test_a_dry_run_writes_nothing(capsys: Capture, tmp_path: Path) -> None:
    assert main(["train", *SMALL, "--dry-run"]) == 0
    text = capsys.readouterr().out
    for word in ("parameters", "s a step", "memory", "runs/toytown"):
        assert word in text
    assert not list(tmp_path.iterdir())


def test_a_dry_run_counts_the_steps_that_fit(
    monkeypatch: Any, capsys: Capture
) -> None:
    speed = estimate.Speed(0.1, 0.0)
    monkeypatch.setattr(estimate, "measure", lambda *_: speed)
    words = [*SMALL, "--dry-run", "--steps", "100000000"]
    assert main(["train", *words, "--max-minutes", "1"]) == 0
    found = re.search(r"run +(\d+) steps of", capsys.readouterr().out)
    assert found
    assert 500 < int(found[1]) < 600


def test_a_dry_run_knows_the_tokenizer_s_size(capsys: Capture) -> None:
    CharTokenizer.train("".join(map(chr, range(200, 9000)))).save(
        Path("wide.json")
    )
    words = ["train", *SMALL, "--dry-run"]
    assert main([*words, "--tokenizer", "wide.json"]) == 0
    assert "vocabulary 8,8" in capsys.readouterr().out


def test_a_dry_run_knows_what_another_run_brings(capsys: Capture) -> None:
    assert main(["train", *SMALL, "--steps", "2", "--out", "first"]) == 0
    known = Tokenizer.load(Path("first/tokenizer.json")).vocab_size
    capsys.readouterr()
    words = [*SMALL, "--vocab-size", "700", "--corpus", "first"]
    assert main(["train", *words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"vocabulary {known}" in out
    assert "unused   --vocab-size: first brings its tokenizer" in out


def test_no_option_is_ignored_in_silence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as an option or in a file, but not by a preset."""
    Path("own.txt").write_text(TEXT, encoding="utf-8")
    Path("mine.toml").write_text("characters = 70_000\nvocab_size = 300\n")

    def unused(words: str) -> list[str]:
        assert main(["train", "--dry-run", *words.split()]) == 0
        found = capsys.readouterr().out
        return re.findall(r"^unused +--([a-z-]+): .", found, re.M)

    taken = ["characters", "corpus-seed"]
    fast = "--preset tiny --device cpu --precision float32"
    other = f"{fast} --corpus own.txt"
    assert unused(f"{fast} --characters 70000 --corpus-seed 3") == []
    assert unused(f"{fast} --config mine.toml") == []
    assert unused(f"{other} --tokenizer characters") == []
    assert unused(f"{other} --characters 70000 --corpus-seed 3") == taken
    own = ["characters", "vocab-size"]
    letters = f"{other} --config mine.toml --tokenizer characters"
    assert unused(letters) == own
    assert unused(f"{fast} --rope-base 500") == ["rope-base"]
    assert unused(f"{fast} --position rotary --rope-base 500") == []
    monkeypatch.setenv("RANK", "1")  # the second of several processes
    assert unused(letters) == []


# --- nothing half done -------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "place", "there"),
    [
        (KeyboardInterrupt, "write_material", False),
        (MemoryError, "load_tokenizer", True),
    ],
)
def test_before_the_first_step_nothing_is_left(
    error: type[BaseException],
    place: str,
    there: bool,
    monkeypatch: Any,
    capsys: Capture,
) -> None:
    original = getattr(train, place)

    def fail(*values: Any) -> None:
        original(*values)
        Path("new/x.partial").mkdir()
        if there:
            Path("new/later.txt").write_text("somebody else's")
        raise error

    monkeypatch.setattr(train, place, fail)
    if there:
        Path("new").mkdir()
        Path("new/notes.txt").write_text("mine")
    code = main(["train", *SMALL, "--out", "new"])
    assert code == (130 if error is KeyboardInterrupt else 2)
    left = [p.name for p in Path("new").iterdir()] if there else []
    assert sorted(left) == ["later.txt", "notes.txt"] * there
    assert Path("new").exists() == there


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 3"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_known(error: Exception, known: bool) -> None:
    assert estimate.is_out_of_memory(error) == known


def test_out_of_memory_is_advice(monkeypatch: Any, fails: Fails) -> None:
    def fit(self: Trainer) -> float:
        raise RuntimeError("MPS backend out of memory (20 GB)")

    monkeypatch.setattr(Trainer, "fit", fit)
    text = fails(["train", *SMALL, "--out", "big"])
    assert "ran out of memory: about" in text
    assert "--batch-size 2 --accumulate 2 does the same in" in text
    assert "--checkpoint-activations" in text


@pytest.mark.parametrize(
    ("error", "device"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "cuda"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "cpu"),
        (MemoryError(), "cpu"),
    ],
)
def test_the_device_that_ran_out_is_named(
    error: Exception, device: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(train, "devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(estimate, "machine_memory", lambda _: 10**9)
    monkeypatch.setenv("WORLD_SIZE", "4")
    batch = train.BatchOptions(batch_size=64)
    job = train.Job(
        train.TextOptions(),
        gpt2_config(),
        TrainConfig(2),
        batch,
        train.RunOptions(),
    )
    need = estimate.size(estimate.peak_memory(job.model, job.training, 16))
    said = f"{device} ran out of memory: about {need}"
    with pytest.raises(UserError, match=said) as found, train.advising(job):
        raise error
    assert "--batch-size 32 --accumulate 2" in str(found.value)


def two_steps() -> train.Job:
    """A run of two steps, with all else as it is usual."""
    return train.Job(
        train.TextOptions(),
        gpt2_config(99),
        TrainConfig(2),
        train.BatchOptions(),
        train.RunOptions(),
    )


def test_a_device_without_room_is_not_tried(monkeypatch: Any) -> None:
    room = {"cpu": 1, "cuda": 10**12}
    monkeypatch.setattr(estimate, "devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(estimate, "machine_memory", lambda name: room[name])
    monkeypatch.setattr(train, "make_model", lambda *_: GPT(gpt2_config(99)))
    monkeypatch.setattr(estimate, "measure", lambda *_: estimate.Speed(1, 1))
    job = two_steps()
    assert train.device_for(job) == "cuda"


def test_a_run_goes_on_where_it_was(run: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(train, "devices", lambda: ["cpu", "meta"])
    monkeypatch.setattr(train, "check_device", lambda name: name)
    job = two_steps()
    assert train.later_device(job, run) == "cpu"
    assert train.later_device(job) == "meta"
    job = replace(job, run=train.RunOptions(device="meta"))
    assert train.later_device(job, run) == "meta"


# --- folders -----------------------------------------------------------------


@pytest.mark.parametrize("taken", ["config.json", "best", "train.tokens"])
def test_what_is_not_a_run_s_is_never_written_over(
    taken: str, fails: Fails
) -> None:
    """A project's folder may have names in it that a run has, too."""
    Path("project").mkdir()
    Path("project/thesis.md").write_text("mine")
    if taken == "best":
        Path("project/best").mkdir()
        Path("project/best/step-000001.safetensors").write_text("mine")
    else:
        Path("project", taken).write_text("mine")
    before = sorted(Path("project").rglob("*"))
    error = fails(["train", *SMALL, "--out", "project"])
    assert f"project holds other things (thesis.md), so its {taken}" in error
    assert sorted(Path("project").rglob("*")) == before


def test_one_training_at_a_time_in_a_folder(
    run: Path, tmp_path: Path, capsys: Capture, fails: Fails
) -> None:
    shutil.copytree(run, "copy")
    for folder, words in (("new", SMALL), ("copy", ["--resume"])):
        with alone(Path(folder)):
            error = fails(["train", *words, "--out", folder])
            assert f"{folder}: another training is at work there" in error
        assert main(["train", *words, "--out", folder]) == 0
        assert not Path(folder, ".lock").exists()
    assert equal(Path("new"), run)


def test_a_lock_that_was_left_locks_nothing(run: Path) -> None:
    Path("new").mkdir()
    Path("new/.lock").write_text("")  # of a process that was killed
    assert main(["train", *SMALL, "--out", "new"]) == 0
    assert equal(Path("new"), run)


def test_folders_that_were_made_for_nothing_go(
    fails: Fails, tmp_path: Path
) -> None:
    fails(["train", *SMALL, "--corpus", "gone.txt", "--out", "a/b/c"])
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_folder_is_a_folder(run: Path, tmp_path: Path) -> None:
    Path("elsewhere").mkdir()
    Path("link").symlink_to("elsewhere")
    assert main(["train", *SMALL, "--out", "link"]) == 0
    assert equal(Path("elsewhere"), run)


# --- what else there is on a machine -----------------------------------------


def test_a_board_that_is_not_there_is_missed_at_once(
    monkeypatch: Any, fails: Fails
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ["train", *SMALL, "--out", "new", "--tensorboard"]
    assert "pip install tensorboard" in fails(words)
    assert not Path("new").exists()


def test_a_compiler_that_is_not_there(monkeypatch: Any, fails: Fails) -> None:
    def compile_blocks(*_: Any) -> None:
        raise BackendCompilerFailed(len, RuntimeError("No C++ compiler"), None)

    monkeypatch.setattr(estimate, "seconds_per_step", compile_blocks)
    words = ["train", *SMALL, "--out", "new", "--compile"]
    error = fails(words)
    assert "--compile: torch cannot compile the model here" in error
    assert "No C++ compiler" in error
    assert "cannot compile" in fails([*words, "--dry-run"])
    assert not Path("new").exists()


def test_a_run_of_another_device(run: Path, fails: Fails) -> None:
    """TF32 is of graphics cards; on the processor the run is another."""
    shutil.copytree(run, "copy")
    for name in ("config.json", "state.json"):
        [path] = Path("copy").rglob(name)
        write_json(
            path,
            json.loads(
                path.read_text().replace(
                    '"precision": "float32"', '"precision": "tf32"'
                )
            ),
        )
    words = ["--resume", "--out", "copy"], ["--from", "copy", "--out", "new"]
    for more in words:
        error = fails(["train", "--no-verify", *more, "--steps", "6"])
        assert "cpu cannot train in tf32, as this run does" in error
    more = ["--precision", "float32", "--steps", "8"]
    assert main(["train", "--no-verify", *words[1], *more]) == 0
    assert main(["evaluate", "--run", "copy", "--no-verify"]) == 0


def test_a_damaged_run_is_branched_where_nobody_asks_its_seal(
    run: Path, fails: Fails
) -> None:
    shutil.copytree(run, "copy")
    [weights] = Path("copy").rglob("model.safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    words = ["train", "--from", "copy", "--steps", "8", "--out", "new"]
    assert "model.safetensors is not what" in fails(words)
    assert main([*words, "--no-verify"]) == 0


@pytest.mark.parametrize(
    "lost", ["data.batch_size", "data.seed", "data", "text", "resolved"]
)
def test_without_verification_damage_is_a_sentence_as_well(
    lost: str, run: Path, fails: Fails
) -> None:
    shutil.copytree(run, "copy")
    found = read_json(Path("copy/config.json"))
    part, _, name = lost.partition(".")
    if name:
        del found[part][name]
    elif part == "data":
        found[part] = {"validation_bytes": "many"}
    else:
        found["data"][part] = 5
    write_json(Path("copy/config.json"), found)
    commands = ["train --resume --out copy"]
    commands += ["train --from copy --steps 8 --out new"]
    commands += ["evaluate --run copy"] * (part == "data")
    for words in commands:
        assert "config.json" in fails([*words.split(), "--no-verify"])
    assert "config.json" in fails(["compare", "copy"])


def test_a_model_that_lost_a_number(run: Path, fails: Fails) -> None:
    shutil.copytree(run, "copy")
    found = read_json(Path("copy/config.json"))
    del found["model"]["context"]
    write_json(Path("copy/config.json"), found)
    for command in ("evaluate", "sample"):
        error = fails([command, "--run", "copy", "--no-verify"])
        assert "config.json does not hold what it should" in error


# --- texts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "kind"),
    [
        ("small-gpt2", "bpe"),
        pytest.param("small", "characters", marks=pytest.mark.judge),
    ],
)
def test_own_text(preset: str, kind: str, capsys: Capture) -> None:
    Path("own.txt").write_text(TEXT, encoding="utf-8")
    words = [*SMALL, "--preset", preset, "--corpus", "own.txt", "--out", "own"]
    words.remove("tiny"), words.remove("--preset")
    words += ["--tokenizer", kind, "--optimizer", "muon"]
    assert main(["train", *words]) == 0
    data = read_json(Path("own/config.json"))["data"]
    assert data["validation_bytes"] == len(TEXT) - int(0.9 * len(TEXT))
    assert main(["evaluate", "--run", "own"]) == 0
    assert main(["sample", "--run", "own", "--tokens", "5"]) == 0


def test_a_folder_of_texts(fails: Fails) -> None:
    for n in range(10):
        Path("texts").mkdir(exist_ok=True)
        Path(f"texts/{n}.txt").write_text(f"Text {n}. " + TEXT[:400])
    job = train.TextOptions(corpus="texts")
    material = train.read_material(job)
    assert len(list(material.train)) == 9
    assert list(material.validation) == ["Text 9. " + TEXT[:400]]
    assert material.separate
    for n in range(1, 10):
        Path(f"texts/{n}.txt").unlink()
    assert "holds 1 texts" in fails(["train", *SMALL, "--corpus", "texts"])


def test_a_tokenizer_that_is_there(capsys: Capture) -> None:
    Path("own.txt").write_text(TEXT, encoding="utf-8")
    words = ["own.txt", "--vocab-size", "270", "--out", "mine.json"]
    assert main(["tokenizer", "train", *words]) == 0
    words = [*SMALL, "--corpus", "own.txt", "--tokenizer", "mine.json"]
    assert main(["train", *words, "--out", "own"]) == 0
    made = Path("own/tokenizer.json").read_bytes()
    assert made == Path("mine.json").read_bytes()
    assert load_model(Path("own")).config.vocab_size == 270
    capsys.readouterr()
    Path("mine.json").unlink()  # the run has its own
    assert main(["train", "--resume", "--out", "own"]) == 0
    assert "resuming own after step 6" in capsys.readouterr().out


def test_memory_is_that_of_the_tokenizer(capsys: Capture) -> None:
    letters = "".join(map(chr, range(200, 9000)))
    CharTokenizer.train(letters + TEXT + "\n").save(Path("wide.json"))
    Path("own.txt").write_text(TEXT, encoding="utf-8")
    words = [*SMALL, "--corpus", "own.txt", "--tokenizer", "wide.json"]
    assert main(["train", *words, "--out", "own"]) == 0
    config, loop = load_model(Path("own")).config, TrainConfig(6)
    need = estimate.size(estimate.peak_memory(config, loop, 4))
    assert config.vocab_size > 8000
    assert f"memory   about {need} at" in capsys.readouterr().out


def test_a_folder_called_toytown_is_not_the_text(run: Path) -> None:
    shutil.copytree(run, "toytown")
    assert main(["train", *SMALL, "--corpus-seed", "7", "--out", "new"]) == 0
    data = [Path(f, "train.tokens").read_bytes() for f in ("new", "toytown")]
    assert data[0] != data[1]
    words = [*SMALL, "--corpus", "./toytown", "--out", "same"]
    assert main(["train", *words]) == 0
    assert Path("same/train.tokens").read_bytes() == data[1]


@pytest.mark.judge
def test_shakespeare(
    tmp_path: Path, shakespeare: str, monkeypatch: Any, capsys: Capture
) -> None:
    file = tmp_path / "mirror" / "tinyshakespeare.txt"
    file.parent.mkdir()
    file.write_bytes(shakespeare.encode())
    monkeypatch.setenv("SCRATCHLM_MIRROR", str(file.parent))
    words = ["--corpus", "shakespeare", "--tokenizer", "characters"]
    assert main(["train", *SMALL, *words]) == 0
    data = read_json(Path("runs/shakespeare/config.json"))["data"]
    assert data["train_tokens"] == 1_003_854
    assert data["validation_tokens"] == 111_540


def test_texts_that_do_not_do(tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "latin.txt").write_bytes("Müller".encode("latin-1"))
    (tmp_path / "wide.txt").write_text(TEXT, "utf-16")
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": TEXT}))
    (tmp_path / "short.txt").write_text("a")
    (tmp_path / "bad.jsonl").write_text('{"words": 3}\n')
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("latin.txt", "iconv -f LATIN1"),
        ("wide.txt", "iconv -f UTF-16"),
        ("one.jsonl", "holds 1 documents; it takes two or more"),
        ("bad.jsonl", "bad.jsonl, line 1"),
        ("short.txt", "too little"),
        ("nothing.txt", "nothing.txt"),
        ("x" * 300, "file name too long"),
        ("folder", "folder"),
    ):
        error = fails(["train", *SMALL, "--corpus", name, "--out", "new"])
        assert message in error
        assert not Path("new").exists()


def test_an_address_may_be_long(monkeypatch: Any, capsys: Capture) -> None:
    """As those are that are signed; no file's name may have 256 bytes."""
    Path("own.txt").write_text(TEXT, encoding="utf-8")
    address = f"https://example.org/own.txt?signature={'a' * 400}"
    monkeypatch.setattr(train.corpus, "get", lambda *_, **__: Path("own.txt"))
    words = [*SMALL, "--corpus", address, "--steps", "1"]
    assert main(["train", *words]) == 0
    assert load_model(Path("runs/own")).config.channels == 16


def test_a_text_that_leaves_nothing_to_judge_by(fails: Fails) -> None:
    words = ["train", *SMALL, "--out", "new", "--context", "2"]
    Path("few.txt").write_text("b" * 160)
    Tokenizer.train("b" * 160, 400).save(Path("mine.json"))
    words += ["--corpus", "few.txt", "--tokenizer", "mine.json"]
    assert "leaves 1 tokens to be judged by" in fails(words)
    assert not Path("new").exists()
    error = fails(["train", *SMALL, "--characters", "700", "--out", "new"])
    assert "2 stories are too few to split; take 20 or more" in error


@pytest.mark.parametrize(
    ("corpus", "folder"),
    [
        ("toytown", "runs/toytown"),
        ("shakespeare", "runs/shakespeare"),
        ("texts/my notes.txt", "runs/my-notes"),
        ("https://example.org/a/b.txt", "runs/b"),
        ("data/notes/", "runs/notes"),
        ("..", "runs/text"),
    ],
)
def test_a_run_lives_under_the_name_of_its_text(
    corpus: str, folder: str
) -> None:
    text = train.TextOptions(corpus=corpus)
    job = train.Job(text, *[None] * 2, train.BatchOptions(), train.RunOptions())  # type: ignore[misc]
    assert job.folder == Path(folder)


def test_a_copy_of_a_run_is_a_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy")
    assert main(["train", "--resume", "--out", "copy"]) == 0
    assert equal(tmp_path / "copy", run)


def test_the_tokens_of_another_run(run: Path, fails: Fails) -> None:
    """Runs that differ in one number alone have the very same text."""
    words = ["train", *SMALL, "--corpus", str(run), "--out", "same"]
    assert main(words) == 0
    assert equal(run, Path("same"))
    for name in ("tokenizer.json", "train.tokens", "validation.tokens"):
        assert (run / name).read_bytes() == Path("same", name).read_bytes()
    assert main([*words[:-1], "other", "--learning-rate", "0.1"]) == 0
    assert not equal(run, Path("other"))
    error = fails([*words[:-1], "third", "--tokenizer", "characters"])
    assert "brings its tokenizer with its tokens" in error
    damaged = bytearray(Path("same", "train.tokens").read_bytes())
    damaged[-1] ^= 1
    Path("same", "train.tokens").write_bytes(damaged)
    error = fails(["train", *SMALL, "--corpus", "same", "--out", "third"])
    assert "train.tokens" in error
    assert not Path("third").exists()


def test_a_changed_configuration_is_refused_before_it_is_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its words would be refused, too, but as if the user had typed them."""
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"layers"', '"layeRs"'))
    assert main(["train", "--resume", "--out", str(folder)]) == 2
    assert "config.json is not what" in capsys.readouterr().err
    write_json(path, read_json(run / "config.json"))
    path.write_text(path.read_text().replace(": ", ":  ", 1))
    assert main(["train", "--resume", "--no-verify", "--out", str(folder)]) == 0


# --- several processes -------------------------------------------------------

Among = Callable[[int, Callable[[int], Any]], list[Any]]


def same_run(ours: Path, other: Path) -> None:
    """Two runs have the same log, but for the last digits, and files."""
    two, one = read_log(ours), read_log(other)
    assert [line["tokens"] for line in two] == [line["tokens"] for line in one]
    for name in ("train_loss", "validation_loss", "gradient_norm"):
        got, wanted = (
            [line[name] for line in log if name in line] for log in (two, one)
        )
        assert got == pytest.approx(wanted, abs=1e-4)
    assert {p.name for p in ours.iterdir()} == {p.name for p in other.iterdir()}


def test_two_processes_train_as_one(run: Path, among: Among) -> None:
    def work(rank: int) -> int:
        return main(["train", *SMALL, "--out", "two"])

    assert among(2, work) == [0, 0]
    same_run(Path("two"), run)


def test_two_processes_train_a_divided_model_as_one(
    run: Path, among: Among
) -> None:
    def begin(rank: int) -> int:
        words = ["--shard", "--out", "two"]
        if rank:
            return main(["train", *SMALL, *words])
        with mock.patch.object(Trainer, "finish_step", stop_after(3)):
            return main(["train", *SMALL, *words])

    def go_on(rank: int) -> int:
        return main(["train", "--resume", "--shard", "--out", "two"])

    assert among(2, begin) == [130, 0]
    assert among(3, go_on) == [0, 0, 0]
    same_run(Path("two"), run)
    for a, b in zip(weights(Path("two")), weights(run), strict=True):
        assert (a - b).abs().max() < 1e-4
    assert read_json(Path("two/config.json")) == read_json(run / "config.json")


def test_a_divided_model_is_made_in_main_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def made(model: GPT, *rest: Any) -> None:
        raise UserError(f"{model.config.layers} layers: {rest[2].precision}")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(distributed, "ShardTrainer", made)
    words = ["train", *SMALL, "--layers", "3", "--shard", "--out", "new"]
    monkeypatch.setattr(train, "train_together", train.train_alone)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "3 layers: float32" in printed.err
    assert "3 layers, 2 heads" in printed.out
    assert re.search(r"memory .* on each of 2 processes", printed.out)


def test_what_a_divided_model_would_take(capsys: Capture) -> None:
    words = [*SMALL, "--layers", "3", "--shard", "--dry-run"]
    assert main(["train", *words]) == 0
    text = capsys.readouterr().out
    assert "3 layers" in text
    assert re.search(
        r"memory   about \S+ MB on each of 2, \S+ MB on each of 4, "
        r"\S+ MB on each of 8 processes",
        text,
    )


def test_where_a_model_cannot_be_divided(
    fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", *SMALL, "--shard", "--out", "new"]
    said = fails([*words, "--optimizer", "adamw"])
    assert "torchrun --standalone --nproc-per-node 2 -m scratchlm" in said
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "whole matrix" in fails([*words, "--optimizer", "muon"])
    assert not Path("new").exists()


def test_what_several_processes_cannot_do(
    fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    arguments = ["train", *SMALL, "--out", "new"]
    assert "too small for 5 processes" in fails(arguments)
    assert "leave torchrun out" in fails([*arguments, "--dry-run"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one process" in fails([*arguments, "--device", "mps"])
    assert not Path("new").exists()


def test_each_process_has_a_card_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "check_device", lambda name: name)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert train.rank_device("cuda") == "cuda:3"
    assert train.rank_device("cuda:1") == "cuda:1"
    for found, wanted in (("cuda", "cuda:3"), ("mps", "cpu")):
        monkeypatch.setattr(train, "devices", ["cpu", found].copy)
        assert train.rank_device("auto") == wanted


def test_a_lost_process_is_told_in_a_sentence(
    fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(device: str) -> None:
        raise distributed.RankLost("it is gone; train --resume goes on")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "joined", lost)
    assert "train --resume" in fails(["train", *SMALL, "--out", "new"])
