"""`model.mixer` of params.yaml: the configuration of each kind of mixer. Imports no torch; classes are in `lgmamba.mixers.registry`."""

from typing import Annotated

from pydantic import Field

from lgmamba.mixers.gru.config import GruConfig
from lgmamba.mixers.mamba.config import MambaConfig

MixerConfig = Annotated[MambaConfig | GruConfig, Field(discriminator="kind")]
