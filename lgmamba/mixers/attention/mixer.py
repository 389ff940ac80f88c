"""Causal softmax attention (Vaswani et al. 2017, arXiv:1706.03762, equation 1) beside a SwiGLU of the same input.

    out = W_o softmax(Q K^T / sqrt(d / H) + bias) V + W_3 (SiLU(W_1 u) W_2 u)

Both read the block's normalised input, as in PaLM (arXiv:2204.02311, section 2), so that a layer is one mixer. Positions are of the
step, counted from 1 at the first patch:

    absolute   a learned table, added to the input of the first layer, and to the residual stream with its output
    sinusoid   the same with sines (section 3.5)
    alibi      bias -2^(-8 h / H) (t - j) for head h (Press et al. 2022, arXiv:2108.12409, section 3)
    rope       queries and keys are rotated by the angles t 10000^(-2 i / (d / H)) (Su et al. 2021, arXiv:2104.09864, eq. 34)
    nope       none (Kazemnejad et al. 2023, arXiv:2305.19466)

Two verbs are analogues, since there is no memory that is written and forgotten:

    read       g_t on the products of query t with all keys, before any bias, so that 1 / g_t is the temperature: scaled-log attention
               (Chiang & Cholak 2022, arXiv:2202.12172) is g_t = ln t / ln L0 beyond L0, the remedy `schedule` of form `temperature`
    score      s_j = sum over t >= j of the weight that step t gives to step j, mean over heads (accumulated attention, as in H2O, Zhang et
               al. 2023, arXiv:2306.14048). It hangs on steps after j, so that it says which steps of a whole sequence go on (`keep`:
               DeciMamba in prefix mode), and is refused wherever it must be known when step j is read; masked steps give and receive none

What goes on from piece to piece are keys and values of all steps, a state that grows; with `local` a step looks at the last so many
steps, counted by their numbers whatever is dropped between them, and as many go on, at the start closed ones. Glossary: `lgmamba.mixers`; H heads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Factor, Mixer, State
from lgmamba.mixers.growing import GrowingCall

BASE = 10000.0
ROWS = 256
"""Queries that look at a time: masks are (B, H, ROWS, steps) at most."""
INIT = 0.02
"""Standard deviation of the weights at initialisation, as in GPT-2."""


@dataclass(frozen=True, kw_only=True)
class AttentionCall(GrowingCall):
    """Queries, keys and values of one layer, and what may be looked at.

    Attributes:
        q, k, v: (B, L, d), before they are rotated.
        z: (B, L, d) what stands beside the attention.
        position: (B, L) of each step, float.
        gain: (B, L) factor on the products of each query with keys.
        received: what a call is looked at, see `score`.
        u: (B, L, d) input of a layer that adds positions to it, else (B, L, 0).
        projected: what a layer that adds positions makes of u and positions: q, k, v and z; None of others.
        change: function of the slopes of alibi, (heads, 1, 1), or None.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("q", "k", "v", "z", "position", "gain", "u", "index", "open")
    q: Tensor
    k: Tensor
    v: Tensor
    z: Tensor
    position: Tensor
    gain: Tensor
    u: Tensor
    received: Callable[["AttentionCall"], Tensor]
    projected: Callable[[Tensor, Tensor], dict[str, Tensor]] | None = None
    change: Callable[[Tensor], Tensor] | None = None

    def decay(self, s: Factor | Callable[[Tensor], Tensor]) -> Self:
        """Of alibi alone: with the distance x a step is looked at exp(-slope x) as much as one that is as like, a rate by distance."""
        f = s if callable(s) else lambda slopes: slopes * (s.to(slopes) if isinstance(s, Tensor) else s)
        g = self.change
        return replace(self, change=f if g is None else lambda slopes: f(g(slopes)))

    def slow(self, s: Factor) -> Self:
        if isinstance(s, Tensor):
            s = s.to(self.position).expand(*self.shape, -1)[..., 0] if s.ndim else s.to(self.position)
        slowed = replace(self, position=self.position * s)
        return slowed if self.projected is None else replace(slowed, **self.projected(self.u, slowed.position))

    def read(self, g: Tensor) -> Self:
        """g broadcasts to (B, L, 1)."""
        return replace(self, gain=self.gain * g.to(self.gain).expand(*self.shape, 1)[..., 0])

    def score(self) -> Tensor:
        """Attention that each step receives from those of the piece, (B, L, 1)."""
        return self.received(self)


