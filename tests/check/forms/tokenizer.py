"""Other forms of `tokenizer` that are right."""

FORMS = {
    "the first place of each rank": """
def encode_short(piece, ranks):
    ids = tuple(piece)
    while True:
        first = {}
        for place in range(len(ids) - 1):
            pair = ids[place], ids[place + 1]
            if pair in ranks:
                first.setdefault(ranks[pair], place)
        if not first:
            return list(ids)
        new, place = min(first.items())
        ids = (*ids[:place], new, *ids[place + 2 :])
""",
    "a heap of pairs": """
def encode_long(piece, ranks):
    ids, end, heap = list(piece), len(piece), []
    back, on = list(range(-1, end - 1)), list(range(1, end + 1))

    def note(i, j):
        if i >= 0 and j < end and (ids[i], ids[j]) in ranks:
            heapq.heappush(heap, (ranks[ids[i], ids[j]], i, j))

    for i in range(end - 1):
        note(i, i + 1)
    while heap:
        new, i, j = heapq.heappop(heap)
        if on[i] != j or ranks.get((ids[i], ids[j])) != new:
            continue
        ids[i], ids[j] = new, None
        on[i] = on[j]
        if on[i] < end:
            back[on[i]] = i
        note(back[i], i)
        note(i, on[i])
    return [token for token in ids if token is not None]
""",
    "special tokens by find": """
def split_special(text, special):
    names, parts, start = set(special) - {""}, [], 0
    while True:
        found = []
        for name in names:
            at = text.find(name, start)
            if at >= 0:
                found.append((at, -len(name), name))
        if not found:
            return [*parts, text[start:]]
        at, _, name = min(found)
        parts.extend((text[start:at], name))
        start = at + len(name)
""",
    "bytes that are held back by hand": """
def decode_bytes(self, ids):
    joined = bytearray()
    for number in map(index, ids):
        if number not in self.tokens:
            raise ValueError(f"there is no token {number}")
        joined += self.tokens[number]
    return bytes(joined)


def decode_stream(self, ids):
    held = b""
    for number in ids:
        held += self.decode_bytes([number])
        text, used = codecs.utf_8_decode(held, "replace", False)
        held = held[used:]
        if text:
            yield text
    if held:
        yield held.decode(errors="replace")


Tokenizer.decode_bytes = decode_bytes
Tokenizer.decode_stream = decode_stream
""",
    "a stream word by word": """
def encode_stream(self, blocks):
    done = 0
    for part in in_parts(blocks, self.pattern):
        for word in pre_tokenize(part, self.pattern):
            check_text(word, done)
            done += len(word)
            yield from self.cache.get(word) or self.encode_word(word)


def encode_ordinary(self, text):
    return [number for number in self.encode_stream(iter([text]))]


Tokenizer.encode_stream = encode_stream
Tokenizer.encode_ordinary = encode_ordinary
""",
}
