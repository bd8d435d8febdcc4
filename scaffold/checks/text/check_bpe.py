"""What learning byte pairs must do."""

from collections import Counter
from collections.abc import Callable

from scratchlm.text import bpe

from ..expect import equal, grows, raises, true

CLASSIC = Counter({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3})


def few_of_many(merges: int) -> Callable[[], object]:
    """So many merges to learn, of which thousands of words have none."""
    letters = bytes.maketrans(b"0123456789", b"abcdefghij")
    words = {str(100_000 + 7919 * i).encode(): 1 for i in range(3000)}
    for i in range(40):
        words[str(7919 * i**3).encode().translate(letters)] = 1000
    return lambda: bpe.learn_merges(Counter(words), merges)


def check_words_joined_are_the_text() -> None:
    """Cutting loses nothing, and spaces go with the word behind them."""
    text = "Mrs Pell counts 12 loaves,  then\n\nrests."
    words = bpe.pre_tokenize(text)
    equal("".join(words), text, "the words, joined")
    equal(
        words[:3],
        ["Mrs", " Pell", " counts"],
        "the first three words",
        hint="a space belongs to the word behind it",
    )


def check_what_a_pattern_leaves_out_is_kept() -> None:
    """A pattern of words alone still gives the spaces and the comma."""
    equal(
        bpe.pre_tokenize("two loaves, please", r"\w+"),
        ["two", " ", "loaves", ", ", "please"],
        "the words of a pattern with gaps",
        hint="what stands between two matches is a piece of its own",
    )


def check_pairs_are_counted_with_their_words() -> None:
    """A pair counts as often as its word occurs, overlaps included."""
    equal(
        dict(bpe.count_pairs([([1, 2, 1, 2], 10), ([1, 1, 1], 3)])),
        {(1, 2): 20, (2, 1): 10, (1, 1): 6},
        "the pairs of 1212 ten times and 111 three times",
        hint="add the count of the word, not one",
    )


def check_the_first_merges_of_the_classic_example() -> None:
    """low ×5, lower ×2, newest ×6, widest ×3: es, est, lo, low."""
    for name, learn in (
        ("learn_merges_naive", bpe.learn_merges_naive),
        ("learn_merges", bpe.learn_merges),
    ):
        equal(
            bpe.spell(learn(CLASSIC, 4))[256:],
            [b"es", b"est", b"lo", b"low"],
            f"the first merges ({name})",
            hint="es and st occur nine times each; the smaller pair wins",
        )


def check_merging_goes_from_the_left() -> None:
    """Three equal tokens become a pair and one, not one and a pair."""
    equal(
        bpe.merge_word([1, 1, 1, 2, 1, 1], (1, 1), 9),
        [9, 1, 2, 9],
        "111211 with 11 merged",
    )


def check_the_fast_form_is_the_naive_form() -> None:
    """On runs of one letter, where pairs overlap, both agree."""
    words = Counter({b"aaaa": 3, b"aaab": 2, b"abab": 2, b"babaa": 1})
    naive = bpe.learn_merges_naive(words, 12)
    equal(
        bpe.learn_merges(words, 12),
        naive,
        "the merges of aaaa, aaab, abab, babaa",
        hint="a merge changes the counts of the pairs beside it, too",
    )
    true(len(naive) < 12, "learning stops when no pair is left")
    grows(
        few_of_many,
        10,
        "the time for twice as many merges, in few of many words",
        most=1.6,
        hint="touch only the words that hold the pair, and count no pair again",
    )


def check_ties_do_not_depend_on_the_order_of_words() -> None:
    """Equal counts: the smaller pair, whatever was counted first."""
    one = Counter({b"zy": 3, b"ba": 3})
    two = Counter({b"ba": 3, b"zy": 3})
    for words in (one, two):
        for learn in (bpe.learn_merges_naive, bpe.learn_merges):
            equal(
                learn(words, 2),
                [(98, 97), (122, 121)],
                "the merges of zy and ba, three times each",
                hint="order pairs by (−count, pair)",
            )


