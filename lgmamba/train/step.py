"""One optimiser step: forward, loss, backward, clipping, AdamW. Glossary: `lgmamba.train`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from lgmamba.model import PatchMamba, StackState
from lgmamba.task.patches import patchify
from lgmamba.train.batch import Batch
from lgmamba.train.graph import Replayed
from lgmamba.train.optimizer import Moments, load_moments, moments_of, set_learning_rate
from lgmamba.train.passing import passed_state, state_from_tensors, state_tensors


def loss_of(model: PatchMamba, images: Tensor, batch: Batch, state: StackState | None = None) -> Tensor:
    """Mean squared error of the reconstructions at the supervised steps, weighted as the batch says.

    Args:
        images: (N, C, H, W) uint8, all images; `batch.rows` says which are read.
        state: that the sequences start from, see `lgmamba.train.passing`.
    """
    targets = images[batch.rows].to(model.embed_patch.weight.dtype) / 255  # (B, C, H, W)
    patches = patchify(targets, model.patch_size)  # (B, G, K)
    read = patches.gather(1, batch.cells[..., None].expand(-1, -1, patches.shape[2]))  # (B, L, K)
    drawn = model(read, batch.cells, batch.steps, told=batch.lengths, state=state)  # (B, S, C, H, W)
    errors = (drawn - targets[:, None]).square().flatten(2).mean(2)  # (B, S)
    return (errors * batch.weights).sum(1).mean()


class TrainStep:
    """Runs one step of one training; on CUDA it is recorded once as a graph and then replayed.

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
        self.grad_clip, self.bf16 = grad_clip, bf16
        self._replayed = Replayed(self._run, optimizer.zero_grad) if graph else None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm before clipping, both () float32 on the device; overwritten by the next call."""
        state = self._passed(batch)  # of any number of steps, so it is never part of the graph
        given = (*batch.tensors(), *state_tensors(state))
        return self._run(*given) if self._replayed is None else self._replayed(*given)

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
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
            return passed_state(self.model, self.images, batch)

    def _run(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        n = len(Batch.TENSORS)
        batch, state = Batch(*given[:n]), state_from_tensors(given[n:])
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
            loss = loss_of(self.model, self.images, batch, state)
        loss.backward()
        norm = clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        return loss.detach(), norm
