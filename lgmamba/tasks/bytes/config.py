"""The section `task:` of a study of text; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import BITS, Metric


class BytesConfig(TaskBase):
    """Where held-out text begins; everything else is the text's own (data.source.kind: text)."""

    ORDERS: ClassVar[tuple[str, ...]] = ("text",)
    METRICS: ClassVar[tuple[Metric, ...]] = (BITS,)
    TEXT: ClassVar[bool] = True
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset({"prefix_drop"})
    REFUSES: ClassVar[Mapping[str, str]] = {
        "assemble": "the next byte hangs on those just read: of several windows only the newest says anything, and that is `truncate`",
    }
    NULL: ClassVar[str] = "unigram"
    STEPS: ClassVar[str] = "bytes"

    kind: Literal["bytes"]
    starts: int = Field(
        256,
        ge=1,
        le=1_000_000,
        description="a held-out text begins at one of so many first bytes of its window, at random",
    )
    order: Literal["text"] = "text"
    lengths: LengthConfig
    supervision: SupervisionConfig

    def longest_in(self, window: int) -> int:
        return window - self.starts

    def described(self, order: str) -> str:
        return (
            "Each step reads a byte of a text, and the next byte is to be told. Texts begin anywhere in a file, and no file is in two splits. The "
            "level is 8 bits, which a byte takes without any prediction, minus the code length of the byte that comes."
        )
