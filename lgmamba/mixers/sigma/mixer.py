"""SIGMA (Liu et al. 2024, arXiv:2408.11451, and its release): one layer, without its MLP.

    x = W_in [u_1 .. u_n, query],   f = x with all but the last r items flipped
    m = (1 + g(x + dense_1 x)) Mamba(x),   m' = (1 + g(f + dense_2 f)) Mamba(f),   the same Mamba
    g(h) = W_1 SiLU(h) + W_2 sigmoid(h),   r = GRU(conv(x)),   conv over 3 items, of which one is the next
    out = W_out (W_p (alpha m + alpha' m' + beta r) + b_p)  at the query;   alpha, alpha', beta learned, 0.8, 0.1, 0.1 at the start

As theirs is asked at its last item, so is this: a query is the last item of a sequence of its own, and queries do not see each other. The
item at step t of the flipped path hangs on how many follow: with one step more all before is another sequence. So there are no outputs of
steps, and no other layer on top; steps are kept, and read anew by both paths whenever it is asked, whose states queries then share.

Not taken from the release: that the flip is of 45 of 50 items whatever is read (here of all but the last r), that a sequence is padded at
its end, which the flip brings to its start, and that the flipped path's sigmoid gate is given the other path's input. Left out: dropout, the
short convolution inside of Mamba, and the width, which is d in theirs. Without the flip: kind sigma_causal. Glossary: `lgmamba.mixers`;
Q queries, e inner width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import State, gather_steps
from lgmamba.mixers.gru.mixer import gru_step
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.keeping import Keeping
from lgmamba.mixers.mamba.mixer import MambaMixer


class SigmaMixer(Keeping):
    """Keeps steps; answers queries.

    Args:
        config: sizes, see `ModelConfig`; one layer, which is this.
        layer: 0.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        e = config.mixer.width
        self.in_proj, self.out_proj = nn.Linear(config.d_model, e, bias=False), nn.Linear(e, config.d_model, bias=False)
        self.mamba = MambaMixer(config.mixer.part(config, e), layer)
        self.conv = nn.Conv1d(e, e, 3)
        self.gru = nn.GRU(e, e, bias=False, batch_first=True)
        self.dense, self.dense_flipped, self.by_silu, self.by_sigmoid, self.projection = (
            nn.Linear(e, e) for _ in range(5)
        )
        self.weights = nn.Parameter(torch.tensor([0.8, 0.1, 0.1]))
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def answer(self, u: Tensor, state: State, last: Tensor | None = None, alone: bool = False) -> Tensor:
        seen = self.seen(state, last)
        n = seen.sum(1, keepdim=True)
        first = torch.argsort((~seen).long(), dim=1, stable=True)  # steps that are looked at, in their order
        x = gather_steps(self.in_proj(state.carry[0].to(u.dtype)), first)
        q = self.in_proj(u)
        place = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        flipped = n + 1 - self.config.unflipped  # items at the start, of n and the query
        turned = torch.where(place < flipped, flipped - 1 - place, place)
        there = (place < n)[..., None]
        found = self.weights[0] * (1 + self._gate(q + self.dense(q))) * self._scanned(x, there, q)
        found = found + self.weights[1] * (1 + self._gate(q + self.dense_flipped(q))) * self._scanned(
            gather_steps(x, turned), there, q
        )
        return self.out_proj(self.projection(found + self.weights[2] * self._recurrent(x, n, q)))

    def _gate(self, h: Tensor) -> Tensor:
        return self.by_silu(F.silu(h)) + self.by_sigmoid(torch.sigmoid(h))

    def _scanned(self, x: Tensor, there: Tensor, q: Tensor) -> Tensor:
        """Mamba's outputs at queries (B, Q, e) after items (B, T, e), of which (B, T, 1) are there."""
        Q = q.shape[1]
        call, _ = self.mamba.prepare(x, None, 0, None, None)
        _, h, _ = self.mamba.recur(call.mask(there))
        out, *_ = self.mamba(q.flatten(0, 1)[:, None], State(h.repeat_interleave(Q, dim=0)))
        return out.unflatten(0, (-1, Q))[:, :, 0]

    def _recurrent(self, x: Tensor, n: Tensor, q: Tensor) -> Tensor:
        """The GRU's outputs at queries (B, Q, e), each the item after the first n (B, 1) of x (B, T, e)."""
        with torch.autocast(x.device.type, enabled=False):
            x, q = x.to(self.conv.weight.dtype), q.to(self.conv.weight.dtype)
            hs, _ = self.gru(self._convolved(F.pad(x, (0, 0, 1, 1))))
            # Behind the items that see no query: the start, or step n - 1.
            before = gather_steps(F.pad(hs, (0, 0, 1, 0)), n - 1).expand(-1, q.shape[1], -1)
            two = gather_steps(F.pad(x, (0, 0, 1, 0)), torch.cat([n - 1, n], dim=1))[:, None]
            items = torch.cat(
                [two.expand(-1, q.shape[1], -1, -1), q[:, :, None], torch.zeros_like(q)[:, :, None]], dim=2
            )
            h = before.flatten(0, 1)
            for item in self._convolved(items.flatten(0, 1)).unbind(1):  # step n, then the query
                candidate, ln_z = gru_step(F.linear(item, self.gru.weight_ih_l0), h, self.gru.weight_hh_l0, None)
                h = ln_z.exp() * h - torch.expm1(ln_z) * candidate
        return h.unflatten(0, q.shape[:2])

    def _convolved(self, padded: Tensor) -> Tensor:
        """(B, L + 2, e) -> (B, L, e)."""
        return self.conv(padded.transpose(1, 2)).transpose(1, 2)
