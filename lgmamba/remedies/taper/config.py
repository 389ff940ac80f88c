"""`remedies:` of params.yaml, kind taper; imports no torch. What it does is in `lgmamba.remedies.taper.remedy`."""

from typing import ClassVar, Literal

from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Mode, RemedyEntry


class TaperConfig(RemedyEntry):
    """Let decays fall with the step, slow modes most (PoST, arXiv:2604.07658, at test time and on A alone)."""

    TITLE: ClassVar[str] = "Tapered decays"
    ABOUT: ClassVar[str] = (
        "Beyond L0 the decay of a mode falls as a power of the step, by the more the slower it is, so that time scales stay spread "
        "from one step to all that were read. What a step writes is not changed, so that states grow."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {"decays": ("stream",)}
    SCAN: ClassVar[str] = "cut"

    kind: Literal["taper"]

    @property
    def form_name(self) -> str:
        return "decays"

    @property
    def description(self) -> str:
        return "|A| times (L0/t)^\u03b1, \u03b1 from 1 for the slowest mode to 0 for the fastest"

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"decay", "eigenmodes"})
