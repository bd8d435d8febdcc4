"""A small transformer reads a million tokens."""

from .town import BATCH, CONTEXT, Tick, judged, new_trainer, town, train

TOKENS, CHARACTERS, CHANNELS = 1_000_000, 3_200_000, 48


def run(seed: int, tick: Tick) -> dict[str, float]:
    """Train once through the text; losses on text that it never reads."""
    text = town(CHARACTERS)
    steps = -(-TOKENS // (BATCH * CONTEXT))
    trainer = new_trainer(text, CHANNELS, steps, seed)
    losses = train(trainer, tick)
    unseen = judged(trainer.model, text)
    return {
        "first": losses[0],
        "unseen": unseen,
        "above_floor": unseen - text.floor,
    }
