"""Other forms of `instruct` that are right."""

FORMS = {
    "a dialogue with a list of who speaks": """
def make_example(tokenizer, turns):
    pairs = []
    for turn in turns:
        asked = len(encode_request(tokenizer, turn.request))
        for place, token in enumerate(encode_turn(tokenizer, turn)):
            pairs.append((token, place >= asked))
    ids = [token for token, _ in pairs]
    targets = [token if own else IGNORED for token, own in pairs]
    return Example(ids[:-1], targets[1:])
""",
    "a prompt in a generator": """
def encode_request(tokenizer, request, before=()):
    def parts():
        for turn in before:
            yield from encode_turn(tokenizer, turn)
        yield tokenizer.special_tokens["<|user|>"]
        yield from tokenizer.encode_ordinary(request)
        yield tokenizer.special_tokens["<|assistant|>"]

    return list(parts())
""",
    "new rows by expanding": """
def widen(model, vocab_size):
    more = vocab_size - model.config.vocab_size
    if more < 0:
        raise ValueError("the vocabulary would become smaller")
    wider = GPT(replace(model.config, vocab_size=vocab_size))
    weights = dict(model.state_dict())
    for name in ("token.weight", "head.weight"):
        old = weights[name]
        new = old.mean(0).expand(more, -1)
        weights[name] = torch.vstack([old, new])
    wider.load_state_dict(weights)
    wider.train(model.training)
    return wider
""",
    "marks added one by one": """
def with_marks(tokenizer):
    special = dict(tokenizer.special_tokens)
    number = tokenizer.vocab_size
    for mark in ("<|user|>", "<|assistant|>", "<|end|>"):
        special[mark] = number
        number += 1
    return Tokenizer(tokenizer.merges, special, tokenizer.pattern)
""",
    "each prompt by itself": """
def ask(model, tokenizer, prompts, new_tokens, stop_id, sampling=None,
        generator=None):
    how = sampling or SamplingConfig(temperature=0)
    replies = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        steps = generate(model, ids, new_tokens, how, generator, stop_id)
        said = [int(step[0]) for step in steps]
        replies.append(read_reply(tokenizer, said, stop_id))
    return replies
""",
}
