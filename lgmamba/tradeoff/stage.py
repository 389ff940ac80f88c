"""The stage `tradeoff train`: one stack from images to files. Needs neither polars nor Snakemake.

points.parquet     one row for each run: errors on test images, dimensions used; of the frontier's stacks also probes
history.parquet    one row for each run and logged step: losses, cosines of the two gradients
samples.parquet    errors of the first test images, one row for each run and image
pictures.parquet   reconstructions of the first seed, where the study asks for them of this stack
stack.json         the configuration, sizes, times, where it ran
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgmamba import provenance
from lgmamba.config.base import ConfigError
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.data.labels import label_problem
from lgmamba.devices import matrix_products
from lgmamba.files import to_json, write_atomic
from lgmamba.frames import write_columns
from lgmamba.records import begin, finish
from lgmamba.tradeoff.heads import (
    Latents,
    Loss,
    cross_entropies,
    fit_heads,
    is_right,
    on_split,
    squared_error,
    standardised,
)
from lgmamba.tradeoff.keys import stack_key
from lgmamba.tradeoff.linear import linear_points
from lgmamba.tradeoff.measures import dimensions_used
from lgmamba.tradeoff.networks import count, decoder, mlp
from lgmamba.tradeoff.stack_file import StackFile
from lgmamba.tradeoff.training import Split, Stack, StackTraining, build_stack, pixels, split_of

SAMPLES = 64
"""Test images whose errors are kept one by one, so that anyone can see how much images differ."""
AT_A_TIME = 1 << 14
"""Images of all runs together in one pass without gradient."""
HISTORY = ("step", "run", "mse", "ce", "cosine_z", "cosine_encoder")
PROBES = (
    *("probe_accuracy_linear", "probe_steps_linear", "probe_converged_linear"),
    *("probe_accuracy_mlp", "probe_steps_mlp", "probe_converged_mlp"),
    *("probe_mse", "probe_steps_decoder", "probe_converged_decoder"),
)
"""Columns of heads trained anew: what each reaches, and of `heads.Fitted` its steps and whether it converged."""

Row = dict[str, Any]


def train_stack(file: StackFile, data: Path, out: Path, device: torch.device) -> dict[str, Any]:
    """Train one stack, probe it, and write its files and last their record.

    Args:
        file: what is trained.
        data: folder of the image artefact.
        out: folder of the results.
        device: where to train.
    Returns:
        what stack.json holds.
    Raises:
        ConfigError: the images do not fit: too small for the latent or patches, classes missing.
        TrainingError: a loss is NaN or infinite.
        DataError: the images cannot be used.
    """
    begun = time.monotonic()
    torch.set_num_threads(file.train.cpu_threads)
    dataset = load_dataset(data, device, file.images)
    splits = splits_of(file, dataset, data)
    begin(out)
    bf16 = file.train.precision == "bf16" or (file.train.precision == "auto" and device.type == "cuda")
    if file.variant == "linear":
        points, history, sizes = linear_points(file, splits, dataset.n_classes), [], {}
        samples = pictures = None
    else:
        points, history, sizes, samples, pictures = _networks(file, splits, dataset, bf16)
    about = {
        "config": file.model_dump(mode="json"),
        "sizes": sizes,
        "n_classes": dataset.n_classes,
        "counts": {name: len(split) for name, split in splits.items()},
        "mse_mean_image": mean_image_error(dataset, splits["test"]),
        "chance": commonest(splits),
        "bf16": bf16,
        "device": device.type,
        "where": provenance.describe(),
        "wall_s": time.monotonic() - begun,
    }
    names = _write(out, file, points, history, samples, pictures, about)
    finish(stack_key(file, dataset.digest), out, names)
    return about


def splits_of(file: StackFile, dataset: Dataset, data: Path) -> dict[str, Split]:
    """The three splits that a stack reads.

    Raises:
        ConfigError: the images do not fit; names the folder and what is wrong.
    """
    shape, n_classes = dataset.image_shape, dataset.n_classes
    splits = {name: split_of(dataset, name) for name in ("train", "val")}
    splits["test"] = split_of(dataset, "test", file.test_images)
    numbers = shape[0] * shape[1] * shape[2]
    problem = file.encoder.misfit(shape)
    if file.latent > numbers:
        problem = f"latent: found {file.latent}, expected: at most the {numbers} numbers of an image"
    for name, split in splits.items():
        problem = problem or (None if len(split) else f"found no image in split {name}, expected some")
        problem = problem or label_problem(split.labels.cpu().numpy(), n_classes, f"split {name}")
    if problem is not None:
        raise ConfigError(f"{data}, for {file.label}: {problem}")
    return splits


def mean_image_error(dataset: Dataset, test: Split) -> float:
    """Squared error of the mean training image, over test images."""
    mean = dataset.mean_image.double()
    return float((pixels(test.images, torch.float64) - mean).square().mean())


def commonest(splits: dict[str, Split]) -> float:
    """Accuracy (%) of always naming the commonest class of the training split."""
    guess = splits["train"].labels.bincount().argmax()
    return 100 * float((splits["test"].labels == guess).double().mean())


def _networks(file: StackFile, splits: dict[str, Split], dataset: Dataset, bf16: bool) -> tuple:
    shape, n_classes = dataset.image_shape, dataset.n_classes
    device = splits["train"].labels.device
    stack = build_stack(file, shape, n_classes, device)
    history = StackTraining(file, stack, splits["train"], bf16).run()
    z = {name: encode(stack, split) for name, split in splits.items()}
    mse, right = errors(stack, z["test"], splits["test"])
    train_rows = slice(0, len(splits["test"]))  # as many as of the test split
    seen = Split(splits["train"].images[train_rows], splits["train"].labels[train_rows])
    train_mse, train_right = errors(stack, z["train"][:, train_rows], seen)
    columns = {
        "mse": mse.double().mean(1),
        "accuracy": 100 * right.double().mean(1),
        "train_mse": train_mse.double().mean(1),
        "train_accuracy": 100 * train_right.double().mean(1),
        **dimensions_used(z["train"], splits["train"].labels, n_classes),
    }
    weights = stack.weights.tolist()
    values = {name: value.tolist() for name, value in columns.items()}
    probed = probes(file, z, splits, weights, shape, n_classes) if file.variant == "main" else [{}] * len(weights)
    points = [
        {"seed": seed, "weight": w, "what": "network", **{name: v[r] for name, v in values.items()}, **probed[r]}
        for r, (seed, w) in enumerate(zip(stack.seeds, weights, strict=True))
    ]
    sizes = {
        "encoder": count(file.encoder.build(shape, file.latent)),
        "decoder": count(decoder(file.latent, file.heads.decoder, shape)),
        "classifier": count(mlp([file.latent, *file.heads.classifier, n_classes])),
    }
    pictures = draw_pictures(stack, z["test"], splits["test"], file) if file.pictures else None
    return points, history, sizes, (mse[:, :SAMPLES], right[:, :SAMPLES], stack), pictures


@torch.no_grad()
def _in_parts(run: Callable[[slice], Tensor], n: int, runs: int) -> Tensor:
    """Results for n samples of all runs, a few at a time, put together along axis 1."""
    size = max(1, AT_A_TIME // runs)
    with matrix_products("fp32"):  # convolutions, too, of which torch's default is TF32
        return torch.cat([run(slice(i, i + size)) for i in range(0, n, size)], 1)


def encode(stack: Stack, split: Split) -> Tensor:
    """Latents of a split, (R, N, m)."""
    R, dtype = len(stack.seeds), stack.weights.dtype

    def run(part: slice) -> Tensor:
        return stack.encoder(pixels(split.images[part], dtype).expand(R, -1, -1, -1, -1))

    return _in_parts(run, len(split), R)


def errors(stack: Stack, z: Tensor, split: Split) -> tuple[Tensor, Tensor]:
    """Squared error, and whether the class is right, of each image by the heads trained along: (R, N) twice."""
    R = len(stack.seeds)

    def predicted(part: slice) -> Tensor:
        return squared_error(stack.decoder(z[:, part]), split.images[part].expand(R, -1, -1, -1, -1))

    def named(part: slice) -> Tensor:
        return is_right(stack.classifier(z[:, part]), split.labels[part].expand(R, -1))

    return _in_parts(predicted, len(split), R), _in_parts(named, len(split), R)


def probes(
    file: StackFile, z: dict[str, Tensor], splits: dict[str, Split], weights: list[float], shape: tuple, n_classes: int
) -> list[Row]:
    """Heads on frozen latents: classifiers where classes were not trained for (w = 0), a decoder where only they were (w = 1).

    Returns:
        for each run the columns PROBES; None where none was trained.
    """
    rows: list[Row] = [dict.fromkeys(PROBES) for _ in weights]
    at = {end: [r for r, w in enumerate(weights) if w == end] for end in (0.0, 1.0)}
    labels, images = ({n: getattr(s, what) for n, s in splits.items()} for what in ("labels", "images"))

    def fitted(end: float, build: Callable, targets: dict[str, Tensor], loss: Loss, measure: Loss):
        latents = standardised(Latents({name: values[at[end]] for name, values in z.items()}, targets))
        found = fit_heads(build, latents, loss, file.seeds, file.probes)
        return found, on_split(found.heads, latents, "test", measure).mean(1).tolist()

    if at[0.0]:
        for column, hidden in {"probe_accuracy_linear": [], "probe_accuracy_mlp": [file.probes.hidden]}.items():
            build = partial(mlp, [file.latent, *hidden, n_classes])
            found, right = fitted(0.0, build, labels, cross_entropies, is_right)
            for k, r in enumerate(at[0.0]):
                rows[r] |= {column: 100 * right[k], **found.columns(column.removeprefix("probe_accuracy_"), k)}
    if at[1.0]:
        build = partial(decoder, file.latent, file.heads.decoder, shape)
        found, mse = fitted(1.0, build, images, squared_error, squared_error)
        for k, r in enumerate(at[1.0]):
            rows[r] |= {"probe_mse": mse[k], **found.columns("decoder", k)}
    return rows


@torch.no_grad()
def draw_pictures(stack: Stack, z: Tensor, test: Split, file: StackFile) -> list[Row]:
    """The first test images as every weight of the first seed reconstructs them, and themselves (weight None), as uint8."""
    first, shown = len(file.weights), min(file.pictures, len(test))
    pictures = (255 * stack.decoder(z[:, :shown])[:first]).round().to(torch.uint8).cpu().numpy()
    rows: list[Row] = [
        {"weight": None, "image": i, "pixels": test.images[i].cpu().numpy().ravel()} for i in range(shown)
    ]
    for w, images in zip(file.weights, pictures, strict=True):
        rows += [{"weight": w, "image": i, "pixels": image.ravel()} for i, image in enumerate(images)]
    return rows


def _write(out: Path, file: StackFile, points, history, samples, pictures, about) -> list[str]:
    names = ["points.parquet", "history.parquet", "stack.json"]
    write_columns(out / names[0], _columns(points))
    steps = _columns(history) if history else {name: [] for name in HISTORY}
    write_columns(out / names[1], steps)
    if samples is not None:
        mse, right, stack = samples
        runs, n = mse.shape
        write_columns(
            out / "samples.parquet",
            {
                "seed": np.repeat(np.array(stack.seeds), n),
                "weight": np.repeat(stack.weights.double().cpu().numpy(), n),
                "image": np.tile(np.arange(n, dtype=np.int32), runs),
                "mse": mse.float().cpu().numpy().ravel(),
                "right": right.bool().cpu().numpy().ravel(),
            },
        )
        names.append("samples.parquet")
    if pictures is not None:
        write_columns(out / "pictures.parquet", _columns(pictures))
        names.append("pictures.parquet")
    write_atomic(out / "stack.json", to_json(about))
    return names


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def stack_files(file: StackFile) -> tuple[str, ...]:
    """What `train_stack` writes."""
    samples = () if file.variant == "linear" else ("samples.parquet",)
    return (
        "points.parquet",
        "history.parquet",
        "stack.json",
        *samples,
        *(("pictures.parquet",) if file.pictures else ()),
    )
