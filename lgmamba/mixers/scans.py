"""Parallel forms of linear recurrences in plain torch, on any device and under `torch.vmap`. None divides by a decay.

    diag_scan        h_t = a_t h_(t-1) + b_t                                 every number on its own
    pd_scan          h_t = P_t diag(d_t) h_(t-1) + b_t                       P_t moves every number to some place
    convolve         y_t = sum_(j <= t) kernel_(t-j) x_j                     the same where no step differs from another
    ssd_scan         S_t = a_t S_(t-1) + v_t k_t^T                           a number a_t for each head
    gla_scan         S_t = S_(t-1) diag(a_t) + v_t k_t^T                     a number for each key channel
    delta_scan       S_t = a_t S_(t-1) (I - b_t k_t k_t^T) + b_t v_t k_t^T   content is overwritten
    dplr_scan        S_t = S_(t-1) (diag(a_t) - r_t e_t^T) + v_t k_t^T       content of one key is removed, and of another written

The last four cut the steps into chunks: inside one, products of matrices; from one to the next, the state. Their outputs are
y_t = S_t q_t. Sources: Yang et al. 2024 (arXiv:2312.06635) section 4 for chunks, Dao & Gu 2024 (arXiv:2405.21060) section 6 for
the scalar decay, Yang et al. 2024 (arXiv:2412.06464) section 3.3 for the delta rule. Each mixer's step by step form is the other
implementation that tests hold against them.

Glossary: `lgmamba.mixers`; H heads, G groups of heads that share keys (1 or H), P width of values, N of keys, C steps of a chunk.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 32
GLA_CHUNK = 16
MOST_DECAY = 60.0 / GLA_CHUNK
"""Largest -ln a of one step in `gla_scan`, whose chunks multiply by both exp(s) and exp(-s): the second stays in float32."""


def widely(scan: Callable[..., Any]) -> Callable[..., Any]:
    """In float32 at least, whatever autocast would do: states are sums of many steps."""

    @wraps(scan)
    def wide(first: Tensor, *more: Tensor | None) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return scan(
                *(
                    v if v is None or v.dtype == torch.int64 else v.to(torch.promote_types(v.dtype, torch.float32))
                    for v in (first, *more)
                )
            )

    return wide


@widely
def diag_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """h_t = a_t h_(t-1) + b_t, by combining neighbours: work O(L), depth O(log L).

    Args:
        a: broadcast to b; real or complex.
        b: (B, L, ...).
        h0: (B, ...), zeros by default.
    Returns:
        every h_t, (B, L, ...).
    """
    return _combined(a, _after(a, b, h0, torch.mul), torch.mul)


Times = Callable[[Tensor, Tensor], Tensor]
"""How what there is, or a transition, is followed by a transition: element by element, or by matrices from the right."""


def _after(a: Tensor, b: Tensor, h0: Tensor | None, times: Times) -> Tensor:
    """b with what is left of h0 after the first step."""
    return b if h0 is None else torch.cat([times(h0[:, None], a[:, :1]) + b[:, :1], b[:, 1:]], dim=1)


def _combined(a: Tensor, b: Tensor, times: Times) -> Tensor:
    return _scanned((a,), b, lambda h, on: times(h, on[0]), lambda first, second: (times(first[0], second[0]),))


On = tuple[Tensor, ...]
"""Transitions of some steps, in whatever tensors they are made of; (B, L, ...) each."""


def _scanned(on: On, b: Tensor, goes: Callable[[Tensor, On], Tensor], then: Callable[[On, On], On]) -> Tensor:
    """States of which each is the one before, gone over its step, plus b.

    Args:
        on: the transitions; that of the first step is not used.
        goes: a state over a step.
        then: one transition after another, as one.
    """
    L = b.shape[1]
    if L == 1:
        return b
    pairs = L // 2
    first, second, later = (
        tuple(v[:, at] for v in on) for at in (slice(0, 2 * pairs, 2), slice(1, None, 2), slice(2, None, 2))
    )
    odd = _scanned(then(first, second), goes(b[:, : 2 * pairs : 2], second) + b[:, 1::2], goes, then)
    rest = goes(odd[:, : (L - 1) // 2], later) + b[:, 2::2]  # odd: h at steps 1, 3, 5, ...
    even = torch.cat([b[:, :1], rest], dim=1)
    woven = torch.stack([even[:, :pairs], odd], dim=2).flatten(1, 2)
    return woven if L == 2 * pairs else torch.cat([woven, even[:, pairs:]], dim=1)


@widely
def pd_scan(place: Tensor, d: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h_t[i] = sum of d_t[j] h_(t-1)[j] over all j with place_t[j] = i, plus b_t[i]; by combining neighbours.

    Args:
        place: (B, L, N) where each number goes, 0 .. N - 1.
        d, b: (B, L, N), complex.
        h0: (B, N).
    Returns:
        every h_t, (B, L, N).
    Reference: Terzic et al. 2025 (arXiv:2509.22284), section 4: products of such transitions are such transitions.
    """
    first = _moved(h0[:, None], (place[:, :1], d[:, :1])) + b[:, :1]
    return _scanned((place, d), torch.cat([first, b[:, 1:]], dim=1), _moved, _moved_twice)


