"""`remedies:` of params.yaml, kind spectrum; imports no torch. What it does is in `lgmamba.remedies.spectrum.remedy`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import in_yaml
from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import (
    CLOSED_FORM,
    Above0,
    Bounds,
    Calibrate,
    Mode,
    RemedyEntry,
    Share,
    Start,
    bounds_of_a_calibration,
    factor_or_calibration,
    how_found,
    start_of_a_search,
)


class SpectrumConfig(RemedyEntry):
    """Scale the spectrum of A (Mamba Modulation, arXiv:2509.19633)."""

    TITLE: ClassVar[str] = "Spectrum of A"
    ABOUT: ClassVar[str] = (
        "The decay rates are changed, what a step writes is not. Slower decay keeps old steps and lets the state "
        "grow; faster decay bounds the state and forgets."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "mult": ("prefix", "stream"),
        "pow": ("prefix", "stream"),
        "clip": ("prefix", "stream"),
    }

    kind: Literal["spectrum"]
    form: Literal["mult", "pow", "clip"] = Field(description="|A| <- s |A|, |A|^s, or within quantiles of its layer")
    scope: Literal["global", "layer", "mode", "channel_mode"] = Field(
        "layer",
        description="one factor for all layers; or in each layer one, one for each mode n, or for each (channel, mode)",
    )
    calibrate: Calibrate = "none"
    start: Start = "one"
    bounds: Bounds = None
    factor: Above0 | None = Field(None, description="s at the longest calibration length, where nothing is calibrated")
    band: tuple[Share, Share] | None = Field(None, description="quantiles of |A| that clip keeps")

    @model_validator(mode="after")
    def _complete(self):
        if self.form == "clip":
            if self.band is None or not self.band[0] < self.band[1]:
                raise ValueError(
                    f"remedy {self.name!r}: form clip expects band: [low, high], low < high; got {in_yaml(self.band)}"
                )
            if self.calibrate != "none" or self.factor is not None or self.bounds is not None:
                raise ValueError(
                    f"remedy {self.name!r}: form clip has no factor: leave out calibrate, factor and bounds"
                )
            return self
        if self.band is not None:
            raise ValueError(f"remedy {self.name!r}: band belongs to form clip; found form: {self.form}")
        factor_or_calibration(self.name, self.calibrate, self.factor)
        if "closed_form" in (self.calibrate, self.start) and (self.form, self.scope) != ("mult", "layer"):
            raise ValueError(
                f"remedy {self.name!r}: closed_form knows form: mult with scope: layer; found form: {self.form}, scope: {self.scope}"
            )
        start_of_a_search(self.name, self.calibrate, self.start)
        bounds_of_a_calibration(self.name, self.calibrate, self.bounds)
        return self

    @property
    def form_name(self) -> str:
        return self.form

    @property
    def calibrated(self) -> bool:
        return self.calibrate != "none"

    @property
    def description(self) -> str:
        if self.form == "clip" and self.band is not None:
            return f"|A| within its quantiles {self.band[0]:g} to {self.band[1]:g}"
        of = {"global": "", "layer": " by layer", "mode": " by layer and mode", "channel_mode": " by channel and mode"}
        found = how_found(self.calibrate, self.factor, self.start, self.bounds)
        return f"{'s |A|' if self.form == 'mult' else '|A|^s'}{of[self.scope]}, {found}"

    @property
    def requires(self) -> frozenset[Verb]:
        if self.form == "clip":
            return frozenset({"decay", "eigenmodes"})
        acts: frozenset[Verb] = frozenset({"decay"})
        if self.scope in ("mode", "channel_mode"):
            acts |= {"state"}  # whose modes have the factors
        return acts | CLOSED_FORM if "closed_form" in (self.calibrate, self.start) else acts
