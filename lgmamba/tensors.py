"""Tensors of numbers that stand in the code."""

from functools import cache
from typing import Any

import torch
from torch import Tensor


def constant(numbers: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of numbers (nested tuples or lists; dtype as `torch.tensor` has it), made once on each device. It may not be written to.

    A training step that is recorded as a CUDA graph cannot carry numbers to the GPU; those that a step before has carried are there.
    """
    return _made(_frozen(numbers), torch.device(device), dtype)


@cache
def _made(numbers: Any, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)


def _frozen(numbers: Any) -> Any:
    return tuple(map(_frozen, numbers)) if isinstance(numbers, list | tuple) else numbers
