"""Files and values laid over params.yaml: what they change, and what a study with runs of its own does not inherit."""

import copy
from pathlib import Path
from typing import Any

from lgmamba.config.base import ConfigError
from lgmamba.config.text import read_yaml
from lgmamba.shipped import workflow_home

PRESETS = Path("workflow/presets")


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `overlay`; neither is changed.

    Mappings merge key by key, with exceptions that replace the whole mapping: `runs` (an overlay lists its own runs),
    `weights` (a length left out is not drawn), and a mapping that names another `kind` (the old kind's keys would not
    fit it).
    """
    result = copy.deepcopy(base)
    for key, value in overlay.items():
        old = result.get(key)
        other_kind = (
            isinstance(value, dict) and isinstance(old, dict) and value.get("kind", old.get("kind")) != old.get("kind")
        )
        if isinstance(value, dict) and isinstance(old, dict) and key not in ("runs", "weights") and not other_kind:
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def overlaid(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`merge`, where an overlay with `runs` of its own inherits nothing about runs that it does not have.

    Comparisons, contrasts, runs that remedies are tried on, runs that are looked into, and runs that are shown are kept as far as
    their runs are still there. Without any, the section is null, unless the overlay writes in it. A study of another name has words of its own, and
    its contrasts were fixed on no day that it does not name.
    """
    result = merge(base, overlay)
    claims, own_claims = result.get("claims"), _mapping(overlay.get("claims"))
    if overlay.get("study", base.get("study")) != base.get("study"):
        if "report" not in overlay:
            result.pop("report", None)
        if isinstance(claims, dict) and "fixed" not in own_claims:
            claims.pop("fixed", None)
    runs = overlay.get("runs")
    if not isinstance(runs, dict):
        return result
    for name, runs_of in (("comparisons", _compared), ("primary", _contrasted)):
        inherited = _mapping(claims).get(name)
        if isinstance(claims, dict) and isinstance(inherited, list) and name not in own_claims:
            claims[name] = [entry for entry in inherited if all(_may_stay(run, runs) for run in runs_of(entry))]
    shown = _mapping(result.get("report")).get("shown")
    if isinstance(shown, list) and "shown" not in _mapping(overlay.get("report")):
        result["report"]["shown"] = [name for name in shown if _may_stay(name, runs)] or None
    for section in ("remedy_evaluation", "probes"):
        inherited = _mapping(result.get(section)).get("runs")
        if not isinstance(inherited, list) or "runs" in _mapping(overlay.get(section)):
            continue
        if left := [name for name in inherited if _may_stay(name, runs)]:
            result[section]["runs"] = left
        elif section not in overlay and not (section == "remedy_evaluation" and "remedies" in overlay):
            result[section] = None
            result |= {"remedies": []} if section == "remedy_evaluation" else {}
    return result


def _compared(entry: Any) -> list[Any]:
    return list(_mapping(entry).values())


def _contrasted(entry: Any) -> list[Any]:
    return [_mapping(_mapping(entry).get(side)).get("run") for side in ("of", "minus")]


def _may_stay(name: Any, runs: dict[str, Any]) -> bool:
    """Whether a name is that of a run; what is no name at all stays, to be refused with its key."""
    return not isinstance(name, str) or name in runs


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def overlays(preset: str | None, root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """A preset and those that it extends (`extends: another preset`), the one that all others build on first."""
    found: list[tuple[Path, dict[str, Any]]] = []
    while preset is not None:
        path = _preset_path(preset, root)
        if path in [before for before, _ in found]:
            raise ConfigError(f"{path}: extends itself, by way of {', '.join(str(p) for p, _ in found)}")
        content = read_yaml(path)
        preset = content.pop("extends", None)
        found.append((path, content))
    return found[::-1]


def _preset_path(preset: str, root: Path) -> Path:
    """Of presets beside params.yaml and those of the workflow, the former go first."""
    folders = [root / PRESETS, workflow_home() / PRESETS]
    for path in (*(folder / f"{preset}.yaml" for folder in folders), Path(preset)):
        if path.is_file():
            return path
    known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    raise ConfigError(f"preset {preset!r}: neither one of {known} nor a YAML file")
