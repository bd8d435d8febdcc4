"""Examples that the book's model should know begin as its stories do."""

from collections.abc import Callable

import pytest

from press.town import begins_story
from scratchlm.text.toytown import write_corpus

SCENE = "Friday comes, and fog hangs over the hill."
COUNTS = "Mrs Pell, who keeps the bakery by the old bridge, counts her loaves"


def test_every_beginning_of_a_story_is_one() -> None:
    for story in write_corpus(5_000):
        for end in (0, 1, 40, len(story.text) // 2, len(story.text)):
            assert begins_story(story.text[:end])


@pytest.mark.parametrize(
    "text",
    [
        COUNTS,  # no scene
        "Mrs",
        f"{SCENE} Mrs Pell counted her loaves",  # another tense
        f"{SCENE} Mrs Pell counts his loaves",
        f"{SCENE} Mrs Pell counts her nails",  # the smith's
        f"{SCENE}  Mrs Pell",  # two spaces
    ],
)
def test_what_the_town_never_says_begins_no_story(text: str) -> None:
    assert not begins_story(text)


def test_a_whole_story_with_more_behind_it_begins_none() -> None:
    text = write_corpus(2_000)[0].text
    assert begins_story(text)
    assert not begins_story(f"{text}!")


def test_the_sentence_of_the_attention_chapter_begins_one() -> None:
    assert begins_story(f"{SCENE} {COUNTS} with a smile: nine.")


def test_a_head_is_not_shown_with_what_the_town_never_says(
    plant: Callable[..., list[str]],
) -> None:
    name = "book/model/attention.md"
    found = plant(
        "examples", name, lambda old: old.replace("assert begins_story", "len")
    )
    assert len(found) == 1
    assert "is this text from the town?" in found[0]
