"""What a Mamba layer and a language model of another package are made of, as far as it is read here: for type checkers only.

torch declares every attribute of a module as `Tensor | Module`; which one it is, is said here. Names are the packages' own.
"""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn


class MambaWeights(Protocol):
    """Of every kind of Mamba layer."""

    in_proj: nn.Linear
    conv1d: nn.Conv1d
    A_log: Tensor
    D: Tensor
    out_proj: nn.Linear


class Mamba1Weights(MambaWeights, Protocol):
    """Of Mamba-1."""

    x_proj: nn.Linear
    dt_proj: nn.Linear


class Mamba2Weights(MambaWeights, Protocol):
    """Of Mamba-2."""

    dt_bias: Tensor


class TransformersModel(Protocol):
    """`transformers.PreTrainedModel` with a head."""

    config: Any
    base_model: Callable[..., Any]

    def get_input_embeddings(self) -> nn.Embedding: ...

    def get_output_embeddings(self) -> nn.Linear: ...

    def generate(self, *args: Any, **kwargs: Any) -> Any: ...


class OfficialBackbone(Protocol):
    """`mamba_ssm.models.mixer_seq_simple.MixerModel`."""

    embedding: nn.Embedding

    def __call__(self, ids: Tensor) -> Tensor: ...


class OfficialModel(Protocol):
    """`mamba_ssm.models.mixer_seq_simple.MambaLMHeadModel`."""

    backbone: OfficialBackbone
    lm_head: nn.Linear

    def generate(self, *args: Any, **kwargs: Any) -> Any: ...
