"""PD-SSM (Terzic et al. 2025, arXiv:2509.22284, equations 1 to 5).

    x_t = P_t D_t x_(t-1) + B u_t                                                   x complex, (N,)
    D_t = diag(m_t exp(i phi_t)),   m = sigmoid(MLP(u)),   phi = 2 pi sigmoid(MLP(u))   MLPs with one hidden layer and GELU
    M_t = sum_k softmax(S u_t)_k M_k,   column j of P_t is 1 at the largest entry of column j of M_t, and 0 elsewhere
    out = W [Re x_t, Im x_t] + b + Dskip u_t

so that step t moves x[j] to place argmax_i M_t[i, j]. Products of such matrices are such matrices: the recurrence is a scan with
gathers and scattered sums (`pd_scan`). Backwards a column of P counts as the softmax of its column of M (straight through, their
equation 5). Here that is a second scan with the write (softmax(M_t) - softmax(M_t).detach()) D_t x_(t-1), which is zero, and whose
gradient is the softmax's; it holds B L N^2 numbers, in training alone.

The paper's columns are one-hot; the released torch code has rows. The paper normalises after the residual sum, a block here before
the mixer, as for all mixers. Glossary: `lgmamba.mixers`; N numbers, K matrices.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.paced import PacedCall, gains
from lgmamba.mixers.scans import pd_scan


@dataclass(frozen=True, kw_only=True)
class PdssmCall(PacedCall):
    """x_t = P_t exp(-change(rate_t) + i phase_t) x_(t-1) + wrote_t b_t; a step of pace 0 leaves x as it is.

    Attributes:
        u: (B, L, d) input, for its way past the memory.
        b: (B, L, N) complex, B u.
        rate, phase: (B, L, N), -ln m and phi.
        chosen: (B, L, K) shares of the dictionary's matrices.
        dictionary: (K, N, N); first: whether the state starts with 1 in its first place.
    """

    OWN: ClassVar[tuple[str, ...]] = ("u", "b", "rate", "phase", "chosen")

    u: Tensor
    b: Tensor
    rate: Tensor
    phase: Tensor
    chosen: Tensor
    dictionary: Tensor
    first: bool

    def enter(self, g: Tensor) -> Self:
        return replace(self, b=self.b * g)

    def mask(self, m: Tensor) -> Self:
        if m.shape[-1] != 1:
            raise ValueError(
                f"a step of PD-SSM mixes its channels and is masked as a whole; expected a mask (B, L, 1), got one of {m.shape[-1]} channels"
            )
        return replace(self, pace=self.pace * m)

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.changed(self.rate[..., None]))

    def states(self) -> Tensor:
        matrices = torch.einsum("blk,kij->blij", self.chosen, self.dictionary)
        reads = self.pace != 0  # (B, L, 1)
        place = torch.where(reads, matrices.argmax(dim=-2), torch.arange(matrices.shape[-1], device=reads.device))
        rate = self.changed(self.rate[..., None])[..., 0]
        d = torch.where(reads, torch.exp(torch.complex(-rate, self.phase)), torch.ones_like(self.b))
        b, before = self.pace * self.wrote * self.b, _started(self.h0, self.b[:, 0], self.first)
        if torch.is_grad_enabled():
            with torch.no_grad():
                x = pd_scan(place, d, b, before)
                moved = d * torch.cat([before[:, None], x[:, :-1]], dim=1)
            share = self.pace[..., None] * matrices.softmax(dim=-2)
            share = share - share.detach()
            b = b + torch.complex(share @ moved.real[..., None], share @ moved.imag[..., None])[..., 0]
        return pd_scan(place, d, b, before)[..., None]


def _started(h0: Tensor | None, like: Tensor, first: bool) -> Tensor:
    """The state before the piece, (B, N)."""
    if h0 is not None:
        return h0[..., 0]
    here = torch.arange(like.shape[-1], device=like.device) == 0
    return (here if first else torch.zeros_like(here)).to(like.dtype).expand_as(like)


class PdssmMixer(Mixer):
    """Networks of the transition, the scan, and a read-out.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    COMPLEX: ClassVar[bool] = True
    SURROGATE: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        mixer, N, d = config.mixer, self.shape[0], config.d_model
        self.magnitude, self.phase = (
            nn.Sequential(nn.Linear(d, mixer.hidden), nn.GELU(), nn.Linear(mixer.hidden, N)) for _ in range(2)
        )
        self.choose = nn.Linear(d, mixer.dictionary, bias=False)
        self.dictionary = nn.Parameter(torch.randn(mixer.dictionary, N, N) / N**0.5)
        self.B_real, self.B_imag = (nn.Parameter(torch.randn(N, d) / (2 * N) ** 0.5) for _ in range(2))
        self.D = nn.Parameter(torch.randn(d) / d**0.5)
        self.out_proj = nn.Linear(2 * N, d)
        scale_by_depth(config.n_layer, self.out_proj.weight, self.out_proj.bias, self.D)

    def start(self, batch: int) -> State:
        state = super().start(batch)
        return State(_started(None, state.memory[..., 0], self.config.start == "first")[..., None].clone())

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[PdssmCall, tuple[()]]:
        with torch.autocast(u.device.type, enabled=False):  # which entry is largest is not decided in half precision
            u = u.to(torch.promote_types(self.D.dtype, torch.float32))
            b = torch.complex(F.linear(u, self.B_real), F.linear(u, self.B_imag))
            rate = F.softplus(-self.magnitude(u))  # -ln sigmoid
            tensors = {"u": u, "b": b, "rate": rate, "phase": 2 * math.pi * torch.sigmoid(self.phase(u))}
            tensors |= {"chosen": self.choose(u).softmax(dim=-1), "dictionary": self.dictionary}
        tensors |= {"first": self.config.start == "first", **gains(*u.shape[:2], u)}
        return PdssmCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def recur(self, call: PdssmCall) -> tuple[Tensor, Tensor, tuple[()]]:
        """What is read of every state, its way past the memory beside it, (B, L, 2 N + d)."""
        with torch.autocast(call.u.device.type, enabled=False):
            x = call.states()
            y = call.seen * x[..., 0]
            return torch.cat([y.real, y.imag, call.u], dim=-1), x[:, -1], ()

    def finish(self, y: Tensor) -> Tensor:
        read, u = y.split([2 * self.shape[0], y.shape[-1] - 2 * self.shape[0]], dim=-1)
        return self.out_proj(read) + self.D * u
