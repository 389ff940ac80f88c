"""Encoders by kind: a module each, with its configuration and how it is built, and its name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from lgmamba.tradeoff.encoders.cnn import CnnEncoder
from lgmamba.tradeoff.encoders.mlp import MlpEncoder
from lgmamba.tradeoff.encoders.vit import VitEncoder

Encoder = Annotated[MlpEncoder | CnnEncoder | VitEncoder, Field(discriminator="kind")]

TITLES = {
    get_args(encoder.model_fields["kind"].annotation)[0]: encoder.TITLE for encoder in get_args(get_args(Encoder)[0])
}
"""Kind -> its name, for figures; in their order."""