def check_parts_have_the_words_of_the_text() -> None:
    """Blocks are joined to parts, and no word is cut where a block ends."""
    text = "The baker, the smith\u2019s é\n\n and 12 loaves. " * 3
    for pattern in (bpe.PATTERN, bpe.GPT2_PATTERN, r"\w+"):
        wanted = bpe.pre_tokenize(text, pattern)
        for size in (1, 2, 5, 400):
            blocks = [text[i : i + size] for i in range(0, len(text), size)]
            parts = list(bpe.in_parts(blocks, pattern))
            equal("".join(parts), text, f"parts joined, blocks of {size}")
            words = [
                w for part in parts for w in bpe.pre_tokenize(part, pattern)
            ]
            equal(words, wanted, f"words of the parts, blocks of {size}")
    few = list(bpe.in_parts(["The ba", "ker, the sm", "ith"]))
    equal(few, ["The", " baker, the", " smith"], "parts of three blocks")
    equal(list(bpe.in_parts([])), [], "parts of nothing")
    long = "a" * (2 * bpe.BLOCK + 1)
    sizes = [len(block) for block in bpe.in_blocks(long)]
    equal(sizes, [bpe.BLOCK, bpe.BLOCK, 1], "characters in blocks")


def check_words_are_counted() -> None:
    """As bytes, over all texts; a very long one in pieces of 50."""
    equal(
        dict(bpe.count_words(["so so", "so é"])),
        {b"so": 2, b" so": 1, " é".encode(): 1},
        "the words of two texts",
    )
    equal(
        dict(bpe.count_words(["é" * 120])),
        {("é" * 50).encode(): 2, ("é" * 20).encode(): 1},
        "a word of 120 letters",
    )
    cut = bpe.count_words(["a b"], r"[a-z]+")
    equal(
        dict(cut), {b"a": 1, b" ": 1, b"b": 1}, "the words of another pattern"
    )
    raises(ValueError, lambda: bpe.count_words(["\ud800"]), "half a pair")
    true(
        bpe.unicode_version() in (*bpe.NEW_LETTERS, "older"),
        "the version of Unicode is one of those known",
    )


BUGS = {
    "gaps of the pattern are lost": (
        "words += [text[end : match.start()], match[0]]",
        "words += [match[0]]",
    ),
    "a pair counts once for each word": (
        "            pairs[pair] += count\n",
        "            pairs[pair] += 1\n",
    ),
    "ties go to the pair that was seen first": (
        "best = min(pairs, key=lambda pair: (-pairs[pair], pair))",
        "best = min(pairs, key=lambda pair: -pairs[pair])",
    ),
    "the pair to the left keeps its count": (
        "                counts[left, first] -= times\n",
        "",
    ),
    "the new pair to the right is not counted": (
        "                counts[new, right] += times\n",
        "",
    ),
    "an old entry of the heap is believed": (
        "if now == -count:",
        "if now:",
    ),
    "merging skips the token behind": (
        "            merged.append(new)\n            i += 2\n",
        "            merged.append(new)\n            i += 3\n",
    ),
    "a part ends where its block ends": (
        "held, block = [], block[at:]",
        "yield block[at:]\n            held, block = [], ''",
    ),
    "the last part is lost": (
        "    if any(held):\n        yield",
        "    if not held:\n        yield",
    ),
    "a word counts once": (
        "words[word[start : start + LONGEST].encode()] += count",
        "words[word[start : start + LONGEST].encode()] += 1",
    ),
    "a long word is cut short": (
        "for start in range(0, len(word), LONGEST):",
        "for start in range(0, 1):",
    ),
    "words are always cut by the usual pattern": (
        "counts.update(pre_tokenize(part, pattern))",
        "counts.update(pre_tokenize(part))",
    ),
}
