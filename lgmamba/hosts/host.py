"""A language model of another package as something that remedies act on.

It is what remedies ask of a model (`lgmamba.model.reading.Readable`): sizes, L0, and `encode`, which reads a piece of text with a hook on
every Mamba layer; so remedies, controls and calibration are those of every other model. While it is attached, the forward pass of
each Mamba layer is replaced on the instance, and everything else of the model runs as ever. Glossary: `lgmamba.hosts`.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.hosts.caches import keep_states, note_states, states_in
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.find import find_layers, has_attention
from lgmamba.hosts.layers import ForeignLayer
from lgmamba.hosts.packages import HostConfig, HostMixer, package_of
from lgmamba.hosts.rows import RowStates, read_rows
from lgmamba.hosts.sequences import TokenSequences
from lgmamba.mixers.contract import Hook
from lgmamba.remedies.remedy import Remedy

MOST_LOGITS = 1 << 25
"""Logits made at a time, at most."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class HostState:
    """Where sequences stand after t tokens. `cache` holds what attention layers of a hybrid keep; it is written in place, so that
    a hybrid can go on from its newest state only.
    """

    t: int
    layers: tuple[RowStates, ...]
    cache: Any = None


@dataclass
class _Pass:
    """One forward pass of the whole model."""

    present: Tensor | None = None
    counts: list[int] = field(default_factory=list)
    hooks: dict[int | None, Hook | None] = field(default_factory=dict)


@dataclass
class _Encoding:
    """A pass that `Host.encode` makes."""

    hook: Hook | None
    before: HostState | None
    after: list[RowStates] = field(default_factory=list)


