"""Other forms of `generate` that are right."""

FORMS = {
    "a window that hops in a loop": """
def window_start(length, context):
    start = 0
    while length - start > context:
        start += max(1, context // 2)
    return start
""",
    "lengths looked at one by one": """
def check_lengths(ids, lengths):
    rows, longest = ids.shape
    if lengths is None:
        lengths = torch.tensor([longest] * rows)
    fits = lengths.ndim == 1 and len(lengths) == rows
    if not fits or any(not 1 <= n <= longest for n in lengths.tolist()):
        raise ValueError(f"{rows} lengths from 1 to {longest} are needed")
    return lengths.to(device=ids.device)
""",
    "a cache for a whole context": """
def make_cache(model, ids, new_tokens):
    weight = model.head.weight
    return KVCache(
        model.config, len(ids), model.config.context,
        dtype=weight.dtype, device=weight.device,
    )
""",
    "prompts read on row by row": """
def read_on(new, prompts, lengths, place):
    new = new.clone()
    reading = torch.zeros(len(new), dtype=torch.bool, device=new.device)
    for row in range(len(new)):
        if place < int(lengths[row]):
            new[row] = prompts[row, place]
            reading[row] = True
    return new, reading
""",
    "a generator with other names": """
@torch.no_grad()
def generate(model, ids, new_tokens, sampling=None, generator=None,
             stop_id=None, cached=True, step=next_logits, lengths=None):
    check_ids(ids, model.config.vocab_size)
    lengths = check_lengths(ids, lengths)
    text = ids[:, : int(lengths.min())]
    memory = make_cache(model, text, new_tokens) if cached else None
    begun, ended = 0, [False] * len(ids)
    while new_tokens > 0 and not all(ended):
        new_tokens -= 1
        begin = window_start(text.shape[1], model.config.context)
        if begin != begun and memory is not None:
            memory.rewind()
        begun, held = begin, memory.length if memory is not None else 0
        scores = step(model, text[:, begin + held :], memory)
        said = sample(scores, sampling or SamplingConfig(), generator,
                      seen=text)
        if stop_id is not None:
            past = torch.tensor(ended, device=said.device)
            said = torch.where(past, torch.full_like(said, stop_id), said)
        said, reading = read_on(said, ids, lengths, text.shape[1])
        if stop_id is not None:
            ended = ((said == stop_id) & ~reading).tolist()
        yield said
        text = torch.hstack([text, said.unsqueeze(1)])
""",
}
