"""What is asked of a model that is only read: by the runner, and by remedies with their calibration.

`lgmamba.model.sequences.SequenceModel` is one, and so is a model of another package (`lgmamba.hosts.host.Host`), which is no module of
this one. Glossary: `lgmamba.model`.
"""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from lgmamba.mixers.base import Verb
from lgmamba.mixers.contract import Hook

Q_contra = TypeVar("Q_contra", contravariant=True)
S = TypeVar("S")


class Supports(Protocol):
    """A mixer's configuration, of which it is asked what may be done to the mixer."""

    def refusal(self, verbs: Iterable[Verb]) -> str | None:
        """As `lgmamba.mixers.base.MixerBase.refusal`."""


class Sizes(Protocol):
    """A model's configuration, of which its layers' number and sizes are asked."""

    @property
    def n_layer(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def modes(self) -> int: ...

    @property
    def mixer(self) -> Supports: ...


class Readable(Protocol[Q_contra, S]):
    """A model that reads sequences (Q) in pieces, with states (S) between them, and predicts; methods as of `SequenceModel`."""

    @property
    def config(self) -> Sizes: ...

    @property
    def L0(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def uses_target_length(self) -> bool: ...

    @property
    def asks(self) -> bool: ...

    def tokens(self, sequences: Q_contra, start: int, stop: int) -> Tensor: ...

    def encode(
        self,
        tokens: Tensor,
        state: S | None = None,
        target_length: Tensor | None = None,
        hook: Hook | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, S | None]: ...

    def predict(self, outputs: Tensor) -> Tensor: ...

    def ask(self, state: S, sequences: Q_contra, t: int, target_length: Tensor | None = None) -> Tensor: ...


AnyReadable = Readable[Any, Any]
