"""What is worth learning from: filters of quality for pages of the web.

`reasons` names the rules of thumb that a page breaks. A `Judge` has been
shown good text and a heap, and says how much a page is like the former.
`find_overlaps` finds the documents that hold a public test, and
`kept_by_group` counts whose text a filter keeps. `web_page` makes pages to
try all of it on.

Left out: languages other than English (the stop words are English, and words
are what is between spaces), Gopher's limits on the characters of repeated
lines and paragraphs, lists of bad words, and ensembles of judges.
What is not found: a well-formed lie, and a test in other words.

The rules are Gopher's (Rae et al., 2021, appendix A), with one of C4's
(Raffel et al., 2020) and one of FineWeb's (Penedo et al., 2024). The judge
follows GPT-3's (Brown et al., 2020, appendix A) and DCLM's (Li et al., 2024).
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scratchlm.text.corpus import hash_runs, normalize, units

Limits = tuple[float, float]  # the least and the most that is allowed

# --- Rules of thumb ----------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What a page is held to, each as (least, most); shares are out of 1."""

    words: Limits = (50, 100_000)
    word_length: Limits = (3, 10)  # characters, on average
    symbols: Limits = (0, 0.1)  # number signs, or ellipses, to a word
    letters: Limits = (0.8, 1)  # words with a letter in them
    stop_words: Limits = (2, 8)  # different ones
    bullets: Limits = (0, 0.9)  # lines that begin with one
    ellipses: Limits = (0, 0.3)  # lines that end with one
    sentences: Limits = (0.12, 1)  # lines that end as sentences do
    code: Limits = (0, 0)  # curly brackets and the like
    repeated_lines: Limits = (0, 0.3)
    repeated_paragraphs: Limits = (0, 0.3)
    top_2: Limits = (0, 0.20)  # characters in the most frequent run of 2
    top_3: Limits = (0, 0.18)
    top_4: Limits = (0, 0.16)
    repeated_5: Limits = (0, 0.15)  # characters in runs of 5 that came before
    repeated_6: Limits = (0, 0.14)
    repeated_7: Limits = (0, 0.13)
    repeated_8: Limits = (0, 0.12)
    repeated_9: Limits = (0, 0.11)
    repeated_10: Limits = (0, 0.10)


STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
BULLET = re.compile(r"[\u2022\u2023\u25e6*-]\s")
ELLIPSIS = ("...", "\u2026")
SENTENCE = re.compile("[.!?\u2026][\"'\u2019\u201d)\\]]*$")
CODE = re.compile(r"[{}]|lorem ipsum|javascript", re.I)


def share(kept: Iterable[bool]) -> float:
    """The share of true values; 0 if there are no values at all.

    >>> share([True, False, False, True]), share([])
    (0.5, 0.0)
    """
    row = list(kept)
    return sum(row) / max(len(row), 1)


def repeated_parts(parts: Sequence[str]) -> float:
    """The share of parts that are equal to an earlier one.

    >>> repeated_parts(["Home", "Shop", "Home", "Home"])
    0.5
    """
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def top_share(words: Sequence[str], n: int) -> float:
    """The characters in the most frequent run of n words, as a share of all.

    A run that occurs only once does not count. Runs may overlap, so the
    share of "ha ha ha ha" is more than 1 for n = 2.

    >>> top_share("buy now and buy now".split(), 2)
    0.8
    """
    runs = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    run, count = max(runs.items(), key=lambda x: x[1], default=((), 0))
    if count < 2:
        return 0.0
    return count * sum(map(len, run)) / sum(map(len, words))


def repeated_share(words: Sequence[str], n: int) -> float:
    """The share of characters in runs of n words that have come before.

    Each character counts once, in however many such runs it occurs.

    >>> repeated_share("buy now and buy now".split(), 2)
    0.4
    """
    seen: set[tuple[str, ...]] = set()
    known = [False] * len(words)
    for i in range(len(words) - n + 1):
        run = tuple(words[i : i + n])
        if run in seen:
            known[i : i + n] = [True] * n
        seen.add(run)
    again = sum(len(word) for word, old in zip(words, known) if old)
    return again / max(sum(map(len, words)), 1)


