"""Reading sequences for the probes: the state of every layer after chosen steps, or a whole pass.

A length-adaptive model is told its training length L0 all the way (stream mode). Glossary: `lgmamba.probe`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lgmamba.metrics import psnr
from lgmamba.model import PatchMamba, Plan, ScanCall, StackState
from lgmamba.model.plan import PER_STEP
from lgmamba.probe.sequences import Sequences


def told_to(model: PatchMamba, batch: int) -> Tensor | None:
    """What the probes tell a model: nothing to a plain one, L0 to a length-adaptive one, (B,)."""
    device = model.norm_out.weight.device
    return None if model.conditioning is None else torch.full((batch,), model.L0, device=device)


@dataclass(frozen=True)
class Stop:
    """Where a pass has arrived.

    Attributes:
        t: steps read.
        output: (B, d) of the stack after step t.
        state: of every layer after step t.
    """

    t: int
    output: Tensor
    state: StackState

    @property
    def h(self) -> list[Tensor]:
        """(B, D, N) for each layer."""
        return [layer.h for layer in self.state.layers]


@torch.no_grad()
def stops(model: PatchMamba, seq: Sequences, steps: list[int], piece: int, plan: Plan | None = None) -> Iterator[Stop]:
    """One pass in pieces that end at each of some steps.

    Args:
        steps: from 1, ascending.
        piece: steps of a piece, at most.
        plan: changes what enters each scan; it must keep every step.
    """
    state, told = None, told_to(model, len(seq))
    start = 0
    for step in steps:
        while start < step:
            stop = min(start + piece, step)
            outputs, state = model.encode(*seq.read(start, stop), state, told, plan)
            start = stop
        yield Stop(step, outputs[:, -1], state)


@dataclass(frozen=True)
class LayerPass:
    """One layer's part of a pass over whole sequences: its mixer's input u (B, L, d), and what it scans."""

    u: Tensor
    call: ScanCall

    def upto(self, sample: int, T: int) -> "LayerPass":
        """The same of one sample and its first T steps, which is what a pass that ends there sees."""
        one = slice(sample, sample + 1)
        steps = {name: getattr(self.call, name)[one, :T] for name in PER_STEP}
        return LayerPass(self.u[one, :T], replace(self.call, **steps))


@torch.no_grad()
def layer_passes(model: PatchMamba, seq: Sequences, steps: int) -> list[LayerPass]:
    """What every layer reads in one pass over the first steps, kept whole: for few images."""
    inputs: list[Tensor] = []
    calls: list[ScanCall] = []
    handles = [
        block.mixer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for block in model.blocks
    ]
    try:
        model.encode(*seq.read(0, steps), told=told_to(model, len(seq)), plan=lambda call: calls.append(call) or call)
    finally:
        for handle in handles:
            handle.remove()
    return [LayerPass(u, call) for u, call in zip(inputs, calls, strict=True)]


def psnr_of(model: PatchMamba, stop: Stop, seq: Sequences) -> float:
    """PSNR in dB of the mean squared error over images of what is drawn at a stop."""
    with torch.no_grad():
        mse = (model.decode(stop.output) - seq.targets).double().square().mean()
    return float(psnr(mse))
