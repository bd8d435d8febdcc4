"""Cleaning, splitting and fetching text, without internet."""

import doctest
import hashlib
import itertools
import json
import random
import threading
import time
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text import corpus
from scratchlm.text.corpus import (
    DocumentSplits,
    Manifest,
    Source,
    file_name,
    find_leaks,
    find_root,
    fingerprint,
    get,
    group_near_duplicates,
    is_card,
    is_public_address,
    is_reserved,
    jaccard,
    may_fetch,
    normalize,
    read_documents,
    redact_pii,
    remove_duplicates,
    remove_near_duplicates,
    shingles,
    sketch,
    split_documents,
    write_documents,
)
from scratchlm.text.toytown import write_corpus

FEW = settings(deadline=None, max_examples=60)


def stories(count: int) -> list[str]:
    return [story.text for story in write_corpus(500 * count)][:count]


def test_doctests() -> None:
    assert doctest.testmod(corpus).failed == 0


# --- Reading documents -------------------------------------------------------


def test_json_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts = ["one\u2028two", "three\x85four", "five\x0bsix\x1cseven", "a\r\nb"]
    write_documents(path, [{"text": text} for text in texts])
    assert list(read_documents(path)) == texts
    raw = '\ufeff{"text": "a"}\r\n\n \t\n{"text": "b", "more": 1}'
    path.write_bytes(raw.encode())
    assert list(read_documents(path)) == ["a", "b"]
    path.write_bytes(b"")
    assert list(read_documents(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": 5}',
        b'{"text": null}',
        b'{"other": "a"}',
        b'["text"]',
        b"5",
        b'"text"',
        b"{",
        b"\xe2\x80\xa8",  # U+2028 alone is no blank line
        b'{"text": "\\ud83d"}',
        b'{"text": "caf\xe9"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_document_is_named_with_its_line(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + line + b"\n")
    read = read_documents(path)
    assert next(read) == "a"
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3, is no") as caught:
        next(read)
    assert "\n" not in str(caught.value)


def test_paragraphs_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff\n\na\r\nb\r\n \t\r\nc\u2028d\n\n\n".encode())
    assert list(read_documents(path)) == ["a\r\nb\r\n", "c\u2028d\n"]
    path.write_bytes(b"a\n\ncaf\xe9")
    with pytest.raises(ValueError, match=r"a\.txt, line 3, .*iconv"):
        list(read_documents(path))


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "c.md").write_text("three")
    (tmp_path / "a.jsonl").write_text('{"text": "four"}\n{"text": "five"}\n')
    (tmp_path / "a.py").write_text("pass")
    found = list(read_documents(tmp_path))
    assert found == ["four", "five", "one\n\ntwo", "three"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no .*\.txt"):
        list(read_documents(tmp_path / "empty"))


def test_documents_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 3 + "not json")
    assert list(itertools.islice(read_documents(path), 3)) == ["a"] * 3


def test_no_file_is_half_written(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield {"text": "a"}
        raise OSError("no space left")

    path = tmp_path / "new" / "a.jsonl"
    with pytest.raises(OSError, match="no space"):
        write_documents(path, broken())
    assert list(path.parent.iterdir()) == []


# --- normalize ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("a \t b\u00a0\u2003c", "a b c"),
        ("  a  \n  b  ", "a\nb"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("a\n \n\t\n \nb", "a\n\nb"),
        ("cafe\u0301", "caf\u00e9"),
        ("e\u200b\u0301\x00", "\u00e9"),
        ("\ufeffbread", "bread"),
        ("", ""),
    ],
)
def test_normalize(before: str, after: str) -> None:
    assert normalize(before) == after


@FEW
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_normalize_twice_is_once(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\n\n\n" not in once
    assert once == once.strip()
    assert not {"\r", "\t", "\ufeff", "\x00"} & set(once)


def test_stories_are_normal() -> None:
    assert all(normalize(text) == text for text in stories(40))


# --- redact_pii --------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("email", "pell@bakery.example"),
        ("email", "ada.wren+clocks@lime-street.co.uk"),
        ("email", "JEM@STABLE.EXAMPLE.ORG"),
        ("ip", "8.8.8.8"),
        ("ip", "2606:4700:4700::1111"),
        ("ip", "2001:4860:4860:0:0:0:0:8888"),
        ("card", "4111 1111 1111 1111"),
        ("card", "4111-1111-1111-1111"),
        ("card", "378282246310005"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "+1 (555) 010-9999"),
        ("phone", "(555) 010-9999"),
        ("phone", "555-010-9999"),
        ("phone", "030/1234 5678"),
    ],
)
def test_what_is_redacted(kind: str, found: str) -> None:
    for frame in ("{}", "Ask {}, please.", "({})", "It is {}.", "a\n{}\nb"):
        text, counts = redact_pii(frame.format(found))
        assert text == frame.format(f"<{kind}>")
        assert counts == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "Seven loaves at three pence each: 21.",
        "The battle of 1066, the peace of 1914-1918, on 2026-11-20.",
        "1,115,394 bytes, 3.14159, 1.5e-10 and 1e9",
        "192.168.0.1, 127.0.0.1 and 10.0.0.7 are at home",
        "version 1.2.3, section 4.5.6.7.8",
        "at 12:30:45, or 9:05",
        "the address 00:1a:2b:3c:4d:5e of a network card",
        "not a card: 4111 1111 1111 1112",
        "an at sign @ alone, me@home, and a::b",
        "999.999.999.999",
        "ISBN 978-3-16-148410-0",
        "std::vector and ::1",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert redact_pii(text) == (text, {})


