"""What a batch whose rows come and go must do."""

import torch

from scratchlm.generation import batch
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config

from ..expect import close, equal, raises, true
from ..inputs import scattered

GREEDY = SamplingConfig(temperature=0)
DRAWN = SamplingConfig(temperature=1.0, top_k=8)
MOST = 300  # steps; no text of these checks needs as many


def mixer(config: GPTConfig) -> GPT:
    """A model in which every token depends on all before it."""
    return scattered(GPT(config).eval(), 0.42)


def models() -> dict[str, GPT]:
    """One with learned positions, one that rotates and shares its keys."""
    return {
        "learned positions": mixer(gpt2_config(11, 16, 2, 2, 8)),
        "rotary positions": mixer(llama_config(11, 16, 2, 4, 16, kv_heads=2)),
    }


def prompts() -> list[list[int]]:
    """Prompts of 1, 6, 3, 9 and 4 tokens."""
    return [
        [5],
        [1, 7, 2, 9, 4, 4],
        [8, 0, 3],
        [2, 2, 6, 1, 10, 5, 3, 9, 7],
        [1, 7, 2, 9],
    ]


def alone(model: GPT, prompt: list[int], request: batch.Request) -> list[int]:
    """What `generate` writes for this prompt and nobody else."""
    steps = generate(
        model,
        torch.tensor([prompt]),
        request.new_tokens,
        request.sampling,
        torch.Generator().manual_seed(request.seed),
        request.stop_id,
    )
    return [int(step) for step in steps]


def written(
    engine: batch.Engine, asked: list[tuple[list[int], batch.Request]]
) -> list[list[int]]:
    """What the engine writes for each, all added before the first step."""
    texts: dict[int, list[int]] = {}
    for prompt, request in asked:
        texts[engine.add(prompt, request)] = []
    for _ in range(MOST):
        for new in engine.step():
            texts[new.id].append(new.token)
    true(
        not engine.busy,
        f"all is written after {MOST} steps",
        hint="a prompt whose blocks are all found must read its last token "
        "again; blocks must be given back",
    )
    return list(texts.values())


def check_places_by_hand() -> None:
    """Two texts: 3 tokens stored in blocks 2 and 0 and one new; two new."""
    places = batch.make_places(
        [[2, 0], [1]], torch.tensor([3, 0]), torch.tensor([1, 2]), 2, 8
    )
    equal(places.positions.tolist(), [[3, 0], [0, 1]], "positions")
    equal(
        places.new.tolist(),
        [[1, 8], [2, 3]],
        "slots that the new keys go to",
        hint="position p is in slot p % size of block table[p // size]; "
        "padding goes to the spare slot",
    )
    equal(
        places.slots[0].tolist(), [4, 5, 0, 1], "slots of the first text's keys"
    )
    equal(
        places.seen[1, 0].int().tolist(),
        [[1, 0, 0, 0], [1, 1, 0, 0]],
        "what the two tokens of the second text may look at",
        hint="each sees its own text up to itself, however long others are",
    )


def check_alone_and_together() -> None:
    """Five prompts in a batch of three: the tokens that each gets alone."""
    request = batch.Request(8, GREEDY)
    for name, model in models().items():
        engine = batch.Engine(model, blocks=20, block_size=4, rows=3)
        got = written(engine, [(prompt, request) for prompt in prompts()])
        wanted = [alone(model, prompt, request) for prompt in prompts()]
        equal(
            got,
            wanted,
            f"greedy tokens, {name}",
            hint="positions and keys are each row's own; the scores of a row "
            "stand at its own last token",
        )
        equal(len(engine.pool.free), 20, "blocks that are free at the end")


def check_other_peoples_keys() -> None:
    """Whatever lies in the memory before, the text is the same."""
    request = batch.Request(6, GREEDY)
    for name, model in models().items():
        engine = batch.Engine(model, blocks=12, block_size=4)
        for memory in engine.pool.memory:
            memory.fill_(30.0)
        got = written(engine, [(prompt, request) for prompt in prompts()[:3]])
        equal(
            got,
            [alone(model, prompt, request) for prompt in prompts()[:3]],
            f"greedy tokens after somebody else's keys, {name}",
            hint="mask every slot behind a row's own last position",
        )


