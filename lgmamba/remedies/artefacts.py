"""Calibrated values on disk: one JSON file for each remedy of one checkpoint, refused for another checkpoint.

Glossary: `lgmamba.remedies`.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lgmamba.config.base import ConfigError
from lgmamba.files import digest_of, write_atomic

EXPECTED = "calibrated values written by `lgmamba remedy`, or by `lgmamba audit` or `Extension.save`"


@dataclass(frozen=True)
class Artefact:
    """What calibration found for one remedy.

    Attributes:
        remedy: name of the entry.
        key: what the values depend on: checkpoint and data digests, L0, seed, the entry, how it was calibrated, the code,
            and a hash of the calibration images' ids.
        values: JSON values that `lgmamba.remedies.registry` makes a remedy of; factors by length under "T".
        images: calibration images.
        n_forward: forward passes over half of them (one with gradients counts as three).
        seconds: time it took.
    """

    remedy: str
    key: dict[str, Any]
    values: dict[str, Any]
    images: int
    n_forward: int
    seconds: float

    def write(self, folder: Path) -> Path:
        """Write <folder>/<remedy>.json."""
        path = folder / f"{self.remedy}.json"
        values = asdict(self) | {"digest": digest_of(asdict(self))}
        write_atomic(path, json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")  # may hold long lists
        return path


def read_artefact(path: Path, key: dict[str, Any]) -> Artefact:
    """Values that were calibrated before, for exactly this.

    Args:
        path: the file.
        key: see `Artefact`.
    Raises:
        ConfigError: there is no such file, it is no artefact, or it was calibrated for something else; says what differs.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        digest = values.pop("digest")
        found = Artefact(**values)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected {EXPECTED}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ConfigError(f"{path}: expected {EXPECTED}; {e}") from None
    if digest != digest_of(asdict(found)):
        raise ConfigError(f"{path}: damaged, or edited by hand; expected {EXPECTED}")
    wrong = [name for name in key if found.key.get(name) != key[name]]
    if wrong:
        name = wrong[0]
        raise ConfigError(
            f"{path}: calibrated for another {name} (found {_short(found.key.get(name))}, expected {_short(key[name])}); "
            f"calibrate it again for this one"
        )
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
