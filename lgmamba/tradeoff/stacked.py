"""R networks of one shape as one with a leading axis of runs. Glossary: `lgmamba.tradeoff`.

Products become batched products. Nothing is added over runs, and Adam is elementwise: no run can see another one.
`torch.vmap` serves any network; linear layers in a row are written out, since small ones take less time than its bookkeeping.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

Build = Callable[[], nn.Module]
Layer = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Weights of R runs by name, one batch a run (R, B, ...) -> (R, B, ...)."""

ANY_AXES = (nn.ReLU, nn.Sigmoid, nn.Unflatten)
"""Modules without weights that act on each number, or on the last axis."""


class Stacked:
    """R networks side by side.

    Args:
        networks: of one architecture, without buffers; their weights are copied.
        device, dtype: where and in what they compute.

    Attributes:
        parameters: name -> (R, ...) leaf.
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device, dtype: torch.dtype = torch.float32):
        parameters, buffers = stack_module_state(list(networks))
        assert not buffers, "a buffer that a network changes could not be stacked"
        self._layers = _written_out(networks[0]) or [partial(_mapped, networks[0])]
        self.parameters = {
            name: value.detach().to(device, dtype).requires_grad_(True) for name, value in parameters.items()
        }

    def __call__(self, x: Tensor) -> Tensor:
        """One batch a run, (R, B, ...) -> (R, B, ...)."""
        for layer in self._layers:
            x = layer(self.parameters, x)
        return x

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Weights of `snapshot`."""
        for name, value in weights.items():
            self.parameters[name].copy_(value)


def _written_out(module: nn.Module, prefix: str = "") -> list[Layer] | None:
    """What R copies of a module do, one layer after the other; None where it is made of more than linear layers.

    Args:
        prefix: of the names of its weights.
    """
    if type(module) is nn.Sequential:
        parts = [_written_out(part, f"{prefix}{name}.") for name, part in module.named_children()]
        return None if None in parts else [layer for part in parts if part for layer in part]
    if type(module) is nn.Linear and module.bias is not None:
        return [partial(_linear, f"{prefix}weight", f"{prefix}bias")]
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return [lambda _, x: x.flatten(2)]
    if type(module) in ANY_AXES and getattr(module, "dim", -1) == -1:
        return [lambda _, x: module(x)]
    return None


def _linear(weight: str, bias: str, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    y = x.flatten(1, -2) @ parameters[weight].mT + parameters[bias][:, None]
    return y.unflatten(1, x.shape[1:-1])


def _mapped(module: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.vmap(lambda weights, batch: functional_call(module, weights, (batch,)))(parameters, x)


def build_seeded(build: Build, seed: int) -> nn.Module:
    """A network whose random weights a seed alone decides; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def adam(stacks: Sequence[Stacked], lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """One Adam for all: elementwise, so that it is one for each run and network."""
    parameters = [p for stack in stacks for p in stack.parameters.values()]
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)
