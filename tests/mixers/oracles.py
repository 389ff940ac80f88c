"""Every mixer once more, one step after the other, in plain words: mixer and u (B, L, d) -> output (B, L, d)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.mixers.contract import Mixer

FORMS = {
    "standard": lambda x, p: F.silu(p),
    "none": lambda x, p: F.silu(x),
    "ones": lambda x, p: F.silu(sum(F.pad(x, (lag, 0))[..., : x.shape[2]] for lag in range(4))),
    "bypass": lambda x, p: F.silu(p) + x,
    "product": lambda x, p: F.silu(p) * x,
}
"""Form of Mamba-1's convolution -> what the scan is given, of x and its convolution p (B, D, L)."""


def mamba(m: Mixer, u: Tensor) -> Tensor:
    """Gu & Dao 2023, section 3.4: channels first, as in the paper."""
    L, N, R = u.shape[1], m.A_log.shape[1], m.dt_proj.in_features
    x, z = m.in_proj(u).transpose(1, 2).chunk(2, dim=1)
    x = FORMS[m.config.conv](x, m.conv1d and m.conv1d(x)[..., :L])
    projected = m.x_proj(x.transpose(1, 2))
    dt = F.softplus(m.dt_proj(projected[..., :R]))
    h, ys = torch.zeros(len(u), x.shape[1], N, dtype=u.dtype), []
    for t in range(L):
        step, Bvec, Cvec = dt[:, t, :, None], projected[:, t, None, R : R + N], projected[:, t, None, R + N :]
        h = torch.exp(step * -torch.exp(m.A_log)) * h + step * Bvec * x[:, :, t, None]
        ys.append((h * Cvec).sum(-1) + m.D * x[:, :, t])
    return m.out_proj(torch.stack(ys, dim=1) * F.silu(z.transpose(1, 2)))


def gru(m: Mixer, u: Tensor) -> Tensor:
    """torch's cell, as its documentation has it."""
    cell = torch.nn.GRUCell(u.shape[2], m.gru.hidden_size).to(u.dtype)
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in m.gru.state_dict().items()})
    h, hs = torch.zeros(len(u), m.gru.hidden_size, dtype=u.dtype), []
    for step in u.unbind(1):
        h = cell(step, h)
        hs.append(h)
    return m.out_proj(torch.stack(hs, dim=1))


def convolved(conv: torch.nn.Conv1d, x: Tensor) -> Tensor:
    """A short causal convolution: (B, L, D) -> (B, L, D)."""
    return conv(x.mT)[..., : x.shape[1]].mT


