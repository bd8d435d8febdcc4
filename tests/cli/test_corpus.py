"""Text from the command line: fetched, written and cleaned."""

import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scratchlm.cli.app import main
from scratchlm.text.corpus import read_documents, write_documents
from scratchlm.text.files import PARTIAL, read_json
from scratchlm.text.quality import web_page
from scratchlm.text.shards import open_shards
from scratchlm.text.tokens import open_tokens
from scratchlm.text.toytown import write_corpus

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


def heap() -> list[str]:
    """Ten stories and ten offers, in turn."""
    draw = random.Random(0)
    told = [story.text for story in write_corpus(20_000)][:10]
    offers = [web_page("shop", text, draw) for text in told]
    return [text for pair in zip(told, offers, strict=True) for text in pair]


def save(name: str, texts: list[str]) -> str:
    """A file of documents, by its name."""
    write_documents(Path(name), [{"text": text} for text in texts])
    return name


def test_filter_by_rules(capsys: Capture) -> None:
    menu = "\u2022 Home\n\u2022 Shop"
    save("pages.jsonl", [*heap(), menu])
    words = ["corpus", "filter", "pages.jsonl", "--out", "out/kept.jsonl"]
    assert main([*words, "--least-words", "30"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"documents +21\nrefused +1, by one rule or more:", told)
    assert re.search(r"\n  stop_words +1\n", told)
    assert re.search(r"\nkept +20\n", told)
    assert "next: python -m scratchlm corpus prepare out/kept.jsonl " in told
    assert list(read_documents(Path("out/kept.jsonl"))) == heap()
    refused = Path("out/kept.refused.jsonl").read_text("utf-8").splitlines()
    assert len(refused) == 1
    page = json.loads(refused[0])
    assert page["text"] == menu
    reason = {"rule": "words", "value": 4, "least": 30, "most": 100_000}
    assert reason in page["reasons"]


def test_filter_by_likeness_and_without_tests(capsys: Capture) -> None:
    texts = heap()
    pages = save("pages.jsonl", texts)
    stories = [story.text for story in write_corpus(40_000, seed=3)][:20]
    good = save("good.jsonl", stories)
    item = " ".join(texts[0].upper().split()[:13])
    tests = save("tests.jsonl", [item, "Who sold it?"])
    words = ["corpus", "filter", pages, "--out", "kept.jsonl", "--like", good]
    words += ["--without", tests, "--least-words", "30"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert re.search(r"items of tests +2, 1 of them too short\n", told)
    assert re.search(r"\n  like +10\n  tests +1\nkept +9\n", told)
    assert list(read_documents(Path("kept.jsonl"))) == texts[2::2]
    assert main([*words, "--keep", "1"]) == 0
    assert re.search(r"\nkept +19\n", capsys.readouterr().out)


def test_filter_that_leaves_nothing(capsys: Capture, fails: Fails) -> None:
    save("pages.jsonl", ["Home.", "Shop."])
    good = save("good.jsonl", heap()[::2])
    words = ["corpus", "filter", "pages.jsonl", "--out", "kept.jsonl"]
    error = fails([*words, "--like", good])
    assert "no document is left, and nothing was written" in error
    assert not list(Path().glob("kept*"))


def test_filter_of_what_cannot_be(fails: Fails) -> None:
    save("pages.jsonl", heap())
    Path("empty.txt").write_text("\n")
    Path("folder.jsonl").mkdir()
    save("folder.jsonl/pages.jsonl", heap())
    words = ["corpus", "filter"]
    for more, why in (
        (["pages.jsonl", "--out", "kept.txt"], "ends in .jsonl"),
        (["pages.jsonl", "--out", "folder.jsonl"], "is a folder"),
        (["pages.jsonl", "--out", "pages.jsonl"], "lie in what is read"),
        (
            ["folder.jsonl", "--out", "folder.jsonl/kept.jsonl"],
            "lie in what is read",
        ),
        (["pages.jsonl", "--out", "k.jsonl", "--keep", "0.5"], "needs --like"),
        (["pages.jsonl", "--out", "k.jsonl", "--least-words", "-1"], "0 or"),
        (["gone.jsonl", "--out", "k.jsonl"], "gone.jsonl"),
        (
            ["pages.jsonl", "--out", "k.jsonl", "--like", "empty.txt"],
            "--like empty.txt: it holds no document",
        ),
        (
            ["pages.jsonl", "--out", "k.jsonl", "--like", "pages.jsonl",
             "--keep", "2"],
            "--keep 2.0: a share above 0",
        ),
    ):  # fmt: skip
        assert why in fails([*words, *more])
        assert not Path("k.jsonl").exists()


def prepared() -> list[str]:
    """A folder that `corpus prepare` wrote, and how it is cut small."""
    Path("notes.txt").write_text(notes(), "utf-8")
    assert main(["corpus", "prepare", "notes.txt", "--out", "notes"]) == 0
    return ["corpus", "shards", "notes", "--piece-bytes", "2000",
            "--vocab-size", "300", "--workers", "1"]  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    """All files in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_shards(capsys: Capture, fails: Fails) -> None:
    words = prepared()
    assert main([*words, "--out", "cut"]) == 0
    said = capsys.readouterr().out
    row = open_shards(Path("cut/train"))
    count = len(row.parts)
    assert count > 4
    told = f"train       {len(row):,} tokens in {count} shards, 0 of them done"
    assert told in said
    before = content(Path("cut"))
    assert main([*words, "--out", "cut"]) == 0
    assert f"{count} shards, {count} of them done" in capsys.readouterr().out
    assert content(Path("cut")) == before
    small = [*SMALL, "--steps", "2"]
    for corpus, more in (("cut", []), ("notes", ["cut/tokenizer.json"])):
        chosen = ["--tokenizer", *more] if more else []
        run = ["--corpus", corpus, "--out", f"of-{corpus}", *chosen]
        assert main(["train", *small, *run]) == 0
    for name in ("train", "validation"):
        ours, wanted = (
            open_tokens(Path(f"of-{corpus}/{name}.tokens")).tokens.tolist()
            for corpus in ("cut", "notes")
        )
        assert ours == wanted
    facts = [read_json(Path(f"of-{c}/config.json"))["data"]
             for c in ("cut", "notes")]  # fmt: skip
    for key in ("train_tokens", "validation_tokens", "validation_bytes"):
        assert facts[0][key] == facts[1][key], key
    Path("notes/train.refused.jsonl").write_text('{"text": "Buy now!"}\n')
    assert main([*words, "--out", "cut"]) == 0  # what was refused stays out
    assert f"{count} shards, {count} of them done" in capsys.readouterr().out
    other = [word.replace("300", "400") for word in words]
    assert "--vocab-size 400: cut" in fails([*other, "--out", "cut"])
    run = ["--corpus", "cut", "--out", "x", "--tokenizer", "characters"]
    assert "bring theirs" in fails(["train", *small, *run])
    assert not Path("x").exists()


KILLED = """
import os, signal, sys
from scratchlm.cli.app import main
from scratchlm.text import prepare
left, encode, prepare.BATCH = int(sys.argv[1]), prepare.encode_batch, 300
def encode_batch(*given):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*given)
prepare.encode_batch = encode_batch
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("batches", [1, 5, 17])
def test_a_kill_within_a_shard_is_made_good(batches: int) -> None:
    """Killed with a shard half written, by the signal that none can catch."""
    words = prepared()
    assert main([*words, "--out", "calm"]) == 0
    wanted = content(Path("calm"))
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(batches), *words, "--out", "hard"]
    )
    assert died.returncode == -signal.SIGKILL
    left = content(Path("hard"))
    assert any(name.endswith(PARTIAL) for name in left)
    assert len(left) < len(wanted)
    assert main([*words, "--out", "hard"]) == 0
    assert content(Path("hard")) == wanted


