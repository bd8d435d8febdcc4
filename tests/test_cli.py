"""The command line: one command from nothing, and errors one can mend."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scratchlm import __main__ as cli
from scratchlm.text.files import read_json
from scratchlm.training.checkpoint import checkpoint_folder, load_model
from scratchlm.training.trainer import Interrupted, Trainer, read_log

COMMANDS = (
    ["corpus", "get"],
    ["corpus", "toytown"],
    ["corpus", "prepare"],
    ["tokenizer", "train"],
    ["tokenizer", "encode"],
    ["tokenizer", "export"],
    ["train"],
    ["sample"],
    ["evaluate"],
)
SMALL = shlex.split("""
    --characters 40000 --vocab-size 300 --layers 1 --heads 2 --channels 16
    --context 16 --batch-size 4 --steps 6 --evaluate-every 3
    --sample-every 1 --warmup 2
""")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: Any) -> Path:
    """Every test runs in a folder of its own, without a mirror."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRATCHLM_MIRROR", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small run on Toytown."""
    folder = tmp_path_factory.mktemp("runs") / "toytown"
    assert cli.main(["train", *SMALL, "--out", str(folder)]) == 0
    return folder


def fails(arguments: list[str], capsys: Any) -> str:
    """Run a command that is to fail; returns what it says."""
    assert cli.main(arguments) == 2
    error: str = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches(command: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_code:
        cli.main([*command, "--help"])
    assert exit_code.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m scratchlm {' '.join(command)}" in text
    for part in ("example:", "book:"):
        assert part in text
    assert "(None)" not in text
    assert max(map(len, text.splitlines())) <= 96


def test_examples_in_the_help_are_valid(capsys: Any) -> None:
    parser = cli.make_parser()
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        text = capsys.readouterr().out.replace("\\\n", " ")
        for line in re.findall(r"^  python -m scratchlm (.*)$", text, re.M):
            words = [w.strip('"') for w in re.findall(r'"[^"]*"|\S+', line)]
            assert callable(parser.parse_args(words).run)


def last_weights(run: Path) -> bytes:
    """The file of a run's last weights."""
    return (checkpoint_folder(run) / "model.safetensors").read_bytes()


def test_train_from_nothing(run: Path, capsys: Any) -> None:
    folder = run.parent / "other"
    assert cli.main(["train", *SMALL, "--out", str(folder)]) == 0
    text = capsys.readouterr().out
    for word in ("parameters", "epochs", "operations", "s a step", "floor"):
        assert word in text
    assert "validation" in text
    assert "sample --run" in text
    config = read_json(folder / "config.json")
    data = config["data"]
    assert data["corpus"] == "toytown"
    assert data["entropy_nats"] > 0
    assert config["model"]["channels"] == 16
    assert [line["step"] for line in read_log(folder)] == [1, 2, 3, 4, 5, 6]
    assert load_model(folder, snapshot=0).config.vocab_size == 300
    assert last_weights(folder) == last_weights(run)  # the same seed


def test_the_estimate_does_not_change_the_run(
    run: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cli, "seconds_per_step", lambda *_: 1.0)
    folder = run.parent / "unmeasured"
    assert cli.main(["train", *SMALL, "--out", str(folder)]) == 0
    assert last_weights(folder) == last_weights(run)


def test_stop_and_resume(run: Path, monkeypatch: Any, capsys: Any) -> None:
    folder = run.parent / "stopped"
    original = Trainer.finish_step

    def stop(self: Trainer) -> None:
        if self.step == 3:
            raise Interrupted(self.how_to_resume())
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "finish_step", stop)
        assert cli.main(["train", *SMALL, "--out", str(folder)]) == 130
    assert f"--resume --out {folder}" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 0
    assert "resuming" in capsys.readouterr().out
    assert last_weights(folder) == last_weights(run)
    for name in ("best/step-000006", "snapshots/step-000006"):
        same = f"{name}.safetensors"
        assert (folder / same).read_bytes() == (run / same).read_bytes()


