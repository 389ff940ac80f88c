"""Texts with a key. Glossary: `lgmamba.tasks.passkey.task`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences
from lgmamba.tasks.passkey.config import CLOSE, DIGITS, OPEN, ROOM
from lgmamba.tensors import constant

ZERO = ord("0")


@dataclass(frozen=True)
class KeyedText(Sequences):
    """B texts of T bytes.

    Attributes:
        symbol: (B, T) int64, the bytes read.
        following: (B, T) int64, the byte after each.
        digits: (B, 5) int64, the bytes of the key.
        end: (B,) int64, the step at which it was read whole.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol", "following")

    symbol: Tensor
    following: Tensor
    digits: Tensor
    end: Tensor

    @classmethod
    def of(cls, text: Tensor, digits: Tensor, at: Tensor) -> "KeyedText":
        """A key in place of some bytes of a text (B, T + 1); of a key that begins beyond its end nothing is seen.

        Args:
            digits: (B, 5) int64, 0 .. 9.
            at: (B,) int64, bytes before the key.
        """
        opens, closes = _bytes(OPEN, CLOSE, like=digits)
        key = torch.cat([part.expand(len(digits), -1) for part in (opens, digits + ZERO, closes)], dim=1)
        since = torch.arange(text.shape[1], device=text.device) - at[:, None]
        shown = key.gather(1, since.clamp(0, ROOM - 1))
        text = torch.where((since >= 0) & (since < ROOM), shown, text)
        return cls(text[:, :-1], text[:, 1:], digits + ZERO, at + ROOM)

    def questions_after(self, t: Tensor) -> Tensor:
        """<key> and all digits but the last, (B, 9): each is told by the output before it."""
        (asks,) = _bytes(OPEN, like=self.digits)
        return torch.cat([asks.expand(len(self), -1), self.digits[:, : DIGITS - 1]], dim=1)


def _bytes(*texts: bytes, like: Tensor) -> list[Tensor]:
    return [constant(tuple(text), like.device) for text in texts]
