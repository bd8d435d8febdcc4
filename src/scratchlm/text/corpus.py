"""Text from elsewhere: fetched, cleaned, split, and with its origin on file.

`get` brings a file, whole and verified. `normalize`, `redact_pii`,
`remove_duplicates` and `remove_near_duplicates` clean documents,
`split_documents` divides them and `find_leaks` tests the division. A
`Manifest` says where each file came from and under which license.

Left out: extraction of text from HTML and PDF, identification of languages,
filters of quality, and crawling (but see `may_fetch`). What is not found:
names, addresses of houses, and whatever no pattern describes; `redact_pii`
lowers a risk and does not remove it.

The order of the steps follows FineWeb (Penedo et al., 2024); MinHash is
Broder's (1997), here from the library datasketch.
"""

import hashlib
import ipaddress
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.robotparser import RobotFileParser

import requests
from datasketch import MinHash, MinHashLSH
from tqdm import tqdm

from scratchlm.text.files import write_json

AGENT = "scratchlm"
KINDS = (".jsonl", ".md", ".txt")  # files of documents
PERMUTATIONS = 128
BANDS = (32, 4)  # of 4 numbers each; the curve of chances is in the chapter

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
                raise ValueError(
                    f"{path}, line {number}, is not UTF-8: {error.reason}; "
                    "save the file as UTF-8 (from Latin-1: "
                    f"iconv -f LATIN1 -t UTF-8 {path.name} > new.txt)"
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


def read_documents(path: Path) -> Iterator[str]:
    """The documents of a file, or of all files in a folder, one by one.

    A file that ends in .jsonl has one {"text": ...} a line; any other is
    text, and what stands between its empty lines is a document. Of a folder
    and those inside, all .jsonl, .md and .txt files are read, sorted by
    path; there each file of text is one document.
    """
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.suffix in KINDS]
        if not files:
            raise ValueError(f"{path} holds no {', '.join(KINDS)} file")
        for file in sorted(files):
            if file.suffix == ".jsonl":
                yield from read_json_lines(file)
            else:
                yield "".join(read_lines(file))
    elif path.suffix == ".jsonl":
        yield from read_json_lines(path)
    else:
        yield from read_paragraphs(path)


def write_documents(path: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line: all of them, or no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    try:
        with half.open("w", encoding="utf-8", newline="\n") as file:
            for document in documents:
                file.write(json.dumps(document, ensure_ascii=False) + "\n")
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


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


EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-z]{2,}", re.I
)
ADDRESS = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}:[0-9a-f:]{1,38})"
    r"(?![\w:]|\.\d)",
    re.I,
)
CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
PHONE = re.compile(r"""(?<![\w.+/-])(?:
    \+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}
    | \(\d{3,5}\)[ ]?\d{3,4}[ .-]?\d{3,4}
    | \d{3}[ .-]\d{3}[ .-]\d{4}
    | 0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}
    )(?![\w/-]|[.,]\d)""", re.X)  # fmt: skip


def is_card(text: str) -> bool:
    """Whether the digits are a card number: their Luhn sum ends in 0.

    From the right, every second digit is doubled, and the digits of all
    these numbers are added up. One wrong digit is always noticed.

    >>> is_card("4111 1111 1111 1111"), is_card("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(c) for c in reversed(text) if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_public_address(text: str) -> bool:
    """Whether this is an IP address by which someone could be found.

    Of version 6 only the part is in use that begins with the bits 001.

    >>> is_public_address("8.8.8.8"), is_public_address("192.168.0.1")
    (True, False)
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    used = address.version == 4 or int(address) >> 125 == 1
    return used and address.is_global


def anything(text: str) -> bool:
    """Every match counts; for patterns that need no second look."""
    return True


# Kind, pattern, and whether what matches is what it looks like. In this
# order: a card number holds digits that look like a telephone's.
PII: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", EMAIL, anything),
    ("ip", ADDRESS, is_public_address),
    ("card", CARD, is_card),
    ("phone", PHONE, anything),
)


def redact(
    text: str,
    kind: str,
    pattern: re.Pattern[str],
    is_real: Callable[[str], bool],
) -> tuple[str, int]:
    """Put <kind> for what matches and is real; return also how often."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not is_real(match[0]):
            return match[0]
        count += 1
        return f"<{kind}>"

    return pattern.sub(replace, text), count


def redact_pii(text: str) -> tuple[str, dict[str, int]]:
    """Replace what identifies a person; return the text and the counts.

    >>> redact_pii("Write to pell@bakery.example or call +44 20 7946 0958.")
    ('Write to <email> or call <phone>.', {'email': 1, 'phone': 1})
    """
    counts = {}
    for kind, pattern, is_real in PII:
        text, count = redact(text, kind, pattern, is_real)
        if count:
            counts[kind] = count
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


def shingles(text: str, size: int = 5) -> frozenset[str]:
    """All runs of `size` words, in small letters and without punctuation.

    A shorter text is one run.

    >>> sorted(shingles("The geese are loud.", size=3))
    ['geese are loud', 'the geese are']
    """
    words = re.findall(r"\w+", text.casefold())
    runs = range(max(len(words) - size + 1, min(len(words), 1)))
    return frozenset(" ".join(words[i : i + size]) for i in runs)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """What two sets share, as a part of what they have together.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    return len(a & b) / len(a | b) if a or b else 1.0