def test_stories_hold_no_pii() -> None:
    assert all(redact_pii(text) == (text, {}) for text in stories(100))


def test_redacting_twice_changes_nothing() -> None:
    text = "pell@bakery.example, 8.8.8.8, 4111111111111111, +44 20 7946 0958"
    once, counts = redact_pii(text)
    assert once == "<email>, <ip>, <card>, <phone>"
    assert sum(counts.values()) == 4
    assert redact_pii(once) == (once, {})


@pytest.mark.parametrize("piece", ["1", "1 ", "1.", "a@", "a.", ":", "+1-"])
def test_no_pattern_is_slow(piece: str) -> None:
    """Long rows of what almost matches, in time linear in their length."""
    start = time.process_time()
    redact_pii(piece * 20_000)
    assert time.process_time() - start < 2


@FEW
@given(st.integers(10**12, 10**18), st.integers(0, 12), st.integers(1, 9))
def test_luhn_notices_one_wrong_digit(n: int, place: int, by: int) -> None:
    good = next(f"{n}{d}" for d in range(10) if is_card(f"{n}{d}"))
    changed = str((int(good[place]) + by) % 10)
    assert not is_card(good[:place] + changed + good[place + 1 :])


def test_addresses() -> None:
    assert is_public_address("2606:4700::1")
    assert not is_public_address("2001:db8::1")  # for documentation
    assert not is_public_address("bakery")


# --- Duplicates --------------------------------------------------------------


def test_exact_duplicates() -> None:
    assert remove_duplicates(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]
    assert remove_duplicates([]) == []


def test_shingles_by_hand() -> None:
    text = "One two, THREE four five six"
    assert shingles(text) == {
        "one two three four five",
        "two three four five six",
    }
    assert shingles("One, two") == {"one two"}
    assert shingles("...") == frozenset()
    assert jaccard(frozenset(), frozenset()) == 1
    assert jaccard(frozenset("a"), frozenset()) == 0


def changed(text: str, words: int, generator: random.Random) -> str:
    """The text with so many of its words replaced."""
    parts = text.split()
    for place in generator.sample(range(len(parts)), words):
        parts[place] = "otherwise"
    return " ".join(parts)


def test_sketches_estimate_the_similarity() -> None:
    """128 numbers: a standard error of at most 1 / (2 sqrt(128)) = 0.044."""
    generator = random.Random(0)
    for text in stories(10):
        for words in (1, 3, 8):
            a, b = shingles(text), shingles(changed(text, words, generator))
            estimate = sketch(a).jaccard(sketch(b))
            assert abs(estimate - jaccard(a, b)) < 5 * 0.0442


