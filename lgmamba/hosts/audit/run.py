"""`lgmamba.audit`: a model and a text -> frames, figures, one page.

Intervals are Student's over windows of text: they say how sure the numbers are for this model on this kind of text, and nothing of
another training of it.
"""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lgmamba.analysis.statistics import effect_of
from lgmamba.config.remedies import Combination
from lgmamba.hosts.audit.answer import answer
from lgmamba.hosts.audit.found import Audit, Level
from lgmamba.hosts.audit.passkey import Encode, Passkeys
from lgmamba.hosts.audit.scores import CONTROLS, VANILLA, at_the_end, by_position, freeze, reset
from lgmamba.hosts.calibration import calibrate, frozen
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.extension import refusal, wanted, weights_digest
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import Tokens, TokenSequences, windows_of
from lgmamba.hosts.watch import bins_of, watch
from lgmamba.remedies.artefacts import Artefact
from lgmamba.remedies.configs import Entry
from lgmamba.remedies.registry import build
from lgmamba.remedies.remedy import Remedy

log = logging.getLogger(__name__)

LENGTH_RATIOS = (1.0, 2.0, 4.0, 8.0)
"""T / L0 read, unless said otherwise."""
LEVEL = 0.95
WATCHED_WINDOWS = 4
REMEDIES: list[dict[str, Any]] = [
    {"name": "dt_L0_over_T", "kind": "step_size", "form": "uniform", "mode": "prefix"},
    {"name": "dt_L0_over_t", "kind": "step_size", "form": "power", "mode": "stream"},
    {"name": "dt_by_layer", "kind": "step_size", "form": "layer", "mode": "prefix", "calibrate": "closed_form"},
    {"name": "A_by_layer", "kind": "spectrum", "form": "mult", "mode": "prefix", "calibrate": "closed_form"},
    {"name": "longmamba", "kind": "longmamba", "mode": "prefix"},
    {"name": "longmamba_stream", "kind": "longmamba", "mode": "stream"},
    {"name": "decimamba", "kind": "decimamba", "mode": "prefix"},
    {"name": "forget", "kind": "retain_insert", "mode": "stream", "horizon": 2},
    {"name": "clip_norm", "kind": "normalise_state", "mode": "stream", "every": 16},
    {"name": "window", "kind": "window", "form": "overlap", "mode": "stream"},
]
"""Tried unless said otherwise; none of them searches."""


def audit(
    model: nn.Module,
    tokens: Tokens,
    L0: int | None = None,
    *,
    length_ratios: tuple[float, ...] = LENGTH_RATIOS,
    remedies: list[dict[str, Any]] | None = None,
    windows: int = 16,
    steps: int = 30,
    seed: int = 0,
    out: str | Path | None = None,
    named: str = "",
    encode: Encode | None = None,
) -> Audit:
    """Read a text at several lengths with and without remedies, and say what breaks and what repairs it.

    Args:
        model: as of `lgmamba.extend`.
        tokens: the text as token ids, (L,) or several of them; windows of the longest length and one more token are cut of it, half of
            them for calibration and half for what is reported.
        L0: the length that the model was trained to read, tokens.
        length_ratios: T / L0 read, from 1.
        remedies: entries as in `remedies:` of params.yaml; None: a list of ten that need no search.
        windows: windows reported on, and as many to calibrate on.
        steps: iterations of a search.
        out: folder for frames, figures and the page; None: nothing is written.
        named: what the page calls the model.
        encode: text -> token ids, with which passkeys are asked for too; None: they are not.
    Raises:
        ConfigError, HostError: as `lgmamba.extend`; too little text; weights that are no numbers.
        FileExistsError: `out` is no folder.
    """
    host = Host(model, L0)
    lengths = _lengths(length_ratios, host.L0)
    asked = wanted(REMEDIES if remedies is None else remedies)
    entries = [e for e in asked if not isinstance(e, Combination)]
    if len(entries) < len(asked):
        raise HostError("an audit tries single remedies; leave out entries with `combine`")
    begun, tail = time.monotonic(), max(1, host.L0 // 4)
    calibration, evaluation = _halves(tokens, windows, lengths[-1])
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)  # before what takes long
    sequences = TokenSequences.of(evaluation).to(host.device)
    about = _about(host, named, lengths, windows, tail, seed)
    found = Audit(about, watch(model, evaluation[:WATCHED_WINDOWS], host.L0))
    with frozen(model), host.attached():
        if encode is not None:
            found.passkeys = Passkeys(encode, lengths, seed)
        trial = _Trial(host, found, sequences, lengths, tail)
        trial.controls()
        for entry in entries:
            _try(trial, entry, calibration, windows, steps, seed)
        stops = bins_of(lengths[-1], host.L0)
        found.position = _position_columns(by_position(host, sequences, stops), stops)
    found.levels = _levels(found, host.L0)
    found.about["seconds"] = round(time.monotonic() - begun, 1)
    found.answer = answer(found)
    if out is not None:
        found.write(out)
    return found


