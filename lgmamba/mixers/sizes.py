"""Mixers of equal size: for each kind a configuration whose layer has as many parameters as Mamba-1's, at two widths. Imports no torch.

    SMALL   width 16, as in the paper's task: 2,432 parameters a layer, without short convolutions
    LARGE   width 256: 437,760 parameters a layer

A test counts them; `REASONS` says why one is off by more than 3 %. Presets and benchmarks use the same numbers.
"""

from typing import Any

WITHIN = 0.03
"""Share by which a layer's parameters may differ from Mamba-1's."""
DT = {"dt_min": 0.001, "dt_max": 0.1}
MAMBA = {"kind": "mamba", "d_conv": 4, "expand": 2, "dt_rank": "auto", **DT}
PART = {"dt_rank": "auto", **DT}
"""Keys of Mamba-1 as a part of a mixer."""

SMALL: dict[str, dict[str, Any]] = {
    "mamba": MAMBA | {"d_state": 8, "conv": "none"},
    "mamba2": {"kind": "mamba2", "d_state": 24, "head": 8, "conv": "none"},
    "mamba3": {"kind": "mamba3", "d_state": 16, "head": 8},
    "mamba3_mimo": {"kind": "mamba3", "d_state": 6, "head": 8, "rank": 2},
    "gla": {"kind": "gla", "heads": 2, "key": 8, "value": 17, "rank": 8},
    "gated_delta": {"kind": "gated_delta", "heads": 2, "key": 8, "value": 19, "conv": "none"},
    "gated_delta_negative": {
        "kind": "gated_delta",
        "heads": 2,
        "key": 8,
        "value": 19,
        "conv": "none",
        "eigenvalues": "negative",
    },
    "rglru": {"kind": "rglru", "width": 40, "blocks": 10, "conv": "none"},
    "griffin": {
        "kind": "rglru",
        "width": 40,
        "blocks": 10,
        "conv": "none",
        "attention": {"window": 16, "heads": 2, "mlp": 29},
    },
    "s4d": {"kind": "s4d", "d_state": 6},
    "lru": {"kind": "lru", "hidden": 28},
    "gru": {"kind": "gru", "hidden": 19},
    "lstm": {"kind": "lstm", "hidden": 16},
    "mingru": {"kind": "mingru", "hidden": 49},
    "rwkv7": {"kind": "rwkv7", "width": 24, "head": 8, "decay_rank": 4, "removal_rank": 4, "gate_rank": 8},
    "pdssm": {"kind": "pdssm", "d_state": 12, "dictionary": 4, "hidden": 16},
    "lrcssm": {"kind": "lrcssm", "units": 43},
    "psm": {"kind": "psm", "chunk": 8, "heads": 2, "width": 12, "mlp": 7},
    "shmamba": MAMBA | {"kind": "shmamba", "d_state": 8, "conv": "none"},
    "gsm_local": PART | {"kind": "gsm_local", "window": 16, "heads": 2, "width": 8, "d_state": 8, "expand": 1.5625},
    "umamba": PART | {"kind": "umamba", "d_state": 7, "expand": 0.6875},
    "sigma_causal": PART | {"kind": "sigma_causal", "width": 9, "d_state": 8, "expand": 2},
    "attention_nope": {"kind": "attention", "heads": 2, "mlp": 29, "position": "nope"},
    "attention_rope": {"kind": "attention", "heads": 2, "mlp": 29, "position": "rope"},
    "attention_alibi": {"kind": "attention", "heads": 2, "mlp": 29, "position": "alibi"},
    "attention_sinusoid": {"kind": "attention", "heads": 2, "mlp": 29, "position": "sinusoid"},
    "attention_absolute": {"kind": "attention", "heads": 2, "mlp": 29, "position": "absolute", "rows": 1537},
}
LARGE: dict[str, dict[str, Any]] = {
    "mamba": MAMBA | {"d_state": 16},
    "mamba2": {"kind": "mamba2", "d_state": 64, "head": 64},
    "mamba2_small": {"kind": "mamba2", "d_state": 16, "head": 64},
    "mamba3": {"kind": "mamba3", "d_state": 64, "head": 64},
    "mamba3_mimo": {"kind": "mamba3", "d_state": 32, "head": 64, "rank": 2},
    "gla": {"kind": "gla", "heads": 4, "key": 64, "value": 96},
    "gated_delta": {"kind": "gated_delta", "heads": 4, "key": 52, "value": 104},
    "gated_delta_negative": {
        "kind": "gated_delta",
        "heads": 4,
        "key": 52,
        "value": 104,
        "eigenvalues": "negative",
    },
    "rglru": {"kind": "rglru", "width": 512, "blocks": 16},
    "griffin": {"kind": "rglru", "width": 512, "blocks": 16, "attention": {"window": 16, "heads": 8, "mlp": 228}},
    "s4d": {"kind": "s4d", "d_state": 16},
    "lru": {"kind": "lru", "hidden": 296},
    "gru": {"kind": "gru", "hidden": 248},
    "lstm": {"kind": "lstm", "hidden": 208},
    "mingru": {"kind": "mingru", "hidden": 568},
    "rwkv7": {"kind": "rwkv7", "width": 320, "head": 64},
    "pdssm": {"kind": "pdssm", "d_state": 128, "dictionary": 6, "hidden": 256},
    "lrcssm": {"kind": "lrcssm", "units": 560},
    "psm": {"kind": "psm", "chunk": 16, "heads": 4, "width": 128, "mlp": 111},
    "shmamba": MAMBA | {"kind": "shmamba", "d_state": 16},
    "gsm_local": PART | {"kind": "gsm_local", "window": 16, "heads": 4, "width": 128, "d_state": 16, "expand": 1.40625},
    "umamba": PART | {"kind": "umamba", "d_state": 16, "expand": 0.671875},
    "sigma_causal": PART | {"kind": "sigma_causal", "width": 136, "d_state": 16, "expand": 2},
    "attention_nope": {"kind": "attention", "heads": 8, "mlp": 228, "position": "nope"},
    "attention_rope": {"kind": "attention", "heads": 8, "mlp": 228, "position": "rope"},
    "attention_alibi": {"kind": "attention", "heads": 8, "mlp": 228, "position": "alibi"},
    "attention_sinusoid": {"kind": "attention", "heads": 8, "mlp": 228, "position": "sinusoid"},
    "attention_absolute": {"kind": "attention", "heads": 8, "mlp": 228, "position": "absolute", "rows": 65},
}
REASONS: dict[tuple[str, str], str] = {
    ("SMALL", "attention_absolute"): "its table of positions, in the first layer alone, is not counted against it",
    ("LARGE", "attention_absolute"): "its table of positions, in the first layer alone, is not counted against it",
    ("LARGE", "mamba2_small"): "its state is as large as Mamba-1's in place of its parameters",
}
"""(table, name) -> why it is off by more than `WITHIN`."""
