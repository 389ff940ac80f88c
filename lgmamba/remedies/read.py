"""Reading sequences with a remedy, and what it lets a model write beyond its training length. Glossary: `lgmamba.remedies`."""

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, gather_steps
from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.runner import MakeHook, read_at_steps, run_sequence, target_lengths
from lgmamba.remedies.base import chain
from lgmamba.remedies.remedy import Remedy


@torch.no_grad()
def read_with(
    model: SequenceModel, remedy: Remedy, sequences: Sequences, random_scores: Tensor, steps: list[int], chunk: int
) -> Tensor:
    """Predictions at several lengths by a model with a remedy.

    Args:
        model: in eval mode, on the device of the sequences.
        sequences: of max(steps) steps or more.
        random_scores: (B, T) a random number in [0, 1) for each step, for remedies that choose at random.
        steps: lengths wanted, ascending.
        chunk: steps held in memory at a time, except where a remedy needs the whole sequence.
    Returns:
        (B, S, *shape).
    """
    if remedy.kind == "vanilla":
        return run_sequence(model, sequences, steps, remedy.mode, chunk)
    if remedy.reader is not None:
        return remedy.reader(model, sequences, steps, chunk)
    if remedy.select is not None:
        return torch.cat(
            [_read_selected(model, remedy, sequences.upto(T), random_scores[:, :T], chunk) for T in steps], dim=1
        )
    return run_sequence(model, sequences, steps, remedy.mode, chunk, remedy.make_hook, remedy.whole)


def _read_selected(
    model: SequenceModel, remedy: Remedy, sequences: Sequences, random_scores: Tensor, chunk: int
) -> Tensor:
    assert remedy.select is not None
    chosen = sequences.take(remedy.select(sequences, random_scores))
    return run_sequence(model, chosen, [chosen.T], remedy.mode, chunk)


class WriteRecorder:
    """A hook that changes nothing and counts, step by step, what the layers still write.

    Args:
        model: whose layers.
        T: length of the sequence.
    Attributes:
        written: (T,) share of channels and layers whose dt is above 0, summed over sequences.
        step_sizes: (T,) their dt, summed likewise.
    """

    def __init__(self, model: SequenceModel, T: int):
        self.n_layer, device = model.config.n_layer, model.device
        self.written, self.step_sizes = (torch.zeros(T, dtype=torch.float64, device=device) for _ in range(2))
        self._positions: Tensor | None = None

    def __call__(self, call: Call) -> Call:
        score, (B, L) = call.score(), call.shape
        if call.layer == 0:
            self._positions = torch.arange(call.t0, call.t0 + L, device=score.device).expand(B, -1)
        assert self._positions is not None  # the first layer comes first
        if call.keep is not None:  # later layers see these steps only
            self._positions, score = self._positions.gather(1, call.keep), gather_steps(score, call.keep)
        at = self._positions.flatten()
        self.written.index_add_(0, at, (score > 0).double().mean(2).flatten() / self.n_layer)
        self.step_sizes.index_add_(0, at, score.double().mean(2).flatten() / self.n_layer)
        return call


@torch.no_grad()
def record_vanilla(model: SequenceModel, sequences: Sequences, T: int, chunk: int) -> WriteRecorder | None:
    """What a model as it is writes in one pass of T steps, told L0; None where its mixer has no score of a step."""
    if model.config.mixer.refusal(["score"]):
        return None
    recorder = WriteRecorder(model, T)
    read_at_steps(model, sequences, [T], target_lengths(model, len(sequences), model.L0), chunk, recorder)
    return recorder


def still_written(
    model: SequenceModel,
    remedy: Remedy,
    vanilla: WriteRecorder | None,
    sequences: Sequences,
    random_scores: Tensor,
    steps: list[int],
    chunk: int,
) -> dict[int, dict[str, float]]:
    """What a model with a remedy writes of the steps after L0, for each length T > L0.

    Args:
        vanilla: of the same sequences, up to the longest of `steps`.
        model, remedy, sequences, random_scores, steps, chunk: as in `read_with`.
    Returns:
        T -> {"written": share of those steps whose dt is above 0, over layers and channels; "step_size": their dt over
        that of the model as it is}; of a remedy with a hook nothing, where there is no score of a step.
    """
    L0, beyond = model.L0, [T for T in steps if T > model.L0]
    if remedy.steps_read is not None:
        return {T: _both(remedy.steps_read(T) / (T - L0)) for T in beyond}
    if remedy.select is not None:
        kept = {T: remedy.select(sequences.upto(T), random_scores[:, :T]) >= L0 for T in beyond}
        return {T: _both(float(late.double().sum(1).mean()) / (T - L0)) for T, late in kept.items()}
    if vanilla is None:
        return {}
    found, stream = {}, None
    for T in beyond:
        recorder = stream or WriteRecorder(model, beyond[-1] if remedy.mode == "stream" else T)
        if stream is None:
            read = [T] if remedy.mode == "prefix" else beyond[-1:]
            run_sequence(model, sequences, read, remedy.mode, chunk, _recorded(remedy, recorder), remedy.whole)
            stream = recorder if remedy.mode == "stream" else None
        after = slice(L0, T)
        found[T] = {
            "written": float(recorder.written[after].sum()) / (len(sequences) * (T - L0)),
            "step_size": float(recorder.step_sizes[after].sum() / vanilla.step_sizes[after].sum()),
        }
    return found


def _recorded(remedy: Remedy, recorder: WriteRecorder) -> MakeHook:
    """The remedy's hooks, each followed by the recorder."""
    return lambda T: chain(remedy.make_hook(T) or chain(), recorder)


def _both(share: float) -> dict[str, float]:
    """Of steps that are read as they are, or not at all."""
    return {"written": share, "step_size": share}
