"""What anyone could draw without the model. Glossary: `lgmamba.tasks.queried.task`.

paper           paper alone: all white or all black, whichever the training images are nearer to
mean_image      the mean of the training images
oracle_memory   every pixel that was read as it is, the others as in the mean image: a memory without fault
nearest         every pixel as the nearest one that was read
"""

import numpy as np
import torch
from torch import Tensor


def baseline_pictures(mean_image: Tensor, targets: Tensor, ages: Tensor) -> dict[str, Tensor]:
    """Pictures (B, S, C, H, W) by name.

    Args:
        mean_image: (C, H, W) in [0, 1].
        targets: (B, C, H, W) in [0, 1].
        ages: (B, S, H W) steps since each pixel was read, -1 = never.
    """
    B, C, H, W = targets.shape
    S = ages.shape[1]
    read = (ages >= 0).unflatten(2, (H, W))  # (B, S, H, W)
    mean = mean_image.to(targets.dtype).expand(B, S, C, H, W)
    whole = targets[:, None].expand(B, S, C, H, W)
    return {
        "paper": mean_image.mean().round().to(targets.dtype).expand(B, S, C, H, W),
        "mean_image": mean,
        "oracle_memory": torch.where(read[:, :, None], whole, mean),
        "nearest": _nearest(whole, read),
    }


def _nearest(whole: Tensor, read: Tensor) -> Tensor:
    """Each pixel of (B, S, C, H, W) as the nearest one in `read` (B, S, H, W), of which there is one after the first step."""
    from scipy.ndimage import distance_transform_edt

    B, S, C, H, W = whole.shape
    source = torch.empty(B, S, H * W, dtype=torch.int64)
    for b in range(B):
        for s in range(S):
            y, x = distance_transform_edt(~read[b, s].cpu().numpy(), return_distances=False, return_indices=True)
            source[b, s] = torch.from_numpy((y.astype(np.int64) * W + x).ravel())
    index = source.to(whole.device)[:, :, None].expand(B, S, C, H * W)
    return whole.flatten(3).gather(3, index).unflatten(3, (H, W))
