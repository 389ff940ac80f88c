"""One entry of params.yaml for every kind and form of remedy."""

from typing import Any

from pydantic import TypeAdapter

from lgmamba.config.remedies import RemedyConfig
from lgmamba.remedies.configs import MODES, Entry

FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("spectrum", "mult"): {"form": "mult", "calibrate": "gradient"},
    ("spectrum", "pow"): {"form": "pow", "scope": "mode", "factor": 0.5},
    ("spectrum", "clip"): {"form": "clip", "band": [0.3, 0.7]},
    ("step_size", "uniform"): {"form": "uniform"},
    ("step_size", "power"): {"form": "power", "p": 0.7},
    ("step_size", "layer"): {"form": "layer", "calibrate": "closed_form"},
    ("step_size", "channel"): {"form": "channel", "factor": 0.5},
    ("step_size", "norm"): {"form": "norm"},
    ("decimamba", "step_size"): {},
    ("decimamba", "random"): {"score": "random"},
    ("decimamba", "newest"): {"score": "newest", "layers": [1]},
    ("longmamba", "closed_form"): {"channels": "all"},
    ("longmamba", "as_released"): {"threshold": "as_released", "channels": "all"},
    ("longmamba", "bound"): {"threshold": "bound", "channels": "all"},
    ("longmamba", "random_steps"): {"steps": "random", "channels": "all"},
    ("retain_insert", "gains"): {"horizon": 2, "insertion": 0.8},
    ("taper", "decays"): {},
    ("normalise_state", "layer"): {"quantile": 0.5},
    ("normalise_state", "channel"): {"quantile": 0.5, "groups": "channel", "every": 2},
    ("window", "exact"): {},
    ("window", "overlap"): {"form": "overlap"},
    ("schedule", "step_size"): {"gains": "step_size"},
    ("schedule", "modes"): {},
    ("schedule", "channels"): {"gains": "channels"},
    ("assemble", "consecutive"): {},
    ("assemble", "cover"): {"windows": "cover"},
    ("assemble", "reordered"): {"windows": "reordered"},
}
"""(kind, form) -> what an entry says besides name, kind and mode."""

ALL = [(key, mode) for key, modes in MODES.items() for mode in modes]


def values(key: tuple[str, str], mode: str, **more: Any) -> dict[str, Any]:
    """An entry as a person writes it."""
    return {"name": "tried", "kind": key[0], "mode": mode} | FORMS[key] | more


def entry(key: tuple[str, str], mode: str, **more: Any) -> Entry:
    return parsed(values(key, mode, **more))


ENTRY = TypeAdapter(RemedyConfig)
"""Made once: that takes longer than all that it reads."""


def parsed(values: dict[str, Any]) -> Entry:
    return ENTRY.validate_python(values)
