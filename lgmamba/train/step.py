"""One optimiser step: forward, loss, backward, clipping, AdamW. Glossary: `lgmamba.train`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from lgmamba.model.sequences import SequenceModel
from lgmamba.model.stack import StackState
from lgmamba.tasks.base import Task
from lgmamba.tasks.batch import Batch
from lgmamba.train.graph import Replayed
from lgmamba.train.optimizer import Moments, load_moments, moments_of, set_learning_rate
from lgmamba.train.passing import passed_state
from lgmamba.train.processes import ALONE, Processes


class TrainStep:
    """Runs one step of one training; on CUDA it is recorded once as a graph and then replayed.

    Args:
        model, optimizer: changed by every call.
        task: whose loss it is; its data are on the model's device.
        grad_clip: largest gradient norm.
        bf16: whether to compute in bfloat16 autocast.
        graph: whether to record; batches must then keep their shapes. The result is that of the unrecorded step.
        processes: that train together, each with its part of the batches.
    """

    def __init__(
        self,
        model: SequenceModel,
        optimizer: torch.optim.Optimizer,
        task: Task,
        grad_clip: float,
        bf16: bool,
        graph: bool,
        processes: Processes = ALONE,
    ):
        self.model, self.optimizer, self.task = model, optimizer, task
        self.grad_clip, self.bf16, self.processes = grad_clip, bf16, processes
        self._run_or_replay = Replayed(self._run, optimizer.zero_grad) if graph else self._run

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm before clipping, both () float32 on the device; overwritten by the next call."""
        batch = self.processes.share(batch)
        state = self._passed(batch)  # of any number of steps, so it is never part of the graph
        self._like = batch, state
        loss, norm = self._run_or_replay(*batch.tensors().values(), *([] if state is None else state.tensors()))
        return loss, norm

    def set_learning_rate(self, lr: float) -> None:
        """Of the steps from here on."""
        set_learning_rate(self.optimizer, lr)

    def moments(self) -> list[Moments]:
        """What the optimiser keeps, for the one training that this steps."""
        return [moments_of(self.optimizer)]

    def load_moments(self, moments: Sequence[Moments]) -> None:
        """Go on from what `moments` returned."""
        load_moments(self.optimizer, moments[0])

    def _passed(self, batch: Batch) -> StackState | None:
        # In an autocast of its own: casts of weights made without gradients must not be met again by the step.
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            return passed_state(self.model, self.task, batch)

    def _run(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        batch, state = self._like
        names = list(batch.tensors())
        batch = batch.with_tensors(dict(zip(names, given, strict=False)))
        state = None if state is None else state.with_tensors(list(given[len(names) :]))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task.loss(self.model, batch, state)
        loss.backward()
        loss = self.processes.average(self.model, loss.detach())
        norm = clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        return loss, norm
