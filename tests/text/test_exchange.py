"""Our tokens are those of `tokenizers` and of `tiktoken`, on any text."""

import doctest
import json
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe

from scratchlm.text import exchange
from scratchlm.text.bpe import GPT2_PATTERN, PATTERN
from scratchlm.text.exchange import (
    ExchangeError,
    byte_alphabet,
    export,
    from_letters,
    from_tiktoken,
    from_tokenizers,
    read_ranks,
    to_letters,
    to_tiktoken,
    to_tokenizers,
    write_ranks,
)
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import join, write_corpus

ANY = st.text(st.characters(codec="utf-8"), max_size=60)
TOWN = Tokenizer.train(join(write_corpus(60_000)), 700)
OLDER = Tokenizer.train(join(write_corpus(30_000)), 400, pattern=GPT2_PATTERN)


def test_the_examples_hold() -> None:
    assert doctest.testmod(exchange).failed == 0


@settings(deadline=None, max_examples=150)
@given(text=ANY, tokenizer=st.sampled_from([TOWN, OLDER]))
def test_tiktoken_gives_the_same_tokens(
    text: str, tokenizer: Tokenizer
) -> None:
    theirs = tiktoken.Encoding(**to_tiktoken(tokenizer))
    assert theirs.encode_ordinary(text) == tokenizer.encode(text)


@settings(deadline=None, max_examples=150)
@given(text=ANY, tokenizer=st.sampled_from([TOWN, OLDER]))
def test_tokenizers_gives_the_same_tokens(
    text: str, tokenizer: Tokenizer
) -> None:
    """Their special tokens are always special, so ours are allowed too."""
    theirs = tokenizers.Tokenizer.from_str(to_tokenizers(tokenizer))
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == tokenizer.encode(text, allowed_special={END})
    assert theirs.decode(ids, skip_special_tokens=False) == text


def test_special_tokens_are_the_same_everywhere() -> None:
    text = f"one{END}two"
    ours = TOWN.encode(text, allowed_special={END})
    tik = tiktoken.Encoding(**to_tiktoken(TOWN))
    hug = tokenizers.Tokenizer.from_str(to_tokenizers(TOWN))
    assert tik.encode(text, allowed_special={END}) == ours
    assert hug.encode(text).ids == ours


def test_a_whole_corpus_agrees() -> None:
    text = join(write_corpus(40_000, seed=7))
    ours = TOWN.encode(text)
    assert tiktoken.Encoding(**to_tiktoken(TOWN)).encode_ordinary(text) == ours
    hug = tokenizers.Tokenizer.from_str(to_tokenizers(TOWN))
    assert hug.encode(text).ids == ours


@pytest.mark.parametrize("tokenizer", [TOWN, OLDER])
def test_there_and_back_through_either_form(tokenizer: Tokenizer) -> None:
    again, numbers = from_tokenizers(to_tokenizers(tokenizer))
    assert again.fingerprint == tokenizer.fingerprint
    assert numbers == list(range(tokenizer.vocab_size))
    parts = to_tiktoken(tokenizer)
    back, numbers = from_tiktoken(
        parts["mergeable_ranks"], parts["special_tokens"], tokenizer.pattern
    )
    assert back.fingerprint == tokenizer.fingerprint
    assert numbers == list(range(tokenizer.vocab_size))


