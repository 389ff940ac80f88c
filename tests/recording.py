"""What a CUDA graph cannot record, found without a GPU."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MAKERS = {torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor}


class NothingCarried(TorchFunctionMode):
    """Fails where numbers of Python become a tensor: on a GPU they would be carried there, which no graph records.

    Raises:
        AssertionError: they do.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        numbers = [a for a in args if not isinstance(a, Tensor)]
        indexed = func in {Tensor.__getitem__, Tensor.__setitem__} and _has_list(args[1])
        assert not (func in MAKERS and numbers) and not indexed, f"{func.__name__} carries {numbers} to the device"
        return func(*args, **(kwargs or {}))


def _has_list(index: Any) -> bool:
    return isinstance(index, list) or (isinstance(index, tuple) and any(isinstance(i, list) for i in index))
