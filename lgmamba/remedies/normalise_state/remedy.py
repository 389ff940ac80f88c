"""Clipping the norm of states (Stuffed Mamba, arXiv:2410.07145, method 2). Glossary: `lgmamba.remedies`."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.base import cuts_every, piecewise
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.normalise_state.config import NormaliseStateConfig
from lgmamba.remedies.remedy import Kind, Parts

Groups = Literal["layer", "channel"]


def normalise_state(largest: Sequence[float | Tensor], every: int = 1, after: int = 0) -> Hook:
    """h <- h min(1, p / ||h||) after every `every`-th step t > after.

    every = 1 is the definition; clipping less often costs less. Steps are counted from the start of the sequence, so the result
    does not depend on the pieces in which it is read.

    Args:
        largest: p for each layer, from `StateNormRecorder`: a number, for the norm over all channels and modes of a layer, or
            (D,), for that of each channel over its modes. Infinity for the identity.
        every: steps between clippings.
        after: L0 for the identity up to the training length.
    """

    def hook(call: Call) -> Call:
        end = call.t0 + call.shape[1]
        if end % every or end <= after:
            return call
        p = largest[call.layer]

        def clip(h: Tensor) -> Tensor:
            bound: Tensor | float
            if isinstance(p, Tensor):
                norm = _norms(h, "channel")[..., None]
                bound = p.to(norm)[:, None]
            else:
                bound, norm = p, _norms(h, "layer")[:, None, None]
            return h * (bound / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)

        return call.then(clip)

    return piecewise(cuts_every(every), hook)


class StateNormRecorder:
    """A hook that changes nothing and keeps the largest norm of each sequence's states: the calibration pass.

    Args:
        groups: layer, norms over all channels and modes; channel, of each channel over its modes.
        every: steps between two looks at the state.
    """

    def __init__(self, groups: Groups = "layer", every: int = 1) -> None:
        self.groups = groups
        self._largest: dict[int, list[Tensor]] = {}
        self._hook = piecewise(cuts_every(every), self._look)

    def __call__(self, call: Call) -> Call:
        return self._hook(call)

    def thresholds(self, quantile: float = 0.99) -> list[float | Tensor]:
        """p for each layer, as `normalise_state` takes it: that quantile over sequences."""
        found: list[float | Tensor] = []
        for layer in sorted(self._largest):
            p = torch.quantile(torch.cat(self._largest[layer]), quantile, dim=0)
            found.append(p if self.groups == "channel" else float(p))
        return found

    def _look(self, call: Call) -> Call:
        largest = self._largest.setdefault(call.layer, [])

        def look(h: Tensor) -> Tensor:
            norm = _norms(h.detach(), self.groups)
            if call.t0 == 0:  # new sequences
                largest.append(norm)
            else:
                largest[-1] = torch.maximum(largest[-1], norm)
            return h

        return call.then(look)


def _norms(h: Tensor, groups: Groups) -> Tensor:
    """(B, D, N), real or complex -> (B,) or (B, D)."""
    return h.norm(dim=2) if groups == "channel" else h.flatten(1).norm(dim=1)


def build(entry: NormaliseStateConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    device = model.device
    largest = [torch.tensor(p, device=device) if isinstance(p, list) else p for p in values["largest"]]
    return {"make_hook": lambda T: normalise_state(largest, entry.every, after=model.L0)}


@torch.no_grad()
def calibrate(entry: NormaliseStateConfig, images: CalibrationSet) -> Calibrated:
    """The norms that states are held below: a quantile over images of their largest norm within L0 steps."""
    recorder = StateNormRecorder(entry.groups, entry.every)
    images.record(recorder, images.model.L0, whole=True)
    thresholds = recorder.thresholds(entry.quantile)
    return Calibrated({"largest": [p.tolist() if isinstance(p, Tensor) else p for p in thresholds]}, 2)


KIND = Kind(build, calibrate)
