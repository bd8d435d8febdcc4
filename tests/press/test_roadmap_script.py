"""The map of topics in a browser: filters, marks, and the file of progress."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import expect

from check import progress
from check.progress import STATES, Progress, is_ours
from press import browser
from press.budgets import budgets
from press.extensions.roadmap_figure import dot, draw, facts, spoken
from press.roadmap import load

pytestmark = pytest.mark.judge
STATIC = Path(__file__).parents[2] / "press" / "static"
TOPICS = load().topics
PAGE = """<!DOCTYPE html>
<html lang="en" data-theme="light">
<head><meta charset="utf-8"><title>The map</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="book.css">
<style>
  html[data-theme="dark"] {{ --pst-color-background: #14181c;
    --pst-color-text-base: #e4e8ec; --pst-color-border: #48566b; }}
  body {{ background: var(--pst-color-background, #fff); margin: 1rem;
    color: var(--pst-color-text-base, #1d2730); }} figure {{ margin: 0 }}
</style>
<script>
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const dress = () => {{ document.documentElement.dataset.theme =
    dark.matches ? "dark" : "light"; }};
  dress();
  dark.addEventListener("change", dress);
</script>
<script defer src="tracks.js"></script>
<script defer src="roadmap.js"></script></head>
<body><div class="article-header-buttons"></div>
<main><h1>The map</h1>
{body}
</main></body></html>
"""
CARD = """<div class="bookbox-card" id="card-{0.id}">
<p class="admonition-title">{0.title}</p></div>
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The map with its script, and the page of cards."""
    for name in ("book.css", "tracks.js", "roadmap.js"):
        shutil.copy(STATIC / name, tmp_path / name)
    link = r'URL="cards.html#card-\1"'
    source = re.sub(r'ref="(\w+)"', link, draw(""))
    told = facts(TOPICS)
    script = f'<script type="application/json" class="roadmap-facts">{told}'
    svg = spoken(dot(source, "svg").decode(), "The topics")
    pages = {
        "map": f"<figure>{svg}{script}</script></figure>",
        "cards": "".join(map(CARD.format, TOPICS)),
    }
    for name, body in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(PAGE.format(body=body), encoding="utf-8")
    with browser.served(tmp_path) as address:
        yield address


@pytest.fixture
def opened(tab: Any, site: str) -> Any:
    tab.goto(f"{site}map.html")
    return tab


def box(tab: Any, name: str) -> Any:
    """A topic's box; they stand in reading order."""
    return tab.locator("svg a").nth([t.id for t in TOPICS].index(name))


def machine(tab: Any) -> Any:
    return tab.locator(".roadmap-tools select")


def says(tab: Any) -> Any:
    return tab.get_by_role("status")


def load_file(tab: Any, text: str) -> None:
    content = {"name": "p.json", "mimeType": "application/json"}
    files = {**content, "buffer": text.encode()}
    tab.locator("input[type=file]").set_input_files(files)


def saved(tab: Any) -> str:
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save progress").click()
    assert download.value.suggested_filename == "progress.json"
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_a_keyboard_reaches_marks_and_opens_each_topic(opened: Any) -> None:
    first, second, *_ = TOPICS
    opened.get_by_role("region", name="Map of the topics").focus()
    for topic in (first, second):
        opened.keyboard.press("Tab")
        name = opened.evaluate("document.activeElement.ariaLabel")
        assert name == topic.title
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert opened.evaluate(outline) == "solid"
    mark = box(opened, second.id).locator(".mark")
    assert not mark.is_visible()
    opened.keyboard.press("Space")
    many = len(TOPICS)
    expect(says(opened)).to_have_text(
        f"{second.title}: done. Done: 1 of {many} topics."
    )
    assert mark.is_visible()
    assert opened.evaluate("document.activeElement.ariaLabel") == (
        f"{second.title}, done"
    )
    opened.reload()  # it was kept
    assert mark.is_visible()
    box(opened, second.id).focus()
    opened.keyboard.press("Enter")
    opened.wait_for_url(f"**/cards.html#card-{second.id}")
    done = opened.get_by_role("checkbox", name=f"Done: {second.title}")
    assert done.is_checked()
    done.press("Space")
    opened.go_back(wait_until="commit")
    expect(mark).not_to_be_visible()
    assert f"0 of {many}" in opened.inner_text(".roadmap-summary")


def test_the_file_is_the_one_that_the_check_writes(
    opened: Any, tmp_path: Path
) -> None:
    names = [topic.id for topic in TOPICS]
    states = dict(zip(names, [*STATES, "pass"]))
    hashes = {name: f"{i:064x}" for i, name in enumerate(states)}
    here: Any = SimpleNamespace(
        topics=load().by_id, progress=tmp_path / "progress.json"
    )
    progress.write(here, Progress(states, hashes))
    text = here.progress.read_text(encoding="utf-8")
    load_file(opened, text)
    expect(says(opened)).to_have_text(
        f"Loaded. Done: 2 of {len(names)} topics."
    )
    assert saved(opened) == text
    failed = names[STATES.index("fail")]
    label = box(opened, failed).get_attribute("aria-label")
    assert label == f"{load().by_id[failed].title}, fails"
    for name in (failed, names[1], names[-1]):  # fails, passed, never tried
        box(opened, name).press("Space")
    here.progress.write_text(saved(opened), encoding="utf-8")
    told = progress.read(here)
    assert told.topics[failed] == told.topics[names[-1]] == "pass"
    assert told.modules[failed] == told.modules[names[-1]] == ""  # by hand
    assert names[1] not in told.topics
    for name in (failed, names[1], names[-1]):
        box(opened, name).press("Space")
    assert saved(opened) == text  # turned twice, and back


def test_topics_of_other_books_stay_in_the_file(opened: Any) -> None:
    topics = {"été": "pass", "__proto__": "fail", TOPICS[0].id: "todo"}
    modules = dict.fromkeys(topics, "0f")
    file = {"version": 1, "topics": topics, "modules": modules}
    load_file(opened, json.dumps(file))
    expect(says(opened)).to_contain_text("Loaded. Done: 0 of")
    order = [TOPICS[0].id, "été", "__proto__"]
    wanted = {
        "version": 1,
        "topics": {name: topics[name] for name in order},
        "modules": {name: modules[name] for name in order},
    }
    assert saved(opened) == json.dumps(wanted, indent=1) + "\n"


WRONG = {
    "not json": "it is not JSON",
    "[]": "it has no table of topics",
    "null": "it has no table of topics",
    '{"version": 1}': "it has no table of topics",
    '{"version": 1, "topics": ["bpe"]}': "it has no table of topics",
    '{"version": 1, "topics": {}, "modules": null}': "it has no table",
    '{"version": 2, "topics": {}}': "it is not of version 1",
    '{"topics": {}}': "it is not of version 1",
    '{"version": 1, "topics": {"bpe": "best"}}': "bpe is in no state",
    '{"version": 1, "topics": {"bpe": ["pass"]}}': "bpe is in no state",
    '{"version": 1, "topics": {"bpe": "toString"}}': "bpe is in no state",
    " " * 1_000_001: "it is too large",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_refused_and_changes_nothing(
    opened: Any, text: str
) -> None:
    box(opened, "bpe").press("Space")
    before = saved(opened)
    load_file(opened, text)
    why = f"p.json was not loaded: {WRONG[text]}"
    expect(says(opened)).to_contain_text(why)
    expect(says(opened)).to_contain_text("Nothing has changed.")
    if text.startswith(("{", "[", "null")):
        assert not is_ours(json.loads(text))  # nor would the check
    assert saved(opened) == before


def test_what_a_machine_lacks_is_pale_and_said(opened: Any) -> None:
    for budget in budgets():
        machine(opened).select_option(budget.id)
        lacking = {t.id: words for t in TOPICS if (words := budget.lacks(t))}
        assert opened.locator("svg a.pale").count() == len(lacking)
        expect(says(opened)).to_have_text(
            f"Pale: {len(lacking)} of {len(TOPICS)} topics."
        )
        summary = opened.inner_text(".roadmap-summary")
        for name, words in lacking.items():
            label = box(opened, name).get_attribute("aria-label")
            assert label.endswith(f", {words}")
            assert re.search(rf"{words} \([^)]*\b{name}\b", summary)
    machine(opened).select_option("cpu")
    dashes = "a => getComputedStyle(a.querySelector('path')).strokeDasharray"
    assert box(opened, "device").evaluate(dashes) != "none"
    assert box(opened, "bpe").evaluate(dashes) == "none"
    opened.reload()
    assert machine(opened).input_value() == "cpu"
    assert opened.locator("svg a.pale").count() > 0


@pytest.mark.parametrize("track", ["beginner", "researcher"])
def test_the_switch_of_tracks_filters_the_map(opened: Any, track: str) -> None:
    opened.select_option(".track-switch select", track)
    depths: dict[str, list[str]] = {"core": [], "optional": [], "skim": []}
    for topic in TOPICS:
        depths[topic.tracks[track]].append(topic.id)
    expect(opened.locator("svg a.pale")).to_have_count(len(depths["skim"]))
    optional = opened.locator("svg a.optional")
    expect(optional).to_have_count(len(depths["optional"]))
    for name in depths["skim"]:
        label = box(opened, name).get_attribute("aria-label")
        assert f"not for {track}s" in label
    for name in depths["optional"]:
        label = box(opened, name).get_attribute("aria-label")
        assert label.endswith(", optional")
    opened.select_option(".track-switch select", "")
    expect(opened.locator("svg a:is(.pale, .optional)")).to_have_count(0)


def test_without_scripts_the_map_is_a_drawing_with_links(
    chromium: Any, site: str
) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f"{site}map.html")
    assert page.locator("svg a").count() == len(TOPICS)
    assert page.locator("select, button, input, .mark").count() == 0
    page.goto(f"{site}cards.html")
    assert page.locator("input").count() == 0


def test_a_browser_that_keeps_nothing_marks_all_the_same(
    chromium: Any, site: str
) -> None:
    page = chromium.new_context().new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', "
        "{get() { throw new Error('refused'); }})"
    )
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{site}map.html")
    box(page, "bpe").press("Space")
    assert box(page, "bpe").locator(".mark").is_visible()
    assert errors == []


@pytest.mark.parametrize("screen", browser.SCREENS)
@pytest.mark.parametrize("name", ["map", "cards"])
def test_axe_and_small_screens(
    chromium: Any, site: str, screen: str, name: str
) -> None:
    size = browser.SCREENS[screen]
    context = chromium.new_context(viewport=size, color_scheme="light")
    page = context.new_page()
    page.goto(f"{site}map.html")
    box(page, "bpe").press("Space")
    machine(page).select_option("cpu")
    page.select_option(".track-switch select", "beginner")
    found = browser.look(page, f"{site}{name}.html", browser.axe_script())
    assert found == {"light": [], "dark": []}
