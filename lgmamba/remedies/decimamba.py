"""DeciMamba: a layer goes on with the steps of the largest step sizes only; later layers see the shorter sequence.

A step size near zero already means that a step is ignored, so that dropping it is meant to be cheap. Prefix mode: the whole
sequence in one piece, of which the last outputs are read. Glossary: `lgmamba.remedies`; r protected steps at the end.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lgmamba.model.plan import Plan, ScanCall

Score = Literal["step_size", "random", "newest"]


def decimate(
    layers: Sequence[int],
    base: int,
    beta: float = 1.0,
    least: int = 1,
    protected: int = 1,
    score: Score = "step_size",
    generator: torch.Generator | None = None,
) -> Plan:
    """In the s-th of `layers`, keep floor(base beta^s) steps (at least `least`, at most all), and the protected ones.

    Args:
        layers: numbers of the decimating layers, ascending.
        base: steps kept by the first of them besides the protected ones; L0 - protected keeps later layers within L0.
        beta: factor from one decimating layer to the next.
        protected: r, steps at the end that are always kept; so many outputs of a pass are valid.
        score: which steps are kept: those of largest ||dt||, or, as ablations, random ones or the newest.
        generator: for random ones.
    Raises:
        ValueError: at the first piece, if the sequence is not read in one piece.
    """
    if score == "random" and generator is None:
        raise ValueError("score='random' needs a generator")

    def plan(call: ScanCall) -> ScanCall:
        if call.layer not in layers:
            return call
        if call.t0:
            raise ValueError(f"decimation reads a sequence in one piece; this piece starts after step {call.t0}")
        candidates = call.dt.shape[1] - protected
        wanted = min(candidates, max(least, int(base * beta ** list(layers).index(call.layer))))
        if wanted >= candidates:
            return call
        return replace(call, keep=_keep(_scores(call, score, generator), wanted, protected))

    return plan


def _scores(call: ScanCall, score: Score, generator: torch.Generator | None) -> Tensor:
    """(B, L), larger is kept."""
    if score == "step_size":
        return call.dt.norm(dim=2)
    if score == "newest":
        return torch.arange(call.dt.shape[1], device=call.dt.device).expand(call.dt.shape[:2]).float()
    return torch.rand(call.dt.shape[:2], generator=generator, device=generator.device).to(call.dt.device)


def _keep(scores: Tensor, wanted: int, protected: int) -> Tensor:
    """Ascending positions (B, wanted + protected); among equal scores the newer step is kept."""
    B, L = scores.shape
    newest_first = scores[:, : L - protected].flip(1)
    chosen = newest_first.sort(dim=1, descending=True, stable=True).indices[:, :wanted]
    chosen = L - protected - 1 - chosen
    tail = torch.arange(L - protected, L, device=scores.device).expand(B, -1)
    return torch.cat([chosen.sort(dim=1).values, tail], dim=1)
