"""What anyone could draw without a model. Glossary: `lgmamba.probe`."""

import torch
from torch import Tensor


def paste_errors(visited: Tensor, mean_errors: Tensor) -> Tensor:
    """Error of pasting the patches read so far onto the mean image.

    Args:
        visited: (M, S, G) bool, cells read up to each step.
        mean_errors: (M, G) mean squared error of the mean image in each cell.
    Returns:
        (M, S) mean squared error over the image; 0 once every cell was read.
    """
    return torch.where(visited, 0.0, mean_errors[:, None]).mean(2)
