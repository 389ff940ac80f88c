"""The section `task:` of a study that draws images; imports no torch."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from lgmamba.config.base import Positive
from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import PIXELS, Metric

OrderName = Literal["permutation", "cycle", "replacement", "raster", "snake", "hilbert"]


class DrawConfig(TaskBase):
    """How an image becomes a sequence, and where the loss is."""

    ORDERS: ClassVar[tuple[str, ...]] = get_args(OrderName)
    METRICS: ClassVar[tuple[Metric, ...]] = (PIXELS,)
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset({"order", "subset", "cover", "prefix_drop"})
    NULL: ClassVar[str] = "mean_image"
    ORACLE: ClassVar[str | None] = "paste"
    ORACLE_DESCRIPTION: ClassVar[str] = "patches read pasted on the mean image"
    STEPS: ClassVar[str] = "patches"
    TIED: ClassVar[bool] = True
    CLASSES: ClassVar[bool] = True
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

    def described(self, order: str) -> str:
        P = self.patch_size
        return (
            f"An image of pixel values in [0, 1] is cut into cells of {P} \u00d7 {P} pixels. A sequence visits cells in the order "
            f"`{self.order}` in training, and `{order}` in the headline measurements; it may be longer than the image has cells. Each "
            "token is a patch with the code of its cell; a decoder turns the output at one step into the whole image."
        )

    @property
    def divisors(self) -> tuple[int, ...]:
        return (self.patch_size,)
