"""State passing: training sequences that start from the state of a longer one, so that states of long sequences are trained on.

A sequence of T steps starts from the state after n others (`lgmamba.tasks.batch.PassedPart`); its loss is that of a sequence of
n + T steps, at the cost of a forward pass over n steps for the sequences that do so. No gradient enters the passed part:
truncated back-propagation. Glossary: `lgmamba.train`; n steps of the passed part, k sequences that have one.

Reference: remedies trained into a model in Chen et al. 2024 (arXiv:2410.07145); states of other sequences teach to forget.
"""

import torch

from lgmamba.model.runner import ends, read_pieces
from lgmamba.model.sequences import SequenceModel
from lgmamba.model.stack import StackState
from lgmamba.tasks.base import Task
from lgmamba.tasks.batch import Batch

PIECE = 256
"""Steps of the passed part held in memory at a time."""


@torch.no_grad()
def passed_state(model: SequenceModel, task: Task, batch: Batch) -> StackState | None:
    """The state that a batch's sequences start from; None in a training without state passing.

    That of the first k sequences is the state after the passed part, that of the others zero, as at the start of a sequence.
    Steps are counted from there (t = 0).
    """
    if batch.passed is None:
        return None
    state = model.start(len(batch.lengths))
    sequences = task.passed(batch.passed)
    if sequences is None:
        return state
    end = None
    for piece in read_pieces(model, sequences, ends([sequences.T], PIECE)):
        end = piece.state
    assert end is not None  # at least one step is passed
    if batch.passed.noise_seed is not None:
        end = noise_like(end, batch.passed.noise_seed)
    joined = [torch.cat([new, zero[len(new) :]]) for new, zero in zip(end.tensors(), state.tensors(), strict=True)]
    return state.with_tensors(joined)


def noise_like(state: StackState, seed: int) -> StackState:
    """Independent Gaussian entries, each with the mean and standard deviation that it has over the sequences of `state`."""
    values = state.tensors()
    g = torch.Generator(values[0].device).manual_seed(seed)
    noise = []
    for v in values:
        std, mean = torch.std_mean(v.float(), dim=0, correction=0)
        noise.append((mean + std * torch.randn(v.shape, generator=g, device=v.device)).to(v.dtype))
    return state.with_tensors(noise)
