"""`remedies:` of params.yaml, kind assemble; imports no torch. What it does is in `lgmamba.remedies.assemble.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

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
    }
    COMBINES: ClassVar[bool] = False

    kind: Literal["assemble"]
    windows: Literal["consecutive", "cover"] = Field(
        "consecutive", description="of consecutive steps, or of steps that visit different cells where they can"
    )
    take: Literal["mean", "newest"] = Field("mean", description="of the windows that read a cell")
    groupings: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="ways in which steps are cut into windows, each for the cost of a pass; the others at random, in prefix mode",
    )

    @model_validator(mode="after")
    def _groupings_fit(self):
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
    def covers(self) -> bool:
        return self.windows == "cover"

    @property
    def description(self) -> str:
        which = "consecutive" if self.windows == "consecutive" else "covering"
        again = f" in {self.groupings} groupings" if self.groupings > 1 else ""
        return f"{which} windows of L0 steps{again}, {'mean' if self.take == 'mean' else 'the newest'} of those that read a cell"

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"reset"})
