"""Decays that fall with the step: exponents by hand, and that time scales stay spread evenly."""

import math

import pytest
import torch

from lgmamba.mixers.taper import exponents, spectrum_exponents

L = 32


def spread(t: float, n: int = 5) -> torch.Tensor:
    """Rates whose time scales lie evenly on a log scale from 1 to t, slowest first."""
    return torch.logspace(-math.log2(t), 0, n, base=2, dtype=torch.float64)


@pytest.mark.parametrize("t", [2, 32, 800])
def test_time_scales_that_are_spread_from_1_to_L_are_spread_from_1_to_t(t):
    rates = spread(L)
    torch.testing.assert_close(exponents(rates, L), torch.linspace(1, 0, 5, dtype=torch.float64))
    tapered = rates * (L / t) ** exponents(rates, L)
    torch.testing.assert_close(tapered, spread(t))


def test_an_uneven_spread_is_corrected_as_the_theorem_says():
    rates = torch.tensor([1 / 32, 1 / 4, 1 / 2, 1.0], dtype=torch.float64)
    c = [0, math.log(8), math.log(16), math.log(32)]
    want = [(3 - k) / 3 + (c[k] - k * c[3] / 3) / math.log(L) for k in range(4)]
    torch.testing.assert_close(exponents(rates, L), torch.tensor(want, dtype=torch.float64).clamp(0, 1))
    assert exponents(rates[:1], L).tolist() == [0]


def test_a_spectrum_is_that_of_the_modes_or_of_the_heads_in_any_order():
    rates = torch.stack([spread(L), spread(L).flip(0)])
    even = torch.linspace(1, 0, 5, dtype=torch.float64)
    torch.testing.assert_close(spectrum_exponents(rates, L), torch.stack([even, even.flip(0)]))
    heads = spread(L, 3)[[2, 2, 0, 0, 1, 1], None].expand(-1, 4)  # heads of two channels, four modes each
    want = torch.tensor([0, 0, 1, 1, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(spectrum_exponents(heads, L), want[:, None].expand(-1, 4))
