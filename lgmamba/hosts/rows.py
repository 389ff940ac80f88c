"""Reading one layer where the rows of a batch stand at different steps, or hold padding.

A row is read as if it were alone: padding, and steps that a remedy dropped in a layer below, are left out before the layer and
are no steps. So rows are read in groups that stand at the same step with equally many steps to read; without padding that is one
group, and nothing is copied. Glossary: `lgmamba.hosts`; B rows, L positions of the piece, K of them that are read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.hosts.layers import ForeignLayer
from lgmamba.mixers.contract import Hook, Remembered, State, gather_steps

PlanOf = Callable[[int, int | None], Hook | None]
"""Steps read before, and the length told (None in stream mode) -> hook."""


@dataclass(frozen=True)
class RowStates:
    """Where one layer is in each of B rows.

    Attributes:
        t: steps read, for each row.
        target_length: length told in prefix mode, for each row; None in stream mode.
        memory: (B, D, N), or None at the start.
        carry: (B, W - 1, C), or None at the start.
        remembered: what a hook's scan carries besides, for each row.
    """

    t: tuple[int, ...]
    target_length: tuple[int | None, ...]
    memory: Tensor | None = None
    carry: Tensor | None = None
    remembered: tuple[Remembered | None, ...] = ()

    @classmethod
    def start(cls, target_length: list[int | None]) -> "RowStates":
        return cls((0,) * len(target_length), tuple(target_length), remembered=(None,) * len(target_length))

    def of(self, rows: list[int] | None) -> State | None:
        """The state of rows that stand at the same step; None for all of them."""
        if self.memory is None:
            return None
        parts = [self.remembered[b] for b in (range(len(self.t)) if rows is None else rows)]
        joined = None if parts[0] is None else tuple(torch.cat(v) for v in zip(*parts, strict=True))
        memory, carry = (v if rows is None else v[rows] for v in self.tensors)
        return State(memory, (carry,), joined)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Memory and carry, of rows that were read.

        Raises:
            ValueError: they stand at the start, where there are none.
        """
        if self.memory is None or self.carry is None:
            raise ValueError(f"{len(self.t)} rows have no memory yet; read something first")
        return self.memory, self.carry


def read_rows(
    layer: ForeignLayer, u: Tensor, present: Tensor | None, before: RowStates, read: list[int], plan_of: PlanOf
) -> tuple[Tensor, RowStates, Tensor | None]:
    """One piece of B rows.

    Args:
        u: (B, L, d).
        present: (B, L) bool, positions that are read; None for all.
        before: where the rows stand.
        read: tokens of each row in this piece, by which its step number grows; more than are present where a layer below
            dropped steps.
    Returns:
        out (B, L, d), NaN at steps that a hook dropped, so that nothing made of them passes for a number, and 0 at absent
        positions; where the rows stand; and what is present above.
    """
    B, L, _ = u.shape
    counts = [L] * B if present is None else present.sum(1).tolist()
    groups: dict[tuple[int, int, int | None], list[int]] = {}
    for b in range(B):
        groups.setdefault((before.t[b], counts[b], before.target_length[b]), []).append(b)
    if len(groups) == 1 and counts[0] == L:
        out, state, keep = layer.read(u, before.of(None), before.t[0], plan_of(before.t[0], before.target_length[0]))
        rows = torch.arange(B, device=u.device)
        above = present
        if keep is not None:
            above = torch.zeros(B, L, dtype=torch.bool, device=u.device).scatter(1, keep, True)
            out = torch.full_like(u, torch.nan).index_put((rows[:, None], keep), out)
        return out, _after(before, read, [(list(range(B)), state)]), above
    out, found = torch.zeros_like(u), []
    above = torch.zeros(B, L, dtype=torch.bool, device=u.device)
    for (t0, count, target_length), members in groups.items():
        if count == 0:
            found.append((members, before.of(members) or _empty(layer, u, len(members))))
            continue
        rows = torch.tensor(members, device=u.device)
        at = _positions(present, members, count, L, u.device)
        part, state, keep = layer.read(gather_steps(u[rows], at), before.of(members), t0, plan_of(t0, target_length))
        if keep is not None:
            out = out.index_put((rows[:, None], at), torch.full_like(part[:, :1], torch.nan).expand(-1, count, -1))
            at = at.gather(1, keep)
        out = out.index_put((rows[:, None], at), part)
        above[rows[:, None], at] = True
        found.append((members, state))
    return out, _after(before, read, found), above


def _positions(present: Tensor | None, rows: list[int], count: int, L: int, device: torch.device) -> Tensor:
    """(rows, count) ascending positions that are present."""
    if present is None:
        return torch.arange(L, device=device).expand(len(rows), -1)
    return present[rows].nonzero()[:, 1].reshape(len(rows), count)


def _empty(layer: ForeignLayer, u: Tensor, rows: int) -> State:
    wide = torch.promote_types(u.dtype, torch.float32)
    memory = u.new_zeros(rows, layer.channels, layer.modes, dtype=wide)
    return State(memory, (u.new_zeros(rows, layer.width - 1, layer.weights.conv1d.weight.shape[0]),))


def _after(before: RowStates, read: list[int], found: list[tuple[list[int], State]]) -> RowStates:
    """The groups' states in the order of the rows."""
    order = [b for rows, _ in found for b in rows]
    memory, carry = (torch.cat(v) for v in zip(*((s.memory, s.carry[0]) for _, s in found), strict=True))
    if len(found) > 1:
        back = torch.tensor(order, device=memory.device).argsort()
        memory, carry = memory[back], carry[back]
    remembered: list[Remembered | None] = [None] * len(order)
    for rows, state in found:
        for i, b in enumerate(rows):
            remembered[b] = None if state.remembered is None else tuple(v[i : i + 1] for v in state.remembered)
    t = tuple(t + n for t, n in zip(before.t, read, strict=True))
    return RowStates(t, before.target_length, memory, carry, tuple(remembered))
