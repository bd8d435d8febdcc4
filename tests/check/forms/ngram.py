"""Other forms of `ngram` that are right."""

FORMS = {
    "windows by a product with powers": """
def windows(self, ids):
    row = np.asarray(ids, dtype=np.int64)
    if np.any((row < 0) | (row >= self.vocab_size)):
        raise ValueError("a token is not in the vocabulary")
    if len(row) < self.order:
        raise ValueError("the text is shorter than a window")
    exponents = np.arange(self.order, dtype=np.int64)[::-1]
    view = np.lib.stride_tricks.sliding_window_view(row, self.order)
    return view @ int(self.vocab_size) ** exponents


NGram.windows = windows
""",
    "counting in dictionaries": """
def fit(self, ids):
    seen, begun = {}, {}
    for gram in self.windows(ids).tolist():
        context = gram // self.vocab_size
        seen[gram] = seen.get(gram, 0) + 1
        begun[context] = begun.get(context, 0) + 1
    self.grams, self.counts = np.array(sorted(seen.items()), np.int64).T
    self.contexts, self.totals = np.array(sorted(begun.items()), np.int64).T
    return self


NGram.fit = fit
""",
    "shares one by one": """
def probability(self, grams: np.ndarray) -> np.ndarray:
    k, v = self.smoothing, self.vocab_size
    seen = dict(zip(self.grams.tolist(), self.counts.tolist()))
    begun = dict(zip(self.contexts.tolist(), self.totals.tolist()))
    shares = np.empty(len(grams))
    for place, gram in enumerate(np.asarray(grams).tolist()):
        total = begun.get(gram // v, 0)
        shares[place] = (seen.get(gram, 0) + k) / (total + k * v)
    return shares


NGram.probability = probability
""",
    "all continuations in one row": """
def nats(self, ids):
    total = 0.0
    shares = self.probability(self.windows(ids))
    for share in shares:
        total -= float(np.log(share))
    return total / len(shares)


def next_probabilities(self, context):
    needed = self.order - 1
    if len(context) < needed:
        raise ValueError(f"{needed} tokens are needed")
    text = np.empty((self.vocab_size, self.order), np.int64)
    text[:, :needed] = context[len(context) - needed :]
    text[:, needed] = range(self.vocab_size)
    return self.probability(self.windows(text.ravel())[:: self.order])


NGram.nats = nats
NGram.next_probabilities = next_probabilities
""",
    "all scores, then the least": """
def choose_ngram(ids, vocab_size, orders):
    from itertools import product

    row = np.asarray(ids)
    tenth = -(-len(row) // 10)
    rest, last = row[: len(row) - tenth], row[len(row) - tenth :]
    scores = {}
    for order, smoothing in product(orders, SMOOTHINGS):
        model = NGram(order, vocab_size, smoothing)
        scores[order, smoothing] = model.fit(rest).nats(last)
    order, smoothing = min(scores, key=scores.__getitem__)
    return NGram(order, vocab_size, smoothing).fit(row)
""",
}
