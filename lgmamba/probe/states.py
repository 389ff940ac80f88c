"""Size and drift of the states, beyond what training images ever made them. Glossary: `lgmamba.probe`.

B samples, D channels, N modes; a layer's state h is (B, D, N). "At L0" is what images of the training split gave.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call
from lgmamba.model import SequenceModel, Sequences
from lgmamba.probe.stops import Stop, stops

SMALLEST_CHANGE = 1e-4
"""Below this share of the state, what changes from cycle to cycle is float32 rounding."""


@dataclass(frozen=True)
class TrainingStates:
    """What one layer's states are within the training length.

    Attributes:
        norm: () mean over images of ||h|| at L0.
        mean, std: (D, N) over images at L0.
        low, high: (D, N) smallest and largest entry over images and steps up to L0.
    """

    norm: Tensor
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor


def training_states(found: Iterable[Stop]) -> list[TrainingStates]:
    """One entry for each layer, from a pass over training images with stops up to L0, the last of them at L0."""
    low: list[Tensor] = []
    high: list[Tensor] = []
    for stop in found:
        lows, highs = [h.amin(0) for h in stop.h], [h.amax(0) for h in stop.h]
        low = [torch.minimum(*pair) for pair in zip(low, lows, strict=True)] if low else lows
        high = [torch.maximum(*pair) for pair in zip(high, highs, strict=True)] if high else highs
    return [
        TrainingStates(norms(h).mean(), h.mean(0), h.std(0), low[layer], high[layer]) for layer, h in enumerate(stop.h)
    ]


def norms(h: Tensor) -> Tensor:
    """||h|| over all channels and modes of a layer: (B,)."""
    return h.flatten(1).norm(dim=1)


def state_numbers(h: Tensor, before: Tensor | None, known: TrainingStates) -> dict[str, float | None]:
    """How one layer's states at one step stand to those of training.

    Args:
        h: (B, D, N) states of held-out images.
        before: states some steps earlier; None where there are none.
        known: states within the training length.
    Returns:
        norm_ratio: mean ||h|| over that at L0; mean, variance, rms, median of the entries, q999: their 99.9 % quantile of |h|;
        drift: mean ||h - before|| / ||h||, cosine: mean of the angle's cosine between them;
        z_median, z_rms: over modes, of |mean over images of h - that at L0| / standard deviation over images at L0;
        beyond: share of entries outside the range that they had in training.
    """
    size = h.abs().flatten()
    moved = (h.mean(0) - known.mean).abs() / known.std.clamp(min=torch.finfo(h.dtype).tiny)
    numbers = {
        "norm_ratio": norms(h).mean() / known.norm,
        "mean": h.mean(),
        "variance": h.var(),
        "rms": h.square().mean().sqrt(),
        "median": h.median(),
        "q999": size.kthvalue(max(1, round(0.999 * size.numel()))).values,  # torch.quantile takes no large tensors
        "z_median": moved.median(),
        "z_rms": moved.square().mean().sqrt(),
        "beyond": ((h < known.low) | (h > known.high)).float().mean(),
        "drift": None,
        "cosine": None,
    }
    if before is not None:
        numbers["drift"] = (norms(h - before) / norms(h)).mean()
        numbers["cosine"] = torch.cosine_similarity(h.flatten(1), before.flatten(1)).mean()
    return {name: None if value is None else float(value) for name, value in numbers.items()}


@dataclass(frozen=True)
class Cycle:
    """What one layer does from one reading of the same cells in the same order to the next.

    Attributes:
        layer, cycle: numbers; cycle k compares h_{k+1} - h_k with h_k - h_{k-1}, h_k after k G steps.
        change: RMS over images of ||h_{k+1} - h_k|| / ||h_{k+1}||.
        observed: ratio of the two differences' norms (RMS over images); None where rounding is all there is.
        predicted: the same if inputs repeat exactly: the later difference is then exp(A S) times the earlier, S the cumulative
            step size of a cycle. True of the first layer; of a later one as far as those before it have converged.
    """

    layer: int
    cycle: int
    change: float
    observed: float | None
    predicted: float


class _CycleDecay:
    """A hook that changes nothing and sums up step sizes, in float64, until they are taken."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._A: dict[int, Tensor] = {}

    def __call__(self, call: Call) -> Call:
        self._A[call.layer] = -call.rates().double()
        self._sums[call.layer] = self._sums.get(call.layer, 0) + call.score().double().sum(1)
        return call

    def take(self) -> list[Tensor]:
        """exp(A S) since the last call, (B, D, N) of each layer."""
        found = [torch.exp(self._A[layer] * self._sums[layer][..., None]) for layer in sorted(self._sums)]
        self._sums = {}
        return found


def cycle_contraction(model: SequenceModel, seq: Sequences, cycles: int, chunk: int) -> list[Cycle]:
    """Read the same order round and round, and compare how states converge with how they should.

    Args:
        seq: sequences in the order `cycle`, at least cycles x G steps long.
    """
    G = seq.n_cells
    decay = _CycleDecay()
    rows: list[Cycle] = []
    earlier: list[Tensor] = []
    change: list[Tensor] = []
    for k, stop in enumerate(stops(model, seq, [G * k for k in range(1, cycles + 1)], chunk, decay)):
        over_cycle = decay.take()
        states = [h.double() for h in stop.h]
        now = [h - old for h, old in zip(states, earlier, strict=True)] if earlier else []
        for layer, (later, before) in enumerate(zip(now, change, strict=bool(change))):
            size, old = later.norm(), before.norm()
            predicted = (over_cycle[layer] * before).norm() / old
            total = states[layer].norm()
            seen = float(size / old) if size > SMALLEST_CHANGE * total else None
            rows.append(Cycle(layer, k, float(size / total), seen, float(predicted)))
        earlier, change = states, now
    return rows
