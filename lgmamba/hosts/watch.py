"""`lgmamba.watch`: what the recurrences of a language model do with a text. One pass, in pieces, with recorders of fixed size.

    step_sizes   layer, from, to                -> mean and quantiles of dt over channels and tokens
    memory       layer                          -> steps until a write has faded to 1/e (tau): quantiles over modes; shares of modes
                                                   by memory, in units of L0
    inflation    layer, tokens                  -> predicted growth of the mean state over that at L0, by the state's energy
    states       layer, tokens                  -> norm of the state, and over that at L0
    distance     layer                          -> how far back lies what the state holds at the last token, by mode
    surprise     from, to                       -> bits for each token
    context      tokens                         -> what the model's last predictions lose if it reads so many last tokens only

Glossary: `lgmamba.hosts`, `lgmamba.probe.dynamics`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.frames import write_columns
from lgmamba.hosts.calibration import frozen
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import TokenSequences
from lgmamba.mixers.contract import Call, Hook
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.model.runner import ends, read_pieces
from lgmamba.probe.dynamics import GROUPS, DecayRecorder, DistanceRecorder, mode_memory
from lgmamba.remedies.base import chain

CLOSE_ROWS = 4
"""Sequences that are looked at mode by mode."""
PIECE_TOKENS = 1 << 13
"""Tokens of a batch that are read at a time, at most, and one step of each sequence at least."""
BINS, SMALLEST, LARGEST = 256, 1e-6, 1e3
"""Of the histogram of step sizes, logarithmic."""
QUANTILES = (0.05, 0.5, 0.95)

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Watched:
    """What was seen: columns by name of the frame, see the module."""

    L0: int
    frames: dict[str, Columns]

    def frame(self, name: str) -> Any:
        """One of the frames, with polars."""
        import polars as pl

        return pl.DataFrame(self.frames[name])

    def write(self, folder: str | Path) -> list[Path]:
        """<folder>/<frame>.parquet for each frame."""
        paths = []
        for name, columns in self.frames.items():
            paths.append(Path(folder) / f"{name}.parquet")
            write_columns(paths[-1], columns)
        return paths

    @property
    def fails_from(self) -> int | None:
        """Shortest length at which some layer's state is predicted to be 1.25 times what it was at L0; None if at none looked at."""
        grown = zip(self.frames["inflation"]["tokens"], self.frames["inflation"]["growth"], strict=True)
        return min((T for T, growth in grown if growth > 1.25), default=None)


class StepSizeHistogram:
    """A hook that changes nothing and counts step sizes of each layer by position: 2 kB for each layer and bin, of any text.

    Args:
        stops: ends of the bins, tokens, ascending.
    """

    def __init__(self, stops: list[int]) -> None:
        self.stops = stops
        self._counts: dict[int, Tensor] = {}
        self._sums: dict[int, Tensor] = {}

    def __call__(self, call: Call) -> Call:
        dt, t0 = call.score().detach(), call.t0
        here = next(i for i, stop in enumerate(self.stops) if t0 < stop)  # pieces end where bins do
        if call.layer not in self._counts:
            self._counts[call.layer] = torch.zeros(len(self.stops), BINS, device=dt.device)
            self._sums[call.layer] = torch.zeros(len(self.stops), dtype=torch.float64, device=dt.device)
        logs = dt.float().clamp(SMALLEST, LARGEST).log()
        self._counts[call.layer][here] += torch.histc(logs, BINS, math.log(SMALLEST), math.log(LARGEST))
        self._sums[call.layer][here] += dt.double().sum()
        return call

    def columns(self) -> Columns:
        """Frame `step_sizes`."""
        edges = torch.linspace(math.log(SMALLEST), math.log(LARGEST), BINS + 1).exp()
        columns: Columns = {name: [] for name in ("layer", "from", "to", "mean", "low", "median", "high")}
        for layer in sorted(self._counts):
            for i, counts in enumerate(self._counts[layer].double().cpu()):
                below = counts.cumsum(0) / counts.sum()
                quantiles = [float(edges[int((below < q).sum()) + 1]) for q in QUANTILES]
                start = self.stops[i - 1] if i else 0
                mean = float(self._sums[layer][i]) / float(counts.sum())
                for name, value in zip(columns, (layer, start + 1, self.stops[i], mean, *quantiles), strict=True):
                    columns[name].append(value)
        return columns


def watch(model: nn.Module, tokens: Tensor, L0: int | None = None) -> Watched:
    """Look at what each layer's recurrence does with a text.

    Args:
        model: as of `lgmamba.extend`, without a remedy.
        tokens: (B, T) ids, all of them text; T of a few L0 shows what is beyond.
        L0: the length that the model was trained to read, tokens.
    Raises:
        HostError: a model that is not known or extended, or with weights that are no numbers; no L0, or fewer than 4 tokens.
    """
    host = Host(model, L0)
    check_weights(model)
    if tokens.ndim != 2 or tokens.shape[1] < 4:
        raise HostError(f"expected token ids (B, T) with T of 4 or more; got shape {tuple(tokens.shape)}")
    sequences = TokenSequences.of(tokens.long().to(host.device))
    with torch.no_grad(), frozen(model), host.attached():
        return Watched(host.L0, _Look(host, sequences).frames())


def check_weights(model: nn.Module) -> None:
    """Refuse weights with NaN or infinities, of which nothing can be said.

    Raises:
        HostError: names the first.
    """
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise HostError(f"{name}: found weights that are NaN or infinite; expected those of a trained model, whole")


