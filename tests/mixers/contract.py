"""What a mixer shows to be one: a row for each, and an oracle that reads it step by step in plain words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer
from lgmamba.mixers.registry import MIXERS
from tests.model.models import BASE

B, L, D_MODEL = 2, 7, 6


@dataclass(frozen=True)
class Row:
    """One form of a mixer.

    Attributes:
        mixer: its configuration.
        oracle: mixer and u (B, L, d) -> output (B, L, d), one step after the other.
        parameters: of the layer, at width 6.
    """

    mixer: dict[str, Any]
    oracle: Callable[[Mixer, Tensor], Tensor]
    parameters: int


def mamba(m: Mixer, u: Tensor) -> Tensor:
    """Gu & Dao 2023, section 3.4: channels first, as in the paper."""
    L, N, R = u.shape[1], m.A_log.shape[1], m.dt_proj.in_features
    x, z = m.in_proj(u).transpose(1, 2).chunk(2, dim=1)
    x = F.silu(m.conv1d(x)[..., :L] if m.conv1d is not None else x)
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


ROWS = {
    "mamba": Row(BASE["mixer"], mamba, 468),
    "mamba without convolution": Row(BASE["mixer"] | {"conv": "none"}, mamba, 408),
    "mamba with all biases": Row(BASE["mixer"] | {"biases": "all", "out_init": "plain"}, mamba, 498),
    "mamba without biases": Row(BASE["mixer"] | {"biases": "none"}, mamba, 456),
    "gru": Row({"kind": "gru", "hidden": 5}, gru, 225),
}


def build(row: Row, double: bool = True, **model: Any) -> Mixer:
    """The mixer off its initialisation, on the reference backend."""
    config = ModelConfig.model_validate(
        BASE | {"d_model": D_MODEL, "scan_backend": "reference"} | model | {"mixer": row.mixer}
    )
    torch.manual_seed(0)
    mixer = MIXERS[config.mixer.kind](config, layer=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in mixer.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return mixer.double() if double else mixer


def inputs(L: int = L, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(B, L, D_MODEL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
