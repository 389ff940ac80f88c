"""`model.mixer` of params.yaml: the configuration of each kind of mixer. Imports no torch; classes are in `lgmamba.mixers.registry`."""

from typing import Annotated

from pydantic import Field

from lgmamba.mixers.attention.config import AttentionConfig
from lgmamba.mixers.encoder_decoder.config import EncoderDecoderConfig
from lgmamba.mixers.gated_delta.config import GatedDeltaConfig
from lgmamba.mixers.gla.config import GlaConfig
from lgmamba.mixers.gru.config import GruConfig
from lgmamba.mixers.gsm_local.config import GsmLocalConfig
from lgmamba.mixers.lrcssm.config import LrcssmConfig
from lgmamba.mixers.lru.config import LruConfig
from lgmamba.mixers.lstm.config import LstmConfig
from lgmamba.mixers.mamba.config import MambaConfig
from lgmamba.mixers.mamba2.config import Mamba2Config
from lgmamba.mixers.mamba3.config import Mamba3Config
from lgmamba.mixers.mingru.config import MingruConfig
from lgmamba.mixers.pdssm.config import PdssmConfig
from lgmamba.mixers.psm.config import PsmConfig
from lgmamba.mixers.python.config import PythonConfig
from lgmamba.mixers.rglru.config import RglruConfig
from lgmamba.mixers.rwkv7.config import Rwkv7Config
from lgmamba.mixers.s4d.config import S4dConfig
from lgmamba.mixers.shmamba.config import ShmambaConfig
from lgmamba.mixers.sigma.config import SigmaConfig
from lgmamba.mixers.sigma_causal.config import SigmaCausalConfig
from lgmamba.mixers.umamba.config import UmambaConfig

MixerConfig = Annotated[
    MambaConfig
    | Mamba2Config
    | Mamba3Config
    | GlaConfig
    | GatedDeltaConfig
    | RglruConfig
    | S4dConfig
    | LruConfig
    | GruConfig
    | LstmConfig
    | MingruConfig
    | Rwkv7Config
    | PdssmConfig
    | LrcssmConfig
    | PsmConfig
    | ShmambaConfig
    | GsmLocalConfig
    | UmambaConfig
    | SigmaCausalConfig
    | AttentionConfig
    | EncoderDecoderConfig
    | SigmaConfig
    | PythonConfig,
    Field(discriminator="kind"),
]
