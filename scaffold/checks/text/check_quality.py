"""What filters of quality must do."""

import random

import numpy as np

from scratchlm.text import quality

from ..expect import close, equal, raises, true

WORDS = [f"word{i}" for i in range(40)]
GOOD = "The geese of the town have seen that it is to be a cold winter."
SHORT = quality.Rules(words=(5, 100_000))


def broken(text: str) -> list[str]:
    """The rules that a text breaks."""
    return [reason.rule for reason in quality.reasons(text, SHORT)]


def check_top_share() -> None:
    """A run that comes once is no repetition; of others, the most frequent."""
    words = ["buy", "now", "and", "buy", "now"]
    close(
        quality.top_share(words, 2),
        12 / 15,
        "share of the most frequent pair of words",
        hint="its characters, times how often it comes, over all characters",
    )
    equal(quality.top_share(["each", "comes", "once"], 2), 0, "no pair twice")
    equal(quality.top_share([], 2), 0, "share of no words")


def check_repeated_share() -> None:
    """Characters count once, and only where a run comes again."""
    for words, share in (
        ("a b a b a b", 4 / 6),
        ("one two three one two four", 6 / 21),
        ("a b c d", 0),
        ("", 0),
    ):
        close(
            quality.repeated_share(words.split(), 2),
            share,
            f"share of repeated pairs in {words!r}",
            hint="mark the words of a run that was seen before, then count",
        )


def check_measures() -> None:
    """What is measured, on a page that one can count by hand."""
    found = quality.measure("# The 3 bees...\n\n\u2022 And \u2026\n* The.")
    for rule, value in (
        ("words", 9),
        ("word_length", 22 / 9),
        ("symbols", 2 / 9),
        ("letters", 4 / 9),
        ("stop_words", 2),
        ("bullets", 2 / 3),
        ("ellipses", 2 / 3),
        ("sentences", 1),
        ("repeated_lines", 0),
    ):
        close(found[rule], value, f"{rule} of a small page")


def check_repeated_lines() -> None:
    """Lines and paragraphs that stand there twice are counted apart."""
    found = quality.measure("Home\nHome\nShop\n\nHome\nHome\nShop")
    close(found["repeated_lines"], 4 / 6, "lines that came before")
    close(found["repeated_paragraphs"], 1 / 2, "paragraphs that came before")


def check_reasons() -> None:
    """A refusal names each rule, with what was measured and allowed."""
    equal(broken(GOOD), [], "reasons against a good sentence")
    for text, rule in (
        (GOOD + " #cold #winter", "symbols"),
        (GOOD + " 1 2 3 4 5 6 7 8.", "letters"),
        ("Geese are loud in town when winter comes.", "stop_words"),
        (f"{GOOD} {GOOD}", "repeated_5"),
        (GOOD + " Please enable JavaScript.", "code"),
    ):
        true(rule in broken(text), f"{text!r} breaks the rule {rule}")
    found = quality.reasons(GOOD, quality.Rules())
    equal(
        [tuple(reason) for reason in found],
        [("words", 15, 50, 100_000)],
        "reasons against fifteen words where fifty are asked for",
    )
    for most, count in ((15, 0), (14, 1)):
        rules = quality.Rules(words=(1, most))
        equal(len(quality.reasons(GOOD, rules)), count, f"up to {most} words")


def check_marks() -> None:
    """Words and pairs, each once, the same everywhere."""
    buckets = 1 << 20
    true(
        hash("geese") % buckets not in quality.marks("geese", buckets),
        "a mark is not the hash that Python draws anew in every run",
        hint="hash the bytes of the word, as with blake2b",
    )
    equal(len(quality.marks("the geese are loud", buckets)), 7, "marks")
    equal(len(quality.marks("a b a b", 1 << 20)), 4, "marks of 'a b a b'")
    true(
        quality.marks("a b", 1 << 20).tolist()
        != quality.marks("b a", 1 << 20).tolist(),
        "the order of words makes a difference",
    )


def check_first_step() -> None:
    """One step from zero, by hand: good and heap weigh the same."""
    good, heap = ["a b", "a"], ["b c"]
    judge = quality.fit_judge(good, heap, buckets=32, steps=1, rate=1.0)
    expected = np.zeros(32)
    for texts, sign, weight in ((good, 1, 0.25), (heap, -1, 0.5)):
        for text in texts:
            row = quality.marks(text, 32)
            expected[row] += sign * weight * 0.5 / len(row) ** 0.5
    close(judge.weights.tolist(), expected.tolist(), "weights after one step")
    close(judge.bias, 0, "bias after one step")


