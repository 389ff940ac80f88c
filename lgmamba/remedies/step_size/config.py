"""`remedies:` of params.yaml, kind step_size; imports no torch. What it does is in `lgmamba.remedies.step_size.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.mixers.base import Refuses, Verb
from lgmamba.remedies.entry import (
    CLOSED_FORM,
    Above0,
    Bounds,
    Calibrate,
    Mode,
    RemedyEntry,
    Start,
    bounds_of_a_calibration,
    factor_or_calibration,
    how_found,
    start_of_a_search,
)


class StepSizeConfig(RemedyEntry):
    """Scale the step sizes (MambaExtend)."""

    TITLE: ClassVar[str] = "Step sizes"
    ABOUT: ClassVar[str] = (
        "Step sizes are scaled. A smaller one writes less and forgets less, by the same factor, so that the sum of "
        "step sizes, which decides what survives, stays nearer to that of a sequence of training."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "uniform": ("prefix",),
        "power": ("stream",),
        "layer": ("prefix", "stream"),
        "channel": ("prefix", "stream"),
        "norm": ("prefix",),
    }

    kind: Literal["step_size"]
    form: Literal["uniform", "power", "layer", "channel", "norm"] = Field(
        description="uniform: (L0/T)^p; power: (L0/t)^p; layer, channel: a factor for each layer, for each channel of each layer; "
        "norm: sums over T as over L0, by channel"
    )
    p: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="power of L0/T or L0/t; null: 1")
    calibrate: Calibrate = Field(
        "none", description="for layer and channel; and for power, a factor on p for each layer"
    )
    start: Start = "one"
    bounds: Bounds = None
    factor: Above0 | None = Field(None, description="s at the longest calibration length, where nothing is calibrated")
    phase: Literal["slowed", "kept"] = Field(
        "slowed",
        exclude_if=lambda phase: phase == "slowed",  # files without it stay what they are, to the byte
        description="of phases that a step turns (Mamba-3): slowed like the rest, or kept, so that what was counted by them still is",
    )

    @model_validator(mode="after")
    def _complete(self):
        if self.p is not None and self.form not in ("uniform", "power"):
            raise ValueError(f"remedy {self.name!r}: p belongs to forms uniform and power; found form: {self.form}")
        if self.form in ("layer", "channel"):
            factor_or_calibration(self.name, self.calibrate, self.factor)
        elif self.factor is not None:
            raise ValueError(
                f"remedy {self.name!r}: factor belongs to forms layer and channel; found form: {self.form}"
            )
        elif self.calibrate != "none" and (self.form != "power" or self.calibrate == "closed_form"):
            raise ValueError(
                f"remedy {self.name!r}: found calibrate: {self.calibrate} with form: {self.form}; expected form layer or channel, or "
                "form power with zeroth_order or gradient"
            )
        elif self.bounds is not None:
            raise ValueError(
                f"remedy {self.name!r}: bounds belong to the factors of forms layer and channel; found form: {self.form}"
            )
        if "closed_form" in (self.calibrate, self.start) and self.form != "layer":
            raise ValueError(f"remedy {self.name!r}: closed_form knows form: layer; found form: {self.form}")
        start_of_a_search(self.name, self.calibrate, self.start)
        bounds_of_a_calibration(self.name, self.calibrate, self.bounds)
        return self

    @property
    def form_name(self) -> str:
        return self.form

    @property
    def scope(self) -> str:
        """What has a factor of its own, of forms layer and channel."""
        return self.form

    @property
    def power(self) -> float:
        return 1.0 if self.p is None else self.p

    @property
    def calibrated(self) -> bool:
        return self.calibrate != "none" or self.form == "norm"

    @property
    def description(self) -> str:
        return self._factors + ("" if self.phase == "slowed" else ", phases as they are")

    @property
    def _factors(self) -> str:
        if self.form in ("layer", "channel"):
            return f"s dt by {self.form}, {how_found(self.calibrate, self.factor, self.start, self.bounds)}"
        if self.form == "norm":
            return "dt summed over T as over L0, by channel"
        ratio = "L0/T" if self.form == "uniform" else "L0/t"
        if self.calibrate != "none":
            return f"dt times ({ratio})^p by layer, {how_found(self.calibrate, None)}"
        return f"dt times {ratio}" if self.power == 1 else f"dt times ({ratio})^{self.power:g}"

    def refusal(self, mixer: Refuses) -> str | None:
        reason = super().refusal(mixer)
        if reason is None and self.phase == "kept" and not mixer.PHASES:
            return "no phases that could be left as they are (phase: kept)"
        return reason

    @property
    def requires(self) -> frozenset[Verb]:
        verbs: set[Verb] = {"slow"}
        if self.form == "norm":
            verbs.add("score")
        if "closed_form" in (self.calibrate, self.start):
            verbs |= CLOSED_FORM
        return frozenset(verbs)
