"""What a remedy is, once it is made for one model; and what each kind of it has to offer. Glossary: `lgmamba.remedies`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.reading import AnyReadable
from lgmamba.model.runner import MakeHook
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.entry import Mode, RemedyEntry

Select = Callable[[Sequences, Tensor], Tensor]
"""Sequences of T steps and a random number for each step (B, T) -> ascending positions (B, K) to read."""
Reader = Callable[[SequenceModel, Sequences, list[int], int], Tensor]
"""Model, sequences, steps, chunk -> predictions (B, S, *shape), as `lgmamba.model.runner.run_sequence`."""


@dataclass(frozen=True)
class Remedy:
    """What is done to a model, or to its input, beyond its training length.

    Attributes:
        name, kind, mode, description: as in params.yaml; the description says the form.
        make_hook: see `MakeHook`; called anew for every pass.
        whole: whether a sequence must be read in one piece, of which the last output is valid.
        select: which steps are read at all; None for all of them.
        reader: reads in a way of its own, instead of with the hook.
        steps_read: length T -> number of the steps after L0 that a reader without a hook reads.
    """

    name: str
    kind: str
    mode: Mode
    description: str
    make_hook: MakeHook = lambda T: None
    whole: bool = False
    select: Select | None = None
    reader: Reader | None = None
    steps_read: Callable[[int], int] | None = None


Parts = dict[str, Any]
"""Attributes of a `Remedy` besides name, kind, mode and description."""


@dataclass(frozen=True)
class Kind:
    """One kind of remedy.

    Attributes:
        build: entry, its calibrated values (None where nothing is calibrated), the model that it is for, and the length where factors
            given by hand are reached -> parts. Its model's L0 is where a remedy begins.
        calibrate: entry and images -> values, for entries that say that they are calibrated.
        remarks: entry and values -> what a person should know about them, whether found just now or taken from a file.
    """

    build: Callable[[Any, Any, AnyReadable, int], Parts]
    calibrate: Callable[[Any, CalibrationSet], Calibrated] | None = None
    remarks: Callable[[Any, dict[str, Any]], list[str]] = lambda entry, values: []


def remedy_of(entry: RemedyEntry, parts: Parts) -> Remedy:
    """A remedy under the name of its entry."""
    return Remedy(entry.name, entry.kind, entry.mode, entry.description, **parts)
