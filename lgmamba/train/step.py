"""One optimiser step: forward, loss, backward, clipping, AdamW. Glossary: `lgmamba.train`."""

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from lgmamba.model import PatchMamba, StackState
from lgmamba.task.patches import patchify
from lgmamba.train.batch import Batch
from lgmamba.train.passing import passed_state, state_tensors

WARM_UP = 3
"""Steps run one kernel at a time before the graph is recorded: they compile kernels and settle the allocator."""


def loss_of(model: PatchMamba, images: Tensor, batch: Batch, state: StackState | None = None) -> Tensor:
    """Mean squared error of the reconstructions at the supervised steps, weighted as the batch says.

    Args:
        images: (N, C, H, W) uint8, all images; `batch.rows` says which are read.
        state: that the sequences start from, see `lgmamba.train.passing`.
    """
    targets = images[batch.rows].float() / 255  # (B, C, H, W)
    patches = patchify(targets, model.patch_size)  # (B, G, K)
    read = patches.gather(1, batch.cells[..., None].expand(-1, -1, patches.shape[2]))  # (B, L, K)
    drawn = model(read, batch.cells, batch.steps, told=batch.lengths, state=state)  # (B, S, C, H, W)
    errors = (drawn - targets[:, None]).square().flatten(2).mean(2)  # (B, S)
    return (errors * batch.weights).sum(1).mean()


class TrainStep:
    """Runs one step; on CUDA it is recorded once as a graph and then replayed, which leaves the host nothing to do.

    Args:
        model, optimizer: changed by every call.
        images: (N, C, H, W) uint8 on the model's device.
        grad_clip: largest gradient norm.
        bf16: whether to compute in bfloat16 autocast.
        graph: whether to record; batches must then keep their shapes. The result is that of the unrecorded step.
    """

    def __init__(
        self,
        model: PatchMamba,
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        grad_clip: float,
        bf16: bool,
        graph: bool,
    ):
        self.model, self.optimizer, self.images = model, optimizer, images
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
        for mine, new in zip(self._batch.tensors(), batch.tensors(), strict=True):
            mine.copy_(new)
        for mine, new in zip(state_tensors(self._state), state_tensors(state), strict=True):
            mine.copy_(new)
        self._recorded.replay()
        return self._results

    def _passed(self, batch: Batch) -> StackState | None:
        # In an autocast of its own: casts of weights made without gradients must not be met again by the step.
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
            return passed_state(self.model, self.images, batch)

    def _run(self, batch: Batch, state: StackState | None) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
            loss = loss_of(self.model, self.images, batch, state)
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
        self._batch, self._state = Batch(*(v.clone() for v in batch.tensors())), state
        self.optimizer.zero_grad(set_to_none=True)
        self._recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._recorded):
            self._results = self._run(self._batch, self._state)
