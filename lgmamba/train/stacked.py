"""One optimiser step of several trainings as one model with a leading axis of runs. Glossary: `lgmamba.train`; R runs.

Weights, gradients and moments get a first axis (R, ...): projections become batched products, the scan reads the runs as
more sequences of its batch, and AdamW is elementwise. Nothing is added over runs anywhere, so that no run can see
another one, not even its NaN. Small models leave a GPU idle; side by side they fill it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lgmamba.config.training import TrainConfig
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.base import Task
from lgmamba.tasks.batch import Batch, stack_batches
from lgmamba.train.graph import Replayed
from lgmamba.train.optimizer import Moments, decaying, load_moments, moments_of, optimizer_of, set_learning_rate

CLIP_EPS = 1e-6
"""Added to a norm before it divides, as `torch.nn.utils.clip_grad_norm_` does."""


class StackedStep:
    """What `TrainStep` does, for R trainings of one shape (see `lgmamba.train.stacks`) at once, without state passing.

    Args:
        models: of one architecture, on one device. Their parameters become views of the stacked ones: reading a model
            always reads the current weights of its run.
        config: what the trainings share.
        task: whose loss it is, that of any of the runs; its data are on the models' device.
        bf16: whether to compute in bfloat16 autocast.
        graph: whether to record the step as a CUDA graph; batches must then keep their shapes.
    """

    def __init__(self, models: Sequence[SequenceModel], config: TrainConfig, task: Task, bf16: bool, graph: bool):
        self.bf16, self.grad_clip = bf16, config.grad_clip
        self._device = models[0].device.type
        self.parameters, self._buffers = stack_parameters(models), stack_buffers(models)
        self.optimizer = optimizer_of(self.parameters, decaying(models[0]), config, stacked=1)
        self._shell = _Loss(models[0], task)
        self._run_or_replay = Replayed(self._run, self.optimizer.zero_grad) if graph else self._run

    def __call__(self, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """One batch a run, of equal shapes -> losses and gradient norms before clipping, both (R,) float32 on the device.

        They are overwritten by the next call.
        """
        self._like = batches[0]
        losses, norms = self._run_or_replay(*stack_batches(batches).tensors().values())
        return losses, norms

    def set_learning_rate(self, lr: float) -> None:
        """Of the steps from here on."""
        set_learning_rate(self.optimizer, lr)

    def moments(self) -> list[Moments]:
        """What the optimiser keeps for each run, as `TrainStep` would for it alone; views, not copies."""
        kept = moments_of(self.optimizer)
        runs = len(next(iter(self.parameters.values())))
        return [
            {i: {name: v if v.ndim == 0 else v[r] for name, v in state.items()} for i, state in kept.items()}
            for r in range(runs)
        ]

    def load_moments(self, moments: Sequence[Moments]) -> None:
        """Go on from what `moments` returned; all runs must be at the same step."""
        first = moments[0]
        stacked = {
            i: {name: v if v.ndim == 0 else torch.stack([run[i][name] for run in moments]) for name, v in state.items()}
            for i, state in first.items()
        }
        load_moments(self.optimizer, stacked)

    def _run(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device, torch.bfloat16, enabled=self.bf16):
            losses = torch.vmap(self._loss)(self.parameters | self._buffers, *given)  # (R,)
        losses.sum().backward()  # the gradient of each loss: no parameter is in two of them
        norms = clip_each(list(self.parameters.values()), self.grad_clip)
        self.optimizer.step()
        return losses.detach(), norms

    def _loss(self, tensors: dict[str, Tensor], *given: Tensor) -> Tensor:
        named = {f"model.{name}": v for name, v in tensors.items()}
        return functional_call(
            self._shell, named, self._like.with_tensors(dict(zip(self._like.tensors(), given, strict=True)))
        )


class _Loss(nn.Module):
    """The loss as a module, so that `functional_call` can put one run's weights in the place of the model's."""

    def __init__(self, model: SequenceModel, task: Task):
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch) -> Tensor:
        return self.task.loss(self.model, batch)


@torch.no_grad()
def stack_parameters(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Name -> (R, ...) leaf with every model's value; each model's own parameter becomes a view of it."""
    stacked = {}
    for name, first in models[0].named_parameters():
        own = [first, *(model.get_parameter(name) for model in models[1:])]
        stacked[name] = torch.stack([p.detach() for p in own]).requires_grad_(first.requires_grad)
        for p, value in zip(own, stacked[name].detach(), strict=True):
            p.data = value
    return stacked


def stack_buffers(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Name -> (R, ...) with every model's value, which no step changes."""
    own = [dict(model.named_buffers()) for model in models]
    return {name: torch.stack([buffers[name] for buffers in own]) for name in own[0]}


@torch.no_grad()
def clip_each(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Scale every run's gradient to a norm of at most `most`, as `torch.nn.utils.clip_grad_norm_` does for one run.

    Args:
        parameters: (R, ...) each, with gradients.
    Returns:
        (R,) norms before clipping.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in grads])  # (parameters, R)
    total = torch.linalg.vector_norm(norms, dim=0)
    scale = (most / (total + CLIP_EPS)).clamp(max=1.0)
    for g in grads:
        g *= scale.reshape(-1, *([1] * (g.ndim - 1)))
    return total
