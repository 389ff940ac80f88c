"""Mixers that read by keeping steps, and make something of them only when they are asked. Glossary: `lgmamba.mixers`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.mixers.contract import Answering, State
from lgmamba.mixers.growing import GrowingCall


@dataclass(frozen=True, kw_only=True)
class KeepCall(GrowingCall):
    """The steps of a piece, which are to be kept: u (B, L, d)."""

    PER_STEP: ClassVar[tuple[str, ...]] = ("u", "index", "open")

    u: Tensor


class Keeping(Answering):
    """Keeps steps. Subclasses answer: the carry of a state is steps (B, T, d), their numbers (B, T), and whether they are open (B, T)."""

    GROWS = True

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Steps, their numbers and openness: none at the start."""
        return (0, self.shape[0]), (0,), (0,)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[KeepCall, tuple[()]]:
        B, L, _ = u.shape
        wide = torch.promote_types(next(self.parameters()).dtype, torch.float32)
        index = torch.arange(t0 + 1, t0 + L + 1, device=u.device, dtype=wide).expand(B, L)
        before = self.before(state)
        return KeepCall(
            layer=self.layer,
            t0=t0,
            target_length=target_length,
            u=u.to(wide),
            index=index,
            open=torch.ones_like(index),
            **before,
        ), ()

    def recur(self, call: KeepCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:  # type: ignore[override]  # as every mixer's
        """No output; no memory; the steps kept."""
        u, index, is_open = call.kept(call.u, call.index, call.open)
        if call.reach is not None:
            is_open = is_open * (call.index[:, -1:] - index < call.reach)
        return torch.zeros_like(call.u), call.memory(), (u, index, is_open)

    def finish(self, y: Tensor) -> Tensor:
        return y

    @staticmethod
    def seen(state: State, last: Tensor | None) -> Tensor:
        """(B, T) which steps are looked at: those that are open, up to `last` (see `answer`)."""
        _, index, is_open = state.carry
        seen = is_open > 0
        return seen if last is None else seen & (index <= last[:, None])
