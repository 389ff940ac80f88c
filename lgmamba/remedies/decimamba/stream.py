"""Decimation in a stream: DeciMamba's score against a threshold that rises with t. This project's own form.

From one layer up, a step t > L0 writes and erases nothing if the norm of its step sizes in that layer is not above theta(t), the
1 - L0 / t quantile of such norms over calibration sequences. So step t is kept with probability L0 / t, and about
L0 (1 + ln(t / L0)) of t steps are. What is drawn after a step that was left out is what was drawn after the last one that was
kept. Steps are masked, not removed: the short convolutions of the layers above still see them, which keeps sequences of a
batch together. Glossary: `lgmamba.remedies`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, gather_steps
from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.runner import ends, read_pieces, target_lengths
from lgmamba.remedies.base import steps_of
from lgmamba.remedies.longmamba.filters import StepSizeRecorder, Thresholds


def norm_thresholds(recorder: StepSizeRecorder, layer: int, L0: int, lengths: Sequence[int]) -> Thresholds:
    """theta, (F, 1), at L0 and `lengths` > L0 (ascending), from a recorded pass over sequences of length L0."""
    norms = torch.cat([dt.norm(dim=2).flatten() for dt in recorder.step_sizes[layer]])
    theta = [norms.new_zeros(()), *(torch.quantile(norms, 1 - L0 / T) for T in lengths)]
    return Thresholds([L0, *lengths], torch.stack(theta)[:, None])


class DeciStream:
    """A hook that masks steps from one layer up, and knows which.

    Args:
        layer: the decimating layer.
        table: its thresholds.
    Attributes:
        kept: (B, L) bool, steps of the piece read last that were kept.
    """

    def __init__(self, layer: int, table: Thresholds):
        self.layer, self.table = layer, table
        self.kept: Tensor | None = None

    def __call__(self, call: Call) -> Call:
        if call.layer < self.layer:
            return call
        if call.layer == self.layer:
            # Up to L0 the threshold is 0, and norms are not; the first step is always one of them.
            self.kept = call.score().norm(dim=2) > self.table.at(steps_of(call))[:, 0]
        return call.mask(self.kept[..., None])


@torch.no_grad()
def read_decimated(
    model: SequenceModel, sequences: Sequences, steps: list[int], layer: int, table: Thresholds, chunk: int = 64
) -> Tensor:
    """Predictions in stream mode; arguments and result as in `lgmamba.model.runner.read_at_steps`.

    Args:
        layer, table: see `DeciStream`. A length-adaptive model is told L0.
    """
    hook, last = DeciStream(layer, table), None
    wanted = []
    for part in read_pieces(
        model, sequences, ends(steps[-1:], chunk), target_lengths(model, len(sequences), model.L0), hook
    ):
        outputs, L = part.outputs, part.stop - part.start
        if last is not None:  # in front, for steps before the first one kept in this piece
            outputs = torch.cat([last[:, None], outputs], dim=1)
            hook.kept = torch.cat([torch.ones_like(hook.kept[:, :1]), hook.kept], dim=1)
        rows = torch.arange(outputs.shape[1], device=outputs.device)
        newest = torch.where(hook.kept, rows, 0).cummax(dim=1).values
        outputs = gather_steps(outputs, newest)[:, -L:]
        last = outputs[:, -1]
        wanted += [outputs[:, t - part.start - 1] for t in steps if part.start < t <= part.stop]
    return model.predict(torch.stack(wanted, dim=1))
