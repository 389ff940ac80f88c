"""The packages' own caches: where states lie between two calls, so that generation and `remove` need nothing of ours.

A cache holds states, but not how many tokens of each row made them, nor what a remedy carries besides. That is noted on the cache
object itself, so that it lives as long as the cache and is copied with it. Glossary: `lgmamba.hosts`.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lgmamba.hosts.errors import HostError
from lgmamba.hosts.layers import ForeignLayer
from lgmamba.hosts.rows import RowStates

NOTES = "_lgmamba_notes"
"""The attribute of a cache."""


@dataclass(frozen=True)
class Note:
    """What a cache does not say of one layer: whose states they are, and `RowStates` without memory and carry."""

    owner: int
    states: RowStates


def states_in(cache: Any, layer: ForeignLayer, owner: int, rows: int) -> RowStates | None:
    """Where the rows stand, or None at their start (and where nothing is kept).

    Args:
        cache: `Cache` of transformers, `InferenceParams` of mamba_ssm, or None.
        owner: number of the extension that reads.
        rows: B.
    Raises:
        HostError: the cache was filled without this remedy, or for another batch.
    """
    held = None if cache is None else _held(cache, layer)
    if held is None:
        return None
    conv, memory = held
    note = getattr(cache, NOTES, {}).get(layer.number)
    if note is None or note.owner != owner:
        raise HostError(
            "this cache was filled without the remedy that the model has now; read its tokens again, from an empty cache"
        )
    if len(note.states.t) != rows or len(memory) != rows:
        raise HostError(
            f"this cache was filled by a batch of {len(note.states.t)} rows; got {rows}. Repeat the rows before the prompt is read"
        )
    carry = conv.mT[:, 1:] if layer.width > 1 else conv.mT[:, :0]
    memory = memory.reshape(rows, layer.channels, layer.modes)
    return RowStates(note.states.t, note.states.target_length, memory, carry, note.states.remembered)


def keep_states(cache: Any, layer: ForeignLayer, owner: int, states: RowStates) -> None:
    """Put states where the package looks for them."""
    memory, carry = states.tensors
    memory = memory.reshape(-1, *layer.state_shape)
    conv = F.pad(carry.mT, (1, 0))  # the packages keep one input more, which no step reads
    if hasattr(cache, "update_recurrent_state"):
        if cache.is_recording_past(layer.index):
            raise HostError(
                "speculative decoding takes tokens back, and a remedy's steps cannot be; generate without it"
            )
        cache.update_conv_state(conv, layer.index, conv_kernel_size=layer.width)
        cache.update_recurrent_state(memory, layer.index)
    else:
        _keep_official(cache, layer, conv, memory)
    note_states(cache, layer, owner, states)


def note_states(cache: Any, layer: ForeignLayer, owner: int, states: RowStates) -> None:
    """What the cache itself does not say."""
    if not hasattr(cache, NOTES):
        setattr(cache, NOTES, {})
    bare = RowStates(states.t, states.target_length, remembered=states.remembered)
    getattr(cache, NOTES)[layer.number] = Note(owner, bare)
    if any(v is not None for v in states.remembered) and hasattr(cache, "reorder_cache"):
        cache.reorder_cache = _cannot_reorder


def _cannot_reorder(rows: Any) -> None:
    """What stands in for a cache's own `reorder_cache` where it would leave out what a remedy carries."""
    raise HostError(
        "beam search: a window carries the steps that it may still reach, which a cache does not reorder; use num_beams=1"
    )


def _held(cache: Any, layer: ForeignLayer) -> tuple[Tensor, Tensor] | None:
    """Convolution's inputs (B, C, W) and memory; None in an empty cache."""
    if hasattr(cache, "get_recurrent_state"):
        memory = cache.get_recurrent_state(layer.index)
        return None if memory is None else (cache.get_conv_state(layer.index), memory)
    if hasattr(cache, "key_value_memory_dict"):
        return cache.key_value_memory_dict[layer.index] if cache.seqlen_offset > 0 else None
    raise HostError(
        f"found a cache of class {type(cache).__name__}; expected one of transformers >= 5.24, or mamba_ssm's InferenceParams"
    )


def _keep_official(cache: Any, layer: ForeignLayer, conv: Tensor, memory: Tensor) -> None:
    """In place where tensors lie there already, of the memory's own type otherwise."""
    there = cache.key_value_memory_dict.get(layer.index, (None, None))
    kept = []
    for old, new in zip(there, (conv, memory), strict=True):
        fits = old is not None and old.shape == new.shape and old.dtype == new.dtype
        kept.append(old.copy_(new) if fits else new)
    cache.key_value_memory_dict[layer.index] = tuple(kept)
