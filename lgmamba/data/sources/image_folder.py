"""Image files in one sub-folder per class, in any format that Pillow reads."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lgmamba.config.data import ImageFolderSource
from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.errors import DataError
from lgmamba.data.sources import Index, Place
from lgmamba.files import file_digest


class ImageFolder:
    """Class folders as an image source; see `lgmamba.data.sources.ImageSource`.

    The sorted folder names are the labels 0, 1, ...; an image's id is its path below the root, with `/` between folders.
    Hidden files, and files whose extension belongs to no image format, are left aside.
    """

    packages = ()

    def __init__(self, config: ImageFolderSource):
        self.config = config

    def index(self) -> Index:
        extensions = {ext for ext, name in Image.registered_extensions().items() if name in Image.OPEN}
        roots = [Path(self.config.path).expanduser()]
        if self.config.test_path is not None:
            roots.append(Path(self.config.test_path).expanduser())
            if roots[0].resolve() == roots[1].resolve():
                raise DataError(f"{roots[1]} is both data.source.path and test_path; every image may be there once")
        classes = [_class_folders(root) for root in roots]
        label_of = {name: label for label, name in enumerate(classes[0])}
        self.roots, self.paths, ids, labels, is_test = roots, [], [], [], []
        for is_second, (root, names) in enumerate(zip(roots, classes, strict=True)):
            if unknown := [name for name in names if name not in label_of]:
                raise DataError(
                    f"{root / unknown[0]}: class {unknown[0]!r} is not in {roots[0]}, which has: {', '.join(label_of)}"
                )
            files = [(name, path) for name in names for path in _image_files(root / name, extensions)]
            if not files:
                raise DataError(
                    f"{root}: {len(names)} class folders and no image in them; expected {root}/<class>/<image>"
                )
            self.paths += [path for _, path in files]
            ids += [path.relative_to(root).as_posix() for _, path in files]
            labels += [label_of[name] for name, _ in files]
            is_test += [bool(is_second)] * len(files)
        self.is_test = np.array(is_test)
        return Index(ids, np.array(labels, np.int64), self.is_test, lambda i: Place(str(self.paths[i])), classes[0])

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        for i in np.flatnonzero(wanted):
            yield int(i), self.paths[i]

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        """One record per root: a digest over the names and digests of the files that were read."""
        records = []
        for is_test, root in enumerate(self.roots):
            chosen = [self.paths[i] for i in np.flatnonzero(wanted & (self.is_test == bool(is_test)))]
            whole = hashlib.sha256()
            for path in chosen:
                whole.update(f"{file_digest(path)}  {path.relative_to(root).as_posix()}\n".encode())
            records.append(
                SourceRecord(
                    name=str(root),
                    official_split="test" if is_test else "train",
                    n_images=len(chosen),
                    n_bytes=sum(path.stat().st_size for path in chosen),
                    sha256=whole.hexdigest(),
                )
            )
        return records


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise DataError(
            f"{root} {'is a file' if root.exists() else 'does not exist'} (looked from {Path.cwd()}); expected a folder of class folders"
        )
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        n_files = sum(p.is_file() for p in root.iterdir())
        raise DataError(
            f"{root} has no class folders ({n_files} files lie in it directly); expected {root}/<class>/<image>"
        )
    return names


def _image_files(folder: Path, extensions: set[str]) -> list[Path]:
    found = [
        p for p in folder.rglob("*") if p.suffix.lower() in extensions and p.is_file() and not p.name.startswith(".")
    ]
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())
