"""Where images come from: one module per kind of source, all with the same three steps.

index()       ids, labels and official split of every image; no pixels
read(wanted)  the encoded images, one after the other, never all at once
digests(wanted)  what was read, so that a manifest can say it
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from lgmamba.config.data import DigitsSource, GlyphsSource, ImageFolderSource, NoImages, Source, TextSource
from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload


@dataclass(frozen=True)
class Place:
    """Where an image is: a file, and its row (counted from 0) where a file holds many."""

    file: str
    row: int | None = None

    def __str__(self) -> str:
        return self.file if self.row is None else f"{self.file}, row {self.row}"


@dataclass(frozen=True)
class Index:
    """All images of a source, before any is decoded.

    Attributes:
        ids: (N,) image ids; the split hangs on them alone, so they name no folder of one machine.
        labels: (N,) int64.
        is_test: (N,) bool, images of an official test set.
        place: position in the source -> where that image is, for messages.
        class_names: names of the classes, where the source knows them.
        groups: what the split of each image hangs on in place of its own id, such as the file that it is a part of; None: the id.
    """

    ids: list[str]
    labels: np.ndarray
    is_test: np.ndarray
    place: Callable[[int], Place]
    class_names: list[str] | None
    groups: list[str] | None = None


class ImageSource(Protocol):
    """What every kind of source can do; N counts the images of `index()`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that read this source, whose versions belong in the manifest."""
        ...

    def index(self) -> Index:
        """List every image.

        Raises:
            DataError: nothing there, or not what the configuration says.
        """
        ...

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        """Encoded images at the `wanted` positions ((N,) bool), ascending."""
        ...

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        """What was read."""
        ...


def open_source(config: Source, scratch: Path, progress: bool | None) -> ImageSource:
    """The source that a configuration names.

    Args:
        scratch: folder for downloads; the caller removes it.
        progress: show progress bars; None: on a terminal.
    """
    if isinstance(config, DigitsSource):
        from lgmamba.data.sources.digits import Digits

        return Digits()
    if isinstance(config, GlyphsSource):
        from lgmamba.data.sources.glyphs import Glyphs

        return Glyphs(config)
    if isinstance(config, NoImages):
        from lgmamba.data.sources.nothing import Nothing

        return Nothing(config.samples)
    if isinstance(config, TextSource):
        from lgmamba.data.sources.text import Text

        return Text(config)
    if isinstance(config, ImageFolderSource):
        from lgmamba.data.sources.image_folder import ImageFolder

        return ImageFolder(config)
    from lgmamba.data.sources.parquet import Parquet

    return Parquet(config, scratch, progress)
