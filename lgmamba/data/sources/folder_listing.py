"""What a folder of images holds: which files are taken, and how many are left out for which reason.

Nothing is left out without being counted: hidden files, the folders that file managers and archives leave behind, files of
another kind, other names of a file that is there already. Links are followed, to files and to folders.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from lgmamba.data.errors import DataError
from lgmamba.data.local import check_folder

METADATA_FOLDERS = frozenset(
    ("@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__")
)
"""Left behind by file servers, archives and notebooks, in lower case; and every folder whose name begins with a dot."""
CONTAINERS = frozenset(
    ".h5 .hdf .hdf5 .npz .npy .mat .zip .tar .gz .tgz .bz2 .xz .7z .rar .parquet .arrow .tfrecord .lmdb .pkl .pickle".split()
)
"""Files that may hold many images, which a folder of images does not open."""
NOT_DECODED = frozenset(("HDF5", "BUFR", "GRIB", "MPEG", "WMF"))
"""Formats that Pillow recognises and cannot decode by itself."""
HINTS = {
    ".heic files": "convert them to JPEG or PNG",
    ".heif files": "convert them to JPEG or PNG",
    "files that may hold many images": "unpack them, or export them as Parquet",
}
"""What to do about files of a kind that somebody may have meant."""

TRAIN_NAMES = frozenset(("train", "training"))
OTHER_SPLITS = frozenset(("test", "testing", "val", "valid", "validation", "dev", "eval"))


@dataclass
class Listing:
    """The images below a root.

    Attributes:
        root: the folder.
        classes: sorted names of its class folders; empty where the images lie in the root itself.
        files: (class name or "", path) of each image, sorted by class and then by path.
        left_out: reason -> number of files, or of whole folders.
        named: reason -> path of the first.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    files: list[tuple[str, Path]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    named: dict[str, Path] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path, n: int = 1) -> None:
        """Count files that are not taken."""
        self.left_out[reason] += n
        self.named.setdefault(reason, path)

    def summary(self) -> str:
        """One line for the log: what was taken, and what was not."""
        what = (
            f"{len(self.files):,} images of {len(self.classes)} classes"
            if self.classes
            else f"{len(self.files):,} images"
        )
        if not self.left_out:
            return f"{self.root}: {what}"
        reasons = "; ".join(
            f"{n:,} {reason} (such as {_printable(self.named[reason])})"
            + (f", {HINTS[reason]}" if reason in HINTS else "")
            for reason, n in self.left_out.most_common()
        )
        return f"{self.root}: {what}; left out: {reasons}"


def list_images(root: Path) -> Listing:
    """List the images of a root: in class folders, or, where there are none with images, in the root itself.

    Raises:
        DataError: no folder, not readable, no image, names that are no UTF-8, or a set's root with train and test folders.
    """
    check_folder(root)
    listing, seen = Listing(root), set[tuple[int, int]]()
    inside = sorted(_entries(root), key=lambda p: p.name)
    folders = [p for p in inside if p.is_dir() and not _is_metadata(listing, p)]
    _refuse_splits(root, [p.name for p in folders])
    for folder in folders:
        listing.files += [(folder.name, path) for path in _images(folder, listing, seen)]
    loose = [p for p in inside if not p.is_dir() and _is_image(p, listing, seen)]
    if listing.files or (folders and not loose):
        listing.classes = [p.name for p in folders]
        if loose:
            listing.leave_out("images beside the class folders", loose[0], len(loose))
    else:
        listing.files = [("", path) for path in loose]
    _check_names(listing)
    if not listing.files:
        where = f"{root}/<class>/<image> or {root}/<image>"
        raise DataError(f"{listing.summary().replace(': 0 images', ': no image', 1)}; expected {where}")
    return listing


def _entries(folder: Path) -> Iterator[Path]:
    try:
        return iter(list(folder.iterdir()))
    except OSError as e:
        raise DataError(f"{_printable(folder)} cannot be listed ({e.strerror}); look at its permissions") from None


def _images(folder: Path, listing: Listing, seen: set[tuple[int, int]], above: tuple[Path, ...] = ()) -> list[Path]:
    """Images anywhere below a class folder, by their path; a link back to a folder above is left out."""
    here = folder.resolve()
    if here in above:
        listing.leave_out("links to a folder above", folder)
        return []
    found = []
    for path in sorted(_entries(folder), key=lambda p: p.name):
        if path.is_dir():
            found += [] if _is_metadata(listing, path) else _images(path, listing, seen, (*above, here))
        elif _is_image(path, listing, seen):
            found.append(path)
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def _is_metadata(listing: Listing, path: Path) -> bool:
    if not path.name.startswith(".") and path.name.casefold() not in METADATA_FOLDERS:
        return False
    listing.leave_out("hidden or metadata folders", path)
    return True


def _is_image(path: Path, listing: Listing, seen: set[tuple[int, int]]) -> bool:
    """Whether a file is taken; if not, it is counted."""
    reason = _reason_against(path)
    if reason is None:
        stat = path.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            reason = "other names of a file that was taken"
        seen.add((stat.st_dev, stat.st_ino))
    if reason is not None:
        listing.leave_out(reason, path)
    return reason is None


def _reason_against(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden files"
    if not path.is_file():
        return "links to nothing" if path.is_symlink() else "files that are no regular files"
    extension = path.suffix.lower()
    if extension in CONTAINERS:
        return "files that may hold many images"
    if not extension:
        return None if _looks_like_an_image(path) else "files without extension that are no images"
    return None if extension in _extensions() else f"{extension} files"


@cache
def _extensions() -> frozenset[str]:
    known = Image.registered_extensions().items()
    return frozenset(ext for ext, name in known if name in Image.OPEN and name not in NOT_DECODED)


def _looks_like_an_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format not in NOT_DECODED
    except OSError:  # among them Pillow's own for what it does not know
        return False
    except Exception:  # a header that is recognised and damaged: an image, which decoding will name
        return True


def _refuse_splits(root: Path, names: list[str]) -> None:
    """A set's root, whose folders are splits: as classes, test images would be trained on."""
    train = [name for name in names if name.casefold() in TRAIN_NAMES]
    other = [name for name in names if name.casefold() in OTHER_SPLITS]
    if not train or not other:
        return
    test = min(other, key=lambda name: not name.casefold().startswith("test"))
    raise DataError(
        f"{root} has the folders {', '.join([*train, *other])}, which are splits and no classes; write path: {root / train[0]}, "
        f"test_path: {root / test} and splits.test: 0"
    )


def _check_names(listing: Listing) -> None:
    bad = [path for _, path in listing.files if not _is_text(str(path.relative_to(listing.root)))]
    bad += [listing.root / name for name in listing.classes if not _is_text(name)]
    if bad:
        raise DataError(
            f"{_printable(bad[0])}: the name is no UTF-8 ({len(bad):,} such names); rename them, "
            f"for instance with `convmv -f latin1 -t utf8 -r --notest {_printable(listing.root)}`"
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
