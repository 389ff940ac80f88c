"""One optimiser step: forward, loss, backward, clipping, AdamW. Glossary: `lgmamba.train`."""

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from lgmamba.model.sequences import SequenceModel
from lgmamba.model.stack import StackState
from lgmamba.tasks.base import Task
from lgmamba.tasks.batch import Batch
from lgmamba.train.passing import passed_state

WARM_UP = 3
"""Steps run one kernel at a time before the graph is recorded: they compile kernels and settle the allocator."""


class TrainStep:
    """Runs one step; on CUDA it is recorded once as a graph and then replayed, which leaves the host nothing to do.

    Args:
        model, optimizer: changed by every call.
        task: whose loss it is; its data are on the model's device.
        grad_clip: largest gradient norm.
        bf16: whether to compute in bfloat16 autocast.
        graph: whether to record; batches must then keep their shapes. The result is that of the unrecorded step.
    """

    def __init__(
        self,
        model: SequenceModel,
        optimizer: torch.optim.Optimizer,
        task: Task,
        grad_clip: float,
        bf16: bool,
        graph: bool,
    ):
        self.model, self.optimizer, self.task = model, optimizer, task
        self.grad_clip, self.bf16, self.graph = grad_clip, bf16, graph
        self._calls = 0
        self._recorded: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm before clipping, both () float32 on the device; overwritten by the next call."""
        state = self._passed(batch)  # of any number of steps, so it is never part of the graph
        if not self.graph:
            return self._run(batch, state)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._warm_up(batch, state)
        if self._recorded is None:
            self._record(batch, state)
        new = batch.tensors()
        for name, mine in self._batch.tensors().items():
            mine.copy_(new[name])
        if state is not None:
            for mine, passed in zip(self._state.tensors(), state.tensors(), strict=True):
                mine.copy_(passed)
        self._recorded.replay()
        return self._results

    def _passed(self, batch: Batch) -> StackState | None:
        # In an autocast of its own: casts of weights made without gradients must not be met again by the step.
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            return passed_state(self.model, self.task, batch)

    def _run(self, batch: Batch, state: StackState | None) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task.loss(self.model, batch, state)
        loss.backward()
        norm = clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        return loss.detach(), norm

    def _warm_up(self, batch: Batch, state: StackState | None) -> tuple[Tensor, Tensor]:
        # On a stream of its own, as recording asks for: work of the default stream may not enter a graph.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            results = self._run(batch, state)
        torch.cuda.current_stream().wait_stream(stream)
        return results

    def _record(self, batch: Batch, state: StackState | None) -> None:
        self._batch = batch.with_tensors({name: v.clone() for name, v in batch.tensors().items()})
        self._state = state
        self.optimizer.zero_grad(set_to_none=True)
        self._recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._recorded):
            self._results = self._run(self._batch, self._state)