def test_tokens_in_another_order_are_understood() -> None:
    """The libraries number bytes in their own order; numbers translate."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    sequence = tokenizers.pre_tokenizers.Sequence
    trained.pre_tokenizer = sequence(
        [
            tokenizers.pre_tokenizers.Split(
                tokenizers.Regex(GPT2_PATTERN), "isolated"
            ),
            tokenizers.pre_tokenizers.ByteLevel(
                add_prefix_space=False, use_regex=False
            ),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[END],
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    text = join(write_corpus(40_000))
    trained.train_from_iterator([text], trainer)
    ours, numbers = from_tokenizers(trained.to_str())
    assert [numbers[i] for i in ours.encode(text)] == trained.encode(text).ids
    assert numbers[ours.end_id] == trained.token_to_id(END)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=30))
def test_letters_hold_any_bytes(token: bytes) -> None:
    assert from_letters(to_letters(token)) == token
    assert to_letters(token).isprintable()


def test_the_alphabet_is_that_of_the_library() -> None:
    theirs = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    assert sorted(byte_alphabet()) == sorted(theirs)
    assert to_letters(b" the\n") == "\u0120the\u010a"
    with pytest.raises(ExchangeError, match="alphabet of bytes"):
        from_letters("a b")


def test_two_tokens_of_the_same_bytes_are_refused() -> None:
    """aaa is a·aa and aa·a: fine for us, not for forms that go by bytes."""
    double = Tokenizer([(97, 97), (97, 256), (256, 97)])
    for convert in (to_tiktoken, to_tokenizers):
        with pytest.raises(ExchangeError, match="257 and 258 are both b'aaa'"):
            convert(double)


def test_a_token_that_merges_never_make_is_refused() -> None:
    """Of abc, ab is joined first; then a·bc is never there to be joined."""
    never = Tokenizer([(97, 98), (98, 99), (97, 257)])
    assert never.encode("abc") == [256, 99]
    hug = tokenizers.Tokenizer.from_str(to_tokenizers(never))
    assert hug.encode("abc").ids == [256, 99]  # this form holds merges
    with pytest.raises(ExchangeError, match="token 258, b'abc', is not what"):
        to_tiktoken(never)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_merges_that_nobody_learned_are_the_same_or_refused(
    data: st.DataObject,
) -> None:
    """Any pairs in any order; ranks either give our tokens or are refused."""
    merges: list[tuple[int, int]] = []
    for new in range(data.draw(st.integers(1, 12))):
        known = st.sampled_from([97, 98, 99, *range(256, 256 + new)])
        pair = data.draw(st.tuples(known, known))
        if pair not in merges:
            merges.append(pair)
        else:
            break
    tokenizer = Tokenizer(merges)
    texts = data.draw(st.lists(st.text("abc", max_size=24), max_size=9))
    try:
        hug = tokenizers.Tokenizer.from_str(to_tokenizers(tokenizer))
        for text in texts:
            assert hug.encode(text).ids == tokenizer.encode(text)
        tik = tiktoken.Encoding(**to_tiktoken(tokenizer))
    except ExchangeError:
        return
    for text in texts:
        assert tik.encode_ordinary(text) == tokenizer.encode(text)


def test_special_tokens_keep_their_numbers() -> None:
    """Also where numbers between are of no token."""
    last = TOWN.vocab_size
    holes = Tokenizer(TOWN.merges, {END: last + 7, "<|a|>": last + 3})
    theirs = tokenizers.Tokenizer.from_str(to_tokenizers(holes))
    text = f"Mrs Pell{END}, <|a|>."
    assert theirs.encode(text).ids == holes.encode(text, "all")
    assert theirs.token_to_id(END) == last + 7
    again, numbers = from_tokenizers(to_tokenizers(holes))
    assert [numbers[i] for i in again.encode(text, "all")] == (
        holes.encode(text, "all")
    )


@pytest.mark.parametrize("name", ["ing", "\u0120the"])
def test_a_special_token_that_spells_another_is_refused(name: str) -> None:
    """One number there would be two numbers here."""
    double = Tokenizer(TOWN.merges, {name: TOWN.vocab_size})
    with pytest.raises(ExchangeError, match="a special token and the spelling"):
        to_tokenizers(double)


def test_ranks_are_written_and_read(tmp_path: Path) -> None:
    ranks = to_tiktoken(TOWN)["mergeable_ranks"]
    assert read_ranks(write_ranks(ranks)) == ranks
    export(TOWN, "tiktoken", tmp_path / "town.tiktoken")
    assert load_tiktoken_bpe(str(tmp_path / "town.tiktoken")) == ranks
    assert [p.name for p in tmp_path.iterdir()] == ["town.tiktoken"]


@pytest.mark.parametrize(
    "line",
    ["!!! 3", "aGU=", "aGU= x", "aGU= 1 2", "YQ== 98", "Yg== 97", "YQ== 97"],
)
def test_broken_ranks_are_named_by_line(line: str) -> None:
    with pytest.raises(ExchangeError, match="line 2"):
        read_ranks(f"YQ== 97\n{line}\n")


def test_ranks_without_their_parts_are_refused() -> None:
    ranks = {bytes([i]): i for i in range(256)} | {b"abc": 256}
    with pytest.raises(ExchangeError, match="not made of two"):
        from_tiktoken(ranks)


def test_ranks_without_a_byte_are_refused() -> None:
    ranks = {bytes([i]): i for i in range(256)}
    del ranks[b"q"]
    for less in (ranks, {}):
        with pytest.raises(ExchangeError, match=r"the byte b'.*' has no rank"):
            from_tiktoken(less)


def test_the_exported_file_is_read_by_the_library(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    export(TOWN, "tokenizers", path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    assert theirs.get_vocab_size() == TOWN.vocab_size
    with pytest.raises(ExchangeError, match="no form"):
        export(TOWN, "sentencepiece", path)


def changed(**change: object) -> str:
    """A tokenizer.json in which something is not as we need it."""
    return json.dumps({**json.loads(to_tokenizers(TOWN)), **change})


SPLIT = {
    "type": "Split",
    "pattern": {"Regex": GPT2_PATTERN},
    "behavior": "Isolated",
    "invert": False,
}
BYTES = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sequence(*steps: dict[str, object]) -> dict[str, object]:
    """A pre-tokenizer of several steps."""
    return {"type": "Sequence", "pretokenizers": list(steps)}


@pytest.mark.parametrize(
    "pre",
    [
        {**BYTES, "use_regex": True},
        {key: BYTES[key] for key in BYTES if key != "use_regex"},
        sequence({**BYTES, "use_regex": True}),
        sequence(SPLIT, BYTES),
        sequence({**SPLIT, "invert": True}, BYTES),
        sequence({**SPLIT, "behavior": "Removed", "invert": True}, BYTES),
        sequence({**SPLIT, "pattern": {"Regex": PATTERN}}, BYTES),
        sequence({**SPLIT, "pattern": {"Regex": r"\p{L}+"}}, BYTES),
        sequence({**SPLIT, "pattern": {"Regex": LLAMA}}, BYTES),
    ],
)
@settings(deadline=None, max_examples=20)
@given(text=ANY)
def test_what_is_accepted_gives_the_tokens_of_the_library(
    pre: dict[str, object], text: str
) -> None:
    file = changed(pre_tokenizer=pre)
    theirs = tokenizers.Tokenizer.from_str(file)
    ours, numbers = from_tokenizers(file)
    ids = [numbers[i] for i in ours.encode(text, allowed_special="all")]
    assert ids == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("pre", "named"),
    [
        (None, "does not cut by one pattern"),
        ({"type": "Whitespace"}, "Whitespace"),
        (BYTES, "does not cut by one pattern"),
        (sequence(SPLIT), "Split"),
        (sequence(SPLIT, SPLIT, BYTES), r"Split.*Split"),
        (sequence({"type": "Digits"}, SPLIT, BYTES), "Digits"),
        (sequence(SPLIT, {**BYTES, "use_regex": True}), r"use_regex\W+true"),
        (sequence({**SPLIT, "behavior": "Removed"}, BYTES), "Removed"),
        (sequence({**SPLIT, "behavior": "Contiguous"}, BYTES), "Contiguous"),
        (
            sequence(
                {
                    **SPLIT,
                    "behavior": "Removed",
                    "invert": True,
                    "pattern": {"Regex": r"\p{L}+"},
                },
                BYTES,
            ),
            "Removed",
        ),
        (sequence({**SPLIT, "pattern": {"String": " "}}, BYTES), "String"),
        ({**BYTES, "use_regex": True, "add_prefix_space": True}, "a space"),
    ],
)
def test_what_cuts_otherwise_is_refused_by_name(
    pre: dict[str, object] | None, named: str
) -> None:
    with pytest.raises(ExchangeError, match=named):
        from_tokenizers(changed(pre_tokenizer=pre))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer"),
        ({"truncation": {"max_length": 3}}, "truncation"),
        ({"padding": {"strategy": "BatchLongest"}}, "padding"),
        ({"model": {"type": "Unigram"}}, "its model is Unigram"),
        ({"model": {"type": None}}, "its model is None"),
        ({"model": {}}, "cannot be read"),
        ({"model": 3}, "cannot be read"),
    ],
)
def test_what_is_no_byte_level_bpe_is_refused(
    change: dict[str, object], named: str
) -> None:
    with pytest.raises(ExchangeError, match=named):
        from_tokenizers(changed(**change))


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", "3", '{"model": []}', "[" * 100_000]
)
def test_what_is_no_tokenizer_is_one_sentence(text: str) -> None:
    with pytest.raises(ExchangeError, match="cannot be read"):
        from_tokenizers(text)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dropout": 0.1}, "dropout"),
        ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ({"merges": [["a", "b"], ["zz", "b"]]}, "merge 1 joins 'zz'"),
        ({"merges": [["a", "b"], ["a", "b"]]}, "two merges make 'ab'"),
        ({"merges": [["a b", "c"]]}, "alphabet of bytes"),
        ({"merges": [["a"]]}, "cannot be read"),
        ({"vocab": {"a": 0}}, "cannot be read"),
        ({"vocab": dict.fromkeys(byte_alphabet(), 0.5), "merges": []},
         "cannot be read"),
        ({"vocab": None}, "cannot be read"),
    ],
)
def test_models_of_another_kind_are_refused(
    change: dict[str, object], named: str
) -> None:
    model = {**json.loads(to_tokenizers(TOWN))["model"], **change}
    with pytest.raises(ExchangeError, match=named):
        from_tokenizers(changed(model=model))


@pytest.mark.parametrize("name", ["lstrip", "rstrip", "single_word"])
def test_tokens_that_look_beside_them_are_refused(name: str) -> None:
    data = json.loads(to_tokenizers(TOWN))
    data["added_tokens"][0][name] = True
    with pytest.raises(ExchangeError, match=name):
        from_tokenizers(json.dumps(data))


def test_nothing_is_nothing_in_any_spelling() -> None:
    """No normalizer, and one of no steps, are the same."""
    empty = {"type": "Sequence", "normalizers": []}
    again, _ = from_tokenizers(changed(normalizer=empty))
    assert again.fingerprint == TOWN.fingerprint


def test_whole_words_are_accepted_where_merges_make_them() -> None:
    """`ignore_merges` is harmless if each token encodes to itself."""
    data = json.loads(to_tokenizers(TOWN))
    data["model"]["ignore_merges"] = True
    again, _ = from_tokenizers(json.dumps(data))
    assert again.fingerprint == TOWN.fingerprint
    data["model"]["vocab"]["QQ"] = 5000
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    assert theirs.encode("QQ").ids == [5000]
    with pytest.raises(ExchangeError, match="'QQ' as one token"):
        from_tokenizers(json.dumps(data))


def test_an_added_token_may_be_one_that_merges_make() -> None:
    """It has one number there and two here, which both mean it."""
    data = json.loads(to_tokenizers(TOWN))
    number = data["model"]["vocab"]["ing"]
    data["added_tokens"].append(
        {**data["added_tokens"][0], "id": number, "content": "ing"}
    )
    data["model"]["vocab"][END] = TOWN.end_id
    ours, numbers = from_tokenizers(json.dumps(data))
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    for text in ("baking", "ing", "Mrs Pell sings", f"x{END}ing"):
        ids = ours.encode(text, allowed_special="all")
        assert [numbers[i] for i in ids] == theirs.encode(text).ids
    assert numbers.count(number) == 2


@settings(deadline=None, max_examples=20)
@given(text=ANY)
def test_a_model_of_the_oldest_files_has_no_name(text: str) -> None:
    """As in the file of GPT-2: the library goes by what is in it."""
    data = json.loads(to_tokenizers(TOWN))
    del data["model"]["type"]
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    again, _ = from_tokenizers(json.dumps(data))
    assert again.fingerprint == TOWN.fingerprint
    assert theirs.encode(text).ids == again.encode(text, {END})


def test_a_pattern_that_is_none_is_named() -> None:
    pre = sequence({**SPLIT, "pattern": {"Regex": "("}}, BYTES)
    with pytest.raises(ExchangeError, match="its pattern"):
        from_tokenizers(changed(pre_tokenizer=pre))


UNLIKE = [
    (r"^\p{L}", r"\^"),
    (r"\p{L}+$", r"\$"),
    (r"\p{N}{1,3}+", r"\{1,3}"),
    (r"\w+|\s", "w"),
    (r"a|\h", "h"),
    (r"[a-z&&[^b]]", "&&"),
    (r"[[:punct:]]", "punct"),
    (r"(?m)a", r"\?m"),
    (r"(?s).", r"\?s"),
    (r"\pL", "pL"),
    (r"(a)\1", "1"),
    (r"\ba", "b"),
    (r"[a-z--b]+", "--"),
    (r"[a~~b]", "~~"),
]


@pytest.mark.parametrize(("pattern", "named"), UNLIKE)
def test_patterns_that_mean_two_things_are_refused(
    pattern: str, named: str
) -> None:
    """In a file of theirs as in a tokenizer of ours."""
    pre = sequence({**SPLIT, "pattern": {"Regex": pattern}}, BYTES)
    with pytest.raises(ExchangeError, match=rf"its pattern has .*{named}"):
        from_tokenizers(changed(pre_tokenizer=pre))
    ours = Tokenizer(TOWN.merges, TOWN.special_tokens, pattern)
    for convert in (to_tokenizers, to_tiktoken):
        with pytest.raises(ExchangeError, match=rf"its pattern has .*{named}"):
            convert(ours)


@pytest.mark.parametrize(
    "pattern",
    [PATTERN, GPT2_PATTERN, LLAMA, r"\p{L}+", "[a-e]+ ?|(?<!x)y", "(?:ab|a)c",
     r"[a-c-]+|[~x]"],
)  # fmt: skip
@settings(deadline=None, max_examples=25)
@given(text=st.one_of(ANY, st.text("abcxy1 \n")))
def test_any_pattern_gives_one_and_the_same(pattern: str, text: str) -> None:
    """Also one that leaves out a part of the text: it is not lost."""
    ours = Tokenizer(TOWN.merges, TOWN.special_tokens, pattern)
    tik = tiktoken.Encoding(**to_tiktoken(ours))
    hug = tokenizers.Tokenizer.from_str(to_tokenizers(ours))
    assert tik.encode_ordinary(text) == ours.encode(text)
    assert hug.encode(text).ids == ours.encode(text, {END})


@pytest.mark.parametrize("pattern", ["a?", r"\d*", "a{,2}"])
def test_words_of_no_letters_are_too_little_for_tiktoken(pattern: str) -> None:
    """It would panic, which is no error that a program catches."""
    ours = Tokenizer(TOWN.merges, TOWN.special_tokens, pattern)
    with pytest.raises(ExchangeError, match="also finds words of no letters"):
        to_tiktoken(ours)
    hug = tokenizers.Tokenizer.from_str(to_tokenizers(ours))
    for text in ("bab", "a1b", "aab"):
        assert hug.encode(text).ids == ours.encode(text)


def added(text: str, number: int, normalized: bool) -> dict[str, object]:
    """A token for the list of those that are added."""
    token = json.loads(to_tokenizers(TOWN))["added_tokens"][0]
    return {
        **token, "content": text, "id": number, "special": False,
        "normalized": normalized,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"),
    [("cd", "xcd"), ("xcd", "cd"), ("abc", "cde"), ("cde", "abc"), ("z", "z")],
)
def test_added_tokens_of_two_rounds_are_refused_where_they_meet(
    first: str, second: str
) -> None:
    """Those without "normalized" are cut out before the others are sought."""
    number = TOWN.vocab_size
    tokens = [added(first, number, False), added(second, number + 1, True)]
    with pytest.raises(ExchangeError, match="looks for added tokens in two"):
        from_tokenizers(changed(added_tokens=tokens))
    for token in tokens:
        token["normalized"] = True
    if first != second:
        from_tokenizers(changed(added_tokens=tokens))


@settings(deadline=None, max_examples=60)
@given(
    words=st.lists(
        st.text("QXZ", min_size=2, max_size=4), unique=True, max_size=9
    ),
    rounds=st.lists(st.booleans(), min_size=9, max_size=9),
    text=st.text("QXZd", max_size=30),
)
def test_added_tokens_are_the_same_or_refused(
    words: list[str], rounds: list[bool], text: str
) -> None:
    tokens = [
        added(word, TOWN.vocab_size + i, late)
        for i, (word, late) in enumerate(zip(words, rounds))
    ]
    file = changed(added_tokens=tokens)
    try:
        ours, numbers = from_tokenizers(file)
    except ExchangeError:
        assert len({*rounds[: len(words)]}) == 2
        return
    theirs = tokenizers.Tokenizer.from_str(file)
    ids = [numbers[i] for i in ours.encode(text, allowed_special="all")]
    assert ids == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.always
@settings(deadline=None, max_examples=60)
@given(
    tokens=st.lists(
        st.tuples(
            st.sampled_from(["QX", "XZ", "ZQ", "h", "e", END]),
            st.one_of(
                st.integers(-3, 5).map(lambda n: TOWN.vocab_size + n),
                st.sampled_from([101, 104]),
            ),
        ),
        max_size=4,
        unique_by=lambda token: token[0],
    )
)
def test_numbers_of_added_tokens_are_the_librarys_or_refused(
    tokens: list[tuple[str, int]],
) -> None:
    """It overrules what the file says, and tells nobody."""
    listed = [added(text, number, False) for text, number in tokens]
    file = changed(added_tokens=listed)
    theirs = tokenizers.Tokenizer.from_str(file)
    used = [theirs.token_to_id(text) for text, _ in tokens]
    if used != [number for _, number in tokens]:
        with pytest.raises(ExchangeError, match="would use"):
            from_tokenizers(file)
        return
    ours, numbers = from_tokenizers(file)
    for text in ("helQXZ", "Zhe QXh", END):
        ids = [numbers[i] for i in ours.encode(text, allowed_special="all")]
        assert ids == theirs.encode(text, add_special_tokens=False).ids


def test_merges_written_as_one_word_are_read_too() -> None:
    """Before 2024 the library wrote "a b" where it now writes ["a", "b"]."""
    data = json.loads(to_tokenizers(TOWN))
    model = data["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    again, _ = from_tokenizers(json.dumps(data))
    assert again.fingerprint == TOWN.fingerprint


def test_a_space_before_each_text_is_refused() -> None:
    """It would give other tokens than the file's own library."""
    data = json.loads(to_tokenizers(TOWN))
    for step in data["pre_tokenizer"]["pretokenizers"]:
        if step["type"] == "ByteLevel":
            step["add_prefix_space"] = True
    with pytest.raises(ExchangeError, match="puts a space before"):
        from_tokenizers(json.dumps(data))
