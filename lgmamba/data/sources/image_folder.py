"""Image files in one sub-folder per class, or in a folder without classes, in any format that Pillow reads."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lgmamba.config.data import ImageFolderSource
from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.errors import DataError
from lgmamba.data.sources import Index, Place
from lgmamba.data.sources.folder_listing import Listing, list_images
from lgmamba.files import file_digest

log = logging.getLogger(__name__)


class ImageFolder:
    """Folders of images as an image source; see `lgmamba.data.sources.ImageSource`.

    The sorted names of the class folders are the labels 0, 1, ...; without class folders every label is 0. An image's id is
    its path below the root, with `/` between folders. What is left aside is counted, see `folder_listing`.
    """

    packages = ()

    def __init__(self, config: ImageFolderSource):
        self.config = config

    def index(self) -> Index:
        given = [path for path in (self.config.path, self.config.test_path) if path is not None]
        roots = [Path(path).expanduser() for path in given]
        if len(roots) == 2 and roots[0].resolve() == roots[1].resolve():
            raise DataError(f"{roots[1]} is both data.source.path and test_path; every image may be there once")
        self.listings = [list_images(root) for root in roots]
        for listing in self.listings:
            log.info("%s", listing.summary())
        _check_agreement(self.listings)
        classes = self.listings[0].classes
        label_of = {name: label for label, name in enumerate(classes)} or {"": 0}
        self.paths, ids, labels, is_test = [], [], [], []
        for is_second, listing in enumerate(self.listings):
            self.paths += [path for _, path in listing.files]
            ids += [path.relative_to(listing.root).as_posix() for _, path in listing.files]
            labels += [label_of[name] for name, _ in listing.files]
            is_test += [bool(is_second)] * len(listing.files)
        self.is_test = np.array(is_test)
        return Index(
            ids, np.array(labels, np.int64), self.is_test, lambda i: Place(str(self.paths[i])), classes or None
        )

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        for i in np.flatnonzero(wanted):
            yield int(i), self.paths[i]

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        """One record per root: a digest over the names and digests of the files that were read."""
        records = []
        for is_test, listing in enumerate(self.listings):
            chosen = [self.paths[i] for i in np.flatnonzero(wanted & (self.is_test == bool(is_test)))]
            whole, n_bytes = hashlib.sha256(), 0
            for path in chosen:
                digest, size = _digest(path)
                whole.update(f"{digest}  {path.relative_to(listing.root).as_posix()}\n".encode())
                n_bytes += size
            records.append(
                SourceRecord(
                    name=str(listing.root),
                    official_split="test" if is_test else "train",
                    n_images=len(chosen),
                    n_bytes=n_bytes,
                    sha256=whole.hexdigest(),
                    left_out=dict(sorted(listing.left_out.items())) or None,
                )
            )
        return records


def _digest(path: Path) -> tuple[str, int]:
    """Digest and size of a file; one that cannot be read was skipped, or the build would have ended."""
    try:
        return file_digest(path), path.stat().st_size
    except OSError as e:
        return f"not readable: {e.strerror}", 0


def _check_agreement(listings: list[Listing]) -> None:
    """Test images have classes that the others have, and are none of the others."""
    if len(listings) == 1:
        return
    train, test = listings
    if bool(train.classes) != bool(test.classes):
        with_classes, without = (train, test) if train.classes else (test, train)
        raise DataError(
            f"{with_classes.root} has class folders and {without.root} has none; expected both with classes or both without"
        )
    if unknown := [name for name in test.classes if name not in train.classes]:
        raise DataError(
            f"{test.root / unknown[0]}: class {unknown[0]!r} is not in {train.root}, which has: {', '.join(train.classes)}"
        )
    taken = {path.resolve(): path for _, path in train.files}
    for _, path in test.files:
        if path.resolve() in taken:
            raise DataError(
                f"{path} and {taken[path.resolve()]} are one file, in data.source.test_path and path; every image may be there once"
            )
