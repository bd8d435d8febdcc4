"""What preparing a corpus must do."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scratchlm.text import prepare
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import open_tokens
from scratchlm.text.toytown import split_stories, write_corpus

from ..expect import equal, raises, true

STORIES = [
    f"On day {day} Mrs Pell counts {day * 7} loaves, and Mr Dunn his nails."
    for day in range(60)
]


def town() -> Tokenizer:
    """A small tokenizer with an end token."""
    return Tokenizer.train(STORIES, 300)


def corpus() -> Path:
    """A file of documents as JSON lines, with an empty line in it."""
    path = Path(tempfile.mkdtemp()) / "town.jsonl"
    lines = [json.dumps({"text": text}) + "\n" for text in STORIES]
    path.write_text("".join([*lines[:9], "\n", *lines[9:]]), encoding="utf-8")
    return path


def check_nine_tenths_and_one() -> None:
    """All documents are on one side, in their order, again and again."""
    material = prepare.file_material(corpus(), "town")
    for _ in range(2):
        equal(
            list(material.train),
            STORIES[:54],
            "the documents to learn from",
            hint="a share is read again from its beginning each time",
        )
        equal(
            list(material.validation), STORIES[54:], "the ones to be judged by"
        )
    size = len("".join(STORIES).encode())
    equal(prepare.measure(corpus()), (60, size), "documents and bytes")


def check_a_text_is_read_without_loss() -> None:
    """Blocks and parts joined are the text; a part ends where a word does."""
    path = Path(tempfile.mkdtemp()) / "play.txt"
    text = "Größe. To be, or not to be:\r\n" * 20_000
    path.write_bytes(text.encode())
    material = prepare.file_material(path, "play")
    train = list(material.train)
    joined = "".join([*train, *material.validation])
    found = prepare.measure(path)
    equal(found, (len(text), len(text.encode())), "characters and bytes")
    true(joined == text, "all parts joined are the text")
    true(len(train) > 1, "a long text comes in several parts")
    true(
        all(part[-1].isalpha() for part in train[:-1]),
        "each part ends with a word",
    )


def check_batches_are_in_order_and_bounded() -> None:
    """No text is lost, and none is read before it is needed."""
    read = []

    def texts() -> Iterator[str]:
        for number in range(40):
            read.append(number)
            yield "a baker " * 20_000

    batches = prepare.in_batches(texts())
    first = next(batches)
    true(
        len(read) <= 5,
        "only the first batch's texts have been read",
        hint="make batches in a generator, not in a list",
    )
    rest = [*first.texts, *(t for batch in batches for t in batch.texts)]
    equal(len(rest), 40, "how many texts come out of 40")


def check_the_tokens_are_those_of_the_documents() -> None:
    """One after another, an end token behind each, nothing left beside."""
    tokenizer, path = town(), Path(tempfile.mkdtemp()) / "a.tokens"
    done = prepare.encode_to_file(tokenizer, STORIES, True, path, 1)
    wanted = []
    for story in STORIES:
        wanted += [*tokenizer.encode(story), tokenizer.end_id]
    found = open_tokens(path, tokenizer.fingerprint).tokens.tolist()
    equal(found[:40], wanted[:40], "the first tokens")
    equal(found, wanted, "all tokens", hint="the end token, behind each")
    equal(done.tokens, len(wanted), "how many tokens were counted")
    equal(done.bytes, len("".join(STORIES).encode()), "how many bytes")
    equal([p.name for p in path.parent.iterdir()], ["a.tokens"], "the folder")


def check_an_error_leaves_no_file() -> None:
    """A document that is no text is refused, and no file is there."""
    path = Path(tempfile.mkdtemp()) / "a.tokens"
    texts = [*STORIES, "half \ud83d"]
    raises(
        ValueError,
        lambda: prepare.encode_to_file(town(), texts, True, path, 1),
        "encoding half of a surrogate pair",
    )
    equal(list(path.parent.iterdir()), [], "what is left")


def check_a_run_gets_its_files_and_facts() -> None:
    """Tokenizer, two token files, and what the loss is to be compared to."""
    folder = Path(tempfile.mkdtemp()) / "run"
    material = prepare.file_material(corpus(), "town")
    facts = prepare.write_material(material, town(), folder, 1)
    names = ["tokenizer.json", "train.tokens", "validation.tokens"]
    equal(sorted(p.name for p in folder.iterdir()), names, "the files")
    size = len("".join(STORIES[54:]).encode())
    equal(facts["validation_bytes"], size, "the bytes of validation text")
    again = prepare.load_tokenizer(folder / "tokenizer.json")
    equal(again.fingerprint, town().fingerprint, "the tokenizer, loaded")


def check_either_tokenizer_is_trained() -> None:
    """An alphabet with the line end, or merges of the first characters."""
    letters = prepare.train_tokenizer("characters", ["ba", "c"], 99)
    equal(letters.vocab_size, 4, "characters of ba and c, and the line end")
    pairs = prepare.train_tokenizer("bpe", iter(STORIES), 270)
    equal(pairs.vocab_size, 270, "the vocabulary that was asked for")
    true(isinstance(pairs, Tokenizer), "a tokenizer of byte pairs")
    few = list(prepare.first_characters(["abc", "de", "f"], 4))
    equal(few, ["abc", "de"], "texts within the first four characters")
    equal(list(prepare.first_characters(["a"], 0)), [], "and within none")
    for tokenizer in (letters, pairs):
        path = Path(tempfile.mkdtemp()) / "tokenizer.json"
        tokenizer.save(path)
        found = prepare.load_tokenizer(path)
        equal(type(found), type(tokenizer), "the kind that its file says")


def check_marks_of_an_alphabet() -> None:
    """An empty line stands behind each document, where there are some."""
    tokenizer = prepare.train_tokenizer("characters", ["abc"], 9)
    for separate, wanted in ((True, "ab\n\nc\n\n"), (False, "abc")):
        pieces = list(prepare.encode_texts(tokenizer, ["ab", "c"], separate, 1))
        ids = [int(i) for _, piece in pieces for i in piece]
        equal(tokenizer.decode(ids), wanted, f"decoded, separate={separate}")
        kinds = {str(piece.dtype) for _, piece in pieces}
        equal(kinds, {"uint32"}, "the type of tokens")


def check_toytown() -> None:
    """Stories for both sides, and the entropy of those to be judged by."""
    material = prepare.toytown_material(30_000, seed=4)
    stories = split_stories(write_corpus(30_000, 4))
    train = [story.text for story in stories.train]
    equal(list(material.train), train, "stories to learn from")
    validation = [story.text for story in stories.validation]
    equal(list(material.validation), validation, "stories to be judged by")
    true(material.separate, "stories are documents")
    nats = -sum(story.log_prob for story in stories.validation)
    wanted = {"corpus": "toytown", "characters": 30_000, "entropy_nats": nats}
    equal(material.facts, wanted, "what is known of them")


def check_a_folder_that_is_split() -> None:
    """Its two files are the two sides; one that is missing is named."""
    folder = Path(tempfile.mkdtemp())
    for part, texts in (("train", STORIES[:5]), ("validation", STORIES[5:8])):
        lines = [json.dumps({"text": text}) + "\n" for text in texts]
        path = folder / f"{part}.jsonl"
        path.write_text("".join(lines), encoding="utf-8")
    material = prepare.file_material(folder, "town")
    equal(list(material.train), STORIES[:5], "what to learn from")
    equal(list(material.validation), STORIES[5:8], "what to be judged by")
    equal(material.facts, {"corpus": "town"}, "what is known of it")
    path.unlink()
    raises(
        prepare.MaterialError,
        lambda: prepare.file_material(folder, "town"),
        "a folder without validation.jsonl",
    )
    true(prepare.processors() >= 1, "a program may use some processors")


BUGS = {
    "the validation documents are learned from": (
        "train = Share(path, 0, cut, int(0.9 * size))",
        "train = Share(path, 0, units, int(0.9 * size))",
    ),
    "a text is cut anywhere": (
        "return in_parts(self.blocks())",
        "return self.blocks()",
    ),
    "the last batch is lost": (
        "    if held:\n        yield Batch(first, held)\n",
        "",
    ),
    "all texts are read before the first batch": (
        "    for text in texts:\n        held.append(text)",
        "    for text in list(texts):\n        held.append(text)",
    ),
    "no end token behind a document": (
        "encode_batches(tokenizer, in_batches(texts), separate, workers)",
        "encode_batches(tokenizer, in_batches(texts), False, workers)",
    ),
    "the bytes of all text are counted as validation": (
        '"validation_bytes": validation.bytes',
        '"validation_bytes": train.bytes',
    ),
    "an alphabet has no line end": (
        'alphabet = {"\\n"}',
        "alphabet = set()",
    ),
    "every kind of tokenizer is an alphabet": (
        'if kind == "characters":',
        "if True:",
    ),
    "an empty line stands behind every text": (
        'mark = "\\n\\n" if separate else ""',
        'mark = "\\n\\n"',
    ),
    "the entropy is that of what is learned": (
        "for story in splits.validation)\n    return",
        "for story in splits.train)\n    return",
    ),
    "a split folder is learned from twice": (
        'for part in ("train", "validation"))',
        'for part in ("train", "train"))',
    ),
}
