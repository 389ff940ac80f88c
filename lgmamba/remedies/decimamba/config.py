"""`remedies:` of params.yaml, kind decimamba; imports no torch. What it does is in `lgmamba.remedies.decimamba.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Positive
from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Above0, Mode, RemedyEntry


class DeciMambaConfig(RemedyEntry):
    """Some layers go on with the steps of the largest step sizes only (DeciMamba)."""

    TITLE: ClassVar[str] = "DeciMamba"
    ABOUT: ClassVar[str] = (
        "From one layer on, only some steps enter the states, about as many as in training; the others are dropped, "
        "whatever they show. With random or newest steps in place of those of the largest step size it is its own "
        "ablation."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "step_size": ("prefix", "stream"),
        "random": ("prefix",),
        "newest": ("prefix",),
    }
    COMBINES: ClassVar[bool] = False

    kind: Literal["decimamba"]
    layers: (
        Literal["best", "best_and_above"] | Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=1)]
    ) = Field(
        "best",
        description="best: chosen on calibration images; best_and_above: and every layer from there up; or numbers",
    )
    base: Above0 = Field(1.0, description="steps kept by the first decimating layer, in units of L0")
    beta: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="factor from one decimating layer to the next")
    protected: Positive = Field(1, description="steps at the end that are always kept")
    score: Literal["step_size", "random", "newest"] = Field(
        "step_size", description="which steps are kept; the others are ablations"
    )

    @model_validator(mode="after")
    def _fits(self):
        if isinstance(self.layers, list) and self.layers != sorted(set(self.layers)):
            raise ValueError(f"remedy {self.name!r}: expected layers ascending, each once; got {self.layers}")
        one = self.layers == "best" or (isinstance(self.layers, list) and len(self.layers) == 1)
        if self.mode == "stream" and (not one or (self.base, self.beta, self.protected) != (1.0, 1.0, 1)):
            raise ValueError(
                f"remedy {self.name!r}: in stream mode one layer decimates, and thresholds say how many steps are kept: expected "
                "layers: best or a single number, and neither base, beta nor protected"
            )
        return self

    @property
    def form_name(self) -> str:
        return self.score

    @property
    def calibrated(self) -> bool:
        return isinstance(self.layers, str) or self.mode == "stream"

    @property
    def description(self) -> str:
        if self.mode == "stream":
            return "keep step t with probability L0/t, by the size of dt in one layer; draw at the last step kept"
        kept = {"step_size": "largest dt", "random": "random steps", "newest": "newest steps"}[self.score]
        where = {"best": "one layer", "best_and_above": "layers from one up"}.get(
            str(self.layers), f"layers {self.layers}"
        )
        return f"keep {self.base:g} L0 steps of {kept}, {where}" + (f", beta {self.beta:g}" if self.beta != 1 else "")

    @property
    def requires(self) -> frozenset[Verb]:
        scored = self.score == "step_size" or isinstance(self.layers, str)
        acts: Verb = "mask" if self.mode == "stream" else "keep"
        return frozenset({acts, "score"} if scored else {acts})