def mamba2(m: Mixer, u: Tensor) -> Tensor:
    """Dao & Gu 2024, section 7.1: head by head, each with its matrix S (P, N)."""
    (D, N), H = m.shape, len(m.D)
    z, xbc, dt = m.in_proj(u).split([D, D + 2 * N, H], dim=-1)
    xbc = F.silu(xbc if m.conv1d is None else convolved(m.conv1d, xbc))
    x, b, c = xbc.split([D, N, N], dim=-1)
    heads = []
    for h, own in enumerate(x.chunk(H, dim=-1)):
        S, ys = u.new_zeros(len(u), D // H, N), []
        for t in range(u.shape[1]):
            step = F.softplus(dt[:, t, h] + m.dt_bias[h])[:, None, None]
            rate = torch.exp(m.A_log[h]) if m.decays is None else post_rate(m, h, t + 1)
            S = torch.exp(-step * rate) * S + step * own[:, t, :, None] * b[:, t, None]
            ys.append((S @ c[:, t, :, None])[..., 0] + m.D[h] * own[:, t])
        heads.append(torch.stack(ys, dim=1))
    y = torch.cat(heads, dim=-1) * F.silu(z)
    return m.out_proj(y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * m.norm.weight)


def post_rate(m: Mixer, h: int, t: int) -> Tensor:
    """Cao 2026, definition 4.5 and theorem 4.5: rate of a head at step t."""
    logs = [m.decays.A_log_base]
    for gap in m.decays.A_log_deltas:
        logs.append(logs[-1] + F.softplus(gap))
    last, spread = len(logs) - 1, logs[-1] - logs[0]
    alpha = (last - h) / last + (logs[h] - logs[0] - h / last * spread) / math.log(m.decays.length)
    return torch.exp(logs[h]) * t ** -alpha.clamp(0, 1)


def s4d(m: Mixer, u: Tensor) -> Tensor:
    """Gu et al. 2022, section 3.2, by the recurrence."""
    x, z = m.in_proj(u).chunk(2, dim=-1)
    A, dt = torch.complex(-torch.exp(m.A_log), m.A_imag), torch.exp(m.log_dt)[:, None]
    A_bar, B_bar, C = torch.exp(dt * A), (torch.exp(dt * A) - 1) / A, torch.complex(m.C_real, m.C_imag)
    h, ys = torch.zeros_like(A), []
    for now in F.silu(x).unbind(1):
        h = A_bar * h + B_bar * now[..., None]
        ys.append(2 * (C * h).sum(-1).real + m.D * now)
    return m.out_proj(torch.stack(ys, dim=1) * F.silu(z))


def lru(m: Mixer, u: Tensor) -> Tensor:
    """Orvieto et al. 2023, appendix A: complex matrices."""
    lam = torch.exp(torch.complex(-torch.exp(m.nu), torch.exp(m.theta)))
    B, C = torch.complex(m.B_real, m.B_imag) * torch.exp(m.gamma_log)[:, None], torch.complex(m.C_real, m.C_imag)
    h, ys = torch.zeros_like(lam), []
    for now in u.unbind(1):
        h = lam * h + now.to(B.dtype) @ B.mT
        ys.append((h @ C.mT).real + m.D * now)
    value, gate = m.out_proj(F.gelu(torch.stack(ys, dim=1))).chunk(2, dim=-1)
    return value * torch.sigmoid(gate)


def rglru(m: Mixer, u: Tensor) -> Tensor:
    """De et al. 2024, equations 1 to 4: block-diagonal matrices written out."""
    x, z = m.in_proj(u).chunk(2, dim=-1)
    x = x if m.conv1d is None else convolved(m.conv1d, x)
    gate_a, gate_x = (torch.block_diag(*blocks) for blocks in m.gate_weight)
    h, ys = u.new_zeros(len(u), m.shape[0]), []
    for t, now in enumerate(x.unbind(1)):
        r, i = torch.sigmoid(now @ gate_a + m.gate_bias[0]), torch.sigmoid(now @ gate_x + m.gate_bias[1])
        a = torch.sigmoid(-m.Lam) ** (8 * r)
        whole = m.config.first == "one" and t == 0
        h = a * h + (1 if whole else (1 - a**2).sqrt()) * (i * now)
        ys.append(F.gelu(z[:, t]) * h)
    return m.out_proj(torch.stack(ys, dim=1))


def mingru(m: Mixer, u: Tensor) -> Tensor:
    """Feng et al. 2024, section 3.1."""
    h, ys = u.new_zeros(len(u), m.shape[0]), []
    for now in m.in_proj(u).unbind(1):
        z, x = now.chunk(2, dim=-1)
        z = torch.sigmoid(z)
        h = (1 - z) * h + z * torch.where(x >= 0, x + 0.5, torch.sigmoid(x))
        ys.append(m.out_proj(h))
    return torch.stack(ys, dim=1)


def lstm(m: Mixer, u: Tensor) -> Tensor:
    """torch's cell, as its documentation has it."""
    cell = torch.nn.LSTMCell(u.shape[2], m.lstm.hidden_size).to(u.dtype)
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in m.lstm.state_dict().items()})
    state, hs = None, []
    for step in u.unbind(1):
        state = cell(step, state)
        hs.append(state[0])
    return m.out_proj(torch.stack(hs, dim=1))


def attention(m: Mixer, u: Tensor, pace: float = 1.0, gain: Tensor | None = None) -> Tensor:
    """Its parts, in order."""
    added = attention_positions(m, u, pace)
    v = m.qkv(u + added).chunk(3, dim=-1)[2].unflatten(-1, (m.config.heads, -1))
    looked = torch.einsum("bhtj,bjhw->bthw", attention_weights(m, u, pace, gain), v)
    y = m.out_proj(looked.flatten(2)) + added
    if m.mlp_in is not None:
        gate, value = m.mlp_in(u + added).chunk(2, dim=-1)
        y = y + m.mlp_out(F.silu(gate) * value)
    return y


