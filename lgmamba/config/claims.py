"""The claims of a study: primary contrasts, written down before the runs, and what counts as shown.

A contrast is one sentence and one number: a level of one run minus a level of another (or of the same run at another
length). A level is the metric's mean over held-out items, for one training; where several lengths are named, the mean of
the levels at these lengths. Lengths are written in units of the run's own L0:

    L0        the longest training length of the side's run
    4 L0      a multiple of it; L0 / 4 a part of it; 0.3 L0 too
    to L0     1, 2, 4, ... and L0: evenly on a log scale
    37        so many steps

Everything else that a study measures is described, not judged.
"""

import datetime
import math
import re
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from lgmamba.config.base import Name, Strict
from lgmamba.config.task import Order

LENGTH = re.compile(r"(?:(?P<steps>\d+)|(?P<factor>\d+(?:\.\d+)?)\s*L0|L0\s*/\s*(?P<part>\d+(?:\.\d+)?)|(?P<one>L0))")
TO_L0 = "to L0"
DAY = re.compile(r"\d{4}-\d\d-\d\d")


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _length(value: object) -> object:
    text = str(value).strip()
    found = LENGTH.fullmatch(text)
    numbers = [float(n) for n in found.group("steps", "factor", "part") if n] if found else []
    if text != TO_L0 and (found is None or not all(0 < n < math.inf for n in numbers)):
        raise ValueError("a length such as L0, 4 L0, L0 / 4, to L0, or a number of steps from 1 on")
    return text


def _nothing_else(value: object) -> None:
    if value is not None:
        raise ValueError(
            "null: in the test a run is told T (mode: prefix) or L0 (mode: stream); what it is told in training is model.adaptive.told "
            "of a run of its own, and the probe told_lengths tells it wrong lengths"
        )


def _day(value: object) -> object:
    if value is None or isinstance(value, datetime.date) or DAY.fullmatch(str(value)):
        return value
    raise ValueError("a day such as 2026-11-26, or null")


Length = Annotated[str, BeforeValidator(_length)]
Lengths = Annotated[list[Length], BeforeValidator(_as_list), Field(min_length=1)]


class Side(Strict):
    """One side of a contrast: of which run, at which lengths, and read how.

    `run` or `best_of`: of several runs or remedies the best is taken seed by seed, which favours this side; so it may only be
    the side that the claim is against.
    """

    run: Name
    at: Lengths = Field(description="lengths in units of the run's L0; of several the mean is taken")
    less: Lengths | None = Field(
        None,
        exclude_if=lambda less: less is None,
        description="lengths whose level is taken off, so that the side is a change; null: a level",
    )
    also: list[Name] | None = Field(
        None,
        min_length=1,
        exclude_if=lambda also: also is None,
        description="further runs; of all of them the mean is taken, seed by seed",
    )
    remedy: Name | None = Field(None, description="an entry of remedies or a control; null: the run as it is")
    best_of: list[Name] | None = Field(None, min_length=1, description="remedies or controls of which the best counts")
    method: Literal["model", "refitted", "trained", "mean_image", "paper", "paste", "oracle_memory", "nearest"] = Field(
        "model",
        description="the run itself, its read-out refitted at that length, its trained read-out on the same images as that, or a baseline",
    )
    mode: Literal["prefix", "stream"] = "prefix"
    order: Order | None = Field(None, description="visiting order; null: the first of evaluation.orders")
    told: Annotated[None, BeforeValidator(_nothing_else)] = Field(
        None, description="null; in the test a run is told what `mode` says"
    )
    metric: Literal["accuracy"] | None = Field(
        None,
        exclude_if=lambda metric: metric is None,
        description="what is compared: null: the task's own, such as PSNR; accuracy of the class that a run with a class head names",
    )
    measure: Literal["level", "kept"] = Field(
        "level",
        exclude_if=lambda measure: measure == "level",
        description="level, or kept: what is there of the run's lead at L0 over what knows nothing of a sequence, in percent",
    )

    @model_validator(mode="after")
    def _one_reading(self):
        if self.remedy is not None and self.best_of is not None:
            raise ValueError(f"remedy or best_of, not both; got {self.remedy!r} and {self.best_of}")
        if self.method != "model" and (self.remedy or self.best_of):
            raise ValueError(f"method: model where a remedy is named; got {self.method!r}")
        if self.read_out and self.metric is not None:
            raise ValueError(f"metric: null with method {self.method}, which is about pictures; got {self.metric!r}")
        if (self.less or self.also) and self.treated:
            raise ValueError(
                "less and also belong to runs that are read as they are; found a remedy or best_of besides"
            )
        if self.measure == "kept" and (self.less or self.treated or self.method != "model"):
            raise ValueError(
                "measure kept belongs to runs that are read as they are; found less, a remedy or a method besides"
            )
        if len(set(self.runs)) != len(self.runs):
            raise ValueError(f"run and also with each run once; got {self.runs}")
        return self

    @property
    def runs(self) -> list[str]:
        """All runs of the side."""
        return [self.run, *(self.also or [])]

    @property
    def treated(self) -> list[str]:
        """Remedies and controls that the side is about; none where a run is read as it is."""
        return self.best_of or ([self.remedy] if self.remedy else [])

    @property
    def methods(self) -> list[str]:
        """Names under which frames have its levels: of several the best counts."""
        return self.treated or [self.method]

    def steps(self, L0: int) -> list[int]:
        """The lengths in steps, ascending, for a run of this L0."""
        return steps_at(self.at, L0)

    def steps_less(self, L0: int) -> list[int]:
        """The lengths whose level is taken off, likewise."""
        return steps_at(self.less or [], L0)

    def steps_read(self, L0: int) -> list[int]:
        """All lengths that the side needs."""
        return sorted({*self.steps(L0), *self.steps_less(L0), *([L0] if self.measure == "kept" else [])})

    @property
    def read_out(self) -> bool:
        """Whether it is a number of the probe `read_outs`, which has images of its own."""
        return self.method in ("refitted", "trained")

    @property
    def scale(self) -> tuple[str | None, str]:
        """What its number is of: sides of one contrast are of one scale."""
        return (None if self.measure == "kept" else self.metric), self.measure


