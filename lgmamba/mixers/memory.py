"""How long a mixer remembers as it is initialised: tau = -1 / ln rho, rho the mean share that a step retains of a mode.

Tokens are Gaussian, of the size that the block's norm gives them. Glossary: `lgmamba.mixers`.
"""

from dataclasses import dataclass

import torch

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Call
from lgmamba.mixers.registry import build_mixer

B, L = 4, 32
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Memory:
    """Steps after which a write has fallen to 1 / e: of a tenth, of half, and of nine tenths of the modes at most."""

    low: float
    median: float
    high: float


def memory_at_start(config: ModelConfig, seed: int = 0) -> Memory | None:
    """Of the first layer; None where a mixer retains in no such sense (attention keeps everything)."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        mixer = build_mixer(config, layer=0)
        found = []

        def look(call: Call) -> Call:
            found.append(call.retained())
            return call

        mixer(torch.randn(B, L, config.d_model), plan=look)
        if found[0] is None:
            return None
        rho = found[0].double().mean((0, 1)).expand(mixer.shape)
    tau = -1 / rho.clamp(max=1 - 1e-12).log()
    return Memory(*torch.quantile(tau.flatten(), torch.tensor(QUANTILES, dtype=tau.dtype)).tolist())
