"""One entry of params.yaml for every kind and form of remedy, and models of every mixer on which it must act or be refused.

`test_contract.py` holds every pair of them to what `lgmamba.remedies` says.
"""

from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from lgmamba.config.remedies import CalibrationConfig, RemedyConfig
from lgmamba.mixers.table import configured
from lgmamba.model.runner import run_sequence
from lgmamba.remedies.calibration import CalibrationSet
from lgmamba.remedies.configs import MODES, Entry
from lgmamba.remedies.read import read_with
from lgmamba.remedies.registry import build, calibrate
from lgmamba.remedies.remedy import Remedy
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.draw.orders import visiting_order
from lgmamba.tasks.draw.sequences import DrawSequences
from tests.mixers.contract import ROWS
from tests.model.models import L0, G, K, along, draw_task, exact, told

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
    ("schedule", "temperature"): {"gains": "temperature"},
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


def distinct() -> dict[str, dict[str, Any]]:
    """Of each kind of mixer but Mamba-1, one form of every set of verbs that its forms support.

    But for attention over the last three steps, which looks at no more beyond the training length, whatever a remedy leaves out there.
    """
    found: dict[str, dict[str, Any]] = {}
    seen = set()
    for name, row in ROWS.items():
        mixer = configured(row.mixer)
        verbs = (row.mixer["kind"], frozenset(mixer.supports), mixer.PHASES, mixer.period)
        if row.mixer["kind"] != "mamba" and "local" not in row.mixer and verbs not in seen:
            seen.add(verbs)
            found[name] = row.mixer
    return found


OTHERS = distinct()
"""Name of a row of `tests/mixers/contract.py` -> the mixer."""
MAMBA = {"plain": {}, "told": {"adaptive": told(beyond="clamp")}}
"""Name -> Mamba-1's model, on which nothing is refused."""
B, LAST = 4, 3 * L0
SHORT, LONG = [1, 3, L0], [L0 + 1, 2 * L0, LAST]


@cache
def model(name: str = "plain") -> PatchMamba:
    """Of `MAMBA` or `OTHERS`; deep enough for every kind of layer that the mixer has."""
    if name in MAMBA:
        return exact(**MAMBA[name]).requires_grad_(False)
    layers = max(2, configured(OTHERS[name]).period)
    return exact(mixer=OTHERS[name], n_layer=layers).requires_grad_(False)


@cache
def images(seed: int = 0, n: int = B) -> tuple[Tensor, Tensor, Tensor]:
    """All patches (B, G, K), visiting orders (B, LAST) and random scores (B, LAST)."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand(n, G, K, generator=generator, dtype=torch.float64)
    cells = visiting_order("replacement", 2, 3, n, LAST, generator)
    return patches, cells, torch.rand(n, LAST, generator=generator)


def calibration_set(name: str, **config: Any) -> CalibrationSet:
    """Targets for which every calibration finds something better than none."""
    patches, cells, _ = images(seed=1, n=6)
    targets = torch.rand(6, *model(name).shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    how = CalibrationConfig(**{"images": 6, "steps": 3, "lengths": [2, 3]} | config)
    return CalibrationSet(
        model(name), draw_task(), DrawSequences(targets, patches, cells), how, [*SHORT, *LONG], 7, seed=0
    )


@cache
def remedy(key: tuple[str, str], mode: str, name: str = "plain", **more: Any) -> Remedy:
    return built(entry(key, mode, **more), name)


def built(tried: Entry, name: str = "plain") -> Remedy:
    found = {tried.name: calibrate(tried, calibration_set(name)).values} if tried.calibrated else {}
    return build(tried, [tried], found, model(name), LAST)


def read(found: Remedy, steps: list[int], name: str = "plain", chunk: int = 7, some: slice = slice(None)) -> Tensor:
    patches, cells, random_scores = images()
    return read_with(model(name), found, along(patches[some], cells[some]), random_scores[some], steps, chunk)


@cache
def vanilla(mode: str, steps: tuple[int, ...], name: str = "plain", chunk: int = 7) -> Tensor:
    patches, cells, _ = images()
    return run_sequence(model(name), along(patches, cells), list(steps), mode, chunk)
