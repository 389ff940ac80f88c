"""One stack from random weights to the last step: R = seeds x weights, side by side. Glossary: `lgmamba.tradeoff`.

The encoder's gradient is a dMSE/dz + b dCE/dz, carried back from z; the decoder's is of its MSE alone and the classifier's of
its CE alone, whatever w. With losses divided by their values at initialisation, a = (1 - w) / MSE_0 and b = w / CE_0. In the
paper's raw form a = 4 (1 - w), b = w: there pixels lie in [-1, 1], where the squared error is four times as large.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from lgmamba.data.dataset import Dataset
from lgmamba.tasks.seeds import seed_of
from lgmamba.tradeoff.measures import cosine
from lgmamba.tradeoff.networks import decoder, mlp
from lgmamba.tradeoff.stack_file import StackFile, StackTrainConfig
from lgmamba.tradeoff.stacked import Stacked, adam, build_seeded

AT_INITIALISATION = 1024
"""Training images from which the losses at initialisation are taken, at most."""
RAW = 4.0
"""Squared error of pixels in [-1, 1] over that of pixels in [0, 1]."""


class TrainingError(RuntimeError):
    """A stack that cannot go on; the message names run and step."""


@dataclass
class Stack:
    """Encoder, decoder and classifier of R runs.

    Attributes:
        weights: (R,) weight of classification.
        seeds: (R,) seed.
    """

    encoder: Stacked
    decoder: Stacked
    classifier: Stacked
    weights: Tensor
    seeds: list[int]

    @property
    def parts(self) -> tuple[Stacked, Stacked, Stacked]:
        return self.encoder, self.decoder, self.classifier


@dataclass
class Split:
    """Images of one split with their labels, on the device.

    Attributes:
        images: (N, C, H, W_img) uint8.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def split_of(data: Dataset, name: str, most: int | None = None) -> Split:
    """A split, or its first images; rows stand in hash order, so that these are a random subset."""
    rows = data.split(name)[:most]
    return Split(data.images[rows], data.labels[rows])


def pixels(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 -> [0, 1]."""
    return images.to(dtype) / 255


def build_stack(
    file: StackFile,
    shape: tuple[int, int, int],
    n_classes: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Stack:
    """Networks of every seed and weight. Runs of one seed start from the same random weights."""
    makers = {
        "encoder": lambda: file.encoder.build(shape, file.latent),
        "decoder": lambda: decoder(file.latent, file.heads.decoder, shape),
        "classifier": lambda: mlp([file.latent, *file.heads.classifier, n_classes]),
    }
    parts = {}
    for part, make in makers.items():
        networks = [build_seeded(make, seed_of(seed, f"tradeoff/{part}")) for seed in file.seeds]
        parts[part] = Stacked([n for n in networks for _ in file.weights], device, dtype)
    weights = torch.tensor(file.weights, dtype=dtype, device=device).repeat(len(file.seeds))
    return Stack(**parts, weights=weights, seeds=[seed for seed in file.seeds for _ in file.weights])


def batches(n: int, file: StackFile) -> Iterator[Tensor]:
    """(S, B) rows of the training split, one batch for each seed; every epoch in an order of its own.

    Batches are whole: what is left of an epoch's images is left out of that epoch.
    """
    size = min(file.train.batch_size, n)
    generators = [torch.Generator().manual_seed(seed_of(seed, "tradeoff/batches")) for seed in file.seeds]
    done = 0
    while True:
        orders = torch.stack([torch.randperm(n, generator=g) for g in generators])
        for start in range(0, n - size + 1, size):
            if done == file.train.steps:
                return
            yield orders[:, start : start + size]
            done += 1


def learning_rate(step: int, config: StackTrainConfig) -> float:
    """Linear warm-up to lr, then a cosine to final_lr x lr at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    return config.lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def labels_by_seed(file: StackFile, labels: Tensor) -> Tensor:
    """(N,) -> (S, N): the labels, or for the control shuffled ones, another order for each seed."""
    if file.variant != "random_labels":
        return labels.expand(len(file.seeds), -1)
    shuffled = [
        labels[
            torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed_of(s, "tradeoff/labels"))).to(
                labels.device
            )
        ]
        for s in file.seeds
    ]
    return torch.stack(shuffled)


