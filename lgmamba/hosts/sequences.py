"""Text as sequences that are read and scored: windows of tokens, and the token after each.

Glossary: `lgmamba.hosts`; n windows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.hosts.errors import HostError
from lgmamba.model.sequences import Sequences

Tokens = Tensor | Iterable[Tensor | list[int]]
"""Ids (n, L) or (L,), or several of such, of one text or of many."""


@dataclass(frozen=True)
class TokenSequences(Sequences):
    """B sequences of T tokens.

    Attributes:
        ids: (B, T) int64.
        targets: (B, T) int64, the token after each.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("ids", "targets")

    ids: Tensor
    targets: Tensor

    @classmethod
    def of(cls, windows: Tensor) -> "TokenSequences":
        """Of windows (B, T + 1)."""
        return cls(windows[:, :-1], windows[:, 1:])

    def last(self, T: int) -> "TokenSequences":
        """Their last T tokens."""
        return TokenSequences(self.ids[:, self.T - T :], self.targets[:, self.T - T :])


def windows_of(tokens: Tokens, n: int, T: int, what: str) -> Tensor:
    """n windows of T + 1 tokens that do not overlap, spread evenly over the texts: (n, T + 1).

    Args:
        what: what they are for, for messages.
    Raises:
        HostError: the texts are too short, or hold no tokens.
    """
    texts = [_ids(text) for text in ([tokens] if isinstance(tokens, Tensor) else tokens)]
    rows = [row for text in texts for row in (text if text.ndim == 2 else text[None])]
    pieces = [row[i * (T + 1) : (i + 1) * (T + 1)] for row in rows for i in range(len(row) // (T + 1))]
    if len(pieces) < n:
        longest = max((len(row) for row in rows), default=0)
        raise HostError(
            f"{what}: expected {n} windows of {T + 1:,} tokens, which is {n * (T + 1):,} in texts of at least {T + 1:,}; found "
            f"{len(pieces)} windows in {len(rows)} texts, {sum(map(len, rows)):,} tokens in all, the longest of {longest:,}. "
            "Give more text, fewer windows, or shorter lengths"
        )
    chosen = torch.linspace(0, len(pieces) - 1, n).round().long().tolist()
    return torch.stack([pieces[i] for i in chosen])


def _ids(text: Tensor | list[int]) -> Tensor:
    ids = torch.as_tensor(text)
    if ids.is_floating_point() or ids.ndim not in (1, 2):
        raise HostError(f"expected token ids (L,) or (n, L), integers; got shape {tuple(ids.shape)}, {ids.dtype}")
    return ids.long()
