"""LongMamba as a remedy: which filters are calibrated, and how they are applied. The filters are in `lgmamba.remedies.longmamba.filters`."""

from typing import Any

import torch

from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.longmamba.config import LongMambaConfig
from lgmamba.remedies.longmamba.filters import (
    StepSizeRecorder,
    Thresholds,
    keep_to_budget,
    mask_random_steps,
    mask_steps,
    random_channels,
    selected_everything,
    thresholds,
    thresholds_as_released,
)
from lgmamba.remedies.longmamba.filters import calibrate as calibrate_filters
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.step_size.remedy import cumulative_steps


def build(entry: LongMambaConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    channels = None if entry.channels == "all" else [torch.tensor(mask) for mask in values["channels"]]
    if entry.threshold == "bound":
        budgets = [torch.tensor(Q) for Q in values["budgets"]]
        return {"make_hook": lambda T: None if T <= model.L0 else keep_to_budget(budgets, channels), "whole": True}
    if entry.steps == "random":

        def at_random(T: int) -> Hook | None:
            if T <= model.L0:
                return None
            return mask_random_steps([torch.tensor(v) for v in values["shares"][str(T)]], T, channels)

        return {"make_hook": at_random}
    tables = tables_of(values["theta"], values["lengths"])
    return {"make_hook": lambda T: mask_steps(tables, channels, T)}


def tables_of(theta: list, lengths: list[int]) -> list[Thresholds]:
    """Thresholds (F, D) of each layer, from JSON."""
    return [Thresholds(lengths, torch.tensor(v)) for v in theta]


@torch.no_grad()
def calibrate(entry: LongMambaConfig, images: CalibrationSet) -> Calibrated:
    """Which channels are filtered, (D,) for each layer, and what the form needs: thresholds, shares or budgets."""
    L0, recorder = images.model.L0, record_steps(images)
    filters = calibrate_filters(recorder, L0, entry.above, entry.survival)
    channels = [f.long_memory.cpu() for f in filters]
    if entry.channels == "random":
        channels = random_channels(channels, torch.Generator().manual_seed(images.seed))
    values: dict[str, Any] = {"channels": [mask.tolist() for mask in channels]}
    lengths = images.tabulated(entry.mode)
    if entry.threshold == "bound":
        values["budgets"] = [Q.tolist() for Q in cumulative_steps(recorder.step_sizes, L0)]
    elif entry.steps == "random":
        values["shares"] = {str(T): [f.kept_share(f.threshold(L0 / T)).tolist() for f in filters] for T in lengths[1:]}
    else:
        tables = thresholds(filters, L0, lengths[1:])
        if entry.threshold == "as_released":
            tables = thresholds_as_released(recorder, L0, lengths[1:], 0.1 if entry.clamp is None else entry.clamp)
        values |= {"lengths": lengths, "theta": [table.theta.tolist() for table in tables]}
    return Calibrated(values, 2)


def record_steps(images: CalibrationSet, rates: bool = True) -> StepSizeRecorder:
    """Step sizes of sequences of the training length, read whole; and A, if it is asked for."""
    recorder = StepSizeRecorder(rates)
    images.record(recorder, images.model.L0, whole=True)
    return recorder


def remarks(entry: LongMambaConfig, values: dict[str, Any]) -> list[str]:
    remark = None if entry.channels == "all" else selected_everything(values["channels"])
    return [] if remark is None else [remark]


KIND = Kind(build, calibrate, remarks)
