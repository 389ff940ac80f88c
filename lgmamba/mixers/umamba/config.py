"""`model.mixer` with kind umamba."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.mixers.base import RECURRENT, Verb
from lgmamba.mixers.mamba.inner import WithMamba

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

AT_ENDS = "as the last step of a block has it, so has the block at coarse scales"
BY_BLOCKS = (
    "how large a step is at a coarse scale is known only when its block is full, and hangs on which steps are masked"
)


class UmambaConfig(WithMamba):
    """Mamba-1 on the steps and on means of blocks of them."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": AT_ENDS,
        "write": AT_ENDS,
        "read": AT_ENDS,
        "mask": "exact; whole steps only, which blocks do not count",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": BY_BLOCKS,
        "eigenmodes": BY_BLOCKS,
        "attention": "outputs of coarse scales are held until the next, which is no selective scan over the steps",
    }
    TITLE: ClassVar[str] = "Mamba-1 at several scales"
    SOURCE: ClassVar[str] = (
        "after UmambaTSF (arXiv:2410.11278), of which the U of scales is taken, in a causal form; from secondary sources"
    )
    BOUNDED: ClassVar[bool | None] = False  # each scale is Mamba-1

    kind: Literal["umamba"]
    scales: tuple[int, ...] = Field(
        (1, 4, 16),
        min_length=1,
        max_length=8,
        description="steps of a block at each scale, from 1 on, each a divisor of the next",
    )

    @property
    def description(self) -> str:
        return f"state {self.d_state} at each of the scales {', '.join(map(str, self.scales))}"

    def problem(self, model: "ModelConfig") -> str | None:
        fits = all(
            fine < coarse and coarse % fine == 0 for fine, coarse in zip(self.scales, self.scales[1:], strict=False)
        )
        if self.scales[0] != 1 or not fits:
            return f"mixer.scales: found {list(self.scales)}, expected 1 first, and each a divisor of the next and below it"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """D of all scales."""
        return len(self.scales) * int(self.expand * model.d_model)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state
