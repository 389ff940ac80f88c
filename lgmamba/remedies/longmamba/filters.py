"""LongMamba on Mamba-1: in channels of long memory, steps of small step size write and erase nothing.

The threshold theta of a channel is such that over a long sequence the step sizes above it sum up to what all of them sum up to
over the training length (its budget Q). dt = 0 leaves the state as it was, and every step keeps its output.

    thresholds               solved from pooled step sizes of calibration sequences; the sum is kept at any length
    thresholds_as_released   the released procedure, which clamps the largest step sizes of each sequence first; from the length on
                             where fewer steps should be kept than were clamped, the threshold sticks and too much is kept
    keep_to_budget           no threshold: the largest step sizes of the sequence itself, until their sum reaches Q (`bound`)

Thresholds are tabulated over lengths: in prefix mode that of T holds for the whole sequence, in stream mode that of t. There the
sum goes on to grow, as 1 + ln(t / L0). Glossary: `lgmamba.remedies`; D channels, n pooled steps, F lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.remedies.base import steps_of

SURVIVAL = 0.05
"""A channel has long memory if at least this share of a write survives one training length (c_thr of the release)."""

Form = Literal["slow", "mean", "stepmean"]


class StepSizeRecorder:
    """A hook that changes nothing and keeps every layer's step sizes: the calibration pass.

    Args:
        rates: whether to keep A as well, which takes a mixer with modes.
    """

    def __init__(self, rates: bool = True) -> None:
        self.rates = rates
        self.step_sizes: dict[int, list[Tensor]] = {}
        self.A: dict[int, Tensor] = {}

    def __call__(self, call: Call) -> Call:
        self.step_sizes.setdefault(call.layer, []).append(call.score().detach().float())
        if self.rates:
            self.A[call.layer] = -call.rates().detach()
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

    def kept_share(self, theta: Tensor) -> Tensor:
        """Share of the pooled steps above thresholds (D,): (D,)."""
        return (self.sorted_steps > theta[:, None]).double().mean(1)


def calibrate(
    recorder: StepSizeRecorder, L0: int, survival: float = SURVIVAL, form: Form = "slow"
) -> list[ChannelFilter]:
    """One filter for each layer, from a recorded pass over calibration sequences of length L0.

    Args:
        survival: a channel has long memory if more than this share of a write survives L0 steps, in the sense of `form`:
            slow, of its slowest mode, exp(-min_n |A_dn| Q_d) with Q_d the mean cumulative step over L0; mean, the mean of
            exp(-|A_dn| Q_d) over modes n; stepmean, that of one step, mean over modes and steps of exp(dt A_dn), to the power L0.
    Raises:
        ValueError: the form is unknown.
    """
    if form not in ("slow", "mean", "stepmean"):
        raise ValueError(f"form={form!r}; expected 'slow', 'mean' or 'stepmean'")
    filters = []
    for layer in sorted(recorder.step_sizes):
        steps = torch.cat([v.flatten(0, 1) for v in recorder.step_sizes[layer]])  # (n, D)
        pooled = steps.T.contiguous().sort(dim=1, descending=True).values
        kept_mean = pooled.double().cumsum(1).div(pooled.shape[1]).float()
        survives = _survival(pooled, kept_mean[:, -1] * L0, recorder.A[layer].float(), L0, form)
        filters.append(ChannelFilter(pooled, kept_mean, survives > survival))
    return filters


def _survival(steps: Tensor, budget: Tensor, A: Tensor, L0: int, form: Form) -> Tensor:
    """(D,) from pooled steps (D, n), budgets (D,) and A (D, N)."""
    if form == "stepmean":  # mode by mode: (D, n, N) would be large
        survived = (torch.exp(steps * A[:, n, None]).mean(1) for n in range(A.shape[1]))
        return (sum(survived, start=steps.new_zeros(())) / A.shape[1]) ** L0
    of_modes = torch.exp(A * budget[:, None])
    return of_modes.max(1).values if form == "slow" else of_modes.mean(1)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one layer by length.

    Attributes:
        lengths: F lengths, patches, ascending; the first is L0, where every threshold is 0.
        theta: (F, D).
    """

    lengths: Sequence[int]
    theta: Tensor

    def at(self, t: Tensor) -> Tensor:
        """theta at lengths (L,): (L, D); linear in ln t in between, 0 up to L0, that of the last length beyond it."""
        theta = self.theta.to(t.device)
        if len(self.lengths) == 1:
            return theta.expand(len(t), -1)
        known = torch.tensor(self.lengths, device=t.device, dtype=torch.float64).log()
        where = t.double().log().clamp(known[0], known[-1])
        upper = torch.searchsorted(known, where).clamp(1, len(known) - 1)
        share = (where - known[upper - 1]) / (known[upper] - known[upper - 1])
        return torch.lerp(theta[upper - 1], theta[upper], share[:, None].to(theta.dtype))


def thresholds(filters: Sequence[ChannelFilter], L0: int, lengths: Sequence[int]) -> list[Thresholds]:
    """Thresholds that keep the budget, tabulated for each layer at `lengths` > L0, ascending."""
    return [Thresholds([L0, *lengths], torch.stack([f.threshold(L0 / T) for T in [L0, *lengths]])) for f in filters]


