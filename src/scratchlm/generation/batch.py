"""Many texts at once: batches whose rows come and go, over blocks of cache.

Every linear layer, norm and feed-forward layer works token by token, and does
not care whose tokens they are; attention alone must know which keys belong to
which text, and where each token is. `by_rows` gives a model that
attention. The keys lie in blocks of one pool, lent to texts and given back
(Kwon et al., 2023), and texts enter and leave between any two steps (Yu et
al., 2022). Blocks that hold the same beginning of a text are shared.

Left out: long prompts read in pieces, blocks moved to a slower memory,
priorities, forks of one text.
"""

import copy
import itertools
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from scratchlm.generation.generate import pad_prompts, window_start
from scratchlm.generation.sampling import SamplingConfig, sample
from scratchlm.model.embeddings import LearnedPositions, Rotary
from scratchlm.model.gpt import GPT, GPTConfig, check_ids
from scratchlm.model.heads import MultiHeadAttention

# --- a pass over rows at different places ------------------------------------


@dataclass(frozen=True)
class Places:
    """Where the tokens of one pass are, and where their keys are kept.

    A slot is the room for one position's keys and values. `positions` and
    `new` are (B, T), for each token: its position in its text, and the slot
    that its keys go to. `slots` (B, S) are those of each text's first S
    positions, and `seen` (B, 1, T, S) says which of them a token may look at.
    """

    positions: Tensor
    new: Tensor
    slots: Tensor
    seen: Tensor


def make_places(
    tables: Sequence[Sequence[int]],
    starts: Tensor,
    counts: Tensor,
    size: int,
    spare: int,
) -> Places:
    """The places of `counts` (B,) new tokens after `starts` (B,) stored ones.

    `tables` names the blocks of `size` slots of each text, in order. Rows
    with fewer tokens than the longest are padded at the end; the padding writes
    to the slot `spare`, which no text reads, and its output is ignored.
    """
    time = torch.arange(int(counts.max()), device=starts.device)
    real = time < counts[:, None]  # (B, T)
    positions = torch.where(real, starts[:, None] + time, 0)
    keys = torch.arange(int((starts + counts).max()), device=starts.device)
    rows = [torch.tensor(table, device=starts.device) for table in tables]
    table = pad_sequence(rows, batch_first=True)  # (B, blocks of the longest)
    slots = table[:, keys // size] * size + keys % size  # (B, S)
    new = torch.where(real, slots.gather(1, positions), spare)
    seen = keys <= positions[..., None]  # causal; hides a shorter text's rest
    return Places(positions, new, slots, seen[:, None])


class SlotStore:
    """A layer's `KVStore` for one pass: keys go to slots, and come from them.

    Takes the place of a `LayerCache`; its `length` is a position for each
    token, since each row has a past of its own.
    """

    def __init__(self, k: Tensor, v: Tensor, places: Places) -> None:
        """The memory of a layer, (slots, K, D) each, and the places in it."""
        self.k, self.v, self.places = k, v, places

    @property
    def length(self) -> Any:
        """The positions of the new tokens: (B, T)."""
        return self.places.positions

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, K, T, D) each; return the texts' own, (B, K, S, D).

        What has overflowed is stored as 0: no mask would hide it from
        other texts, since 0 times NaN is NaN.
        """
        new, slots = self.places.new, self.places.slots
        k, v = (x.nan_to_num(0, posinf=0, neginf=0) for x in (k, v))
        self.k[new], self.v[new] = k.transpose(1, 2), v.transpose(1, 2)
        return self.k[slots].transpose(1, 2), self.v[slots].transpose(1, 2)


class RowPositions(LearnedPositions):
    """A table of learned positions that can be asked for any of its rows."""

    def __init__(self, table: LearnedPositions) -> None:
        """The same weights."""
        nn.Module.__init__(self)
        self.weight = table.weight

    def forward(self, length: int, start: Any = 0) -> Tensor:
        """The rows of positions (B, T), given as `start`: (B, T, C)."""
        return self.weight[start]


class RowAttention(nn.Module):
    """A layer of attention whose rows have places of their own."""

    def __init__(self, layer: MultiHeadAttention) -> None:
        """Take over a layer. It no longer rotates, because we do."""
        super().__init__()
        self.layer, self.rotary = layer, layer.rotary
        layer.rotary = None

    def forward(self, x: Tensor, store: SlotStore) -> Tensor:
        """(B, T, C) → (B, T, C): each token to what its row may see."""
        a = self.layer
        q, k, v = a.split(x, 0)  # (B, H, T, D), (B, K, T, D) twice
        if self.rotary is not None:
            q, k = (rotate(self.rotary, y, store.length) for y in (q, k))
        k, v = store.append(k, v)  # (B, K, S, D)
        grouped = a.heads != a.kv_heads
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=store.places.seen, enable_gqa=grouped
        )  # (B, H, T, D)
        return a.out(attended.transpose(1, 2).flatten(2))


def rotate(rotary: Rotary, x: Tensor, positions: Tensor) -> Tensor:
    """Rotate (B, H, T, D) by the angles of positions (B, T)."""
    if rotary.cos.device != x.device:  # built on meta, and never moved
        rotary.to_empty(device=x.device)
    cos, sin = rotary.cos[positions][:, None], rotary.sin[positions][:, None]
    a, b = x.chunk(2, dim=-1)  # (B, H, T, D / 2) each
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def by_rows(model: GPT) -> GPT:
    """A twin of a model, with its weights, for rows at different places.

    It is called with a `SlotStore` for each layer. Dropout is off, whatever
    mode the model is in. Raises ValueError for attention of another kind.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    if twin.position is not None:
        twin.position = RowPositions(twin.position)
    for block in twin.blocks:
        if type(block.attention) is not MultiHeadAttention:
            raise ValueError(
                f"{type(block.attention).__name__} is not known by rows: "
                "give a model whose layers are MultiHeadAttention"
            )
        block.attention = RowAttention(block.attention)
    return twin.eval()


