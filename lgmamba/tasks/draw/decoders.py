"""Decoders: the stack's output at one step -> the whole image. Glossary: `lgmamba.model`."""

import torch
from torch import Tensor, nn

from lgmamba.config.heads import DecoderConfig, MlpDecoder
from lgmamba.tasks.draw.patches import grid_shape, unpatchify


class Mlp(nn.Module):
    """(..., d) -> hidden -> (..., C, H, W)."""

    def __init__(self, hidden: int, d_model: int, shape: tuple[int, int, int], patch_size: int):
        super().__init__()
        self.shape = shape
        pixels = shape[0] * shape[1] * shape[2]
        self.net = nn.Sequential(nn.Linear(d_model, hidden), nn.GELU(), nn.Linear(hidden, pixels))

    def forward(self, outputs: Tensor) -> Tensor:
        return self.net(outputs).unflatten(-1, self.shape)


class Spatial(nn.Module):
    """One learned query per cell joins the output; the same small network then draws each cell's patch.

    (..., d) -> (..., G, hidden) -> (..., C, H, W); far fewer parameters than `Mlp` on large images.
    """

    def __init__(self, hidden: int, d_model: int, shape: tuple[int, int, int], patch_size: int):
        super().__init__()
        self.shape = shape
        gh, gw = grid_shape(shape[1], shape[2], patch_size)
        self.latent = nn.Linear(d_model, hidden)
        self.gain = nn.Parameter(torch.randn(gh * gw, hidden) / hidden**0.5)
        self.query = nn.Parameter(torch.randn(gh * gw, hidden) / hidden**0.5)
        self.net = nn.Sequential(
            nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, shape[0] * patch_size**2)
        )

    def forward(self, outputs: Tensor) -> Tensor:
        latent = self.latent(outputs)[..., None, :]  # (..., 1, hidden)
        cells = latent * (1 + self.gain * self.gain.shape[1] ** 0.5) + self.query  # (..., G, hidden)
        return unpatchify(self.net(cells), *self.shape)


def build_decoder(config: DecoderConfig, d_model: int, shape: tuple[int, int, int], patch_size: int) -> nn.Module:
    """The decoder that the configuration names; `shape` is (C, H, W) in pixels."""
    kind = Mlp if isinstance(config, MlpDecoder) else Spatial
    return kind(config.hidden, d_model, shape, patch_size)