def steps_at(lengths: list[str], L0: int) -> list[int]:
    """Lengths in words -> steps, ascending, each once."""
    return sorted({step for text in lengths for step in steps_of(text, L0)})


def steps_of(text: str, L0: int) -> list[int]:
    """A length in words -> steps: "4 L0" with L0 = 16 -> [64]; "to L0" -> [1, 2, 4, 8, 16]."""
    if text == TO_L0:
        return sorted({2**k for k in range(L0.bit_length()) if 2**k <= L0} | {L0})
    found = LENGTH.fullmatch(text)
    assert found is not None, text  # checked with the configuration
    if found["steps"]:
        return [max(1, int(found["steps"]))]
    if found["part"]:
        return [max(1, round(L0 / float(found["part"])))]
    return [max(1, round(float(found["factor"] or 1) * L0))]


class Contrast(Strict):
    """One claim: `of` minus `minus` has the claimed sign, by more than the margin."""

    name: Name
    claim: str = Field(min_length=1, max_length=200, description="the sentence that is claimed")
    of: Side
    minus: Side
    claimed: Literal["above", "below"] = Field(description="the sign that is claimed of the difference")
    needs_seeds: int | None = Field(
        None, ge=2, description="seeds needed for a verdict on this contrast; null: claims.seeds"
    )

    @property
    def sign(self) -> int:
        return 1 if self.claimed == "above" else -1

    @property
    def in_points(self) -> bool:
        """Whether its number is in percentage points: of accuracies, or of shares that are kept."""
        return self.of.metric == "accuracy" or self.of.measure == "kept"

    @model_validator(mode="after")
    def _one_scale(self):
        if self.of.scale != self.minus.scale:
            of, minus = (f"metric {s.metric or 'null'}, measure {s.measure}" for s in (self.of, self.minus))
            raise ValueError(
                f"minus: found {minus}, expected: {of}, as of; of shares that are kept the metrics may differ"
            )
        return self

    @model_validator(mode="after")
    def _best_is_the_rival(self):
        helped = self.of if self.claimed == "above" else self.minus
        if helped.best_of is not None:
            side = "of" if helped is self.of else "minus"
            raise ValueError(
                f"{side}.best_of: the best of several may only be the side that the claim is against; got {helped.best_of}"
            )
        return self

    @model_validator(mode="after")
    def _same_images(self):
        if bool(self.of.treated) != bool(self.minus.treated):
            missing = "minus" if self.of.treated else "of"
            raise ValueError(
                f"{missing}.remedy: found null, expected a remedy or control, such as vanilla: remedies are read on images of "
                "their own, and only what is read on the same images is compared"
            )
        if self.of.read_out != self.minus.read_out:
            missing = "minus" if self.of.read_out else "of"
            raise ValueError(
                f"{missing}.method: found {getattr(self, missing).method}, expected refitted or trained: read-outs are fitted and read "
                "on images of their own, and only what is read on the same images is compared"
            )
        return self


class Comparison(Strict):
    """Runs that are drawn and described together; specialists are the plain runs of fixed length within the generalist's range."""

    generalist: Name = Field(description="plain run trained on many lengths")
    adaptive: Name = Field(description="length-adaptive run trained on the same lengths")


class ClaimsConfig(Strict):
    """What is claimed, when it was written down, and what counts as shown."""

    RENAMED: ClassVar = {"far_factors": "far_length_ratios"}

    comparisons: list[Comparison] = Field([], description="families of runs that figures and tables put side by side")

    fixed: Annotated[datetime.date | None, BeforeValidator(_day)] = Field(
        None, description="day on which the contrasts were fixed, before the runs; null: exploratory"
    )
    margin: float = Field(0.1, gt=0, description="smallest difference that matters, in the metric's unit (dB)")
    accuracy_margin: float = Field(
        0.5,
        gt=0,
        exclude_if=lambda margin: margin == 0.5,
        description="the same of contrasts of accuracies and of shares that are kept, percentage points",
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    seeds: int = Field(5, ge=2, description="trainings on each side needed for a verdict; with fewer it is described")
    primary: list[Contrast] = Field([], description="the primary contrasts; Holm's correction is over these")
    far_length_ratios: list[Annotated[float, Field(gt=1, le=1e6)]] = Field(
        [2, 4, 8, 25],
        min_length=1,
        description="multiples of L0 at which tables describe what is beyond it; as far as evaluation.max_length_ratio goes",
    )

    @model_validator(mode="after")
    def _named_once(self):
        check_names([contrast.name for contrast in self.primary])
        return self

    def rule(self, contrast: Contrast) -> "ClaimsConfig":
        """What counts as shown of one contrast: these claims, with the margin of its scale."""
        return self.model_copy(update={"margin": self.accuracy_margin}) if contrast.in_points else self


def check_names(names: list[str]) -> None:
    """Refuse two primary contrasts of one name."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"primary: found {name!r} twice, expected: each name once")


def needed_steps(contrasts: list[Contrast], run: str, L0: int) -> set[int]:
    """Steps at which a run must be read as it is for the contrasts; remedies and read-outs are read at steps of their own."""
    sides = [side for contrast in contrasts for side in (contrast.of, contrast.minus)]
    as_it_is = [side for side in sides if run in side.runs and not side.treated and not side.read_out]
    return {step for side in as_it_is for step in side.steps_read(L0)}
