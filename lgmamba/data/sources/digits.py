"""The handwritten digits inside scikit-learn: 1,797 real scans of 8 x 8 pixels, the source that needs no file.

Reference: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.errors import DataError
from lgmamba.data.sources import Index, Place
from lgmamba.extras import missing

MAX_INK = 16  # a pixel counts the inked cells of a 4 x 4 block of the original bitmap


class Digits:
    """scikit-learn's `load_digits` as an image source; see `lgmamba.data.sources.ImageSource`."""

    packages = ("scikit-learn",)

    def index(self) -> Index:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError(f"source digits: {missing('sklearn')}") from None
        bunch = load_digits()
        self._images = np.rint(bunch.images * 255 / MAX_INK).astype(np.uint8)  # (N, 8, 8): 0..16 -> 0..255
        self._labels = bunch.target.astype(np.int64)
        n = len(self._images)
        names = [str(name) for name in bunch.target_names]
        return Index(
            [f"digits:{row}" for row in range(n)],
            self._labels,
            np.zeros(n, bool),
            lambda row: Place("digits", row),
            names,
        )

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        for row in np.flatnonzero(wanted):
            yield int(row), self._images[row]

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        content = self._images.tobytes() + self._labels.tobytes()
        digest = hashlib.sha256(content).hexdigest()
        n = int(wanted.sum())
        return [SourceRecord(name="digits", official_split="train", n_images=n, n_bytes=len(content), sha256=digest)]