def measure(text: str) -> dict[str, float]:
    """What the rules ask about a page, by their names.

    The time grows with the length of the text and no faster.

    >>> found = measure("The mill and the bridge.\\n* Home")
    >>> found["words"], found["stop_words"], found["bullets"]
    (7, 2, 0.5)
    """
    words = text.casefold().split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    signs = max(text.count("#"), sum(map(text.count, ELLIPSIS)))
    found = {
        "words": len(words),
        "word_length": sum(map(len, words)) / max(len(words), 1),
        "symbols": signs / max(len(words), 1),
        "letters": share(any(map(str.isalpha, word)) for word in words),
        "stop_words": len(STOP_WORDS.intersection(units(text))),
        "bullets": share(bool(BULLET.match(line)) for line in lines),
        "ellipses": share(line.endswith(ELLIPSIS) for line in lines),
        "sentences": share(bool(SENTENCE.search(line)) for line in lines),
        "code": len(CODE.findall(text)),
        "repeated_lines": repeated_parts(lines),
        "repeated_paragraphs": repeated_parts(paragraphs),
    }
    found |= {f"top_{n}": top_share(words, n) for n in (2, 3, 4)}
    return found | {
        f"repeated_{n}": repeated_share(words, n) for n in range(5, 11)
    }


class Reason(NamedTuple):
    """A rule that a page breaks: what was measured, and what is allowed."""

    rule: str
    value: float
    least: float
    most: float


def reasons(text: str, rules: Rules = Rules()) -> list[Reason]:
    """Why a page is refused: all rules that it breaks; none if it is kept.

    >>> [reason.rule for reason in reasons("Home", Rules(words=(1, 9)))]
    ['stop_words', 'sentences']
    """
    found = measure(text)
    return [
        Reason(rule, found[rule], least, most)
        for rule, (least, most) in vars(rules).items()
        if not least <= found[rule] <= most
    ]


# --- A judge that was shown good text ----------------------------------------


def marks(text: str, buckets: int) -> np.ndarray:
    """The buckets of a text's words and pairs of words: sorted, each once.

    The hash is the same on every machine, which Python's own is not.

    >>> len(marks("the geese are loud", 1 << 16))
    7
    """
    runs = np.concatenate([hash_runs(text, 1), hash_runs(text, 2)])
    return np.unique(runs % np.uint64(buckets)).astype(np.int64)


@dataclass(frozen=True)
class Judge:
    """A weight for each bucket; a page is judged by the sum of its own."""

    weights: np.ndarray  # (buckets,)
    bias: float

    def score(self, text: str) -> float:
        """How likely the text is to be one of the good ones, from 0 to 1."""
        row = marks(text, len(self.weights))
        x = self.weights[row].sum() / max(len(row), 1) ** 0.5 + self.bias
        return float(1 / (1 + np.exp(-x)))


def fit_judge(
    good: Sequence[str],
    heap: Sequence[str],
    buckets: int = 1 << 16,
    steps: int = 200,
    rate: float = 2.0,
) -> Judge:
    """Learn to tell good texts from a heap, by logistic regression.

    A text is a vector of length 1, with equal numbers at its marks. Good
    and heap weigh the same, however many there are of each. Each step goes
    downhill on all texts at once, from weights of zero. Raises ValueError
    if one side is empty.
    """
    if not good or not heap:
        raise ValueError("a judge needs good texts and a heap of others")
    rows = [marks(text, buckets) for text in (*good, *heap)]
    sizes = np.array([max(len(row), 1) for row in rows])
    texts = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    places = np.concatenate(rows)
    values = (sizes**-0.5)[texts]
    wanted = np.arange(len(rows)) < len(good)
    weight = np.where(wanted, 0.5 / len(good), 0.5 / len(heap))
    weights, bias = np.zeros(buckets), 0.0
    for _ in range(steps):
        x = np.bincount(texts, values * weights[places], len(rows)) + bias
        error = weight * (1 / (1 + np.exp(-x)) - wanted)  # (texts,)
        weights -= rate * np.bincount(places, values * error[texts], buckets)
        bias -= rate * float(error.sum())
    return Judge(weights, bias)


def keep_best(scores: Sequence[float], kept: float) -> list[bool]:
    """Which pages are in the best share `kept`; of equals the first.

    Raises ValueError for a share that is not above 0 and at most 1.

    >>> keep_best([0.2, 0.9, 0.4, 0.9], 0.5)
    [False, True, False, True]
    """
    if not 0 < kept <= 1:
        raise ValueError(f"a share to keep is above 0 and at most 1: {kept}")
    order = np.argsort(-np.asarray(scores), kind="stable")
    best = set(order[: round(kept * len(scores))].tolist())
    return [i in best for i in range(len(scores))]


# --- Public tests ------------------------------------------------------------


