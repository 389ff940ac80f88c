"""What every entry of `remedies:` says, whatever its kind. Imports no torch.

prefix: the length T at which the output will be read is known, and every T is a pass of its own. stream: one pass, in which only the
step t is known. Glossary: `lgmamba.remedies`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Name, Strict, in_yaml
from lgmamba.config.task import Invariance
from lgmamba.mixers.base import Refuses, Verb

Mode = Literal["prefix", "stream"]
Calibrate = Literal["none", "zeroth_order", "gradient", "closed_form"]
Start = Annotated[Literal["one", "closed_form"], Field(description="where a search of factors begins")]
Above0 = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[
    tuple[Above0, Above0] | None,
    Field(
        exclude_if=lambda bounds: bounds is None,  # entries without it stay what they are, to the byte
        description="smallest and largest s that calibration may find, with 1 between them; null: any. As released by Mamba "
        "Modulation for the Pile: [0.01, 1]",
    ),
]

CLOSED_FORM: frozenset[Verb] = frozenset({"score", "eigenmodes", "state"})
"""What factors in closed form are made of."""


class RemedyEntry(Strict):
    """An entry of one kind.

    Class attributes:
        TITLE, ABOUT: for the report: its name, and what it does to the state.
        MODES: form -> the modes in which it runs; nothing else decides that.
        COMBINES: whether it can stand in a combination. Not if it changes which steps a layer sees, so that nothing that counts steps
            may follow, or reads in a way of its own.
        SCAN: whether the mixer's recurrence is left to it ("kept"), cut at fixed steps ("cut"), or replaced at every step ("replaced");
            a combination that has one replaced has none replaced or cut besides.
    """

    TITLE: ClassVar[str]
    ABOUT: ClassVar[str]
    MODES: ClassVar[dict[str, tuple[Mode, ...]]]
    COMBINES: ClassVar[bool] = True
    SCAN: ClassVar[str] = "kept"

    name: Name
    mode: Mode = Field(description="prefix: one pass for each T, told T; stream: one pass, which knows t only")

    @property
    def form_name(self) -> str:
        """What decides where the entry can run; a key of `MODES`."""
        raise NotImplementedError

    @property
    def requires(self) -> frozenset[Verb]:
        """The verbs that it acts with, and is calibrated with."""
        raise NotImplementedError

    def refusal(self, mixer: Refuses) -> str | None:
        """Why it cannot act on a mixer; None where it can."""
        return mixer.refusal(self.requires)

    @property
    def invariance(self) -> Invariance | None:
        """What it does to sequences, which only some tasks allow (`INVARIANT`); None: nothing of the kind."""
        return None

    @property
    def description(self) -> str:
        """The form, for tables."""
        raise NotImplementedError

    @property
    def calibrated(self) -> bool:
        """Whether values must be found on calibration images."""
        return False

    @model_validator(mode="after")
    def _runs_in_mode(self):
        modes = self.MODES[self.form_name]
        if self.mode not in modes:
            raise ValueError(
                f"remedy {self.name!r}: found mode: {self.mode}, but {self.kind} of form {self.form_name} runs in "
                f"{' or '.join(modes)} mode only; expected mode: {' or '.join(modes)}"
            )
        return self


def factor_or_calibration(name: str, calibrate: str, factor: float | None) -> None:
    """Raises ValueError unless there is either."""
    if (calibrate == "none") == (factor is None):
        raise ValueError(
            f"remedy {name!r}: expected either a factor or a way to calibrate one; got factor: {in_yaml(factor)}, calibrate: {calibrate}"
        )


def start_of_a_search(name: str, calibrate: str, start: str) -> None:
    """Raises ValueError where nothing is searched for from there."""
    if start != "one" and calibrate not in ("zeroth_order", "gradient"):
        raise ValueError(
            f"remedy {name!r}: found start: {start} with calibrate: {calibrate}; expected zeroth_order or gradient, or no start"
        )


def bounds_of_a_calibration(name: str, calibrate: str, bounds: tuple[float, float] | None) -> None:
    """Raises ValueError where they bound nothing, or leave out 1."""
    if bounds is not None and (calibrate == "none" or not bounds[0] <= 1 <= bounds[1] or bounds[0] == bounds[1]):
        raise ValueError(
            f"remedy {name!r}: expected bounds: [low, high] of a calibrated factor, low <= 1 <= high and low < high; got "
            f"bounds: {list(bounds)} with calibrate: {calibrate}"
        )


def how_found(
    calibrate: str, factor: float | None, start: str = "one", bounds: tuple[float, float] | None = None
) -> str:
    """How factors were found, in words."""
    ways = {"zeroth_order": "by zeroth order", "gradient": "by back-propagation", "closed_form": "in closed form"}
    found = ways.get(calibrate, f"s = {factor:g} at the longest length" if factor is not None else "")
    found += " from the closed form" if start == "closed_form" else ""
    return found + (f", s from {bounds[0]:g} to {bounds[1]:g}" if bounds is not None else "")
