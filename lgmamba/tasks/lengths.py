"""Drawing training lengths from an exact probability mass function.

Glossary: T length of a sequence in patches; L0 = `max`, the longest length that can be drawn; progress = fraction of the
training done, in [0, 1], which only a curriculum looks at.
"""

import torch
from torch import Tensor

from lgmamba.config.lengths import Curriculum, LengthConfig


class LengthDistribution:
    """A distribution over sequence lengths 1..max.

    Args:
        config: an entry of `task.lengths`, see `lgmamba.config.lengths`.
    """

    def __init__(self, config: LengthConfig):
        self.config = config
        self._cdf: dict[torch.device, Tensor] = {}  # of a law that never changes: no copy to the device per draw

    @property
    def max(self) -> int:
        """L0, the longest length in the support, patches."""
        return self.config.max

    def pmf(self, progress: float = 1.0) -> Tensor:
        """Exact probabilities, (max + 1,) float64; index = length, so that entry 0 is 0."""
        law = self.config.pmf(progress) if isinstance(self.config, Curriculum) else self.config.pmf()
        return torch.tensor(law, dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        """Draw n independent lengths, (n,) int64 on the generator's device."""
        cdf = self._distribution_function(generator.device, progress)
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64) * cdf[-1]
        return torch.searchsorted(cdf, u, right=True).clamp(max=self.max)

    def _distribution_function(self, device: torch.device, progress: float) -> Tensor:
        if isinstance(self.config, Curriculum):
            return self.pmf(progress).cumsum(0).to(device)
        if device not in self._cdf:
            self._cdf[device] = self.pmf().cumsum(0).to(device)
        return self._cdf[device]

    def __repr__(self) -> str:
        return f"LengthDistribution({self.config!r})"
