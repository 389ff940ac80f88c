"""Whether classes can be told apart. Imports no torch, and what reads a source only once one is looked at."""

import tempfile
from pathlib import Path

import numpy as np

from lgmamba.config.base import ConfigError
from lgmamba.config.data import DataConfig
from lgmamba.data.local import is_remote


def label_problem(labels: np.ndarray, n_classes: int, where: str) -> str | None:
    """What is wrong with the labels of some images; None where every class occurs and there are several.

    Args:
        labels: (N,) integers.
        n_classes: labels are 0 .. n_classes - 1.
        where: whose labels, for the message.
    """
    if n_classes < 2:
        return f"{where}: found 1 class, expected: at least 2 to tell apart"
    missing = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
    if len(missing):
        named = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
        return (
            f"{where}: found no image of class {named} ({len(missing)} of {n_classes} classes), expected: labels without gaps, "
            f"0 .. {n_classes - 1}, each in every split"
        )
    return None


def check_labels(config: DataConfig, classes: int | None = None) -> None:
    """Look at the labels of a source on this machine; what lies behind an address is looked at when it is there. No pixel is read.

    Args:
        config: names the source.
        classes: how many a model tells apart; None: as many as there are.
    Raises:
        ConfigError: one class, another number of classes, or labels with gaps; names the source.
        DataError: the source cannot be read.
    """
    from lgmamba.data.sources import open_source

    paths = [getattr(config.source, name, None) or [] for name in ("path", "test_path")]
    if any(is_remote(p) for given in paths for p in ([given] if isinstance(given, str) else given)):
        return
    with tempfile.TemporaryDirectory() as scratch:
        index = open_source(config.source, Path(scratch), False).index()
    named = len(index.class_names) if index.class_names else None
    n_classes = config.n_classes or named or int(index.labels.max()) + 1
    where = f"data.source ({config.source.kind})"
    if problem := label_problem(index.labels[index.labels >= 0], n_classes, where) or number_problem(
        n_classes, classes, where
    ):
        raise ConfigError(problem)


def number_problem(found: int, classes: int | None, where: str) -> str | None:
    """What is wrong where a model tells another number of classes apart than there are."""
    if classes is None or classes == found:
        return None
    return f"{where}: found {found} classes, expected: {classes}, those of model.class_head.classes"