def test_near_duplicates_are_found() -> None:
    generator = random.Random(0)
    originals = stories(60)
    copies = [changed(text, 1, generator) for text in originals[:20]]
    groups = group_near_duplicates(originals + copies)
    pairs = [group for group in groups if len(group) > 1]
    assert pairs == [[i, 60 + i] for i in range(20)]
    assert remove_near_duplicates(originals + copies) == originals


def test_groups_follow_chains() -> None:
    """b is near a and near c, though a and c are not near: one group."""
    words = [f"w{i}" for i in range(60)]
    a, b, c = (" ".join(words[i : i + 48]) for i in (0, 6, 12))
    assert jaccard(shingles(a), shingles(b)) > 0.7
    assert jaccard(shingles(a), shingles(c)) < 0.7
    assert group_near_duplicates([a, c, b]) == [[0, 1, 2]]
    assert group_near_duplicates([a, "x y z", c]) == [[0], [1], [2]]


def test_groups_agree_with_all_pairs() -> None:
    """On random chains of changes, the same groups as comparing each pair."""
    generator = random.Random(5)
    documents = stories(25)
    for _ in range(50):
        documents.append(changed(generator.choice(documents), 1, generator))
    sets = [shingles(text) for text in documents]
    parents = list(range(len(sets)))
    for i in range(len(sets)):
        for j in range(i):
            if jaccard(sets[i], sets[j]) >= 0.7:
                a, b = find_root(parents, i), find_root(parents, j)
                parents[max(a, b)] = min(a, b)
    wanted = [find_root(parents, i) for i in range(len(sets))]
    got = {i: g[0] for g in group_near_duplicates(documents) for i in g}
    assert [got[i] for i in range(len(sets))] == wanted


def test_empty_documents() -> None:
    assert remove_near_duplicates(["", "...", "bread"]) == ["", "bread"]
    assert group_near_duplicates([]) == []


# --- Splits and leaks --------------------------------------------------------


def test_shares_of_the_splits() -> None:
    documents = [f"document {i} about {i * i}" for i in range(2000)]
    splits = split_documents(documents)
    sizes = [len(splits.train), len(splits.validation), len(splits.test)]
    assert sum(sizes) == 2000
    assert abs(sizes[0] - 1800) < 50
    assert abs(sizes[1] - 100) < 35


def test_sides_do_not_depend_on_order_or_number() -> None:
    documents = stories(120)
    all_of_them = split_documents(documents)
    some = split_documents(documents[::-2])
    assert set(some.train) <= set(all_of_them.train)
    assert set(some.validation) <= set(all_of_them.validation)
    assert set(some.test) <= set(all_of_them.test)
    assert split_documents(documents, seed=1) != all_of_them


def test_near_duplicates_stay_together() -> None:
    generator = random.Random(0)
    originals = stories(80)
    copies = [changed(text, 1, generator) for text in originals]
    splits = split_documents(originals + copies)
    for side in (splits.train, splits.validation, splits.test):
        for original, near in zip(originals, copies, strict=True):
            assert (original in side) == (near in side)
    assert find_leaks(splits.train, splits.validation + splits.test) == []
    backwards = split_documents((originals + copies)[::-1])
    assert set(backwards.train) == set(splits.train)
    assert set(backwards.validation) == set(splits.validation)