class AttentionMixer(Mixer):
    """Attention and SwiGLU side by side.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer; positions that are added are so in layer 0.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.GROWS = config.mixer.local is None
        mixer, d = config.mixer, config.d_model
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out_proj = nn.Linear(d, d, bias=False)
        self.mlp_in = nn.Linear(d, 2 * mixer.mlp, bias=False) if mixer.mlp else None
        self.mlp_out = nn.Linear(mixer.mlp, d, bias=False) if mixer.mlp else None
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.normal_(0, INIT / (2 * config.n_layer) ** 0.5 if "out" in name else INIT)
        self.local = mixer.local
        self.table = None
        if mixer.position == "absolute" and layer == 0:
            self.table = nn.Parameter(INIT * torch.randn(mixer.rows, d))

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Keys, values, positions, numbers and openness of the steps before: none at the start, or closed ones of a local layer."""
        d, before = self.shape[0], 0 if self.local is None else self.local - 1
        return (before, d), (before, d), (before,), (before,), (before,)

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """Without a mask where nothing stands before the piece."""
        call, _ = self.prepare(u, state, t0, None, None)
        if state is not None or self.config.position == "alibi" or self.local is not None:
            y, h, held = self.recur(call)
        else:
            q, k, v = self._heads(call.q, call.position), self._heads(call.k, call.position), self._heads(call.v)
            y = self._beside(F.scaled_dot_product_attention(q, k, v, is_causal=True), call)
            h, held = call.memory(), self._held(call)
        return self.finish(y), State(h, held) if want_state else None

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[AttentionCall, tuple[()]]:
        B, L, _ = u.shape
        wide = torch.promote_types(self.qkv.weight.dtype, torch.float32)
        index = torch.arange(t0 + 1, t0 + L + 1, device=u.device, dtype=wide)
        adds = self.layer == 0 and self.config.position in ("absolute", "sinusoid")
        made = self._projected(u, index if adds else None)
        index = index.expand(B, L)
        made |= {"position": index, "index": index, "u": u if adds else u[..., :0]}
        made |= {"gain": torch.ones_like(index), "open": torch.ones_like(index)}
        more = {"received": self._received, "reach": self.local, "projected": self._projected if adds else None}
        given = {"layer": self.layer, "t0": t0, "target_length": target_length, **self.before(state)}
        return AttentionCall(**given, **made, **more), ()

    def _projected(self, u: Tensor, position: Tensor | None) -> dict[str, Tensor]:
        """Queries, keys, values and what stands beside, of an input with positions (..., L) or none added to it."""
        added = None if position is None else self._added(position)
        u = u if added is None else u + added
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        z = torch.zeros_like(u) if added is None else added.expand_as(u)
        if self.mlp_in is not None:
            gate, value = self.mlp_in(u).chunk(2, dim=-1)
            z = z + self.mlp_out(F.silu(gate) * value)
        return {"q": q, "k": k, "v": v, "z": z}

    def _added(self, position: Tensor) -> Tensor:
        """(..., L, d) that the first layer adds to its input."""
        if self.table is not None:
            at = position.clamp(max=len(self.table) - 1)
            row, share = at.long(), at.frac()[..., None].to(self.table.dtype)
            return torch.lerp(self.table[row], self.table[(row + 1).clamp(max=len(self.table) - 1)], share)
        d = self.shape[0]
        angles = position[..., None] * BASE ** (
            -torch.arange(0, d, 2, device=position.device, dtype=position.dtype) / d
        )
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :d].to(self.qkv.weight.dtype)

    def _heads(self, v: Tensor, position: Tensor | None = None) -> Tensor:
        """(B, L, d) -> (B, H, L, d / H), rotated where positions are given and the layer rotates."""
        v = v.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)
        if position is None or self.config.position != "rope":
            return v
        width = v.shape[-1]
        speed = BASE ** (-torch.arange(0, width, 2, device=v.device, dtype=position.dtype) / width)
        angles = position[:, None, :, None] * speed  # (B, 1, L, width / 2)
        cos, sin = angles.cos(), angles.sin()
        even, odd = v[..., ::2].to(cos.dtype), v[..., 1::2].to(cos.dtype)
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(v.dtype)

    def recur(self, call: AttentionCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Attention before its out-projection and what stands beside it, (B, L, 2 d); no memory; and what is held."""
        held = self._held(call)
        found = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=seen) for _, q, k, v, seen in self._looks(call, held)
        ]
        if self.local is not None:
            held = tuple(v[:, v.shape[1] - self.local + 1 :] for v in held)
        return self._beside(torch.cat(found, dim=2), call), call.memory(), held

    def _looks(
        self, call: AttentionCall, held: tuple[Tensor, ...]
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
        """Queries that look at a time: which of the piece, queries, keys, values, and what is seen, bool or as a bias of logits."""
        keys, values, position, index, is_open = held
        past = keys.shape[1] - call.shape[1]
        k, v = self._heads(keys, position), self._heads(values)
        q = self._heads((call.q * call.gain[..., None]).to(call.q.dtype), call.position)
        for start in range(0, call.shape[1], ROWS):
            rows = slice(start, start + ROWS)
            stop = past + min(start + ROWS, call.shape[1])
            mine = torch.arange(past + start, stop, device=q.device)[:, None]
            theirs = torch.arange(stop, device=q.device)
            seen = (theirs < mine) & (is_open[:, None, :stop] > 0)
            if call.reach is not None:
                seen = seen & (call.index[:, rows, None] - index[:, None, :stop] < call.reach)
            seen = (seen | (theirs == mine))[:, None]  # (B, 1, rows, stop): a step always sees itself
            bias = seen
            if self.config.position == "alibi":
                away = (call.position[:, rows, None] - position[:, None, :stop])[:, None]
                slopes = self._slopes(away)
                slopes = slopes if call.change is None else call.change(slopes)
                bias = (-slopes * away).masked_fill(~seen, -torch.inf).to(q.dtype)
            yield rows, q[:, :, rows], k[:, :, :stop], v[:, :, :stop], bias

    def _received(self, call: AttentionCall) -> Tensor:
        """See `AttentionCall.score`."""
        held = self._held(call)
        total = call.like.new_zeros(held[0].shape[:2])
        for rows, q, k, _, seen in self._looks(call, held):
            logits = (q @ k.mT).to(call.like) / q.shape[-1] ** 0.5
            logits = logits.masked_fill(~seen, -torch.inf) if seen.dtype == torch.bool else logits + seen
            looking = call.open[:, None, rows, None]
            total[:, : k.shape[2]] += (logits.softmax(-1) * looking).mean(1).sum(1)
        return total[:, total.shape[1] - call.shape[1] :, None]

    def _slopes(self, like: Tensor) -> Tensor:
        """(H, 1, 1)."""
        H = self.config.heads
        return 2.0 ** (-8 * torch.arange(1, H + 1, device=like.device, dtype=like.dtype) / H)[:, None, None]

    def _held(self, call: AttentionCall) -> tuple[Tensor, ...]:
        mine = (call.k, call.v, call.position, call.index, call.open)
        if self.local is not None and not call.held:
            closed = zip(mine, self.holds(), strict=True)
            call = replace(call, held=tuple(v.new_zeros(len(v), *shape) for v, shape in closed))
        return call.kept(*mine)

    @staticmethod
    def _beside(y: Tensor, call: AttentionCall) -> Tensor:
        return torch.cat([y.transpose(1, 2).flatten(2), call.z.to(y.dtype)], dim=-1)

    def finish(self, y: Tensor) -> Tensor:
        y, z = y.chunk(2, dim=-1)
        return self.out_proj(y) + z