class Host:
    """A language model with Mamba layers, and the length that it was trained on.

    Args:
        model: of a class in `lgmamba.hosts.find.LAYERS`; it is not changed until it is attached.
        L0: training length, tokens.
    Raises:
        HostError: no Mamba layers that are known here, quantised weights, or no L0.
    """

    asks = False
    uses_target_length = False

    def __init__(self, model: nn.Module, L0: int | None):
        self.layers = find_layers(model)
        if not isinstance(L0, int) or isinstance(L0, bool) or L0 < 1:
            raise HostError(
                f"found L0={L0!r}; expected the number of tokens that the model was trained to read (of state-spaces' models 2048; it "
                "is in the model card, and no file of a checkpoint says it)"
            )
        self.model, self.L0 = model, L0
        first, self.package = self.layers[0], package_of(model, has_attention(model))
        mixer = HostMixer(first.KIND, self.package.hybrid)
        self.config = HostConfig(len(self.layers), first.channels, first.modes, mixer)
        self.remedy: Remedy | None = None
        self.target_length: int | None = None
        self._number = next(_numbers)
        self._pass = _Pass()
        self._encoding: _Encoding | None = None
        self._before: dict[int, Any] | None = None

    # ---- what remedies ask for --------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the text goes in."""
        return self.package.embedding.weight.device

    def tokens(self, sequences: TokenSequences, start: int, stop: int) -> Tensor:
        """Ids (B, stop - start)."""
        return sequences.ids[:, start:stop]

    def encode(
        self,
        tokens: Tensor,
        state: HostState | None = None,
        target_length: Tensor | None = None,
        hook: Hook | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, HostState]:
        """Read one piece of text, as `lgmamba.model.Stack.encode`; a remedy that the model is extended with has no part in it.

        Args:
            tokens: (B, L) ids, without padding.
            state: after the piece before, or None at the start.
            target_length: ignored: no model of another package is told a length.
            hook: changes what enters each scan.
        Returns:
            outputs (B, L, d) after the final norm, NaN at steps that the hook dropped, and the state after the piece.
        """
        t = 0 if state is None else state.t
        encoding = self._encoding = _Encoding(hook, state)
        cache = self.package.attention_cache() if state is None else state.cache
        try:
            with self.attached():
                outputs = self.package.outputs(tokens, t, cache)
        finally:
            self._encoding = None
        return outputs, HostState(t + tokens.shape[1], tuple(encoding.after), cache)

    def predict(self, outputs: Tensor) -> Tensor:
        """Logits (..., vocabulary), float32 (float64 in a float64 model)."""
        head = self.package.head
        logits = head(outputs.to(head.weight.dtype))
        return logits if logits.dtype == torch.float64 else logits.float()

    def ask(self, state: HostState, sequences: TokenSequences, t: int, target_length: Tensor | None = None) -> Tensor:
        """No language model is (`asks`)."""
        raise NotImplementedError("a language model is not asked: it predicts from its outputs")

    def surprise(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-ln p of targets (B, K) after outputs (B, K, d): (B, K); some logits at a time."""
        rows, wanted = outputs.flatten(0, 1), targets.flatten()
        n = max(1, MOST_LOGITS // self.vocabulary)
        parts = [
            F.cross_entropy(self.predict(rows[i : i + n]), wanted[i : i + n], reduction="none")
            for i in range(0, len(rows), n)
        ]
        return torch.cat(parts).reshape(targets.shape)

    @property
    def vocabulary(self) -> int:
        """Rows of the output embedding."""
        return self.package.head.weight.shape[0]

    # ---- the model's own passes -------------------------------------------------------------------------------------

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The Mamba layers read by this host; nested use changes nothing."""
        if self._before is not None:
            yield
            return
        self.attach()
        try:
            yield
        finally:
            self.detach()

    def attach(self) -> None:
        """Replace the layers' forward passes.

        Raises:
            HostError: another host is attached to the model.
        """
        if any(getattr(layer.mixer.__dict__.get("forward"), "func", None) is Host._forward for layer in self.layers):
            raise HostError(
                "this model is extended already; remove() that extension first, or list both remedies in one"
            )
        self._before = {layer.number: layer.mixer.__dict__.get("forward") for layer in self.layers}
        for layer in self.layers:
            layer.mixer.forward = partial(Host._forward, self, layer, layer.mixer.forward)

    def detach(self) -> None:
        """Put back what was there."""
        for layer in self.layers:
            before = (self._before or {}).get(layer.number)
            if before is None:
                layer.mixer.__dict__.pop("forward", None)
            else:  # of a library that had replaced it before, such as accelerate
                layer.mixer.forward = before
        self._before = None

    def _forward(
        self,
        layer: ForeignLayer,
        original: Callable[..., Tensor],
        hidden_states: Tensor,
        cache: Any = None,
        attention_mask: Tensor | None = None,
        inference_params: Any = None,
        **rest: Any,
    ) -> Tensor:
        """What a Mamba layer does while the host is attached."""
        for name in ("seq_idx", "cu_seqlens"):
            if rest.get(name) is not None:
                raise HostError(f"found {name} (several sequences in one row); expected one sequence in each row")
        B, L, _ = hidden_states.shape
        if layer.number == 0:
            self._pass = _started(B, L, attention_mask)
        if self._encoding is not None:
            return self._encoded(self._encoding, layer, hidden_states)
        if hidden_states.is_cuda and torch.cuda.is_current_stream_capturing():
            raise HostError(
                "a CUDA graph would repeat the step number it was captured at; generate without one (cg=False)"
            )
        kept = cache if cache is not None else inference_params
        before = states_in(kept, layer, self._number, B)
        if before is None:
            before = RowStates.start([self._target_length(n) for n in self._pass.counts])
        if self._nothing_done(before) and (not any(before.t) or L == 1):
            out = original(hidden_states, **self.package.arguments(cache, attention_mask, inference_params), **rest)
            if kept is not None:
                note_states(kept, layer, self._number, _moved(before, self._pass.counts))
            return out
        here = self._pass
        out, after, here.present = read_rows(layer, hidden_states, here.present, before, here.counts, self._hook)
        if kept is not None:
            keep_states(kept, layer, self._number, after)
        return out

    def _encoded(self, encoding: _Encoding, layer: ForeignLayer, hidden_states: Tensor) -> Tensor:
        here, state = self._pass, encoding.before
        before = RowStates.start([None] * len(hidden_states)) if state is None else state.layers[layer.number]
        out, after, here.present = read_rows(
            layer, hidden_states, here.present, before, here.counts, lambda t, target_length: encoding.hook
        )
        encoding.after.append(after)
        return out

    def _target_length(self, tokens: int) -> int | None:
        """The length that a row of so many tokens is read for."""
        if self.remedy is None or self.remedy.mode == "stream":
            return None
        return self.target_length or tokens

    def _hook(self, t: int, target_length: int | None) -> Hook | None:
        """The hook of rows that have read t tokens; made once for each pass and length."""
        remedy = self.remedy
        if remedy is None or (remedy.whole and t > 0):  # after the prompt nothing is left out, as in the originals
            return None
        if target_length not in self._pass.hooks:
            self._pass.hooks[target_length] = remedy.make_hook(target_length)
        return self._pass.hooks[target_length]

    def _nothing_done(self, before: RowStates) -> bool:
        return all(
            self._hook(t, target_length) is None
            for t, target_length in zip(before.t, before.target_length, strict=True)
        )


def _started(B: int, L: int, mask: Tensor | None) -> _Pass:
    """A pass over a batch, of which a mask (B, >= L) says what is text."""
    if mask is None:
        return _Pass(None, [L] * B)
    if mask.ndim != 2:
        raise HostError(f"expected attention_mask (B, L) of 0 and 1; got shape {tuple(mask.shape)}")
    present = mask[:, mask.shape[1] - L :].bool()
    counts = present.sum(1).tolist()
    return _Pass(None if min(counts) == L else present, counts)


def _moved(before: RowStates, counts: list[int]) -> RowStates:
    t = tuple(t + n for t, n in zip(before.t, counts, strict=True))
    return RowStates(t, before.target_length, remembered=before.remembered)
