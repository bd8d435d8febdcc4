"""What choosing a token costs, by setting and size of the vocabulary."""

import statistics
import time
from typing import Any

import torch
from torch import Tensor

from scratchlm.generation.sampling import SamplingConfig, probabilities, sample

SIZES = (1024, 50_257)
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.8},
    "top-k": {"top_k": 50},
    "top-p": {"top_p": 0.9},
    "min-p": {"min_p": 0.05},
}


def scores(size: int) -> Tensor:
    """Logits that look like a model's: (1, V)."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(1, size, generator=generator)


def milliseconds(logits: Tensor, config: SamplingConfig) -> float:
    """Median time of 51 draws, after two to warm up."""
    generator, times = torch.Generator().manual_seed(0), []
    for _ in range(53):
        start = time.perf_counter()
        sample(logits, config, generator)
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[2:]), 4)


def kept(logits: Tensor, config: SamplingConfig) -> int:
    """How many tokens can still be drawn."""
    return int((probabilities(logits, config) > 0).sum())


def record() -> dict[str, Any]:
    """Times on one core, and what is left to choose from."""
    torch.set_num_threads(1)
    rows = []
    for size in SIZES:
        for name, settings in SETTINGS.items():
            logits, config = scores(size), SamplingConfig(**settings)
            rows.append(
                {
                    "vocab_size": size,
                    "setting": name,
                    "milliseconds": milliseconds(logits, config),
                    "kept": kept(logits, config),
                }
            )
    return {"rows": rows}


def replay(data: dict[str, Any]) -> None:
    """As many tokens are left as were recorded, give or take rounding."""
    for row in data["rows"]:
        config = SamplingConfig(**SETTINGS[row["setting"]])
        got = kept(scores(row["vocab_size"]), config)
        assert abs(got - row["kept"]) <= 2, (row, got)
