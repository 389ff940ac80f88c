"""Is the image still there? A linear read-out of it from states or outputs, and states brought back to their size at L0.

If a read-out that is trained at L0 fails at T while one that is trained at T does not, the image is still there, and was only scaled or
moved out of the range that the first one knows. If it is enough to scale states back, size alone is what failed.
Glossary: `lgmamba.probe`; n images, B samples, D channels, N modes, F numbers that a read-out is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba import metrics
from lgmamba.mixers.contract import Call, Hook
from lgmamba.remedies.base import steps_of

PENALTIES = [10.0**k for k in range(-7, 3)]
"""Ridge penalties tried, in units of the mean eigenvalue of the Gram matrix."""


@dataclass(frozen=True)
class ReadOut:
    """A linear map from one layer's state to the image.

    Attributes:
        centre, scale: (D N,) of the states that it was fitted on.
        examples: (n, D N) those states, centred and scaled; the map is a combination of them.
        weights: (n, pixels).
        mean: (pixels,) mean image.
        penalty: the one of `PENALTIES` that was taken.
    """

    centre: Tensor
    scale: Tensor
    examples: Tensor
    weights: Tensor
    mean: Tensor
    penalty: float

    def __call__(self, h: Tensor) -> Tensor:
        """(B, D, N) or (B, F) -> (B, pixels)."""
        return self.mean + ((h.flatten(1).double() - self.centre) / self.scale) @ self.examples.T @ self.weights


def fit_read_out(h: Tensor, images: Tensor, judged: tuple[Tensor, Tensor] | None = None) -> ReadOut:
    """Ridge regression of images on states or outputs, in float64; each entry is scaled to unit variance first.

    The penalty is the one of `PENALTIES` with the least error on further images, or where none are given with the least
    leave-one-out error, which has a closed form.

    Args:
        h: (n, D, N) states, or (n, F) outputs.
        images: (n, ...) pixel values.
        judged: the same of other images, to choose the penalty by.
    """
    states, images = h.flatten(1).double(), images.flatten(1).double()
    centre, mean = states.mean(0), images.mean(0)
    scale = states.std(0)
    scale = torch.where(scale > 0, scale, 1.0)
    examples, targets = (states - centre) / scale, images - mean
    values, vectors = torch.linalg.eigh(examples @ examples.T)
    values = values.clamp(min=0)
    along = vectors.T @ targets

    def fitted(penalty: float) -> ReadOut:
        weights = vectors @ (along / (values + penalty * values.mean())[:, None])
        return ReadOut(centre, scale, examples, weights, mean, penalty)

    def left_out(penalty: float) -> float:
        shrink = values / (values + penalty * values.mean())
        # of an example on its own prediction; 1 / n is that of the mean
        leverage = vectors.square() @ shrink + 1 / len(states)
        errors = (targets - vectors @ (shrink[:, None] * along)) / (1 - leverage).clamp(min=1e-9)[:, None]
        return float(errors.square().mean())

    def on_others(penalty: float) -> float:
        assert judged is not None
        return float((fitted(penalty)(judged[0]) - judged[1].flatten(1)).square().mean())

    return fitted(min(PENALTIES, key=left_out if judged is None else on_others))


def psnr(prediction: Tensor, targets: Tensor) -> float:
    """PSNR in dB of the mean squared error over images: (n, pixels) against (n, ...)."""
    return float(metrics.psnr((prediction - targets.flatten(1)).double().square().mean()))


def restore_norm(norm: Sequence[float], L0: int) -> Hook:
    """Beyond L0 every state is read as if it had the norm that it has at L0; the states themselves go on as they are.

    Exact at every step, whatever the pieces: what is read is multiplied by p / ||h_t||. States of all steps of a piece are made, so read in
    short pieces.

    Args:
        norm: p for each layer.
    """

    def hook(call: Call) -> Call:
        if call.t0 + call.shape[1] <= L0:
            return call
        states = call.states()  # (B, L, D, N)
        size = states.flatten(2).norm(dim=2).clamp(min=torch.finfo(states.dtype).tiny)
        gain = torch.where(steps_of(call) > L0, norm[call.layer] / size, torch.ones_like(size))
        return call.read(gain[..., None])

    return hook