def thresholds_as_released(
    recorder: StepSizeRecorder, L0: int, lengths: Sequence[int], clamp: float = 0.10
) -> list[Thresholds]:
    """Thresholds by the released procedure, sequence by sequence, mean over sequences.

    Step sizes are clamped at the smallest of the floor(clamp L0) largest, at least one of them; the sorted curve of a sequence is
    stretched linearly to T steps (ends not aligned), summed up until it exceeds the sequence's own sum, and the next value is the
    threshold. Guarded where the curve never exceeds it (nothing is masked then) and at its last rank.

    Args:
        recorder: of sequences of length L0, read whole.
        lengths: > L0, ascending.
        clamp: share of a sequence's steps that are clamped (sc).
    Raises:
        ValueError: a recorded piece is no whole sequence.
    Reference: `load_align_target.py` of github.com/GATECH-EIC/LongMamba.
    """
    tables = []
    for layer in sorted(recorder.step_sizes):
        pieces = recorder.step_sizes[layer]
        if any(dt.shape[1] != L0 for dt in pieces):
            raise ValueError(
                f"expected sequences of {L0} steps read whole; got pieces of {[v.shape[1] for v in pieces]}"
            )
        curve = torch.cat(pieces).sort(dim=1, descending=True).values.double()  # (B, L0, D)
        curve = curve.clamp(max=curve[:, max(1, int(clamp * L0)) - 1][:, None])
        theta = [torch.zeros_like(curve[0, 0]), *(_stretched_threshold(curve, T) for T in lengths)]
        tables.append(Thresholds([L0, *lengths], torch.stack(theta).float()))
    return tables


def _stretched_threshold(curve: Tensor, T: int) -> Tensor:
    """(B, L0, D) descending -> (D,), mean over sequences."""
    long = torch.nn.functional.interpolate(curve.transpose(1, 2), size=T, mode="linear")  # (B, D, T)
    exceeds = long.cumsum(2) > curve.sum(1)[..., None]
    rank = exceeds.double().argmax(2)  # the first one; 0 where there is none
    theta = long.gather(2, (rank + 1).clamp(max=T - 1)[..., None])[..., 0]
    return torch.where(exceeds.any(2), theta, 0.0).mean(0)


def mask_steps(tables: Sequence[Thresholds], channels: Sequence[Tensor] | None = None, T: int | None = None) -> Hook:
    """dt <- dt where dt > theta, else 0.

    Args:
        tables: one for each layer.
        channels: (D,) bool for each layer, those that are filtered; None for all.
        T: length of the sequence, prefix mode; None for that of every step t, stream mode.
    """

    def hook(call: Call) -> Call:
        t = steps_of(call)
        theta = tables[call.layer].at(t if T is None else torch.full_like(t, T))
        return call.mask(_spared(call, call.score() > theta, channels))

    return hook


def filter_steps(filters: Sequence[ChannelFilter], L0: int, T: int) -> Hook:
    """`mask_steps` in channels of long memory, for sequences of length T: prefix mode. The identity for T <= L0."""
    tables = thresholds(filters, L0, [T] if T > L0 else [])
    return mask_steps(tables, [f.long_memory for f in filters], T)


def mask_random_steps(
    shares: Sequence[Tensor], seed: int, channels: Sequence[Tensor] | None = None, after: int = 0
) -> Hook:
    """An ablation: as `mask_steps`, but which steps are kept is random.

    Args:
        shares: (D,) for each layer, share of the steps that are kept, from `ChannelFilter.kept_share`.
        seed: the choice belongs to (seed, layer, t): it is the same for all sequences, and in whatever pieces they are read.
        channels: as in `mask_steps`.
        after: steps up to it are kept.
    """
    generator = torch.Generator()

    def hook(call: Call) -> Call:
        draws = []
        for t in steps_of(call).long().tolist():
            generator.manual_seed((seed * 1_000_003 + call.layer) * 1_000_003 + t)
            draws.append(torch.rand(len(shares[call.layer]), generator=generator))
        t = steps_of(call)[:, None]
        keeps = (torch.stack(draws).to(t.device) < shares[call.layer].to(t.device)) | (t <= after)
        return call.mask(_spared(call, keeps, channels))

    return hook


def selected_everything(channels: Sequence[Sequence[bool]]) -> str | None:
    """What to tell where a calibration found that all channels of all layers have long memory: nothing was selected.

    Args:
        channels: (D,) for each layer, those that are filtered.
    """
    if not all(all(mask) for mask in channels):
        return None
    total = sum(len(mask) for mask in channels)
    return f"all {total} of {total} channels count as of long memory, so that none is spared: the same as channels: all"


def random_channels(channels: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """An ablation: as many channels of each layer, (D,) bool, at random."""
    return [mask[torch.randperm(len(mask), generator=generator).to(mask.device)] for mask in channels]


def keep_to_budget(budgets: Sequence[Tensor], channels: Sequence[Tensor] | None = None, scale: float = 1.0) -> Hook:
    """dt <- 0 but for the largest dt of the sequence, whose sum stays within scale Q (`bound` of the release). Prefix mode.

    Args:
        budgets: Q (D,) for each layer, see `lgmamba.remedies.step_size.cumulative_steps`.
        channels: as in `mask_steps`.
        scale: b of the release.
    Raises:
        ValueError: when called, if the sequence is not read in one piece.
    """

    def hook(call: Call) -> Call:
        if call.t0:
            raise ValueError(f"a budget is that of a whole sequence; this piece starts after step {call.t0}")
        ordered, order = call.score().sort(dim=1, descending=True, stable=True)
        within = ordered.double().cumsum(1) <= scale * budgets[call.layer].to(ordered.device).double()
        keeps = torch.zeros_like(within).scatter_(1, order, within)
        return call.mask(_spared(call, keeps, channels))

    return hook


def _spared(call: Call, keeps: Tensor, channels: Sequence[Tensor] | None) -> Tensor:
    return keeps if channels is None else keeps | ~channels[call.layer].to(keeps.device)
