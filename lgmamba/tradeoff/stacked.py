"""R networks of one shape as one with a leading axis of runs. Glossary: `lgmamba.tradeoff`.

Products become batched products. Nothing is added over runs, and Adam is elementwise: no run can see another one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

Build = Callable[[], nn.Module]


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
        self._network = networks[0]
        self.parameters = {
            name: value.detach().to(device, dtype).requires_grad_(True) for name, value in parameters.items()
        }

    def __call__(self, x: Tensor) -> Tensor:
        """One batch a run, (R, B, ...) -> (R, B, ...)."""
        return torch.vmap(lambda weights, batch: functional_call(self._network, weights, (batch,)))(self.parameters, x)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Weights of `snapshot`."""
        for name, value in weights.items():
            self.parameters[name].copy_(value)


def build_seeded(build: Build, seed: int) -> nn.Module:
    """A network whose random weights a seed alone decides; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def adam(stacks: Sequence[Stacked], lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """One Adam for all: elementwise, so that it is one for each run and network."""
    parameters = [p for stack in stacks for p in stack.parameters.values()]
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)