def _moved(h: Tensor, on: On) -> Tensor:
    place, d = on
    return torch.zeros_like(h).scatter_add(-1, place, d * h)


def _moved_twice(first: On, second: On) -> On:
    return second[0].gather(-1, first[0]), first[1] * second[1].gather(-1, first[0])


@widely
def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution over the steps by FFT: x (B, L, ...), kernel (L, ...) by lag, both real or both complex -> (B, L, ...)."""
    L = x.shape[1]
    n = 1 << (2 * L - 1).bit_length()  # a power of two, for which FFTs are fast on every device
    if x.is_complex():
        return torch.fft.ifft(torch.fft.fft(x, n, dim=1) * torch.fft.fft(kernel, n, dim=0), n, dim=1)[:, :L]
    return torch.fft.irfft(torch.fft.rfft(x, n, dim=1) * torch.fft.rfft(kernel, n, dim=0), n, dim=1)[:, :L]


@widely
def ssd_scan(log_a: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One decay a head.

    Args:
        log_a: (B, L, H), <= 0.
        k, q: (B, L, G, N).
        v: (B, L, H, P).
        h0: (B, H, P, N), zeros by default.
    Returns:
        y (B, L, H, P) and the last state (B, H, P, N).
    """
    L = v.shape[1]
    log_a, k, q, v = (_chunks(x, CHUNK) for x in (log_a[..., None], k, q, v))  # (B, H or G, n, C, .)
    s = log_a[..., 0].cumsum(-1)  # (B, H, n, C)
    inside = (q @ k.mT) * _decays(s)
    to_end = torch.exp(s[..., -1:] - s)
    wrote = (v * to_end[..., None]).mT @ k  # (B, H, n, P, N)
    before, last = _through(torch.exp(s[..., -1])[..., None, None], wrote, h0)
    y = inside @ v + torch.exp(s)[..., None] * (q @ before.mT)
    return _steps(y, L), last


