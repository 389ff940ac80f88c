"""Encoders by kind: a module each, with its configuration and how it is built, and its name in the union below."""

from typing import Annotated

from pydantic import Field

from lgmamba.tradeoff.encoders.cnn import CnnEncoder
from lgmamba.tradeoff.encoders.mlp import MlpEncoder
from lgmamba.tradeoff.encoders.vit import VitEncoder

Encoder = Annotated[MlpEncoder | CnnEncoder | VitEncoder, Field(discriminator="kind")]
