"""DeciMamba: a layer goes on with the steps of the largest step sizes only; later layers see the shorter sequence.

A step size near zero already means that a step is ignored, so that dropping it is meant to be cheap. Prefix mode: the whole
sequence in one piece, of which the last outputs are read; `lgmamba.remedies.deci_stream` has a causal form.
Glossary: `lgmamba.remedies`; r protected steps at the end.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook

Score = Literal["step_size", "random", "newest"]


def decimate(
    layers: Sequence[int],
    base: int,
    beta: float = 1.0,
    least: int = 1,
    protected: int = 1,
    score: Score = "step_size",
    generator: torch.Generator | None = None,
) -> Hook:
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

    def plan(call: Call) -> Call:
        if call.layer not in layers:
            return call
        if call.t0:
            raise ValueError(f"decimation reads a sequence in one piece; this piece starts after step {call.t0}")
        candidates = call.shape[1] - protected
        wanted = min(candidates, max(least, int(base * beta ** list(layers).index(call.layer))))
        if wanted >= candidates:
            return call
        return replace(call, keep=_keep(_scores(call, score, generator), wanted, protected))

    return plan


class KeptSteps:
    """A plan that changes nothing and notes which steps of a sequence arrive above each layer; put it after a decimating plan.

    Attributes:
        kept: layer -> (B, K) 0-based steps whose outputs leave the layer, of the sequence read last.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}
        self._here: Tensor | None = None

    def __call__(self, call: Call) -> Call:
        if call.layer == 0:
            B, L = call.shape
            self._here = torch.arange(L, device=call.like.device).expand(B, -1)
        if call.keep is not None:
            self._here = self._here.gather(1, call.keep)
        self.kept[call.layer] = self._here
        return call

    def account(self, layer: int, cells: Tensor, n_cells: int) -> dict[str, float | list[int]]:
        """What was kept of visiting orders (B, T) on a grid of `n_cells` cells.

        Returns:
            share: kept steps / T; coverage: share of the cells visited that are among the kept steps, mean over sequences;
            ages: kept steps, over all sequences, that were read 0, 1, 2-3, 4-7, ... steps before the last one.
        """
        kept, T = self.kept[layer], cells.shape[1]
        none = torch.zeros(len(cells), n_cells, device=cells.device)
        among_kept, visited = (none.scatter(1, some, 1.0).sum(1) for some in (cells.gather(1, kept), cells))
        ages = T - 1 - kept.flatten()
        octave = torch.where(ages > 0, ages.clamp(min=1).log2().floor() + 1, 0).long()
        return {
            "share": kept.shape[1] / T,
            "coverage": float((among_kept / visited).mean()),
            "ages": torch.bincount(octave.cpu(), minlength=T.bit_length() + 1).tolist(),
        }


def _scores(call: Call, score: Score, generator: torch.Generator | None) -> Tensor:
    """(B, L), larger is kept."""
    if score == "step_size":
        return call.score().norm(dim=2)
    device = call.like.device
    if score == "newest":
        return torch.arange(call.shape[1], device=device).expand(call.shape).float()
    return torch.rand(call.shape, generator=generator, device=generator.device).to(device)


def _keep(scores: Tensor, wanted: int, protected: int) -> Tensor:
    """Ascending positions (B, wanted + protected); among equal scores the newer step is kept."""
    B, L = scores.shape
    newest_first = scores[:, : L - protected].flip(1)
    chosen = newest_first.sort(dim=1, descending=True, stable=True).indices[:, :wanted]
    chosen = L - protected - 1 - chosen
    tail = torch.arange(L - protected, L, device=scores.device).expand(B, -1)
    return torch.cat([chosen.sort(dim=1).values, tail], dim=1)
