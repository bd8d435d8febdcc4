"""Text from elsewhere: fetched, cleaned, split, and with its origin on file.

`get` brings a file, whole and verified. `normalize`, `redact_pii`,
`remove_duplicates` and `remove_near_duplicates` clean documents,
`split_documents` divides them and `find_leaks` tests the division. A
`Manifest` says where each file came from and under which license.

Left out: extraction of text from HTML and PDF, identification of languages,
and crawling (but see `may_fetch`); filters of quality are in `quality`. What
is not found: names, street addresses, and whatever no pattern describes;
`redact_pii` lowers a risk and does not remove it.

The order of the steps follows FineWeb (Penedo et al., 2024); MinHash is
Broder's (1997), here from the library datasketch.
"""

import hashlib
import ipaddress
import json
import os
import re
import secrets
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.robotparser import RobotFileParser

import numpy as np
import regex
import requests
from datasketch import MinHash
from phonenumbers import Leniency, PhoneNumberMatcher
from tqdm import tqdm

from scratchlm.text.files import (
    PARTIAL,
    FileError,
    file_sha256,
    make_folder,
    read_json,
    replacing,
    sync,
    sync_folder,
    write_json,
)

AGENT = "scratchlm"
KINDS = (".jsonl", ".md", ".txt")  # files of documents
REFUSED = ".refused.jsonl"  # the end of the name of what a filter left out
PERMUTATIONS = 128
BANDS = (32, 4)  # of 4 numbers each; the curve of chances is in the chapter
# The sketch of no elements. Making the functions takes longer than using them.
EMPTY = MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine64")
FACTOR = np.uint64(0xD6E8FEB86659FD93)  # odd, and so is half of one less

# --- Reading and writing documents -------------------------------------------


def read_lines(path: Path) -> Iterator[str]:
    r"""The lines of a UTF-8 file, one by one, each with its "\n".

    Only "\n" ends a line: documents may hold other characters that break
    lines, such as U+2028. A byte order mark at the start goes. Raises
    ValueError, with file and line, for what is not UTF-8.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wide = number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")
                name = "UTF-16" if wide else "LATIN1"  # it is one or the other
                raise ValueError(
                    f"{path}, line {number}, is not UTF-8: {error.reason}; "
                    f"save the file as UTF-8 (from {name}: "
                    f"iconv -f {name} -t UTF-8 {path.name} > new.txt)"
                ) from error


def parse_document(line: str) -> str:
    """The text of {"text": ...}; ValueError for anything else.

    >>> parse_document('{"text": "Bread.", "page": 3}')
    'Bread.'
    """
    try:
        document = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise ValueError("its text is not there, or no string")
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("it holds half of a pair of surrogates")
    return text


def read_json_lines(path: Path) -> Iterator[str]:
    """The texts of a file with one {"text": ...} a line; blank lines go."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip(" \t\r\n"):
            continue
        try:
            yield parse_document(line)
        except ValueError as error:
            raise ValueError(
                f'{path}, line {number}, is no {{"text": "..."}}: {error}; '
                "mend the line, or remove it"
            ) from error


def read_paragraphs(path: Path) -> Iterator[str]:
    """What stands between the empty lines of a text file, piece by piece."""
    lines: list[str] = []
    for line in read_lines(path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines)
            lines = []
    if lines:
        yield "".join(lines)


def has_json_lines(path: Path) -> bool:
    """Whether the name of a file says that it has a document a line."""
    return path.suffix.lower() == ".jsonl"


def read_documents(path: Path) -> Iterator[str]:
    """The documents of a file, or of all files in a folder, one by one.

    A file that ends in .jsonl has one {"text": ...} a line; any other is
    text, and what stands between its empty lines is a document. Of a folder
    and those inside, all .jsonl, .md and .txt files are read, sorted by
    path, except what was `REFUSED`; each of their text files is one document.
    """
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.suffix.lower() in KINDS)
        found = (p for p in found if not p.name.endswith(REFUSED))
        files = sorted(file for file in found if file.is_file())
        if not files:
            raise ValueError(f"{path} holds no {', '.join(KINDS)} file")
        for file in files:
            if has_json_lines(file):
                yield from read_json_lines(file)
            else:
                yield "".join(read_lines(file))
    elif has_json_lines(path):
        yield from read_json_lines(path)
    else:
        yield from read_paragraphs(path)


