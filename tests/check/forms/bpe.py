"""Other forms of `bpe` that are right."""

FORMS = {
    "a word as a tuple": """
def merge_word(word, pair, new):
    merged, rest = (), tuple(word)
    while rest:
        found = rest[:2] == tuple(pair)
        merged += (new,) if found else rest[:1]
        rest = rest[2 if found else 1:]
    return merged
""",
    "merging by recursion": """
def merge_word(word, pair, new):
    if len(word) < 2:
        return list(word)
    if (word[0], word[1]) == tuple(pair):
        return [new, *merge_word(word[2:], pair, new)]
    return [word[0], *merge_word(word[1:], pair, new)]
""",
    "pairs counted by index": """
def count_pairs(words):
    found = {}
    for word, count in words:
        for i in range(len(word) - 1):
            pair = (word[i], word[i + 1])
            found[pair] = found.get(pair, 0) + count
    return Counter(found)
""",
    "words between two cuts": """
def pre_tokenize(text, pattern=PATTERN):
    cuts = [0]
    for match in regex.finditer(pattern, text):
        cuts += match.span()
    cuts.append(len(text))
    return [text[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]
""",
    "whole words counted off and on": """
def learn_merges(words: Counter[bytes], merges: int) -> list[Pair]:
    split = [list(word) for word in words]
    pairs, places, learned = Counter(), defaultdict(set), []

    def count(i, often):
        for pair in zip(split[i], split[i][1:]):
            pairs[pair] += often
            places[pair].add(i)

    times = list(words.values())
    for i, often in enumerate(times):
        count(i, often)
    for new in range(256, 256 + merges):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 1:
            break
        learned.append(best)
        for i in places.pop(best):
            count(i, -times[i])
            split[i] = merge_word(split[i], best, new)
            count(i, times[i])
    return learned
""",
    "what a merge changes as a difference": """
def merge_in(self, i, pair, new, grown):
    old = self.words[i]
    word = merge_word(old, pair, new)
    change = Counter(zip(word, word[1:]))
    change.subtract(zip(old, old[1:]))
    for other, more in change.items():
        self.counts[other] += more * self.times[i]
        if more > 0:
            self.places[other].add(i)
            grown.add(other)
    self.words[i] = word


PairIndex.merge_in = merge_in
""",
}
