"""What configurations of tasks share: where the loss is, and what the rest of a study may ask about a task.

A task's own configuration is in `lgmamba.tasks.<name>.config`, and is a `TaskBase` with a `kind` of its own.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Strict
from lgmamba.config.lengths import LengthConfig
from lgmamba.metrics import Metric

Invariance = Literal["order", "subset", "cover", "prefix_drop"]
"""What may be done to a sequence: its steps read in another order, some left out, those that show a part of the target again left
out, the oldest left out."""

Order = Annotated[str, Field(min_length=1)]
"""Name of a way in which held-out sequences are drawn; the study says which of them its tasks have (`TaskBase.ORDERS`)."""


class SuperviseLast(Strict):
    """Loss on the prediction after the last step."""

    kind: Literal["last"]


class SuperviseRandom(Strict):
    """Loss on k steps drawn uniformly, with replacement, from 1..T for each sample."""

    kind: Literal["random_k"]
    k: Annotated[int, Field(ge=1, le=100_000)]


class SuperviseAll(Strict):
    """Loss on every step from 1 to T, averaged within a sample first, so that each sample weighs the same."""

    kind: Literal["all"]


SupervisionConfig = Annotated[SuperviseLast | SuperviseRandom | SuperviseAll, Field(discriminator="kind")]


class TaskBase(Strict):
    """A task's section of params.yaml. A subclass has the keys `kind`, `lengths` and `supervision`, an `order`, and its own.

    Class attributes, which the study is checked by before anything runs:
        ORDERS: names of the ways in which held-out sequences may be drawn (for images: visiting orders).
        READS: what a step of an image task reads: "cells" of a grid, or "places", patches at any pixel.
        METRICS: the first is primary: what is trained for, validated, and tested in claims.
        NULL, ORACLE: names of the baselines that know nothing of a sequence, and all that can be known of it; or None.
        ORACLE_DESCRIPTION: what the latter says, in a few words.
        STEPS: what a step reads, in words.
        ENDS: keys of `model` that the task's ends use; a study of another task must leave them null.
        TIED: whether steps show parts of the target (cells, pixels), so that what is kept of them can be told by age.
        CLASSES: whether what it reads has a class that a head may name (model.class_head), on a latent of any width (model.latent).
        IMAGES: whether it needs images; else the data stage makes ids and splits alone (data.source.kind: none).
        TEXT: whether it needs text (data.source.kind: text).
        ASKS: whether predictions are asked for by queries, so that mixers that ANSWER will do.
        CONDITIONING: kinds of `model.adaptive` that the task's model can have; None: all.
        DETAILS: names of the frames that evaluation writes besides errors and retention, see `lgmamba.tasks.base.Details`.
        INVARIANT: what may be done to a sequence without changing its target, which decides the controls that make sense.
        COUNTEREXAMPLES: what changes the target and is done all the same, by controls that must lose: they show where the
            information is.
        REFUSES: kind of a remedy, or `probes` -> why it makes no sense for the task; the configuration refuses it with this reason.
            `probes` is refused where there are no IMAGES, without a word here.
        PASSES_STATES: whether training sequences may start from states of longer ones (train.state_passing).
        DRAWN: keys that change what a training batch holds and nothing else: neither its shapes, nor the model, nor the loss.
            Runs that differ in them alone can be trained side by side.
    """

    ORDERS: ClassVar[tuple[str, ...]]
    READS: ClassVar[Literal["cells", "places"]] = "cells"
    METRICS: ClassVar[tuple[Metric, ...]]
    NULL: ClassVar[str]
    ORACLE: ClassVar[str | None] = None
    ORACLE_DESCRIPTION: ClassVar[str] = ""
    STEPS: ClassVar[str] = "steps"
    ENDS: ClassVar[frozenset[str]] = frozenset()
    TIED: ClassVar[bool] = False
    CLASSES: ClassVar[bool] = False
    IMAGES: ClassVar[bool] = False
    TEXT: ClassVar[bool] = False
    ASKS: ClassVar[bool] = False
    CONDITIONING: ClassVar[frozenset[str] | None] = None
    DETAILS: ClassVar[tuple[str, ...]] = ()
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset()
    COUNTEREXAMPLES: ClassVar[frozenset[Invariance]] = frozenset()
    REFUSES: ClassVar[Mapping[str, str]] = {}
    PASSES_STATES: ClassVar[bool] = False
    DRAWN: ClassVar[frozenset[str]] = frozenset({"lengths"})

    if TYPE_CHECKING:  # keys of every subclass, each in its own order, in which they are written
        kind: str
        lengths: LengthConfig
        supervision: SupervisionConfig
        order: str  # of ORDERS, that of training; a key or a property

    @property
    def least_side(self) -> int:
        """Pixels that the images must have, in height and in width."""
        return 1

    @property
    def model_width(self) -> tuple[int, int]:
        """Least `model.d_model`, and the number that it must be a multiple of."""
        return 1, 1

    def described(self, order: str) -> str:
        """What is read and what is asked for, in a sentence or two of the report; `order` is that of the held-out sequences."""
        raise NotImplementedError

    def refuses(self, kind: str, mode: str | None = None, order: str | None = None) -> str | None:
        """Why a kind of remedy (in a mode, on held-out sequences of an order), or `probes`, makes no sense here; None: it does."""
        if kind == "probes" and not self.IMAGES:
            return "it follows cells of pictures, of which there are none"
        return self.REFUSES.get(kind)

    def longest(self, order: str) -> int | None:
        """Steps that a held-out sequence of this order may have at most; None: any number, or as many as the data have."""
        return None

    def longest_in(self, window: int) -> int:
        """The same where sequences are read from windows of text, bytes."""
        return window - 1

    @property
    def divisors(self) -> tuple[int, ...]:
        """Pixels that must divide the height and width of the images."""
        return ()
