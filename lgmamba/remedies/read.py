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
        model: whose layers.
        T: length of the sequence.
    Attributes:
        written: (T,) share of channels and layers whose dt is above 0, summed over sequences.
        step_sizes: (T,) their dt, summed likewise.
    """

    def __init__(self, model: PatchMamba, T: int):
        self.n_layer, device = model.config.n_layer, model.embed_patch.weight.device
        self.written, self.step_sizes = (torch.zeros(T, dtype=torch.float64, device=device) for _ in range(2))
        self._positions: Tensor | None = None

    def __call__(self, call: ScanCall) -> ScanCall:
        B, L, _ = call.dt.shape
        if call.layer == 0:
            self._positions = torch.arange(call.t0, call.t0 + L, device=call.dt.device).expand(B, -1)
        dt = call.dt
        if call.keep is not None:  # later layers see these steps only
            self._positions, dt = self._positions.gather(1, call.keep), gather_steps(dt, call.keep)
        at = self._positions.flatten()
        self.written.index_add_(0, at, (dt > 0).double().mean(2).flatten() / self.n_layer)
        self.step_sizes.index_add_(0, at, dt.double().mean(2).flatten() / self.n_layer)
        return call


def record_vanilla(model: PatchMamba, patches: Tensor, cells: Tensor, T: int, piece: int) -> WriteRecorder:
    """What a model as it is writes in one pass of T steps, told L0."""
    recorder = WriteRecorder(model, T)
    read_at_steps(model, patches, cells, [T], told(model, cells, model.L0), piece, recorder)
    return recorder


@torch.no_grad()
def still_written(
    model: PatchMamba,
    remedy: Remedy,
    vanilla: WriteRecorder,
    patches: Tensor,
    cells: Tensor,
    keys: Tensor,
    steps: list[int],
    piece: int,
) -> dict[int, dict[str, float]]:
    """What a model with a remedy writes of the steps after L0, for each length T > L0.

    Args:
        vanilla: of the same sequences, up to the longest of `steps`.
        model, remedy, patches, cells, keys, steps, piece: as in `read_with`.
    Returns:
        T -> {"written": share of those steps whose dt is above 0, over layers and channels; "step_size": their dt over
        that of the model as it is}.
    """
    L0, beyond = model.L0, [T for T in steps if T > model.L0]
    if remedy.steps_read is not None:
        return {T: _both(remedy.steps_read(T) / (T - L0)) for T in beyond}
    if remedy.select is not None:
        kept = {T: remedy.select(cells[:, :T], keys[:, :T]) >= L0 for T in beyond}
        return {T: _both(float(late.double().sum(1).mean()) / (T - L0)) for T, late in kept.items()}
    found, stream = {}, None
    for T in beyond:
        recorder = stream or WriteRecorder(model, beyond[-1] if remedy.mode == "stream" else T)
        if remedy.mode == "prefix":
            read_prefix(model, remedy, patches, cells[:, :T], piece, chain(remedy.plan(T) or chain(), recorder))
        elif stream is None:
            stream, plan = recorder, chain(remedy.plan(None) or chain(), recorder)
            read_at_steps(model, patches, cells, beyond[-1:], told(model, cells, L0), piece, plan)
        after = slice(L0, T)
        found[T] = {
            "written": float(recorder.written[after].sum()) / (len(cells) * (T - L0)),
            "step_size": float(recorder.step_sizes[after].sum() / vanilla.step_sizes[after].sum()),
        }
    return found


def _both(share: float) -> dict[str, float]:
    """Of steps that are read as they are, or not at all."""
    return {"written": share, "step_size": share}