@widely
def gla_scan(log_a: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One decay a key channel; arguments and result as of `ssd_scan` with G = H.

    Args:
        log_a: (B, L, H, N), within -`MOST_DECAY` and 0.
    """
    L = v.shape[1]
    log_a, k, q, v = (_chunks(x, GLA_CHUNK) for x in (log_a, k, q, v))
    s = log_a.cumsum(-2)  # (B, H, n, C, N)
    read = q * torch.exp(s)
    inside = (read @ (k * torch.exp(-s)).mT).tril()
    wrote = v.mT @ (k * torch.exp(s[..., -1:, :] - s))
    before, last = _through(torch.exp(s[..., -1:, :]), wrote, h0)
    return _steps(inside @ v + read @ before.mT, L), last


@widely
def delta_scan(
    log_a: Tensor, b: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The gated delta rule; arguments and result as of `ssd_scan` with G = H.

    With s the summed ln a of a chunk, S its state before, and the rows u_t of U what is written for the keys,

        S_t = exp(s_t) S + sum_(j <= t) exp(s_t - s_j) u_j k_j^T,    u_t = b_t (v_t - a_t S_(t-1) k_t)

    so that (I + tril(b_t exp(s_t - s_j) k_t.k_j, -1)) U = b V - b exp(s) K S^T: one triangular system for all steps of a chunk,
    which is solved for every chunk at once, before the states are known. What a chunk does to the state is then a matrix (N, N), and
    these are combined as in `diag_scan`.

    Args:
        b: (B, L, H), strength of a write; 0 for none.
    """
    L = v.shape[1]
    log_a, b, k, q, v = (_chunks(x, CHUNK) for x in (log_a[..., None], b[..., None], k, q, v))
    s = log_a[..., 0].cumsum(-1)
    decays, grown = _decays(s), torch.exp(s)[..., None]
    system = (b * decays * (k @ k.mT)).tril(-1)
    known = torch.cat([b * v, b * grown * k], dim=-1)
    solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    own, of_state = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    left = torch.exp(s[..., -1:] - s)[..., None] * k  # what of a write is left at the end of its chunk
    same = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    over_chunk = grown[..., -1:, :] * same - of_state.mT @ left  # S goes over a chunk to S over_chunk + own^T left
    before, last = _through(over_chunk, own.mT @ left, h0, torch.matmul)
    u = own - of_state @ before.mT
    y = (grown * q) @ before.mT + (decays * (q @ k.mT)) @ u
    return _steps(y, L), last


@widely
def dplr_scan(
    log_a: Tensor, remove: Tensor, erase: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Diagonal plus low rank; arguments and result as of `gla_scan`.

    As in `delta_scan`, with u_t = -S_(t-1) r_t what is removed, by the summed ln a of a chunk.

    Args:
        remove, erase: (B, L, H, N), r and e: what is held for r is taken from e.
    """
    L = v.shape[1]
    log_a, r, e, k, q, v = (_chunks(x, GLA_CHUNK) for x in (log_a, remove, erase, k, q, v))
    s = log_a.cumsum(-2)  # (B, H, n, C, N)
    r_now, q_now = r * torch.exp(s - log_a), q * torch.exp(s)  # of the state at the start of the chunk
    e_then, k_then = e * torch.exp(-s), k * torch.exp(-s)
    system = (r_now @ e_then.mT).tril(-1)
    known = -torch.cat([(r_now @ k_then.mT).tril(-1) @ v, r_now], dim=-1)
    solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    own, of_state = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    left = torch.exp(s[..., -1:, :] - s)  # what of a write is left at the end of its chunk
    over_chunk = torch.diag_embed(torch.exp(s[..., -1, :])) + of_state.mT @ (e * left)
    before, last = _through(over_chunk, v.mT @ (k * left) + own.mT @ (e * left), h0, torch.matmul)
    u = own + of_state @ before.mT
    y = q_now @ before.mT + (q_now @ k_then.mT).tril() @ v + (q_now @ e_then.mT).tril() @ u
    return _steps(y, L), last


def _chunks(x: Tensor, longest: int) -> Tensor:
    """(B, L, H, .) -> (B, H, n, C, .), with steps of zeros at the end, which change no state."""
    C = min(longest, x.shape[1])
    x = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % C))
    return x.unflatten(1, (-1, C)).movedim(3, 1)


def _steps(y: Tensor, L: int) -> Tensor:
    """The inverse of `_chunks`."""
    return y.movedim(1, 3).flatten(1, 2)[:, :L]


def _decays(s: Tensor) -> Tensor:
    """exp(s_t - s_j) for j <= t, else 0: (..., C) -> (..., C, C)."""
    C = s.shape[-1]
    later = torch.ones(C, C, dtype=torch.bool, device=s.device).triu(1)
    return (s[..., :, None] - s[..., None, :]).masked_fill(later, -torch.inf).exp()


def _through(a: Tensor, wrote: Tensor, h0: Tensor | None, times: Times = torch.mul) -> tuple[Tensor, Tensor]:
    """From chunk to chunk: transitions over a chunk and what it wrote, (B, H, n, P, N) -> states before each chunk, and the last."""
    start = wrote.new_zeros(wrote[:, :, 0].shape) if h0 is None else h0.to(wrote)
    a, wrote = a.movedim(2, 1), wrote.movedim(2, 1)
    after = _combined(a, _after(a, wrote, start, times), times)
    before = torch.cat([start[:, None], after[:, :-1]], dim=1)
    return before.movedim(1, 2), after[:, -1]
