"""The commands about text: get, write, clean and encode it."""

import math
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from tqdm import tqdm

from scratchlm.cli.errors import UserError, users_input
from scratchlm.text import corpus
from scratchlm.text import toytown as town
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.files import write_json
from scratchlm.text.prepare import (
    load_tokenizer,
    read_texts,
    train_tokenizer,
)
from scratchlm.text.quality import (
    Judge,
    Overlap,
    Reason,
    Rules,
    find_overlaps,
    fit_judge,
    item_runs,
    keep_best,
    reasons,
)
from scratchlm.text.shards import (
    MANIFEST,
    SIZE,
    Manifest,
    plan_shards,
    write_shards,
)
from scratchlm.text.tokenizer import Tokenizer

DATA = Path("data")  # where downloads are kept
PARTS = ("train", "validation")  # of a corpus, each with shards of its own
ORIGIN = "corpus.json"  # beside shards: the folder whose text they hold
LN2 = math.log(2)  # nats in a bit
Texts = Annotated[
    Path, Parameter(help="UTF-8 text, JSON lines, or a folder of them")
]
SHOWN = 20_000  # the most pages of a heap that a judge is shown


def mirror() -> Path | None:
    """The folder named by SCRATCHLM_MIRROR, for places without internet."""
    name = os.environ.get("SCRATCHLM_MIRROR")
    return Path(name) if name else None


def get(
    what: Annotated[str, Parameter(help="shakespeare, an address, or a file")],
    /,
    *,
    out: Annotated[Path, Parameter(help="folder for it (data)")] = DATA,
    sha256: Annotated[
        str | None, Parameter(help="the checksum that it must have")
    ] = None,
) -> None:
    """Fetch a text.

    Its checksum is verified and the file is kept. Without internet, set
    SCRATCHLM_MIRROR to a folder that has the file.

    Example:
      python -m scratchlm corpus get shakespeare

    Next: python -m scratchlm train --corpus shakespeare
    Book: Gathering text without regret: a clean corpus
    """
    with users_input():
        path = corpus.get(what, out, mirror=mirror(), sha256=sha256)
    print(f"{path}: {path.stat().st_size:,} bytes")


def toytown(
    *,
    characters: Annotated[
        int, Parameter(help="how much (1000000)")
    ] = 1_000_000,
    seed: Annotated[int, Parameter(help="which stories (2026)")] = 2026,
    out: Annotated[
        Path, Parameter(help="the file to write (data/toytown.jsonl)")
    ] = DATA / "toytown.jsonl",
) -> None:
    """Write stories from Toytown, whose entropy is known.

    Each line is a JSON object: a text, and its log-probability in nats.

    Example:
      python -m scratchlm corpus toytown --characters 1000000

    Next: python -m scratchlm tokenizer train data/toytown.jsonl
    Book: A town whose entropy we know
    """
    if characters < 1:
        raise UserError(f"--characters {characters}: ask for 1 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: choose 0 or more")
    stories = town.write_corpus(characters, seed)
    lines = [{"text": s.text, "log_prob": s.log_prob} for s in stories]
    corpus.write_documents(out, lines)
    nats = town.entropy_per_character(stories)
    print(f"{out}: {len(stories):,} stories")
    print(f"entropy: {nats:.4f} nats a character, {nats / LN2:.4f} bits")


def prepare(
    file: Texts,
    /,
    *,
    out: Annotated[Path, Parameter(help="new folder for the three parts")],
    license: Annotated[
        str | None, Parameter(help="the text's license, for the manifest")
    ] = None,
    keep_pii: Annotated[
        bool, Parameter(negative="", help="leave personal data as it is")
    ] = False,
) -> None:
    """Clean a text and split it.

    Documents (lines of JSON with a "text", the text between empty lines, or
    the files of a folder) are normalized. E-mail addresses, telephone numbers
    and the like are replaced, and duplicates are removed, near ones too. The
    rest is split 90:5:5 without leaks; a manifest says where it came from.

    Example:
      python -m scratchlm corpus prepare notes.txt --out data/notes \\
          --license CC-BY-4.0

    Next: python -m scratchlm train --corpus data/notes
    Book: Gathering text without regret: a clean corpus
    """
    with users_input():
        done = corpus.prepare(file, out, license, keep_pii=keep_pii)
    print(f"documents         {done.documents:,}")
    print(f"personal data     {sum(done.redacted.values()):,} {done.redacted}")
    print(f"duplicates        {done.duplicates:,}")
    print(f"near-duplicates   {done.near_duplicates:,}")
    print(f"leaks             {done.leaks:,}")
    parts = done.splits
    print(
        f"kept              {len(parts.train):,} to learn from, "
        f"{len(parts.validation):,} for validation, "
        f"{len(parts.test):,} for the test"
    )


