"""The page to talk to a model, in Chromium: looked at, typed into, clicked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from playwright.sync_api import expect

from press.browser import PATIENCE, SCREENS, axe_script, look
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.server import Service, make_app, served
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.tuning.instruct import with_marks

pytestmark = pytest.mark.judge
PLAIN = Tokenizer([], {END: 256})


@contextmanager
def address_of(tokenizer: Tokenizer, key: str | None = None) -> Iterator[str]:
    """Where a small model of chance can be talked to."""
    torch.manual_seed(0)
    size = tokenizer.vocab_size
    model = GPT(gpt2_config(size, 64, layers=1, heads=2, channels=16))
    with torch.no_grad():
        model.norm.weight[0], model.norm.bias[0] = 0, 1
        model.token.weight[128:, 0] = -30  # no half characters, no end
    with served(make_app(Service(model, tokenizer, "town", key))) as address:
        yield f"{address}/"


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_has_no_faults(chromium: Any, screen: str) -> None:
    with address_of(PLAIN) as address:
        context = chromium.new_context(viewport=SCREENS[screen])
        page = context.new_page()
        found = look(page, address, axe_script())
        assert found == {"light": [], "dark": []}


def done(page: Any, word: str = "done") -> None:
    """Wait until the page says so; its policy lets nobody evaluate there."""
    expect(page.locator("#state")).to_have_text(word, timeout=PATIENCE)


def test_by_keyboard_alone(tab: Any) -> None:
    """Write, look at what else was likely, and stop."""
    with address_of(PLAIN) as address:
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        expect(tab.locator("#title")).to_have_text("town", timeout=PATIENCE)
        tab.focus("#prompt")
        tab.keyboard.type("Mrs Pell")
        tab.keyboard.press("Control+Enter")
        done(tab)
        assert tab.inner_text("#text .turn") == "Mrs Pell"
        words = tab.locator("#text button")
        assert words.count() > 20
        words.first.focus()
        tab.keyboard.press("Enter")
        assert tab.locator("#rows tr").count() == 5
        assert words.first.get_attribute("aria-pressed") == "true"
        looked = tab.locator("#looked span")
        expect(looked).to_have_count(8, timeout=PATIENCE)  # bytes of Mrs Pell
        assert tab.inner_text("#looked") == "Mrs Pell"
        assert tab.locator("#weights tr").count() == 5
        layers = tab.locator("#layer option").all_inner_texts()
        assert layers == ["all layers", "layer 1"]
        wide = "#looked span >> nth=0"
        first = tab.locator(wide).evaluate("x => x.style.borderBottomWidth")
        assert 0 < float(first.removesuffix("px")) < 14
        words.nth(3).click()
        expect(looked).to_have_count(11, timeout=PATIENCE)
        tab.fill("#tokens", "1000")
        tab.click("#send")
        expect(words.nth(3)).to_be_visible(timeout=PATIENCE)
        tab.keyboard.press("Escape")
        done(tab, "stopped")
        tab.fill("#tokens", "5000")
        tab.focus("#prompt")
        tab.keyboard.press("Control+Enter")  # the form would not send it
        expect(tab.locator("#error")).to_contain_text("1024 at most")
        assert errors == []


def test_a_dialogue_behind_a_key(tab: Any) -> None:
    with address_of(with_marks(PLAIN), "sesame") as address:
        tab.goto(address)
        tab.wait_for_selector("#locked:not([hidden])")
        tab.fill("#key", "sesame")
        tab.fill("#prompt", "Who?")
        tab.fill("#tokens", "20")
        tab.click("#send")
        done(tab)
        tab.wait_for_selector("#ways:not([hidden])")
        tab.select_option("#way", "chat")
        tab.fill("#prompt", "Who?")
        tab.click("#send")
        done(tab)
        assert "You: Who?" in tab.inner_text("#text")


def test_a_long_dialogue_forgets_its_oldest_turns(tab: Any) -> None:
    """Five times more than the context holds, and no error."""
    with address_of(with_marks(PLAIN)) as address:
        tab.goto(address)
        tab.wait_for_selector("#ways:not([hidden])")
        tab.select_option("#way", "chat")
        tab.fill("#tokens", "20")
        for turn in range(5):
            tab.fill("#prompt", f"Who, for the {turn}. time?")
            tab.click("#send")
            done(tab)
            expect(tab.locator("#error")).to_be_hidden()
        assert tab.inner_text("#text").count("You: Who") == 5


def part(text: str, tokens: list[str]) -> str:
    """An event as the server sends it, with so many tokens' scores."""
    scores = {"tokens": tokens, "top_logprobs": [{"x": -0.1} for _ in tokens]}
    choice = {"index": 0, "text": text, "logprobs": scores}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def test_an_answer_that_breaks_off_is_no_answer(tab: Any) -> None:
    """What has come is shown, text whose score is still to come among it."""
    with address_of(PLAIN) as address:
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        expect(tab.locator("#title")).to_have_text("town", timeout=PATIENCE)
        body = part("a", ["a"]) + part(" ", []) + part("b", [" b"])
        tab.route(
            "**/v1/completions",
            lambda route: route.fulfill(
                content_type="text/event-stream", body=body
            ),
        )
        tab.fill("#prompt", "x")
        tab.click("#send")
        expect(tab.locator("#error")).to_have_text("the answer breaks off")
        assert tab.inner_text("#text") == "xa b"
        assert tab.locator("#text button").all_inner_texts() == ["a", "b"]
        tab.locator("#text button").nth(1).click()
        assert errors == []