def test_shards_of_what_cannot_be(capsys: Capture, fails: Fails) -> None:
    words = prepared()
    for more, why in (
        (["--out", "notes"], "need a folder of their own"),
        (["--out", "x", "--workers", "0"], "--workers 0: choose 1 or more"),
        (["--out", "x", "--piece-bytes", "0"], "choose 1 or more"),
        (["--out", "x", "--tokenizer", "gone.json"], "gone.json"),
    ):
        assert why in fails([*words, *more])
    assert main([*words, "--out", "cut"]) == 0
    for more, why in (
        (["--piece-bytes", "3000"], "begun with another piece_bytes"),
        (["--tokenizer", "own.json"], "begun with another tokenizer"),
        (["--tokenizer", "abc.json"], "is of characters"),
    ):
        for name, kind in (("own", "bpe"), ("abc", "characters")):
            learn = ["notes/train.jsonl", "--out", f"{name}.json"]
            learn += ["--kind", kind, "--vocab-size", "280"]
            assert main(["tokenizer", "train", *learn]) == 0
        assert why in fails([*words, *more, "--out", "cut"])
    Path("notes/validation.jsonl").unlink()
    assert "notes has no validation.jsonl" in fails([*words, "--out", "y"])
    text = Path("notes/train.jsonl")
    text.write_text(text.read_text("utf-8") + '{"txet": ""}\n', "utf-8")
    Path("notes/validation.jsonl").write_text('{"text": "some"}\n')
    words += ["--out", "z"]
    assert "notes/train.jsonl, line " in fails(words)  # while it learns
    assert not Path("z").exists()
    own = [word for word in words if word not in ("--vocab-size", "300")]
    error = fails([*own, "--tokenizer", "own.json"])
    assert "notes/train.jsonl, the line at byte " in error
    assert (Path("z") / "train" / "00000.tokens").exists()
