"""How a mixer is run, and the one hook through which a remedy or a probe sees, and may change, what it does.

    prepare -> call -> hook -> recur -> finish

A hook is a function Call -> Call, called by every layer for every piece of a sequence, single steps included, so that a whole pass,
a pass in pieces and step-by-step reading are changed alike. It acts in verbs (`lgmamba.mixers.base`): the methods of `Call`, and

    keep         set `keep`; all later layers then see a shorter sequence
    reset        `reset`
    state        `then`, which is applied to the memory at the end of the piece; or replace `h0`
    window       what another recurrence does: set `scan`, which is called in place of the mixer's own, and may carry tensors on

The neutral hook is the identity, and equals running without a hook. Glossary: `lgmamba.mixers`, `lgmamba.model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.base import MixerBase

Factor = float | Tensor
"""A number, or a tensor that is broadcast to what it multiplies."""
Remembered = tuple[Tensor, ...]
"""What a `scan` carries from piece to piece besides the memory; batch is axis 0 of each."""


@dataclass(frozen=True)
class State:
    """What one layer takes from one piece of a sequence to the next. Batch is axis 0 of every tensor.

    Attributes:
        memory: (B, channels, modes), float32 (float64 in a float64 model), or complex.
        carry: inputs that are needed again, and what the recurrence holds besides the memory; not for remedies.
        remembered: what a hook's `scan` carries besides, or None.
    """

    memory: Tensor
    carry: tuple[Tensor, ...] = ()
    remembered: Remembered | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Carry and memory."""
        return (*self.carry, self.memory)

    def with_tensors(self, tensors: tuple[Tensor, ...]) -> State:
        """Of other tensors, in the order of `tensors`."""
        *carry, memory = tensors
        return State(memory, tuple(carry))


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one layer is about to do with one piece of a sequence. A mixer adds its own tensors, and the methods that it supports.

    Attributes:
        layer: number of the layer, from 0.
        t0: steps of the sequence read before this piece; piece step i is step t0 + i + 1.
        target_length: (B,) int64 length told to the model, or None.
        h0: (B, channels, modes) memory before the piece, or None for zeros.
        keep: (B, K) int64 ascending positions inside the piece to go on with, or None for all.
        post_state: function on the memory at the end of the piece, or None.
        scan: takes the place of the mixer's own recurrence, or None; see `Scan`.
        remembered: what `scan` left at the end of the piece before, or None.
        held: what the recurrence goes on with besides the memory, of `Mixer.holds`; touched by nothing but a reset; () at the start.

    Class attributes:
        PER_STEP: names of what it holds for each step, (B, L, ...).
        LINEAR: whether E_t and f_t do not depend on the memory.
    """

    PER_STEP: ClassVar[tuple[str, ...]]
    LINEAR: ClassVar[bool] = True

    layer: int
    t0: int
    target_length: Tensor | None
    h0: Tensor | None
    keep: Tensor | None = None
    post_state: Callable[[Tensor], Tensor] | None = None
    scan: Scan | None = None
    remembered: Remembered | None = None
    held: tuple[Tensor, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """B, L."""
        return getattr(self, self.PER_STEP[0]).shape[:2]

    @property
    def like(self) -> Tensor:
        """A tensor of the device and type in which the memory is computed."""
        raise NotImplementedError

    def slow(self, s: Factor) -> Self:
        """s broadcasts to (B, L, channels); 1 is the identity, bit for bit."""
        raise NotImplementedError

    def slow_rates(self, s: Factor) -> Self:
        """As `slow`, but for the phases that steps turn, which they turn as ever; of mixers that have `PHASES`."""
        raise NotImplementedError

    def decay(self, s: Factor | Callable[[Tensor], Tensor]) -> Self:
        """s: a factor on the rates, broadcast to (channels, modes), or a function of them."""
        raise NotImplementedError

    def write(self, g: Tensor) -> Self:
        """g broadcasts to (B, L, modes)."""
        raise NotImplementedError

    def enter(self, g: Tensor) -> Self:
        """As `write`, with g broadcast to (B, L, channels); on the input, and so also on its way past the memory, if there is one."""
        raise NotImplementedError

    def read(self, g: Tensor) -> Self:
        """g broadcasts to (B, L, modes)."""
        raise NotImplementedError

    def mask(self, m: Tensor) -> Self:
        """m broadcasts to (B, L, channels): 1 or True leaves a step as it is, 0 or False masks it."""
        raise NotImplementedError

    def score(self) -> Tensor:
        """(B, L, channels)."""
        raise NotImplementedError

    def rates(self) -> Tensor:
        """(channels, modes), > 0."""
        raise NotImplementedError

    def states(self) -> Tensor:
        """The memory after every step, as it would be without the hook's `scan`: (B, L, channels, modes)."""
        raise NotImplementedError

    def window(self, r: int, form: str) -> Self:
        """See `lgmamba.mixers.mamba.window`."""
        raise NotImplementedError

    def retained(self) -> Tensor | None:
        """The share of each mode that a step retains, in [0, 1], broadcast to (B, L, channels, modes); None where that is not defined."""
        return None

    def reset(self) -> Self:
        """As at the start of a sequence."""
        return replace(self, h0=None, held=())

    def then(self, f: Callable[[Tensor], Tensor], first: bool = False) -> Self:
        """f on the memory at the end of the piece, after what is done to it already; or before that."""
        g = self.post_state
        if g is None:
            return replace(self, post_state=f)
        return replace(self, post_state=(lambda h: g(f(h))) if first else (lambda h: f(g(h))))

    def cut(self, start: int, stop: int) -> Self:
        """Steps start .. stop - 1 of the piece, numbered from 0, with h0 as it is."""
        return replace(self, t0=self.t0 + start, **{n: getattr(self, n)[:, start:stop] for n in self.PER_STEP})

    def take(self, positions: Tensor) -> Self:
        """The steps at some positions (B, K)."""
        return replace(self, keep=None, **{n: gather_steps(getattr(self, n), positions) for n in self.PER_STEP})


