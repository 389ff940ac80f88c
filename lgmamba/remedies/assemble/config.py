"""`remedies:` of params.yaml, kind assemble; imports no torch. What it does is in `lgmamba.remedies.assemble.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.task import Invariance
from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Mode, RemedyEntry


class AssembleConfig(RemedyEntry):
    """The image is put together from windows of L0 steps, cell by cell from those that read the cell. This project's own."""

    TITLE: ClassVar[str] = "Assembly from windows"
    ABOUT: ClassVar[str] = (
        "No state is carried beyond L0: windows of L0 steps are read from fresh states, and the image is put "
        "together from what each of them drew."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "consecutive": ("prefix", "stream"),
        "cover": ("prefix",),
        "reordered": ("prefix",),
    }
    COMBINES: ClassVar[bool] = False

    kind: Literal["assemble"]
    windows: Literal["consecutive", "cover", "reordered"] = Field(
        "consecutive",
        description="of consecutive steps | of steps that visit different cells where they can | control: the newest L0 steps in other orders",
    )
    take: Literal["mean", "newest", "all"] = Field(
        "mean",
        description="of the windows that read a cell: their mean, or the newest | control: the mean of all windows",
    )
    state: Literal["fresh", "carried"] = Field(
        "fresh",
        exclude_if=lambda state: state == "fresh",
        description="that windows begin with | control: they are read on from the state before them, in one pass; prefix mode, consecutive",
    )
    groupings: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="ways in which steps are cut into windows, each for the cost of a pass; the others at random, in prefix mode",
    )

    @model_validator(mode="after")
    def _groupings_fit(self):
        if self.state == "carried" and (self.mode != "prefix" or self.windows != "consecutive" or self.groupings > 1):
            raise ValueError(
                f"remedy {self.name!r}: found state: carried with mode: {self.mode}, windows: {self.windows}, groupings: {self.groupings}; "
                "expected mode: prefix, windows: consecutive and groupings: 1"
            )
        if self.groupings > 1 and (self.mode != "prefix" or self.take != "mean"):
            raise ValueError(
                f"remedy {self.name!r}: found groupings: {self.groupings} with mode: {self.mode}, take: {self.take}; expected "
                "mode: prefix and take: mean, or groupings: 1"
            )
        return self

    @property
    def form_name(self) -> str:
        return self.windows

    @property
    def invariance(self) -> Invariance | None:
        return {"consecutive": None, "cover": "cover", "reordered": "order"}[self.windows]

    @property
    def description(self) -> str:
        which = {
            "consecutive": "consecutive windows of L0 steps",
            "cover": "covering windows of L0 steps",
            "reordered": "the newest L0 steps in as many orders as there are windows",
        }[self.windows]
        again = f" in {self.groupings} groupings" if self.groupings > 1 else ""
        on = ", read on from the state before them" if self.state == "carried" else ""
        took = {
            "mean": "mean of those that read a cell",
            "newest": "the newest of those that read a cell",
            "all": "mean of all",
        }
        return f"{which}{again}{on}, {took[self.take]}"

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"reset"})
