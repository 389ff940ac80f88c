"""What every encoder's configuration offers."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from lgmamba.config.base import Strict

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]
"""Channels, height, width."""


class EncoderBase(Strict):
    """An encoder: images (B, C, H, W_img) in [0, 1] -> latents (B, m).

    Class attributes:
        TITLE: its name, for figures.
    """

    TITLE: ClassVar[str]

    size: Literal["small", "large"] = Field("small", description="what the report calls it, beside others of its kind")

    @abstractmethod
    def build(self, shape: Shape, latent: int) -> nn.Module:
        """The network with random weights, from torch's global generator."""

    @abstractmethod
    def halved(self) -> Self:
        """Half as wide; of the control in which each loss has an encoder of its own.

        Raises:
            ValueError: a width is odd.
        """

    def misfit(self, shape: Shape) -> str | None:
        """Why images of this shape cannot be read; None where they can."""
        return None


def half(width: int, key: str) -> int:
    """Half of a width.

    Raises:
        ValueError: it is odd.
    """
    if width % 2:
        raise ValueError(f"{key}: found {width}, expected an even number, since the control `split` halves it")
    return width // 2
