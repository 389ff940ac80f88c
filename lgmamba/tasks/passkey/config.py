"""The section `task:` of a study of passkey retrieval; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import ACCURACY, Metric

OPEN, CLOSE, DIGITS = b"<key>", b"</key>", 5
ROOM = len(OPEN) + DIGITS + len(CLOSE)
"""Bytes that a key takes in the text."""
STARTS: dict[str, int] = {"start": 0, "two": 2, "four": 4, "eight": 8}
"""Order -> the key begins in the L0 bytes after so many times L0."""


class PasskeyConfig(TaskBase):
    """How much of the training is about keys; everything else is the text's (data.source.kind: text)."""

    ORDERS: ClassVar[tuple[str, ...]] = tuple(STARTS)
    METRICS: ClassVar[tuple[Metric, ...]] = (ACCURACY,)
    TEXT: ClassVar[bool] = True
    COUNTEREXAMPLES: ClassVar[frozenset[Invariance]] = frozenset({"prefix_drop"})
    REFUSES: ClassVar[Mapping[str, str]] = {
        "assemble": "windows without the key know nothing of it, and a mean over windows drowns the one that has it",
    }
    NULL: ClassVar[str] = "chance"
    ORACLE: ClassVar[str | None] = "exact"
    ORACLE_DESCRIPTION: ClassVar[str] = "the key, once it was read"
    STEPS: ClassVar[str] = "bytes"

    kind: Literal["passkey"]
    share: float = Field(
        0.25, gt=0, le=1, description="of the loss that is about keys; the rest is about the next byte of the text"
    )
    starts: int = Field(
        256, ge=1, le=1_000_000, description="a held-out text begins at one of so many first bytes of its window"
    )
    order: Literal["start"] = "start"
    lengths: LengthConfig
    supervision: SupervisionConfig

    @model_validator(mode="after")
    def _key_fits(self):
        least = next(T for T, p in enumerate(self.lengths.pmf()) if p > 0)
        if least < ROOM:
            raise ValueError(
                f"task.lengths: found sequences of {least} steps, expected: {ROOM} or more, which a key takes"
            )
        return self

    def longest_in(self, window: int) -> int:
        return window - self.starts

    def described(self, order: str) -> str:
        where = f"in the L0 bytes after {STARTS[order]} L0" if STARTS[order] else "in the first L0 bytes"
        return (
            "Each step reads a byte of a text, in which five digits stand between <key> and </key>. After the last step <key> asks for "
            f"them, and an answer is right where all five are. Order `{order}` in the headline measurements: the key stands {where}. "
            f"A share {self.share:g} of the training is about keys, the rest about the next byte."
        )