def write_documents(path: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line: all of them, or no file."""
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")


# --- Cleaning ----------------------------------------------------------------

LINE_BREAK = re.compile("\r\n|[\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\ufeff]")


def normalize(text: str) -> str:
    r"""One way to write each text: line breaks, white space, characters.

    Line breaks become "\n", two at most in a row. Other runs of white space
    become one space, none at the ends of lines. Control characters,
    zero-width spaces and byte order marks go. Characters are composed
    (Unicode NFC): an e and an accent become é. Twice does what once does.

    >>> normalize("\ufeffMrs Pell\t keeps \r\n\r\n\r\nthe  bakery. ")
    'Mrs Pell keeps\n\nthe bakery.'
    """
    text = LINE_BREAK.sub("\n", text)
    text = unicodedata.normalize("NFC", INVISIBLE.sub("", text))
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


Span = tuple[int, int]  # where something begins, and where it ends

EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-][\w.!#$%&'*+/=?^`{|}~-]{0,63}@"
    r"(?:[\w-]{1,63}\.){1,8}(?:xn--[\w-]{1,59}|[^\W\d_]{2,63})(?!-?\w)"
)
IBAN = re.compile(r"(?<!\w)(?=([A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}))")
ADDRESS = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d|-[a-z])"
    r"|(?<![\w.:])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|(?<=::))"
    r"(?!\w|:[\w:]|\.\d)",
    re.I,
)
DASH = "\u2010-\u2013-"  # in a class of characters: hyphens, short dashes
# What is between commas, as in a table, is a number of its own.
DIGITS = re.compile(rf"(?<![\w+])(?<!\d\.)\d(?:[ {DASH}]?\d){{12,}}(?!\w|\.\d)")
# Telephone numbers as written in North America, with or without marks in
# between, whether or not they exist: 555 is for films.
AMERICAN = re.compile(rf"""(?<![\w.+/\#$\u20ac\xa3-])(?:
    (?:1[ .{DASH}])?(?:\(\d{{3}}\)[ ]?|\d{{3}}[ .{DASH}])
    \d{{3}}[ .{DASH}]\d{{4}} | [2-9]\d{{9}}
    )(?![\w/-]|\.\d)""", re.X)  # fmt: skip
DIALED = re.compile(rf"[+(]?\d[\d ()./{DASH}]*\d(?: ?(?:x|ext\.?) ?\d{{1,5}})?")
IMPERSONAL = re.compile(
    r"(?<!\w)(?:version|release|section|chapter|isbn|issn|doi|rfc|v|\xa7)"
    r"[ :.]{0,2}\Z|\#\Z",  # but not "Phone #: "
    re.I,
)


def find_emails(text: str) -> Iterator[Span]:
    """E-mail addresses; for these the pattern is enough."""
    return (match.span() for match in EMAIL.finditer(text))


def passes_luhn(text: str) -> bool:
    """Whether the Luhn sum of the digits ends in 0.

    From the right, every second digit is doubled, and the digits of all
    these numbers are added up. One wrong digit is always noticed.

    >>> passes_luhn("4111 1111 1111 1111"), passes_luhn("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(c) for c in reversed(text) if c.isdecimal()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_card(text: str) -> bool:
    """Whether this can be the number of a bank card.

    These have 13 to 19 digits, the last of which is a check digit, and the
    first tells the trade of who issued it: 2 to 6 for those that we want.
    """
    digits = [int(c) for c in text if c.isdecimal()]  # of any script
    return 13 <= len(digits) <= 19 and 2 <= digits[0] <= 6 and passes_luhn(text)


def find_cards(text: str) -> Iterator[Span]:
    """Card numbers, even among other digits, such as a date or a code.

    Every run of whole groups of digits is tried, the longest first.
    """
    for run in DIGITS.finditer(text):
        groups = [group.span() for group in re.finditer(r"\d+", run[0])]
        first = 0
        while first < len(groups):
            found = longest_card(run[0], groups[first : first + 19])
            if found:
                start, stop = groups[first][0], groups[first + found - 1][1]
                yield run.start() + start, run.start() + stop
            first += found or 1


def longest_card(text: str, groups: Sequence[Span]) -> int:
    """How many of the groups of digits, from the first, make a card; or 0.

    On a card no group is shorter than three digits.
    """
    digits, found = "", 0
    for place, (start, stop) in enumerate(groups, 1):
        digits += text[start:stop]
        if len(digits) > 19 or stop - start < 3:
            break
        if is_card(digits):
            found = place
    return found


def is_iban(text: str) -> bool:
    """Whether the check digits of an account number are right (ISO 13616).

    The first four characters go to the end, letters become numbers from 10
    to 35, and the whole, read as one number, leaves 1 when divided by 97.

    >>> is_iban("GB82 WEST 1234 5698 7654 32")
    True
    """
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def find_ibans(text: str) -> Iterator[Span]:
    """International account numbers, if the check digits are right.

    The pattern also takes a word in capitals that follows, so shorter
    beginnings that end where a word ends are tried, too.
    """
    last = 0  # where the one before ends; another may begin inside it
    for match in IBAN.finditer(text):
        start, stop = match.span(1)
        if start < last:
            continue
        for end in range(stop, start + 14, -1):
            whole = not text[end : end + 1].isalnum()
            if whole and text[end - 1] != " " and is_iban(text[start:end]):
                yield start, end
                last = end
                break


def is_public_address(text: str) -> bool:
    """Whether this is an IP address by which someone could be found.

    Of version 6, only the part that begins with the bits 001 is in use.

    >>> is_public_address("8.8.8.8"), is_public_address("192.168.0.1")
    (True, False)
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    used = address.version == 4 or int(address) >> 125 == 1
    return used and address.is_global


def is_impersonal(text: str, start: int) -> bool:
    """Whether the word before a number says that it is not a person's.

    >>> is_impersonal("version 1.2.3.4", 8), is_impersonal("from 8.8.8.8", 5)
    (True, False)
    """
    return bool(IMPERSONAL.search(text[max(0, start - 12) : start]))


def find_addresses(text: str) -> Iterator[Span]:
    """Public IP addresses; versions of software look like them."""
    for match in ADDRESS.finditer(text):
        personal = not is_impersonal(text, match.start())
        if personal and is_public_address(match[0]):
            yield match.span()


def countries_of(dialed: str) -> tuple[str | None, ...]:
    """Where a number may be from, by how it begins; None for all with a +.

    >>> countries_of("+44 20 7946 0958"), countries_of("(212) 736-5000")
    ((None,), ('US',))
    """
    digits, numbers = sum(map(str.isdigit, dialed)), 1 + dialed.count("/")
    few = numbers < 10 and 7 <= digits / numbers <= 24  # slashes between them
    if digits < 7 or (digits > 24 and not few):  # a longer row is a table
        return ()
    if dialed[0] == "+":
        return (None,)
    if dialed.lstrip("(")[0] == "0":
        return ("GB", "DE", "FR")
    return ("US",) if digits >= 10 else ()


def find_phones(text: str) -> Iterator[Span]:
    """Telephone numbers, by the rules of the library phonenumbers.

    With a +, those of any country; without, the valid ones of some countries
    if they are grouped as is usual there, and what looks American.
    """
    found = [match.span() for match in AMERICAN.finditer(text)]
    for run in DIALED.finditer(text):
        before = max(0, run.start() - 1)  # the library looks there as well
        piece = text[before : run.end() + 1]
        for country in countries_of(run[0]):
            how = Leniency.STRICT_GROUPING if country else Leniency.POSSIBLE
            for match in PhoneNumberMatcher(piece, country, leniency=how):
                start = match.start  # without a bracket that does not close
                start += match.raw_string.count("(") > match.raw_string.count(
                    ")"
                )
                found.append((before + start, before + match.end))
    end = 0
    for start, stop in sorted(found, key=lambda span: (span[0], -span[1])):
        if start >= end and not is_impersonal(text, start):
            yield start, stop
            end = stop


# In this order: a card number holds digits that look like a telephone's.
PII: dict[str, Callable[[str], Iterator[Span]]] = {
    "email": find_emails,
    "iban": find_ibans,
    "ip": find_addresses,
    "card": find_cards,
    "phone": find_phones,
}


def redact_pii(text: str) -> tuple[str, dict[str, int]]:
    """Replace what identifies a person; return the text and the counts.

    >>> redact_pii("Write to pell@bakery.example or call +44 20 7946 0958.")
    ('Write to <email> or call <phone>.', {'email': 1, 'phone': 1})
    """
    counts = {}
    for kind, find in PII.items():
        kept, end = [], 0
        for start, stop in find(text):
            kept.append(text[end:start])
            end = stop
        if kept:
            counts[kind] = len(kept)
            text = f"<{kind}>".join([*kept, text[end:]])
    return text, counts


# --- Duplicates --------------------------------------------------------------


def fingerprint(text: str) -> str:
    """The SHA-256 of the text's UTF-8 bytes, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def remove_duplicates(documents: Iterable[str]) -> list[str]:
    """The documents, of equal ones the first only.

    >>> remove_duplicates(["bread", "rain", "bread"])
    ['bread', 'rain']
    """
    return list(dict.fromkeys(documents))


# Scripts without spaces between words: there, each character is a unit.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
UNIT = regex.compile(rf"[{UNSPACED}]|[\w--[{UNSPACED}]]+", regex.V1)


def units(text: str) -> list[str]:
    r"""Words in lower case; characters of scripts that have no spaces.

    For a text without either, every character that is not a space.

    >>> units("The geese, LOUD!"), units("?!")
    (['the', 'geese', 'loud'], ['?', '!'])
    >>> len(units("\u5927\u304d\u306a\u9ce5"))  # a large bird, in Japanese
    4
    """
    text = text.casefold()
    return UNIT.findall(text) or regex.findall(r"\S", text)


@lru_cache(maxsize=1 << 16)
def number_of(unit: str) -> int:
    """64 bits for a unit, the same on every machine."""
    return int.from_bytes(blake2b(unit.encode(), digest_size=8).digest())


def hash_runs(text: str, size: int) -> np.ndarray:
    """A number of 64 bits for each run of `size` units, in order.

    A polynomial of the units' numbers, modulo 2^64. A shorter text is one
    run, an empty one none.
    """
    row = np.array([number_of(unit) for unit in units(text)], np.uint64)
    size = min(size, len(row)) or 1
    count = max(len(row) - size + 1, 0)
    runs = np.zeros(count, np.uint64)
    for place in range(size):
        runs = runs * FACTOR + row[place : place + count]
    return runs


def shingles(text: str, size: int = 5) -> np.ndarray:
    """The set of a text's runs of `size` units: their numbers, sorted.

    >>> len(shingles("the geese are loud", size=3))
    2
    """
    return np.unique(hash_runs(text, size))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """What two sets share, as a part of what they have together.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared) if len(a) or len(b) else 1.0


def sketch(runs: np.ndarray) -> np.ndarray:
    """128 numbers that stand for a set of runs.

    Two sets agree, on average, in a share of them that is their Jaccard
    similarity.

    Each number is the smallest hash of the set's elements under another
    hash function (Broder, 1997, section 4). The functions are fixed. Of the
    64 bits of each, 32 are kept.
    """
    made = EMPTY.copy()
    made.update_batch(runs.tolist())
    return made.hashvalues.astype(np.uint32)


def band_keys(sketches: np.ndarray) -> Iterator[np.ndarray]:
    """For each band of (documents, 128): one number for its four."""
    bands, rows = BANDS
    for band in np.split(sketches, bands, axis=1):
        keys = np.zeros(len(band), np.uint64)
        for row in range(rows):
            keys = keys * FACTOR + band[:, row]
        yield keys


def drawers(keys: np.ndarray) -> Iterator[list[int]]:
    """The places of each number that comes more than once.

    >>> list(drawers(np.array([7, 3, 7, 9, 3])))
    [[1, 4], [0, 2]]
    """
    order = np.argsort(keys, kind="stable")  # equal ones side by side
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    starts, stops = np.r_[0, cuts], np.r_[cuts, len(keys)]
    for place in np.flatnonzero(stops - starts > 1):
        yield order[starts[place] : stops[place]].tolist()


def least_agreement(threshold: float) -> float:
    """In how many numbers the sketches of near-duplicates agree at least.

    The mean of a binomial distribution, less four standard deviations.

    >>> round(least_agreement(0.7))
    69
    """
    expected = PERMUTATIONS * threshold
    return expected - 4 * (expected * (1 - threshold)) ** 0.5


def without_strangers(
    found: Iterable[list[int]], sketches: np.ndarray, least: float
) -> list[list[int]]:
    """The drawers, except those of two whose sketches agree in too little.

    All of these are looked at in one go: they are most of what there is.
    """
    found = list(found)
    twos = np.array([m for m in found if len(m) == 2], int).reshape(-1, 2)
    ones, others = sketches[twos[:, 0]], sketches[twos[:, 1]]
    alike = np.count_nonzero(ones == others, axis=1) >= least
    return [m for m in found if len(m) > 2] + twos[alike].tolist()


def find_root(parents: list[int], i: int) -> int:
    """Follow the parents of i up to one that is its own."""
    while parents[i] != i:
        parents[i] = i = parents[parents[i]]
    return i


def join_similar(
    members: Sequence[int],
    sets: Sequence[np.ndarray],
    sketches: np.ndarray,
    parents: list[int],
    threshold: float,
) -> None:
    """Join the groups of those members that are near-duplicates.

    Those in one group already are not compared: of n copies of a text, n
    comparisons are made and not n^2. Nor are those whose sketches tell that
    they are strangers.
    """
    roots = np.array([find_root(parents, i) for i in members])
    if (roots == roots[0]).all():
        return
    least = least_agreement(threshold)
    rows, step = sketches[members], max(1, 4096 // len(members))
    for start in range(0, len(members), step):  # this many at once
        ones, others = np.nonzero(roots[start : start + step, None] != roots)
        later = others > ones + start  # each pair once
        ones, others = ones[later] + start, others[later]
        close = (rows[ones] == rows[others]).sum(axis=1) >= least
        for one, other in zip(ones[close], others[close]):
            a, b = int(roots[one]), int(roots[other])
            pair = sets[members[one]], sets[members[other]]
            if a != b and jaccard(*pair) >= threshold:
                parents[max(a, b)] = min(a, b)
                roots[roots == max(a, b)] = min(a, b)


def group_near_duplicates(
    documents: Sequence[str], threshold: float = 0.7
) -> list[list[int]]:
    """Indices of the documents, those of near-duplicates in one group.

    Two documents are near-duplicates if their shingles have a Jaccard
    similarity of `threshold` or more, and groups are what such pairs
    connect. Sketches only propose pairs (those that agree in one of 32
    bands of four numbers); each is then compared in full. A pair of
    similarity s is overlooked with probability (1 - s^4)^32, and one of the
    threshold's with 1 in 10,000 more.
    """
    sets, rows = [], []
    for text in tqdm(documents, "sketching", leave=False, disable=None):
        sets.append(shingles(text))
        rows.append(sketch(sets[-1]))
    sketches = np.array(rows, np.uint32)
    sketches = sketches.reshape(-1, PERMUTATIONS)  # also of no documents
    parents = list(range(len(documents)))
    least = least_agreement(threshold)
    for keys in band_keys(sketches):
        for members in without_strangers(drawers(keys), sketches, least):
            join_similar(members, sets, sketches, parents, threshold)
    groups: dict[int, list[int]] = {}
    for i in range(len(documents)):
        groups.setdefault(find_root(parents, i), []).append(i)
    return list(groups.values())


def remove_near_duplicates(
    documents: Sequence[str], threshold: float = 0.7
) -> list[str]:
    """The documents, of each group of near-duplicates the first only."""
    groups = group_near_duplicates(documents, threshold)
    return [documents[group[0]] for group in groups]


# --- Splits ------------------------------------------------------------------


@dataclass(frozen=True)
class DocumentSplits:
    """Documents to learn from, to choose by, and to be judged by once."""

    train: list[str]
    validation: list[str]
    test: list[str]


def split_groups(
    documents: Sequence[str], groups: Iterable[Sequence[int]], seed: int
) -> DocumentSplits:
    """Each group of documents, given by their indices, on one side.

    The side is decided by a hash of the document in the group that has the
    smallest fingerprint. So it does not depend on the order of the
    documents, nor on how many others there are; only one that joins or
    leaves a group can move it.
    """
    splits = DocumentSplits([], [], [])
    for group in groups:
        first = min((documents[i] for i in group), key=fingerprint)
        mark = fingerprint(f"{seed} {first}")
        share = int(mark[:8], 16) / 16**8
        side = splits.train
        if share >= 0.9:
            side = splits.validation if share < 0.95 else splits.test
        side.extend(documents[i] for i in group)
    return splits


def split_documents(
    documents: Sequence[str], seed: int = 0, threshold: float = 0.7
) -> DocumentSplits:
    """About 90, 5 and 5 percent, near-duplicates always on one side."""
    groups = group_near_duplicates(documents, threshold)
    return split_groups(documents, groups, seed)


@dataclass(frozen=True)
class Leak:
    """A held-out document (its index) that the training set gives away."""

    index: int
    share: float
    example: str


def find_sorted(wanted: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The places in the sorted `wanted` of a row's numbers, if they are there.

    >>> find_sorted(np.array([2, 3, 7]), np.array([7, 1, 2, 9]))
    array([2, 0])
    """
    places = np.searchsorted(wanted, row)
    inside = places < len(wanted)
    places, row = places[inside], row[inside]
    return places[wanted[places] == row]


def find_leaks(
    train: Iterable[str],
    held_out: Sequence[str],
    size: int = 13,
    share: float = 0.5,
) -> list[Leak]:
    """Held-out documents of whose runs `share` or more are known.

    Runs are of 13 words, as in the contamination study of GPT-3 (Brown et
    al., 2020, appendix C). Of a shorter document, the whole is one run and
    must be a document of the training set. Only the numbers of the runs
    held out are kept; the training set streams past them.
    """
    runs = [hash_runs(text, size) for text in held_out]
    wanted = np.unique(np.concatenate([*runs, np.zeros(0, np.uint64)]))
    known = np.zeros(len(wanted), bool)
    for text in train:
        known[find_sorted(wanted, hash_runs(text, size))] = True
    leaks = []
    for index, row in enumerate(runs):
        seen = known[np.searchsorted(wanted, row)]  # all are among them
        part = len(np.unique(row[seen])) / max(len(np.unique(row)), 1)
        if seen.any() and part >= share:
            start = int(seen.argmax())  # the first that is known
            example = " ".join(units(held_out[index])[start : start + size])
            leaks.append(Leak(index, part, example))
    return leaks


# --- Where it came from ------------------------------------------------------

MANIFEST = "manifest.json"
BESIDE = ".source.json"  # added to a file's name, for what `get` brought


@dataclass(frozen=True)
class Source:
    """One file of a corpus: its origin and what it may be used for.

    `origin` is an address, a path or what else tells where it is from;
    `license` an SPDX identifier, or words where there is none; `retrieved`
    a date as 2026-11-20.
    """

    file: str
    origin: str
    license: str
    retrieved: str
    sha256: str
    size: int

    @classmethod
    def of(
        cls, path: Path, origin: str, license: str, retrieved: str
    ) -> "Source":
        """The entry for a file that is there."""
        return cls(
            path.name,
            origin,
            license,
            date.fromisoformat(retrieved).isoformat(),
            file_sha256(path),
            path.stat().st_size,
        )


def source_of(path: Path) -> Source | None:
    """What the note beside a file says of its origin, if there is one."""
    beside = path.with_name(path.name + BESIDE)
    if not beside.is_file():
        return None
    try:
        return Source(**read_json(beside))
    except TypeError as error:
        raise ValueError(f"{beside} is no source: {error}") from error


@dataclass(frozen=True)
class Manifest:
    """The files of a corpus, each with its source."""

    sources: tuple[Source, ...]

    def save(self, path: Path) -> None:
        """Write as JSON; whoever reads meanwhile sees the old file whole."""
        write_json(path, {"sources": [asdict(s) for s in self.sources]})

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read what `save` wrote; ValueError if it is something else."""
        data = read_json(path)
        try:
            return cls(tuple(Source(**entry) for entry in data["sources"]))
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path} is no manifest: {error}") from error

    def problems(self, folder: Path, allowed: Iterable[str]) -> list[str]:
        """What is wrong with the files in `folder`, one line for each.

        A file may be missing or changed; a license may not be one of those
        `allowed`; and there may be a file whose source nobody wrote down.
        """
        licenses, found = set(allowed), []
        for source in self.sources:
            path = folder / source.file
            if not path.is_file():
                found.append(f"{source.file}: is missing")
            elif file_sha256(path) != source.sha256:
                found.append(
                    f"{source.file}: is not the file of {source.retrieved}"
                )
            if source.license not in licenses:
                found.append(f"{source.file}: {source.license} is not allowed")
        known = {MANIFEST, *(source.file for source in self.sources)}
        for path in sorted(folder.iterdir()):
            if path.name not in known:
                found.append(f"{path.name}: nobody knows where it is from")
        return found


def may_fetch(robots: str, address: str, agent: str = AGENT) -> bool:
    """Whether a site's robots.txt lets a crawler read an address.

    The rules are those of RFC 9309, and in doubt the answer is no: of a path
    with wildcards only what stands before them counts. The text is given,
    not fetched: file it with the manifest.
    """
    parser = RobotFileParser()
    parser.parse(longest_first(robots))
    return parser.can_fetch(agent, address)


def longest_first(robots: str) -> list[str]:
    r"""The lines of a robots.txt for Python's parser, which takes the first.

    The standard lets the longest path decide, and of equal ones Allow.

    >>> longest_first("Allow: /\nDisallow: /a\nAllow: /b*")
    ['disallow: /a', 'allow: /']
    """
    lines, rules = list[str](), list[tuple[str, str]]()
    for line in [*re.split(r"\r\n?|\n", robots.removeprefix("\ufeff")), ""]:
        name, _, path = line.partition("#")[0].partition(":")
        name, path = name.strip().lower(), path.strip()
        if name in ("allow", "disallow"):
            rules.append((name, path))
            continue
        for kind, path in sorted(rules, key=lambda r: (-len(r[1]), r[0])):
            plain = re.split(r"[*$]", path)[0]
            if kind == "disallow" and path:
                lines.append(f"disallow: {plain or '/'}")
            elif plain == path:
                lines.append(f"{kind}: {path}")
        rules = []
        lines.append(line)
    return lines[:-1]


def is_reserved(headers: Mapping[str, str]) -> bool:
    """Whether a response's headers reserve text and data mining.

    The header of the TDM Reservation Protocol, one of the machine-readable
    ways of Article 4(3) of Directive (EU) 2019/790.
    """
    small = {name.lower(): value for name, value in headers.items()}
    return small.get("tdm-reservation", "0").strip() == "1"


# --- From a text to a folder that can be learned from ------------------------


@dataclass(frozen=True)
class Prepared:
    """What became of a text: what was found in it, and what is kept."""

    documents: int
    redacted: dict[str, int]
    duplicates: int
    near_duplicates: int
    leaks: int
    splits: DocumentSplits


def clean_documents(
    documents: Iterable[str], keep_pii: bool
) -> tuple[list[str], Counter[str]]:
    """Documents normalized and redacted, and how often each kind was found."""
    clean, redacted = [], Counter[str]()
    for document in tqdm(documents, "cleaning", leave=False, disable=None):
        text = normalize(document)
        if not keep_pii:
            text, counts = redact_pii(text)
            redacted.update(counts)
        if text:
            clean.append(text)
    return clean, redacted


def drop_leaks(splits: DocumentSplits) -> DocumentSplits:
    """The splits without what is held out and yet known from training."""

    def unknown(held_out: list[str]) -> list[str]:
        known = {leak.index for leak in find_leaks(splits.train, held_out)}
        return [text for i, text in enumerate(held_out) if i not in known]

    return DocumentSplits(
        splits.train, unknown(splits.validation), unknown(splits.test)
    )


def prepare(
    path: Path, folder: Path, license: str | None = None, keep_pii: bool = False
) -> Prepared:
    """Clean and split a file or folder of text; write a folder to train on.

    It gets train.jsonl, validation.jsonl, test.jsonl and a manifest: all of
    them, or none. Raises ValueError, before anything is written, for a
    folder that holds something and for a text that leaves a part empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; name another folder")
    if not folder.name or os.path.ismount(folder.resolve()):
        raise ValueError(f"{folder} cannot be made anew; name a folder in it")
    folder = folder.resolve()  # a link stays; what it names is made anew
    half_of(folder, [field.name for field in fields(DocumentSplits)])
    clean, redacted = clean_documents(read_documents(path), keep_pii)
    unique = remove_duplicates(clean)
    groups = group_near_duplicates(unique)
    split = split_groups(unique, [group[:1] for group in groups], seed=0)
    kept = drop_leaks(split)
    parts = asdict(kept)
    for name, texts in parts.items():
        if not texts:
            raise ValueError(
                f"{path} holds {len(groups):,} different documents, which "
                f"leave none for {name}; add text, a hundred documents or more"
            )
    write_prepared(folder, parts, path, license)
    return Prepared(
        len(clean),
        dict(redacted),
        len(clean) - len(unique),
        len(unique) - len(groups),
        len(groups) - sum(map(len, parts.values())),
        kept,
    )


def half_of(folder: Path, parts: Iterable[str]) -> Path:
    """The folder's name until it is done; ValueError if it has other files."""
    half = folder.with_name(folder.name + PARTIAL)
    ours = {MANIFEST, *(f"{name}.jsonl" for name in parts)}
    if half.is_dir():
        for path in half.iterdir():
            if path.name.removesuffix(PARTIAL) not in ours:
                raise ValueError(
                    f"{half} is needed for a while, and holds {path.name}: "
                    "move it away, or name another folder"
                )
    elif half.exists():
        raise ValueError(f"{half} is needed for a while: move it away")
    return half


def write_prepared(
    folder: Path,
    parts: Mapping[str, Sequence[str]],
    path: Path,
    license: str | None,
) -> None:
    """Write the parts and their manifest under another name; then rename."""
    today = date.today().isoformat()
    from_where = source_of(path.absolute()) or Source(
        path.name, str(path), "unknown", today, "", 0
    )
    half = half_of(folder, parts)
    shutil.rmtree(half, ignore_errors=True)  # of an earlier try
    try:
        for name, texts in parts.items():
            file = half / f"{name}.jsonl"
            write_documents(file, ({"text": text} for text in texts))
        sources = [
            Source.of(
                half / f"{name}.jsonl",
                f"{from_where.origin}, cleaned and split",
                license or from_where.license,
                from_where.retrieved,
            )
            for name in parts
        ]
        Manifest(tuple(sources)).save(half / MANIFEST)
        if folder.exists():
            folder.rmdir()  # it is empty
        os.replace(half, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


# --- Getting files -----------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A file to get: its name here, and where it is from."""

    file: str
    origin: str  # an address, or the path of a file on this machine
    sha256: str | None = None
    license: str = "unknown"


TEXTS = {
    "shakespeare": Wanted(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/"
        "data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "public domain",
    )
}


def verify(path: Path, sha256: str | None) -> None:
    """ValueError, with both checksums, unless the file has the one given."""
    if sha256 is None:
        return
    got = file_sha256(path)
    if got != sha256.lower():
        raise ValueError(
            f"{path} is not the file that was asked for\n"
            f"  expected SHA-256 {sha256}\n  got      SHA-256 {got}"
        )


def file_name(address: str) -> str:
    """The last part of an address, as the name of a file and nothing else."""
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    if not re.fullmatch(r"[\w-][\w. -]*", name):
        raise ValueError(
            f"{address} does not end in the name of a file; fetch it with "
            "another tool and give its path"
        )
    return name


def is_address(what: str) -> bool:
    """Whether this is the address of a file, and not its path.

    >>> is_address("https://example.org/a.txt"), is_address("a.txt")
    (True, False)
    """
    return what.lower().startswith(("http://", "https://"))


def look_up(what: str, sha256: str | None) -> Wanted:
    """What is meant by a name, an http(s) address, or a file's path."""
    if what in TEXTS:
        known = TEXTS[what]
        return replace(known, sha256=sha256 or known.sha256)
    if is_address(what):
        return Wanted(file_name(what), what, sha256)
    path = Path(what)
    if path.is_file():
        sha256 = sha256 or file_sha256(path)
        return Wanted(path.name, str(path.resolve()), sha256)
    raise FileNotFoundError(
        f"{what} is no file here, no address that begins with https://, "
        f"and none of the texts known by name: {', '.join(TEXTS)}"
    )


def get(
    what: str | Path,
    folder: Path,
    mirror: Path | None = None,
    sha256: str | None = None,
) -> Path:
    """Bring a text into `folder`; return where it is.

    `what` is a name ("shakespeare"), an http(s) address, or the path of a
    file. Where a file is from is kept beside it. One that is there already
    is taken if its checksum is right, or if it came from the same place;
    so is one in `mirror`. Nothing incomplete or unverified ever goes by
    the final name, and no file is overwritten.

    Raises ValueError for another file, OSError for what cannot be had;
    both say what to do.
    """
    wanted = look_up(str(what), sha256)
    target = folder / wanted.file
    if target.name.endswith(BESIDE):
        raise ValueError(
            f"{target.name} is named like the note on a file's origin, and "
            "would be overwritten by one; give it another name"
        )
    if target.exists():
        check_present(target, wanted)
        return target
    make_folder(folder)
    if not is_address(wanted.origin):
        copy(Path(wanted.origin), target, wanted)
    elif mirror and belongs(mirror / wanted.file, wanted):
        copy(mirror / wanted.file, target, wanted)
    else:
        download(target, wanted)
    return target


def belongs(path: Path, wanted: Wanted) -> bool:
    """Whether a file of the right name can stand for what is wanted.

    With a checksum, the file is verified later. Without one, the note beside
    it has to say that it came from there, and it must not have changed.
    """
    if wanted.sha256 or not path.is_file():
        return path.is_file()
    source = source_of(path)
    if source is None or source.origin != wanted.origin:
        return False
    return source.sha256 == file_sha256(path)


def check_present(target: Path, wanted: Wanted) -> None:
    """ValueError unless a file that was there is the one that is wanted."""
    try:
        verify(target, wanted.sha256)
        if not belongs(target, wanted):
            source = source_of(target)
            origin = source.origin if source else "an unknown place"
            raise ValueError(
                f"{target} is from {origin}, or was changed; {wanted.origin} "
                "may be another file"
            )
    except ValueError as error:
        raise ValueError(
            f"{error}\nIt was there before and was left alone; move it away, "
            "or name another folder, and run again."
        ) from error


def keep(half: Path, target: Path, wanted: Wanted) -> None:
    """Verify a file and note where it is from; then it may have its name."""
    verify(half, wanted.sha256)
    today = date.today().isoformat()
    source = Source.of(half, wanted.origin, wanted.license, today)
    beside = target.with_name(target.name + BESIDE)
    write_json(beside, asdict(replace(source, file=target.name)))


def copy(path: Path, target: Path, wanted: Wanted) -> None:
    """Copy a file, verify the copy, and only then give it its name."""
    try:
        with replacing(target) as partial:
            shutil.copyfile(path, partial)
            keep(partial, target, wanted)
    except ValueError as error:
        raise ValueError(f"{error}\nIt was copied from {path}.") from error


def download(target: Path, wanted: Wanted) -> None:
    """Fetch a file, verify it, and only then give it its name.

    What an earlier try left in TARGET.part is continued, if a checksum is
    known that will tell whether the parts fit. Without one each try has a
    part of its own, since another program may be at it, too.
    """
    trusted = wanted.sha256 is not None
    own = "" if trusted else f"-{secrets.token_hex(4)}"
    half = target.with_name(f"{target.name}.part{own}")
    try:
        receive(wanted.origin, half, trusted)
        keep(half, target, wanted)
        sync(half)
        os.replace(half, target)
        sync_folder(target.parent)
    except requests.RequestException as error:
        raise ConnectionError(
            f"{wanted.origin} could not be fetched: {error}\n"
            "Run again to go on from where it stopped. Without internet, put "
            f"{target.name} into a folder and name it in SCRATCHLM_MIRROR; "
            f"give its SHA-256, or put its {target.name}{BESIDE} there too."
        ) from error
    except FileError:  # the note found no room; the file itself is right
        raise
    except ValueError as error:
        half.unlink(missing_ok=True)
        raise ValueError(
            f"{error}\nIt came from {wanted.origin} and was not kept. Run "
            "again; if this stays so, the file there has been changed."
        ) from error
    finally:
        if not trusted:
            half.unlink(missing_ok=True)


def receive(address: str, half: Path, trusted: bool) -> None:
    """Write a response's body to `half`, after what is there already.

    Only if the result is `trusted`, that is, will be verified: otherwise the
    file is begun anew, as nothing would tell that the parts do not fit. A
    server may ignore the request for a range; then the answer is 200, not
    206, and the file is begun anew; likewise for 416, a range past the end.
    """
    if half.is_symlink() or not trusted:
        half.unlink(missing_ok=True)
    have = half.stat().st_size if half.exists() else 0
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(
        address, headers=headers, stream=True, timeout=(10, 60)
    ) as response:
        if have and response.status_code == 416:
            half.unlink()
            return receive(address, half, trusted)
        response.raise_for_status()
        check_response(response, trusted)
        if response.status_code != 206:
            half.unlink(missing_ok=True)
        write_body(response, half)


def write_body(response: requests.Response, half: Path) -> None:
    """Append a response's body to a file; a bar shows how far it is."""
    have = half.stat().st_size if half.exists() else 0
    length = response.headers.get("Content-Length", "0")
    if not length.isdigit():
        raise requests.RequestException(f"Content-Length is {length!r}")
    with (
        open(half, "ab", opener=open_no_link) as file,
        tqdm(
            desc=half.stem,
            total=have + int(length) or None,
            initial=have,
            unit="B",
            unit_scale=True,
            disable=None,  # no bar where nobody watches
        ) as bar,
    ):
        for block in response.iter_content(1 << 16):
            file.write(block)
            bar.update(len(block))


def open_no_link(path: str, flags: int) -> int:
    """Open a file for writing, but not one elsewhere that a link names."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def check_response(response: requests.Response, trusted: bool) -> None:
    """PermissionError for what must not be taken, whoever sent it."""
    if is_reserved(response.headers):
        raise PermissionError(
            f"{response.url} reserves text and data mining (tdm-reservation: "
            "1); ask its owner for a license"
        )
    for step in (*response.history, response):  # a redirect is an answer, too
        if not trusted and not step.url.startswith("https://"):
            raise PermissionError(
                f"{step.url} comes unencrypted: anybody on the way can change "
                "it. Give its SHA-256, or an address with https://"
            )
