"""What a mixer shows to be one: a row for each of its forms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer
from lgmamba.mixers.registry import MIXERS
from tests.mixers.oracles import (
    attention,
    gated_delta,
    gla,
    gru,
    gsm_local,
    lrcssm,
    lru,
    lstm,
    mamba,
    mamba2,
    mamba3,
    mingru,
    pdssm,
    psm,
    rglru,
    rwkv7,
    s4d,
    shmamba,
    sigma_causal,
    umamba,
)
from tests.model.models import BASE

B, L, D_MODEL = 2, 7, 6
PART = {"d_state": 2, "expand": 1, "dt_rank": 1, "dt_min": 0.001, "dt_max": 0.1}
"""Mamba-1 as a part of a mixer."""


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


ROWS = {
    "mamba": Row(BASE["mixer"], mamba, 468),
    "mamba without convolution": Row(BASE["mixer"] | {"conv": "none"}, mamba, 408),
    **{
        f"mamba with {conv}": Row(BASE["mixer"] | {"conv": conv}, mamba, parameters)
        for conv, parameters in (("ones", 408), ("bypass", 468), ("product", 468))
    },
    "mamba with all biases": Row(BASE["mixer"] | {"biases": "all", "out_init": "plain"}, mamba, 498),
    "mamba without biases": Row(BASE["mixer"] | {"biases": "none"}, mamba, 456),
    "gru": Row({"kind": "gru", "hidden": 5}, gru, 225),
    "mamba2 after PoST": Row({"kind": "mamba2", "d_state": 3, "head": 4, "post": {"length": 6}}, mamba2, 378),
    "mamba2": Row({"kind": "mamba2", "d_state": 3, "head": 4}, mamba2, 381),
    "mamba2 without convolution": Row({"kind": "mamba2", "d_state": 3, "head": 4, "conv": "none"}, mamba2, 291),
    "s4d": Row({"kind": "s4d", "d_state": 3}, s4d, 384),
    "lru": Row({"kind": "lru", "hidden": 5}, lru, 225),
    "rglru": Row({"kind": "rglru", "width": 6, "blocks": 2}, rglru, 84 + 30 + 36 + 12 + 6 + 42),
    "griffin": Row(
        {"kind": "rglru", "width": 6, "blocks": 3, "conv": "none", "attention": {"window": 3, "heads": 1, "mlp": 4}},
        rglru,
        84 + 24 + 12 + 6 + 42,
    ),
    "rglru without convolution": Row(
        {"kind": "rglru", "width": 6, "blocks": 3, "conv": "none"}, rglru, 84 + 24 + 12 + 6 + 42
    ),
    "rglru whose first step is written whole": Row(
        {"kind": "rglru", "width": 6, "blocks": 2, "first": "one"}, rglru, 84 + 30 + 36 + 12 + 6 + 42
    ),
    "mingru": Row({"kind": "mingru", "hidden": 5}, mingru, 70 + 30),
    "mamba3": Row({"kind": "mamba3", "d_state": 5, "head": 4}, mamba3, 382),
    "mamba3 with two inputs and outputs a head": Row(
        {"kind": "mamba3", "d_state": 4, "head": 4, "rank": 2}, mamba3, 6 * (24 + 16 + 9 + 1) + 8 + 48 + 6 + 72 + 72
    ),
    "mamba3 normed before the gate": Row(
        {"kind": "mamba3", "d_state": 5, "head": 4, "out_norm": "pre_gate_grouped"}, mamba3, 382 + 12
    ),
    "gla": Row({"kind": "gla", "heads": 2, "key": 3, "value": 4, "rank": 2}, gla, 250),
    "gated_delta": Row({"kind": "gated_delta", "heads": 2, "key": 3, "value": 4}, gated_delta, 328),
    "gated_delta with negative eigenvalues": Row(
        {"kind": "gated_delta", "heads": 1, "key": 3, "value": 4, "eigenvalues": "negative", "conv": "none"},
        gated_delta,
        126,
    ),
    **{
        f"attention {position}": Row(
            {"kind": "attention", "heads": 3, "mlp": 4, "position": position}, attention, 144 + 72
        )
        for position in ("nope", "rope", "alibi", "sinusoid")
    },
    "attention over the last three steps": Row(
        {"kind": "attention", "heads": 3, "mlp": 4, "position": "rope", "local": 3}, attention, 144 + 72
    ),
    "attention absolute": Row(
        {"kind": "attention", "heads": 2, "mlp": 0, "position": "absolute", "rows": 6}, attention, 144 + 36
    ),
    "lstm": Row({"kind": "lstm", "hidden": 4}, lstm, 4 * 4 * (6 + 4) + 32 + 24),
    "lrcssm": Row({"kind": "lrcssm", "units": 5}, lrcssm, 12 + 60 + 40 + 36),
    "pdssm": Row(
        {"kind": "pdssm", "d_state": 4, "dictionary": 3, "hidden": 5}, pdssm, 2 * (35 + 24) + 18 + 48 + 48 + 6 + 54
    ),
    "pdssm from its first place": Row(
        {"kind": "pdssm", "d_state": 3, "dictionary": 2, "hidden": 2, "start": "first"},
        pdssm,
        2 * (14 + 9) + 12 + 18 + 36 + 6 + 42,
    ),
    "psm": Row({"kind": "psm", "chunk": 2, "heads": 1, "width": 4, "mlp": 3}, psm, 2 * (12 + 72 + 24 + 54) + 12),
    "psm of single steps": Row(
        {"kind": "psm", "chunk": 1, "heads": 2, "width": 4, "mlp": 2}, psm, 2 * (12 + 72 + 24 + 36) + 6
    ),
    "shmamba": Row(BASE["mixer"] | {"kind": "shmamba"}, shmamba, 469),
    "gsm_local": Row(PART | {"kind": "gsm_local", "window": 6, "heads": 2, "width": 4}, gsm_local, 72 + 24 + 12 + 168),
    "umamba": Row(PART | {"kind": "umamba", "scales": [1, 2, 4]}, umamba, 3 * 168),
    "sigma_causal": Row(
        PART | {"kind": "sigma_causal", "width": 3, "expand": 2}, sigma_causal, 36 + 114 + 30 + 54 + 48 + 2
    ),
    "rwkv7": Row(
        {"kind": "rwkv7", "width": 6, "head": 3, "decay_rank": 2, "removal_rank": 2, "gate_rank": 2},
        rwkv7,
        36 + 4 * 36 + 3 * 24 + 12 + 18 + 12,
    ),
}


def build(row: Row, double: bool = True, **model: Any) -> Mixer:
    """The mixer off its initialisation, on the reference backend."""
    config = ModelConfig.model_validate(
        BASE | {"d_model": D_MODEL, "scan_backend": "reference"} | model | {"mixer": row.mixer}
    )
    torch.default_generator.manual_seed(0)  # torch.manual_seed also keeps for a GPU who called it
    mixer = MIXERS[config.mixer.kind](config, layer=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in mixer.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return mixer.double() if double else mixer


def inputs(L: int = L, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(B, L, D_MODEL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
