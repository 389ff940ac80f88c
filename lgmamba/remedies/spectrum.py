"""Scaling of the spectrum of A, one factor for each layer (Mamba Modulation, arXiv:2509.19633).

mult   |A| <- s |A|           every mode forgets s times as fast
pow    |A| <- |A|^s           about |A| = 1, which stays as it is; what the released code does
clip   |A| <- within a band of the layer's own quantiles

mult with s and step sizes times s differ by an output gain: y_dt - Dskip x = s (y_A - Dskip x), exactly. So s < 1 lengthens memory
in both, but here the state grows by about 1 / s. Glossary: `lgmamba.remedies`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from lgmamba.model.plan import Plan, ScanCall


def scale_spectrum(form: Literal["mult", "pow"], per_layer: Sequence[float]) -> Plan:
    """Scale |A| by one factor for each layer, the same at every step.

    Raises:
        ValueError: a factor is not above 0, or the form is unknown.
    """
    if form not in ("mult", "pow"):
        raise ValueError(f"form={form!r}; expected 'mult' or 'pow'")
    if min(per_layer) <= 0:
        raise ValueError(f"factors must be above 0; got {list(per_layer)}")

    def plan(call: ScanCall) -> ScanCall:
        s = per_layer[call.layer]
        return replace(call, A=call.A * s if form == "mult" else -((-call.A) ** s))

    return plan


def clip_spectrum(low: float, high: float) -> Plan:
    """|A| within its layer's quantiles `low` and `high`, 0 <= low < high <= 1; needs no data.

    Raises:
        ValueError: the band is empty.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"0 <= low < high <= 1; got low={low}, high={high}")

    def plan(call: ScanCall) -> ScanCall:
        size = -call.A
        band = torch.quantile(size.flatten(), torch.tensor([low, high], device=size.device, dtype=size.dtype))
        return replace(call, A=-size.clamp(band[0], band[1]))

    return plan
