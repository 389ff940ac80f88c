"""lgmamba: why Mamba models fail beyond their training lengths, made visible by reconstructing images step by step.

The names below load on first use, so that importing the package stays cheap (no torch until it is needed).
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "LengthDistribution": "lgmamba.tasks.lengths",
    "PatchMamba": "lgmamba.tasks.draw.model",
    "State": "lgmamba.mixers.contract",
    "audit": "lgmamba.hosts.audit.run",
    "extend": "lgmamba.hosts.extension",
    "load": "lgmamba.trained",
    "watch": "lgmamba.hosts.watch",
    "load_params": "lgmamba.config.study",
    "selective_scan": "lgmamba.scan",
}

__all__ = [
    "LengthDistribution",
    "PatchMamba",
    "State",
    "audit",
    "extend",
    "load",
    "load_params",
    "selective_scan",
    "watch",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lgmamba' has no attribute {name!r}")
