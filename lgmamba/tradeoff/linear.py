"""Controls without an encoder: principal components of the training images, and the pixels themselves, under a linear classifier."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lgmamba.tradeoff.heads import Latents, cross_entropies, fit_heads, is_right, on_split, standardised
from lgmamba.tradeoff.networks import mlp
from lgmamba.tradeoff.stack_file import StackFile
from lgmamba.tradeoff.training import Split, pixels


def principal_components(x: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Mean and the m directions of largest variance.

    Args:
        x: (N, K) float64.
    Returns:
        (K,), (K, m) orthonormal.
    """
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).T @ (x - mean))  # ascending
    return mean, vectors[:, -m:]


def linear_points(file: StackFile, splits: dict[str, Split], n_classes: int) -> list[dict[str, Any]]:
    """Rows of points.parquet: what is `pca` (m components; drawn from them by least squares) and `pixels` (no reconstruction).

    Seeds are those of the classifier.
    """
    flat = {name: pixels(split.images, torch.float64).flatten(1) for name, split in splits.items()}
    mean, directions = principal_components(flat["train"], file.latent)
    z = {name: (x - mean) @ directions for name, x in flat.items()}
    mse = float((mean + z["test"] @ directions.T - flat["test"]).square().mean())
    labels = {name: split.labels for name, split in splits.items()}
    rows = []
    for what, values, error in (("pca", z, mse), ("pixels", flat, None)):
        runs = {name: x.float().expand(len(file.seeds), -1, -1) for name, x in values.items()}
        latents = standardised(Latents(runs, labels))
        width = runs["train"].shape[-1]
        fitted = fit_heads(partial(mlp, [width, n_classes]), latents, cross_entropies, file.seeds, file.probes)
        right = on_split(fitted.heads, latents, "test", is_right).mean(1).tolist()
        rows += [
            {"seed": seed, "weight": None, "what": what, "mse": error, "accuracy": 100 * right[k]}
            | fitted.columns("linear", k)
            for k, seed in enumerate(file.seeds)
        ]
    return rows
