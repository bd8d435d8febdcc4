"""Other forms of `perplexity` that are right."""

FORMS = {
    "a sum divided once": """
def evaluate(model, tokens, context, batch_size=32, stride=None,
             precision="float32"):
    losses = token_losses(
        model, tokens, context, batch_size, stride, precision
    ).tolist()
    return Evaluation(math.fsum(losses) / len(losses), len(losses))
""",
    "how often each document is drawn": """
def bootstrap(documents, level=0.95, samples=1000):
    n = len(documents)
    if n <= 1:
        raise ValueError("it takes two documents to differ")
    chance, means = np.random.default_rng(7), np.empty(samples)
    for i in range(samples):
        often = np.bincount(chance.integers(n, size=n), minlength=n)
        nats, tokens = often @ documents
        means[i] = nats / tokens
    out = 50 * (1 - level)
    low, high = np.percentile(means, (out, 100 - out)).tolist()
    return low, high
""",
    "bits by a logarithm": """
def bits_per_byte(nats_total, size):
    if not size >= 1:
        raise ValueError("a text without a byte has no bits")
    return nats_total * math.log2(math.e) / size
""",
    "places with a step": """
def by_position(losses, context):
    places = min(context, len(losses))
    return losses.new_tensor(
        [losses[place::context].double().mean() for place in range(places)]
    )
""",
    "the row cut behind each end": """
def by_document(losses, targets, end_id):
    nats = losses.double().numpy()
    cuts = np.flatnonzero(np.asarray(targets) == end_id) + 1
    parts = [part for part in np.split(nats, cuts) if part.size]
    return np.reshape([(part.sum(), part.size) for part in parts], (-1, 2))
""",
}
