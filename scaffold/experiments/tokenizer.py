"""How good is the tokenizer? On text that it has not learned from."""

import random

from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import split_stories, write_corpus

from .town import LEARNED, VOCABULARY, Tick

CHARACTERS, STRANGE, LENGTH = 600_000, 300, 40


def strange_texts(seed: int) -> list[str]:
    """Texts of characters that no story has: of all that Unicode names."""
    draw = random.Random(seed)
    planes = [(0x20, 0x7F), (0xA0, 0x2FFF), (0x1F300, 0x1FAFF)]
    return [
        "".join(chr(draw.randint(*draw.choice(planes))) for _ in range(LENGTH))
        for _ in range(STRANGE)
    ]


def lost(tokenizer: Tokenizer, texts: list[str]) -> float:
    """How many texts do not come back as they were."""
    return sum(tokenizer.decode(tokenizer.encode(t)) != t for t in texts)


def run(seed: int, tick: Tick) -> dict[str, float]:
    """Learn from one town's text, and be judged by its unseen stories."""
    splits = split_stories(write_corpus(CHARACTERS, seed))
    tick(0.3)
    learned = [story.text for story in splits.train[:LEARNED]]
    tokenizer = Tokenizer.train(learned, VOCABULARY)
    tick(0.5)
    unseen = [story.text for story in splits.validation]
    written = sum(len(text.encode()) for text in unseen)
    tokens = sum(len(tokenizer.encode(text)) for text in unseen)
    tick(0.8)
    found = {
        "bytes_per_token": written / tokens,
        "lost": lost(tokenizer, unseen),
        "strange_lost": lost(tokenizer, strange_texts(seed)),
    }
    tick(1.0)
    return found
