"""Settings under a name: forms of models, and the training that suits them.

A preset is the settings of `train` by their names; options and files override
it. This is the one place where presets are written down.
"""

from dataclasses import asdict
from typing import Any

from scratchlm.cli.errors import UserError
from scratchlm.generation.speed import fast_model, fast_training
from scratchlm.model.gpt import GPTConfig, gpt2_config, llama_config
from scratchlm.training.trainer import TrainConfig

SIZE: dict[str, Any] = {
    "vocab_size": 1024,
    "context": 256,
    "layers": 3,
    "heads": 4,
    "channels": 128,
}  # of the model that the book trains
SNAPSHOTS = (0, 10, 20, 50, 100, 200, 500)
RUN = TrainConfig(
    1000,
    learning_rate=0.01,
    optimizer="muon",
    evaluate_every=100,
    snapshots=SNAPSHOTS,
)  # of the model that the book trains


def settings(
    model: GPTConfig, training: TrainConfig, **others: Any
) -> dict[str, Any]:
    """All settings of the three, by name; precision is measured."""
    loop = asdict(training)
    loop |= {"precision": "auto", "checkpoint_every": training.evaluate_every}
    return {**asdict(model), **loop, **others}


PRESETS = {
    "small": settings(llama_config(**SIZE), RUN, batch_size=8),
    "small-gpt2": settings(gpt2_config(**SIZE), RUN, batch_size=8),
    "tiny": settings(
        gpt2_config(**{**SIZE, "layers": 2, "channels": 64, "context": 64}),
        TrainConfig(200, warmup=20, evaluate_every=50),
        batch_size=16,
        characters=500_000,
    ),
    "fast": settings(
        fast_model(SIZE["vocab_size"]), fast_training(800), batch_size=16
    ),
    "gpt2": settings(
        gpt2_config(),
        TrainConfig(
            100_000,
            learning_rate=6e-4,
            warmup=2000,
            accumulate=32,
            evaluate_every=1000,
        ),
        batch_size=16,
    ),
}
WORDS = {
    "small": "the model of the book, in Llama's form",
    "small-gpt2": "its size, text and steps, in GPT-2's form",
    "tiny": "a fifth of it, on a tenth of the text, to try things out",
    "fast": "the same width, in the form and with the steps that learn fastest",
    "gpt2": "GPT-2 itself, 124 million parameters, for a graphics card",
}


def preset(name: str) -> dict[str, Any]:
    """The settings under a name."""
    if name not in PRESETS:
        raise UserError(
            f"there is no preset {name!r}; there are: {', '.join(PRESETS)}"
        )
    return PRESETS[name]
