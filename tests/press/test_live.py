"""The model's page: in Node, in a browser, and where the book leads to it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest
import torch
from sphinx.application import Sphinx
from torch import nn

from press import browser, build, web
from press.edition import edition
from scratchlm.generation.generate import generate, window_start
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.browser import (
    CALLS,
    model_page,
    packed_weights,
    read_script,
    run_facts,
)
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.tokenizer import Tokenizer

TEXT = "The baker counts her loaves. 12 cafés, 東京, 🌉 and “so on”.\n"
NEW = 60  # tokens, in a context of 32
IN_NODE = """
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const run = asked.run;
const memory = Uint8Array.from(Buffer.from(asked.weights, "hex"));
"""
ANSWER = """
const ids = encode(asked.text), scores = read(ids);
const broken = asked.broken.map((x) => decode(x));
console.log(JSON.stringify({
  ids: [...ids], scores, broken, written: write(ids, asked.count)}));
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT * 3, 290)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    """A model with weights that look trained."""
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"context": 32, "layers": 2, "heads": 2}
    model = GPT(gpt2_config(tokenizer.vocab_size, channels=16, **sizes)).eval()
    for name, weights in model.named_parameters():
        wide = 1.0 if weights.ndim == 1 else weights.shape[1] ** -0.5
        nn.init.normal_(weights, mean=float("norm" in name), std=wide)
    model.tie()
    return model


def by_python(model: GPT, ids: list[int]) -> list[int]:
    """A text, and what the quantized model writes on, without chance."""
    small = quantize_model(model, Scheme())
    greedy = SamplingConfig(temperature=0)
    new = generate(small, torch.tensor([ids]), NEW, greedy)
    return [*ids, *(int(step[0]) for step in new)]


def node() -> str:
    """The system's Node, or the one that playwright brings along."""
    own = Path(str(playwright.__file__)).parent / "driver" / "node"
    found = shutil.which("node") or shutil.which(own)
    assert found, "playwright brings Node: make setup"
    return found


def test_node_computes_and_writes_what_python_does(
    model: GPT, tokenizer: Tokenizer
) -> None:
    halves = [[0xE6, 0x9D], [0xF0, 0x9F, 0x8C, 65], [0xFF, 0x80], [0xC0, 0xAF]]
    asked = {
        "run": run_facts(model, tokenizer),
        "weights": packed_weights(model).hex(),
        "text": TEXT,
        "broken": halves,
        "count": NEW,
    }
    program = f"{read_script()}{IN_NODE}{CALLS}{ANSWER}"
    done = subprocess.run(
        [node(), "-e", program],
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    ids = tokenizer.encode(TEXT)
    assert told["ids"] == ids
    assert told["broken"] == [tokenizer.decode(x) for x in halves]
    with torch.no_grad():
        seen = torch.tensor([ids[window_start(len(ids), 32) :]])
        wanted = quantize_model(model, Scheme())(seen)[0, -1]
    got = torch.tensor(told["scores"])
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=0)
    assert told["written"] == by_python(model, ids)


# --- in a browser ------------------------------------------------------------


