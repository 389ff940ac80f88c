"""`model.mixer` with kind shmamba."""

from typing import ClassVar, Literal

from lgmamba.mixers.base import EXACT, VERBS, Verb
from lgmamba.mixers.mamba.config import MambaConfig


class ShmambaConfig(MambaConfig):
    """Mamba-1 whose input is mapped into a Poincare ball, and its output out of it; keys as of kind mamba."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {verb: EXACT for verb in VERBS if verb != "attention"}
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "attention": "what follows its scan is not linear, so that its output is no weighted sum of inputs",
    }
    TITLE: ClassVar[str] = "hyperbolic input map, Mamba-1"
    SOURCE: ClassVar[str] = (
        "after Yang et al. 2024 (arXiv:2406.09833, SHMamba), of which only the idea is taken; Mamba-1 as kind mamba"
    )
    OFFSETS: ClassVar[bool] = True

    kind: Literal["shmamba"]  # type: ignore[assignment]  # a kind of its own, with the same keys
