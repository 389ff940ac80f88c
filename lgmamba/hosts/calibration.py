"""Calibration of remedies on a user's text: what is lowered is the mean -ln p of the next token near the end of each length.

Everything else is `lgmamba.remedies`. In prefix mode a factor is meant for the end of the text alone, so that the last `tail` tokens
of each length are scored; in stream mode, of one pass, the last `tail` tokens before each of the lengths. Glossary:
`lgmamba.hosts`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.remedies import CalibrationConfig
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import Tokens, TokenSequences, windows_of
from lgmamba.mixers.contract import Call, Hook
from lgmamba.model.runner import ends, read_pieces
from lgmamba.remedies import registry
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.configs import Entry
from lgmamba.remedies.entry import Mode
from lgmamba.remedies.search import Objective

RECORDED_BYTES = 1 << 28
"""Step sizes that one recorder may hold; of more, every k-th is kept, of all sequences alike."""
TOKENS_AT_ONCE = 1 << 13
"""Tokens read at a time while recording, at most, and one sequence at least."""


class NextToken:
    """How predictions of text are judged, as `lgmamba.tasks.base.Task` for what remedies ask of it."""

    @staticmethod
    def mean_loss(prediction: Tensor, sequences: TokenSequences, steps: Tensor) -> Tensor:
        """Mean -ln p of the token after each step: logits (B, S, vocabulary), steps (S,) from 1 -> ()."""
        wanted = sequences.targets[:, steps - 1]
        return F.cross_entropy(prediction.flatten(0, 1), wanted.flatten())


@dataclass(frozen=True)
class LanguageCalibration(CalibrationSet[TokenSequences]):
    """Windows of text to calibrate on; attributes as of `CalibrationSet`, with a `Host` for the model.

    Attributes:
        tail: tokens scored before each length.
    """

    model: Host
    tail: int = 1

    @torch.no_grad()
    def record(self, recorder: Hook, T: int, whole: bool = False) -> None:
        """As `CalibrationSet.record`, some sequences at a time, and within `RECORDED_BYTES`."""
        every = recorded_every(self.model, len(self.sequences), T) if hasattr(recorder, "step_sizes") else 1
        hook = recorder if every == 1 else _thinned(recorder, every)
        rows = max(1, TOKENS_AT_ONCE // T)
        for start in range(0, len(self.sequences), rows):
            some = self.sequences[slice(start, start + rows)]
            for _ in read_pieces(self.model, some, [T] if whole else ends([T], self.chunk), None, hook):
                pass

    def loss(self, steps: list[int], mode: Mode, make_hook: Callable[[Tensor], Hook], chunk: int | None) -> Objective:
        """Mean -ln p of the tokens scored, as a function of ln factors (M,)."""
        lengths = steps if mode == "stream" else steps[-1:]
        scored = sorted({t for T in lengths for t in range(max(1, T - self.tail + 1), T + 1)})
        stops = ends(steps[-1:], chunk or steps[-1])

        def loss(theta: Tensor) -> Tensor:
            total = torch.zeros((), dtype=torch.float64, device=self.sequences.device)
            for part in read_pieces(self.model, self.sequences, stops, None, make_hook(theta.exp())):
                at = [t - part.start - 1 for t in scored if part.start < t <= part.stop]
                if at:
                    wanted = self.sequences.targets[:, [part.start + i for i in at]]
                    total = total + self.model.surprise(part.outputs[:, at], wanted).double().sum()
            return total / (len(self.sequences) * len(scored))

        return loss


def recorded_every(host: Host, n: int, T: int) -> int:
    """k, where of n sequences of T tokens every k-th step size is recorded."""
    config = host.config
    return -(-4 * n * T * config.n_layer * config.channels // RECORDED_BYTES)


def _thinned(recorder: Hook, every: int) -> Hook:
    """The recorder, shown every k-th step of a piece; what it does to the state stays."""

    def hook(call: Call) -> Call:
        B, L = call.shape
        positions = torch.arange(every // 2 % L, L, every, device=call.like.device).expand(B, -1)
        return replace(call, post_state=recorder(call.take(positions)).post_state)

    return hook


@torch.inference_mode(False)  # whoever calls this may have switched gradients off
@torch.enable_grad()
def calibrate(
    host: Host,
    entry: Entry,
    tokens: Tokens,
    n: int,
    steps: int,
    lengths: list[float],
    reported: list[int],
    seed: int,
) -> Calibrated:
    """The values of one entry.

    Args:
        tokens: text; n windows of the longest length are taken of it.
        n: windows, half to optimise on and half to keep the best by.
        steps: iterations of a search.
        lengths: T / L0 calibrated for.
        reported: lengths T for which tabulated values are wanted.
    Raises:
        HostError: too little text, or a form whose calibration would take too much memory.
    """
    config = CalibrationConfig(images=n, steps=steps, lengths=sorted(set(lengths)))
    last = max([round(f * host.L0) for f in config.lengths] + reported)
    if getattr(entry, "threshold", None) == "as_released" and (k := recorded_every(host, n, host.L0)) > 1:
        raise HostError(
            f"remedy {entry.name!r}: threshold as_released needs all step sizes of {n} sequences, {k} times what may be held; expected "
            f"threshold: closed_form, or at most {max(2, n // k)} windows"
        )
    sequences = TokenSequences.of(windows_of(tokens, n, last, "calibration")).to(host.device)
    images = LanguageCalibration(
        host, NextToken(), sequences, config, sorted({*reported, *(round(f * host.L0) for f in config.lengths)}),
        chunk=host.L0, seed=seed, tail=max(1, host.L0 // 4),
    )  # fmt: skip
    with frozen(host.model), host.attached():
        return registry.calibrate(entry, images)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, with gradients to factors only; afterwards as it was."""
    wanted: list[tuple[Any, bool]] = [(p, p.requires_grad) for p in model.parameters()]
    training = [m for m in model.modules() if m.training]
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        for p, was in wanted:
            p.requires_grad_(was)
        for m in training:
            m.training = True