@dataclass
class _Look:
    """One pass, and what was seen in it."""

    host: Host
    sequences: TokenSequences
    norms: dict[int, list[float]] = field(default_factory=dict)
    bits: list[float] = field(default_factory=list)
    energy: list[Tensor] = field(default_factory=list)

    def frames(self) -> dict[str, Columns]:
        host, T = self.host, self.sequences.T
        stops = bins_of(T, host.L0)
        histogram, decay, distance = StepSizeHistogram(stops), DecayRecorder(CLOSE_ROWS), DistanceRecorder()
        hook = chain(histogram, _up_to(host.L0, decay), _first_rows(CLOSE_ROWS, distance))
        chunk = max(1, PIECE_TOKENS // len(self.sequences))
        sums = dict.fromkeys(stops, 0.0)
        for part in read_pieces(host, self.sequences, ends(stops, chunk), None, hook):
            stop = next(s for s in stops if part.stop <= s)
            wanted = self.sequences.targets[:, part.start : part.stop]
            sums[stop] += float(host.surprise(part.outputs, wanted).double().sum())
            if part.stop in stops:
                memories = [layer.tensors[0] for layer in part.state.layers]
                self.norms[part.stop] = [float(h.double().flatten(1).norm(dim=1).mean()) for h in memories]
                if part.stop <= host.L0:
                    self.energy = [h.double().square().mean(0) for h in memories]
        starts = [0, *stops[:-1]]
        each = [len(self.sequences) * (b - a) * math.log(2) for a, b in zip(starts, stops, strict=True)]
        bits = [sums[stop] / n for stop, n in zip(stops, each, strict=True)]
        return {
            "step_sizes": histogram.columns(),
            **self._memory(decay, stops),
            "states": self._states(stops),
            "distance": _quantiles("distance", [v.flatten() for v in distance.distances()]),
            "surprise": {"from": [a + 1 for a in starts], "to": stops, "bits": bits},
            "context": self._context(),
        }

    def _memory(self, decay: DecayRecorder, stops: list[int]) -> dict[str, Columns]:
        L0, memory = self.host.L0, mode_memory(decay)
        columns = _quantiles("tau", [m.tau.flatten() for m in memory])
        for i, name in enumerate(GROUPS):
            columns[name] = [float((m.group(L0) == i).double().mean()) for m in memory]
        lengths = sorted({*(s for s in stops if s > L0), *(2**k * L0 for k in range(1, 6))})
        growth: Columns = {"layer": [], "tokens": [], "growth": []}
        for layer, (m, energy) in enumerate(zip(memory, self.energy, strict=True)):
            share = energy / energy.sum()
            for T in lengths:
                growth["layer"].append(layer)
                growth["tokens"].append(T)
                growth["growth"].append(float((share * m.inflation(L0, T).square()).sum().sqrt()))
        return {"memory": columns, "inflation": growth}

    def _states(self, stops: list[int]) -> Columns:
        base = self.norms[max(s for s in stops if s <= max(self.host.L0, stops[0]))]
        columns: Columns = {"layer": [], "tokens": [], "norm": [], "over_L0": []}
        for stop in stops:
            for layer, norm in enumerate(self.norms[stop]):
                for name, value in zip(columns, (layer, stop, norm, norm / base[layer]), strict=True):
                    columns[name].append(value)
        return columns

    def _context(self) -> Columns:
        """KL divergence of the last prediction from the one after so many last tokens only, of few sequences."""
        some, T = self.sequences[slice(0, CLOSE_ROWS)], self.sequences.T
        lengths = [n for n in (2**k for k in range(T.bit_length())) if n < T]
        last = {}
        for n in [*lengths, T]:
            for part in read_pieces(self.host, some.last(n), ends([n], max(1, PIECE_TOKENS // len(some)))):
                outputs = part.outputs[:, -1]
            last[n] = F.log_softmax(self.host.predict(outputs).double(), dim=-1)
        loss = [float((last[T].exp() * (last[T] - last[n])).sum(-1).mean()) / math.log(2) for n in lengths]
        return {"tokens": lengths, "bits_lost": loss}


def bins_of(T: int, L0: int) -> list[int]:
    """Ends of bins of positions: octaves about L0, quarters of it beyond, up to 64 in all; L0 and T are among them."""
    below = {L0 >> k for k in range(1, 12) if L0 >> k >= 1}
    every = max(L0 // 4, -(-T // 48), 1)
    return sorted(s for s in {*below, L0, *range(L0 + every, T, every), T} if 0 < s <= T)


def _up_to(L0: int, recorder: Hook) -> Hook:
    """A recorder that is shown the steps of the training length."""

    def hook(call: Call) -> Call:
        if call.t0 < L0:
            recorder(call)
        return call

    return hook


def _first_rows(n: int, recorder: Callable[[MambaCall], object]) -> Hook:
    """A recorder that is shown some sequences of a batch."""

    def hook(call: Call) -> Call:
        assert isinstance(call, MambaCall)  # as every layer of a host makes
        recorder(replace(call, **{name: getattr(call, name)[:n] for name in call.PER_STEP}))
        return call

    return hook


def _quantiles(name: str, values: list[Tensor]) -> Columns:
    """Of each layer."""
    columns: Columns = {"layer": list(range(len(values)))}
    for label, q in zip(("low", "median", "high"), QUANTILES, strict=True):
        columns[f"{name}_{label}"] = [_quantile(v, q) for v in values]
    return columns


def _quantile(v: Tensor, q: float) -> float:
    """torch.quantile takes no large tensors."""
    return float(v.kthvalue(1 + round(q * (v.numel() - 1))).values)
