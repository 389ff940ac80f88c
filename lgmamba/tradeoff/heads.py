"""Heads on frozen latents, trained until the validation loss no longer falls; strictly after the encoder.

What such a head reaches is what the latent holds. The difference from the head that was trained along with the encoder is
optimisation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from lgmamba.tasks.seeds import seed_of
from lgmamba.tradeoff.stack_file import HeadTrainConfig
from lgmamba.tradeoff.stacked import Stacked, adam, build_seeded

Loss = Callable[[Tensor, Tensor], Tensor]
"""Prediction (R, B, ...), target (R, B, ...) -> (R, B)."""


@dataclass(frozen=True)
class Latents:
    """Frozen latents of three splits with what is predicted from them.

    Attributes:
        z: split -> (R, N, m).
        targets: split -> (N, ...), the same for all runs: labels, or pixels in uint8.
    """

    z: dict[str, Tensor]
    targets: dict[str, Tensor]


def squared_error(prediction: Tensor, images: Tensor) -> Tensor:
    """Mean over pixels of (R, B, C, H, W_img), images in uint8 -> (R, B)."""
    return mse_loss(prediction, images.to(prediction.dtype) / 255, reduction="none").flatten(2).mean(2)


def cross_entropies(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores (R, B, K), labels (R, B) -> (R, B)."""
    return cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").unflatten(0, labels.shape)


def standardised(latents: Latents) -> Latents:
    """Every latent dimension with mean 0 and variance 1 over the training split: convergence must not hang on scales."""
    z = latents.z["train"]
    mean, sd = z.mean(1, keepdim=True), z.std(1, keepdim=True)
    sd = torch.where(
        sd > 1e-6 * sd.amax(-1, keepdim=True).clamp_min(1e-12), sd, torch.ones_like(sd)
    )  # one that is constant stays so
    return Latents({name: (values - mean) / sd for name, values in latents.z.items()}, latents.targets)


@dataclass(frozen=True)
class Fitted:
    """Heads after `fit_heads`.

    Attributes:
        heads: with the weights of each run's best look.
        steps: after how many each run's validation loss was lowest, R numbers.
        converged: whether it then fell no further (by more than `tolerance`) for `patience` looks, R truth values; False: the steps ran
            out before.
    """

    heads: Stacked
    steps: list[int]
    converged: list[bool]

    def columns(self, name: str, run: int) -> dict[str, int | bool]:
        """What points.parquet keeps of one run's head."""
        return {f"probe_steps_{name}": self.steps[run], f"probe_converged_{name}": self.converged[run]}


def fit_heads(
    build: Callable[[], nn.Module], latents: Latents, loss: Loss, seeds: Sequence[int], config: HeadTrainConfig
) -> Fitted:
    """Train one head for each run, and give each the weights with which its validation loss was lowest.

    All go on until none has improved by more than `config.tolerance` for `config.patience` looks, or `config.steps` are taken.

    Args:
        build: a head with random weights.
        latents: standardised.
        loss: what is minimised.
        seeds: (R,) of initial weights and batches.
    """
    z, targets = latents.z["train"], latents.targets["train"]
    heads = Stacked([build_seeded(build, seed_of(s, "tradeoff/probe")) for s in seeds], z.device, z.dtype)
    optimizer = adam([heads], config.lr, (0.9, 0.999))
    generator = torch.Generator().manual_seed(seed_of(seeds[0], "tradeoff/probe batches"))
    kept, taken = heads.snapshot(), 0
    best = torch.full((len(z),), torch.inf, dtype=z.dtype, device=z.device)
    to_beat = best  # what counts as no lower
    best_at, fell_at = (torch.zeros(len(z), dtype=torch.long) for _ in range(2))  # steps
    patience = config.patience * config.check_every  # steps
    while taken < config.steps and taken - int(fell_at.max()) < patience:
        for _ in range(config.check_every):
            rows = torch.randint(z.shape[1], (config.batch_size,), generator=generator).to(z.device)
            optimizer.zero_grad(set_to_none=True)
            found = loss(heads(z[:, rows]), targets[rows].expand(len(z), *targets[rows].shape))
            found.mean(1).sum().backward()
            optimizer.step()
        taken += config.check_every
        now = mean_loss(heads, latents, "val", loss)  # (R,)
        better, fell = now < best, now < to_beat
        best, to_beat = torch.where(better, now, best), torch.where(fell, now * (1 - config.tolerance), to_beat)
        best_at[better.cpu()], fell_at[fell.cpu()] = taken, taken
        for name, value in heads.parameters.items():
            kept[name][better] = value.detach()[better]
    heads.load(kept)
    return Fitted(heads, best_at.tolist(), (taken - fell_at >= patience).tolist())


@torch.no_grad()
def on_split(heads: Stacked, latents: Latents, split: str, measure: Loss, most: int = 4096) -> Tensor:
    """A measure of each sample of a split, (R, N)."""
    z, targets = latents.z[split], latents.targets[split]
    parts = [
        measure(heads(z[:, i : i + most]), targets[i : i + most].expand(len(z), *targets[i : i + most].shape))
        for i in range(0, z.shape[1], most)
    ]
    return torch.cat(parts, 1)


def mean_loss(heads: Stacked, latents: Latents, split: str, loss: Loss) -> Tensor:
    """(R,) over a split."""
    return on_split(heads, latents, split, loss).mean(1)


def is_right(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the largest score is the label's: (R, B, K), (R, B) -> (R, B) float."""
    return (scores.argmax(-1) == labels).to(scores.dtype)
