"""How far back what a model draws depends on what it read: by gradient, and by swapping one patch. Through all layers.

Glossary: `lgmamba.probe`; B samples, L steps, d model width. age = steps since the patch was read, 0 for the last one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.model import SequenceModel, Sequences
from lgmamba.probe.stops import prediction_at, stops, target_lengths_L0
from lgmamba.tasks.class_head import parted
from lgmamba.tasks.draw.orders import last_visits
from lgmamba.tasks.draw.sequences import DrawSequences


def gradient_sizes(model: SequenceModel, seq: Sequences, T: int, probes: int, seed: int = 0) -> Tensor:
    """How much the reconstruction at T depends on each token: E_v || d <v, reconstruction> / d token_j ||.

    Args:
        probes: random directions v, +1 or -1 for every pixel; their mean estimates E_v.
    Returns:
        (B, T), column j for step j + 1; not normalised.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens: list[Tensor] = []

    def leaf(_, given):
        tokens.append(given[0].detach().requires_grad_())
        return tokens[0], *given[1:]

    handle = model.blocks[0].register_forward_pre_hook(leaf)
    try:
        with torch.enable_grad():
            outputs, _ = model.encode(
                model.tokens(seq, 0, T), None, target_lengths_L0(model, len(seq)), want_state=False
            )
            prediction, _ = parted(model.predict(outputs[:, -1]), model.shape)
    finally:
        handle.remove()
    total = torch.zeros_like(tokens[0][..., 0])
    for _ in range(probes):
        signs = torch.randint(0, 2, prediction.shape, generator=generator).to(prediction) * 2 - 1
        (slope,) = torch.autograd.grad((prediction * signs).sum(), tokens, retain_graph=True)
        total += slope.norm(dim=2)
    return total / probes


@dataclass(frozen=True)
class Swaps:
    """What one swapped patch did to the cell that it shows, one entry for each swap.

    Attributes:
        age: steps since the swapped patch was read; the cell was not read again since.
        given: mean squared difference between the patch and the one in its place.
        change: mean squared change of the reconstruction in that cell.
        along: mean product of both differences; along / given is 1 if the new patch is drawn in full, 0 if it is not noticed.
    """

    age: Tensor
    given: Tensor
    change: Tensor
    along: Tensor


def swap_patches(model: SequenceModel, seq: DrawSequences, T: int, swaps: int, chunk: int, seed: int = 0) -> Swaps:
    """Replace one patch of a sequence by that of the next image, at the same cell, and read the sequence again.

    Args:
        seq: at least two images.
        swaps: cells swapped in each image, drawn among those read up to T, each in a pass of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    last = last_visits(seq.cells, seq.n_cells, torch.tensor([T]))[:, 0].cpu()  # (B, G) 0-based step, -1: never
    keys = torch.rand(last.shape, generator=generator).masked_fill(last < 0, -1)
    n = min(swaps, int((last >= 0).sum(1).min()))
    chosen = keys.argsort(1, descending=True)[:, :n].to(seq.cells.device)  # (B, n) cells
    rows = torch.arange(len(seq), device=seq.cells.device).repeat_interleave(n)
    cells = chosen.flatten()
    step = last.to(seq.cells.device)[rows, cells]  # (B n,)
    plain = model.split(_draw(model, seq, T, chunk))
    given, change, along, ages = [], [], [], []
    for start in range(0, len(rows), len(seq)):  # as many sequences at a time as were given
        some = slice(start, start + len(seq))
        row, cell = rows[some], cells[some]
        other = seq.patches[(row + 1) % len(seq), cell]
        part = seq[row]
        changed = _Changed(**vars(part), step=step[some], patch=other)
        prediction = model.split(_draw(model, changed, T, chunk))
        index = torch.arange(len(row), device=row.device)
        moved = (prediction[index, cell] - plain[row, cell]).double()
        asked = (other - seq.patches[row, cell]).double()
        given.append(asked.square().mean(1))
        change.append(moved.square().mean(1))
        along.append((moved * asked).mean(1))
        ages.append(T - 1 - step[some])
    return Swaps(*(torch.cat(parts).cpu() for parts in (ages, given, change, along)))


@dataclass(frozen=True, kw_only=True)
class _Changed(DrawSequences):
    """Sequences in each of which one step, numbered from 0 by `step` (B,), reads another patch (B, K)."""

    step: Tensor
    patch: Tensor

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        patches, cells = super().read(start, stop)
        steps = torch.arange(start, stop, device=cells.device)
        here = steps == self.step[:, None]  # (B, L)
        return torch.where(here[..., None], self.patch[:, None], patches), cells


@torch.no_grad()
def _draw(model: SequenceModel, seq: Sequences, T: int, chunk: int) -> Tensor:
    (end,) = stops(model, seq, [T], chunk)
    return parted(prediction_at(model, end, seq), model.shape)[0]
