"""A run in fewer bytes, from the command line."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.cli.app import main
from scratchlm.serving.quantize import Scheme, load_quantized, quantize_model
from scratchlm.text.files import SEAL, read_seal
from scratchlm.training.checkpoint import load_model


def test_quantize(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    words = ["--bits", "4", "--group", "8", "--out", str(out)]
    assert main(["quantize", "--run", str(run), *words]) == 0
    said = capsys.readouterr().out
    rows = {
        found[1]: [float(x) for x in found[2].replace(",", "").split()]
        for found in re.finditer(r"^(before|after)\s+(\S.*)$", said, re.M)
    }
    assert rows["after"][0] < rows["before"][0] / 2
    assert rows["after"][1] == pytest.approx(rows["before"][1], abs=0.1)
    assert rows["after"][1] != rows["before"][1]
    assert said.endswith(f"{out}: written\n")
    again = load_quantized(out)
    wanted = quantize_model(load_model(run), Scheme(4, 8))
    for name, tensor in wanted.state_dict().items():
        assert bool((again.state_dict()[name] == tensor).all()), name
    files = {path.name for path in out.iterdir()}
    assert files == {*read_seal(out), SEAL}
    same = (out / "tokenizer.json").read_bytes()
    assert same == (run / "tokenizer.json").read_bytes()


def test_a_name_of_its_own(run: Path) -> None:
    assert main(["quantize", "--run", str(run), "--group", "row"]) == 0
    assert load_quantized(run.with_name("toytown-int8")).config.layers == 1


@pytest.mark.parametrize(
    ("command", "made"),
    [("quantize --group 8", "copy-int8"), ("page", "copy.html")],
)
def test_a_run_in_this_folder_has_a_name(
    command: str,
    made: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(run, "copy")
    monkeypatch.chdir("copy")
    assert main([*command.split(), "--run", "."]) == 0
    assert (tmp_path / made).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "9"], "bits=9: choose 2 to 8"),
        (["--group", "column"], "choose tensor, row, or"),
        (["--group", "5"], "rows of 16 do not split into groups of 5"),
        (["--out", "full"], "is there already"),
    ],
)
def test_what_cannot_be(
    words: list[str], message: str, run: Path, fails: Callable[[list[str]], str]
) -> None:
    Path("full").mkdir()
    Path("full/letter.txt").write_text("mine")
    Path("new").mkdir(exist_ok=True)
    where = [] if "--out" in words else ["--out", "new"]
    assert message in fails(["quantize", "--run", str(run), *words, *where])
    assert not any(Path("new").iterdir())
