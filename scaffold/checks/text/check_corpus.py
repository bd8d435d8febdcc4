"""What gathering text without regret must do."""

import hashlib
import tempfile
from pathlib import Path

from scratchlm.text import corpus

from ..expect import close, equal, raises, true

WORDS = [f"word{i}" for i in range(60)]


def check_normalize() -> None:
    """Each text is written in one way, and twice does what once does."""
    for before, after in (
        ("a\r\nb\rc", "a\nb\nc"),
        ("  a \t b\u00a0c \n d", "a b c\nd"),
        ("a\n\n \n\nb", "a\n\nb"),
        ("\ufeffcafe\u0301", "caf\u00e9"),
    ):
        equal(corpus.normalize(before), after, f"normalize({before!a})")
        equal(corpus.normalize(after), after, f"normalize({after!a})")


def check_luhn() -> None:
    """From the right every second digit is doubled; 7 doubled counts as 5."""
    for digits, right in (
        ("18", True),
        ("67", True),
        ("59", True),
        ("76", False),
        ("1 0 9", True),
    ):
        equal(
            corpus.passes_luhn(digits),
            right,
            f"passes_luhn({digits!r})",
            hint="a doubled digit of two digits, as 14, counts as 1 + 4",
        )


def check_pii() -> None:
    """What identifies somebody goes, what only looks like it stays."""
    for kind, found in (
        ("email", "ada.wren+clocks@bakery.example"),
        ("ip", "8.8.8.8"),
        ("ip", "2606:4700:4700::1111"),
        ("card", "4111 1111 1111 1111"),
        ("iban", "GB82 WEST 1234 5698 7654 32"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "1-800-555-1234"),
    ):
        text, counts = corpus.redact_pii(f"Ask {found}, please.")
        equal(
            text, f"Ask <{kind}>, please.", f"the text after planting {found}"
        )
        equal(counts, {kind: 1}, "what was counted")
    equal(
        corpus.redact_pii("4111 1111 1111 1111 12/27")[0],
        "<card> 12/27",
        "a card's number and its date",
        hint="try the longest row of groups first, then shorter ones",
    )
    for text in (
        "at home on 192.168.0.1",
        "no card: 4111 1111 1111 1112",
        "on 2026-11-20, 1,115,394 bytes, version 1.2.3.4, +5000 points",
    ):
        equal(corpus.redact_pii(text), (text, {}), f"redact_pii({text!r})")


def check_units() -> None:
    """Where a script has no spaces, each character is a unit."""
    equal(
        corpus.units("The geese: \u5927\u304d"),
        ["the", "geese", "\u5927", "\u304d"],
        "the units of two words and two Japanese characters",
    )
    equal(corpus.units("?!"), ["?", "!"], "the units of a text without words")
    one, other = (" ".join(WORDS[i : i + 5]) for i in (0, 1))
    true(
        len(corpus.shingles(one + " x " + other)) == 7,
        "seven runs of five words have seven numbers",
    )


def check_near_duplicates() -> None:
    """What chains of near-duplicates connect is one group."""
    a, b, c = (" ".join(WORDS[i : i + 48]) for i in (0, 6, 12))
    sets = [corpus.shingles(text) for text in (a, b)]
    close(
        corpus.jaccard(*sets),
        38 / 50,  # 44 runs of five words each, 38 of them shared
        "similarity of 48 words and the same moved on by six",
    )
    equal(
        corpus.group_near_duplicates([a, c, b, "others"]),
        [[0, 1, 2], [3]],
        "groups of a, c, b, others, where b is near a and near c",
        hint="join the groups of both documents, not only their members",
    )
    kept = corpus.remove_near_duplicates([a, b, "others"])
    equal(kept, [a, "others"], "what is kept of a, b, others")


def check_split() -> None:
    """Near-duplicates are on one side, whatever stands between them."""
    originals = [" ".join(f"{i}x{j}" for j in range(40)) for i in range(100)]
    near = [text + " and more" for text in originals]
    splits = corpus.split_documents(originals + near)
    held_out = splits.validation + splits.test
    total = len(splits.train) + len(held_out)
    equal(total, 200, "documents on all sides together")
    true(len(held_out) > 0, "some documents are held out")
    for text, other in zip(originals, near, strict=True):
        same = (text in splits.train) == (other in splits.train)
        true(same, f"both of a pair that begins {text[:12]} are on one side")
    again = corpus.split_documents((originals[:50] + near[:50])[::-1])
    true(
        set(again.train) <= set(splits.train),
        "fewer documents, in another order, stay on their side",
        hint="decide by a hash of the text, not by its place",
    )


def check_leaks() -> None:
    """A held-out document that is half known is found."""
    train = [" ".join(WORDS)]
    held_out = [
        " ".join(WORDS[10:40]),  # all its 18 runs are known
        " ".join(WORDS[:25] + [f"new{i}" for i in range(10)]),  # 13 of 23
        " ".join(WORDS[:20] + [f"new{i}" for i in range(20)]),  # 8 of 28
    ]
    leaks = corpus.find_leaks(train, held_out)
    equal([leak.index for leak in leaks], [0, 1], "documents that leak")
    close([leak.share for leak in leaks], [1, 13 / 23], "known shares")


