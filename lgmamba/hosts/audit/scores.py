"""How well the same last tokens of a text are predicted after so many tokens before them, with and without remedies.

For every length T the last T tokens of each window are read, so that the tokens that are scored, the last `tail` of the window, are the
same for all lengths, remedies and controls: differences are of what was read, never of which text was scored.

    vanilla    the model as it is
    truncate   reads the last L0 tokens only: vanilla at T = L0
    reset      starts anew every L0 tokens; where in its L0 tokens a window ends differs from window to window, evenly
    freeze     writes nothing after the first L0 tokens

Glossary: `lgmamba.hosts`; n windows.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lgmamba.hosts.calibration import TOKENS_AT_ONCE
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import TokenSequences
from lgmamba.mixers.contract import gather_steps
from lgmamba.model.runner import ends, read_pieces
from lgmamba.remedies import controls
from lgmamba.remedies.remedy import Remedy

VANILLA = Remedy("vanilla", "vanilla", "stream", "the model as it is")
FREEZE = "freeze"
CONTROLS = {
    "truncate": "the last L0 tokens only",
    "reset": "starts anew every L0 tokens",
    FREEZE: "nothing is written after L0 tokens",
}
PIECE = 1024
"""Tokens of a sequence that are read at a time, at most."""


def freeze(L0: int) -> Remedy:
    """The control of that name."""
    return Remedy(FREEZE, "control", "stream", CONTROLS[FREEZE], make_hook=lambda T: controls.freeze(L0))


@torch.no_grad()
def outputs_at_the_end(host: Host, remedy: Remedy, sequences: TokenSequences, T: int, tail: int) -> Tensor:
    """Outputs after each of the last `tail` tokens where the last T were read: (n, tail, d)."""
    found = []
    for some in _portions(sequences.last(T), T if remedy.whole else min(T, PIECE)):
        hook = remedy.make_hook(T if remedy.mode == "prefix" else None)
        stops = [T] if remedy.whole and hook is not None else ends([T - tail, T] if tail < T else [T], PIECE)
        parts = []
        for part in read_pieces(host, some, stops, None, hook):
            if part.stop > T - tail:
                parts.append(part.outputs[:, max(0, T - tail - part.start) :])
        found.append(torch.cat(parts, 1))
    return torch.cat(found)


@torch.no_grad()
def at_the_end(host: Host, remedy: Remedy, sequences: TokenSequences, T: int, tail: int) -> Tensor:
    """-ln p of the last `tail` tokens after the last T were read: (n, tail)."""
    return host.surprise(outputs_at_the_end(host, remedy, sequences, T, tail), sequences.targets[:, -tail:])


@torch.no_grad()
def reset(host: Host, sequences: TokenSequences, tail: int) -> Tensor:
    """-ln p of the last `tail` tokens of a model that starts anew every L0: (n, tail). Windows of 2 L0 tokens or more."""
    L0, n, T = host.L0, len(sequences), sequences.T
    since = 1 + ((torch.arange(n) + 0.5) * L0 / n).long().to(
        sequences.device
    )  # tokens of each window after its last start
    start = T - since[:, None]  # (n, 1), 0-based
    positions = torch.arange(T - tail, T, device=sequences.device)
    later = positions >= start  # (n, tail)
    found = torch.zeros(n, tail, device=sequences.device)
    for begin, wanted in ((start - L0, ~later), (start, later)):
        at = begin + torch.arange(L0, device=sequences.device)
        segment = sequences.take(at.clamp(max=T - 1))  # what is read after the end of the text is not scored
        for rows, some in zip(_rows(n, min(L0, PIECE)), _portions(segment, min(L0, PIECE)), strict=True):
            outputs = torch.cat([p.outputs for p in read_pieces(host, some, ends([L0], PIECE))], 1)
            where = (positions - begin[rows]).clamp(0, L0 - 1)
            targets = sequences.targets[rows][:, positions]
            scored = host.surprise(gather_steps(outputs, where), targets)
            found[rows] = torch.where(wanted[rows], scored.to(found.dtype), found[rows])
    return found


@torch.no_grad()
def by_position(host: Host, sequences: TokenSequences, stops: list[int]) -> list[Tensor]:
    """-ln p of one pass from the start, mean over the tokens up to each stop since the one before: one (n,) for each."""
    sums = [torch.zeros(len(sequences), dtype=torch.float64, device=sequences.device) for _ in stops]
    for rows, some in zip(_rows(len(sequences), PIECE), _portions(sequences, PIECE), strict=True):
        for part in read_pieces(host, some, ends(stops, PIECE)):
            bin = next(i for i, stop in enumerate(stops) if part.stop <= stop)
            scored = host.surprise(part.outputs, some.targets[:, part.start : part.stop])
            sums[bin][rows] += scored.double().sum(1)
    return [total / (stop - start) for total, start, stop in zip(sums, [0, *stops[:-1]], stops, strict=True)]


def _rows(n: int, chunk: int) -> Iterator[slice]:
    """So many sequences at a time that not too many tokens are read at once."""
    rows = max(1, TOKENS_AT_ONCE // chunk)
    yield from (slice(i, min(n, i + rows)) for i in range(0, n, rows))


def _portions(sequences: TokenSequences, chunk: int) -> Iterator[TokenSequences]:
    yield from (sequences[rows] for rows in _rows(len(sequences), chunk))