def check_settings_of_each() -> None:
    """Each row has its own seed, its own settings, its own end."""
    model = models()["learned positions"]
    prompt = [3, 1, 4, 1, 5]
    stop = alone(model, prompt, batch.Request(3, GREEDY))[-1]
    requests = [
        batch.Request(9, DRAWN, seed=1),
        batch.Request(9, DRAWN, seed=2),
        batch.Request(4, GREEDY),
        batch.Request(9, GREEDY, stop_id=stop),
    ]
    got = written(batch.Engine(model), [(prompt, one) for one in requests])
    for text, request in zip(got, requests, strict=True):
        equal(
            text,
            alone(model, prompt, request),
            f"tokens of seed {request.seed}, stop {request.stop_id}",
            hint="a generator for each row, seeded by its request; a row "
            "ends at its own stop token, or after its own number of tokens",
        )


def check_full_context() -> None:
    """Texts that outgrow the context lose their older half, as alone."""
    request = batch.Request(20, GREEDY)
    for name, model in models().items():
        engine = batch.Engine(model, blocks=12, block_size=4)
        got = written(engine, [(prompt, request) for prompt in prompts()[1:3]])
        equal(
            got,
            [alone(model, prompt, request) for prompt in prompts()[1:3]],
            f"greedy tokens beyond the context of 16, {name}",
            hint="when the window moves, all positions do: read it again",
        )


def check_full_pool() -> None:
    """Memory for one text and a half: two are written, and are right."""
    model = models()["rotary positions"]
    request = batch.Request(7, GREEDY)
    asked = [([1, 2, 3, 4, 5], request), ([5, 4, 3, 2, 1], request)]
    engine = batch.Engine(model, blocks=7, block_size=2)
    equal(
        written(engine, asked),
        [alone(model, prompt, request) for prompt, _ in asked],
        "tokens where a row had to give its blocks back",
        hint="the youngest row waits again and is read again",
    )
    raises(
        ValueError,
        lambda: engine.add([1, 2, 3], batch.Request(17)),
        "a text that could never fit into 7 blocks of 2",
    )


def check_beginnings() -> None:
    """A beginning is read once, by those who share it; the last token again."""
    model = models()["learned positions"]
    engine = batch.Engine(model, blocks=30, block_size=4)
    one, prompt = batch.Request(1, GREEDY), [1, 7, 2, 9, 4, 4, 3, 0]
    reads = []
    for text, salt in (
        (prompt, ""),
        (prompt, ""),
        ([*prompt, 6], ""),
        ([0, *prompt[1:]], ""),
        (prompt, "somebody else"),
    ):
        before = engine.tokens_read
        request = batch.Request(1, GREEDY, salt=salt)
        got = written(engine, [(text, request)])
        equal(got, [alone(model, text, one)], f"the token after {text}")
        reads.append(engine.tokens_read - before)
    equal(
        reads,
        [8, 4, 1, 8, 8],
        "tokens read: first, again, longer, another beginning, another salt",
        hint="a block's name is a hash of the salt and of all tokens up to "
        "its end; the last token is read in any case",
    )


def check_used_again() -> None:
    """A block that is used for another text is not found any more."""
    model = models()["learned positions"]
    engine = batch.Engine(model, blocks=2, block_size=4)
    request = batch.Request(1, GREEDY)
    for prompt in ([1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1]) * 2:
        before = engine.tokens_read
        equal(
            written(engine, [(prompt, request)]),
            [alone(model, prompt, request)],
            f"the token after {prompt}, in blocks that were another text's",
        )
        equal(
            engine.tokens_read - before,
            8,
            f"tokens of {prompt} that are read, in blocks of another text",
            hint="when a block is taken, its name is forgotten on both sides",
        )