@dataclass
class Sorted:
    """A heap on its way through the filters: what stays, and what does not."""

    kept: list[str] = field(default_factory=list)
    refused: list[tuple[str, list[Reason]]] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How many documents each rule refuses."""
        return Counter(r.rule for _, found in self.refused for r in found)


def by_rules(documents: Iterable[str], rules: Rules) -> Sorted:
    """The documents of a heap, by whether they break a rule."""
    done = Sorted()
    for text in tqdm(documents, "rules", leave=False, disable=None):
        if found := reasons(text, rules):
            done.refused.append((text, found))
        else:
            done.kept.append(text)
    return done


def by_likeness(done: Sorted, good: Sequence[str], keep: float) -> Sorted:
    """Of what is left, the share `keep` that is most like the good texts."""
    step = -(-len(done.kept) // SHOWN)  # rounded up
    judge: Judge = fit_judge(good, done.kept[::step])
    bar = tqdm(done.kept, "judging", leave=False, disable=None)
    scores = [judge.score(text) for text in bar]
    stays = keep_best(scores, keep)
    least = min((s for s, stay in zip(scores, stays) if stay), default=1.0)
    rest = Sorted(refused=[*done.refused])
    for text, score, stay in zip(done.kept, scores, stays, strict=True):
        if stay:
            rest.kept.append(text)
        else:
            rest.refused.append((text, [Reason("like", score, least, 1)]))
    return rest


def by_tests(done: Sorted, items: Sequence[str]) -> Sorted:
    """Of what is left, the documents that hold no item of a test."""
    bar = tqdm(done.kept, "tests", leave=False, disable=None)
    found: dict[int, Overlap] = {
        hit.document: hit for hit in find_overlaps(bar, items)
    }
    rest = Sorted(refused=[*done.refused])
    for number, text in enumerate(done.kept):
        if hit := found.get(number):
            told = [Reason("tests", len(hit.items), 0, 0)]
            rest.refused.append((text, told))
        else:
            rest.kept.append(text)
    return rest


def refused_path(out: Path) -> Path:
    """Where the refused documents go: kept.jsonl, kept.refused.jsonl."""
    return out.with_name(out.stem + corpus.REFUSED)


def check_filter(
    file: Path, out: Path, others: Iterable[Path], keep: float | None
) -> None:
    """Refuse what can be known to be wrong before a document is read."""
    if not corpus.has_json_lines(out):
        raise UserError(f"--out {out}: name a file that ends in .jsonl")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file in it")
    for path in (out, refused_path(out)):
        for source in (file, *others):
            whole = source.resolve()
            if whole == path.resolve() or whole in path.resolve().parents:
                raise UserError(
                    f"{path} would lie in what is read, {source}; name "
                    "another file with --out"
                )
    if keep is not None and not 0 < keep <= 1:
        raise UserError(f"--keep {keep}: a share above 0, and at most 1")


def read_all(path: Path | None, option: str) -> list[str]:
    """The documents in an option's file, which must hold at least one."""
    if path is None:
        return []
    found = [text for text in corpus.read_documents(path) if text.strip()]
    if not found:
        raise UserError(f"{option} {path}: it holds no document")
    return found


def filter_(
    file: Texts,
    /,
    *,
    out: Annotated[Path, Parameter(help="the .jsonl file for what is kept")],
    like: Annotated[
        Path | None, Parameter(help="good texts, to keep what is like them")
    ] = None,
    keep: Annotated[
        float | None, Parameter(help="the share kept with --like (0.5)")
    ] = None,
    without: Annotated[
        Path | None, Parameter(help="public tests that no page may hold")
    ] = None,
    least_words: Annotated[
        int, Parameter(help="words that a page must have (50)")
    ] = 50,
) -> None:
    """Keep the documents that are worth learning from.

    Rules of thumb come first: length, symbols, repetition and the like. With
    --like, the rest is ranked by its likeness to texts that you call good.
    With --without, documents that share 13 words in a row with a test item
    are dropped (an item of 8 to 12 words is looked for whole). What is
    refused is written beside --out, with the reasons: read some of it.

    Example:
      python -m scratchlm corpus filter pages.jsonl --out kept.jsonl \\
          --like good.jsonl --keep 0.5 --without tests.jsonl

    Next: python -m scratchlm corpus prepare kept.jsonl --out data/kept
    Book: What is worth learning from: filters of quality
    """
    if keep is not None and like is None:
        raise UserError(f"--keep {keep} needs --like, the good texts")
    if least_words < 0:
        raise UserError(f"--least-words {least_words}: choose 0 or more")
    others = [path for path in (like, without) if path]
    check_filter(file, out, others, keep)
    with users_input():
        good = read_all(like, "--like")
        items = read_all(without, "--without")
        rules = Rules(words=(least_words, Rules.words[1]))
        done = by_rules(corpus.read_documents(file), rules)
    if good and done.kept:
        done = by_likeness(done, good, keep or 0.5)
    if items:
        done = by_tests(done, items)
    tell_filtered(done, items)
    if not done.kept:
        raise UserError(
            "no document is left, and nothing was written; is there a rule "
            "above that your texts cannot meet?"
        )
    corpus.write_documents(
        refused_path(out),
        (
            {"text": text, "reasons": [reason._asdict() for reason in found]}
            for text, found in done.refused
        ),
    )
    corpus.write_documents(out, ({"text": text} for text in done.kept))
    name, folder = shlex.quote(str(out)), shlex.quote(str(out.with_suffix("")))
    print(f"refused, with reasons: {refused_path(out)}")
    print(f"next: python -m scratchlm corpus prepare {name} --out {folder}")