class Overlap(NamedTuple):
    """A document that holds words of test items: its index, and theirs."""

    document: int
    items: list[int]
    words: str  # the first run that they share


def item_runs(
    items: Iterable[str], size: int = 13, least: int = 8
) -> dict[int, dict[int, set[int]]]:
    """By length: the numbers of the items' runs, and which items have them.

    An item of fewer than `size` words is one run, and one of fewer than
    `least` is left out: such words are found anywhere.

    >>> [len(item_runs(["one two three"], least=n)) for n in (3, 4)]
    [1, 0]
    """
    tables: dict[int, dict[int, set[int]]] = {}
    for index, item in enumerate(items):
        text = normalize(item)
        length = min(size, len(units(text)))
        if length >= least:
            table = tables.setdefault(length, {})
            for run in hash_runs(text, length).tolist():
                table.setdefault(run, set()).add(index)
    return tables


def find_overlaps(
    documents: Iterable[str],
    items: Iterable[str],
    size: int = 13,
    least: int = 8,
) -> Iterator[Overlap]:
    """Documents that share a run of `size` words with an item of a test.

    Capital letters, punctuation and line breaks make no difference. The
    documents stream past, and only the items' runs are kept (Brown et al.,
    2020, appendix C, with runs of 8 to 13 words).
    """
    tables = item_runs(items, size, least)
    for number, document in enumerate(documents):
        text, found, first = normalize(document), set[int](), ""
        for length, table in tables.items():
            for start, run in enumerate(hash_runs(text, length).tolist()):
                if run in table:
                    found |= table[run]
                    last = start + length
                    first = first or " ".join(units(text)[start:last])
        if found:
            yield Overlap(number, sorted(found), first)


# --- Whose text is kept ------------------------------------------------------


class Kept(NamedTuple):
    """How many pages of a group a filter kept, and of how many."""

    kept: int
    total: int

    @property
    def share(self) -> float:
        """The share that was kept."""
        return self.kept / self.total


def kept_by_group(
    groups: Iterable[str], kept: Iterable[bool]
) -> dict[str, Kept]:
    """What a filter kept of each group, in the order of their first pages.

    >>> kept_by_group(["town", "fell", "town"], [True, False, False])
    {'town': Kept(kept=1, total=2), 'fell': Kept(kept=0, total=1)}
    """
    counts: dict[str, Kept] = {}
    for group, stays in zip(groups, kept, strict=True):
        old = counts.get(group, Kept(0, 0))
        counts[group] = Kept(old.kept + stays, old.total + 1)
    return counts


# --- A heap to try it on -----------------------------------------------------

OFFERS = (
    "Buy the best {0} of the web today, and save on {1} with our offer.",
    "Our {0} are loved by customers all over the world!",
    "Order {0} now and get the second {1} for free.",
    "Sign up to our newsletter to hear of new {0} and {1} first.",
    "Shipping is free for orders of {0} that come with {1}.",
    "Read what others have to say of {0}, and rate it with five stars!",
)
NOTICES = (
    "We use cookies to make this site work and to remember your {0}.",
    "By using the site you accept the terms of use and the policy on {0}.",
    "You have the right to ask for a copy of the data that we have of {0}.",
    "All rights reserved; no part of {0} may be copied to another site.",
    "The owner of the site is not to be held liable for errors in {0}.",
    "Please contact the webmaster with any question that concerns {0}.",
)
JUNK = ("menu", "tags", "symbols", "stutter", "shuffled", "shop", "notice")


def web_page(kind: str, story: str, draw: random.Random) -> str:
    """A page of junk of one kind of JUNK, with words of a story in it."""
    words, first = story.split(), story.split("\n")[0]
    some = draw.choices(units(story), k=80)
    if kind == "menu":
        return "\n".join(f"\u2022 {word.capitalize()}" for word in some)
    if kind == "tags":
        return ", ".join(f"{a} {b}" for a, b in zip(some[::2], some[1::2]))
    if kind == "symbols":
        return " ".join(f"#{draw.randrange(999)} {word}" for word in some[:40])
    if kind == "stutter":
        return "\n".join([first] * draw.randrange(4, 8))
    if kind == "shuffled":
        return " ".join(draw.sample(words, len(words))) + "."
    if kind not in JUNK:
        raise ValueError(f"no such kind of page: {kind}")
    forms = OFFERS if kind == "shop" else NOTICES
    chosen = draw.sample(forms, 5)
    return " ".join(form.format(*draw.sample(some, 2)) for form in chosen)