def check_come_and_go() -> None:
    """Four texts in two rows: nobody waits for somebody else's end."""
    model = models()["learned positions"]
    steps = {}
    for continuous in (True, False):
        engine = batch.Engine(model, rows=2, continuous=continuous)
        for new in (1, 6, 1, 6):
            engine.add([1, 2, 3], batch.Request(new, GREEDY))
        steps[continuous] = 0
        while engine.busy and steps[continuous] < MOST:
            engine.step()
            steps[continuous] += 1
    equal(steps[True], 8, "steps where texts come and go")
    equal(steps[False], 12, "steps of a static batch")


def check_cancel() -> None:
    """Who is cancelled gets no more tokens, and holds no block."""
    engine = batch.Engine(models()["learned positions"], rows=1)
    first, second = (
        engine.add(prompt, batch.Request(9, GREEDY)) for prompt in prompts()[:2]
    )
    engine.step()
    engine.cancel(first)
    equal([new.id for new in engine.step()], [second], "who is written next")
    engine.cancel(second)
    equal(engine.step(), [], "what is written when all are cancelled")
    equal(sum(engine.pool.holders), 0, "blocks that are held")


def check_what_is_told_of_a_token() -> None:
    """Its log-probability, and all texts in the order of their prompts."""
    model = models()["learned positions"]
    engine = batch.Engine(model, rows=2)
    asked = [batch.Request(count, GREEDY) for count in (5, 2, 3)]
    texts = batch.write_all(engine, prompts()[:3], asked)
    equal([len(text) for text in texts], [5, 2, 3], "tokens of three texts")
    for text, prompt, request in zip(texts, prompts(), asked, strict=False):
        equal(text, alone(model, prompt, request), f"what follows {prompt}")
    engine.add(prompts()[0], batch.Request(1, GREEDY))
    (new,) = engine.step()
    wanted = model(torch.tensor([prompts()[0]]))[0, -1].log_softmax(0)
    close(
        new.logprob,
        wanted[new.token],
        "the log-probability of a token",
        tol=1e-4,
    )


BUGS = {
    "new tokens stand at the beginning": (
        "positions = torch.where(real, starts[:, None] + time, 0)",
        "positions = torch.where(real, time, 0)",
    ),
    "a short row sees as far as the longest": (
        "seen = keys <= positions[..., None]",
        "seen = keys <= positions.amax(0)[:, None].expand(len(rows), -1, 1)",
    ),
    "padding writes into the text's first slot": (
        "torch.where(real, slots.gather(1, positions), spare)",
        "slots.gather(1, positions)",
    ),
    "slots are counted as if blocks were one position": (
        "table[:, keys // size] * size + keys % size",
        "table[:, keys // size] + keys % size",
    ),
    "keys are not rotated": (
        "rotate(self.rotary, y, store.length)",
        "y",
    ),
    "the last column is scored, padding or not": (
        "torch.arange(len(rows), device=self.device), counts - 1",
        "torch.arange(len(rows), device=self.device), 0 * counts - 1",
    ),
    "all rows draw with the same seed": (
        "manual_seed(request.seed)",
        "manual_seed(0)",
    ),
    "a block's name leaves out what came before": (
        "last = sha256(last + part).digest()",
        "last = sha256(part).digest()",
    ),
    "the salt is forgotten": (
        "sha256(salt.encode()).digest()",
        'sha256(b"").digest()',
    ),
    "a block that is used again keeps its name": (
        'self.named.pop(self.names.pop(block, b""), None)',
        'self.names.pop(block, b"")',
    ),
    "nothing is left to read, and nothing is scored": (
        "names = block_names(row.view[:-1], size, row.request.salt)",
        "names = block_names(row.view, size, row.request.salt)",
    ),
    "the window moves and the keys stay": (
        "if start != row.start:",
        "if start < row.start:",
    ),
    "what leaves keeps its blocks": (
        "self.pool.give_back(row.blocks)",
        "self.pool.give_back([])",
    ),
    "nobody comes in before all are through": (
        "if self.running and not self.continuous:",
        "if self.running:",
    ),
    "the stop token stops nothing": (
        "elif token == row.request.stop_id:",
        "elif token is row.request.stop_id is None:",
    ),
}
