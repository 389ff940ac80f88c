"""Small models a little off their initialisation, and sequences for them."""

import torch
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.data.dataset import in_memory
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.draw.sequences import DrawSequences
from lgmamba.tasks.draw.task import DrawTask

SHAPE, PATCH_SIZE, L0 = (2, 4, 6), 2, 8
G, K = 6, 8
"""Two channels on a grid of 2 x 3 cells: neither square nor one channel, so that no swapped axis goes unseen."""

BASE = {
    "d_model": 12,
    "n_layer": 2,
    "mixer": {
        "kind": "mamba",
        "d_state": 4,
        "d_conv": 4,
        "expand": 2,
        "dt_rank": "auto",
        "dt_min": 0.01,
        "dt_max": 0.5,
    },
    "position": "absolute",
    "decoder": {"kind": "mlp", "hidden": 16},
    "adaptive": None,
    "scan_backend": "auto",
}
FORMS = ("dt_bias", "film", "both", "film_readout")

EXACT = {"rtol": 1e-10, "atol": 1e-12}
"""float64: some hundred roundings of 1e-16, with room for cancellation."""
SINGLE = {"rtol": 1e-5, "atol": 1e-5}
"""float32: the same roundings of 6e-8; outputs leave a norm, so they are of size 1."""


def told(form: str = "both", features: str = "T_and_t", beyond: str = "extrapolate") -> dict:
    """The `adaptive` entry of a length-adaptive model."""
    return {"kind": form, "features": features, "hidden": 8, "beyond": beyond}


def config(mixer: dict | None = None, **overrides) -> ModelConfig:
    mixer = mixer or {}
    base = BASE["mixer"] if mixer.get("kind", "mamba") == "mamba" else {}
    return ModelConfig.model_validate(BASE | overrides | {"mixer": base | mixer})


def fresh(
    mixer: dict | None = None, seed: int = 0, shape=SHAPE, patch_size: int = PATCH_SIZE, **overrides
) -> PatchMamba:
    """As initialised."""
    torch.manual_seed(seed)
    return PatchMamba(config(mixer, **overrides), shape, patch_size, L0)


def moved(model: PatchMamba) -> PatchMamba:
    """With every weight moved, so that no zero-initialised layer hides an error."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return model.eval()


def exact(mixer: dict | None = None, **overrides) -> PatchMamba:
    """In float64, on the reference backend."""
    return moved(fresh(mixer, **{"scan_backend": "reference"} | overrides)).double()


def sequence(model: PatchMamba, B: int = 3, L: int = 13, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Patches (B, L, K) and cells (B, L) in the model's type."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand(B, L, model.embed_patch.in_features, generator=generator)
    cells = torch.randint(model.grid[0] * model.grid[1], (B, L), generator=generator)
    return patches.to(model.embed_patch.weight.dtype), cells


def along(patches: Tensor, cells: Tensor) -> DrawSequences:
    """Images of which all patches are given, (B, G, K), in visiting orders (B, T); nothing to compare with."""
    return DrawSequences(None, patches, cells)


class AsRead(DrawSequences):
    """Sequences of which the patch of each step is given, (B, T, K), whatever the cells."""

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        return self.patches[:, start:stop], self.cells[:, start:stop]


def as_read(patches: Tensor, cells: Tensor, targets: Tensor | None = None) -> AsRead:
    return AsRead(targets, patches, cells)


def draw_task(shape=SHAPE, patch_size: int = PATCH_SIZE, images: Tensor | None = None) -> DrawTask:
    """The task of these models, on the given images (N, C, H, W) uint8, or none to speak of."""
    images = torch.zeros(1, *shape, dtype=torch.uint8) if images is None else images
    lengths, supervision = {"kind": "fixed", "value": L0}, {"kind": "last"}
    values = {"patch_size": patch_size, "order": "permutation", "lengths": lengths, "supervision": supervision}
    return DrawTask(DrawConfig.model_validate(values), in_memory(images))


def lengths_told(model: PatchMamba, *lengths: int) -> Tensor | None:
    """What to pass as `told`: nothing to a plain model."""
    return None if model.conditioning is None else torch.tensor(lengths)


VARIANTS = {
    "plain": {},
    "relative-spatial": {"position": "relative_move", "decoder": {"kind": "spatial", "hidden": 8}},
    "no-conv": {"mixer": {"d_conv": 1}},
    "wide-conv": {"mixer": {"d_conv": 7, "expand": 1.3, "dt_rank": 3}},
    "dt_bias-T": {"adaptive": told("dt_bias", "T")},
    "film-T_and_t-clamp": {"adaptive": told("film", "T_and_t", "clamp")},
    "film-T_and_t-rescale": {"adaptive": told("film", "T_and_t", "rescale") | {"slowest": 1.5, "code": "normalised"}},
    "both-T_and_t-relative": {"adaptive": told(), "position": "relative_move"},
}
"""Forms of the model that read sequences differently."""
