"""The section `task:` of a study of queried patches; imports no torch."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from lgmamba.config.base import Positive, Strict
from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SuperviseLast, TaskBase
from lgmamba.metrics import PIXELS, Metric

Places = Literal["uniform", "gaussian", "quadrants", "grid", "raster", "every"]
"""Laws of the positions read; see `lgmamba.tasks.queried.places`."""


class AppendPosition(Strict):
    """Two numbers of each token are its patch's place: (x, y) of its centre from the image centre, pixels / scale."""

    kind: Literal["append"]
    scale: float = Field(100.0, gt=0, le=1e6, description="pixels that become 1")


class SinePosition(Strict):
    """A code of sines and cosines of (x, y), pixels from the image centre, is added to each token."""

    kind: Literal["sine"]
    temperature: float = Field(10000.0, gt=1, le=1e9, description="the longest wavelength is 2 pi times it, pixels")


PositionConfig = Annotated[AppendPosition | SinePosition, Field(discriminator="kind")]


class PowerWeight(Strict):
    """A sequence of T patches weighs T^-s in the loss."""

    kind: Literal["power"]
    s: float = Field(ge=-10, le=10, description="exponent; 0 = all the same")


class TowerWeight(Strict):
    """A sequence of T patches weighs T^-(T^s) in the loss."""

    kind: Literal["tower"]
    s: float = Field(ge=-10, le=10, description="exponent of the exponent")


WeightConfig = Annotated[PowerWeight | TowerWeight, Field(discriminator="kind")]


class AugmentConfig(Strict):
    """A random affine map of each training image, drawn anew each time it is read; held-out images stay as they are."""

    rotation: float = Field(0.0, ge=0, le=180, description="degrees; uniform in +-rotation")
    translation: float = Field(0.0, ge=0, le=1, description="of each side; uniform in +-translation")
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (1.0, 1.0), description="smallest and largest factor of size; uniform between them"
    )
    fill: float = Field(1.0, ge=0, le=1, description="pixel value outside the image: 1 = white")

    @model_validator(mode="after")
    def _ordered(self):
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: smallest <= largest; got {self.scale[0]}, {self.scale[1]}")
        return self


class AskConfig(Strict):
    """How the whole picture is asked for when a trained model is read."""

    stride: Positive | None = Field(
        None, description="pixels between the places asked for, at most patch_size; null: patch_size, side by side"
    )
    queries: Literal["sequential", "independent"] = Field(
        "sequential",
        description="one after the other, as in training, so that later ones see what earlier ones wrote; or each alone from the same state",
    )


class QueriedConfig(TaskBase):
    """Patches at random pixel positions are read; patches at other positions are asked for by query tokens."""

    ORDERS: ClassVar[tuple[str, ...]] = get_args(Places)
    METRICS: ClassVar[tuple[Metric, ...]] = (PIXELS,)
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset({"order", "subset", "prefix_drop"})
    REFUSES: ClassVar[Mapping[str, str]] = {
        "probes": "it follows cells of a grid, and patches are read here at any pixel"
    }
    NULL: ClassVar[str] = "mean_image"
    ORACLE: ClassVar[str | None] = "oracle_memory"
    ORACLE_DESCRIPTION: ClassVar[str] = "pixels read, and the mean image elsewhere"
    STEPS: ClassVar[str] = "patches"
    TIED: ClassVar[bool] = True
    CLASSES: ClassVar[bool] = True
    IMAGES: ClassVar[bool] = True
    ASKS: ClassVar[bool] = True
    READS: ClassVar[Literal["cells", "places"]] = "places"
    DETAILS: ClassVar[tuple[str, ...]] = ("asked",)
    PASSES_STATES: ClassVar[bool] = True
    CONDITIONING: ClassVar[frozenset[str]] = frozenset({"length_token"})
    DRAWN: ClassVar[frozenset[str]] = frozenset({"lengths", "per", "weight"})

    kind: Literal["queried"]
    patch_size: Positive = Field(description="patch side, pixels; at most the image's sides")
    order: Places = Field(description="law of the positions read in training")
    lengths: LengthConfig
    per: Literal["batch", "sample"] = Field("batch", description="one length for each batch, or for each sequence")
    queries: Annotated[int, Field(ge=1, le=100_000)] = Field(
        description="positions asked for in training, each sequence"
    )
    position: PositionConfig
    loss_range: Literal["signed", "unit"] = Field(
        "signed", description="squared error of pixels on [-1, 1] (signed; 4 times the other) or on [0, 1] (unit)"
    )
    weight: WeightConfig | None = Field(None, description="weight of a sequence in the loss by its length; null: all 1")
    augment: AugmentConfig | None = Field(None, description="random affine map of training images; null: none")
    ask: AskConfig = Field(AskConfig(), description="how the whole picture is asked for")

    @property
    def model_width(self) -> tuple[int, int]:
        return (3, 1) if isinstance(self.position, AppendPosition) else (4, 4)

    def described(self, order: str) -> str:
        P = self.patch_size
        return (
            f"Each step reads a patch of {P} \u00d7 {P} pixels at a place drawn anew: order `{self.order}` in training, `{order}` in the "
            "headline measurements; the same pixels may come again. After the last patch a delimiter and query tokens follow, each with "
            "a place, and the output at a query is the patch there. A picture is drawn by asking for every place of it, from a copy "
            f"of the state, so that asking at one step changes nothing later. Training asks for {self.queries} random places."
        )

    @property
    def least_side(self) -> int:
        return self.patch_size

    @property
    def supervision(self) -> SuperviseLast:
        """Queries follow the last patch."""
        return SuperviseLast(kind="last")

    @model_validator(mode="after")
    def _covers(self):
        if self.ask.stride is not None and self.ask.stride > self.patch_size:
            raise ValueError(
                f"ask.stride <= patch_size, so that every pixel is asked for; got {self.ask.stride} and {self.patch_size}"
            )
        return self
