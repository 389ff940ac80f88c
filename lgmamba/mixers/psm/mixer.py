"""A layer in the form of Transformer-PSM (Yau et al. 2025, arXiv:2506.10918, prefix-scannable models; from secondary sources).

    chunks X_0, X_1, ... of c steps each
    Agg(A, B)    the last c rows of a block with attention in both directions over [A | B]
    Inf(P, X)    the last c rows of a causal block over [P | X]
    out of chunk n = Inf(P_n, X_n) - X_n,   P_n the sum of X_0 .. X_(n-1) by Agg, P_0 learned

Agg is not associative, so that the order of sums is fixed, that of Blelloch's scan: in pairs, pairs of pairs and so on, where 2^l
chunks from a multiple of 2^l on have one sum, a root; P_n goes over the roots of n's binary digits, the largest first. Whole sequences
are read along this tree, level by level; pieces by a counter, whose roots merge as digits carry over, and of which there are at
most log2(n + 1). Both take the same sums in the same order.

A block is attention and SwiGLU in turn, each after a norm and added to its input, with rotary positions within its 2 c rows; what it
is given are the steps' tokens. In the paper both modules are transformers of several layers, and the whole model: a model of one such
layer is the nearest to it, and what stands around it here is that of every mixer. The state are roots, and the steps of the chunk
that is not full. Glossary: `lgmamba.mixers`; c steps of a chunk, R roots.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Call, Mixer, State
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.norm import RMSNorm
from lgmamba.tensors import constant

BASE = 10000.0


@dataclass(frozen=True, kw_only=True)
class PsmCall(Call):
    """u: (B, L, d) tokens."""

    PER_STEP: ClassVar[tuple[str, ...]] = ("u",)
    LINEAR: ClassVar[bool] = False

    u: Tensor

    @property
    def like(self) -> Tensor:
        return self.u

    def states(self) -> Tensor:
        return self.u.new_zeros(*self.u.shape, 0)


class Pair(nn.Module):
    """A transformer block over [first | second], (..., c, d) each -> (..., c, d), its rows at the second."""

    def __init__(self, config: ModelConfig, causal: bool):
        super().__init__()
        mixer, d = config.mixer, config.d_model
        self.heads, self.causal = mixer.heads, causal
        self.norm, self.norm_mlp = RMSNorm(d, eps=1e-5), RMSNorm(d, eps=1e-5)
        self.qkv, self.out = nn.Linear(d, 3 * mixer.width, bias=False), nn.Linear(mixer.width, d, bias=False)
        self.mlp_in, self.mlp_out = nn.Linear(d, 2 * mixer.mlp, bias=False), nn.Linear(mixer.mlp, d, bias=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        c = second.shape[-2]
        q, k, v = self.qkv(self.norm(torch.cat([first, second], dim=-2))).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = (x.transpose(-3, -2) for x in (q, k, v))  # (..., H, 2 c, width / H)
        q, k = self._turned(q)[..., c:, :], self._turned(k)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if self.causal:
            later = torch.ones(c, 2 * c, dtype=torch.bool, device=q.device).triu(c + 1)
            scores = scores.masked_fill(later, -torch.inf)
        x = second + self.out((scores.softmax(dim=-1) @ v).transpose(-3, -2).flatten(-2))
        gate, value = self.mlp_in(self.norm_mlp(x)).chunk(2, dim=-1)
        return x + self.mlp_out(F.silu(gate) * value)

    @staticmethod
    def _turned(v: Tensor) -> Tensor:
        """Rotary positions 0 .. 2 c - 1: (..., 2 c, width) -> the same."""
        width, wide = v.shape[-1], torch.promote_types(v.dtype, torch.float32)
        speed = BASE ** (-torch.arange(0, width, 2, device=v.device, dtype=wide) / width)
        angles = (torch.arange(v.shape[-2], device=v.device)[:, None] * speed).to(v.dtype)
        even, odd, cos, sin = v[..., ::2], v[..., 1::2], angles.cos(), angles.sin()
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class PsmMixer(Mixer):
    """Aggregator and inference block.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    GROWS = True

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.first = nn.Parameter(0.02 * torch.randn(config.mixer.chunk, config.d_model))
        self.aggregate, self.infer = Pair(config, causal=False), Pair(config, causal=True)
        scale_by_depth(config.n_layer, self.infer.out.weight, self.infer.mlp_out.weight)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Roots, largest first, how many times each was doubled, and steps of the chunk that is not full: none at the start."""
        d = self.shape[0]
        return (0, self.config.chunk, d), (0,), (0, d)

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """Along the tree, from the start of a sequence."""
        if state is not None:
            return super().fast(u, state, t0, dt_offset, want_state)
        c, (B, L, _) = self.config.chunk, u.shape
        full, chunks = L // c, F.pad(u, (0, 0, 0, -L % c)).unflatten(1, (-1, c))
        sums = [chunks[:, :full]]  # by level: of 2^l chunks each
        while sums[-1].shape[1] > 1:
            pairs = sums[-1].shape[1] // 2
            sums.append(self.aggregate(sums[-1][:, : 2 * pairs : 2], sums[-1][:, 1 : 2 * pairs : 2]))
        before: dict[int, Tensor] = {0: self.first.to(u.dtype).expand(B, -1, -1)}  # n -> P_n
        for level in range(len(sums) - 1, -1, -1):
            size = 1 << level
            ends = range(size, full + 1, 2 * size)  # those n whose last root is of this level
            if len(ends):
                last = sums[level][:, 0 : 2 * len(ends) : 2]
                before[ends[0]] = last[:, 0]
                if len(ends) > 1:
                    older = torch.stack([before[n - size] for n in ends[1:]], dim=1)
                    before |= dict(zip(ends[1:], self.aggregate(older, last[:, 1:]).unbind(1), strict=True))
        prefixes = torch.stack([before[n] for n in range(chunks.shape[1])], dim=1)
        out = (self.infer(prefixes, chunks) - chunks).flatten(1, 2)[:, :L]
        if not want_state:
            return out, None
        digits = [level for level in range(len(sums) - 1, -1, -1) if full >> level & 1]
        roots = [sums[level][:, (full >> level) - 1] for level in digits]
        return out, State(
            u.new_zeros(B, self.shape[0], 0, dtype=self._wide), self._held(roots, digits, u[:, full * c :])
        )

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.first.dtype, torch.float32)

    def _held(self, roots: list[Tensor], levels: list[int], tail: Tensor) -> tuple[Tensor, ...]:
        B, d, c = len(tail), self.shape[0], self.config.chunk
        stacked = torch.stack(roots, dim=1) if roots else tail.new_zeros(B, 0, c, d)
        doubled = constant(levels, tail.device, self._wide).expand(B, -1)
        return stacked.to(self._wide), doubled, tail.to(self._wide)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[PsmCall, tuple[()]]:
        return PsmCall(layer=self.layer, t0=t0, target_length=target_length, u=u, **self.before(state)), ()

    def recur(self, call: PsmCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """By the counter, chunk after chunk."""
        u, c = call.u, self.config.chunk
        roots, levels, tail = [], [], u[:, :0]
        if call.held:
            roots, levels, tail = (
                list(call.held[0].to(u.dtype).unbind(1)),
                call.held[1][0].long().tolist(),
                call.held[2],
            )
        folded: list[Tensor] = []  # sums of the first roots, one after the other
        for root in roots:
            folded.append(self.aggregate(folded[-1], root) if folded else root)
        x, found = torch.cat([tail.to(u.dtype), u], dim=1), []
        for chunk in x.split(c, dim=1):
            prefix = folded[-1] if folded else self.first.to(u.dtype).expand(len(u), -1, -1)
            padded = F.pad(chunk, (0, 0, 0, c - chunk.shape[1]))
            found.append((self.infer(prefix, padded) - padded)[:, : chunk.shape[1]])
            if chunk.shape[1] < c:
                break
            level = 0
            while levels and levels[-1] == level:
                chunk = self.aggregate(roots.pop(), chunk)
                folded.pop(), levels.pop()
                level += 1
            folded.append(self.aggregate(folded[-1], chunk) if folded else chunk)
            roots.append(chunk)
            levels.append(level)
        held = self._held(roots, levels, x[:, x.shape[1] // c * c :])
        return (
            torch.cat(found, dim=1)[:, tail.shape[1] :],
            u.new_zeros(len(u), self.shape[0], 0, dtype=self._wide),
            held,
        )

    def finish(self, y: Tensor) -> Tensor:
        return y
