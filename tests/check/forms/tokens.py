"""Other forms of `tokens` that are right."""

FORMS = {
    "a file mapped as bytes": """
def open_tokens(path, fingerprint=None):
    import mmap

    def need(holds, problem):
        if not holds:
            raise TokenFileError(f"{path} {problem}")

    head = read_bytes(path, HEADER.size)
    need(len(head) == HEADER.size, "has no header")
    magic, version, width, vocab_size, count, seal = HEADER.unpack(head)
    kind = token_type(vocab_size)
    need(magic == MAGIC, "is no token file")
    need(version == VERSION, f"has version {version}, not {VERSION}")
    need(width == kind.itemsize, f"says {width} bytes for a token")
    size = HEADER.size + width * count
    need(Path(path).stat().st_size == size, f"should have {size} bytes")
    need(fingerprint in (None, seal.hex()), "is of another tokenizer")
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tokens = np.frombuffer(mapped, kind, count, HEADER.size)
    return TokenFile(tokens, vocab_size, seal.hex())
""",
    "a class that writes a file": """
class token_writer:
    def __init__(self, path, vocab_size, fingerprint):
        self.path, self.about = path, (vocab_size, fingerprint)

    def __enter__(self):
        from contextlib import ExitStack

        with ExitStack() as stack:
            partial = stack.enter_context(replacing(self.path))
            file = stack.enter_context(open(partial, "wb"))
            self.writer = TokenWriter(file, *self.about)
            stack.push(self.close)
            self.stack = stack.pop_all()
        return self.writer

    def close(self, kind, error, trace):
        if kind is None:
            self.writer.finish()

    def __exit__(self, *error):
        return self.stack.__exit__(*error)
""",
    "tokens and header as bytes": """
def append(self, ids):
    row = np.asarray(ids)
    if row.ndim != 1:
        raise ValueError("tokens are one row")
    if row.size == 0:
        return
    if row.dtype.kind not in ("i", "u"):
        raise ValueError("tokens are whole numbers")
    if int(row.min()) < 0 or int(row.max()) > self.vocab_size - 1:
        raise ValueError("a token is not in the vocabulary")
    self.file.write(row.astype(self.kind).tobytes())
    self.count += len(row)


def finish(self):
    numbers = (VERSION, 4), (self.kind.itemsize, 4), (self.vocab_size, 8)
    self.file.seek(0)
    self.file.write(MAGIC)
    for number, size in (*numbers, (self.count, 8)):
        self.file.write(int(number).to_bytes(size, "little"))
    self.file.write(self.seal)


TokenWriter.append, TokenWriter.finish = append, finish
""",
    "an order by another generator": """
def start_epoch(self, epoch, used=0):
    from random import Random

    dice = Random(f"{self.seed} {epoch}")
    first, end = dice.randrange(self.context), len(self.tokens) - self.context
    self.starts = list(range(first, end, self.context))
    dice.shuffle(self.starts)
    self.epoch, self.used = epoch, used


def next_start(self):
    try:
        start = self.starts[self.used]
    except IndexError:
        self.start_epoch(self.epoch + 1)
        start = self.starts[0]
    self.used += 1
    return start


BatchCursor.start_epoch = start_epoch
BatchCursor.next_start = next_start
""",
    "batches row by row, a state of other names": """
def next_batch(self):
    x = torch.zeros(self.batch_size, self.context, dtype=torch.int64)
    y = torch.zeros_like(x)
    for into, ahead in zip(x, y):
        start = self.next_start()
        window = self.tokens[start : start + self.context + 1]
        row = torch.tensor(np.asarray(window, dtype=np.int64))
        into[:], ahead[:] = row[:-1], row[1:]
    return x, y


def state_dict(self):
    here = {"round": self.epoch, "windows done": self.used}
    return here | {f"of {k}": v for k, v in facts(self).items()}


def load_state_dict(self, state):
    for name, value in facts(self).items():
        if state[f"of {name}"] != value:
            raise ValueError(f"another {name}: {value}")
    self.start_epoch(state["round"], used=state["windows done"])


def facts(cursor):
    count = len(cursor.tokens)
    return dict(seed=cursor.seed, context=cursor.context, tokens=count)


for part in (next_batch, state_dict, load_state_dict):
    setattr(BatchCursor, part.__name__, part)
""",
}
