"""PatchMamba: reads patches one by one, and draws the whole image from its output at any step.

Glossary: `lgmamba.model`.
"""

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.model.stack import StackState
from lgmamba.tasks.class_head import joined, parted
from lgmamba.tasks.draw.decoders import build_decoder
from lgmamba.tasks.draw.patches import grid_shape, patchify, unpatchify
from lgmamba.tasks.draw.sequences import DrawSequences
from lgmamba.tasks.images import ImageModel

MOVE_FREQUENCIES = 8
"""Octaves of the sine code of a move, per axis."""


class PatchMamba(ImageModel):
    """Patch tokens -> stack of blocks -> decoder, and class head where there is one.

    Args:
        config: sizes and forms, see `ModelConfig`.
        shape: (C, H, W_img) of the images, pixels.
        patch_size: patch side, pixels.
        L0: longest training length, patches; a length-adaptive model measures told lengths by it.
    """

    def __init__(self, config: ModelConfig, shape: tuple[int, int, int], patch_size: int, L0: int):
        self.shape, self.patch_size = tuple(shape), patch_size
        self.grid = grid_shape(shape[1], shape[2], patch_size)
        super().__init__(config, L0)

    def build_embedding(self) -> None:
        d = self.config.d_model
        self.embed_patch = nn.Linear(self.shape[0] * self.patch_size**2, d)
        if self.config.position == "absolute":
            self.embed_cell = nn.Embedding(self.grid[0] * self.grid[1], d)
        else:
            self.embed_move = nn.Linear(4 * MOVE_FREQUENCIES, d, bias=False)

    def build_decoder(self, width: int) -> nn.Module:
        return build_decoder(self.config.decoder, width, self.shape, self.patch_size)

    def tokens(self, sequences: DrawSequences, start: int, stop: int) -> Tensor:
        return self.embed(*sequences.read(start, stop), sequences.cell_before(start))

    def embed(self, patches: Tensor, cells: Tensor, before: Tensor | None = None) -> Tensor:
        """Tokens (B, L, d) of patches (B, L, K) in [0, 1] at cells (B, L), after the cell `before` (B,); None at the start."""
        dtype = self.embed_patch.weight.dtype
        x = self.embed_patch((2 * patches - 1).to(dtype)).to(
            dtype
        )  # the residual stream keeps full precision under autocast
        if self.config.position == "absolute":
            return x + self.embed_cell(cells)
        first = cells[:, :1] if before is None else before[:, None]  # the first move is zero
        return x + self.embed_move(self._move_code(cells, torch.cat([first, cells[:, :-1]], dim=1), dtype))

    def _move_code(self, cells: Tensor, before: Tensor, dtype: torch.dtype) -> Tensor:
        """Sines and cosines of the move in rows and columns, wavelengths 2, 4, 8, ... cells: (B, L) -> (B, L, 4 F)."""
        gw = self.grid[1]
        rows, cols = cells // gw - before // gw, cells % gw - before % gw
        octaves = torch.pi / 2.0 ** torch.arange(MOVE_FREQUENCIES, device=cells.device, dtype=dtype)
        angles = torch.cat([rows[..., None] * octaves, cols[..., None] * octaves], dim=-1)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (..., m) -> images (..., C, H, W), unclipped, float32 (float64 in a float64 model)."""
        images = self.decoder(z)
        return images.to(torch.promote_types(images.dtype, torch.float32))

    def for_read_out(self, output: Tensor, state: StackState) -> Tensor:
        return self.latents(output)

    def predict(self, outputs: Tensor) -> Tensor:
        """Outputs (..., d) of `encode` -> images, unclipped; with a class head joined with its scores."""
        z = self.latents(outputs)
        images = self.decode(z)
        return images if self.class_head is None else joined(images, self.class_head(z))

    def split(self, prediction: Tensor) -> Tensor:
        """Images (B, C, H, W) in patches (B, G, K); with scores every patch has all of them beside it."""
        images, scores = parted(prediction, self.shape)
        patches = patchify(images, self.patch_size)
        if scores is None:
            return patches
        return torch.cat([patches, scores[:, None].expand(-1, patches.shape[1], -1)], dim=-1)

    def join(self, parts: Tensor) -> Tensor:
        K = self.shape[0] * self.patch_size**2
        images = unpatchify(parts[..., :K], *self.shape)
        return images if parts.shape[-1] == K else joined(images, parts[..., K:].mean(-2))
