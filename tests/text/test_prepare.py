"""From text to token files: streams, several processes, nothing left over."""

import contextlib
import doctest
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scratchlm.text import prepare as module
from scratchlm.text.bpe import GPT2_PATTERN
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.prepare import (
    Material,
    MaterialError,
    Share,
    encode_batches,
    encode_to_file,
    file_material,
    first_characters,
    in_batches,
    load_tokenizer,
    measure,
    processors,
    read_texts,
    toytown_material,
    train_tokenizer,
    write_material,
)
from scratchlm.text.tokenizer import END, Tokenizer, encode_batch, remembered
from scratchlm.text.tokens import open_tokens
from scratchlm.text.toytown import join, write_corpus

STORIES = [story.text for story in write_corpus(30_000)]
TEXT = join(write_corpus(30_000)) + "Größe, 中文。\r\n 'tis \u00a0 so" * 40


@pytest.fixture(scope="module")
def town() -> Tokenizer:
    """A tokenizer of Toytown with 400 tokens."""
    return Tokenizer.train(STORIES, 400)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and batches so small that a story takes several."""
    monkeypatch.setattr(module, "BLOCK", 100)
    monkeypatch.setattr(module, "BATCH", 1000)


def lines(path: Path, texts: list[str]) -> Path:
    """A file of JSON lines."""
    data = [json.dumps({"text": text}) + "\n" for text in texts]
    path.write_text("".join(data), encoding="utf-8")
    return path


def text_file(path: Path, text: str) -> Path:
    """A file of one text, as it is."""
    path.write_bytes(text.encode())
    return path


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.usefixtures("small")
def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.txt", "\ufeff" + TEXT)
    blocks = list(read_texts(path))
    assert "".join(blocks) == TEXT  # but for the byte order mark
    assert max(map(len, blocks)) == 100
    assert measure(path) == (len(TEXT), len(TEXT.encode()))


def test_documents_are_read_one_by_one(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ["a\u2028b", "é"])
    assert list(read_texts(path)) == ["a\u2028b", "é"]
    assert measure(path) == (2, 7)


@pytest.mark.parametrize(
    ("name", "raw"),
    [("a.txt", b"good\nb\xe4d\n"), ("a.jsonl", b'{"text": "x"}\n{"text": 5}')],
)
def test_what_cannot_be_read_is_named_before_any_work(
    tmp_path: Path, name: str, raw: bytes
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=f"{name}, line 2"):
        file_material(tmp_path / name, name)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_nine_tenths_to_learn_from(tmp_path: Path, kind: str) -> None:
    if kind == "jsonl":
        path = lines(tmp_path / "a.jsonl", STORIES)
    else:
        path = text_file(tmp_path / "a.txt", TEXT)
    material = file_material(path, "mine")
    train, validation = list(material.train), list(material.validation)
    assert list(material.train) == train  # again, from its beginning
    assert material.facts == {"corpus": "mine"}
    if kind == "jsonl":
        assert train + validation == STORIES
        assert len(train) == int(0.9 * len(STORIES))
        assert material.separate
    else:
        assert "".join(train + validation) == TEXT
        assert len("".join(train)) == int(0.9 * len(TEXT))
        assert len(train) > 10
        assert not material.separate


def test_documents_are_known_by_an_ending_in_capitals(tmp_path: Path) -> None:
    path = lines(tmp_path / "A.JSONL", STORIES)
    material = file_material(path, "mine")
    assert material.separate
    assert list(material.train) + list(material.validation) == STORIES


def test_a_prepared_folder_is_split_already(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", STORIES[:5])
    with pytest.raises(MaterialError, match=r"no validation\.jsonl; make it"):
        file_material(tmp_path, "mine")
    lines(tmp_path / "validation.jsonl", STORIES[5:7])
    material = file_material(tmp_path, "mine")
    assert list(material.train) == STORIES[:5]
    assert list(material.validation) == STORIES[5:7]


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("a.jsonl", ["long enough"], "holds 1 documents; it takes two or more"),
        ("a.jsonl", ["a", ""], "holds too little"),
        ("a.txt", ["0123456789"], "holds too little"),
    ],
)
def test_too_little_text_is_refused(
    tmp_path: Path, name: str, texts: list[str], message: str
) -> None:
    path = tmp_path / name
    if name == "a.txt":
        text_file(path, texts[0])
    else:
        lines(path, texts)
    with pytest.raises(MaterialError, match=f"{name} {message}"):
        file_material(path, name)


def test_empty_documents_at_the_beginning_are_no_reason_to_refuse(
    tmp_path: Path,
) -> None:
    path = lines(tmp_path / "a.jsonl", ["", "", "", "a baker"] * 20)
    assert len(list(file_material(path, "mine").train)) == 72


def test_toytown_knows_its_entropy() -> None:
    material = toytown_material(30_000, 2026)
    assert material.separate
    assert len(material.train) == 18 * (len(STORIES) // 20) + min(
        len(STORIES) % 20, 18
    )
    nats = [s.log_prob for s in write_corpus(30_000)][18::20]
    assert material.facts["entropy_nats"] == pytest.approx(-sum(nats))
    assert material.facts["corpus"] == "toytown"


@pytest.mark.usefixtures("small")
def test_a_tokenizer_learns_the_same_from_parts(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.txt", TEXT)
    share = Share(path, 0, len(TEXT), 0)
    learned = train_tokenizer("bpe", share, 400)
    assert learned.fingerprint == Tokenizer.train(TEXT, 400).fingerprint
    letters = train_tokenizer("characters", ["ab", "cb"], 0)
    assert isinstance(letters, CharTokenizer)
    assert letters.alphabet == "\nabc"


def test_byte_pairs_are_learned_from_the_first_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(first_characters(["abc", "de", "f"], 4)) == ["abc", "de"]
    assert list(first_characters(["abc"], 0)) == []
    monkeypatch.setattr(module, "SAMPLE", 1000)
    learned = train_tokenizer("bpe", iter(STORIES), 400)
    head = list(first_characters(STORIES, 1000))
    assert learned.fingerprint == Tokenizer.train(head, 400).fingerprint


def test_either_tokenizer_is_loaded(town: Tokenizer, tmp_path: Path) -> None:
    for tokenizer in (town, CharTokenizer("abc")):
        tokenizer.save(tmp_path / "tokenizer.json")
        again = load_tokenizer(tmp_path / "tokenizer.json")
        assert again.fingerprint == tokenizer.fingerprint
    for text in ("[", "[]", '{"merges": 3}'):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(ValueError, match=r"tokenizer\.json"):
            load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.usefixtures("small")
def test_batches_hold_all_texts_in_order() -> None:
    batches = list(in_batches(STORIES))
    assert [text for batch in batches for text in batch.texts] == STORIES
    assert len(batches) > 10
    for batch in batches:
        assert STORIES[batch.first] == batch.texts[0]
        assert sum(map(len, batch.texts[:-1])) < 1000
        assert batch.bytes == len("".join(batch.texts).encode())
    assert list(in_batches([])) == []


@pytest.mark.always
@pytest.mark.usefixtures("small")
def test_the_number_of_processes_leaves_no_trace(
    town: Tokenizer, tmp_path: Path
) -> None:
    files = []
    for workers in (1, 2):
        path = tmp_path / f"{workers}.tokens"
        done = encode_to_file(town, STORIES, True, path, workers)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    wanted = [i for text in STORIES for i in [*town.encode(text), town.end_id]]
    assert open_tokens(path, town.fingerprint).tokens.tolist() == wanted
    assert done.tokens == len(wanted)
    assert done.bytes == len("".join(STORIES).encode())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("pattern", [None, GPT2_PATTERN, r"\p{L}+|\s"])
def test_one_text_has_the_tokens_of_the_whole(
    town: Tokenizer, tmp_path: Path, pattern: str | None
) -> None:
    """Read in blocks, for any pattern, and with no end token in it."""
    if pattern:
        town = Tokenizer(town.merges, {END: 399}, pattern)
    path = text_file(tmp_path / "a.txt", TEXT)
    share = Share(path, 100, len(TEXT), 0)
    encode_to_file(town, share, False, tmp_path / "a.tokens", 1)
    found = open_tokens(tmp_path / "a.tokens").tokens.tolist()
    assert found == town.encode(TEXT[100:])


def test_letters_have_an_empty_line_between_documents(tmp_path: Path) -> None:
    letters = CharTokenizer("ab\n")
    for separate, text in ((True, "ab\n\nb\n\n"), (False, "abb")):
        path = tmp_path / "a.tokens"
        encode_to_file(letters, ["ab", "b"], separate, path, 1)
        assert letters.decode(open_tokens(path).tokens.tolist()) == text


@pytest.mark.usefixtures("small")
def test_a_text_that_is_none_is_named_and_no_file_is_left(
    town: Tokenizer, tmp_path: Path
) -> None:
    texts = [*STORIES[:30], "half \ud83d", *STORIES[30:]]
    with pytest.raises(ValueError, match="document 30: character 5"):
        encode_to_file(town, texts, True, tmp_path / "a.tokens", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_no_more_is_read_than_is_under_way(
    town: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two workers at most six batches wait, whatever the corpus is."""
    monkeypatch.setattr(module, "ALONE", 2)
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for text in STORIES:
            read += 1
            yield text

    done = encode_batches(town, in_batches(texts()), True, 2)
    for number in range(10):
        batch, ids = next(done)
        assert batch.first + len(batch.texts) <= read
        ahead = sum(map(len, STORIES[batch.first + len(batch.texts) : read]))
        assert ahead < (0 if number < 2 else 6) * (1000 + 900) + 1000
    assert ids.tolist() == encode_batch(
        town.to_json(), batch, True
    ).tolist()
    done.close()