def sketch(runs: frozenset[str]) -> MinHash:
    """128 numbers that stand for a set; two sets agree in as many, in the
    mean, as is their Jaccard similarity.

    Each number is the smallest hash of the set's elements under another
    hash function (Broder, 1997, section 4). The functions are fixed.
    """
    made = MinHash(num_perm=PERMUTATIONS, seed=1)
    made.update_batch([run.encode() for run in sorted(runs)])
    return made


def find_root(parents: list[int], i: int) -> int:
    """Follow the parents of i up to one that is its own."""
    while parents[i] != i:
        parents[i] = i = parents[parents[i]]
    return i


def group_near_duplicates(
    documents: Sequence[str], threshold: float = 0.7
) -> list[list[int]]:
    """Indices of the documents, those of near-duplicates in one group.

    Two documents are near-duplicates if their shingles have a Jaccard
    similarity of `threshold` or more, and groups are what such pairs
    connect. Sketches only propose pairs (those that agree in one of 32
    bands of four numbers); each is then compared in full. A pair of
    similarity s is overlooked with probability (1 - s^4)^32.
    """
    sets = [shingles(text) for text in documents]
    index = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
    parents = list(range(len(documents)))
    for i, runs in enumerate(sets):
        made = sketch(runs)
        for j in sorted(index.query(made)):
            if jaccard(runs, sets[j]) >= threshold:
                a, b = find_root(parents, i), find_root(parents, j)
                parents[max(a, b)] = min(a, b)
        index.insert(i, made)
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


def split_documents(
    documents: Sequence[str], seed: int = 0, threshold: float = 0.7
) -> DocumentSplits:
    """About 90, 5 and 5 percent, near-duplicates always on one side.

    The side is decided by a hash of that document of the group which has
    the smallest fingerprint. So it does not depend on the order of the
    documents, nor on how many others there are; only one that joins a group
    can move it.
    """
    splits = DocumentSplits([], [], [])
    for group in group_near_duplicates(documents, threshold):
        first = min((documents[i] for i in group), key=fingerprint)
        mark = fingerprint(f"{seed} {first}")
        share = int(mark[:8], 16) / 16**8
        side = splits.train
        if share >= 0.9:
            side = splits.validation if share < 0.95 else splits.test
        side.extend(documents[i] for i in group)
    return splits


@dataclass(frozen=True)
class Leak:
    """A held-out document (its index) that the training set gives away."""

    index: int
    share: float
    example: str


def find_leaks(
    train: Iterable[str],
    held_out: Sequence[str],
    size: int = 13,
    share: float = 0.5,
) -> list[Leak]:
    """Held-out documents of whose runs of words `share` or more are known.

    Runs are of 13 words, as in the contamination study of GPT-3 (Brown et
    al., 2020, appendix C). Of a shorter document, the whole is one run and
    must be a document of the training set.
    """
    known: set[str] = set()
    for text in train:
        known |= shingles(text, size)
    leaks = []
    for index, text in enumerate(held_out):
        runs = shingles(text, size)
        seen = sorted(runs & known)
        if seen and len(seen) >= share * len(runs):
            leaks.append(Leak(index, len(seen) / len(runs), seen[0]))
    return leaks


# --- Where it came from ------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One file of a corpus: its origin and what it may be used for.

    `license` is an SPDX identifier, or words where there is none;
    `retrieved` a date as 2026-11-20.
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


@dataclass(frozen=True)
class Manifest:
    """The files of a corpus, each with its source."""

    sources: tuple[Source, ...]

    def save(self, path: Path) -> None:
        """Write as JSON; whoever reads meanwhile sees the old file whole."""
        data = {"sources": [asdict(source) for source in self.sources]}
        write_json(path, data)

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read what `save` wrote; ValueError if it is something else."""
        data = json.loads(path.read_text(encoding="utf-8"))
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
        known = {source.file for source in self.sources}
        for path in sorted(folder.glob("*.txt")):
            if path.name not in known:
                found.append(f"{path.name}: nobody knows where it is from")
        return found


def may_fetch(robots: str, address: str, agent: str = AGENT) -> bool:
    """Whether a site's robots.txt lets a crawler read an address.

    The rules are those of RFC 9309, as far as Python's parser knows them.
    The text is given, not fetched: file it with the manifest.
    """
    parser = RobotFileParser()
    parser.parse(robots.splitlines())
    return parser.can_fetch(agent, address)


def is_reserved(headers: Mapping[str, str]) -> bool:
    """Whether a response's headers reserve text and data mining.

    The header of the TDM Reservation Protocol, one of the machine-readable
    ways of Article 4(3) of Directive (EU) 2019/790.
    """
    return headers.get("tdm-reservation", "0").strip() == "1"


# --- Getting files -----------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A text that `get` knows by name."""

    file: str
    address: str
    sha256: str
    license: str