def attention_positions(m: Mixer, u: Tensor, pace: float) -> Tensor:
    """What is added to u: step t has the position pace t, between two rows of a table on the line between them."""
    d, L, position = u.shape[2], u.shape[1], m.config.position
    added = torch.zeros(L, d, dtype=u.dtype)
    if position == "absolute":
        table = torch.cat([m.table, m.table[-1:]])
        at = [min(pace * t, len(m.table) - 1) for t in range(1, L + 1)]
        added = torch.stack([(1 - p % 1) * table[int(p)] + p % 1 * table[int(p) + 1] for p in at])
    elif position == "sinusoid":
        for t in range(L):
            for i in range(d):
                angle = torch.tensor(pace * (t + 1) / 10000 ** ((i - i % 2) / d), dtype=u.dtype)
                added[t, i] = angle.cos() if i % 2 else angle.sin()
    return added


def attention_weights(m: Mixer, u: Tensor, pace: float = 1.0, gain: Tensor | None = None) -> Tensor:
    """Of every step j in what step t looks at, (B, H, t, j): one query after the other, head by head; gain (L,) of queries."""
    H, d, L, position = m.config.heads, u.shape[2], u.shape[1], m.config.position
    projected = m.qkv(u + attention_positions(m, u, pace)).chunk(3, dim=-1)
    q, k, _ = (part.unflatten(-1, (H, -1)) for part in projected)
    if position == "rope":
        q, k = (torch.stack([rotary(part[:, t], pace * (t + 1)) for t in range(L)], dim=1) for part in (q, k))
    weights = u.new_zeros(len(u), H, L, L)
    for t in range(L):
        for h in range(H):
            seen = slice(max(0, t + 1 - (m.config.local or L)), t + 1)
            scores = (k[:, seen, h] @ q[:, t, h, :, None])[..., 0] / (d // H) ** 0.5
            scores = scores if gain is None else scores * gain[t]
            if position == "alibi":
                scores = scores - pace * 2.0 ** (-8 * (h + 1) / H) * torch.arange(t, -1, -1, dtype=u.dtype)
            weights[:, h, t, seen] = scores.softmax(-1)
    return weights


def rotary(v: Tensor, t: float) -> Tensor:
    """v (B, H, width) as complex numbers of neighbouring entries, turned by t 10000^(-2 i / width)."""
    width = v.shape[-1]
    angles = t * 10000.0 ** (-torch.arange(0, width, 2, dtype=v.dtype) / width)
    turned = torch.view_as_complex(v.unflatten(-1, (-1, 2)).contiguous()) * torch.exp(1j * angles)
    return torch.view_as_real(turned).flatten(-2)


def gsm_local(m: Mixer, u: Tensor) -> Tensor:
    """Windows cut out, each step from the older of the two that it is in."""
    w, H, L = m.config.window, m.config.heads, u.shape[1]
    q, k, v = (part.unflatten(-1, (H, -1)) for part in m.qkv(u).chunk(3, dim=-1))
    attended = []
    for t in range(L):
        seen = slice(max(0, t + 1 - w), t + 1)
        bias = m.bias[:, : t + 1 - seen.start].flip(1).mT[None]  # (1, steps, H)
        weights = ((k[:, seen] * q[:, t, None]).sum(-1) / q.shape[-1] ** 0.5 + bias).softmax(1)
        attended.append(m.out((weights[..., None] * v[:, seen]).sum(1).flatten(1)))
    a = torch.stack(attended, dim=1)
    starts = [max(0, t // (w // 2) - 1) * (w // 2) for t in range(L)]
    return a + torch.stack([mamba(m.mamba, (u + a)[:, start : t + 1])[:, -1] for t, start in enumerate(starts)], dim=1)


def umamba(m: Mixer, u: Tensor) -> Tensor:
    """Every scale from its blocks, which are whole."""
    total = torch.zeros_like(u)
    for size, scale in zip(m.config.scales, m.scales, strict=True):
        blocks = [u[:, n * size : (n + 1) * size].mean(1) for n in range(u.shape[1] // size)]
        y = mamba(scale, torch.stack(blocks, dim=1))
        for t in range(size - 1, u.shape[1]):
            total[:, t] = total[:, t].clone() + y[:, (t + 1) // size - 1]
    return total


def sigma_causal(m: Mixer, u: Tensor) -> Tensor:
    """Liu et al. 2024 without the flipped path."""
    x = m.in_proj(u)
    convolved = m.conv(F.pad(x.mT, (2, 0))).mT
    cell = torch.nn.GRUCell(x.shape[2], x.shape[2], bias=False).to(u.dtype)
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in m.gru.state_dict().items()})
    h, rs = None, []
    for step in convolved.unbind(1):
        h = cell(step, h)
        rs.append(h)
    h = x + m.dense(x)
    gate = m.by_silu(h * torch.sigmoid(h)) + m.by_sigmoid(torch.sigmoid(h))
    y = mamba(m.mamba, x)
    return m.out_proj(m.projection(m.weights[0] * (y + gate * y) + m.weights[1] * torch.stack(rs, dim=1)))


def gla(m: Mixer, u: Tensor) -> Tensor:
    """Yang et al. 2024, equation 3, head by head."""
    H, N, P = m.config.heads, m.config.key, m.config.value
    q, k, v, gate = m.in_proj(u).split([H * N, H * N, H * P, H * P], dim=-1)
    alpha = torch.sigmoid(m.high(m.low(u))) ** (1 / m.config.temperature)
    heads = []
    for q1, k1, v1, alpha1 in zip(*(x.chunk(H, dim=-1) for x in (q, k, v, alpha)), strict=True):
        S, ys = u.new_zeros(len(u), P, N), []
        for t in range(u.shape[1]):
            S = S * alpha1[:, t, None] + v1[:, t, :, None] * k1[:, t, None]
            ys.append((S @ q1[:, t, :, None])[..., 0] / N**0.5)
        y = torch.stack(ys, dim=1)
        heads.append(y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * m.norm.weight)
    return m.out_proj(torch.cat(heads, dim=-1) * F.silu(gate))


def gated_delta(m: Mixer, u: Tensor) -> Tensor:
    """Yang et al. 2024, equation 10, head by head, with the whole transition matrix."""
    H, N, P = m.config.heads, m.config.key, m.config.value
    mixed, gate, a, b = m.in_proj(u).split([m.mixed, H * P, H, H], dim=-1)
    mixed = F.silu(mixed if m.conv1d is None else convolved(m.conv1d, mixed))
    q, k, v = mixed.split([H * N, H * N, H * P], dim=-1)
    alpha = torch.exp(-torch.exp(m.A_log) * F.softplus(a + m.dt_bias))
    beta = torch.sigmoid(b) * (2 if m.config.eigenvalues == "negative" else 1)
    heads = []
    for h, (q1, k1, v1) in enumerate(zip(*(x.chunk(H, dim=-1) for x in (q, k, v)), strict=True)):
        q1, k1 = q1 / q1.norm(dim=-1, keepdim=True), k1 / k1.norm(dim=-1, keepdim=True)
        S, ys = u.new_zeros(len(u), P, N), []
        for t in range(u.shape[1]):
            strength, key = beta[:, t, h, None, None], k1[:, t, None]
            turn = torch.eye(N, dtype=u.dtype) - strength * key.mT @ key
            S = alpha[:, t, h, None, None] * S @ turn + strength * v1[:, t, :, None] @ key
            ys.append((S @ q1[:, t, :, None])[..., 0] / N**0.5)
        y = torch.stack(ys, dim=1)
        heads.append(y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * m.norm.weight)
    return m.out_proj(torch.cat(heads, dim=-1) * F.silu(gate))


def mamba3(m: Mixer, u: Tensor, pace: float = 1.0, spin: float = 1.0) -> Tensor:
    """arXiv:2603.15569, equation 6, with B and C rotated by the summed angles (proposition 4), head by head; MIMO: appendix C.

    Time runs `pace` times as fast, and phases turn `spin` times as fast.
    """
    (D, N), H, R = m.shape, len(m.D), m.config.rank
    z, x, b, c, dd, aa, tr, th = m.in_proj(u).split(m.sizes, dim=-1)
    one = torch.ones(R, D, dtype=u.dtype)
    w_x, w_z, w_o = (one if w is None else w for w in (m.w_x, m.w_z, m.w_o))
    outputs = []
    for h in range(H):
        at = slice(h * D // H, (h + 1) * D // H)
        S, angle, before, ys = u.new_zeros(len(u), D // H, N), 0, u.new_zeros(len(u), D // H, N), []
        for t in range(u.shape[1]):
            dt, lam = F.softplus(dd[:, t, h] + m.dt_bias[h])[:, None], torch.sigmoid(tr[:, t, h])[:, None, None]
            angle = angle + torch.pi * torch.tanh(th[:, t]) * dt * spin
            dt = dt * pace
            a = torch.exp(-dt * F.softplus(aa[:, t, h])[:, None])[..., None]
            now, queries = 0, []
            for r in range(R):
                bias_k, bias_q = (bias[h] if R == 1 else bias[r, h] for bias in (m.bias_B, m.bias_C))
                k = turned(m.norm_B(b[:, t, r * N : (r + 1) * N]) + bias_k, angle)
                queries.append(turned(m.norm_C(c[:, t, r * N : (r + 1) * N]) + bias_q, angle))
                now = now + (w_x[r] * x[:, t])[:, at, None] * k[:, None]
            S = a * S + (1 - lam) * dt[..., None] * a * before + lam * dt[..., None] * now
            before = now
            y = 0
            for r, q in enumerate(queries):
                read = (S @ q[..., None])[..., 0] + m.D[h] * (w_x[r] * x[:, t])[:, at]
                if m.norm_out is not None:
                    read = m.norm_out[at] * read / (read.square().mean(-1, keepdim=True) + 1e-5).sqrt()
                y = y + w_o[r, at] * read * F.silu((w_z[r] * z[:, t])[:, at])
            ys.append(y)
        outputs.append(torch.stack(ys, dim=1))
    return m.out_proj(torch.cat(outputs, dim=-1))


def turned(v: Tensor, angles: Tensor) -> Tensor:
    """The first entries of v (B, N), as complex numbers of two neighbours, times exp(i angles)."""
    n = angles.shape[-1]
    pairs = torch.view_as_complex(v[:, : 2 * n].unflatten(-1, (n, 2)).contiguous()) * torch.exp(1j * angles)
    return torch.cat([torch.view_as_real(pairs).flatten(-2), v[:, 2 * n :]], dim=-1)


def rwkv7(m: Mixer, u: Tensor) -> Tensor:
    """Peng et al. 2025, section 4, head by head, with the whole transition matrix."""
    (D, N), before, outputs = m.shape, torch.zeros_like(u[:, 0]), []
    H = D // N
    S = u.new_zeros(len(u), H, N, N)
    for now in u.unbind(1):
        r, w, k, v, a, g = (now + (before - now) * mix for mix in m.mix)
        r, k, v, before = m.r_proj(r), m.k_proj(k), m.v_proj(v), now
        w = torch.exp(-torch.tensor(-0.5, dtype=u.dtype).exp() * torch.sigmoid(m.w_high(torch.tanh(m.w_low(w)))))
        a, g = torch.sigmoid(m.a_high(m.a_low(a))), m.g_high(torch.sigmoid(m.g_low(g)))
        ys = []
        for h in range(H):
            at = slice(h * N, (h + 1) * N)
            kappa = k[:, at] * m.k_k[at]
            kappa = kappa / kappa.norm(dim=-1, keepdim=True)
            written = k[:, at] * (1 + (a[:, at] - 1) * m.k_a[at])
            turn = torch.diag_embed(w[:, at]) - kappa[..., None] @ (a[:, at] * kappa)[:, None]
            S[:, h] = S[:, h].clone() @ turn + v[:, at, None] * written[:, None]
            y = (S[:, h] @ r[:, at, None])[..., 0]
            y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + N * 1e-5).sqrt()
            y = y * m.norm.weight[at] + m.norm.bias[at]
            ys.append(y + (r[:, at] * m.r_k[h] * written).sum(-1, keepdim=True) * v[:, at])
        outputs.append(m.out_proj(torch.cat(ys, dim=-1) * g))
    return torch.stack(outputs, dim=1)


def pdssm(m: Mixer, u: Tensor) -> Tensor:
    """Terzic et al. 2025, equations 1 to 5, with whole matrices, whose choice is straight through."""
    N = m.shape[0]
    B = torch.complex(m.B_real, m.B_imag)
    x, ys = torch.zeros(len(u), N, dtype=B.dtype), []
    x[:, 0] = m.config.start == "first"
    for now in u.unbind(1):
        M = torch.einsum("bk,kij->bij", torch.softmax(m.choose(now), -1), m.dictionary)
        soft = torch.softmax(M, dim=1)
        P = F.one_hot(M.argmax(dim=1), N).mT + soft - soft.detach()
        D = torch.polar(torch.sigmoid(m.magnitude(now)), 2 * torch.pi * torch.sigmoid(m.phase(now)))
        x = (P.to(B.dtype) @ (D * x)[..., None])[..., 0] + now.to(B.dtype) @ B.mT
        ys.append(m.out_proj(torch.cat([x.real, x.imag], dim=-1)) + m.D * now)
    return torch.stack(ys, dim=1)


def lrcssm(m: Mixer, u: Tensor) -> Tensor:
    """The release's cell, in its order."""
    h, ys = u.new_zeros(len(u), m.shape[0]), []
    for now in u.unbind(1):
        sensed, q = torch.sigmoid(m.sigma_u * (now - m.mu_u)), torch.sigmoid(m.sigma * (h - m.mu))
        a = -torch.sigmoid(m.g + sensed @ m.W_f.mT + m.w_f * q)
        b = m.v * torch.tanh(m.g + sensed @ m.W_z.mT + m.w_z * q)
        h = h + torch.sigmoid(m.e * h + m.b) * (a * h + b)
        ys.append(m.out_proj(h))
    return torch.stack(ys, dim=1)


def psm(m: Mixer, u: Tensor) -> Tensor:
    """Yau et al. 2025: every sum from its chunks anew, and one query after the other."""
    c, outputs = m.config.chunk, []

    def block(pair: torch.nn.Module, first: Tensor, second: Tensor) -> Tensor:
        rows = torch.cat([first, second], dim=1)
        H, normed = pair.heads, rows / (rows.square().mean(-1, keepdim=True) + 1e-5).sqrt() * pair.norm.weight
        q, k, v = (part.unflatten(-1, (H, -1)) for part in pair.qkv(normed).chunk(3, dim=-1))
        q, k = (torch.stack([rotary(part[:, t], t) for t in range(rows.shape[1])], dim=1) for part in (q, k))
        ys = []
        for t in range(c, rows.shape[1]):
            seen = slice(0, t + 1 if pair.causal else None)
            scores = torch.einsum("bhw,bthw->bht", q[:, t], k[:, seen]) / q.shape[-1] ** 0.5
            x = rows[:, t] + pair.out(torch.einsum("bht,bthw->bhw", scores.softmax(-1), v[:, seen]).flatten(1))
            normed = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * pair.norm_mlp.weight
            gate, value = pair.mlp_in(normed).chunk(2, dim=-1)
            ys.append(x + pair.mlp_out(F.silu(gate) * value))
        return torch.stack(ys, dim=1)

    def total(start: int, chunks: int) -> Tensor:
        """The sum of so many chunks, a power of two."""
        if chunks == 1:
            return u[:, start * c : (start + 1) * c]
        return block(m.aggregate, total(start, chunks // 2), total(start + chunks // 2, chunks // 2))

    for n, chunk in enumerate(u.split(c, dim=1)):
        prefix, start = None, 0
        for size in (2**level for level in range(8, -1, -1)):
            if n & size:
                root = total(start, size)
                prefix, start = root if prefix is None else block(m.aggregate, prefix, root), start + size
        prefix = m.first.expand(len(u), -1, -1) if prefix is None else prefix
        outputs.append(block(m.infer, prefix, chunk) - chunk)
    return torch.cat(outputs, dim=1)


def shmamba(m: Mixer, u: Tensor) -> Tensor:
    """The maps of a Poincare ball at 0, row by row, around Mamba-1."""
    root = torch.log1p(torch.exp(m.curvature)).sqrt()
    inside = torch.stack([row * torch.tanh(root * row.norm()) / (root * row.norm()) for row in u.flatten(0, 1)])
    y = mamba(m, inside.unflatten(0, u.shape[:2])).flatten(0, 1)
    sizes = [min(root * row.norm(), torch.tensor(1 - 1e-3, dtype=u.dtype)) for row in y]
    outside = [row / row.norm() / root * ((1 + r) / (1 - r)).log() / 2 for row, r in zip(y, sizes, strict=True)]
    return torch.stack(outside).unflatten(0, u.shape[:2])
