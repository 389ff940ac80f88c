"""Ids without images, for tasks that make their sequences themselves."""

from collections.abc import Iterator

import numpy as np

from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.sources import Index, Place


class Nothing:
    """A source of ids alone; see `lgmamba.data.sources.ImageSource`. Its artefact has images of no channel and no pixel.

    Args:
        samples: how many.
    """

    packages = ()

    def __init__(self, samples: int):
        self.samples = samples

    def index(self) -> Index:
        """Ids sample:0, sample:1, ... of one class."""
        ids = [f"sample:{i}" for i in range(self.samples)]
        nothing = np.zeros(self.samples, np.int64)
        return Index(ids, nothing, nothing.astype(bool), lambda i: Place("none", i), None)

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        """There is nothing to read."""
        return iter(())

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        return [SourceRecord(name="none", official_split="train", n_images=int(wanted.sum()))]
