"""A run as a page, from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.cli.app import main
from scratchlm.cli.runs import opening, run_tokenizer
from scratchlm.serving.browser import model_page
from scratchlm.training.checkpoint import load_model


def test_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "town.html"
    words = ["--title", "The town", "--out", str(out)]
    assert main(["page", "--run", str(run), *words]) == 0
    text = out.read_text(encoding="utf-8")
    said = capsys.readouterr().out
    size = len(text.encode())
    assert said == f"{out}: {size:,} bytes; open it in a browser\n"
    model, tokenizer = load_model(run), run_tokenizer(run)
    assert text == model_page(model, tokenizer, "The town", opening(run))


def test_a_name_of_its_own_and_none_written_over(
    run: Path, fails: Callable[[list[str]], str]
) -> None:
    assert main(["page", "--run", str(run)]) == 0
    assert run.with_name("toytown.html").exists()
    assert "is there already" in fails(["page", "--run", str(run)])


def test_a_form_that_the_script_does_not_know(
    run: Path, tmp_path: Path, fails: Callable[[list[str]], str]
) -> None:
    other = tmp_path / "post"
    form = ["--preset", "tiny", "--norm-order", "post", "--steps", "2"]
    size = ["--characters", "20000", "--vocab-size", "300", "--layers", "1"]
    size += ["--channels", "16", "--heads", "2", "--context", "16"]
    assert main(["train", *form, *size, "--out", str(other)]) == 0
    assert "norm_order='post' is not written" in fails(
        ["page", "--run", str(other)]
    )
    assert not other.with_name("post.html").exists()