# --- blocks that texts hold and give back ------------------------------------


class BlockPool:
    """Keys and values of all layers, in blocks of `size` positions.

    A block is free, or held by one text or more. A free one keeps what it
    holds, and its name, until it is taken for something else.
    """

    def __init__(
        self,
        config: GPTConfig,
        blocks: int,
        size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """All blocks free; one more slot, for what nobody reads."""
        self.size, self.spare = size, blocks * size
        shape = (self.spare + 1, config.key_heads, config.channels_per_head)
        self.memory = [
            torch.zeros((2, *shape), dtype=dtype, device=device)
            for _ in range(config.layers)
        ]
        self.holders = [0] * blocks  # how many texts hold each
        self.free = dict.fromkeys(range(blocks))  # longest free first
        self.named: dict[bytes, int] = {}  # name → block
        self.names: dict[int, bytes] = {}  # block → name

    def take(self) -> int:
        """The block that has been free for longest; it loses its name.

        The caller has made sure that there is one.
        """
        block = next(iter(self.free))
        self.named.pop(self.names.pop(block, b""), None)
        self.hold(block)
        return block

    def hold(self, block: int) -> None:
        """One more text holds it."""
        self.free.pop(block, None)
        self.holders[block] += 1

    def give_back(self, blocks: Sequence[int]) -> None:
        """One text fewer holds them; a text's last block is reused first."""
        for block in reversed(blocks):
            self.holders[block] -= 1
            if self.holders[block] == 0:
                self.free[block] = None

    def name(self, block: int, name: bytes) -> None:
        """Let others find a full block, unless they already find another."""
        if name not in self.named and block not in self.names:
            self.named[name], self.names[block] = block, name

    def find(self, names: Sequence[bytes]) -> list[int]:
        """The blocks of as many names as are known, from the first on."""
        known = itertools.takewhile(self.named.__contains__, names)
        return [self.named[name] for name in known]

    def stores(self, places: Places) -> list[SlotStore]:
        """A store for each layer, for one pass."""
        return [SlotStore(k, v, places) for k, v in self.memory]


def block_names(
    tokens: Sequence[int], size: int, salt: str = ""
) -> list[bytes]:
    """A name for each full block of a text: a hash of the text up to its end.

    Keys depend on all tokens before them, so a name does too. Texts with
    different salts have no name in common.

    >>> one = block_names([1, 2, 3, 4, 5], size=2)
    >>> other = block_names([1, 2, 4, 4], size=2)
    >>> len(one), one[0] == other[0], one[1] == other[1]
    (2, True, False)
    """
    names, last = [], sha256(salt.encode()).digest()
    for end in range(size, len(tokens) + 1, size):
        part = array("q", tokens[end - size : end]).tobytes()
        last = sha256(last + part).digest()
        names.append(last)
    return names


# --- texts that come and go --------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What is wanted of a text; each has its own settings and randomness.

    Beginnings of texts are shared among requests with the same `salt`.
    """

    new_tokens: int = 64
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0
    stop_id: int | None = None
    salt: str = ""


class Written(NamedTuple):
    """A token, and its text; `finish` is stop or length at the text's end.

    It is failed if the model's scores were not numbers; the token then means
    nothing. `logprobs` (V,) are the model's, before any setting.
    """

    id: int
    token: int
    logprobs: Tensor
    finish: str | None

    @property
    def logprob(self) -> float:
        """The log-probability of the token."""
        return float(self.logprobs[self.token])


@dataclass(eq=False)
class Row:
    """A text that is being written, and the blocks that it holds."""

    id: int
    tokens: list[int]  # the prompt, and what was written
    request: Request
    generator: torch.Generator
    written: int = 0  # tokens
    start: int = 0  # the first token in view, see window_start
    stored: int = 0  # positions from there on whose keys are kept
    blocks: list[int] = field(default_factory=list)
    shared: int = 0  # how many of its blocks have been given names

    @property
    def view(self) -> list[int]:
        """The tokens that the model can still read."""
        return self.tokens[self.start :]

    @property
    def pending(self) -> list[int]:
        """Those of them that it has not read."""
        return self.tokens[self.start + self.stored :]


class Engine:
    """Writes many texts at once; they come and go between any two steps.

    `add` and `cancel` may be called from any thread, since they only leave a
    note; one thread alone calls `step`, again and again. The greedy text of
    a row is the one that `generate` writes, up to the order of sums.
    """

    def __init__(
        self,
        model: GPT,
        blocks: int = 256,
        block_size: int = 16,
        rows: int = 16,
        continuous: bool = True,
    ) -> None:
        """Memory for `blocks` · `block_size` positions, and at most `rows`.

        If not `continuous`, it lets nobody in until all others are done.
        """
        if min(blocks, block_size, rows) < 1:
            raise ValueError("choose 1 or more for blocks, block_size and rows")
        weight = next(model.parameters())
        self.model, self.config = by_rows(model), model.config
        self.pool = BlockPool(
            self.config, blocks, block_size, weight.dtype, weight.device
        )
        self.rows, self.continuous = rows, continuous
        self.device = weight.device
        self.ids = itertools.count()
        self.incoming: deque[Row] = deque()  # notes, for the next step
        self.cancelled: deque[int] = deque()
        self.waiting: deque[Row] = deque()  # the next one is first
        self.running: list[Row] = []  # the oldest first
        self.unsent: list[Written] = []  # of a step that failed later on
        self.tokens_read = 0

    @property
    def busy(self) -> bool:
        """Whether there is anything left to write, or to hand out."""
        waiting = self.incoming or self.waiting
        return bool(waiting or self.running or self.unsent)

    def add(self, tokens: Sequence[int], request: Request | None = None) -> int:
        """Ask for a text's continuation; returns the id that its tokens bear.

        Raises ValueError for ids that the model does not know, for no token
        at all, and for what could never fit into the pool.
        """
        request = request or Request()
        check_ids(torch.tensor([list(tokens)]), self.config.vocab_size)
        if request.new_tokens < 1:
            raise ValueError("ask for 1 new token or more")
        longest = len(tokens) + request.new_tokens - 1
        needed = self.blocks_for(min(longest, self.config.context))
        if needed > len(self.pool.holders):
            raise ValueError(
                f"this text may need {needed} blocks, there are "
                f"{len(self.pool.holders)}: ask for fewer tokens, or build "
                "the engine with more blocks"
            )
        generator = torch.Generator(self.device).manual_seed(request.seed)
        row = Row(next(self.ids), list(tokens), request, generator)
        self.incoming.append(row)
        return row.id

    def cancel(self, id: int) -> None:
        """Let a text go, whether it waits or is being written."""
        self.cancelled.append(id)

    def blocks_for(self, length: int) -> int:
        """How many blocks hold so many positions."""
        return -(-length // self.pool.size)

    def step(self) -> list[Written]:
        """One token for each text that has room; finished texts leave.

        What was written before a step failed comes with the next one.
        """
        self.read_notes()
        self.admit()
        for row in list(self.running):
            self.make_room(row)
        short = [row for row in self.running if len(row.pending) == 1]
        long = [row for row in self.running if len(row.pending) > 1]
        for group in (short, long):  # so that no one pads the others
            if group:
                self.write(group)
        return self.hand_out()

    def hand_out(self) -> list[Written]:
        """What has been written, each token once."""
        written, self.unsent = self.unsent, []
        return written

    def read_notes(self) -> None:
        """New texts since the last step wait; cancelled ones leave."""
        gone: set[int] = set()  # first, since all of these came before
        while self.cancelled:
            gone.add(self.cancelled.popleft())
        while self.incoming:
            self.waiting.append(self.incoming.popleft())
        for row in [r for r in self.running if r.id in gone]:
            self.leave(row)
        self.waiting = deque(r for r in self.waiting if r.id not in gone)

    def admit(self) -> None:
        """Let texts in, in order, while there is room.

        Blocks whose names are known need not be read again, except for the
        last token, whose scores are wanted. One block for each row that is
        running stays free, for it to grow.
        """
        if self.running and not self.continuous:
            return
        while self.waiting and len(self.running) < self.rows:
            row, size = self.waiting[0], self.pool.size
            row.start = window_start(len(row.tokens), self.config.context)
            names = block_names(row.view[:-1], size, row.request.salt)
            found = self.pool.find(names)
            fresh = self.blocks_for(len(row.view)) - len(found)
            taken = sum(block in self.pool.free for block in found)
            if fresh + taken + len(self.running) > len(self.pool.free):
                return
            for block in found:
                self.pool.hold(block)
            row.blocks = found + [self.pool.take() for _ in range(fresh)]
            row.stored, row.shared = len(found) * size, len(found)
            self.running.append(self.waiting.popleft())

    def make_room(self, row: Row) -> None:
        """Blocks for a row's pending tokens; the youngest row may lose its own.

        A row that loses them waits again, ahead of all others, and is reread.
        """
        if not row.pending:  # everything was read, but no token was chosen
            row.stored -= 1
        start = window_start(len(row.tokens), self.config.context)
        if start != row.start:  # other positions: nothing stored is right
            self.forget(row)
            row.start = start
        while row in self.running:
            if self.blocks_for(len(row.view)) <= len(row.blocks):
                return
            if self.pool.free:
                row.blocks.append(self.pool.take())
            else:
                youngest = self.running[-1]
                self.leave(youngest)
                self.waiting.appendleft(youngest)

    @torch.no_grad()
    def logits(self, rows: Sequence[Row]) -> Tensor:
        """Scores of each row's next token: (B, V). Reads what is pending."""
        ids, counts = pad_prompts([row.pending for row in rows])
        ids, counts = ids.to(self.device), counts.to(self.device)
        places = make_places(
            [row.blocks for row in rows],
            torch.tensor([row.stored for row in rows], device=self.device),
            counts,
            self.pool.size,
            self.pool.spare,
        )
        x = self.model.features(ids, self.pool.stores(places))  # (B, T, C)
        for row in rows:
            self.tokens_read += len(row.pending)
            row.stored += len(row.pending)
        last = torch.arange(len(rows), device=self.device), counts - 1
        return self.model.head(x[last])

    def write(self, rows: Sequence[Row]) -> None:
        """Read, choose, append, for rows with room: a token for each."""
        logits = self.logits(rows)
        logprobs = logits.float().log_softmax(dim=-1)
        broken = logits.isnan().any(dim=-1).tolist()
        for row, scores, logs, fails in zip(rows, logits, logprobs, broken):
            self.share(row)
            token = 0 if fails else self.choose(row, scores)
            row.tokens.append(token)
            row.written += 1
            finish = None
            if fails:  # alone: the others go on
                finish = "failed"
            elif token == row.request.stop_id:
                finish = "stop"
            elif row.written == row.request.new_tokens:
                finish = "length"
            if finish is not None:
                self.leave(row)
            self.unsent.append(Written(row.id, token, logs, finish))

    def choose(self, row: Row, scores: Tensor) -> int:
        """The next token of a row from its scores (V,), by its settings."""
        settings, seen = row.request.sampling, None
        if settings.repetition_penalty != 1:
            seen = torch.tensor([row.tokens], device=self.device)
        return int(sample(scores[None], settings, row.generator, seen))

    def share(self, row: Row) -> None:
        """Give names to the blocks that are full."""
        full = row.stored // self.pool.size
        if full > row.shared:
            stored = row.view[: row.stored]
            names = block_names(stored, self.pool.size, row.request.salt)
            for block, name in zip(row.blocks, names):
                self.pool.name(block, name)
            row.shared = full

    def leave(self, row: Row) -> None:
        """Take a row out of the running ones, and its blocks from it."""
        self.running.remove(row)
        self.forget(row)

    def forget(self, row: Row) -> None:
        """Give a row's blocks back."""
        self.pool.give_back(row.blocks)
        row.blocks, row.stored, row.shared = [], 0, 0


def write_all(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    requests: Sequence[Request],
) -> list[list[int]]:
    """What is written after each prompt, as its request wants it.

    Raises RuntimeError for a text whose scores are not numbers.
    """
    texts: dict[int, list[int]] = {}
    for prompt, request in zip(prompts, requests, strict=True):
        texts[engine.add(prompt, request)] = []
    while engine.busy:
        for new in engine.step():
            if new.id in texts:  # others may have been there before
                if new.finish == "failed":
                    raise RuntimeError(f"text {new.id} has no scores, but NaN")
                texts[new.id].append(new.token)
    return list(texts.values())
