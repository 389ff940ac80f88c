"""Remedies by kind, and from an entry of params.yaml and its calibrated values to something that a sequence can be read with.

Glossary: `lgmamba.remedies`.
"""

from typing import Any

from lgmamba.config.remedies import Combination, Remedies, combined, controls_of
from lgmamba.config.task import TaskBase
from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies import controls
from lgmamba.remedies.assemble import remedy as assemble
from lgmamba.remedies.base import chain
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.configs import Entry
from lgmamba.remedies.decimamba import remedy as decimamba
from lgmamba.remedies.longmamba import remedy as longmamba
from lgmamba.remedies.normalise_state import remedy as normalise_state
from lgmamba.remedies.remedy import Kind, Remedy
from lgmamba.remedies.retain_insert import remedy as retain_insert
from lgmamba.remedies.schedule import remedy as schedule
from lgmamba.remedies.spectrum import remedy as spectrum
from lgmamba.remedies.step_size import remedy as step_size
from lgmamba.remedies.taper import remedy as taper
from lgmamba.remedies.window import remedy as window

KINDS: dict[str, Kind] = {
    "step_size": step_size.KIND,
    "spectrum": spectrum.KIND,
    "decimamba": decimamba.KIND,
    "longmamba": longmamba.KIND,
    "retain_insert": retain_insert.KIND,
    "taper": taper.KIND,
    "normalise_state": normalise_state.KIND,
    "window": window.KIND,
    "schedule": schedule.KIND,
    "assemble": assemble.KIND,
}
"""Kind of an entry -> what it does."""


def build(
    entry: Entry | Combination, entries: Remedies, values: dict[str, Any], model: AnyReadable, last: int
) -> Remedy:
    """A remedy for one trained model.

    Args:
        entry: one of `entries`.
        values: calibrated values by name of the entry, see `calibrate`.
        model: what it is for; its L0 is where remedies begin.
        last: the length where factors given by hand are reached.
    """
    parts = [KINDS[e.kind].build(e, values.get(e.name), model, last) for e in combined(entry, entries)]
    mode = combined(entry, entries)[0].mode
    if len(parts) == 1:
        return Remedy(entry.name, entry.kind, mode, entry.description, **parts[0])

    def make_hook(T: int | None) -> Hook | None:
        made = [p for p in (part["make_hook"](T) for part in parts) if p is not None]
        return chain(*made) if made else None

    return Remedy(entry.name, entry.kind, mode, entry.description, make_hook, any("whole" in part for part in parts))


def calibrate(entry: Entry, images: CalibrationSet) -> Calibrated:
    """Calibrate one entry that says that it is calibrated."""
    return KINDS[entry.kind].calibrate(entry, images)


def remarks(entry: Entry, values: dict[str, Any]) -> list[str]:
    """What a person should know about the values of an entry."""
    return KINDS[entry.kind].remarks(entry, values)


def control_remedies(model: AnyReadable, task: TaskBase | type[TaskBase]) -> list[Remedy]:
    """The controls that are read of a task (`lgmamba.config.remedies.controls_of`).

    The one that the task itself knows, such as `paste`, reads with no model and is not among them.
    """
    L0, what = model.L0, task.STEPS
    known = [
        Remedy("truncate", "control", "prefix", f"the last L0 {what}", select=lambda _, k: controls.truncate(k, L0)),
        Remedy("reset", "control", "stream", f"state set to 0 after every L0 {what}", select=lambda _, k: controls.reset(k, L0)),
        Remedy("subset_random", "control", "prefix", f"L0 random {what}", select=lambda _, k: controls.subset_random(k, L0)),
        Remedy(
            "subset_cover", "control", "prefix", "the newest patch of each cell, L0 of them",
            select=lambda s, _: controls.subset_cover(s.cells, L0, s.n_cells),
        ),
        Remedy("freeze", "control", "stream", f"nothing is written after L0 {what}", make_hook=lambda T: controls.freeze(L0)),
    ]  # fmt: skip
    return [control for control in known if control.name in controls_of(task)]
