"""The section `task:` of a study that draws images; imports no torch."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from lgmamba.config.base import Positive
from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import SupervisionConfig, TaskBase
from lgmamba.metrics import PIXELS, Metric

OrderName = Literal["permutation", "cycle", "replacement", "raster", "snake", "hilbert"]


class DrawConfig(TaskBase):
    """How an image becomes a sequence, and where the loss is."""

    ORDERS: ClassVar[tuple[str, ...]] = get_args(OrderName)
    METRICS: ClassVar[tuple[Metric, ...]] = (PIXELS,)
    NULL: ClassVar[str] = "mean_image"
    ORACLE: ClassVar[str | None] = "paste"
    ORACLE_WORDS: ClassVar[str] = "patches read pasted on the mean image"
    STEPS: ClassVar[str] = "patches"
    TIED: ClassVar[bool] = True
    ENDS: ClassVar[frozenset[str]] = frozenset({"position", "decoder"})
    IMAGES: ClassVar[bool] = True
    PASSES_STATES: ClassVar[bool] = True

    kind: Annotated[
        Literal["draw"],
        Field(
            exclude_if=lambda kind: kind == "draw"
        ),  # files of studies from before there were kinds stay what they are
    ] = "draw"
    patch_size: Positive = Field(description="patch side, pixels; divides the image's height and width")
    order: OrderName = Field(description="visiting order of the cells in training")
    lengths: LengthConfig
    supervision: SupervisionConfig

    @property
    def divisors(self) -> tuple[int, ...]:
        return (self.patch_size,)
