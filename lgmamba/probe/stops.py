"""Reading sequences for the probes: the state of every layer after chosen steps, or a whole pass.

A length-adaptive model is told its training length L0 all the way (stream mode), unless another length is given. Glossary: `lgmamba.probe`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.model import SequenceModel, Sequences, StackState
from lgmamba.model.runner import ends, read_pieces, target_lengths
from lgmamba.tasks.base import Task


def target_lengths_L0(model: SequenceModel, batch: int) -> Tensor | None:
    """What the probes tell a model: nothing to a plain one, L0 to a length-adaptive one, (B,)."""
    return target_lengths(model, batch, model.L0)


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
        return [layer.memory for layer in self.state.layers]


@torch.no_grad()
def stops(
    model: SequenceModel,
    seq: Sequences,
    steps: list[int],
    chunk: int,
    hook: Hook | None = None,
    length: int | None = None,
) -> Iterator[Stop]:
    """One pass in pieces that end at each of some steps.

    Args:
        steps: from 1, ascending.
        chunk: steps of a piece, at most.
        hook: changes what enters each scan; it must keep every step.
        length: what a length-adaptive model is told; None: its training length.
    """
    what = target_lengths(model, len(seq), length or model.L0)
    for part in read_pieces(model, seq, ends(steps, chunk), what, hook):
        if part.stop in steps:
            yield Stop(part.stop, part.outputs[:, -1], part.state)


@dataclass(frozen=True)
class LayerTrace:
    """One layer's part of a pass over whole sequences: its mixer's input u (B, L, d), and what it scans."""

    u: Tensor
    call: Call

    def upto(self, sample: int, T: int) -> "LayerTrace":
        """The same of one sample and its first T steps, which is what a pass that ends there sees."""
        one = slice(sample, sample + 1)
        steps = {name: getattr(self.call, name)[one, :T] for name in self.call.PER_STEP}
        return LayerTrace(self.u[one, :T], replace(self.call, **steps))


@torch.no_grad()
def layer_traces(model: SequenceModel, seq: Sequences, steps: int) -> list[LayerTrace]:
    """What every layer reads in one pass over the first steps, kept whole: for few images."""
    inputs: list[Tensor] = []
    calls: list[Call] = []
    handles = [
        block.mixer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for block in model.blocks
    ]
    try:
        for _ in read_pieces(
            model, seq, [steps], target_lengths_L0(model, len(seq)), lambda call: calls.append(call) or call
        ):
            pass
    finally:
        for handle in handles:
            handle.remove()
    return [LayerTrace(u, call) for u, call in zip(inputs, calls, strict=True)]


@torch.no_grad()
def prediction_at(model: SequenceModel, stop: Stop, seq: Sequences) -> Tensor:
    """What the model predicts at a stop, (B, *shape)."""
    if model.asks:
        return model.ask(stop.state, seq, stop.t, target_lengths_L0(model, len(seq)))
    return model.predict(stop.output)


def error_of(task: Task, model: SequenceModel, stop: Stop, seq: Sequences) -> Tensor:
    """Mean error over sequences of what is predicted at a stop, ()."""
    steps = torch.tensor([stop.t], device=seq.device)
    return task.mean_error(prediction_at(model, stop, seq)[:, None], seq, steps, wide=True)


def level_of(task: Task, model: SequenceModel, stop: Stop, seq: Sequences) -> float:
    """Level of that error (for pictures PSNR in dB)."""
    return float(task.metrics[0].of_mean(error_of(task, model, stop, seq)))
