"""Whether counts are drawn from a law."""

import torch
from scipy.stats import chisquare
from torch import Tensor

LEAST_P = 1e-3
"""Seeds are fixed, so a test passes always or never; a right sampler with another seed would fail once in 1,000."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_drawn_from(values: Tensor, law: Tensor) -> None:
    """`values` are integers whose histogram fits the probabilities `law`; one of probability 0 never occurs."""
    counts = torch.bincount(values.flatten(), minlength=len(law)).double()
    assert len(counts) == len(law), f"{values.max()} is beyond the support"
    possible = law > 0
    assert counts[~possible].sum() == 0, f"{torch.where(counts * ~possible)[0].tolist()} are outside the support"
    expected = law[possible].double() / law.double().sum() * counts.sum()
    assert expected.min() > 5, "too few draws for a chi-square test"
    assert len(expected) == 1 or chisquare(counts[possible], expected).pvalue > LEAST_P
