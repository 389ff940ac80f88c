"""A small valid study, images and stacks for it."""

import numpy as np
import pytest
import torch

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.overlays import merge
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.stack_file import StackFile
from lgmamba.tradeoff.training import Split

SMALL = {
    "study": "small",
    "data": {
        "source": {"kind": "digits"},
        "image_size": 8,
        "fit": "exact",
        "channels": "grey",
        "splits": {"calib": 0.0, "val": 0.2, "test": 0.2},
        "max_images": 400,
        "on_bad_image": "error",
        "max_pixels": 64,
    },
    "tradeoff": {
        "encoders": {
            "mlp": {"kind": "mlp", "hidden": [6]},
            "cnn": {"kind": "cnn", "channels": [2, 2], "smallest": 2},
            "vit": {"kind": "vit", "patch": 4, "width": 4, "heads": 2, "depth": 1},
        },
        "heads": {"decoder": [5]},
        "weights": [0, 0.5, 1],
        "train": {"steps": 6, "batch_size": 8, "lr": 0.01, "warmup_steps": 2, "final_lr": 0.1, "log_every": 3},
        "probes": {"steps": 4, "batch_size": 8, "lr": 0.01, "check_every": 2, "patience": 1, "hidden": 4},
        "frontier": [{"encoder": "mlp", "latents": [2, 4]}],
        "controls": {
            "encoder": "mlp",
            "latent": 4,
            "kinds": ["raw", "split", "random_labels", "random_encoder", "doubled", "linear"],
        },
        "pictures": {"encoder": "mlp", "latent": 4, "images": 2},
    },
    "seeds": [0, 1],
    "claims": {
        "primary": [
            {
                "name": "E1",
                "claim": "costs",
                "measure": "psnr",
                "of": {"encoder": "mlp", "latent": 4, "weight": 0.5},
                "minus": {"encoder": "mlp", "latent": 4, "weight": 0},
                "claimed": "below",
            },
            {
                "name": "E5",
                "claim": "nowhere",
                "measure": "synergy",
                "of": {"encoder": "mlp", "latent": 4},
                "claimed": "below",
            },
        ]
    },
    "report": {},
    "outputs": {},
}


def values(**overrides):
    return merge(SMALL, overrides)


def study(**overrides) -> TradeoffParams:
    return validate(TradeoffParams, values(**overrides), "small.yaml")


def error(**overrides) -> str:
    """The message with which these values are refused."""
    with pytest.raises(ConfigError) as e:
        study(**overrides)
    return str(e.value)


def stack(name: str = "mlp_m4", **overrides) -> StackFile:
    return study().stacks()[name].model_copy(update=overrides)


def images(n: int = 24, shape=(1, 8, 8), n_classes: int = 4) -> Split:
    """Random images whose brightness tells their class."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    pixels = random.integers(0, 64, (n, *shape)) + 40 * labels[:, None, None, None]
    return Split(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels))
