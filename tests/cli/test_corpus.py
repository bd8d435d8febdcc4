"""Text from the command line: fetched, written and cleaned."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scratchlm.cli.app import main
from scratchlm.text.corpus import read_documents
from scratchlm.text.files import read_json

from .conftest import SMALL

Fails = Callable[[list[str]], str]
Capture = pytest.CaptureFixture[str]


def test_get(
    tmp_path: Path, shakespeare: str, monkeypatch: Any, capsys: Capture
) -> None:
    file = tmp_path / "mirror" / "tinyshakespeare.txt"
    file.parent.mkdir()
    file.write_bytes(shakespeare.encode())
    monkeypatch.setenv("SCRATCHLM_MIRROR", str(file.parent))
    assert main(["corpus", "get", "shakespeare"]) == 0
    assert "1,115,394 bytes" in capsys.readouterr().out
    assert Path("data/tinyshakespeare.txt").read_text("utf-8") == shakespeare


def test_get_what_is_not_there(fails: Fails) -> None:
    assert "gone.txt" in fails(["corpus", "get", "gone.txt"])
    Path("text.txt").write_text("a text")
    words = ["corpus", "get", "text.txt", "--sha256", "0" * 64]
    assert "SHA-256" in fails(words)
    assert not Path("data/text.txt").exists()


def test_toytown(capsys: Capture, fails: Fails) -> None:
    words = ["--characters", "30000", "--out", "stories.jsonl"]
    assert main(["corpus", "toytown", *words]) == 0
    assert re.search(r"entropy: \d\.\d+ nats", capsys.readouterr().out)
    lines = Path("stories.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0])["log_prob"] < 0
    words = ["--corpus", "stories.jsonl", "--tokenizer", "characters"]
    assert main(["train", *SMALL, *words]) == 0
    for name, value in (("--characters", "0"), ("--seed", "-1")):
        assert f"{name} {value}" in fails(["corpus", "toytown", name, value])


def note(n: int) -> str:
    """A note that is not nearly the same as another."""
    return " ".join(f"w{n * 7919 + k * k}" for k in range(8))


def notes() -> str:
    """Two hundred notes, one of them twice, and one with an address."""
    notes = [note(n) for n in range(200)]
    more = [notes[0], "Write to pell@bakery.example today."]
    return "\r\n\r\n".join([*notes, *more])


def test_prepare(capsys: Capture, fails: Fails) -> None:
    Path("notes.txt").write_text(notes(), "utf-8")
    words = ["notes.txt", "--out", "notes", "--license", "MIT"]
    assert main(["corpus", "prepare", *words]) == 0
    text = capsys.readouterr().out
    assert re.search(r"documents +202\n", text)
    assert re.search(r"personal data +1 {'email': 1}\n", text)
    assert re.search(r"\nduplicates +1\n", text)
    parts = [
        list(read_documents(Path("notes") / f"{name}.jsonl"))
        for name in ("train", "validation", "test")
    ]
    assert all(parts)
    assert any("Write to <email> today." in part for part in parts)
    manifest = read_json(Path("notes/manifest.json"))
    assert manifest["sources"][0]["license"] == "MIT"
    assert main(["train", *SMALL, "--corpus", "notes", "--out", "n"]) == 0
    words = ["notes.txt", "--out", "again", "--keep-pii"]
    assert main(["corpus", "prepare", *words]) == 0
    assert "personal data     0 {}" in capsys.readouterr().out
    before = parts[0]
    Path("one.txt").write_text("One note.")
    error = fails(["corpus", "prepare", "one.txt", "--out", "notes"])
    assert "notes is not empty" in error
    assert list(read_documents(Path("notes/train.jsonl"))) == before


def test_prepare_where_a_part_would_be_empty(fails: Fails) -> None:
    Path("one.txt").write_text("One note.\n\nAnd another one.")
    error = fails(["corpus", "prepare", "one.txt", "--out", "few"])
    assert "2 different documents, which leave none for" in error
    assert not Path("few").exists()
    assert "gone.txt" in fails(["corpus", "prepare", "gone.txt", "--out", "x"])


def test_prepare_a_folder(capsys: Capture) -> None:
    Path("texts/more").mkdir(parents=True)
    for n in range(120):
        name = "texts/more" if n % 2 else "texts"
        Path(f"{name}/{n}.txt").write_text(note(n))
    assert main(["corpus", "prepare", "texts", "--out", "made"]) == 0
    assert re.search(r"documents +120\n", capsys.readouterr().out)
    assert len(read_json(Path("made/manifest.json"))["sources"]) == 3
