"""Scaling of the spectrum of A: one factor for all layers, for each layer, mode, or channel and mode.

Mamba Modulation (arXiv:2509.19633), whose released code has a factor for each layer in its perplexity scripts, and one for each
channel and mode of Mamba-1 in its LongBench and passkey scripts.

mult   |A| <- s |A|           every mode forgets s times as fast
pow    |A| <- |A|^s           about |A| = 1, which stays as it is; what the released code does, but for its passkey retrieval
                              with Mamba-2, which multiplies
clip   |A| <- within a band of the layer's own quantiles

mult with s and step sizes times s differ by an output gain: y_dt - Dskip x = s (y_A - Dskip x), exactly. So s < 1 lengthens memory
in both, but here the state grows by about 1 / s. As they stand the hooks are for prefix mode; `base.follow_length` makes factors
follow t, constant within blocks of steps, and `base.beyond` leaves the steps up to L0 alone.
Glossary: `lgmamba.remedies`; D channels, N modes.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.model.reading import AnyReadable, Sizes
from lgmamba.model.runner import MakeHook
from lgmamba.remedies.base import beyond, follow_length
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.factors import LengthFactors, by_layer, calibrate_factors, given_or_found
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.spectrum.config import SpectrumConfig


def scale_spectrum(form: Literal["mult", "pow"], per_layer: Sequence[float | Tensor]) -> Hook:
    """Scale |A| by factors that are the same at every step; gradients flow to them.

    Args:
        form: mult or pow.
        per_layer: one entry for each layer: a number, (N,) with one factor for each mode, or (D, N).
    Raises:
        ValueError: a factor is not above 0, or the form is unknown.
    """
    if form not in ("mult", "pow"):
        raise ValueError(f"form={form!r}; expected 'mult' or 'pow'")
    smallest = min(float(torch.as_tensor(s).detach().min()) for s in per_layer)
    if not smallest > 0:
        raise ValueError(f"factors must be above 0; got {smallest}")

    def hook(call: Call) -> Call:
        s = per_layer[call.layer]
        return call.decay(s if form == "mult" else lambda rates: rates ** (s.to(rates) if isinstance(s, Tensor) else s))

    return hook


def clip_spectrum(low: float, high: float) -> Hook:
    """|A| within its layer's quantiles `low` and `high`, 0 <= low < high <= 1; needs no data.

    Raises:
        ValueError: the band is empty.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"0 <= low < high <= 1; got low={low}, high={high}")

    def clipped(rates: Tensor) -> Tensor:
        band = torch.quantile(rates.flatten(), torch.tensor([low, high], device=rates.device, dtype=rates.dtype))
        return rates.clamp(band[0], band[1])

    return lambda call: call.decay(clipped)


def factor_hooks(entry: SpectrumConfig, factors: LengthFactors, config: Sizes) -> MakeHook:
    """Scale by factors of the length, constant in prefix mode; in stream mode within half of L0."""

    def constant(T: float) -> Hook:
        return scale_spectrum(entry.form, by_layer(factors.at(T), entry.scope, config))

    return lambda T: follow_length(factors.L0, max(1, factors.L0 // 2), constant) if T is None else constant(T)


def build(entry: SpectrumConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    if entry.form != "clip":
        return {"make_hook": given_or_found(entry, values, model, last, factor_hooks)}

    def make_hook(T: int | None) -> Hook | None:
        if T is None:
            return beyond(model.L0, clip_spectrum(*entry.band))
        return None if T <= model.L0 else clip_spectrum(*entry.band)

    return {"make_hook": make_hook}


def calibrate(entry: SpectrumConfig, images: CalibrationSet) -> Calibrated:
    return calibrate_factors(entry, images, factor_hooks)


KIND = Kind(build, calibrate)
