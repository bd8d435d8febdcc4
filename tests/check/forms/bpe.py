"""Other forms of `bpe` that are right."""

FORMS = {
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
}
