"""One training by several processes, each with a model of its own and a part of every batch: data parallelism.

    torchrun --nproc-per-node 2 -m -- lgmamba train --run ... --data ... --out ... --work ...

Gradients are averaged over the processes before they are clipped, so that weights and moments are the same in all of them. The
first process alone validates, keeps the history and writes files; the others follow it. All read the resume checkpoint from
the same folder. Sums are split by process, so the result is that of one process at the same batch size to rounding; with the
same number of processes it is the same to the bit on a CPU, resumed or not.

Averaging is done here and not by DistributedDataParallel, which wraps `forward`: a task's loss calls what it needs of a model.
Torch is imported late: the command line asks whether there is anything to do before it loads it.
Reference: Li et al. 2020 (arXiv:2006.15704), section 3.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lgmamba.tasks.batch import Batch

B = TypeVar("B", bound="Batch")
PATIENCE = timedelta(days=7)
"""The others wait so long for the first one, which may wait for a process that makes the same result."""


@dataclass(frozen=True)
class Processes:
    """Who trains one run together.

    Attributes:
        rank: of this process, from 0.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: B) -> B:
        """This process's sequences of a batch; all of them where it is alone."""
        if self.count == 1:
            return batch
        n = len(batch.lengths) // self.count
        mine = slice(self.rank * n, (self.rank + 1) * n)
        return batch.with_tensors({name: v[mine] for name, v in batch.tensors().items()})

    def average(self, model: "nn.Module", loss: "Tensor") -> "Tensor":
        """Put the mean over the processes in place of every gradient; returns that of the loss, ()."""
        if self.count == 1:
            return loss
        import torch
        import torch.distributed as dist

        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        gradients = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
        flat = torch.cat([loss.reshape(1), *(g.reshape(-1) for g in gradients)])
        dist.all_reduce(flat)
        loss, *means = (flat / self.count).split([1, *(g.numel() for g in gradients)])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return loss[0]

    def agreed(self, value: bool) -> bool:
        """What the first process says."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        said = [value]
        dist.broadcast_object_list(said)
        return said[0]

    def check(self, run: RunConfig) -> None:
        """Refuse what cannot be split.

        Raises:
            ConfigError: states are passed, or batches cannot be split evenly.
        """
        if self.count == 1:
            return
        if run.train.state_passing is not None:
            raise ConfigError(
                f"run {run.run!r}: train.state_passing: found {run.train.state_passing.kind}, whose states belong to a whole batch; "
                f"expected null with {self.count} processes, or one process"
            )
        if run.train.batch_size % self.count:
            raise ConfigError(
                f"run {run.run!r}: train.batch_size: found {run.train.batch_size}, expected a multiple of the {self.count} processes"
            )


ALONE = Processes()


@contextmanager
def joined(before: Callable[[], object]) -> Iterator[Processes]:
    """The processes that torchrun started together; this one alone where it was started otherwise.

    Args:
        before: called first in each of several processes, before torch looks for GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    before()
    import torch
    import torch.distributed as dist

    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
