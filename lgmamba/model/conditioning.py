"""Length-adaptive conditioning: every block is told the length at which it will be read, and how far it is.

The last layer of each head is zero at initialisation, so that training starts from exactly the plain model.
Glossary: `lgmamba.model`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from lgmamba.config.run import AdaptiveConfig
from lgmamba.mixers.contract import gather_steps

N_FEATURES = {"T": 2, "T_and_t": 5}
"""Features of each kind; see `LengthConditioning.features`."""

CODE_SIZE = 0.5
"""Root mean square of a normalised code."""


@dataclass(frozen=True)
class BlockCondition:
    """What one block is told; None where its form of conditioning leaves a part alone. B is 1 where all sequences are told the same.

    Attributes:
        dt_offset: (B, 1 or L, D) added to the step size before softplus.
        dt_factor: (batch, L, 1) the step size after softplus is multiplied by it; None for 1.
        scale, shift: (B, 1 or L, d) the normalised input becomes input * (1 + scale) + shift.
        gate: (B, 1 or L, d) the mixer's output is multiplied by 1 + gate.
    """

    dt_offset: Tensor | None = None
    dt_factor: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    gate: Tensor | None = None


class LengthConditioning(nn.Module):
    """Shared network on features of T (and t/T), one zero-initialised linear head per block.

    Args:
        config: form, features, width and policy beyond L0.
        n_layer, d_model, d_inner: sizes of the stack.
        L0: longest training length, patches.
    """

    def __init__(self, config: AdaptiveConfig, n_layer: int, d_model: int, d_inner: int, L0: int):
        super().__init__()
        self.config, self.L0, self.d_model, self.d_inner = config, L0, d_model, d_inner
        self.trunk = nn.Sequential(
            nn.Linear(N_FEATURES[config.features], config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
        )
        film = 3 * d_model
        width = {"dt_bias": d_inner, "film": film, "both": d_inner + film, "film_readout": film}[config.kind]
        widths = [width] * n_layer + ([2 * d_model] if config.kind == "film_readout" else [])
        self.heads = nn.ModuleList(
            nn.Linear(config.hidden, width) for width in widths
        )  # one a block, and the read-out's
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, target_length: Tensor, t: Tensor) -> Tensor:
        """Code of lengths and steps.

        The features are small and smooth, so that codes of neighbouring lengths differ little and heads, which start from
        zero, learn slowly. A `normalised` code is centred and of one size.

        Args:
            target_length: (B,) lengths T, patches.
            t: (L,) steps, from 1.
        Returns:
            (B, 1, hidden) if only T is told, else (B, L, hidden).
        """
        first = self.heads[0]
        assert isinstance(first, nn.Linear)
        code = self.trunk(self.features(target_length, t).to(first.weight.dtype))
        return CODE_SIZE * layer_norm(code, code.shape[-1:]) if self.config.code == "normalised" else code

    def features(self, target_length: Tensor, t: Tensor) -> Tensor:
        """log T / log L0 and 1/T; and with T_and_t also t/T, log(1 + t) and log(1 + steps to go), over log(1 + L0).

        Logarithms, because a step more matters in proportion; the steps to go, because a specialist's last few steps
        are where its strategy shows. With `clamp` and `rescale`, T > L0 is told as L0 and t/T never passes 1, so that a
        longer sequence looks like a slower one of length L0. Returns (B, 1 or L, features), float64.
        """
        T, t = self._read(target_length, t)
        fraction = t.clamp(min=1.0) / T  # (B, L)
        if self.config.beyond != "extrapolate":
            T, fraction = T.clamp(max=self.L0), fraction.clamp(max=1.0)
        scale = math.log1p(self.L0)
        of_T = [T.log() / math.log(max(self.L0, 2)), 1.0 / T]
        if self.config.features == "T":
            return torch.stack(of_T, dim=-1)
        step = fraction * T
        to_go = (T - step).clamp(min=0.0)
        of_t = [fraction, step.log1p() / scale, to_go.log1p() / scale]
        return torch.stack([v.expand_as(fraction) for v in (*of_T, *of_t)], dim=-1)

    def dt_factor(self, target_length: Tensor, t: Tensor) -> Tensor | None:
        """s = min(1, L0 / max(T, t)) with `rescale`: (B, L, 1), or None where it is 1 throughout.

        What is told about a sequence of T > L0 steps is that of one of L0 steps, L0 / T as fast. With step sizes times
        L0 / T the recurrence is as much slower: every step writes and forgets L0 / T as much, so that over the whole
        sequence the state goes through what it went through in training. Where a sequence goes on past what was told (stream
        mode), t takes the place of T. No training sequence is longer than L0, so that training does not ask.

        With `slowest`, s is not below 1 / slowest. Of a sequence told to be longer than slowest x L0 only the last so many
        steps are read (s = 0 before them); one that goes on past what was told forgets at that rate.
        """
        if self.config.beyond != "rescale" or self.training:
            return None
        T, t = self._read(target_length, t)
        length = torch.maximum(T, t)
        if self.config.slowest is not None:
            length = length.clamp(max=self.config.slowest * self.L0)
        factor = ((self.L0 / length).clamp(max=1.0) * (t > 0))[..., None]
        return None if bool((factor == 1).all()) else factor

    def _read(self, target_length: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """T (B, 1) and t (B, L) counted from the first step that is read: t <= 0 for those before the last slowest x L0.

        float64 keeps whole numbers exact under any autocast.
        """
        T = target_length.double()[:, None]
        skipped = torch.zeros_like(T)
        if self.config.slowest is not None:
            skipped = (T - int(self.config.slowest * self.L0)).clamp(min=0.0)
        return T - skipped, t.double()[None, :] - skipped

    def block(self, layer: int, code: Tensor, dt_factor: Tensor | None = None) -> BlockCondition:
        """What block `layer` is told, from the code of `forward` and the factor of `dt_factor`."""
        out = self.heads[layer](code)
        if self.config.kind == "dt_bias":
            return BlockCondition(dt_offset=out, dt_factor=dt_factor)
        dt_offset = None
        if self.config.kind == "both":
            dt_offset, out = out.split([self.d_inner, 3 * self.d_model], dim=-1)
        scale, shift, gate = out.chunk(3, dim=-1)
        return BlockCondition(dt_offset, dt_factor, scale, shift, gate)

    def readout(self, outputs: Tensor, code: Tensor) -> Tensor:
        """The stack's normalised outputs (B, L, d) as the decoder is to see them, with `film_readout`: scaled and shifted."""
        if self.config.kind != "film_readout":
            return outputs
        scale, shift = self.heads[-1](code).chunk(2, dim=-1)
        return outputs * (1 + scale) + shift

    @staticmethod
    def keep(code: Tensor, positions: Tensor) -> Tensor:
        """The code at the steps that a layer kept; a code of T alone holds for every step."""
        return code if code.shape[1] == 1 else gather_steps(code, positions)