@pytest.fixture
def opened(
    chromium: Any, model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> tuple[Any, list[str]]:
    """The page, from the disk and offline, and what its console says."""
    path = tmp_path / "model.html"
    path.write_text(model_page(model, tokenizer, "A page", TEXT))
    said: list[str] = []
    page = chromium.new_context(offline=True).new_page()
    page.set_default_timeout(browser.PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("file:", "data:"))
            or said.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    return page, said


@pytest.mark.judge
def test_chromium_writes_what_python_does(
    opened: tuple[Any, list[str]], model: GPT, tokenizer: Tokenizer
) -> None:
    page, said = opened
    assert page.input_value("#text") == TEXT
    page.locator("#heat").fill("0")
    wanted = by_python(model, tokenizer.encode(TEXT))
    if tokenizer.end_id in wanted:
        wanted = wanted[: wanted.index(tokenizer.end_id)]
    for length in range(len(tokenizer.encode(TEXT)) + 1, len(wanted) + 1):
        page.locator("#once").press("Enter")  # the keyboard suffices
        assert page.input_value("#text") == tokenizer.decode(wanted[:length])
    assert said == []


@pytest.mark.judge
def test_chromium_shows_what_changes(opened: tuple[Any, list[str]]) -> None:
    page, said = opened

    def shares() -> list[float]:
        spans = page.locator("#next span").all_inner_texts()
        return [float(text.split()[0]) for text in spans]

    warm, told = shares(), page.inner_text("#says")
    assert len(warm) == 8
    assert warm == sorted(warm, reverse=True)
    assert "Likeliest: “" in told
    page.locator("#heat").fill("0.2")
    assert shares()[0] > warm[0]
    assert page.inner_text("#degrees") == "0.2"
    sizes = "all => all.map(x => Number(x.style.getPropertyValue('--size')))"
    first = page.locator("#seen span").evaluate_all(sizes)
    assert sum(first) == pytest.approx(1, abs=1e-4)
    page.locator("#head").select_option("1,1")
    assert page.locator("#seen span").evaluate_all(sizes) != first
    page.locator("#text").fill("The baker")
    assert page.locator("#seen").inner_text() == "The baker"
    chosen = page.locator("#next button").first.inner_text()
    page.locator("#next button").first.click()
    assert page.input_value("#text") == f"The baker{chosen[1:-1]}"
    page.locator("#text").fill("")
    assert page.locator("#seen").inner_text() == "<|endoftext|>"
    page.locator("#write").click()
    assert page.inner_text("#write") in ("Stop", "Write on")
    assert said == []


@pytest.mark.judge
def test_what_the_model_cannot_read_is_kept(
    chromium: Any, tmp_path: Path
) -> None:
    """Nothing is written over a letter without a number, until it is gone."""
    letters = CharTokenizer.train("abc ")
    model = GPT(gpt2_config(4, 32, layers=1, heads=1, channels=8)).eval()
    path = tmp_path / "letters.html"
    path.write_text(model_page(model, letters, "Letters", "abc"))
    page = chromium.new_context(offline=True).new_page()
    page.set_default_timeout(browser.PATIENCE)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(path.as_uri())
    page.locator("#write").click()
    page.locator("#text").fill("abcé")
    assert "never seen “é”" in page.inner_text("#says")
    assert page.inner_text("#write") == "Write on"
    for place in ("#once", "#write", "#heat", "#head", "#next button >> nth=0"):
        assert page.locator(place).is_disabled()
    left = page.input_value("#text")  # it was being written when we typed
    assert left.endswith("abcé")
    page.wait_for_timeout(100)
    assert page.input_value("#text") == left
    page.locator("#text").fill("abc")
    page.locator("#once").click()
    assert len(page.input_value("#text")) == 4
    assert broken == []


@pytest.mark.judge
def test_the_policy_holds(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('img'),"
        "{src: 'https://example.com/x.png'}))"
    )
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'document.title = 1'}))"
    )
    page.wait_for_timeout(300)
    assert page.title() == "A page"
    refused = [text for text in said if "Content Security Policy" in text]
    assert any("img-src" in text for text in refused), said
    assert any("script-src" in text for text in refused), said


@pytest.mark.judge
def test_axe_and_small_screens(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    assert browser.chromium(), "make judge brings Chromium"
    text = model_page(model, tokenizer, "A page", TEXT)
    (tmp_path / "model.html").write_text(text)
    assert browser.judge(tmp_path, ["model.html"], lambda _: None) == {}


# --- in the book -------------------------------------------------------------


def test_the_site_leads_there_and_paper_does_not(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "extensions = ['press.extensions.live']", encoding="utf-8"
    )
    (tmp_path / "index.rst").write_text("A\n=\n\n.. toctree::\n\n   a/b\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.rst").write_text("B\n=\n\nTry :live:`the model` here.\n")
    for kind in ("html", "text", "latex"):
        out = tmp_path / kind
        Sphinx(
            str(tmp_path), str(tmp_path), str(out), str(out), kind, status=None
        ).build()
    words = "Try the model here."
    assert words in (tmp_path / "text/a/b.txt").read_text()
    papers = [x.read_text() for x in (tmp_path / "latex").glob("*.tex")]
    assert any(words in text for text in papers)
    found = (tmp_path / "html/a/b.html").read_text()
    assert f'href="../{web.MODEL_PAGE}.html">the model</a>' in found


def test_the_site_leaves_its_page_as_it_is(
    model: GPT, tokenizer: Tokenizer
) -> None:
    text = model_page(model, tokenizer, "A page", TEXT)
    assert web.finish_page(text, edition()) == text


def test_the_site_gets_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(build, "run", lambda _, command: asked.append(command))
    (tmp_path / "model.html").write_text("the last one")
    build.write_model_page(tmp_path / "model.html")
    assert not (tmp_path / "model.html").exists()
    assert asked[0][3:6] == ["page", "--run", str(build.RUN)]
    assert asked[0][-1] == str(tmp_path / "model.html")
