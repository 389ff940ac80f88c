"""At which steps of a sequence the reconstruction is compared with the image.

Glossary: B sequences, T_b length of sequence b, S supervised steps a sequence. Steps are counted from 1, so that a
reconstruction "at step t" has seen t patches.
"""

import torch
from torch import Tensor

from lgmamba.config.task import SuperviseAll, SuperviseLast, SuperviseRandom, SupervisionConfig


def supervised_steps(
    config: SupervisionConfig, lengths: Tensor, longest: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Steps and their weights in the loss.

    Args:
        lengths: (B,) int64 length of each sequence.
        longest: at least the largest of them; known to the caller without waiting for the device.
    Returns:
        steps: (B, S) int64 in 1..T_b, and weights: (B, S) float32; the weights of each sequence sum to 1.
    """
    match config:
        case SuperviseLast():
            return lengths[:, None], torch.ones_like(lengths[:, None], dtype=torch.float32)
        case SuperviseRandom(k=k):
            u = torch.rand(len(lengths), k, generator=generator, device=lengths.device)
            steps = (u * lengths[:, None]).long() + 1
            return steps, torch.full_like(u, 1.0 / k)
        case SuperviseAll():
            steps = torch.arange(1, longest + 1, device=lengths.device).expand(len(lengths), -1)
            inside = steps <= lengths[:, None]
            weights = inside / lengths[:, None].float()
            return torch.minimum(steps, lengths[:, None]), weights
    raise ValueError(f"unknown supervision {config!r}")
