"""Linear recurrences one step after the other, in the words of `lgmamba/mixers/scans.py`, and inputs of every kind."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

B, L, H, P, N = 2, 70, 3, 4, 5
Drawn = dict[str, Tensor]


def drawn(L: int = L, seed: int = 0, P: int = P, N: int = N, H: int = H) -> Drawn:
    """Decays, writes, keys, queries, values and states of every kind, float64."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    found = {"log_a": -F.softplus(normal(B, L, H) - 2), "log_keys": -F.softplus(normal(B, L, H, N) - 2)}
    found |= {"b": 2 * torch.sigmoid(normal(B, L, H)), "k": F.normalize(normal(B, L, H, N), dim=-1)}
    found["e"] = found["b"][..., None] / 2 * found["k"]
    return found | {"q": normal(B, L, H, N), "v": normal(B, L, H, P), "h0": normal(B, H, P, N)}


@dataclass(frozen=True)
class Recurrence:
    """One of `scans.py`.

    Attributes:
        step: what is drawn, S (B, H, P, N) and t -> the state after step t.
        given: what is drawn -> arguments of the parallel form, without the state before.
    """

    step: Callable[[Drawn, Tensor, int], Tensor]
    given: Callable[[Drawn], tuple[Tensor, ...]]

    def __call__(self, d: Drawn, h0: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs and last state, one step after the other."""
        S = torch.zeros_like(d["h0"]) if h0 is None else h0
        ys = []
        for t in range(d["v"].shape[1]):
            S = self.step(d, S, t)
            ys.append(torch.einsum("bhpn,bhn->bhp", S, d["q"][:, t]))
        return torch.stack(ys, dim=1), S


def ssd(d: Drawn, S: Tensor, t: int) -> Tensor:
    return d["log_a"][:, t, :, None, None].exp() * S + d["v"][:, t, ..., None] * d["k"][:, t, :, None]


def gla(d: Drawn, S: Tensor, t: int) -> Tensor:
    return d["log_keys"][:, t, :, None].exp() * S + d["v"][:, t, ..., None] * d["k"][:, t, :, None]


def delta(d: Drawn, S: Tensor, t: int) -> Tensor:
    k, b = d["k"][:, t, :, None], d["b"][:, t, :, None, None]
    return d["log_a"][:, t, :, None, None].exp() * (S - b * (S @ k.mT) @ k) + b * d["v"][:, t, ..., None] @ k


def dplr(d: Drawn, S: Tensor, t: int) -> Tensor:
    """With a key that is removed and one that is written, of which one is not the other."""
    r, e = d["k"][:, t, :, None], d["e"][:, t, :, None]
    kept = S * d["log_keys"][:, t, :, None].exp() - (S @ r.mT) @ e
    return kept + d["v"][:, t, ..., None] @ d["q"].flip(1)[:, t, :, None]


RECURRENCES = {
    "ssd_scan": Recurrence(ssd, lambda d: (d["log_a"], d["k"], d["q"], d["v"])),
    "gla_scan": Recurrence(gla, lambda d: (d["log_keys"], d["k"], d["q"], d["v"])),
    "delta_scan": Recurrence(delta, lambda d: (d["log_a"], d["b"], d["k"], d["q"], d["v"])),
    "dplr_scan": Recurrence(dplr, lambda d: (d["log_keys"], d["k"], d["e"], d["q"].flip(1), d["q"], d["v"])),
}
"""Name of the function of `scans.py` -> its definition."""