@dataclass
class _Trial:
    """Readings of the same windows."""

    host: Host
    found: Audit
    sequences: TokenSequences
    lengths: list[int]
    tail: int

    def controls(self) -> None:
        L0 = self.host.L0
        for T in self.lengths:
            self.read("vanilla", VANILLA, T)
        again = reset(self.host, self.sequences, self.tail)
        frozen_at_L0 = freeze(L0)
        for T in self.lengths:
            if T > L0:
                self.found.scores["truncate", T] = self.found.scores["vanilla", L0]
                self.ask("truncate", VANILLA, T, read=L0)
                self.keep("reset", T, again)
                self.read("freeze", frozen_at_L0, T)
        self.found.kinds |= {"vanilla": ("vanilla", "stream")} | dict.fromkeys(CONTROLS, ("control", "stream"))
        self.found.description |= {"vanilla": VANILLA.description} | CONTROLS

    def read(self, name: str, remedy: Remedy, T: int) -> None:
        self.keep(name, T, at_the_end(self.host, remedy, self.sequences, T, self.tail))
        self.ask(name, remedy, T)

    def ask(self, name: str, remedy: Remedy, T: int, read: int | None = None) -> None:
        if self.found.passkeys is not None:
            self.found.passkeys.ask(self.host, name, remedy, T, read)

    def keep(self, name: str, T: int, scored: Tensor) -> None:
        log.info("%s at %d tokens: %.4f bits", name, T, float(scored.double().mean()) / math.log(2))
        self.found.scores[name, T] = (scored.double().mean(1) / math.log(2)).tolist()


def _try(trial: _Trial, entry: Entry, calibration: Tensor, windows: int, steps: int, seed: int) -> None:
    """Calibrate and read one remedy, or note why not."""
    host, found, lengths = trial.host, trial.found, trial.lengths
    beyond = [T for T in lengths if T > host.L0]
    if (
        entry.kind == "decimamba" and entry.protected < trial.tail
    ):  # so many last outputs are scored, as in the original's evaluation
        entry = entry.model_copy(update={"protected": trial.tail})
    if (reason := refusal(host, entry, generates=False)) is not None:
        found.refused[entry.name] = reason
        return
    values = {}
    if entry.calibrated:
        begun, length_ratios = time.monotonic(), [T / host.L0 for T in beyond]
        fitted = calibrate(host, entry, calibration, windows, steps, length_ratios, beyond, seed)
        key = {
            "weights": found.about["weights"],
            "L0": host.L0,
            "entry": entry.model_dump(mode="json", exclude={"name"}),
        }
        values = {entry.name: fitted.values}
        seconds = time.monotonic() - begun
        found.artefacts[entry.name] = Artefact(entry.name, key, fitted.values, windows, fitted.n_forward, seconds)
    remedy = build(entry, [entry], values, host, lengths[-1])
    found.kinds[entry.name], found.description[entry.name] = (entry.kind, entry.mode), entry.description
    for T in beyond:
        trial.read(entry.name, remedy, T)


def _levels(found: Audit, L0: int) -> list[Level]:
    base = found.scores["vanilla", L0]
    levels = []
    for (name, T), bits in found.scores.items():
        rivals = {
            c: found.scores[c, T] for c in ("vanilla", *CONTROLS) if (c, T) in found.scores and T > L0 and c != name
        }
        best = min(rivals, key=lambda c: _mean(rivals[c]), default="")
        against = _difference(bits, rivals[best]) if best else (math.nan,) * 3
        levels.append(Level(name, *found.kinds[name], T, _mean(bits), _difference(bits, base), against, best))
    return levels


def _difference(a: list[float], b: list[float]) -> tuple[float, float, float]:
    effect = effect_of([x - y for x, y in zip(a, b, strict=True)], LEVEL)
    return effect.effect, effect.lo, effect.hi


def _mean(v: list[float]) -> float:
    return sum(v) / len(v)


def _lengths(length_ratios: tuple[float, ...], L0: int) -> list[int]:
    lengths = sorted({L0, *(round(f * L0) for f in length_ratios)})
    if lengths[0] < L0 or lengths[-1] < 2 * L0:
        raise HostError(
            f"found length_ratios {list(length_ratios)}; expected lengths T / L0 of 1 or more, the longest of 2 or more"
        )
    return lengths


def _halves(tokens: Tokens, windows: int, T: int) -> tuple[Tensor, Tensor]:
    """Windows to calibrate on and to report on, by turns."""
    both = windows_of(tokens, 2 * windows, T, "audit")
    return both[0::2], both[1::2]


def _about(host: Host, named: str, lengths: list[int], windows: int, tail: int, seed: int) -> dict[str, Any]:
    model = host.model
    return {
        "model": named or type(model).__name__,
        "class": type(model).__name__,
        "layers": f"{host.config.n_layer} of {host.config.mixer.kind}"
        + (", between attention layers" if host.package.hybrid else ""),
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "device": str(host.device),
        "weights": weights_digest(model),
        "L0": host.L0,
        "lengths": lengths,
        "windows": windows,
        "scored": tail,
        "seed": seed,
        "torch": torch.__version__,
    }


def _position_columns(means: list[Tensor], stops: list[int]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in ("first", "last", "window", "bits")}
    for mean, start, stop in zip(means, [0, *stops[:-1]], stops, strict=True):
        for i, value in enumerate((mean / math.log(2)).tolist()):
            for name, v in zip(columns, (start + 1, stop, i, value), strict=True):
                columns[name].append(v)
    return columns