def test_one_process_holds_one_tokenizer(town: Tokenizer) -> None:
    assert remembered(town.to_json()) is remembered(town.to_json())


def test_what_a_worker_imports_is_small() -> None:
    """Without torch it starts at once and takes little memory."""
    code = (
        "import sys, scratchlm.text.tokenizer\n"
        "sys.exit('torch' in sys.modules or 'requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_there_are_processors() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)


def test_material_becomes_files_and_facts(
    town: Tokenizer, tmp_path: Path
) -> None:
    material = Material(STORIES[:9], STORIES[9:12], True, {"corpus": "mine"})
    facts = write_material(material, town, tmp_path / "run", workers=1)
    names = ["tokenizer.json", "train.tokens", "validation.tokens"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == names
    counts = [
        len(open_tokens(tmp_path / "run" / name, town.fingerprint).tokens)
        for name in names[1:]
    ]
    assert facts == {
        "corpus": "mine",
        "train_tokens": counts[0],
        "validation_tokens": counts[1],
        "validation_bytes": len("".join(STORIES[9:12]).encode()),
    }


@pytest.mark.usefixtures("small")
def test_a_corpus_is_encoded_in_constant_memory(
    town: Tokenizer, tmp_path: Path
) -> None:
    """Eight times the corpus takes no more, and less than it has."""

    def peak(times: int) -> int:
        path = lines(tmp_path / "a.jsonl", STORIES * times)
        share = Share(path, 0, len(STORIES) * times, 0)
        tracemalloc.start()
        encode_to_file(town, share, True, tmp_path / "a.tokens", 1)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # fills the cache
    once, more = peak(1), peak(8)
    assert more < 1.2 * once + 20_000


SLOW = """
import sys
from pathlib import Path
from scratchlm.text import prepare
from scratchlm.text.tokenizer import Tokenizer
prepare.ALONE = 1
texts = (f"number {i} of many " * 200 for i in range(10**9))
def said():
    for i, text in enumerate(texts):
        if i == 3000:
            print("under way", flush=True)
        yield text
if __name__ == "__main__":
    tokenizer = Tokenizer.train("number of many", 260)
    prepare.encode_to_file(tokenizer, said(), True, Path(sys.argv[1]), 2)
"""


@pytest.mark.judge
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_all_processes_and_leaves_no_file(
    tmp_path: Path, number: int
) -> None:
    """Ctrl-C leaves nothing; after a kill at least no process goes on."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "out").mkdir()
    target = str(tmp_path / "out" / "a.tokens")
    work = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py"), target],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A shell lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert work.stdout
    assert work.stdout.readline() == "under way\n"
    group = os.getpgid(work.pid)
    if number == signal.SIGINT:
        os.killpg(group, number)  # as a terminal does
    else:
        work.kill()
    work.wait(60)
    work.stdout.close()
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process goes on")
    if number == signal.SIGINT:
        assert list((tmp_path / "out").iterdir()) == []


UNGUARDED = """
import sys
from pathlib import Path
from scratchlm.text import prepare
from scratchlm.text.tokenizer import Tokenizer
print("begun")
prepare.ALONE, prepare.BATCH = 1, 100
tokenizer = Tokenizer.train("number of many", 260)
texts = [f"number {i} of many " for i in range(100)]
print(prepare.encode_to_file(tokenizer, texts, True, Path(sys.argv[1]), 2))
print("__main__" in sys.modules and __name__)
"""


def test_other_processes_do_not_run_the_program_again(tmp_path: Path) -> None:
    """Nor import what it imports: they would each hold all of torch."""
    (tmp_path / "mine.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "a.tokens")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[::2] == ["begun", "__main__"], done.stderr
    assert done.stdout.count("Encoded(tokens=") == 1
    assert done.returncode == 0


WHOLE = """
import sys
from pathlib import Path
from scratchlm.text.prepare import (
    file_material, train_tokenizer, write_material
)
if __name__ == "__main__":
    material = file_material(Path(sys.argv[1]), "large")
    tokenizer = train_tokenizer("bpe", material.train, 4096)
    write_material(material, tokenizer, Path(sys.argv[2]))
"""


def varied(characters: int) -> str:
    """Stories, words that are made up, tables and other scripts."""
    generator = random.Random(1)
    signs = [chr(0x4E00 + i) for i in range(3000)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randint(3, 12)))
             for _ in range(200_000)]  # fmt: skip
    parts: list[str] = []
    for story in write_corpus(characters // 2):
        often = [int(generator.paretovariate(0.4)) for _ in range(60)]
        parts += [
            story.text,
            " ".join(words[i % len(words)] for i in often),
            "".join(generator.choices(signs, k=20)) + "\u3002",
            f"{generator.random()}\t{generator.getrandbits(64):x}",
        ]
    return "\n\n".join(parts) + "\n\n"


def memory_of_session(leader: int) -> int:
    """Bytes that a process and all those it began hold, each page once."""
    total = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # it may have ended
            if os.getsid(int(entry.name)) == leader:
                for line in (entry / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += 1024 * int(line.split()[1])
    return total


@pytest.mark.judge
@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux"
)
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_a_gigabyte_takes_half_a_gigabyte_of_memory(
    tmp_path: Path, kind: str
) -> None:
    """All processes together; and a tenth of the text takes as much."""
    (tmp_path / "whole.py").write_text(WHOLE)
    block = varied(4_000_000)
    if kind == "jsonl":
        texts = block.strip().split("\n\n")
        block = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    data = block.encode()
    most: dict[int, int] = {}
    for size in (100_000_000, 1_000_000_000):
        path, out = tmp_path / f"large.{kind}", tmp_path / f"{size}"
        with path.open("wb") as file:
            for _ in range(-(-size // len(data))):
                file.write(data)
        work = subprocess.Popen(
            [sys.executable, str(tmp_path / "whole.py"), str(path), str(out)],
            start_new_session=True,
        )
        held = 0
        while work.poll() is None:
            held = max(held, memory_of_session(work.pid))
            time.sleep(0.2)
        assert work.returncode == 0
        assert len(open_tokens(out / "train.tokens").tokens) > size / 10
        most[size] = held
        path.unlink()
    small, large = most.values()
    assert large < 500_000_000, most
    assert large < 1.1 * small, most


def test_tokens_are_those_of_numpy(town: Tokenizer) -> None:
    batch = next(in_batches(STORIES[:2]))
    ids = encode_batch(town.to_json(), batch, False)
    assert ids.dtype == np.uint32
    assert town.decode(ids) == STORIES[0] + STORIES[1]


def test_what_is_not_utf8_is_an_error_even_if_the_file_was_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xff\xfe\xfd")
    monkeypatch.setattr(module, "read_lines", lambda path: ["mended"])
    with pytest.raises(UnicodeDecodeError):
        list(module.read_texts(path))


def test_a_killed_process_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        closed = False

        def __init__(self, *settings: object) -> None:
            pass

        def submit(self, *work: object) -> None:
            raise module.BrokenProcessPool

        def shutdown(self, cancel_futures: bool) -> None:
            Pool.closed = cancel_futures

    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    batches = iter([module.Batch(0, ["a"])])
    with pytest.raises(module.MaterialError, match="fewer processes"):
        list(module.encode_elsewhere("{}", batches, True, 2))
    assert Pool.closed


def test_processors_where_no_system_call_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert module.processors() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(module.os, "sched_getaffinity")
    monkeypatch.setattr(module.os, "cpu_count", lambda: 3)
    assert module.processors() == 3
