"""The verbs of remedies and probes, and what a mixer's configuration says of them. Imports no torch.

A step of a mixer maps its memory h to E_t h + f_t, and its output is read from the memory. In these terms a verb is defined once,
so that one remedy serves every mixer that supports the verbs it is written in.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from lgmamba.config.base import Strict

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

Verb = Literal[
    "slow", "decay", "write", "read", "mask", "keep", "state", "reset", "window", "score", "eigenmodes", "attention"
]
VERBS: dict[Verb, str] = {
    "slow": "time runs s times as fast: E_t becomes E_t^s, and what is written shrinks as it does in the mixer's own steps",
    "decay": "E_t becomes E_t^s and nothing else changes; or its rates -ln E_t are mapped by a function",
    "write": "f_t is multiplied by g_t",
    "read": "what is read of the memory at step t is multiplied by g_t",
    "mask": "a masked step leaves the memory exactly as it was",
    "keep": "the layer, and all above it, go on with some of the steps only",
    "state": "the memory at the end of a piece is changed, or looked at",
    "reset": "memory and carry are zero again",
    "window": "the memory holds what the last r steps wrote",
    "score": "how much a step matters, (B, L, channels), >= 0, known before it is read",
    "eigenmodes": "a step retains exp(-score rate) of each mode, with rates (channels, modes) that no input changes",
    "attention": "the layer is a selective scan with x, dt, A, Bmat, Cmat, so that its weights of earlier steps can be written down",
}
"""Verb -> what it means."""
EXACT = "exact"
MOST_KEYS = 256
"""Width of keys up to which flash-linear-attention has kernels."""
OVERLAPPING = "segments that overlap, each read from an empty state: a state holds the last r / 2 to r steps, also where exact is asked for"
BY_INPUT = "its decays are made of each step's input, so that no mode has a rate that stays"
NOT_SELECTIVE = "it does not select: every step matters as much as every other, whatever it shows"

RECURRENT: dict[Verb, str] = dict.fromkeys(("slow", "decay", "write", "read", "mask", "keep", "state", "reset"), EXACT)
RECURRENT |= {"window": OVERLAPPING}
"""What a mixer supports that reads one step after the other and keeps a memory of them; each says where it differs."""


class Refuses(Protocol):
    """A mixer, or the layers of a language model, as remedies ask them."""

    PHASES: ClassVar[bool]

    def refusal(self, verbs: Iterable[Verb]) -> str | None:
        """As of `MixerBase`."""


class MixerBase(Strict):
    """What every mixer's configuration has.

    Class attributes:
        SUPPORTS: verb -> `EXACT`, or in words what stands in for it.
        WHY_NOT: every other verb -> the reason.
        TITLE: its name, for the report.
        SOURCE: paper and equations.
        ANSWERS: whether it has outputs for queries alone, not for steps, so that it is only for tasks that ask (`TaskBase.ASKS`).
        BOUNDED: whether a step writes in proportion to what it forgets, so that the state does not grow with how long it remembers; None
            where there is no such state, or nothing is said.
        FLA: whether flash-linear-attention has kernels for its recurrence, which `scan_backend: fla` then takes.
        PHASES: whether steps turn phases of the memory, and calls can leave these as they are where time is slowed (`Call.slow_rates`).
        OFFSETS: whether a length-adaptive model can offset its step sizes (`adaptive.kind: dt_bias` and `both`).
    """

    SUPPORTS: ClassVar[dict[Verb, str]]
    WHY_NOT: ClassVar[dict[Verb, str]]
    TITLE: ClassVar[str]
    SOURCE: ClassVar[str]
    ANSWERS: ClassVar[bool] = False
    BOUNDED: ClassVar[bool | None] = None
    FLA: ClassVar[bool] = False
    PHASES: ClassVar[bool] = False
    OFFSETS: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """What it is called in a report: TITLE, unless an option has a name of its own."""
        return self.TITLE

    @property
    def description(self) -> str:
        """Its size, for the report."""
        raise NotImplementedError

    @property
    def alone(self) -> str | None:
        """What keeps its trainings from running side by side as one model (`torch.vmap`), or None."""
        return None

    @property
    def why_no_passing(self) -> str | None:
        """Why no training may start from the state of another sequence (`train.state_passing`), or None."""
        return None

    def channels(self, model: "ModelConfig") -> int:
        """Channels of the memory."""
        raise NotImplementedError

    def modes(self, model: "ModelConfig") -> int:
        """Modes of each channel."""
        raise NotImplementedError

    def numbers(self, model: "ModelConfig") -> int:
        """Numbers that one layer keeps of the past for one sequence, without the carry."""
        return self.channels(model) * self.modes(model)

    @property
    def period(self) -> int:
        """Layers after which those of one kind come again (`of_layer`)."""
        return 1

    def of_layer(self, layer: int) -> "MixerBase":
        """The configuration of one layer, numbered from 0, where layers differ."""
        return self

    def problem(self, model: "ModelConfig") -> str | None:
        """What keeps it from standing in this model, or None."""
        return None

    @property
    def supports(self) -> dict[Verb, str]:
        """`SUPPORTS`, where it depends on the mixer's options."""
        return self.SUPPORTS

    @property
    def why_not(self) -> dict[Verb, str]:
        """`WHY_NOT`, where it depends on the mixer's options."""
        return self.WHY_NOT

    def why_no_fla(self, model: "ModelConfig") -> str | None:
        """Why kernels of flash-linear-attention do not compute it (`scan_backend: fla`), or None."""
        if not self.FLA:
            return "the kernels of flash-linear-attention compute mamba2, mamba3, gla, gated_delta and rwkv7 here, and no other"
        if self.modes(model) > MOST_KEYS:
            return f"the kernels of flash-linear-attention have keys of {MOST_KEYS} numbers at most, and its keys have {self.modes(model)}"
        return None

    def refusal(self, verbs: Iterable[Verb]) -> str | None:
        """Why something that needs these verbs cannot be done with this mixer; None where it can."""
        missing = [verb for verb in VERBS if verb in set(verbs) and verb not in self.supports]
        return "; ".join(f"no {verb}: {self.why_not[verb]}" for verb in missing) or None


def steps_ordered(config: Any) -> Any:
    """A mixer's configuration with step sizes at initialisation, from dt_min to dt_max; a check of pydantic's.

    Raises:
        ValueError: they are not in order.
    """
    if config.dt_min >= config.dt_max:
        raise ValueError(f"dt_min < dt_max; got {config.dt_min}, {config.dt_max}")
    return config