def check_scores() -> None:
    """New texts are told apart, and a longer one is not surer for it."""
    good = [f"the {a} sat by the mill" for a in ("hen", "cat", "dog", "cow")]
    heap = [f"buy cheap {a} online now" for a in ("hen", "cat", "dog", "cow")]
    judge = quality.fit_judge(good, heap, buckets=1 << 12, steps=100)
    true(judge.score("the fox sat by the mill") > 0.7, "a new story is good")
    true(judge.score("buy cheap foxes online") < 0.3, "a new offer is not")
    close(
        judge.score("hen hen hen hen") - judge.score("hen hen"),
        0,
        "what two more of the same words change",
    )
    raises(ValueError, lambda: quality.fit_judge(good, []), "no heap")
    one = quality.Judge(np.ones(8), 0.0)
    row = len(quality.marks("a b c", 8))
    close(
        one.score("a b c"),
        1 / (1 + np.exp(-(row**0.5))),
        "score where each weight is 1",
        hint="the sum over the root of how many marks there are",
    )


def check_keep_best() -> None:
    """So many are kept as the share says, even where all are equal."""
    equal(
        quality.keep_best([0.2, 0.9, 0.4, 0.9], 0.5),
        [False, True, False, True],
        "the better half",
    )
    equal(
        quality.keep_best([1, 1, 1, 1], 0.5),
        [True, True, False, False],
        "half of what is all equal",
        hint="sort, and count; a threshold keeps all or none",
    )
    raises(ValueError, lambda: quality.keep_best([1.0], 0), "a share of 0")
    raises(ValueError, lambda: quality.keep_best([1.0], 1.5), "a share of 1.5")


def check_overlaps() -> None:
    """Thirteen words of an item are found, however they are written."""
    item = " ".join(WORDS)
    thirteen = " ".join(WORDS[5:18])
    documents = [
        f"Before: {thirteen.upper()}, after.",
        " ".join(WORDS[5:17]),
        thirteen.replace(" ", ",\n"),
    ]
    found = list(quality.find_overlaps(documents, ["another", item]))
    equal(
        [hit.document for hit in found],
        [0, 2],
        "documents that hold a run of 13 words of the item",
        hint="normalize both, and cut into units",
    )
    equal([hit.items for hit in found], [[1], [1]], "the items")
    equal(found[0].words, thirteen, "the words that they share")


def check_short_items() -> None:
    """Of eight words and more, an item is looked for whole."""
    items = [" ".join(WORDS[:7]), " ".join(WORDS[10:18])]
    found = list(quality.find_overlaps([" ".join(WORDS)], items))
    equal(
        [(hit.document, hit.items) for hit in found],
        [(0, [1])],
        "items of 7 and 8 words, in a document that holds both",
    )
    both = [" ".join(WORDS[:14]), " ".join(WORDS[:13])]
    found = list(quality.find_overlaps([" ".join(WORDS[:13])], both))
    equal(found[0].items, [0, 1], "items that share a run")


def check_groups() -> None:
    """Shares are of the group, and no page is counted twice."""
    found = quality.kept_by_group("ababa", [True, False, True, True, False])
    equal({k: tuple(v) for k, v in found.items()}, {"a": (2, 3), "b": (1, 2)},
          "kept and total of each group")  # fmt: skip
    close(found["b"].share, 0.5, "share of the second group")
    raises(
        ValueError,
        lambda: quality.kept_by_group("ab", [True]),
        "fewer answers than pages",
    )


def check_pages() -> None:
    """The same seed makes the same pages, of every kind."""
    story = "The geese of the town are loud today. Nobody knows why."
    one, other = (
        [
            quality.web_page(kind, story, random.Random(3))
            for kind in quality.JUNK
        ]
        for _ in range(2)
    )
    equal(one, other, "pages of one seed")
    equal(len(set(one)), len(quality.JUNK), "different pages")


