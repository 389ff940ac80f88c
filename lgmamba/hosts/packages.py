"""What a model is asked for beside its Mamba layers, in each package: sizes, both ends, and the pass between them.

Glossary: `lgmamba.hosts`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from lgmamba.hosts.errors import HostError
from lgmamba.hosts.weights import OfficialModel, TransformersModel
from lgmamba.mixers.base import VERBS, Verb


@dataclass(frozen=True)
class HostMixer:
    """What a host's layers support: every verb, but for what attention layers in between would undo."""

    PHASES: ClassVar[bool] = False

    kind: str
    hybrid: bool

    def refusal(self, verbs: Iterable[Verb]) -> str | None:
        """As `lgmamba.mixers.base.MixerBase.refusal`."""
        if self.hybrid and "keep" in set(verbs):
            return f"no keep ({VERBS['keep']}): attention layers between the Mamba layers would read the dropped steps still"
        return None


@dataclass(frozen=True)
class HostConfig:
    """Sizes that remedies ask for; `n_layer` counts Mamba layers."""

    n_layer: int
    channels: int
    modes: int
    mixer: HostMixer


class Transformers:
    """A model of transformers."""

    def __init__(self, model: TransformersModel, hybrid: bool):
        self.model, self.hybrid = model, hybrid

    @property
    def embedding(self) -> nn.Embedding:
        """What makes vectors of ids."""
        return self.model.get_input_embeddings()

    @property
    def head(self) -> nn.Linear:
        """What makes logits of outputs."""
        return self.model.get_output_embeddings()

    def attention_cache(self) -> Any:
        """An empty one; None in a model without attention."""
        if not self.hybrid:
            return None
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def outputs(self, ids: Tensor, t: int, cache: Any) -> Tensor:
        """(B, L, d) after the final norm, of ids (B, L) after t tokens."""
        more = {}
        if self.hybrid:
            positions = torch.arange(t, t + ids.shape[1], device=ids.device)
            more = {"position_ids": positions.expand(len(ids), -1)}
        return self.model.base_model(ids, cache=cache, use_cache=cache is not None, **more).last_hidden_state

    def arguments(self, cache: Any, mask: Tensor | None, params: Any) -> dict[str, Any]:
        """Those of a Mamba layer's own forward pass."""
        return {"cache": cache, "attention_mask": mask}


class Official:
    """A model of mamba_ssm; methods as of `Transformers`."""

    def __init__(self, model: OfficialModel, hybrid: bool):
        self.model, self.hybrid = model, hybrid

    @property
    def embedding(self) -> nn.Embedding:
        return self.model.backbone.embedding

    @property
    def head(self) -> nn.Linear:
        return self.model.lm_head

    def attention_cache(self) -> None:
        if self.hybrid:
            raise HostError(
                "mamba_ssm's models with attention layers cannot be read in pieces here; convert the model to transformers"
            )

    def outputs(self, ids: Tensor, t: int, cache: None) -> Tensor:
        return self.model.backbone(ids)

    def arguments(self, cache: Any, mask: Tensor | None, params: Any) -> dict[str, Any]:
        return {"inference_params": params}


def package_of(model: nn.Module, hybrid: bool) -> Transformers | Official:
    """How to ask a model."""
    if hasattr(model, "get_input_embeddings"):
        return Transformers(cast(TransformersModel, model), hybrid)
    return Official(cast(OfficialModel, model), hybrid)