Hook = Callable[[Call], Call]
Ordinary = Callable[[Call], tuple[Tensor, Tensor, tuple[Tensor, ...]]]
"""The mixer's own recurrence on a call: what `Mixer.finish` is given (B, L, ...), and memory and `held` at its end."""
Scan = Callable[[Call, Ordinary], tuple[Tensor, Tensor, tuple[Tensor, ...], Remembered | None]]
"""What to finish, memory, held and remembered of a call, whose steps to be dropped are gone. It may ask for the ordinary recurrence
of any call, any number of times; post_state is applied to the memory that it returns."""


def run(call: Call, ordinary: Ordinary) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Remembered | None]:
    """What a hooked call comes to, with the mixer's own recurrence or the hook's: what to finish, memory, held and remembered."""
    call = call if call.keep is None else call.take(call.keep)
    y, h, held, remembered = call.scan(call, ordinary) if call.scan else (*ordinary(call), None)
    return y, call.post_state(h) if call.post_state else h, held, remembered


class Mixer(nn.Module):
    """Base of all mixers: (B, L, d) -> (B, L, d), causal, in pieces of any size.

    Subclasses have `prepare`, `recur` and `finish`, and may have `carries`, `holds`, and a `fast` path for when there is no hook.

    Class attributes:
        Config: the mixer's own configuration, for one that is named by `kind: python`.
        COMPLEX: whether the memory is complex.
        GROWS: whether what is held grows with every step, along axis 1 of each.
        SURROGATE: whether its gradient is that of something smooth in the place of a choice that it makes, and no derivative.

    Args:
        config: the model's.
        layer: number of the layer, passed on to hooks.
    """

    Config: ClassVar[type[MixerBase]]
    COMPLEX: ClassVar[bool] = False
    GROWS: bool = False
    SURROGATE: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.config, self.layer = config.mixer, layer
        self.shape = (config.mixer.channels(config), config.mixer.modes(config))

    def forward(
        self,
        u: Tensor,
        state: State | None = None,
        t0: int = 0,
        dt_offset: Tensor | None = None,
        dt_factor: Tensor | None = None,
        target_length: Tensor | None = None,
        hook: Hook | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, State | None, Tensor | None]:
        """Mix one piece of a sequence; a piece may be a single step.

        Args:
            u: (B, L, d).
            state: that after the piece before, or None at the start.
            t0: steps read before this piece.
            dt_offset: (B or 1, 1 or L, channels) added to the step size before softplus; for mixers that say so (`OFFSETS`).
            dt_factor: (B, L, 1) time runs so many times as fast (`slow`).
            target_length: (B,) length told to the model, for hooks only.
            hook: the hook.
            want_state: whether the new state is needed; training on whole sequences spares the recurrence its end.
        Returns:
            out (B, K, d), the new state (None if it is not wanted), and the positions kept (B, K), or None where all are (K = L).
        """
        if hook is None and dt_factor is None:
            return *self.fast(u, state, t0, dt_offset, want_state), None
        call, carry = self.prepare(u, state, t0, dt_offset, target_length)
        call = call if dt_factor is None else call.slow(dt_factor)
        call = call if hook is None else hook(call)
        y, h, held, remembered = run(call, self.recur)
        return self.finish(y), State(h, (*carry, *held), remembered), call.keep

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """Output and new state where nothing acts on the call; arguments as in `forward`."""
        call, carry = self.prepare(u, state, t0, dt_offset, None)
        y, h, held = self.recur(call)
        return self.finish(y), State(h, (*carry, *held)) if want_state else None

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[Call, tuple[Tensor, ...]]:
        """Everything before the recurrence: the call, and the carry after the piece, without what the recurrence holds."""
        raise NotImplementedError

    def recur(self, call: Call) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """The recurrence, in parallel where there is a way; see `Ordinary`."""
        raise NotImplementedError

    def finish(self, y: Tensor) -> Tensor:
        """Everything after it: (B, K, ...) -> (B, K, d)."""
        raise NotImplementedError

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what `prepare` carries on, without batch; none by default."""
        return ()

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what the recurrence holds besides the memory, without batch; none by default."""
        return ()

    def before(self, state: State | None) -> dict[str, Any]:
        """The fields of a call that come from the piece before."""
        if state is None:
            return {"h0": None}
        return {"h0": state.memory, "held": state.carry[len(self.carries()) :], "remembered": state.remembered}

    def start(self, batch: int) -> State:
        """The state before the first step, which `forward` takes for None: zeros, in the types that a pass leaves."""
        weight = next(self.parameters())
        device = weight.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        wide = torch.promote_types(weight.dtype, torch.float32)
        carry = [weight.new_zeros(batch, *shape, dtype=narrow) for shape in self.carries()]
        carry += [weight.new_zeros(batch, *shape, dtype=wide) for shape in self.holds()]
        memory = weight.new_zeros(batch, *self.shape, dtype=wide.to_complex() if self.COMPLEX else wide)
        return State(memory, tuple(carry))


class Answering(Mixer):
    """Base of mixers that are no function of each step and those before it: they have outputs for queries alone (`ANSWERS`).

    Reading keeps what is read, and gives zeros; whatever is asked is answered from a state, which is not changed.
    """

    def answer(self, u: Tensor, state: State, last: Tensor | None = None, alone: bool = False) -> Tensor:
        """(B, Q, d) -> (B, Q, d).

        Args:
            u: queries.
            state: where sequences stand that are asked; at least one step of each is not masked.
            last: (B,) number of the last step that is looked at of each; None: all of them.
            alone: whether each query is answered as if it were the only one.
        """
        raise NotImplementedError


def gather_steps(v: Tensor, keep: Tensor) -> Tensor:
    """Rows `keep` (B, K) of a (B or 1, L, ...) tensor, per sample: (B, K, ...)."""
    index = keep.reshape(*keep.shape, *([1] * (v.ndim - 2))).expand(-1, -1, *v.shape[2:])
    return v.expand(len(keep), *v.shape[1:]).gather(1, index)
