"""Primary contrasts of such a study: written down before the runs, judged as all others (`lgmamba.config.claims`)."""

import datetime
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Name, Positive, Strict, in_yaml
from lgmamba.config.claims import ClaimsConfig, check_names

Measure = Literal["psnr", "accuracy", "area", "synergy"]
UNITS: dict[Measure, str] = {"psnr": "dB", "accuracy": "pp", "area": "", "synergy": "margins"}
"""accuracy in percentage points; synergy in the margins of PSNR and accuracy, see `frontier.synergy`."""
AT_ONE_WEIGHT = ("psnr", "accuracy")


class Point(Strict):
    """One side of a contrast: a stack of the frontier, and for PSNR and accuracy which of its weights."""

    encoder: Name
    latent: Positive
    weight: float | None = Field(None, ge=0, le=1, description="weight of classification; null for area and synergy")


class Margins(Strict):
    """Smallest differences that matter."""

    psnr: float = Field(0.1, gt=0, description="dB")
    accuracy: float = Field(0.5, gt=0, description="percentage points")
    area: float = Field(0.02, gt=0, description="share of the square; a linear exchange has 0.5")
    synergy: float = Field(1.0, gt=0, description="in the margins of PSNR and accuracy")


class TradeoffContrast(Strict):
    """One claim: the measure of `of`, minus that of `minus`, has the claimed sign by more than the margin."""

    name: Name
    claim: str = Field(min_length=1, max_length=200, description="the sentence that is claimed")
    measure: Measure
    of: Point
    minus: Point | None = Field(None, description="null: compared with 0; only of synergy")
    claimed: Literal["above", "below"]

    @property
    def sign(self) -> int:
        return 1 if self.claimed == "above" else -1

    @model_validator(mode="after")
    def _sides_fit(self):
        for role, side in (("of", self.of), ("minus", self.minus)):
            if side is not None and (side.weight is not None) != (self.measure in AT_ONE_WEIGHT):
                expected = "a weight" if self.measure in AT_ONE_WEIGHT else "null, since it is of the whole frontier"
                raise ValueError(
                    f"{role}.weight: found {in_yaml(side.weight)}, expected {expected} (measure {self.measure})"
                )
        if (self.minus is None) != (self.measure == "synergy"):
            raise ValueError(f"minus: only of synergy, which is compared with 0; found measure {self.measure}")
        return self


class TradeoffClaims(Strict):
    """What is claimed, when it was written down, and what counts as shown."""

    fixed: datetime.date | None = Field(None, description="day on which the contrasts were fixed; null: exploratory")
    level: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    seeds: int = Field(5, ge=2, description="trainings on each side needed for a verdict; with fewer it is described")
    margins: Margins = Margins()
    primary: list[TradeoffContrast] = Field([], description="the primary contrasts; Holm's correction is over these")

    @model_validator(mode="after")
    def _named_once(self):
        check_names([contrast.name for contrast in self.primary])
        return self

    def rule(self, measure: Measure) -> ClaimsConfig:
        """What counts as shown of one measure."""
        return ClaimsConfig(margin=getattr(self.margins, measure), level=self.level, seeds=self.seeds)

    def check(self, stacks: Mapping[tuple[str, int], list[float]]) -> None:
        """Whether every side is trained.

        Args:
            stacks: (encoder, latent) -> weights of the frontier.
        Raises:
            ValueError: names the contrast's key.
        """
        for i, contrast in enumerate(self.primary):
            for role, side in (("of", contrast.of), ("minus", contrast.minus)):
                if side is None:
                    continue
                path = f"claims.primary.{i}.{role}"
                weights = stacks.get((side.encoder, side.latent))
                if weights is None:
                    known = ", ".join(f"{encoder} at {latent}" for encoder, latent in stacks)
                    raise ValueError(f"{path}: found {side.encoder} at latent {side.latent}, expected: one of {known}")
                if side.weight is not None and side.weight not in weights:
                    raise ValueError(f"{path}.weight: found {side.weight:g}, expected: one of {weights}")
