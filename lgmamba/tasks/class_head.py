"""A classification head beside the decoder: both read one latent z of the sequence model's outputs, and share what makes it.

After arXiv:2401.09237. With w the weight of classification (`train.class_weight`), everything before z is trained on

    (1 - w) MSE / MSE_0 + w CE / CE_0

each term divided by its value before the first step (`ClassHead.initial_losses`) and then left alone; each head is trained on its own
term whatever w. So at w = 0 the class head, and at w = 1 the decoder, is a probe that is trained along and changes nothing else.

A prediction holds both: pictures (..., C, H, W) and scores (..., K) as one tensor (..., C H W + K), so that whatever reads, averages
or selects predictions need not know that there are two. Glossary: `lgmamba.tasks.base`; m width of z, K classes.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lgmamba.config.heads import ClassHeadConfig


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, ReLU between them."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ClassHead(nn.Module):
    """Latents (..., m) -> scores (..., K), float32 (float64 in a float64 model).

    Args:
        config: classes and hidden layers.
        width: m.
    Attributes:
        initial_losses: (2,) what the errors of the picture and of the class are divided by in training, see
            `lgmamba.tasks.images.ImageTask.before_training`; kept with the weights.
    """

    initial_losses: Tensor

    def __init__(self, config: ClassHeadConfig, width: int):
        super().__init__()
        self.layers = mlp([width, *config.hidden, config.classes])
        self.register_buffer("initial_losses", torch.ones(2))

    def forward(self, z: Tensor) -> Tensor:
        scores = self.layers(z)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


def gradient_times(z: Tensor, factor: Tensor) -> Tensor:
    """z itself, whose gradient is multiplied by a factor on its way back; factor (B,), one for each row of axis 0."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))  # gradients are weighed in full precision
    factor = factor.reshape(-1, *([1] * (z.dim() - 1))).to(z.dtype)
    return z.detach() + factor * (z - z.detach())


def joined(pictures: Tensor, scores: Tensor) -> Tensor:
    """Pictures (..., C, H, W) and scores (..., K) as one prediction (..., C H W + K)."""
    return torch.cat([pictures.flatten(-3), scores.to(pictures.dtype)], dim=-1)


def parted(prediction: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Pictures (..., C, H, W) and scores (..., K) of a prediction; no scores where it is a picture alone.

    Args:
        shape: (C, H, W).
    """
    C, H, W = shape
    if prediction.shape[-1] <= C * H * W:  # W of a picture; one with scores has more numbers than pixels
        return prediction, None
    pictures, scores = prediction.tensor_split([C * H * W], dim=-1)
    return pictures.unflatten(-1, (C, H, W)), scores