def test_leaks_are_found() -> None:
    texts = stories(30)
    train, held_out = texts[:25], texts[25:]
    assert find_leaks(train, held_out) == []
    planted = [*held_out, train[3], train[7][: len(train[7]) * 2 // 3]]
    leaks = find_leaks(train, planted)
    assert [leak.index for leak in leaks] == [5, 6]
    assert leaks[0].share == 1
    assert len(leaks[0].example.split()) == 13
    assert find_leaks(["so short"], ["So short!", "other"])[0].index == 0
    assert find_leaks(train, ["", "..."]) == []


def test_a_split_without_groups_would_leak() -> None:
    """What `split_documents` prevents does happen without it."""
    generator = random.Random(0)
    documents = stories(80)
    documents += [changed(text, 1, generator) for text in documents]
    alone = DocumentSplits([], [], [])
    for text in documents:
        part = int(fingerprint(text)[:8], 16) / 16**8
        (alone.train if part < 0.9 else alone.test).append(text)
    assert find_leaks(alone.train, alone.test)


# --- Manifest ----------------------------------------------------------------


def test_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("bread")
    (tmp_path / "b.txt").write_text("rain")
    entries = [
        Source.of(
            tmp_path / name, "https://example.org", "CC0-1.0", "2026-11-20"
        )
        for name in ("a.txt", "b.txt")
    ]
    manifest = Manifest(tuple(entries))
    manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == manifest
    assert not list(tmp_path.glob("*.part"))
    assert entries[0].sha256 == hashlib.sha256(b"bread").hexdigest()
    assert entries[0].size == 5
    assert manifest.problems(tmp_path, ["CC0-1.0", "MIT"]) == []


def test_problems_of_a_corpus(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("bread")
    entry = Source.of(tmp_path / "a.txt", "Mrs Pell", "CC0-1.0", "2026-11-20")
    (tmp_path / "a.txt").write_text("cake")
    gone = Source("c.txt", "a market", "unknown", "2026-11-20", "0", 0)
    problems = Manifest((entry, gone)).problems(tmp_path, {"CC0-1.0"})
    assert problems == [
        "a.txt: is not the file of 2026-11-20",
        "c.txt: is missing",
        "c.txt: unknown is not allowed",
        "b.txt: nobody knows where it is from",
    ]


def test_dates_and_manifests_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("bread")
    with pytest.raises(ValueError, match="isoformat"):
        Source.of(path, "Mrs Pell", "MIT", "last Monday")
    for text in ("{}", '{"sources": [{"file": "a.txt"}]}', "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no manifest"):
            Manifest.load(path)


def test_robots() -> None:
    robots = (
        "User-agent: *\nDisallow: /private/\nAllow: /\n\n"
        "User-agent: scratchlm\nDisallow: /\nAllow: /open/\n"
    )
    assert not may_fetch(robots, "https://example.org/recipes.txt")
    assert may_fetch(robots, "https://example.org/recipes.txt", agent="other")
    assert not may_fetch(robots, "https://example.org/private/a", "other")
    assert may_fetch("", "https://example.org/private/a")


def test_reservation() -> None:
    assert is_reserved({"tdm-reservation": "1"})
    assert not is_reserved({"tdm-reservation": "0"})
    assert not is_reserved({})


# --- get ---------------------------------------------------------------------

BODY = bytes(random.Random(0).randrange(256) for _ in range(200_000))
GOOD = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; the first part of the path says how."""

    log: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        mode = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.log.append((mode, asked))
        if mode == "moved":
            self.send_response(302)
            self.send_header("Location", "/plain/text.bin")
            self.end_headers()
            return
        if mode == "missing":
            self.send_error(404)
            return
        start = 0
        if asked and mode != "norange":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(BODY):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
            self.send_header("Content-Range", span)
        if mode == "reserved":
            self.send_header("TDM-Reservation", "1")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        end = 70_000 if mode == "broken" and not start else len(BODY)
        self.wfile.write(BODY[start:end])

    def log_message(self, *arguments: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    Handler.log.clear()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_get_an_address(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    path = get(f"{server}/plain/text.bin?raw=1", folder, sha256=GOOD)
    assert path == folder / "text.bin"
    assert path.read_bytes() == BODY
    assert [p.name for p in folder.iterdir()] == ["text.bin"]
    get(f"{server}/plain/text.bin", folder, sha256=GOOD.upper())
    assert len(Handler.log) == 1  # the second time nothing is fetched
    assert get(f"{server}/moved/text.bin", tmp_path, sha256=GOOD).exists()


def test_an_interrupted_transfer_goes_on(server: str, tmp_path: Path) -> None:
    address = f"{server}/broken/text.bin"
    with pytest.raises(ConnectionError, match=r"Run again.*\n?.*MIRROR"):
        get(address, tmp_path, sha256=GOOD)
    half = tmp_path / "text.bin.part"
    have = half.stat().st_size
    assert 0 < have <= 70_000
    assert half.read_bytes() == BODY[:have]
    assert not (tmp_path / "text.bin").exists()
    path = get(address, tmp_path, sha256=GOOD)
    assert path.read_bytes() == BODY
    assert not half.exists()
    assert Handler.log == [("broken", None), ("broken", f"bytes={have}-")]


def test_a_server_without_ranges(server: str, tmp_path: Path) -> None:
    (tmp_path / "text.bin.part").write_bytes(BODY[:1000])
    path = get(f"{server}/norange/text.bin", tmp_path, sha256=GOOD)
    assert path.read_bytes() == BODY
    assert Handler.log == [("norange", "bytes=1000-")]


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_part_that_is_already_whole(
    server: str, tmp_path: Path, extra: bytes
) -> None:
    (tmp_path / "text.bin.part").write_bytes(BODY + extra)
    path = get(f"{server}/plain/text.bin", tmp_path, sha256=GOOD)
    assert path.read_bytes() == BODY
    assert [asked for _, asked in Handler.log][1:] == [None]


def test_a_wrong_checksum(server: str, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(ValueError, match=f"{wrong}\n.*{GOOD}") as caught:
        get(f"{server}/plain/text.bin", tmp_path, sha256=wrong)
    assert "not kept" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_parts_that_do_not_fit(server: str, tmp_path: Path) -> None:
    (tmp_path / "text.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="not kept"):
        get(f"{server}/plain/text.bin", tmp_path, sha256=GOOD)
    assert get(f"{server}/plain/text.bin", tmp_path, sha256=GOOD).exists()


def test_a_file_of_the_user_is_left_alone(server: str, tmp_path: Path) -> None:
    mine = tmp_path / "text.bin"
    mine.write_bytes(b"my own")
    with pytest.raises(ValueError, match="left alone"):
        get(f"{server}/plain/text.bin", tmp_path, sha256=GOOD)
    assert mine.read_bytes() == b"my own"
    assert get(f"{server}/plain/text.bin", tmp_path) == mine
    assert Handler.log == []


def test_nothing_is_taken_unencrypted(server: str, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="unencrypted"):
        get(f"{server}/plain/text.bin", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reservations_are_respected(server: str, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="reserves"):
        get(f"{server}/reserved/text.bin", tmp_path, sha256=GOOD)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there(server: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="404"):
        get(f"{server}/missing/text.bin", tmp_path, sha256=GOOD)
    nobody = "http://127.0.0.1:9/text.bin"
    with pytest.raises(ConnectionError, match="SCRATCHLM_MIRROR"):
        get(nobody, tmp_path, sha256=GOOD)
    with pytest.raises(FileNotFoundError, match="shakespeare"):
        get("milton", tmp_path)


@pytest.mark.parametrize(
    "end", ["", "/", "/a%2Fb/..", "/%2e%2e", "/.hidden", "/a%5Cb", "/a%00"]
)
def test_names_that_are_none(end: str) -> None:
    with pytest.raises(ValueError, match="name of a file"):
        file_name("https://example.org" + end)
    assert file_name("https://example.org/a%2Fb/c%20d.txt?e=f#g") == "c d.txt"


def test_a_mirror(tmp_path: Path) -> None:
    mirror, folder = tmp_path / "mirror", tmp_path / "data"
    mirror.mkdir()
    (mirror / "text.bin").write_bytes(BODY)
    address = "https://nowhere.invalid/text.bin"
    path = get(address, folder, mirror=mirror, sha256=GOOD)
    assert path.read_bytes() == BODY
    (mirror / "other.bin").write_bytes(b"changed")
    with pytest.raises(ValueError, match="copied from"):
        get(address[:-8] + "other.bin", folder, mirror=mirror, sha256=GOOD)
    assert [p.name for p in folder.iterdir()] == ["text.bin"]
    assert (mirror / "other.bin").read_bytes() == b"changed"


def test_a_local_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("bread")
    path = get(mine, tmp_path / "data")
    assert path.read_text() == "bread"
    assert get(str(mine), tmp_path) == mine  # already where it should be
    wrong = "0" * 64
    with pytest.raises(ValueError, match="expected SHA-256 0000"):
        get(mine, tmp_path / "other", sha256=wrong)


def test_shakespeare_is_known(shakespeare: str) -> None:
    known = corpus.TEXTS["shakespeare"]
    assert fingerprint(shakespeare) == known.sha256
    assert len(shakespeare) == 1_115_394
    assert len(set(shakespeare)) == 65


def test_manifest_is_readable_json(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    Manifest(()).save(path)
    assert json.loads(path.read_text()) == {"sources": []}
