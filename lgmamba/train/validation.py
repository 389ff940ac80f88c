"""PSNR on held-out images by sequence length, while training. Glossary: `lgmamba.train`."""

import torch
from torch import Tensor

from lgmamba.data.dataset import Dataset
from lgmamba.metrics import psnr
from lgmamba.model import PatchMamba
from lgmamba.model.reading import reconstruct_at
from lgmamba.task.orders import orders_of_images
from lgmamba.task.patches import patchify

PASS = 256
"""Images in one pass."""


class Validation:
    """The same images, each with the same visiting order, every time.

    Args:
        dataset: its split `val` is used.
        order: name of the visiting order.
        L0: longest training length, patches.
        images: at most.
    """

    def __init__(self, dataset: Dataset, order: str, patch_size: int, grid: tuple[int, int], L0: int, images: int):
        rows = dataset.split("val")[:images]
        self.targets = dataset.images[rows].float() / 255
        self.patches = patchify(self.targets, patch_size)
        cells = orders_of_images(order, *grid, dataset.id_hash[rows].cpu(), 1, L0)[:, 0]
        self.cells = cells.to(self.targets.device)
        self.lengths = validation_lengths(L0)

    @torch.no_grad()
    def psnr(self, model: PatchMamba) -> dict[int, float]:
        """Length T -> PSNR in dB of the mean squared error over images; a length-adaptive model is told T."""
        model.eval()
        mse = torch.cat([self._mse(model, slice(i, i + PASS)) for i in range(0, len(self.targets), PASS)])
        model.train()
        return dict(zip(self.lengths, psnr(mse.double().mean(0)).tolist(), strict=True))

    def _mse(self, model: PatchMamba, some: slice) -> Tensor:
        drawn = reconstruct_at(model, self.patches[some], self.cells[some], self.lengths, "prefix")
        return (drawn - self.targets[some, None]).square().flatten(2).mean(2)


def validation_lengths(L0: int) -> list[int]:
    """1, 4, 16, ... and L0, patches."""
    return sorted({4**k for k in range(L0.bit_length()) if 4**k < L0} | {L0})
