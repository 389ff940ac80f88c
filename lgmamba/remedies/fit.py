"""Finding the values of a remedy for one trained model, on images that are in no other split.

What is lowered is the mean squared error of the reconstruction after the last patch, at each length calibrated for. Half of the
images are optimised on, the other half decide what is kept. Glossary: `lgmamba.remedies`; M factors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.remedies import (
    CalibrationConfig,
    DeciMambaRemedy,
    Entry,
    LongMambaRemedy,
    NormaliseStateRemedy,
    SpectrumRemedy,
    StepSizeRemedy,
)
from lgmamba.model import PatchMamba
from lgmamba.model.plan import Plan, gather_steps
from lgmamba.remedies.build import factor_plan, scope_of
from lgmamba.remedies.calibrate import Calibration, by_gradient, last_step_loss, zeroth_order
from lgmamba.remedies.decimamba import decimate
from lgmamba.remedies.factors import by_layer, n_factors
from lgmamba.remedies.longmamba import StepSizeRecorder
from lgmamba.remedies.longmamba import calibrate as calibrate_filters
from lgmamba.remedies.read import told
from lgmamba.remedies.state import StateNormRecorder


@dataclass(frozen=True)
class CalibrationSet:
    """Images to calibrate on, with one visiting order each.

    Attributes:
        model: frozen, in eval mode.
        targets: (B, C, H, W) in [0, 1].
        patches: (B, G, K) all patches of each image.
        cells: (B, T) visiting orders up to the longest length.
        config: how to calibrate.
        steps: lengths that will be reported.
        piece: steps held in memory at a time.
        seed: of random signs.
    """

    model: PatchMamba
    targets: Tensor
    patches: Tensor
    cells: Tensor
    config: CalibrationConfig
    steps: list[int]
    piece: int
    seed: int

    @property
    def lengths(self) -> list[int]:
        """Lengths T calibrated for, patches."""
        return sorted({max(self.model.L0 + 1, round(f * self.model.L0)) for f in self.config.lengths})

    def half(self, second: bool) -> "CalibrationSet":
        """The images to optimise on, or those to keep the best by."""
        middle = len(self.targets) // 2
        part = slice(middle, None) if second else slice(0, middle)
        return replace(self, targets=self.targets[part], patches=self.patches[part], cells=self.cells[part])

    def sequence(self, T: int) -> tuple[Tensor, Tensor]:
        """Patches (B, T, K) and cells (B, T) of the first T steps."""
        cells = self.cells[:, :T]
        return gather_steps(self.patches, cells), cells

    def loss(self, T: int, make_plan: Callable[[Tensor], Plan], piece: int | None = None) -> Callable[[Tensor], Tensor]:
        """Mean squared error after T steps as a function of ln factors (M,)."""
        patches, cells = self.sequence(T)
        length = told(self.model, cells, T)
        return last_step_loss(self.model, patches, cells, self.targets, make_plan, length, piece)


@dataclass(frozen=True)
class Fit:
    """JSON values of a remedy, and the forward passes over half of the images that they took."""

    values: dict[str, Any]
    passes: int


def fit(entry: Entry, images: CalibrationSet) -> Fit:
    """Calibrate one entry that says that it is calibrated."""
    return FITS[entry.kind](entry, images)


def _fit_factors(entry: SpectrumRemedy | StepSizeRemedy, images: CalibrationSet) -> Fit:
    """Under "T": length -> factors (M,), loss before and after on the images held out."""
    config = images.model.config
    scope = scope_of(entry)
    n = n_factors(scope, config.n_layer, config.mixer.d_state)

    def make_plan(factors: Tensor) -> Plan:
        return factor_plan(entry, by_layer(factors, scope, config.n_layer))

    found, passes = {}, 0
    for T in images.lengths:
        losses = [images.half(second).loss(T, make_plan, images.piece) for second in (False, True)]
        calibration = _search(entry.calibrate, *losses, n, images)
        found[str(T)] = {"factors": calibration.factors, "before": calibration.before, "after": calibration.after}
        passes += calibration.passes
    return Fit({"T": found}, passes)


def _search(how: str, objective, held_out, n: int, images: CalibrationSet) -> Calibration:
    if how == "gradient":
        return by_gradient(objective, held_out, n, images.config.steps)
    return zeroth_order(objective, held_out, n, images.config.steps, images.seed)


@torch.no_grad()
def _fit_decimamba(entry: DeciMambaRemedy, images: CalibrationSet) -> Fit:
    """The layer with the smallest error if it alone decimates, mean over the lengths calibrated for."""
    model = images.model
    base = max(1, round(entry.base * model.L0) - entry.protected)
    losses = []
    for layer in range(model.config.n_layer):
        plan = decimate([layer], base, 1.0, 1, entry.protected)
        of_lengths = [float(images.loss(T, lambda _, plan=plan: plan)(torch.zeros(1))) for T in images.lengths]
        losses.append(sum(of_lengths) / len(of_lengths))
    best = min(range(len(losses)), key=losses.__getitem__)
    layers = [best] if entry.layers == "best" else list(range(best, len(losses)))
    return Fit({"layers": layers, "loss_by_layer": losses}, 2 * len(losses) * len(images.lengths))


@torch.no_grad()
def _fit_longmamba(entry: LongMambaRemedy, images: CalibrationSet) -> Fit:
    """Under "T": length -> thresholds of each layer (D,); and which channels have long memory."""
    model, recorder = images.model, StepSizeRecorder()
    patches, cells = images.sequence(model.L0)
    model.encode(patches, cells, told=told(model, cells, model.L0), plan=recorder, want_state=False)
    filters = calibrate_filters(recorder, model.L0, entry.survival)
    lengths = [T for T in images.steps if T > model.L0]
    found = {str(T): {"thresholds": [f.threshold(model.L0 / T).tolist() for f in filters]} for T in lengths}
    return Fit({"long_memory": [f.long_memory.tolist() for f in filters], "T": found}, 2)


@torch.no_grad()
def _fit_normalise_state(entry: NormaliseStateRemedy, images: CalibrationSet) -> Fit:
    """The norms that states are held below: a quantile over images of their largest norm within L0 steps."""
    model, recorder = images.model, StateNormRecorder(entry.groups, entry.every)
    patches, cells = images.sequence(model.L0)
    model.encode(patches, cells, told=told(model, cells, model.L0), plan=recorder, want_state=False)
    thresholds = recorder.thresholds(entry.quantile)
    return Fit({"largest": [p.tolist() if isinstance(p, Tensor) else p for p in thresholds]}, 2)


FITS = {
    "spectrum": _fit_factors,
    "step_size": _fit_factors,
    "decimamba": _fit_decimamba,
    "longmamba": _fit_longmamba,
    "normalise_state": _fit_normalise_state,
}
