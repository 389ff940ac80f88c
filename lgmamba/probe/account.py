"""Which modes should grow beyond the training length, and which do: prediction against measurement, mode by mode.

The prediction is F(T) / F(L0) of `lgmamba.probe.dynamics`, with rho from sequences of length L0 alone: a forecast. Measured is

    mean   |E[h_T]| / |E[h_L0]|, E over images and visiting orders: what the prediction is about
    rms    the same of the root mean square, which also holds what differs between images and orders

Where the forecast misses, either the decays or the writes changed: with decays as they were within L0 and the mean writes as they are
measured up to T (account `writes`, no forecast), what is left unexplained is the decays' part.

The mean says something only where E[h_L0] stands out of its own sampling error: modes with |E[h_L0]| > 3 standard errors are tested.
The share of variance explained is that of ln inflation, 1 - sum w (measured - predicted)^2 / sum w (measured - their mean)^2, without
any fit; unweighted, and weighted by the mode's share of its layer's squared mean state at L0 (rms: of its squared state).
Glossary: `lgmamba.probe`; D channels, N modes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.model import SequenceModel, Sequences
from lgmamba.probe.dynamics import DecayRecorder, DistanceRecorder, ModeMemory, WriteRecorder, mode_memory
from lgmamba.probe.stops import stops

TESTED = 3.0
"""Standard errors by which a mean state must differ from zero to be followed."""
ESTIMATORS = ("mean", "rms")
ACCOUNTS = ("memory", "writes")
"""Forecast from decays within L0 alone; the same decays with mean writes as measured up to T."""


@dataclass(frozen=True)
class Moments:
    """Of the states of one layer after one step, over images and orders, float64.

    Attributes:
        mean, rms, error: (D, N); error is the standard error of the mean.
    """

    mean: Tensor
    rms: Tensor
    error: Tensor

    @classmethod
    def of(cls, h: Sequence[Tensor]) -> "Moments":
        """From states (B, D, N) of several batches."""
        every = torch.cat([part.double() for part in h])
        mean, square = every.mean(0), every.square().mean(0)
        spread = (square - mean.square()).clamp(min=0) * len(every) / max(1, len(every) - 1)
        return cls(mean, square.sqrt(), (spread / len(every)).sqrt())


@dataclass(frozen=True)
class Account:
    """Modes of one model.

    Attributes:
        L0: training length, patches.
        memory: of each layer.
        moments: T -> of each layer.
        distances: T -> (D, N) of each layer, mean distance of every mode, mean over images.
        totals: T -> (D, N) of each layer, `WriteRecorder`'s sums, mean over orders.
    """

    L0: int
    memory: list[ModeMemory]
    moments: dict[int, list[Moments]]
    distances: dict[int, list[Tensor]]
    totals: dict[int, list[Tensor]]

    def tested(self, layer: int) -> Tensor:
        """Modes whose mean state is known at L0: (D, N) bool."""
        known = self.moments[self.L0][layer]
        return known.mean.abs() > TESTED * known.error

    def weight(self, layer: int, estimator: str) -> Tensor:
        """Share of each mode in its layer's squared (mean) state at L0: (D, N), sum 1."""
        size = getattr(self.moments[self.L0][layer], estimator).square()
        return size / size.sum()

    def predicted(self, layer: int, T: int, account: str) -> Tensor:
        """Growth from L0 to T by one of `ACCOUNTS`: (D, N)."""
        if account == "memory":
            return self.memory[layer].inflation(self.L0, T)
        return _ratio(self.totals[T][layer], self.totals[self.L0][layer])

    def measured(self, layer: int, T: int, estimator: str) -> Tensor:
        """Growth from L0 to T: (D, N)."""
        return growth(self.moments[T][layer], self.moments[self.L0][layer], estimator)


def growth(later: Moments, at_L0: Moments, estimator: str) -> Tensor:
    """Ratio of sizes, (D, N); see the module."""
    return _ratio(getattr(later, estimator), getattr(at_L0, estimator))


def _ratio(later: Tensor, before: Tensor) -> Tensor:
    tiny = torch.finfo(later.dtype).tiny
    return later.abs().clamp(min=tiny) / before.abs().clamp(min=tiny)


def mode_account(model: SequenceModel, batches: Sequence[Sequences], steps: Sequence[int], chunk: int) -> Account:
    """Read sequences to L0 for the forecast, and on to every T for what comes of it.

    Args:
        batches: the same images in one or more visiting orders.
        steps: L0 and the lengths T beyond it, ascending.
    """
    decays = DecayRecorder()
    states: dict[int, list[list[Tensor]]] = {T: [] for T in steps}
    back: dict[int, list[list[Tensor]]] = {T: [] for T in steps}
    for seq in batches:
        distances = DistanceRecorder()

        def watch(call, distances=distances):
            return distances(decays(call) if call.t0 < model.L0 else call)

        for stop in stops(model, seq, list(steps), chunk, watch):
            states[stop.t].append(stop.h)
            back[stop.t].append([d.mean(0) for d in distances.distances()])
    layers = range(model.config.n_layer)
    moments = {T: [Moments.of([h[layer] for h in states[T]]) for layer in layers] for T in steps}
    means = {T: [torch.stack([d[layer] for d in back[T]]).mean(0) for layer in layers] for T in steps}
    memory = mode_memory(decays)
    return Account(steps[0], memory, moments, means, _totals(model, batches, steps, chunk, memory))


def _totals(
    model: SequenceModel, batches: Sequence[Sequences], steps: Sequence[int], chunk: int, memory: list[ModeMemory]
) -> dict[int, list[Tensor]]:
    """A second pass: mean writes are summed with decays that the first one found."""
    parts: dict[int, list[list[Tensor]]] = {T: [] for T in steps}
    for seq in batches:
        writes = WriteRecorder(memory)
        for stop in stops(model, seq, list(steps), chunk, writes):
            parts[stop.t].append(writes.totals())
    return {T: [torch.stack(of_layer).mean(0) for of_layer in zip(*parts[T], strict=True)] for T in steps}


@dataclass(frozen=True)
class Explained:
    """How much of the growth of the modes the forecast explains.

    Attributes:
        share: share of the variance of ln growth; negative if a constant would do better; None without two modes that differ.
        correlation: between both logarithms, weighted alike.
        modes: how many.
    """

    share: float | None
    correlation: float | None
    modes: int


def explained(measured: Tensor, predicted: Tensor, weight: Tensor) -> Explained:
    """Of the growths of some modes, (n,) each, all above 0.

    Args:
        weight: (n,), not all 0.
    """
    y, p, w = measured.log(), predicted.log(), weight / weight.sum()
    y0, p0 = y - (w * y).sum(), p - (w * p).sum()
    total, spread = (w * y0.square()).sum(), (w * p0.square()).sum()
    if len(y) < 2 or total <= 0:
        return Explained(None, None, len(y))
    share = 1 - (w * (y - p).square()).sum() / total
    correlation = float((w * y0 * p0).sum() / (total * spread).sqrt()) if spread > 0 else None
    return Explained(float(share), correlation, len(y))
