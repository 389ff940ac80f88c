"""`remedies:` of params.yaml, kind retain_insert; imports no torch. What it does is in `lgmamba.remedies.retain_insert.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Above0, Mode, RemedyEntry


class RetainInsertConfig(RemedyEntry):
    """Forget more and write less (Stuffed Mamba, arXiv:2410.07145, method 1)."""

    TITLE: ClassVar[str] = "Retention and insertion"
    ABOUT: ClassVar[str] = (
        "The state decays a little more at every step, so that it is bounded and reaches back no further than that "
        "decay allows."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "gains": ("prefix", "stream"),
    }
    SCAN: ClassVar[str] = "cut"

    kind: Literal["retain_insert"]
    horizon: Annotated[float, Field(gt=1, le=1e6)] = Field(
        description="c: the state also decays by 1 - 1/(c L0) at every step"
    )
    insertion: Above0 = Field(1.0, description="factor on what is written")

    @property
    def form_name(self) -> str:
        return "gains"

    @property
    def description(self) -> str:
        return f"extra decay 1 - 1/({self.horizon:g} L0)" + (
            f", writes x {self.insertion:g}" if self.insertion != 1 else ""
        )

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"write", "read", "state"})