TEXTS = {
    "shakespeare": Known(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/"
        "data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "public domain",
    )
}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


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


def get(
    what: str | Path,
    folder: Path,
    mirror: Path | None = None,
    sha256: str | None = None,
) -> Path:
    """Bring a text into `folder`; return where it is.

    `what` is a name ("shakespeare"), an http(s) address, or the path of a
    file. A file that is in the folder already is verified and left alone.
    One of that name in `mirror` is copied instead of fetched. Nothing
    incomplete or unverified ever stands under the final name, and no file
    is overwritten.

    Raises ValueError for a wrong checksum, OSError for what cannot be had;
    both say what to do.
    """
    address = str(what)
    if address in TEXTS:
        known = TEXTS[address]
        name, address = known.file, known.address
        sha256 = sha256 or known.sha256
    elif address.startswith(("http://", "https://")):
        name = file_name(address)
    elif Path(what).is_file():
        name, mirror = Path(what).name, Path(what).parent
    else:
        raise FileNotFoundError(
            f"{what} is no file here, no address that begins with https://, "
            f"and none of the texts known by name: {', '.join(TEXTS)}"
        )
    target = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if target.exists():
        verify_own(target, sha256)
    elif mirror is not None and (mirror / name).is_file():
        copy(mirror / name, target, sha256)
    else:
        download(address, target, sha256)
    return target


def verify_own(target: Path, sha256: str | None) -> None:
    """Verify a file that was there before; it is never touched."""
    try:
        verify(target, sha256)
    except ValueError as error:
        raise ValueError(
            f"{error}\nIt was there before and was left alone; move it away "
            "and run again."
        ) from error


def copy(source: Path, target: Path, sha256: str | None) -> None:
    """Copy a file, verify the copy, and only then give it its name."""
    half = target.with_name(target.name + ".part")
    shutil.copyfile(source, half)
    try:
        verify(half, sha256)
    except ValueError as error:
        half.unlink()
        raise ValueError(f"{error}\nIt was copied from {source}.") from error
    os.replace(half, target)


def download(address: str, target: Path, sha256: str | None) -> None:
    """Fetch a file, verify it, and only then give it its name.

    What an earlier try left in TARGET.part is continued, if a checksum is
    known that will tell whether the parts fit.
    """
    half = target.with_name(target.name + ".part")
    try:
        receive(address, half, trusted=sha256 is not None)
    except requests.RequestException as error:
        raise ConnectionError(
            f"{address} could not be fetched: {error}\n"
            "Run again to go on from where it stopped. Without internet, put "
            f"{target.name} into a folder and name it in SCRATCHLM_MIRROR."
        ) from error
    try:
        verify(half, sha256)
    except ValueError as error:
        half.unlink()
        raise ValueError(
            f"{error}\nIt came from {address} and was not kept. Run again; if "
            "this stays so, the file there has been changed."
        ) from error
    os.replace(half, target)


def receive(address: str, half: Path, trusted: bool) -> None:
    """Write a response's body to `half`, after what is there already.

    Only if the result is `trusted` to be verified: otherwise the file is
    begun anew, as nothing would tell that the parts do not fit. A server may
    ignore the wish for a range; then the answer is 200 and not 206, and the
    file is begun anew. So it is for 416, a range past the end.
    """
    have = half.stat().st_size if trusted and half.exists() else 0
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
            have = 0
        body = int(response.headers.get("Content-Length", 0))
        with (
            half.open("ab" if have else "wb") as file,
            tqdm(
                desc=half.stem,
                total=have + body or None,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=None,  # no bar where nobody watches
            ) as bar,
        ):
            for block in response.iter_content(1 << 16):
                file.write(block)
                bar.update(len(block))


def check_response(response: requests.Response, trusted: bool) -> None:
    """PermissionError for what must not be taken, whoever sent it."""
    if is_reserved(response.headers):
        raise PermissionError(
            f"{response.url} reserves text and data mining (tdm-reservation: "
            "1); ask its owner for a license"
        )
    if not trusted and not response.url.startswith("https://"):
        raise PermissionError(
            f"{response.url} comes unencrypted: anybody on the way can change "
            "it. Give its SHA-256, or an address with https://"
        )
