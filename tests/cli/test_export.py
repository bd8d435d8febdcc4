"""Models for other programs, and theirs, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from scratchlm.cli.app import main
from scratchlm.serving.export import import_folder, write_run
from scratchlm.text.files import SEAL, read_seal, verify
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.checkpoint import load_model
from scratchlm.training.trainer import read_log

Fails = Callable[[list[str]], str]
Capture = pytest.CaptureFixture[str]


def exported(run: Path, *words: str) -> Path:
    """A run, exported to a folder called new."""
    assert main(["export", "--run", str(run), "--to", "new", *words]) == 0
    return Path("new")


@pytest.mark.always
def test_there_and_back(run: Path, capsys: Capture, fails: Fails) -> None:
    folder = exported(run)
    said = capsys.readouterr().out
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"new: written, {size:,} bytes" in said
    assert "It has no license yet" in said
    assert "No license has been chosen" in (folder / "LICENSE").read_text()
    card = (folder / "README.md").read_text()
    assert "# toytown" in card
    assert "nats per token" in card
    assert {p.name for p in folder.iterdir()} == {*read_seal(folder), SEAL}
    assert main(["import", "new", "--run", "again"]) == 0
    assert "again: written" in capsys.readouterr().out
    wanted = load_model(run).state_dict()
    for name, tensor in load_model(Path("again")).state_dict().items():
        assert bool((wanted[name] == tensor).all()), name
    texts = []
    for place in (str(run), "again"):
        words = ["--run", place, "--tokens", "9", "--prompt", "Mrs Pell"]
        assert main(["sample", *words]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert main(["export", "--run", "again", "--to", "third"]) == 0
    kept = Path("third/LICENSE").read_text()
    assert kept == (folder / "LICENSE").read_text()
    assert "gpt2, imported" in Path("third/README.md").read_text()
    Path("own.txt").write_text("Mrs Pell has six loaves. " * 40)
    scored = []
    for place in (str(run), "again"):
        capsys.readouterr()
        assert main(["evaluate", "--run", place, "--text", "own.txt"]) == 0
        scored.append(capsys.readouterr().out.split("precision")[0])
    assert scored[0] == scored[1]
    assert main(["page", "--run", "again"]) == 0
    assert "by which fewer bits" in fails(["quantize", "--run", "again"])
    error = fails(["train", "--resume", "--out", "again"])
    assert "again was not trained here" in error


def test_fewer_bits_and_a_license(run: Path, capsys: Capture) -> None:
    Path("mine.txt").write_text("do as you like")
    words = ["--dtype", "bfloat16", "--license", "mine.txt"]
    folder = exported(run, *words)
    assert "no license" not in capsys.readouterr().out
    assert (folder / "LICENSE").read_text() == "do as you like"
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "written as: bfloat16" in (folder / "README.md").read_text()


def test_a_card_tells_of_the_weights_beside_it(run: Path) -> None:
    folder = exported(run, "--snapshot", "0")
    assert "not measured" in (folder / "README.md").read_text()
    [loss] = [x["validation_loss"] for x in read_log(run) if x["step"] == 6]
    words = ["export", "--run", str(run), "--to", "last", "--snapshot", "6"]
    assert main(words) == 0
    assert f"{loss:.4f} nats per token" in Path("last/README.md").read_text()


def test_a_run_in_this_folder_has_a_name(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(run)
    words = ["export", "--run", ".", "--to", str(tmp_path / "new")]
    assert main([*words, "--form", "gguf"]) == 0
    fields = gguf.GGUFReader(tmp_path / "new/toytown-float32.gguf").fields
    assert fields["general.name"].contents() == "toytown"


def test_what_is_no_run_is_not_called_damaged(
    run: Path, fails: Fails, capsys: Capture
) -> None:
    exported(run)
    words = ["quantize", "--run", str(run), "--group", "8", "--out", "small"]
    assert main(words) == 0
    capsys.readouterr()
    for folder, way in (("new", "with import"), ("small", "load_quantized")):
        error = fails(["sample", "--run", folder])
        assert f"{folder} is no run but" in error
        assert way in error
        assert "damaged" not in error


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0"])
def test_a_file_for_llama_cpp(dtype: str, run: Path) -> None:
    folder = exported(run, "--form", "gguf", "--dtype", dtype)
    reader = gguf.GGUFReader(folder / f"toytown-{dtype}.gguf")
    name = reader.fields["general.name"].contents()
    assert name == "toytown"
    verify(folder)
    assert (folder / "README.md").exists()


def test_a_habit_of_an_import_goes_on_to_llama_cpp(
    run: Path, fails: Fails
) -> None:
    """Its token in front of each text, by the number that it has here."""
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    for begin in ([], [tokenizer.end_id - 1]):
        place = Path(f"begun{len(begin)}")
        write_run(place, load_model(run), tokenizer, {"begin": begin})
        words = ["--form", "gguf", "--to", f"to-{place}"]
        assert main(["export", "--run", str(place), *words]) == 0
        (path,) = Path(f"to-{place}").glob("*.gguf")
        fields = gguf.GGUFReader(path).fields
        known = fields["tokenizer.ggml.bos_token_id"].contents()
        assert fields["tokenizer.ggml.add_bos_token"].contents() == bool(begin)
        if begin:  # which the other form does not write
            words = ["export", "--run", str(place), "--to", "hf"]
            assert "does more (begin)" in fails(words)
            assert not Path("hf").exists()
        assert known == (begin or [tokenizer.end_id])[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "full"], "full is there already: name a new folder"),
        (["--to", "new", "--dtype", "q8_0"], "--form hf has float32"),
        (
            ["--to", "new", "--form", "gguf", "--dtype", "bfloat16"],
            "--form gguf has float32, float16, q8_0",
        ),
        (["--to", "new", "--license", "none"], "none is not there"),
        (["--to", "new", "--snapshot", "5"], "no snapshot of step 5"),
    ],
)
def test_what_cannot_be(
    words: list[str], message: str, run: Path, fails: Fails
) -> None:
    Path("full").mkdir()
    Path("full/letter.txt").write_text("mine")
    assert message in fails(["export", "--run", str(run), *words])
    assert not Path("new").exists()
    assert [p.name for p in Path("full").iterdir()] == ["letter.txt"]


def test_forms_and_tokens_that_others_lack(fails: Fails) -> None:
    Path("own.txt").write_text("abc " * 200, encoding="utf-8")
    small = "--layers 1 --heads 1 --channels 16 --context 8 --batch-size 2"
    train = f"train --preset tiny --steps 1 --corpus own.txt {small}"
    for more, message in (
        ("--tokenizer characters", "was trained on characters"),
        ("--mlp gelu --vocab-size 258", "no published form has mlp='gelu'"),
    ):
        name = more.split()[1]
        assert main([*train.split(), *more.split(), "--out", name]) == 0
        assert message in fails(["export", "--run", name, "--to", "new"])
    assert not Path("new").exists()


def test_folders_that_cannot_be_imported(run: Path, fails: Fails) -> None:
    assert "no folder" in fails(["import", "nowhere", "--run", "again"])
    folder = exported(run)
    Path("full").mkdir()
    Path("full/letter.txt").write_text("mine")
    assert "is there already" in fails(["import", "new", "--run", "full"])
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    assert "it was changed" in fails(["import", "new", "--run", "again"])
    (folder / SEAL).unlink()
    (folder / "model.safetensors").unlink()
    assert "has neither" in fails(["import", "new", "--run", "again"])
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    error = fails(["import", "new", "--run", "again"])
    assert "model_type='mamba' is not one of gpt2" in error
    (folder / "config.json").unlink()
    assert "config.json is not there" in fails(
        ["import", "new", "--run", "again"]
    )
    assert not Path("again").exists()


def test_texts_are_brought_into_their_form(run: Path, capsys: Capture) -> None:
    folder = exported(run)
    (folder / SEAL).unlink()
    data = json.loads((folder / "tokenizer.json").read_text())
    data["normalizer"] = {"type": "NFC"}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    assert import_folder(folder)[2]["normal"] == "NFC"
    assert main(["import", "new", "--run", "again"]) == 0
    assert "brought to NFC" in capsys.readouterr().out
    texts = []
    for prompt in ("caf\u00e9", "cafe\u0301"):
        words = ["--run", "again", "--tokens", "9", "--prompt", prompt]
        assert main(["sample", *words]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
