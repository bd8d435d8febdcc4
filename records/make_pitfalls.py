"""Small runs that go wrong, each beside one that does not.

Every run is a model of two layers on letters of Toytown, trained with the
library's own parts in the loop of `train`. `RUNS` says what is wrong in
which: a setting, a loop that forgets something, or a mistake of `PLANTS`,
which is written into the library's source in place while the run lasts.
"""

import importlib
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scratchlm.evaluation import perplexity
from scratchlm.generation import generate
from scratchlm.generation.cache import KVCache
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model import gpt, heads
from scratchlm.text import tokens
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.corpus import find_leaks
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import (
    Splits,
    Story,
    entropy_per_character,
    join,
    split_stories,
    write_corpus,
)
from scratchlm.training import memory, optimizer
from scratchlm.training.schedule import cosine
from scratchlm.training.trainer import token_losses, validation_loss

CONTEXT, CHANNELS, LAYERS, HEADS, BATCH = 32, 32, 2, 4, 16
STEPS, RATE, WARMUP = 120, 5e-3, 15
FEW, LONG, EVERY = 10, 240, 20  # stories, steps and pace of overfitting
HALT = STEPS // 2  # the step before which a run is cut, or meets garbage
FIRST = 3  # losses that a replay computes again
MERGED = 384  # tokens of the two byte-level tokenizers

Batch = tuple[Tensor, Tensor]
PLANTS = {  # name → module, what stands there, what stands there instead
    "initial": (
        "model.gpt",
        "nn.init.normal_(parameter, std=deep if writes else 0.02)",
        "nn.init.normal_(parameter)",
    ),
    "softmax": (
        "model.gpt",
        "return self.head(self.features(ids, stores))",
        "return self.head(self.features(ids, stores)).softmax(-1)",
    ),
    "place": (
        "model.gpt",
        "x = x + self.position(ids.shape[1], start)",
        "pass",
    ),
    "untied": (
        "model.gpt",
        "self.head.weight = self.token.weight",
        "self.head.weight = nn.Parameter(self.token.weight.clone())",
    ),
    "cache": (
        "model.gpt",
        "x = x + self.position(ids.shape[1], start)",
        "x = x + self.position(ids.shape[1])",
    ),
    "ahead": (
        "model.attention",
        "diagonal=keys - queries)",
        "diagonal=keys - queries + 1)",
    ),
    "axis": (
        "model.attention",
        "scores.softmax(dim=-1)",
        "scores.softmax(dim=-2)",
    ),
    "same": (
        "text.tokens",
        "return batch[:, :-1], batch[:, 1:]",
        "return batch[:, :-1], batch[:, :-1]",
    ),
    "pieces": (
        "training.memory",
        "loss.backward()  # frees",
        "(loss * len(micro_batches)).backward()  # frees",
    ),
    "decay": (
        "training.optimizer",
        "decays = parameter.ndim >= 2 and parameter not in tables",
        "decays = True",
    ),
}


@dataclass(frozen=True)
class Settings:
    """How a small run goes; the defaults are those of the right one."""

    plant: str = ""  # a mistake of `PLANTS`
    text: str = "letters"  # a name that `streams` knows
    steps: int = STEPS
    rate: float = RATE
    warmup: int = WARMUP
    clip: float = 1.0
    dropout: float = 0.0
    fused: bool = True  # attention by the library's kernel
    pieces: int = 1  # of a step's batch
    shifted: int = 1  # places from a token to its target
    padding: str = ""  # "masked" or "scored": half of each row is padding
    twins: bool = False  # all heads of a layer begin as copies of the first
    zeroed: bool = True  # gradients are cleared before each step
    garbage: bool = False  # step HALT reads random letters
    forgets: str = ""  # what a run resumed at HALT has lost


@dataclass
class Run:
    """What a run left: its model, and what was seen at each step."""

    model: gpt.GPT
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)


