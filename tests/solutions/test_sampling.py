"""Solutions on sampling: choices, temperatures, noise instead of dice."""

import pytest
import torch

from solutions.generation.sampling import (
    choices,
    gumbel_sample,
    temperature_for,
)

P = torch.tensor([0.5, 0.25, 0.15, 0.1])


def test_choices_of_a_fair_die_and_of_certainty() -> None:
    logits = torch.tensor([[0.0] * 6, [200.0] + [0.0] * 5])
    assert torch.allclose(choices(logits), torch.tensor([6.0, 1.0]))


@pytest.mark.parametrize("wanted", [1.1, 2.0, 3.9])
def test_the_temperature_gives_the_choices(wanted: float) -> None:
    temperature = temperature_for(P.log(), wanted)
    assert float(choices(P.log() / temperature)) == pytest.approx(
        wanted, rel=1e-4
    )


def test_more_choices_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="5 choices among 4"):
        temperature_for(P.log(), 5)


def test_noise_draws_what_dice_draw() -> None:
    count = 20_000
    generator = torch.Generator().manual_seed(0)
    drawn = gumbel_sample(P.log().expand(count, 4), generator)
    seen = torch.bincount(drawn, minlength=4)
    chi2 = ((seen - count * P) ** 2 / (count * P)).sum()
    assert chi2 < 16.3  # 3 degrees of freedom, once in a thousand
