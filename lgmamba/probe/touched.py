"""Which modes a remedy touches: memory and growth of every mode under a few remedies, each in its simplest form.

    step_size      dt times L0 / T in all layers
    spectrum_mult  |A| times s, spectrum_pow |A|^s: one s for each layer, in closed form: the one that brings the expected growth of
                   all modes closest to 1, in the mean square of its logarithm, weighted by the squared mean state at L0
    longmamba      small steps masked in channels of long memory, so that step sizes sum up to what they do at L0
    retain         every state keeps 1 - 1 / (1.25 L0) of itself a step more: a horizon of 1.25 L0

Nothing is calibrated on errors of images; for that see `lgmamba.probe.remedy`. Glossary: `lgmamba.probe`; D channels, N modes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.model import PatchMamba, Plan
from lgmamba.probe.account import Account, Moments
from lgmamba.probe.dynamics import DecayRecorder, ModeMemory, series
from lgmamba.probe.passes import Sequences, Stop, stops
from lgmamba.remedies.base import chain, constant_schedule
from lgmamba.remedies.longmamba import ChannelFilter, StepSizeRecorder, calibrate, filter_steps
from lgmamba.remedies.spectrum import scale_spectrum
from lgmamba.remedies.state import horizon_retention, retain_and_insert
from lgmamba.remedies.step_size import scale_step_sizes

REMEDIES = ("none", "step_size", "spectrum_mult", "spectrum_pow", "longmamba", "retain")
HORIZON = 1.25
"""Of `retain`, in training lengths: what the largest model of Stuffed Mamba used."""
FACTORS = [2.0 ** (k / 4) for k in range(-16, 25)]
"""s tried for the spectrum, 1 / 16 to 64."""
SAMPLES = 256
"""Steps a layer from which decays under another spectrum are estimated."""


@dataclass(frozen=True)
class Remedies:
    """Plans for one model.

    Attributes:
        known: the model without them.
        steps: of each layer, (n, D) step sizes seen at lengths up to L0, in the order in which they were read.
        A: (D, N) of each layer.
        filters: of LongMamba.
    """

    known: Account
    steps: list[Tensor]
    A: list[Tensor]
    filters: list[ChannelFilter]

    @classmethod
    def of(cls, model: PatchMamba, seq: Sequences, known: Account, piece: int) -> "Remedies":
        """From one pass over the first L0 steps of training images."""
        recorder = StepSizeRecorder()
        for _ in stops(model, seq, [known.L0], piece, recorder):
            pass
        layers = sorted(recorder.A)
        steps = [torch.cat([part.flatten(0, 1) for part in recorder.step_sizes[layer]]) for layer in layers]
        return cls(known, steps, [recorder.A[layer] for layer in layers], calibrate(recorder, known.L0))

    def plan(self, name: str, T: int) -> tuple[Plan | None, float]:
        """The plan of one of `REMEDIES` for length T, and extra decay a step that it does not show in dt or A."""
        L0 = self.known.L0
        if name == "step_size":
            return scale_step_sizes(constant_schedule(L0, T, 1.0)), 1.0
        if name == "longmamba":
            return filter_steps(self.filters, L0, T), 1.0
        if name == "retain":
            retention = horizon_retention(L0, HORIZON)
            return retain_and_insert(retention), retention
        if name.startswith("spectrum"):
            form = name.removeprefix("spectrum_")
            return scale_spectrum(form, [self.spectrum_factor(layer, form, T) for layer in range(len(self.A))]), 1.0
        return None, 1.0

    def spectrum_factor(self, layer: int, form: str, T: int) -> float:
        """The s of a layer, by trial of `FACTORS`."""
        every = self.steps[layer]
        dt = every[torch.linspace(0, len(every) - 1, min(SAMPLES, len(every)), device=every.device).long()].double()
        size, weight = -self.A[layer].double(), self.known.weight(layer, "mean")

        def miss(s: float) -> float:
            scaled = size * s if form == "mult" else size**s
            rho = torch.exp(-dt[..., None] * scaled).mean(0)
            growth = series(rho, T) / self.known.memory[layer].total(self.known.L0)
            return float((weight * growth.log().square()).sum())

        return min(FACTORS, key=miss)


@dataclass(frozen=True)
class Touched:
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


def touch(
    model: PatchMamba, seq: Sequences, T: int, piece: int, plan: Plan | None, retention: float, known: Account
) -> Touched:
    """Read to T with a remedy. What is written shrinks or grows with the step size: E[dt' B x] / E[dt B x] = E[dt'] / E[dt].

    Args:
        plan: of the remedy, for this T.
        retention: extra decay of every step that the plan does not show in dt or A (1 for none).
        known: the same model without it.
    """
    L0, plain, changed = known.L0, DecayRecorder(), DecayRecorder()
    recording = chain(plain, *([] if plan is None else [plan]), changed)
    (stop,) = stops(model, seq, [T], piece, recording)
    memory = [ModeMemory.of(rho * retention) for rho in changed.rho()]
    wrote = [b / a for a, b in zip(plain.step_size(), changed.step_size(), strict=True)]
    predicted = [
        write[:, None] * new.total(T) / old.total(L0)
        for write, new, old in zip(wrote, memory, known.memory, strict=True)
    ]
    return Touched(stop, [m.tau for m in memory], predicted, [Moments.of([h]) for h in stop.h])