RIGHT = Settings()
OPEN = replace(RIGHT, fused=False)  # attention in the open form
SMALL_TEXT = replace(RIGHT, text="few", steps=LONG)
RUNS = {
    "right": RIGHT,
    "initial": replace(RIGHT, plant="initial"),
    "fitting": replace(RIGHT, text="fitting"),
    "unfitting": replace(RIGHT, text="unfitting"),
    "few": SMALL_TEXT,
    "leaked": replace(SMALL_TEXT, text="leaked"),
    "twice": replace(RIGHT, shifted=2),
    "softmax": replace(RIGHT, plant="softmax"),
    "unzeroed": replace(RIGHT, zeroed=False),
    "slow": replace(RIGHT, rate=1e-4),
    "place": replace(RIGHT, plant="place"),
    "twins": replace(RIGHT, twins=True),
    "same": replace(RIGHT, plant="same"),
    "ahead": replace(OPEN, plant="ahead"),
    "axis": replace(OPEN, plant="axis"),
    "masked": replace(RIGHT, padding="masked"),
    "scored": replace(RIGHT, padding="scored"),
    "high": replace(RIGHT, rate=0.3),
    "hot": replace(RIGHT, rate=0.03),
    "cold": replace(RIGHT, rate=0.03, warmup=0),
    "clipped": replace(RIGHT, garbage=True),
    "unclipped": replace(RIGHT, garbage=True, clip=1e9),
    "summed": replace(RIGHT, pieces=2, plant="pieces"),
    "dropout": replace(RIGHT, dropout=0.2),
    "moments": replace(RIGHT, forgets="moments"),
    "schedule": replace(RIGHT, forgets="schedule"),
    "cursor": replace(RIGHT, forgets="cursor"),
    "decay": replace(RIGHT, plant="decay"),
    "untied": replace(RIGHT, plant="untied"),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run a module's source again in place, with a mistake of `PLANTS`.

    Modules that have imported a name from it get the new one meanwhile.
    """
    place, old, new = PLANTS[name]
    module = importlib.import_module(f"scratchlm.{place}")
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise ValueError(f"{path.name} does not hold {old!r} once")
    others = [
        vars(m)
        for key, m in sys.modules.items()
        if key.startswith("scratchlm.") and m is not module
    ]
    before, kept = dict(vars(module)), [dict(names) for names in others]
    try:
        exec(compile(source.replace(old, new), str(path), "exec"), vars(module))
        for names in others:
            for key, value in list(names.items()):
                if not key.startswith("__") and value is before.get(key):
                    names[key] = vars(module)[key]
        yield
    finally:
        for names, saved in zip([vars(module), *others], [before, *kept]):
            names.clear()
            names.update(saved)


def under(settings: Settings) -> Any:
    """The context in which the settings' mistake is in the library."""
    return planted(settings.plant) if settings.plant else nullcontext()


@cache
def town() -> Splits:
    """Stories of the town, split as everywhere in the book."""
    return split_stories(write_corpus(200_000))


@cache
def alphabet() -> CharTokenizer:
    """The letters of the town."""
    return CharTokenizer.train(join(town().train))


def encoded(stories: list[Story]) -> np.ndarray:
    """Letters of some stories, one behind the other."""
    return np.array(alphabet().encode(join(stories)))


@cache
def byte_tokenizer(fits: bool) -> Tokenizer:
    """Learned from the town, or from the town in capitals."""
    text = join(town().train)
    return Tokenizer.train(text if fits else text.upper(), MERGED)


@cache
def streams(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Tokens to train on, tokens to judge by, and the size of vocabulary."""
    train, judge = town().train, town().validation[:FEW]
    if name in ("fitting", "unfitting"):
        tokenizer = byte_tokenizer(name == "fitting")
        parts = [np.array(tokenizer.encode(join(x))) for x in (train, judge)]
        return parts[0], parts[1], tokenizer.vocab_size
    if name == "few":
        train = train[: 2 * FEW]
    elif name == "leaked":
        train = train[:FEW] + judge
    return encoded(train), encoded(judge), alphabet().vocab_size


def build(settings: Settings, vocab_size: int) -> gpt.GPT:
    """Two layers of four heads, the same weights at every call."""
    torch.manual_seed(0)
    form = gpt.gpt2_config(
        vocab_size + bool(settings.padding),
        CONTEXT,
        LAYERS,
        HEADS,
        CHANNELS,
        settings.dropout,
    )
    model = gpt.GPT(replace(form, fused=settings.fused))
    if settings.twins:
        make_twins(model)
    return model


@torch.no_grad()
def make_twins(model: gpt.GPT) -> None:
    """Give all heads of a layer the weights of the first."""
    for layer in model.modules():
        if not isinstance(layer, heads.MultiHeadAttention):
            continue
        size = layer.head_size
        for third in layer.qkv.weight.chunk(3):
            third.copy_(third[:size].repeat(HEADS, 1))
        out = layer.out.weight
        out.copy_(out[:, :size].repeat(1, HEADS))


def garble(batch: Batch, vocab_size: int) -> Batch:
    """As many letters, drawn at random."""
    generator = torch.Generator().manual_seed(3)
    shape = (batch[0].shape[0], CONTEXT + 1)
    ids = torch.randint(vocab_size, shape, generator=generator)
    return ids[:, :-1], ids[:, 1:]


def arranged(settings: Settings, batch: Batch, vocab_size: int) -> list[Batch]:
    """A batch as this run sees it: shifted, padded, in pieces."""
    ids, targets = batch
    if settings.shifted == 2:
        ids, targets = ids[:, :-1], targets[:, 1:]
    if settings.padding:
        ids, targets = ids.clone(), targets.clone()
        ids[:, CONTEXT // 2 :] = vocab_size
        scored = settings.padding == "scored"
        targets[:, CONTEXT // 2 - 1 :] = vocab_size if scored else -100
    cut = BATCH // settings.pieces
    return list(zip(ids.split(cut), targets.split(cut), strict=True))


def make_optimizer(model: gpt.GPT) -> optimizer.AdamW:
    """AdamW in two groups, as the library forms them."""
    return optimizer.AdamW(optimizer.parameter_groups(model, 0.1))


def train(name: str, stop: int | None = None) -> Run:
    """The run of this name, or its first `stop` steps."""
    settings = RUNS[name]
    text, judge, size = streams(settings.text)
    with under(settings):
        cursor = tokens.BatchCursor(text, CONTEXT, BATCH, seed=1)
        run = Run(build(settings, size))
        adam = make_optimizer(run.model)
        rates = cosine(settings.rate, settings.warmup, settings.steps)
        late = 0
        for step in range(stop or settings.steps):
            if settings.forgets and step == HALT:
                if settings.forgets == "moments":
                    adam = make_optimizer(run.model)
                elif settings.forgets == "cursor":
                    cursor.start_epoch(0)
                else:
                    late = HALT
            batch = cursor.next_batch()
            if settings.garbage and step == HALT:
                batch = garble(batch, size)
            for group in adam.param_groups:
                group["lr"] = rates.rate(step - late)
            if settings.zeroed:
                adam.zero_grad()
            pieces = arranged(settings, batch, size)
            loss = memory.accumulate_gradients(run.model, pieces)
            parameters = list(run.model.parameters())
            norm = optimizer.clip_gradients(parameters, settings.clip)
            adam.step()
            run.losses.append(round(loss.item(), 4))
            run.norms.append(round(norm.item(), 4))
            if settings.steps == LONG and step % EVERY == EVERY - 1:
                judged = validation_loss(run.model, judge, CONTEXT)
                run.judged.append(round(judged, 4))
    return run


def judged(run: Run, name: str) -> float:
    """Nats per token of validation text, with the mistake still planted."""
    _, judge, _ = streams(RUNS[name].text)
    with under(RUNS[name]):
        return round(validation_loss(run.model, judge, CONTEXT), 4)


@torch.no_grad()
def writing_loss(run: Run, name: str) -> float:
    """Nats for the last of many windows' tokens, with no later one there."""
    _, judge, _ = streams(RUNS[name].text)
    starts = np.arange(0, len(judge) - CONTEXT - 1, 7)
    rows = torch.tensor(np.stack([judge[i : i + CONTEXT + 1] for i in starts]))
    run.model.eval()  # or dropout would be measured, too
    with under(RUNS[name]):
        scores = run.model(rows[:, :-1])[:, -1:]
    return round(gpt.next_token_loss(scores, rows[:, -1:]).item(), 4)


def fit_facts(runs: dict[str, Run]) -> dict[str, Any]:
    """Tokens, nats per token and bits per byte of two tokenizers."""
    text = join(town().validation[:FEW])
    found = {}
    for name in ("fitting", "unfitting"):
        count = len(streams(name)[1])
        nats = judged(runs[name], name)
        bits = perplexity.bits_per_byte(nats * (count - 1), len(text.encode()))
        found[name] = {
            "letters_per_token": round(len(text) / count, 4),
            "nats": nats,
            "bits": round(bits, 4),
        }
    return found


def leak_facts() -> dict[str, int]:
    """How many validation stories the library finds in the training text."""
    judge = town().validation[:FEW]
    parts = {"few": town().train[: 2 * FEW]}
    parts["leaked"] = town().train[:FEW] + judge
    held_out = [story.text for story in judge]
    return {
        name: len(find_leaks((story.text for story in part), held_out))
        for name, part in parts.items()
    }


def judge_facts(run: Run) -> dict[str, Any]:
    """What one model gets on small, sorted and random validation sets."""

    def nats(stories: list[Story]) -> float:
        return float(token_losses(run.model, encoded(stories), CONTEXT).mean())

    every = town().train[-200:]
    single = [nats([story]) for story in every[:60]]
    tens = [nats(every[i : i + 10]) for i in range(0, 200, 10)]
    ordered = sorted(every, key=lambda story: len(story.text))
    return {
        "single": [round(x, 4) for x in single],
        "tens": [round(x, 4) for x in tens],
        "spread": [round(stdev(single), 4), round(stdev(tens), 4)],
        "shortest": round(nats(ordered[:20]), 4),
        "longest": round(nats(ordered[-20:]), 4),
        "all": round(nats(every), 4),
    }


def head_facts(run: Run) -> float:
    """How far the weights of a layer's heads are apart, on average."""
    ids = torch.tensor(streams("letters")[1][: 8 * CONTEXT]).view(8, CONTEXT)
    maps = torch.stack(heads.attention_maps(run.model, ids))  # (L, B, H, T, T)
    apart = (maps - maps[:, :, :1]).abs().sum(-1)  # from the first head's
    return round(apart[:, :, 1:].mean().item() / 2, 6)


def mode_facts(run: Run) -> dict[str, float]:
    """Loss with dropout off, and twice with dropout left on."""
    judge = torch.tensor(streams("letters")[1])
    rows = judge[: len(judge) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    found = {}
    for name in ("off", "on", "again"):
        run.model.train(name != "off")
        torch.manual_seed(5 + len(name))
        with torch.no_grad():
            loss = gpt.next_token_loss(run.model(rows[:, :-1]), rows[:, 1:])
        found[name] = round(loss.item(), 4)
    run.model.eval()
    return found


def other_alphabet() -> CharTokenizer:
    """As many letters, but `#` stands in it, and the last one does not."""
    return CharTokenizer(alphabet().alphabet[:-1] + "#")


def written(model: gpt.GPT) -> list[int]:
    """Sixty likeliest letters behind the beginning of a story."""
    prompt = torch.tensor([alphabet().encode("It was a ")])
    greedy = SamplingConfig(temperature=0.0)
    steps = generate.generate(model, prompt, 60, greedy)
    return [int(new) for new in steps]


def tokenizer_facts(run: Run) -> dict[str, Any]:
    """The same weights with their tokenizer, and with another one."""
    text = join(town().validation[:FEW])
    missing = alphabet().alphabet[-1]
    lines = [x for x in text.split("\n") if missing not in x]
    found: dict[str, Any] = {"missing": missing}
    ids = written(run.model)
    pair = {"right": alphabet(), "other": other_alphabet()}
    for name, tokenizer in pair.items():
        row = np.array(tokenizer.encode("\n".join(lines)))
        nats = validation_loss(run.model, row, CONTEXT)
        found[name] = {"nats": round(nats, 4), "text": tokenizer.decode(ids)}
    return found


@torch.no_grad()
def reading_loss(model: gpt.GPT, cached: bool) -> float:
    """Nats per letter of windows, read at once or letter by letter."""
    judge = torch.tensor(streams("letters")[1])
    length = CONTEXT + 1
    rows = judge[: len(judge) // length * length].view(-1, length)
    store = KVCache(model.config, len(rows))
    scores = [model(rows[:, i : i + 1], store) for i in range(CONTEXT)]
    logits = torch.cat(scores, dim=1) if cached else model(rows[:, :-1])
    return round(gpt.next_token_loss(logits, rows[:, 1:]).item(), 4)


def cache_facts(run: Run) -> dict[str, float]:
    """Loss without a cache, with one, and with one that is off."""
    found = {
        "plain": reading_loss(run.model, cached=False),
        "cached": reading_loss(run.model, cached=True),
    }
    with planted("cache"):
        model = gpt.GPT(run.model.config)
        model.load_state_dict(run.model.state_dict())
        found["wrong"] = reading_loss(model.eval(), cached=True)
        found["whole"] = reading_loss(model, cached=False)
    return found


def decay_facts(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Mean weight of the norms, and mean length of the tokens' rows."""
    found = {}
    for name in ("right", "decay"):
        model = runs[name].model
        scales: list[Tensor] = [
            p
            for n, p in model.named_parameters()
            if "norm" in n and n.endswith("weight")
        ]
        norm = torch.cat(scales).mean().item()
        rows = model.token.weight.norm(dim=1).mean().item()
        found[name] = [round(norm, 4), round(rows, 4)]
    return found


def tied_facts(runs: dict[str, Run]) -> dict[str, Any]:
    """How many numbers are learned, and what a model is, loaded again."""
    found = {}
    for name in ("right", "untied"):
        model = runs[name].model
        gap = (model.head.weight - model.token.weight).abs().max().item()
        with under(RUNS[name]):
            again = gpt.GPT(model.config)
            again.load_state_dict(model.state_dict())
        loaded = validation_loss(again, streams("letters")[1], CONTEXT)
        found[name] = {
            "parameters": gpt.count_parameters(model),
            "gap": round(gap, 4),
            "loaded": round(loaded, 4),
        }
    return found


def cursor_facts() -> dict[str, int]:
    """How many different windows a run sees, and one that begins again."""
    cursor = tokens.BatchCursor(streams("letters")[0], CONTEXT, BATCH, seed=1)
    starts = [cursor.next_start() for _ in range(STEPS * BATCH)]
    again = starts[: HALT * BATCH] * 2
    return {"right": len(set(starts)), "cursor": len(set(again))}


def facts(runs: dict[str, Run]) -> dict[str, Any]:
    """All that is measured on the models when their runs are over."""
    return {
        "fit": fit_facts(runs),
        "leak": leak_facts(),
        "judge": judge_facts(runs["right"]),
        "heads": {n: head_facts(runs[n]) for n in ("right", "twins")},
        "mode": mode_facts(runs["dropout"]),
        "tokenizer": tokenizer_facts(runs["right"]),
        "cache": cache_facts(runs["right"]),
        "decay": decay_facts(runs),
        "tied": tied_facts(runs),
        "cursor": cursor_facts(),
    }


def record() -> dict[str, Any]:
    """Every run with its curve, and what its model is measured by."""
    torch.set_num_threads(1)
    runs, rows = {}, {}
    for name in RUNS:
        run = runs[name] = train(name)
        rows[name] = {
            "losses": run.losses,
            "norms": run.norms,
            "judged": run.judged,
            "unseen": judged(run, name),
            "writing": writing_loss(run, name),
        }
        end = mean(run.losses[-10:])
        print(
            f"{name:10} {run.losses[0]:8.3f} {end:8.3f} "
            f"{rows[name]['unseen']:8.3f} {rows[name]['writing']:8.3f} "
            f"{max(run.norms):10.2f} {max(run.losses):8.2f}",
            flush=True,
        )
    stories = town().validation[:FEW]
    return {
        "steps": STEPS,
        "halt": HALT,
        "every": EVERY,
        "vocab_size": alphabet().vocab_size,
        "chance": round(math.log(alphabet().vocab_size), 4),
        "floor": round(entropy_per_character(stories), 4),
        "runs": rows,
        "facts": facts(runs),
    }


def replay(data: dict[str, Any]) -> None:
    """The first losses of each run are still the recorded ones."""
    for name, row in data["runs"].items():
        again = train(name, FIRST).losses
        for got, wanted in zip(again, row["losses"], strict=False):
            assert abs(got - wanted) < 2e-3 * max(1, wanted), (name, again)
    assert leak_facts() == data["facts"]["leak"]
    assert cursor_facts() == data["facts"]["cursor"]
