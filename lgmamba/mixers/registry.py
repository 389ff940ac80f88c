"""Mixers by kind."""

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.attention.mixer import AttentionMixer
from lgmamba.mixers.contract import Answering, Mixer
from lgmamba.mixers.encoder_decoder.mixer import EncoderDecoderMixer
from lgmamba.mixers.gated_delta.mixer import GatedDeltaMixer
from lgmamba.mixers.gla.mixer import GlaMixer
from lgmamba.mixers.gru.mixer import GruMixer
from lgmamba.mixers.gsm_local.mixer import GsmLocalMixer
from lgmamba.mixers.lrcssm.mixer import LrcssmMixer
from lgmamba.mixers.lru.mixer import LruMixer
from lgmamba.mixers.lstm.mixer import LstmMixer
from lgmamba.mixers.mamba.mixer import MambaMixer
from lgmamba.mixers.mamba2.mixer import Mamba2Mixer
from lgmamba.mixers.mamba3.mixer import Mamba3Mixer
from lgmamba.mixers.mingru.mixer import MingruMixer
from lgmamba.mixers.pdssm.mixer import PdssmMixer
from lgmamba.mixers.psm.mixer import PsmMixer
from lgmamba.mixers.python.config import PythonConfig
from lgmamba.mixers.rglru.mixer import RglruMixer
from lgmamba.mixers.rwkv7.mixer import Rwkv7Mixer
from lgmamba.mixers.s4d.mixer import S4dMixer
from lgmamba.mixers.shmamba.mixer import ShmambaMixer
from lgmamba.mixers.sigma.mixer import SigmaMixer
from lgmamba.mixers.sigma_causal.mixer import SigmaCausalMixer
from lgmamba.mixers.umamba.mixer import UmambaMixer

MIXERS: dict[str, type[Mixer]] = {
    "mamba": MambaMixer,
    "mamba2": Mamba2Mixer,
    "mamba3": Mamba3Mixer,
    "gla": GlaMixer,
    "gated_delta": GatedDeltaMixer,
    "rglru": RglruMixer,
    "s4d": S4dMixer,
    "lru": LruMixer,
    "gru": GruMixer,
    "lstm": LstmMixer,
    "mingru": MingruMixer,
    "rwkv7": Rwkv7Mixer,
    "pdssm": PdssmMixer,
    "lrcssm": LrcssmMixer,
    "psm": PsmMixer,
    "shmamba": ShmambaMixer,
    "gsm_local": GsmLocalMixer,
    "umamba": UmambaMixer,
    "sigma_causal": SigmaCausalMixer,
    "attention": AttentionMixer,
}
"""`model.mixer.kind` -> class, of those that are part of this package and have an output at every step."""
ANSWERING: dict[str, type[Answering]] = {"encoder_decoder": EncoderDecoderMixer, "sigma": SigmaMixer}
"""The same, of those that have outputs for queries alone."""


def build_mixer(config: ModelConfig, layer: int) -> Mixer:
    """The mixer of one layer, with the layer's own configuration in the place of `mixer`."""
    own = config.mixer.of_layer(layer)
    if isinstance(config.mixer, PythonConfig):
        made = config.mixer.mixer
    else:
        made = (MIXERS | ANSWERING)[own.kind]  # type: ignore[attr-defined]  # as all in the package's union have one
    return made(config if own is config.mixer else config.model_copy(update={"mixer": own}), layer)
