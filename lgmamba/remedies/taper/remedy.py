"""Decays that fall with the step: PoST (Cao 2026, arXiv:2604.07658) at test time, on A alone.

With the rates |A_0| < ... < |A_(n-1)| of a spectrum, slowest first, and spread as in `lgmamba.mixers.taper`,

    |A_k| <- |A_k| (L0 / t)^alpha_k,   t > L0

PoST trains with t^(-alpha) from the first step on (definition 4.5); here a model that was trained without is left as it is up to L0,
and tapered from there. dt B x is not touched. Factors are constant in blocks of an eighth of L0. Glossary: `lgmamba.remedies`.
"""

from typing import Any

from lgmamba.mixers.contract import Hook
from lgmamba.mixers.taper import spectrum_exponents
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.base import follow_length
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.taper.config import TaperConfig

BLOCKS = 8
"""Blocks of constant factors in L0 steps: t is off by one part in 16 at most."""


def taper(L0: int, t: float) -> Hook:
    """Decays of a step t > L0."""
    return lambda call: call.decay(lambda rates: rates * (L0 / t) ** spectrum_exponents(rates, L0))


def build(entry: TaperConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    L0 = model.L0
    hook = follow_length(L0, max(1, L0 // BLOCKS), lambda t: taper(L0, t))
    return {"make_hook": lambda T: hook}


KIND = Kind(build)
