"""Characters to numbers and back, on disk and in error."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text.characters import CharTokenizer
from scratchlm.text.toytown import join, write_corpus

ANY = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@settings(deadline=None, max_examples=100)
@given(ANY)
def test_decoding_undoes_encoding(text: str) -> None:
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)
    assert set(ids) == set(range(tokenizer.vocab_size))


def test_numbers_follow_the_order_of_characters() -> None:
    tokenizer = CharTokenizer.train("hello")
    assert tokenizer.alphabet == "ehlo"
    assert tokenizer.encode("hello") == [1, 0, 2, 2, 3]


def test_the_order_of_the_text_does_not_matter() -> None:
    one, two = CharTokenizer.train("abc"), CharTokenizer.train("cabbac")
    assert one.fingerprint == two.fingerprint
    assert CharTokenizer.train("abd").fingerprint != one.fingerprint


def test_toytown_needs_few_characters() -> None:
    text = join(write_corpus(50_000))
    tokenizer = CharTokenizer.train(text)
    assert 40 < tokenizer.vocab_size < 80
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_shakespeare_has_65_characters(shakespeare: str) -> None:
    assert CharTokenizer.train(shakespeare).vocab_size == 65


def test_an_unknown_character_is_named_with_its_place() -> None:
    with pytest.raises(ValueError, match="'z', at 3"):
        CharTokenizer("abc").encode("abcz")


@pytest.mark.parametrize("ids", [[3], [-1], [0, 1, 99]])
def test_unknown_numbers_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        CharTokenizer("abc").decode(ids)


def test_nothing_decodes_to_nothing() -> None:
    assert CharTokenizer("abc").decode([]) == ""
    with pytest.raises(ValueError, match="no characters"):
        CharTokenizer("")


@settings(deadline=None, max_examples=30)
@given(text=ANY)
def test_saving_and_loading(text: str, tmp_path_factory: object) -> None:
    folder = tmp_path_factory.mktemp("characters")  # type: ignore
    tokenizer = CharTokenizer.train(text)
    tokenizer.save(folder / "tokenizer.json")
    again = CharTokenizer.load(folder / "tokenizer.json")
    assert again.alphabet == tokenizer.alphabet
    assert again.fingerprint == tokenizer.fingerprint
    assert [p.name for p in folder.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        '{"format": "characters"}',
        '{"merges": []}',
        "[" * 100_000,
        '{"format": "scratchlm characters 1", "alphabet": ["a", "b"]}',
        '{"format": "scratchlm characters 1", "alphabet": null}',
        '{"format": "scratchlm characters 1", "alphabet": ""}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        CharTokenizer.load(path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    data = {"format": "characters 7", "alphabet": "abc"}
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match="characters 7"):
        CharTokenizer.load(path)
