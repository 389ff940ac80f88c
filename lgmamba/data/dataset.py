"""Load an artefact as tensors. Needs torch, safetensors and pydantic; nothing that reads or decodes images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from lgmamba.data.artefact import Manifest, check_tensors, read_manifest
from lgmamba.data.errors import DataError
from lgmamba.data.splits import CODES
from lgmamba.files import digest_of


@dataclass(frozen=True)
class Dataset:
    """Images of all splits, on one device.

    Rows stand split by split (train, calib, val, test), inside a split in hash order: a prefix of a split is a random
    subset of it, the same for ever.

    Attributes:
        images: (N, C, H, W) uint8; a pixel's value in [0, 1] is image / 255.
        labels: (N,) int64, 0 .. n_classes - 1.
        codes: (N,) uint8, split of each row: its position in `splits.SPLITS`.
        id_hash: (N,) int64 >= 0, hash of the image id: a seed per image that does not depend on the row.
        mean_image: (C, H, W) float32 in [0, 1], mean over the training split.
        manifest: what is known about the rest; None of images that come from no artefact.
    """

    images: Tensor
    labels: Tensor
    codes: Tensor
    id_hash: Tensor
    mean_image: Tensor
    manifest: Manifest | None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width; zeros where samples are no images."""
        C, H, W = self.images.shape[1:]
        return C, H, W

    @property
    def digest(self) -> str:
        """Of the artefact's tensors, SHA-256.

        Raises:
            ValueError: the images come from no artefact.
        """
        if self.manifest is None:
            raise ValueError("these images are in memory alone: they have no artefact and no digest")
        return self.manifest.sha256

    def split(self, name: str) -> Tensor:
        """Rows of one split, ascending.

        Args:
            name: "train", "calib", "val" or "test".
        Returns:
            (n,) int64, on the device of the images; empty if the configuration put no image there.
        Raises:
            ValueError: another name.
        """
        if name not in CODES:
            raise ValueError(f"split {name!r} is unknown; expected one of {', '.join(CODES)}")
        return torch.nonzero(self.codes == CODES[name]).squeeze(1)


def in_memory(images: Tensor) -> Dataset:
    """Images (N, C, H, W) uint8 that come from no artefact, all of them in the training split, with their numbers as hashes of ids."""
    n, device = len(images), images.device
    nothing = torch.zeros(n, dtype=torch.int64, device=device)
    codes = torch.full((n,), CODES["train"], dtype=torch.uint8, device=device)
    hashes = torch.arange(n, device=device)
    return Dataset(images, nothing, codes, hashes, (images.float() / 255).mean(0), None)


def check_configuration(folder: Path, manifest: Manifest, configured: str | None) -> None:
    """Whether images were built with the configuration that a run is configured with.

    Raises:
        DataError: they are another study's, or older than a change of `data`.
    """
    if configured is not None and (found := digest_of(manifest.config)) != configured:
        raise DataError(
            f"{folder}: images of another configuration ({found[:12]}) than the run's ({configured[:12]}): those of another "
            "study, or older than a change of `data`. Build the run's own with `lgmamba data`, in a folder of their own "
            "(outputs.data) if another study needs these"
        )


def load_dataset(directory: Path | str, device: torch.device | str = "cpu", configured: str | None = None) -> Dataset:
    """Load an artefact made by `lgmamba.data.build.build_dataset`, once its digest is checked.

    Args:
        directory: the artefact's folder.
        device: where the tensors go.
        configured: digest of the configuration that the images must have been built with (`RunConfig.images`); None: any.
    Raises:
        DataError: the folder is missing, damaged, half copied, of another version or configuration; says which.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    check_configuration(folder, manifest, configured)
    tensors = load_file(check_tensors(folder, manifest), device=str(device))
    return Dataset(
        images=tensors["images"],
        labels=tensors["labels"],
        codes=tensors["split"],
        id_hash=tensors["id_hash"],
        mean_image=tensors[manifest.mean_image],
        manifest=manifest,
    )
