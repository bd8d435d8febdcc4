"""What does a small model know after a few minutes? Its probes tell."""

from scratchlm.evaluation.probes import ask, probes, tally

from .town import Tick, between, judged, new_trainer, town, train

CHARACTERS, STEPS, CHANNELS, ASKED, STORIES = 2_400_000, 800, 48, 100, 1


def run(seed: int, tick: Tick) -> dict[str, float]:
    """Train a model; how often it is right, by kinds of probes."""
    text = town(CHARACTERS)
    trainer = new_trainer(text, CHANNELS, STEPS, seed)
    train(trainer, between(tick, 0.0, 0.9))
    asked = probes(STORIES, ASKED)  # not of the stories that it has read
    scores = tally(ask(trainer.model, text.tokenizer, asked))
    tick(1.0)
    right = sum(score.right for score in scores.values())
    return {
        "unseen": judged(trainer.model, text),
        "agreement": scores["agreement"].share,
        "all": right / len(asked),
    }
