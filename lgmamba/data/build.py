"""Build the data artefact: index the source, choose splits, decode, write. All or nothing."""

import importlib.metadata
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from lgmamba.config.data import DataConfig, NoImages
from lgmamba.data import splits
from lgmamba.data.artefact import Manifest, Skipped, publish, staging, write_tensors
from lgmamba.data.decode import DecodeSpec, Payload, decode_image, own_bomb_guard
from lgmamba.data.errors import BadImage, DataError
from lgmamba.data.pool import available_cores, decode_all
from lgmamba.data.progress import progress_bar
from lgmamba.data.sources import ImageSource, Index, open_source
from lgmamba.tasks.draw.patches import grid_shape


@dataclass(frozen=True)
class Selection:
    """Which images of the source are kept, and where each goes; decided before any pixel is read.

    Attributes:
        wanted: (N,) bool, the images to decode.
        row: (N,) int64, the row of each wanted image in the artefact.
        codes: (N,) uint8 split codes.
        id_hash: (N,) int64 >= 0.
        n_classes: labels are 0 .. n_classes - 1.
    """

    wanted: np.ndarray
    row: np.ndarray
    codes: np.ndarray
    id_hash: np.ndarray
    n_classes: int


def build_dataset(
    config: DataConfig,
    patch_size: int | Collection[int],
    out: Path | str,
    workers: int | None = None,
    progress: bool | None = None,
) -> Manifest:
    """Read a source, decode its images and write the artefact `out`.

    The same input gives byte-identical files. Nothing appears at `out`, and an artefact that is already there stays as it
    is, until the new one is complete.

    Args:
        config: the images, their size and their splits.
        patch_size: side of a patch, pixels, or several; each must divide the image's height and width.
        out: folder of the artefact; see `lgmamba.data.artefact` for its files.
        workers: cores to decode on; None: all that this process may use.
        progress: show progress bars; None: where standard error is a terminal.
    Returns:
        the manifest, as written.
    Raises:
        DataError: input that cannot be used, naming file and row.
    """
    out = Path(out).resolve()  # a link stays a link, to the folder that is filled
    if config.size is not None:
        _check_patches(config.size, patch_size)  # before a download
    with staging(out) as stage:
        source = open_source(config.source, stage, progress)
        index = source.index()
        selection = _select(index, config)
        skipped: list[Skipped]
        if isinstance(config.source, NoImages):
            images, kept, skipped = _nothing(selection), np.argsort(selection.row)[(~selection.wanted).sum() :], []
        else:
            items, spec = _settle_size(source.read(selection.wanted), index, config)
            assert spec.size is not None
            _check_patches(spec.size, patch_size)
            images, kept, skipped = _decode(
                items, spec, index, selection, config, workers or available_cores(), progress
            )
        tensors = _tensors(images, kept, index, selection)
        name, digest = write_tensors(stage, tensors)
        manifest = _manifest(config, index, selection, source, tensors, skipped, name, digest)
        publish(stage, manifest, out)
    return manifest


def _check_patches(size: tuple[int, int], patch_size: int | Collection[int]) -> None:
    try:
        for side in [patch_size] if isinstance(patch_size, int) else patch_size:
            grid_shape(*size, side)
    except ValueError as e:
        raise DataError(str(e)) from None


def _select(index: Index, config: DataConfig) -> Selection:
    n_classes = _count_classes(index, config.n_classes)
    place, order = splits.hash_ids(index.ids)
    splitting = place if index.groups is None else splits.hash_ids(index.groups)[0]
    codes = splits.assign_splits(splitting, index.is_test, config.splits)
    chosen = splits.select(order, index.is_test, config.max_images)
    if not (codes[chosen] == splits.CODES["train"]).any():
        raise DataError(
            f"none of {len(chosen)} images is left to train on; lower the fractions in data.splits or raise data.max_images"
        )
    wanted = np.zeros(len(codes), dtype=bool)
    wanted[chosen] = True
    row = np.full(len(codes), -1)
    row[chosen[np.lexsort((order[chosen], codes[chosen]))]] = np.arange(len(chosen))
    return Selection(wanted, row, codes, (place >> np.uint64(1)).astype(np.int64), n_classes)


def _count_classes(index: Index, configured: int | None) -> int:
    """Number of classes, from the configuration, else the names, else the largest label."""
    named = len(index.class_names) if index.class_names else None
    n_classes = configured or named or int(index.labels.max()) + 1
    bad = np.flatnonzero((index.labels < 0) | (index.labels >= n_classes))
    if len(bad):
        first = int(bad[0])
        upper = f"0 .. {n_classes - 1}" if configured or named else "0 or more"
        raise DataError(
            f"{index.place(first)}: label {index.labels[first]} is out of range, expected {upper} ({len(bad)} such rows); "
            "correct the labels or data.n_classes"
        )
    return n_classes