def check_manifest() -> None:
    """A changed file, a strange license and a stray file are noticed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.txt").write_text("bread")
        made = corpus.Source.of(folder / "a.txt", "Pell", "MIT", "2026-11-20")
        manifest = corpus.Manifest((made,))
        equal(made.size, 5, "the bytes of the file, on record")
        equal(manifest.problems(folder, ["MIT"]), [], "problems at first")
        manifest.save(folder / "manifest.json")
        equal(
            corpus.Manifest.load(folder / "manifest.json"),
            manifest,
            "the manifest, written and read",
        )
        (folder / "a.txt").write_text("cake")
        (folder / "b.txt").write_text("rain")
        found = manifest.problems(folder, ["CC0-1.0"])
        equal(len(found), 3, "problems after three changes")


def check_get() -> None:
    """A file with a wrong checksum is refused and nothing of it is kept."""
    with tempfile.TemporaryDirectory() as name:
        source, folder = Path(name) / "mirror", Path(name) / "data"
        source.mkdir()
        (source / "a.txt").write_text("bread")
        right = hashlib.sha256(b"bread").hexdigest()
        raises(
            ValueError,
            lambda: corpus.get(source / "a.txt", folder, sha256="0" * 64),
            "a file with a wrong checksum",
        )
        equal(list(folder.iterdir()), [], "what is left of it")
        address = "https://nowhere.invalid/a.txt"
        path = corpus.get(address, folder, mirror=source, sha256=right)
        equal(path.read_text(), "bread", "the file from the mirror")
        raises(
            ValueError,
            lambda: corpus.get("https://elsewhere.invalid/a.txt", folder),
            "a file of that name from elsewhere, without a checksum",
            hint="keep where a file is from beside it",
        )
        path.write_text("mine")
        raises(
            ValueError,
            lambda: corpus.get(address, folder, mirror=source, sha256=right),
            "a file that was there and is another",
        )
        equal(path.read_text(), "mine", "the file that was there")


def check_prepare() -> None:
    """A text becomes three parts and a manifest that agrees with them."""
    with tempfile.TemporaryDirectory() as name:
        notes, folder = Path(name) / "notes.txt", Path(name) / "notes"
        texts = [f"At {i} o'clock Ada sold {7 * i} bells." for i in range(200)]
        notes.write_text("\n\n".join([*texts, texts[0], "Call 555-010-9999."]))
        done = corpus.prepare(notes, folder, "MIT")
        equal(done.documents, 202, "documents")
        equal(done.duplicates, 1, "duplicates")
        equal(done.redacted, {"phone": 1}, "what was redacted")
        lines = (folder / "train.jsonl").read_text().splitlines()
        equal(len(done.splits.train), len(lines), "documents to learn from")
        manifest = corpus.Manifest.load(folder / "manifest.json")
        equal(manifest.problems(folder, ["MIT"]), [], "problems afterwards")
        raises(
            ValueError,
            lambda: corpus.prepare(notes, folder),
            "a folder that holds a prepared text",
        )


def check_the_longest_rule_decides() -> None:
    """Of robots.txt, whatever mark and line ends its file has."""
    robots = "\ufeffUser-agent: *\r\nAllow: /\rDisallow: /a\nAllow: /a/b\n"
    for path, allowed in (("x", True), ("a/c", False), ("a/b/c", True)):
        equal(
            corpus.may_fetch(robots, f"https://town.example/{path}"),
            allowed,
            f"whether /{path} may be read",
            hint="Python's parser takes the first rule that fits, the "
            "standard the longest",
        )


BUGS = {
    "an e with an accent can still be written in two ways": (
        'unicodedata.normalize("NFC", INVISIBLE.sub("", text))',
        'INVISIBLE.sub("", text)',
    ),
    "every number of 16 digits is a card": (
        "% 10 == 0",
        "% 10 >= 0",
    ),
    "the wrong digits are doubled": (
        "for d in digits[1::2]]",
        "for d in digits[::2]]",
    ),
    "a doubled 7 counts as 14": (
        "sum(divmod(2 * d, 10))",
        "2 * d",
    ),
    "a date behind a card hides it": (
        "            found = place\n",
        "            found = place if place == len(groups) else 0\n",
    ),
    "a Chinese sentence is one word": (
        "    return UNIT.findall(text)",
        '    return re.findall(r"\\w+", text)',
    ),
    "texts without words are all alike": (
        ' or regex.findall(r"\\S", text)',
        "",
    ),
    "of a chain only neighbors are joined": (
        "                parents[max(a, b)] = min(a, b)",
        "                parents[members[other]] = members[one]",
    ),
    "near-duplicates are split": (
        "    return split_groups(documents, groups, seed)",
        "    alone = [[i] for i in range(len(documents))]\n"
        "    return split_groups(documents, alone, seed)",
    ),
    "the side depends on how many there are": (
        'fingerprint(f"{seed} {first}")',
        'fingerprint(f"{seed} {group[0]} {len(documents)}")',
    ),
    "only a document known in full is a leak": (
        "part >= share",
        "part >= 1",
    ),
    "a file of the user is overwritten": (
        "    if target.exists():\n"
        "        check_present(target, wanted)\n"
        "        return target\n",
        "",
    ),
    "another file of the same name is taken": (
        "source is None or source.origin != wanted.origin",
        "source is None",
    ),
    "an unverified copy gets its name": (
        "            shutil.copyfile(path, partial)\n",
        "            shutil.copyfile(path, partial)\n"
        "            shutil.copyfile(path, target)\n",
    ),
    "a prepared folder is overwritten": (
        "any(folder.iterdir())",
        "not any(folder.iterdir())",
    ),
}
