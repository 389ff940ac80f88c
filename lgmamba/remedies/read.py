"""Reading sequences with a remedy, and what it lets a model write beyond its training length. Glossary: `lgmamba.remedies`."""

import torch
from torch import Tensor

from lgmamba.model import PatchMamba
from lgmamba.model.plan import Plan, ScanCall, gather_steps
from lgmamba.model.reading import read_at_steps, reconstruct_at
from lgmamba.remedies.base import chain
from lgmamba.remedies.build import Remedy


@torch.no_grad()
def read_with(
    model: PatchMamba, remedy: Remedy, patches: Tensor, cells: Tensor, keys: Tensor, steps: list[int], piece: int
) -> Tensor:
    """Reconstructions at several lengths by a model with a remedy.

    Args:
        model: in eval mode, on the device of `patches`.
        patches: (B, G, K) all patches of each image, pixel values in [0, 1].
        cells: (B, T) visiting order, T >= max(steps).
        keys: (B, T) a random number in [0, 1) for each step, for remedies that choose at random.
        steps: lengths wanted, ascending.
        piece: steps held in memory at a time, except where a remedy needs the whole sequence.
    Returns:
        (B, S, C, H, W) float32, unclipped.
    """
    if remedy.kind == "vanilla":
        return reconstruct_at(model, patches, cells, steps, remedy.mode, piece)
    if remedy.reader is not None:
        return remedy.reader(model, patches, cells, steps, piece)
    if remedy.select is not None:
        return torch.cat(
            [_read_selected(model, remedy, patches, cells[:, :T], keys[:, :T], piece) for T in steps], dim=1
        )
    if remedy.mode == "stream":
        return read_at_steps(model, patches, cells, steps, told(model, cells, model.L0), piece, remedy.plan(None))
    return torch.cat([read_prefix(model, remedy, patches, cells[:, :T], piece, remedy.plan(T)) for T in steps], dim=1)


def read_prefix(
    model: PatchMamba, remedy: Remedy, patches: Tensor, cells: Tensor, piece: int, plan: Plan | None
) -> Tensor:
    """The reconstruction at the end of a sequence, told its length: (B, 1, C, H, W)."""
    T = cells.shape[1]
    length = told(model, cells, T)
    if not remedy.whole or plan is None:
        return read_at_steps(model, patches, cells, [T], length, piece, plan)
    outputs, _ = model.encode(gather_steps(patches, cells), cells, told=length, plan=plan, want_state=False)
    return model.decode(outputs[:, -1:])


def told(model: PatchMamba, cells: Tensor, T: int) -> Tensor | None:
    """What to tell a length-adaptive model; a plain one is told nothing."""
    return None if model.conditioning is None else torch.full((len(cells),), T, device=cells.device)


def _read_selected(
    model: PatchMamba, remedy: Remedy, patches: Tensor, cells: Tensor, keys: Tensor, piece: int
) -> Tensor:
    chosen = cells.gather(1, remedy.select(cells, keys))
    K = chosen.shape[1]
    length = told(model, cells, model.L0 if remedy.mode == "stream" else K)
    return read_at_steps(model, patches, chosen, [K], length, piece)


class WriteRecorder:
    """A plan that changes nothing and counts, step by step, what the layers still write.

    Args:
        T: length of the sequence.
    Attributes:
        written: (T,) share of channels and layers whose dt is above 0, summed over sequences.
        step_sizes: (T,) their dt, summed likewise.
    """

    def __init__(self, T: int, n_layer: int):
        self.n_layer = n_layer
        self.written, self.step_sizes = (torch.zeros(T, dtype=torch.float64) for _ in range(2))
        self._positions: Tensor | None = None

    def __call__(self, call: ScanCall) -> ScanCall:
        B, L, _ = call.dt.shape
        if call.layer == 0:
            self._positions = torch.arange(call.t0, call.t0 + L, device=call.dt.device).expand(B, -1)
        dt = call.dt
        if call.keep is not None:  # later layers see these steps only
            self._positions, dt = self._positions.gather(1, call.keep), gather_steps(dt, call.keep)
        at = self._positions.flatten().cpu()
        self.written.index_add_(0, at, (dt > 0).double().mean(2).flatten().cpu() / self.n_layer)
        self.step_sizes.index_add_(0, at, dt.double().mean(2).flatten().cpu() / self.n_layer)
        return call


@torch.no_grad()
def still_written(
    model: PatchMamba, remedy: Remedy, patches: Tensor, cells: Tensor, keys: Tensor, steps: list[int], piece: int
) -> dict[int, dict[str, float]]:
    """What a model with a remedy writes of the steps after L0, for each length T > L0; arguments as in `read_with`.

    Returns:
        T -> {"written": share of those steps whose dt is above 0, over layers and channels; "step_size": their dt over
        that of the model as it is}.
    """
    beyond = [T for T in steps if T > model.L0]
    if not beyond:
        return {}
    if remedy.steps_read is not None:
        shares = {T: remedy.steps_read(T) / (T - model.L0) for T in beyond}
        return {T: {"written": share, "step_size": share} for T, share in shares.items()}
    n_layer, last = model.config.n_layer, beyond[-1]
    plain = WriteRecorder(last, n_layer)
    read_at_steps(model, patches, cells, [last], told(model, cells, model.L0), piece, plain)
    found = {}
    stream = None
    for T in beyond:
        if remedy.select is not None:
            kept = remedy.select(cells[:, :T], keys[:, :T])
            share = float((kept >= model.L0).double().sum(1).mean()) / (T - model.L0)
            found[T] = {"written": share, "step_size": share}
            continue
        if remedy.mode == "stream":
            if stream is None:
                stream = WriteRecorder(last, n_layer)
                plan = chain(remedy.plan(None) or chain(), stream)
                read_at_steps(model, patches, cells, [last], told(model, cells, model.L0), piece, plan)
            recorder = stream
        else:
            recorder = WriteRecorder(T, n_layer)
            read_prefix(model, remedy, patches, cells[:, :T], piece, chain(remedy.plan(T) or chain(), recorder))
        after = slice(model.L0, T)
        found[T] = {
            "written": float(recorder.written[after].sum()) / (len(cells) * (T - model.L0)),
            "step_size": float(recorder.step_sizes[after].sum() / plain.step_sizes[after].sum()),
        }
    return found
