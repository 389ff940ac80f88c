"""LongMamba on Mamba-1: in channels of long memory, steps of small step size write and erase nothing.

The threshold of a channel is such that over a long sequence its step sizes sum up to what they summed up to over the training
length. Here it is solved from pooled step sizes of calibration sequences, which keeps the sum at any length; the released
procedure, which clamps the curve first, keeps too much from some length on. Glossary: `lgmamba.remedies`; D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lgmamba.model.plan import Plan, ScanCall

SURVIVAL = 0.05
"""A channel has long memory if at least this share of a write survives one training length (c_thr of the release)."""


class StepSizeRecorder:
    """A plan that changes nothing and keeps every layer's step sizes: the calibration pass."""

    def __init__(self) -> None:
        self.step_sizes: dict[int, list[Tensor]] = {}
        self.A: dict[int, Tensor] = {}

    def __call__(self, call: ScanCall) -> ScanCall:
        self.step_sizes.setdefault(call.layer, []).append(call.dt.detach().float())
        self.A[call.layer] = call.A.detach()
        return call


@dataclass(frozen=True)
class ChannelFilter:
    """What one layer needs for any length.

    Attributes:
        sorted_steps: (D, n) pooled step sizes of the calibration, descending.
        kept_mean: (D, n) mean over all pooled steps of those up to this rank: what is kept with the threshold below it.
        long_memory: (D,) bool.
    """

    sorted_steps: Tensor
    kept_mean: Tensor
    long_memory: Tensor

    def threshold(self, factor: float) -> Tensor:
        """theta (D,) such that the mean of dt where dt > theta is the whole mean times `factor`; 0 for factor >= 1."""
        if factor >= 1:
            return torch.zeros_like(self.sorted_steps[:, 0])
        wanted = self.kept_mean[:, -1:] * factor
        rank = torch.searchsorted(self.kept_mean, wanted).clamp(max=self.sorted_steps.shape[1] - 1)
        return self.sorted_steps.gather(1, rank)[:, 0]


def calibrate(recorder: StepSizeRecorder, L0: int, survival: float = SURVIVAL) -> list[ChannelFilter]:
    """One filter for each layer, from a recorded pass over calibration sequences of length L0.

    Survival of channel d: exp(-min_n |A_dn| Q_d), Q_d = mean cumulative step over L0: that of its slowest mode.
    """
    filters = []
    for layer in sorted(recorder.step_sizes):
        steps = torch.cat([v.flatten(0, 1) for v in recorder.step_sizes[layer]])  # (n, D)
        pooled = steps.T.contiguous().sort(dim=1, descending=True).values
        kept_mean = pooled.double().cumsum(1).div(pooled.shape[1]).float()
        slowest = (-recorder.A[layer]).min(dim=1).values.float()
        lasting = torch.exp(-slowest * kept_mean[:, -1] * L0) > survival
        filters.append(ChannelFilter(pooled, kept_mean, lasting))
    return filters


def filter_steps(filters: Sequence[ChannelFilter], L0: int, T: int, every_channel: bool = False) -> Plan:
    """dt <- dt where dt > theta(T), else 0, in channels of long memory (or in every one, as an ablation). Prefix mode.

    dt = 0 leaves the state as it was, and every step keeps its output.
    """
    thresholds = [f.threshold(L0 / T) for f in filters]

    def plan(call: ScanCall) -> ScanCall:
        keeps = call.dt > thresholds[call.layer]
        if not every_channel:
            keeps = keeps | ~filters[call.layer].long_memory
        return replace(call, dt=call.dt * keeps)

    return plan
