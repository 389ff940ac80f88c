"""A small `queried` run, its task on random images, and models a little off their initialisation."""

from types import SimpleNamespace

import torch

from lgmamba.config.overlays import merge
from lgmamba.config.run import RunConfig
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.queried.task import QueriedTask
from lgmamba.tasks.registry import build_model

SHAPE = (2, 7, 9)
"""Two channels, neither square nor a multiple of the patch."""

MIXER = {
    "kind": "mamba", "d_state": 4, "d_conv": 4, "conv": "none", "expand": 2, "dt_rank": "auto", "dt_min": 0.01, "dt_max": 0.5
}  # fmt: skip
RUN = {
    "study": "tests",
    "run": "asked",
    "seed": 0,
    "task": {
        "kind": "queried",
        "patch_size": 3,
        "order": "uniform",
        "lengths": {"kind": "uniform", "low": 1, "high": 6},
        "queries": 5,
        "position": {"kind": "append", "scale": 4},
    },
    "model": {"d_model": 8, "n_layer": 2, "mixer": MIXER, "adaptive": None, "scan_backend": "reference"},
    "train": {
        "steps": 20, "batch_size": 4, "lr": 0.003, "warmup_steps": 5, "final_lr": 0.01, "weight_decay": 0.01, "betas": [0.9, 0.99],
        "grad_clip": 1.0, "precision": "auto", "log_every": 4, "validate_every": 8, "validate_images": 16, "checkpoint_every_s": 0,
        "cpu_threads": 1,
    },
}  # fmt: skip
TOKEN = {"model": {"adaptive": {"kind": "length_token", "scale": 4}}}
ENCODER_DECODER = {
    "model": {
        "n_layer": 1, "mixer": {"kind": "encoder_decoder", "encoder": 2, "decoder": 2, "heads": 2, "mlp": 6, "layer_scale": 0.1}
    }
}  # fmt: skip
EXACT = {"rtol": 1e-10, "atol": 1e-12}
"""float64: some hundred roundings of 1e-16, with room for cancellation."""


def tiny_run(**changes) -> RunConfig:
    """The run above, with changes nested as in params.yaml."""
    return RunConfig.model_validate(merge(RUN, changes))


def dataset(n: int = 12, shape: tuple[int, int, int] = SHAPE):
    """As much of a `Dataset` as the task looks at."""
    g = torch.Generator().manual_seed(5)
    images = torch.randint(256, (n, *shape), generator=g, dtype=torch.uint8)
    return SimpleNamespace(
        images=images,
        image_shape=shape,
        id_hash=torch.randint(2**62, (n,), generator=g),
        mean_image=images.float().mean(0) / 255,
        labels=torch.arange(n) % 3,
        split=lambda _: torch.arange(n),
    )


def task_of(run: RunConfig, **data) -> QueriedTask:
    return QueriedTask(run.task, dataset(**data))


def exact_model(run: RunConfig, shape: tuple[int, int, int] = SHAPE) -> SequenceModel:
    """In float64 and eval mode, every weight moved, so that no zero hides an error."""
    model, g = build_model(run, shape), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=g)
    return model.eval().double()


def batch_of(task: QueriedTask, run: RunConfig, step: int = 3, full_length: bool = False):
    return task.sampler(torch.arange(len(task.dataset.images)), run.train, run.seed, full_length).draw(step)
