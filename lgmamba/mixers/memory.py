"""How long mixers remember: tau = -1 / ln rho, rho the mean share that a step retains of a mode.

Tokens are Gaussian, of the size that a block's norm gives them: so that it can be known before there is anything to read, and the numbers
before and after a training are of the same tokens. Glossary: `lgmamba.mixers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Call, Mixer
from lgmamba.mixers.registry import build_mixer

B, L = 4, 32
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Memory:
    """Steps after which a write has fallen to 1 / e: of a tenth, of half, and of nine tenths of the modes at most."""

    low: float
    median: float
    high: float

    def listed(self) -> list[float]:
        """Low, median, high."""
        return [self.low, self.median, self.high]


def memory_at_start(config: ModelConfig, seed: int = 0) -> Memory | None:
    """Of the first layer as it is initialised; see `memory_of`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return memory_of([build_mixer(config, layer=0)], config.d_model)


@torch.no_grad()
def memory_of(mixers: Sequence[Mixer], d: int) -> Memory | None:
    """Of all modes of some layers of width d; None where there is none that retains in this sense (attention keeps everything)."""
    found = [tau for mixer in mixers if (tau := _taus(mixer, d)) is not None]
    if not found:
        return None
    quantiles = torch.tensor(QUANTILES, dtype=torch.float64)
    return Memory(*torch.quantile(torch.cat(found), quantiles).tolist())


def _taus(mixer: Mixer, d: int) -> torch.Tensor | None:
    seen: list[torch.Tensor | None] = []

    def look(call: Call) -> Call:
        seen.append(call.retained())
        return call

    weight, training = next(mixer.parameters()), mixer.training
    tokens = torch.randn(B, L, d, generator=torch.Generator().manual_seed(0)).to(weight)
    mixer.eval()(tokens, hook=look)
    mixer.train(training)
    if seen[0] is None:
        return None
    rho = seen[0].double().mean((0, 1)).expand(mixer.shape).flatten().cpu()
    return -1 / rho.clamp(max=1 - 1e-12).log()
