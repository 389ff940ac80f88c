"""Mixers by kind."""

from lgmamba.mixers.contract import Mixer
from lgmamba.mixers.gru.mixer import GruMixer
from lgmamba.mixers.mamba.mixer import MambaMixer

MIXERS: dict[str, type[Mixer]] = {"mamba": MambaMixer, "gru": GruMixer}
"""`model.mixer.kind` -> class."""