def test_max_minutes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(cli, "seconds_per_step", lambda *_: 20.0)
    arguments = [*SMALL, "--max-minutes", "1", "--out", "short"]
    assert cli.main(["train", *arguments]) == 0
    assert len(read_log(tmp_path / "short")) == 3


@pytest.mark.parametrize(
    ("form", "tokenizer"), [("llama", "bpe"), ("gpt2", "characters")]
)
def test_own_text(tmp_path: Path, form: str, tokenizer: str) -> None:
    text = "How many loaves has Mrs Pell? Seven. " * 60
    (tmp_path / "own.txt").write_text(text, encoding="utf-8")
    arguments = [*SMALL, "--corpus", "own.txt", "--form", form, "--out", "own"]
    arguments += ["--tokenizer", tokenizer, "--optimizer", "muon"]
    assert cli.main(["train", *arguments]) == 0
    data = read_json(tmp_path / "own" / "config.json")["data"]
    assert data["validation_bytes"] == len(text) - int(0.9 * len(text))
    assert cli.main(["evaluate", "--run", "own"]) == 0
    assert cli.main(["sample", "--run", "own", "--tokens", "5"]) == 0


def test_documents(tmp_path: Path, capsys: Any) -> None:
    arguments = ["--characters", "30000", "--out", "stories.jsonl"]
    assert cli.main(["corpus", "toytown", *arguments]) == 0
    assert "entropy" in capsys.readouterr().out
    lines = (tmp_path / "stories.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["log_prob"] < 0
    for kind in ("bpe", "characters"):
        arguments = ["--corpus", "stories.jsonl", "--tokenizer", kind]
        assert cli.main(["train", *SMALL, *arguments, "--out", kind]) == 0


def test_prepare(tmp_path: Path, capsys: Any) -> None:
    stories = [f"Story {n}: {n * n} loaves, then {n} more." for n in range(99)]
    lines = [*stories, stories[0], "Write to pell@bakery.example today."]
    (tmp_path / "notes.txt").write_text("\r\n\r\n".join(lines), "utf-8")
    arguments = ["notes.txt", "--out", "notes", "--license", "MIT"]
    assert cli.main(["corpus", "prepare", *arguments]) == 0
    text = capsys.readouterr().out
    assert re.search(r"documents +101\n", text)
    assert re.search(r"personal data +1 {'email': 1}\n", text)
    assert re.search(r"\nduplicates +1\n", text)
    parts = [
        cli.read_documents(tmp_path / "notes" / f"{name}.jsonl")
        for name in ("train", "validation", "test")
    ]
    assert any("Write to <email> today." in part for part in parts)
    manifest = read_json(tmp_path / "notes" / "manifest.json")
    assert manifest["sources"][0]["license"] == "MIT"
    assert cli.main(["train", *SMALL, "--corpus", "notes", "--out", "n"]) == 0
    arguments = ["notes.txt", "--out", "again", "--keep-pii"]
    assert cli.main(["corpus", "prepare", *arguments]) == 0
    assert cli.main(["corpus", "prepare", *arguments]) == 2  # it is there


def test_shakespeare(
    tmp_path: Path, shakespeare: str, monkeypatch: Any, capsys: Any
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    file = mirror / "tinyshakespeare.txt"
    file.write_bytes(shakespeare.encode())
    monkeypatch.setenv("SCRATCHLM_MIRROR", str(mirror))
    assert cli.main(["corpus", "get", "shakespeare"]) == 0
    assert "1,115,394 bytes" in capsys.readouterr().out
    arguments = ["--corpus", "shakespeare", "--tokenizer", "characters"]
    assert cli.main(["train", *SMALL, *arguments, "--out", "s"]) == 0
    data = read_json(tmp_path / "s" / "config.json")["data"]
    assert data["train_tokens"] == 1_003_854
    assert data["validation_tokens"] == 111_540


def test_sample(run: Path, capsys: Any) -> None:
    arguments = ["sample", "--run", str(run), "--prompt", "Mrs Pell"]
    arguments += ["--tokens", "20", "--top-k", "50", "--top-p", "0.9"]
    texts = []
    for seed in ("1", "1", "2"):
        assert cli.main([*arguments, "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("Mrs Pell") for text in texts)


def test_evaluate(run: Path, capsys: Any) -> None:
    assert cli.main(["evaluate", "--run", str(run)]) == 0
    text = capsys.readouterr().out
    values = dict(re.findall(r"^(\S.*?)\s{2,}([\d.,]+)", text, re.M))
    nats = float(values["nats per token"])
    best = min(
        line["validation_loss"]
        for line in read_log(run)
        if "validation_loss" in line
    )
    assert nats == pytest.approx(best, abs=1e-3)
    gap = nats - float(values["entropy"])
    assert float(values["distance from it"]) == pytest.approx(gap, abs=2e-4)
    assert float(values["bits per byte"]) > 0


def test_tokenizer_commands(tmp_path: Path, run: Path, capsys: Any) -> None:
    (tmp_path / "text.txt").write_text("low lower lowest " * 20)
    for kind in ("bpe", "characters"):
        arguments = ["text.txt", "--kind", kind, "--vocab-size", "260"]
        out = f"made/{kind}.json"
        assert cli.main(["tokenizer", "train", *arguments, "--out", out]) == 0
        capsys.readouterr()
        encode = ["tokenizer", "encode", "--tokenizer", out, "lower"]
        assert cli.main(encode) == 0
        text = capsys.readouterr().out
        pieces = re.findall(r"^ +\d+ '(.*)'$", text, re.M)
        assert "".join(pieces) == "lower"
        assert f"5 characters, {len(pieces)} tokens" in text
    for form in ("tokenizers", "tiktoken"):
        arguments = ["--tokenizer", "made/bpe.json", "--form", form]
        arguments += ["--out", f"made/{form}"]
        assert cli.main(["tokenizer", "export", *arguments]) == 0
        assert (tmp_path / "made" / form).stat().st_size > 0
    arguments = ["--tokenizer", "made/characters.json", "--out", "x"]
    error = fails(["tokenizer", "export", *arguments], capsys)
    assert "no merges to export" in error


def test_mistakes_are_named(
    tmp_path: Path, run: Path, capsys: Any
) -> None:
    (tmp_path / "latin.txt").write_bytes("Müller".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("a")
    (tmp_path / "bad.jsonl").write_text('{"words": 3}\n')
    for arguments, message in (
        (["sample", "--run", "nowhere"], "train one first"),
        (["evaluate", "--run", "nowhere"], "train one first"),
        (["train", "--resume", "--out", "nowhere"], "train one first"),
        (["sample", "--run", str(run), "--snapshot", "5"], "there are: 0, 6"),
        (["train", "--out", str(run)], "holds another run"),
        (["train", "--corpus", "latin.txt", "--out", "a"], "not UTF-8"),
        (["train", "--corpus", "bad.jsonl", "--out", "a"], "a line: 'text'"),
        (["train", "--corpus", "empty.txt", "--out", "b"], "too little"),
        (["train", "--corpus", "nothing.txt", "--out", "c"], "nothing.txt"),
        (["train", *SMALL, "--heads", "3", "--out", "d"], "heads"),
        (["train", "--learning-rate", "-1", "--out", "e"], "learning_rate"),
    ):
        assert message in fails(arguments, capsys)
    assert not (tmp_path / "e").exists()  # found before any work was done


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--steps", "0"],
        ["train", "--device", "abacus"],
        ["train", "--optimizer", "sgd"],
        ["sample", "--tokens", "many"],
        ["fly"],
        [],
    ],
)
def test_arguments_are_checked(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_code:
        cli.main(arguments)
    assert exit_code.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_duration() -> None:
    given = (5, 89, 200, 8000)
    wanted = ["5 s", "89 s", "3 min", "2.2 h"]
    assert [cli.duration(seconds) for seconds in given] == wanted


def test_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scratchlm", "sample", "--run", "nowhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere holds no run")