def tell_filtered(done: Sorted, items: Sequence[str]) -> None:
    """Print the reasons in a table, with how many documents each refuses."""
    print(f"documents         {len(done.kept) + len(done.refused):,}")
    if items:
        tables = item_runs(items).values()
        seen = {i for table in tables for run in table.values() for i in run}
        short = len(items) - len(seen)
        print(f"items of tests    {len(items):,}, {short:,} of them too short")
    print(f"refused           {len(done.refused):,}, by one rule or more:")
    for rule, count in done.counts().most_common():
        print(f"  {rule:<22}{count:,}")
    print(f"kept              {len(done.kept):,}")


def holds_shards(folder: Path) -> bool:
    """Whether a folder has shards of each part, perhaps not all of them."""
    return all((folder / part / MANIFEST).is_file() for part in PARTS)


def part_files(folder: Path, part: str) -> list[Path]:
    """The files of a part, train.jsonl or many, in the order of their names."""
    found = [
        path
        for path in sorted(folder.glob(f"{part}*.jsonl"))
        if not path.name.endswith(corpus.REFUSED)
    ]
    if not found:
        raise UserError(
            f"{folder} has no {part}.jsonl; make it from a text: "
            f"corpus prepare TEXT --out {folder}"
        )
    return found


def shard_tokenizer(
    files: Sequence[Path], kept: Path, own: Path | None, size: int | None
) -> Tokenizer:
    """The tokenizer named, the one already in use, or one newly trained.

    `kept` is where it is, or will be, beside the shards.
    """
    place = own or kept
    if place.exists() or own:
        found = load_tokenizer(place)
    else:
        texts = chain.from_iterable(map(read_texts, files))
        found = train_tokenizer("bpe", texts, size or 1024)
    if isinstance(found, CharTokenizer):
        raise UserError(f"{place} is of characters; shards take byte pairs")
    if kept.exists() and load_tokenizer(kept).fingerprint != found.fingerprint:
        raise UserError(
            f"{kept.parent} was begun with another tokenizer; leave "
            "--tokenizer out, or name a new folder with --out"
        )
    if size not in (None, found.vocab_size):
        raise UserError(
            f"--vocab-size {size}: {place} has {found.vocab_size} tokens; "
            "leave it out, or name a new folder with --out"
        )
    return found


def shards(
    folder: Annotated[
        Path, Parameter(help="a folder that `corpus prepare` wrote")
    ],
    /,
    *,
    out: Annotated[
        Path, Parameter(help="folder for the shards; named again, it goes on")
    ],
    tokenizer: Annotated[
        Path | None, Parameter(help="its file (one is learned from the text)")
    ] = None,
    vocab_size: Annotated[
        int | None, Parameter(help="how many tokens, if it learns (1024)")
    ] = None,
    piece_bytes: Annotated[
        int, Parameter(help="bytes of text for a shard (268435456)")
    ] = SIZE,
    workers: Annotated[
        int | None, Parameter(help="processes that encode (all there are)")
    ] = None,
) -> None:
    """Encode a corpus that takes hours, shard by shard.

    A shard is either whole or absent. If the command was stopped or killed,
    type it again: what is done stays, and what changed is made anew. It takes
    all train*.jsonl and validation*.jsonl, in the order of their names.

    Example:
      python -m scratchlm corpus shards data/notes --out data/notes-tokens

    Next: python -m scratchlm train --corpus data/notes-tokens
    Book: A corpus that takes days: shards
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: choose 1 or more")
    if out.resolve() == folder.resolve():
        raise UserError(f"--out {out}: the shards need a folder of their own")
    files = {part: part_files(folder, part) for part in PARTS}
    kept = out / "tokenizer.json"
    with users_input():
        known = shard_tokenizer(files["train"], kept, tokenizer, vocab_size)
        if not kept.exists():
            out.mkdir(parents=True, exist_ok=True)
            known.save(kept)
        olds = {}
        for part, paths in files.items():  # both, before either is encoded
            place = out / part
            there = (place / MANIFEST).exists()
            olds[part] = Manifest.read(place).shards if there else {}
            plan_shards(known, paths, place, piece_bytes)
        seen = os.path.relpath(folder.resolve(), out.resolve())
        write_json(out / ORIGIN, {"corpus": Path(seen).as_posix()})
        for part, paths in files.items():
            place, old = out / part, olds[part]
            new = write_shards(known, paths, place, piece_bytes, workers).shards
            same = sum(old.get(name) == shard for name, shard in new.items())
            tokens = sum(shard.tokens for shard in new.values())
            print(
                f"{part:12}{tokens:,} tokens in {len(new)} shards, "
                f"{same} of them done before"
            )
