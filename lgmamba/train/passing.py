"""State passing: training sequences that start from the state of a longer one, so that states of long sequences are trained on.

A sequence of T steps starts from the state after n others (`lgmamba.tasks.batch.PassedPart`); its loss is that of a sequence of
n + T steps, at the cost of a forward pass over n steps for the sequences that do so. No gradient enters the passed part:
truncated back-propagation. Glossary: `lgmamba.train`; n steps of the passed part, k sequences that have one.

With `train.init_from` and a few steps this is fine-tuning on long sequences: every update is one window of truncated back-propagation
through time, at a random place of a sequence of up to (max_factor + 1) L0 steps.

References: remedies trained into a model in Chen et al. 2024 (arXiv:2410.07145), where states of other sequences teach to forget, and
Buitrago Ruiz and Gu 2025 (arXiv:2507.02782), who find a short fine-tuning enough.
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
    """Independent Gaussian entries, each with the mean and standard deviation that it has over the sequences; of complex ones both parts."""
    values = state.tensors()
    g = torch.Generator(values[0].device).manual_seed(seed)
    noise = []
    for v in values:
        parts = torch.view_as_real(v) if v.is_complex() else v
        std, mean = torch.std_mean(parts.float(), dim=0, correction=0)
        drawn = (mean + std * torch.randn(parts.shape, generator=g, device=v.device)).to(parts.dtype)
        noise.append(torch.view_as_complex(drawn) if v.is_complex() else drawn)
    return state.with_tensors(noise)
