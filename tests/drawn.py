"""The random numbers that a test wants, where no function of torch is replaced (`tests/test_replaced.py`)."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Drawn(TorchFunctionMode):
    """In its `with` block every number that `torch.rand` draws is `value`."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        return found.fill_(self.value) if func is torch.rand else found
