"""The page to talk to a model, in Chromium: looked at, typed into, clicked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from playwright.sync_api import expect, sync_playwright

from press.browser import PATIENCE, SCREENS, axe_script, chromium, look
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; without it there is nothing to judge by."""
    assert chromium(), "Chromium is missing; install it (apt-get, brew)"
    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        yield found
        found.close()


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_has_no_faults(browser: Any, screen: str) -> None:
    with address_of(PLAIN) as address:
        context = browser.new_context(viewport=SCREENS[screen])
        found = look(context.new_page(), address, axe_script())
        assert found == {"light": [], "dark": []}
        context.close()


def done(page: Any, word: str = "done") -> None:
    """Wait until the page says so; its policy lets nobody evaluate there."""
    expect(page.locator("#state")).to_have_text(word, timeout=PATIENCE)


def test_by_keyboard_alone(browser: Any) -> None:
    """Write, look at what else was likely, and stop."""
    with address_of(PLAIN) as address:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        expect(page.locator("#title")).to_have_text("town", timeout=PATIENCE)
        page.focus("#prompt")
        page.keyboard.type("Mrs Pell")
        page.keyboard.press("Control+Enter")
        done(page)
        assert page.inner_text("#text .turn") == "Mrs Pell"
        words = page.locator("#text button")
        assert words.count() > 20
        words.first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#rows tr").count() == 5
        assert words.first.get_attribute("aria-pressed") == "true"
        page.fill("#tokens", "1000")
        page.click("#send")
        expect(words.nth(3)).to_be_visible(timeout=PATIENCE)
        page.keyboard.press("Escape")
        done(page, "stopped")
        page.fill("#tokens", "5000")
        page.focus("#prompt")
        page.keyboard.press("Control+Enter")  # the form would not send it
        expect(page.locator("#error")).to_contain_text("1024 at most")
        assert errors == []
        page.close()


def test_a_dialogue_behind_a_key(browser: Any) -> None:
    with address_of(with_marks(PLAIN), "sesame") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#locked:not([hidden])")
        page.fill("#key", "sesame")
        page.fill("#prompt", "Who?")
        page.fill("#tokens", "20")
        page.click("#send")
        done(page)
        page.wait_for_selector("#ways:not([hidden])")
        page.select_option("#way", "chat")
        page.fill("#prompt", "Who?")
        page.click("#send")
        done(page)
        assert "You: Who?" in page.inner_text("#text")
        page.close()