def losses(
    stack: Stack, z_decoder: Tensor, z_classifier: Tensor, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared error and cross-entropy of each run's batch.

    Args:
        z_decoder, z_classifier: (R, B, m) latents.
        images: (R, B, C, H, W_img) in [0, 1].
        labels: (R, B).
    Returns:
        (R,) twice.
    """
    prediction, scores = stack.decoder(z_decoder), stack.classifier(z_classifier)
    mse = mse_loss(prediction.to(images.dtype), images, reduction="none").mean((1, 2, 3, 4))
    ce = cross_entropy(scores.to(images.dtype).flatten(0, 1), labels.flatten(), reduction="none")
    return mse, ce.unflatten(0, labels.shape).mean(1)


class StackTraining:
    """Training of one stack.

    Args:
        file: what is trained.
        stack: networks at initialisation; trained in place.
        train: the training split.
    """

    def __init__(self, file: StackFile, stack: Stack, train: Split, bf16: bool = False):
        self.file, self.stack, self.train, self.bf16 = file, stack, train, bf16
        self.runs_per_seed = len(file.weights)
        self.labels = labels_by_seed(file, train.labels)
        self.frozen = file.variant == "random_encoder"
        parts = stack.parts[1:] if self.frozen else stack.parts
        self.optimizer = adam(parts, file.train.lr, file.train.betas)
        self.factors = self._factors()

    @property
    def dtype(self) -> torch.dtype:
        return self.stack.weights.dtype

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B) rows -> images (R, B, ...) in [0, 1] and labels (R, B), those of a seed for all its weights."""
        images = pixels(self.train.images[rows], self.dtype).repeat_interleave(self.runs_per_seed, 0)
        return images, self.labels.gather(1, rows).repeat_interleave(self.runs_per_seed, 0)

    @torch.no_grad()
    def _factors(self) -> tuple[Tensor, Tensor]:
        """(R,) twice: what dMSE/dz and dCE/dz are multiplied with before they go back into the encoder."""
        w = self.stack.weights
        if self.file.variant == "raw":
            return RAW * (1 - w), w
        rows = torch.arange(min(len(self.train), AT_INITIALISATION), device=w.device).expand(len(self.file.seeds), -1)
        images, labels = self._gather(rows)
        z = self.stack.encoder(images)
        mse, ce = losses(self.stack, z, z, images, labels)
        return (1 - w) / mse, w / ce

    def step(self, rows: Tensor, look: bool = False) -> dict[str, Tensor]:
        """One step on rows (S, B) of the training split -> losses before it, (R,); with `look` also the gradients' cosines."""
        images, labels = self._gather(rows)
        self.optimizer.zero_grad(set_to_none=True)
        with (
            torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16),
            torch.set_grad_enabled(not self.frozen),
        ):
            z = self.stack.encoder(images).to(self.dtype)  # gradients are weighed in full precision
        to_decoder, to_classifier = (z.detach().requires_grad_() for _ in range(2))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            mse, ce = losses(self.stack, to_decoder, to_classifier, images, labels)
        (mse.sum() + ce.sum()).backward()  # each head's gradient is of its own loss
        of_mse, of_ce = to_decoder.grad, to_classifier.grad
        assert of_mse is not None and of_ce is not None  # each head reads its own
        found = {"mse": mse.detach(), "ce": ce.detach()}
        if look and not self.frozen:
            found |= {"cosine_z": cosine(of_mse, of_ce), "cosine_encoder": self._angle(z, of_mse, of_ce)}
        if not self.frozen:
            a, b = (factor[:, None, None] for factor in self.factors)
            z.backward(a * of_mse + b * of_ce)
        self.optimizer.step()
        return found

    def _angle(self, z: Tensor, of_mse: Tensor, of_ce: Tensor) -> Tensor:
        """Cosine of the two losses' gradients by the encoder's weights, (R,)."""
        weights = list(self.stack.encoder.parameters.values())
        both = [torch.autograd.grad(z, weights, g, retain_graph=True) for g in (of_mse, of_ce)]
        return cosine(*(torch.cat([g.flatten(1) for g in gradients], 1) for gradients in both))

    def run(self) -> list[dict[str, object]]:
        """All steps; one row of the history for each run and logged step.

        Raises:
            TrainingError: a loss is NaN or infinite; names the run and the step.
        """
        history: list[dict[str, object]] = []
        for step, rows in enumerate(batches(len(self.train), self.file)):
            self.optimizer.param_groups[0]["lr"] = learning_rate(step, self.file.train)
            look = step % self.file.train.log_every == 0 or step == self.file.train.steps - 1
            found = self.step(rows.to(self.train.labels.device), look)
            if look:
                history += self._rows(step, {name: value.float().cpu().tolist() for name, value in found.items()})
        return history

    def _rows(self, step: int, found: dict[str, list[float]]) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for r, (seed, w) in enumerate(zip(self.stack.seeds, self.stack.weights.tolist(), strict=True)):
            row = {name: values[r] for name, values in found.items()}
            if not math.isfinite(row["mse"] + row["ce"]):
                raise TrainingError(
                    f"{self.file.label}, seed {seed}, w = {w:g}: loss at step {step} is mse {row['mse']}, ce {row['ce']}; "
                    "lower tradeoff.train.lr"
                )
            missing = {name: None for name in ("cosine_z", "cosine_encoder") if name not in row}
            rows.append({"step": step, "run": r, **row, **missing})
        return rows
