"""Keys of mixers that have Mamba-1, without its short convolution, as a part. Imports no torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Width
from lgmamba.mixers.base import MixerBase, steps_ordered
from lgmamba.mixers.mamba.config import MambaConfig

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class WithMamba(MixerBase):
    """Keys as of kind mamba, each of the part's own."""

    d_state: int = Field(ge=1, le=256, description="state size N of the scan")
    expand: float = Field(gt=0, le=64, description="channels of the scan / width that it is given")
    dt_rank: Width | Literal["auto"] = Field(description="rank of the step-size projection; auto = ceil(width / 16)")
    dt_min: float = Field(gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(gt=0, description="largest step size at initialisation")

    _ordered = model_validator(mode="after")(steps_ordered)

    def part(self, model: "ModelConfig", width: int | None = None) -> "ModelConfig":
        """The model's configuration with Mamba-1 alone as its mixer, for a part of that width (None: the model's)."""
        keys = {key: getattr(self, key) for key in WithMamba.model_fields}
        mamba = MambaConfig.model_validate({"kind": "mamba", "d_conv": 4, "conv": "none", **keys})
        return model.model_copy(update={"mixer": mamba, "d_model": width or model.d_model})