BUGS = {
    "a run that comes once is a repetition": (
        "    if count < 2:\n        return 0.0\n",
        "",
    ),
    "the most frequent run is counted once": (
        "    return count * sum(map(len, run))",
        "    return sum(map(len, run))",
    ),
    "overlapping runs are counted twice": (
        "    again = sum(len(word) for word, old in zip(words, known) if old)",
        "    again = sum(len(w) for i in range(len(words) - n + 1)\n"
        "                if tuple(words[i : i + n]) in list(\n"
        "                    tuple(words[j : j + n]) for j in range(i))\n"
        "                for w in words[i : i + n])",
    ),
    "a run is repeated the first time": (
        "        if run in seen:\n",
        "        seen.add(run)\n        if run in seen:\n",
    ),
    "only the first word of a repeated run counts": (
        "known[i : i + n] = [True] * n",
        "known[i] = True",
    ),
    "repetition is counted in words": (
        "    again = sum(len(word) for",
        "    again = sum(4 for",
    ),
    "an ellipsis of one character is none": (
        'ELLIPSIS = ("...", "\\u2026")',
        'ELLIPSIS = ("...",)',
    ),
    "empty lines are lines": (
        'for line in text.split("\\n") if line.strip()]',
        'for line in text.split("\\n")]',
    ),
    "a word is of letters only": (
        "share(any(map(str.isalpha, word))",
        "share(all(map(str.isalpha, word))",
    ),
    "stop words count as often as they come": (
        "len(STOP_WORDS.intersection(units(text)))",
        "sum(word in STOP_WORDS for word in units(text))",
    ),
    "paragraphs are lines": (
        'text.split("\\n\\n") if part.strip()]',
        'text.split("\\n") if part.strip()]',
    ),
    "a limit itself is not allowed": (
        "if not least <= found[rule] <= most",
        "if not least < found[rule] < most",
    ),
    "what is too much is no reason": (
        "if not least <= found[rule] <= most",
        "if not least <= found[rule]",
    ),
    "JavaScript with a capital letter is overlooked": (
        '|javascript", re.I)',
        '|javascript")',
    ),
    "Python's own hash is taken": (
        "    return np.unique(runs % np.uint64(buckets)).astype(np.int64)",
        "    words = units(text)\n"
        "    pairs = zip(words, words[1:])\n"
        "    return np.unique([hash(x) % buckets for x in (*words, *pairs)])",
    ),
    "a word that comes twice is marked twice": (
        "    return np.unique(runs % np.uint64(buckets)).astype(np.int64)",
        "    return np.sort(runs % np.uint64(buckets)).astype(np.int64)",
    ),
    "pairs of words are left out": (
        "np.concatenate([hash_runs(text, 1), hash_runs(text, 2)])",
        "hash_runs(text, 1)",
    ),
    "the larger side weighs more": (
        "np.where(wanted, 0.5 / len(good), 0.5 / len(heap))",
        "np.full(len(rows), 1 / len(rows))",
    ),
    "a long text counts for more": (
        "    values = (sizes**-0.5)[texts]",
        "    values = np.ones(len(texts))",
    ),
    "it goes uphill": (
        "        weights -= rate",
        "        weights += rate",
    ),
    "the bias goes the wrong way": (
        "        bias -= rate",
        "        bias += rate",
    ),
    "a score is a sum, whatever the length": (
        " / max(len(row), 1) ** 0.5 + self.bias",
        " + self.bias",
    ),
    "the worst are kept": (
        "np.argsort(-np.asarray(scores)",
        "np.argsort(np.asarray(scores)",
    ),
    "of equals all are kept": (
        "    return [i in best for i in range(len(scores))]",
        "    least = min(scores[i] for i in best)\n"
        "    return [score >= least for score in scores]",
    ),
    "any share is taken": (
        "    if not 0 < kept <= 1:\n",
        "    if kept < 0:\n",
    ),
    "documents are compared letter by letter": (
        '        text, found, first = normalize(document), set[int](), ""\n'
        "        for length, table in tables.items():",
        '        text, found, first = normalize(document), set[int](), ""\n'
        "        if text != text.lower():\n"
        "            continue\n"
        "        for length, table in tables.items():",
    ),
    "short items are found everywhere": (
        "        if length >= least:\n",
        "        if length:\n",
    ),
    "items below thirteen words are left out": (
        "        if length >= least:\n",
        "        if length >= size:\n",
    ),
    "only one item of a run is known": (
        "table.setdefault(run, set()).add(index)",
        "table[run] = {index}",
    ),
    "the example is from the document's beginning": (
        "units(text)[start:last]",
        "units(text)[:length]",
    ),
    "shares are of all pages": (
        "Kept(old.kept + stays, old.total + 1)",
        "Kept(old.kept + stays, len(counts))",
    ),
    "missing answers go unnoticed": (
        "zip(groups, kept, strict=True)",
        "zip(groups, kept)",
    ),
    "pages come from a hidden generator": (
        "    some = draw.choices(",
        "    some = random.choices(",
    ),
}