def _nothing(selection: Selection) -> np.ndarray:
    """The images of samples that are none: (n, 0, 0, 0)."""
    return np.empty((int(selection.wanted.sum()), 0, 0, 0), np.uint8)


def _settle_size(
    items: Iterator[tuple[int, Payload]], index: Index, config: DataConfig
) -> tuple[Iterator[tuple[int, Payload]], DecodeSpec]:
    """The size all images must have: the configured one, else that of the first image that can be decoded."""
    spec = DecodeSpec(config.size, config.fit, config.channels, config.max_pixels, config.resampling, config.invert)
    looked_at: list[tuple[int, Payload]] = []
    with own_bomb_guard():
        while spec.size is None:
            item = next(items, None)
            if item is None:
                raise DataError(f"none of {len(looked_at)} images could be decoded; data.on_bad_image: error says why")
            looked_at.append(item)
            try:
                spec = replace(spec, size=decode_image(item[1], spec).shape[1:])
            except BadImage as e:
                if config.on_bad_image == "error":
                    raise _bad_image(index, item[0], str(e)) from None
    return chain(looked_at, items), spec


def _decode(
    items: Iterator[tuple[int, Payload]],
    spec: DecodeSpec,
    index: Index,
    selection: Selection,
    config: DataConfig,
    workers: int,
    progress: bool | None,
) -> tuple[np.ndarray, np.ndarray, list[Skipped]]:
    """Decode straight into place.

    Returns:
        images: (n, C, H, W) uint8, rows as in the artefact; kept: (n,) int64, position in the source of each row;
        skipped: the images that could not be used.
    """
    n_wanted = int(selection.wanted.sum())
    assert spec.size is not None
    images = np.empty((n_wanted, spec.n_channels, *spec.size), dtype=np.uint8)
    source_of = np.full(n_wanted, -1)
    skipped: list[Skipped] = []
    with (
        closing(decode_all(items, spec, n_wanted, workers)) as chunks,  # an error below stops the workers at once
        progress_bar("decoding", n_wanted, "images", progress) as advance,
    ):
        for chunk in chunks:
            good = chunk.rows[chunk.good]
            images[selection.row[good]] = chunk.images
            source_of[selection.row[good]] = good
            for i, reason in zip(chunk.rows[~chunk.good], chunk.reasons, strict=True):
                if config.on_bad_image == "error":
                    raise _bad_image(index, int(i), reason)
                skipped.append(Skipped(file=index.place(int(i)).file, row=index.place(int(i)).row, reason=reason))
            advance(len(chunk.rows))
    kept = source_of >= 0
    if skipped:
        images, source_of = images[kept], source_of[kept]
    if not (selection.codes[source_of] == splits.CODES["train"]).any():
        where = f"; the first: {skipped[0].file}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"no training image could be used ({len(skipped)} of {n_wanted} images are bad{where})")
    return images, source_of, skipped


def _bad_image(index: Index, i: int, reason: str) -> DataError:
    return DataError(f"{index.place(i)}: {reason}. Repair or remove it, or leave it out with data.on_bad_image: skip")


def _tensors(images: np.ndarray, kept: np.ndarray, index: Index, selection: Selection) -> dict[str, np.ndarray]:
    codes = selection.codes[kept]
    train = images[: int((codes == splits.CODES["train"]).sum())]  # rows stand split by split, train first; a view
    mean = train.sum(axis=0, dtype=np.uint64) / (
        len(train) * 255
    )  # exact integer sum: no order of addition to depend on
    return {
        "images": images,
        "labels": index.labels[kept],
        "split": codes,
        "id_hash": selection.id_hash[kept],
        "mean_image": mean.astype(np.float32),
    }


def _manifest(
    config: DataConfig,
    index: Index,
    selection: Selection,
    source: ImageSource,
    tensors: dict[str, np.ndarray],
    skipped: list[Skipped],
    file: str,
    sha256: str,
) -> Manifest:
    return Manifest(
        file=file,
        sha256=sha256,
        n_images=len(tensors["images"]),
        counts={name: int((tensors["split"] == code).sum()) for name, code in splits.CODES.items()},
        image_shape=tensors["images"].shape[1:],
        n_classes=selection.n_classes,
        class_names=index.class_names,
        mean_image="mean_image",
        mean_pixel=[round(float(channel.mean(dtype=np.float64)), 6) for channel in tensors["mean_image"]],
        sources=source.digests(selection.wanted),
        config=config.model_dump(mode="json"),
        skipped=skipped,
        versions={
            name: importlib.metadata.version(name) for name in ("numpy", "pillow", "safetensors", *source.packages)
        },
    )
