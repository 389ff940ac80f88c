"""The one way in which sequences are read: by validation, evaluation, remedies and probes. Glossary: `lgmamba.model`.

read_pieces     one causal pass, in pieces, so that memory does not grow with length
read_at_steps   one pass; predictions after some of its steps
run_sequence    predictions at several lengths, in a mode; what a length-adaptive model is told is decided here

stream   one pass; a length-adaptive model is told its training length L0 all the way
prefix   for each length T a pass over the first T steps, told T
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import AnyReadable, Readable
from lgmamba.model.sequences import Sequences

MODES = ("stream", "prefix")
Q = TypeVar("Q", bound=Sequences)
S = TypeVar("S")
MakeHook = Callable[[int | None], Hook | None]
"""Length T (None in stream mode, where nobody knows it) -> hook of one pass, or None to read as the model is."""


@dataclass(frozen=True)
class Piece(Generic[S]):
    """What was read last.

    Attributes:
        start, stop: it holds the steps start + 1 .. stop.
        outputs: (B, stop - start, d) of the stack (fewer if the hook drops steps).
        state: after step `stop`.
    """

    start: int
    stop: int
    outputs: Tensor
    state: S


def target_lengths(model: AnyReadable, batch: int, T: int) -> Tensor | None:
    """What to tell a length-adaptive model, (B,), the same number in memory for all (`Stack.told`); a plain one is told nothing."""
    return torch.full((1,), T, device=model.device).expand(batch) if model.uses_target_length else None


def ends(steps: Iterable[int], chunk: int) -> list[int]:
    """Ends of pieces of `chunk` steps at most, up to the last of some steps, ascending, with one at each of them."""
    found, start = [], 0
    for step in steps:
        found += [*range(start + chunk, step, chunk), step]
        start = step
    return found


def read_pieces(
    model: Readable[Q, S],
    sequences: Q,
    stops: Iterable[int],
    target_length: Tensor | None = None,
    hook: Hook | None = None,
    state: S | None = None,
) -> Iterator[Piece[S]]:
    """One causal pass, in pieces that end where it is said.

    Args:
        model: in eval mode, on the device of the sequences. Gradients are made where they are enabled.
        stops: ends of the pieces, steps, ascending; see `ends`. Nothing after the last of them is read.
        target_length: (B,) told to a length-adaptive model.
        hook: changes what enters each scan.
        state: where the sequences stand before their first step, or None at their start.
    """
    start = 0
    for stop in stops:
        outputs, state = model.encode(model.tokens(sequences, start, stop), state, target_length, hook)
        assert state is not None  # it is wanted
        yield Piece(start, stop, outputs, state)
        start = stop


def read_at_steps(
    model: Readable[Q, S],
    sequences: Q,
    steps: list[int],
    target_length: Tensor | None = None,
    chunk: int = 64,
    hook: Hook | None = None,
) -> Tensor:
    """One causal pass; the predictions after some of its steps. Gradients are made where they are enabled.

    Args:
        model, sequences, target_length: as in `read_pieces`.
        steps: wanted, from 1, ascending.
        chunk: steps held in memory at a time.
        hook: changes what enters each scan; it must keep every step.
    Returns:
        (B, S, *shape).
    Raises:
        ValueError: if steps are not ascending, or not within the sequences.
    """
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1 or steps[-1] > sequences.T:
        raise ValueError(
            f"steps must be ascending, within 1..{sequences.T}, the length of the sequences; got {list(steps)}"
        )
    if model.asks:
        asked = [
            model.ask(piece.state, sequences, piece.stop, target_length)
            for piece in read_pieces(model, sequences, ends(steps, chunk), target_length, hook)
            if piece.stop in steps
        ]
        return torch.stack(asked, dim=1)
    wanted: list[Tensor] = []
    for piece in read_pieces(model, sequences, ends(steps[-1:], chunk), target_length, hook):
        wanted += [piece.outputs[:, t - piece.start - 1] for t in steps if piece.start < t <= piece.stop]
    return model.predict(torch.stack(wanted, dim=1))


@torch.no_grad()
def run_sequence(
    model: Readable[Q, S],
    sequences: Q,
    steps: list[int],
    mode: str,
    chunk: int = 64,
    make_hook: MakeHook | None = None,
    whole: bool = False,
) -> Tensor:
    """Predictions at several lengths, in stream or prefix mode; arguments and result as in `read_at_steps`.

    A plain model without a hook does not depend on what it is told, and its one pass is every prefix; so it is read once in
    either mode.

    Args:
        make_hook: makes the hook of each pass, for a remedy; None to read the model as it is.
        whole: whether a sequence with a hook must be read in one piece, of which the last output is valid; prefix mode.
    Raises:
        ValueError: another mode, or steps that `read_at_steps` refuses.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; expected 'stream' or 'prefix'")
    B = len(sequences)
    if make_hook is None and not model.uses_target_length:
        return read_at_steps(model, sequences, steps, None, chunk)
    if mode == "stream":
        hook = None if make_hook is None else make_hook(None)
        return read_at_steps(model, sequences, steps, target_lengths(model, B, model.L0), chunk, hook)
    found = []
    for T in steps:
        hook = None if make_hook is None else make_hook(T)
        if whole and hook is not None:
            found.append(read_whole(model, sequences.upto(T), target_lengths(model, B, T), hook))
        else:
            found.append(read_at_steps(model, sequences, [T], target_lengths(model, B, T), chunk, hook))
    return torch.cat(found, dim=1)


def read_whole(model: Readable[Q, S], sequences: Q, target_length: Tensor | None, hook: Hook) -> Tensor:
    """The prediction at the end of sequences that are read in one piece, by a hook that may drop steps: (B, 1, *shape)."""
    T = sequences.T
    (piece,) = read_pieces(model, sequences, [T], target_length, hook)
    if model.asks:
        return model.ask(piece.state, sequences, T, target_length)[:, None]
    return model.predict(piece.outputs[:, -1:])
