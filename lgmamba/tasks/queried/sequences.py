"""Images with the places at which patches of them are read. Glossary: `lgmamba.tasks.queried.task`."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lgmamba.model.sequences import Sequences


@dataclass(frozen=True)
class QueriedSequences(Sequences):
    """Images with one sequence of places each. Patches are cut out piece by piece, so that long sequences take little memory.

    Attributes:
        images: (B, C, H, W) uint8, or float in [0, 1] where they were mapped.
        places: (B, T) int64.
        labels: (B,) int64 classes; None where nobody asks for them.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("places",)

    images: Tensor
    places: Tensor
    labels: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """(B, C, H, W) in [0, 1]."""
        return self.images if self.images.is_floating_point() else self.images.float() / 255
