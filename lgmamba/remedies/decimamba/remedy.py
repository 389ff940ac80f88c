"""DeciMamba: a layer goes on with the steps of the largest step sizes only; later layers see the shorter sequence.

A step size near zero already means that a step is ignored, so that dropping it is meant to be cheap. Prefix mode: the whole
sequence in one piece, of which the last outputs are read; `lgmamba.remedies.decimamba.stream` has a causal form.
Glossary: `lgmamba.remedies`; r protected steps at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.calibration import Calibrated, CalibrationSet
from lgmamba.remedies.decimamba.config import DeciMambaConfig
from lgmamba.remedies.decimamba.stream import DeciStream, norm_thresholds, read_decimated
from lgmamba.remedies.longmamba.filters import Thresholds
from lgmamba.remedies.longmamba.remedy import record_steps, tables_of
from lgmamba.remedies.read import read_with
from lgmamba.remedies.remedy import Kind, Parts, remedy_of

Score = Literal["step_size", "random", "newest"]


def decimate(
    layers: Sequence[int],
    base: int,
    beta: float = 1.0,
    least: int = 1,
    protected: int = 1,
    score: Score = "step_size",
    generator: torch.Generator | None = None,
) -> Hook:
    """In the s-th of `layers`, keep floor(base beta^s) steps (at least `least`, at most all), and the protected ones.

    Args:
        layers: numbers of the decimating layers, ascending.
        base: steps kept by the first of them besides the protected ones; L0 - protected keeps later layers within L0.
        beta: factor from one decimating layer to the next.
        protected: r, steps at the end that are always kept; so many outputs of a pass are valid.
        score: which steps are kept: those of largest ||dt||, or, as ablations, random ones or the newest.
        generator: for random ones.
    Raises:
        ValueError: at the first piece, if the sequence is not read in one piece.
    """
    if score == "random" and generator is None:
        raise ValueError("score='random' needs a generator")

    def hook(call: Call) -> Call:
        if call.layer not in layers:
            return call
        if call.t0:
            raise ValueError(f"decimation reads a sequence in one piece; this piece starts after step {call.t0}")
        candidates = call.shape[1] - protected
        wanted = min(candidates, max(least, int(base * beta ** list(layers).index(call.layer))))
        if wanted >= candidates:
            return call
        return replace(call, keep=_keep(_scores(call, score, generator), wanted, protected))

    return hook


class KeptSteps:
    """A hook that changes nothing and notes which steps of a sequence arrive above each layer; put it after a decimating hook.

    Attributes:
        kept: layer -> (B, K) 0-based steps whose outputs leave the layer, of the sequence read last.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}
        self._here: Tensor | None = None

    def __call__(self, call: Call) -> Call:
        if call.layer == 0:
            B, L = call.shape
            self._here = torch.arange(L, device=call.like.device).expand(B, -1)
        if call.keep is not None:
            self._here = self._here.gather(1, call.keep)
        self.kept[call.layer] = self._here
        return call

    def account(self, layer: int, cells: Tensor, n_cells: int) -> dict[str, float | list[int]]:
        """What was kept of visiting orders (B, T) on a grid of `n_cells` cells.

        Returns:
            share: kept steps / T; coverage: share of the cells visited that are among the kept steps, mean over sequences;
            ages: kept steps, over all sequences, that were read 0, 1, 2-3, 4-7, ... steps before the last one.
        """
        kept, T = self.kept[layer], cells.shape[1]
        none = torch.zeros(len(cells), n_cells, device=cells.device)
        among_kept, visited = (none.scatter(1, some, 1.0).sum(1) for some in (cells.gather(1, kept), cells))
        ages = T - 1 - kept.flatten()
        octave = torch.where(ages > 0, ages.clamp(min=1).log2().floor() + 1, 0).long()
        return {
            "share": kept.shape[1] / T,
            "coverage": float((among_kept / visited).mean()),
            "ages": torch.bincount(octave.cpu(), minlength=T.bit_length() + 1).tolist(),
        }


