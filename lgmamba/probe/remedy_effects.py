"""Which modes a remedy touches: memory and growth of every mode under a few remedies, each in its simplest form.

    step_size      dt times L0 / T in all layers
    spectrum_mult  |A| times s, one s for each layer in closed form (`lgmamba.remedies.closed_form`)
    spectrum_pow   |A|^s, the same by trial: the s that brings the expected growth of a layer's modes closest to 1, in the mean square
                   of its logarithm, weighted by the squared mean state at L0
    longmamba      small steps masked in channels of long memory, so that step sizes sum up to what they do at L0
    retain         every state keeps 1 - 1 / (1.25 L0) of itself a step more: a horizon of 1.25 L0

Nothing is calibrated on errors of images; for that see `lgmamba.probe.remedy`. Glossary: `lgmamba.probe`; D channels, N modes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.mixers.contract import Hook
from lgmamba.model import SequenceModel, Sequences
from lgmamba.probe.account import Account, Moments
from lgmamba.probe.dynamics import DecayRecorder, ModeMemory
from lgmamba.probe.stops import Stop, stops
from lgmamba.remedies.base import chain, constant_schedule
from lgmamba.remedies.closed_form import StateRecorder, closed_form_factors, series
from lgmamba.remedies.longmamba.filters import ChannelFilter, calibrate, mask_steps, thresholds
from lgmamba.remedies.retain_insert.remedy import horizon_retention, retain_and_insert
from lgmamba.remedies.spectrum.remedy import scale_spectrum
from lgmamba.remedies.step_size.remedy import scale_step_sizes

REMEDIES = ("none", "step_size", "spectrum_mult", "spectrum_pow", "longmamba", "retain")
HORIZON = 1.25
"""Of `retain`, in training lengths: what the largest model of Stuffed Mamba used."""
POWERS = [k / 10 for k in range(1, 31)]
"""s tried, 0.1 to 3; 1 leaves a layer as it is."""
SAMPLES = 256
"""Steps a layer from which decays under another spectrum are estimated, at most."""
RECORDED = 16
"""Sequences of a pass whose decays are averaged; there are many steps."""


@dataclass(frozen=True)
class Remedies:
    """Plans for one model.

    Attributes:
        known: the model without them.
        recorder: step sizes and spectrum of sequences of length L0.
        filters: of LongMamba.
    """

    known: Account
    recorder: StateRecorder
    filters: list[ChannelFilter]

    @classmethod
    def of(cls, model: SequenceModel, seq: Sequences, known: Account, chunk: int) -> "Remedies":
        """From one pass over the first L0 steps of training images."""
        recorder = StateRecorder()
        for _ in stops(model, seq, [known.L0], chunk, recorder):
            pass
        return cls(known, recorder, calibrate(recorder, known.L0))

    def hook(self, name: str, T: int) -> tuple[Hook | None, float]:
        """The hook of one of `REMEDIES` for length T, and extra decay a step that it does not show in dt or A."""
        L0 = self.known.L0
        if name == "step_size":
            return scale_step_sizes(constant_schedule(L0, T, 1.0)), 1.0
        if name == "longmamba":
            channels = [f.long_memory for f in self.filters]
            return mask_steps(thresholds(self.filters, L0, [T]), channels, T), 1.0
        if name == "retain":
            retention = horizon_retention(L0, HORIZON)
            return retain_and_insert(retention), retention
        if name == "spectrum_mult":
            return scale_spectrum("mult", closed_form_factors(self.recorder, "spectrum", L0, T)), 1.0
        if name == "spectrum_pow":
            return scale_spectrum("pow", [self.power(layer, T) for layer in sorted(self.recorder.A)]), 1.0
        return None, 1.0

    def power(self, layer: int, T: int) -> float:
        """The s of a layer for `spectrum_pow`, one of `POWERS`."""
        every = torch.cat([part.flatten(0, 1) for part in self.recorder.step_sizes[layer]])
        dt = every[:: -(-len(every) // SAMPLES)].double()
        size, weight = -self.recorder.A[layer].double(), self.known.weight(layer, "mean")

        def miss(s: float) -> float:
            rho = torch.exp(-dt[..., None] * size**s).mean(0)
            growth = series(rho, T) / self.known.memory[layer].total(self.known.L0)
            return float((weight * growth.log().square()).sum())

        return min(POWERS, key=miss)


@dataclass(frozen=True)
class RemedyEffect:
    """A model under a remedy at one length.

    Attributes:
        stop: where the pass ended; its output draws the image.
        tau: (D, N) of each layer, with the step sizes and A that the remedy makes, over all T steps.
        predicted: (D, N) of each layer, growth from L0 without the remedy to T with it.
        moments: of the states at T.
    """

    stop: Stop
    tau: list[Tensor]
    predicted: list[Tensor]
    moments: list[Moments]


def remedy_effect(
    model: SequenceModel, seq: Sequences, T: int, chunk: int, hook: Hook | None, retention: float, known: Account
) -> RemedyEffect:
    """Read to T with a remedy. What is written shrinks or grows with the step size: E[dt' B x] / E[dt B x] = E[dt'] / E[dt].

    Args:
        hook: of the remedy, for this T.
        retention: extra decay of every step that the hook does not show in dt or A (1 for none).
        known: the same model without it.
    """
    L0, plain, changed = known.L0, DecayRecorder(RECORDED), DecayRecorder(RECORDED)
    recording = chain(plain, *([] if hook is None else [hook]), changed)
    (stop,) = stops(model, seq, [T], chunk, recording)
    memory = [ModeMemory.of(rho * retention) for rho in changed.rho()]
    wrote = [b / a for a, b in zip(plain.step_size(), changed.step_size(), strict=True)]
    predicted = [
        write[:, None] * new.total(T) / old.total(L0)
        for write, new, old in zip(wrote, memory, known.memory, strict=True)
    ]
    return RemedyEffect(stop, [m.tau for m in memory], predicted, [Moments.of([h]) for h in stop.h])
