"""A look at the classes of a source before any job runs; no pixel is read."""

import tempfile
from pathlib import Path

from lgmamba.config.base import ConfigError
from lgmamba.config.data import DataConfig
from lgmamba.data.local import is_remote
from lgmamba.tradeoff.labels import label_problem


def check_labels(config: DataConfig) -> None:
    """Look at the labels of a source on this machine; what lies behind an address is looked at when it is there.

    Raises:
        ConfigError: one class, or labels with gaps; names the source.
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
    if problem := label_problem(index.labels[index.labels >= 0], n_classes, f"data.source ({config.source.kind})"):
        raise ConfigError(problem)