def _scores(call: Call, score: Score, generator: torch.Generator | None) -> Tensor:
    """(B, L), larger is kept."""
    if score == "step_size":
        return call.score().norm(dim=2)
    device = call.like.device
    if score == "newest":
        return torch.arange(call.shape[1], device=device).expand(call.shape).float()
    return torch.rand(call.shape, generator=generator, device=generator.device).to(device)


def _keep(scores: Tensor, wanted: int, protected: int) -> Tensor:
    """Ascending positions (B, wanted + protected); among equal scores the newer step is kept."""
    B, L = scores.shape
    newest_first = scores[:, : L - protected].flip(1)
    chosen = newest_first.sort(dim=1, descending=True, stable=True).indices[:, :wanted]
    chosen = L - protected - 1 - chosen
    tail = torch.arange(L - protected, L, device=scores.device).expand(B, -1)
    return torch.cat([chosen.sort(dim=1).values, tail], dim=1)


def build(entry: DeciMambaConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    layers, L0 = entry.layers if values is None else values["layers"], model.L0
    if entry.mode == "stream":
        (layer,), table = layers, tables_of([values["theta"]], values["lengths"])[0]

        def reader(model: SequenceModel, sequences: Sequences, steps: list[int], chunk: int) -> Tensor:
            return read_decimated(model, sequences, steps, layer, table, chunk)

        return {"reader": reader, "make_hook": lambda T: DeciStream(layer, table)}

    def make_hook(T: int) -> Hook | None:
        if T <= L0:
            return None
        generator = torch.Generator().manual_seed(T)
        return decimate(layers, steps_kept(entry, L0), entry.beta, 1, entry.protected, entry.score, generator)

    return {"make_hook": make_hook, "whole": True}


def steps_kept(entry: DeciMambaConfig, L0: int) -> int:
    """Steps that the first decimating layer keeps besides the protected ones, so that layers above see base x L0."""
    return max(1, round(entry.base * L0) - entry.protected)


@torch.no_grad()
def calibrate(entry: DeciMambaConfig, images: CalibrationSet) -> Calibrated:
    """The layer with the smallest error if it alone decimates, mean over the lengths calibrated for; in stream mode thresholds."""
    candidates = range(images.model.config.n_layer) if isinstance(entry.layers, str) else entry.layers
    tables = _norm_tables(images, candidates) if entry.mode == "stream" else {}
    found: dict[int, dict[str, Any]] = {}
    for layer in candidates:
        values: dict[str, Any] = {"layers": [layer]}
        if tables:
            values |= {"lengths": list(tables[layer].lengths), "theta": tables[layer].theta.tolist()}
        scored = entry.model_copy(update={"score": "step_size"})  # ablations of the score decimate where the score does
        remedy = remedy_of(scored, build(scored, values, images.model, images.lengths[-1]))
        sequences, steps = images.sequences, torch.tensor(images.lengths, device=images.sequences.device)
        random_scores = torch.zeros(len(sequences), sequences.T, device=sequences.device)
        prediction = read_with(images.model, remedy, sequences, random_scores, images.lengths, images.chunk)
        found[layer] = values | {"loss": float(images.task.mean_loss(prediction, sequences, steps))}
    best = min(found, key=lambda layer: found[layer]["loss"])
    values = found[best] | {"loss_by_layer": {str(layer): v["loss"] for layer, v in found.items()}}
    if entry.layers == "best_and_above":
        values["layers"] = [layer for layer in candidates if layer >= best]
    n_forward = 2 * len(found) * (1 if tables else len(images.lengths)) + 2 * bool(tables)
    return Calibrated(values, n_forward)


def _norm_tables(images: CalibrationSet, layers: Iterable[int]) -> dict[int, Thresholds]:
    recorder = record_steps(images, rates=False)
    return {n: norm_thresholds(recorder, n, images.model.L0, images.tabulated("stream")[1:]) for n in layers}


KIND = Kind(build, calibrate)
