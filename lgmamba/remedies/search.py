"""Finding a few factors on calibration images, with the model frozen: by zeroth order or by back-propagation.

What is optimised is theta = ln s, from 0, which is no bias to either side of 1. What is kept is whatever was best on images that
were not optimised on. Glossary: `lgmamba.remedies`; M factors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import Readable
from lgmamba.model.runner import read_at_steps
from lgmamba.model.sequences import Sequences

Objective = Callable[[Tensor], Tensor]
"""theta (M,) -> loss (); deterministic: the same images and orders at every call."""

Q = TypeVar("Q", bound=Sequences)
Q_contra = TypeVar("Q_contra", bound=Sequences, contravariant=True)
Bounds = tuple[float, float] | None
"""Smallest and largest factor, with 1 between them."""


class Judge(Protocol[Q_contra]):
    """What says how wrong predictions are; `lgmamba.tasks.base.Task` is one."""

    def mean_loss(self, prediction: Tensor, sequences: Q_contra, steps: Tensor) -> Tensor:
        """Mean loss () of predictions (B, S, *shape) after steps (S,), from 1."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        theta: (M,) ln of the factors.
        before, after: loss at theta = 0 and at `theta`, on the images held out from optimisation.
        n_forward: forward passes over the optimised images (one with gradients counts as three).
    """

    theta: Tensor
    before: float
    after: float
    n_forward: int

    @property
    def factors(self) -> list[float]:
        return self.theta.exp().tolist()


def zeroth_order(
    objective: Objective,
    held_out: Objective,
    n: int,
    steps: int = 50,
    seed: int = 0,
    radius: float = 0.1,
    travel: float = 2.0,
    start: Tensor | None = None,
    bounds: Bounds = None,
) -> Calibration:
    """Two-sided simultaneous perturbation with random signs (Spall 1992), radii ~ 1 / (1 + k)^0.1, rates ~ 1 / (k + 10)^0.6.

    Signs, not Gaussian numbers: dividing by a Gaussian has no mean. Slopes are divided by the root mean square of those so far,
    so that rates mean the same for any loss. A single slope would not do as the scale: where random signs happen to cancel, it
    is close to 0.

    Args:
        objective, held_out: loss on the images to optimise on, and on others.
        n: M.
        steps: iterations of two passes each.
        seed: of the signs.
        radius: at the first iteration.
        travel: how far theta gets if the gradient stays as it is; a search that needs to go further ends too early.
        start: theta (M,) to begin from; None for 0.
        bounds: of the factors, around 1; nothing outside them is tried. None for any.
    """
    generator = torch.Generator().manual_seed(seed)
    best = _Best(n, held_out)
    theta = best.begin(start, bounds)
    falling = [(10 / (k + 10)) ** 0.6 for k in range(steps)]
    squares = 0.0
    for k in range(steps):
        c = radius / (1 + k) ** 0.1
        signs = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
        up, down = (objective(within(theta + side * c * signs, bounds)) for side in (1, -1))
        slope = float(up - down) / (2 * c)
        squares += slope**2
        scale = math.sqrt(squares / (k + 1)) or 1.0
        theta = within(theta - travel * falling[k] / sum(falling) * slope / scale * signs, bounds)
        best.offer(theta)
    return best.calibration(n_forward=2 * steps)


def by_gradient(
    objective: Objective,
    held_out: Objective,
    n: int,
    steps: int = 50,
    travel: float = 2.0,
    penalty: float = 1e-3,
    start: Tensor | None = None,
    bounds: Bounds = None,
) -> Calibration:
    """Adam on theta through the frozen model, its rate falling to 0, with a small penalty on theta^2.

    The loss is taken relative to its first value, so that the penalty means the same for any loss. Arguments as in `zeroth_order`.
    """
    best = _Best(n, held_out)
    theta = best.begin(start, bounds).clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=1.0)
    first = None
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = 2 * travel / steps * (1 - k / steps)
        optimizer.zero_grad()
        loss = objective(theta)
        first = first or abs(float(loss.detach())) or 1.0
        (loss / first + 0.5 * penalty * theta.square().sum()).backward()
        if theta.grad is None or not bool(
            theta.grad.isfinite().all()
        ):  # so far out that numbers overflow: the best so far is kept
            break
        optimizer.step()
        theta.data = within(theta.data, bounds)
        best.offer(theta.detach())
    return best.calibration(n_forward=3 * steps)


def within(theta: Tensor, bounds: Bounds) -> Tensor:
    """theta where it is within ln of the bounds, else the nearer of them."""
    return theta if bounds is None else theta.clamp(*(math.log(s) for s in bounds))


class _Best:
    """The best theta so far on held-out images."""

    def __init__(self, n: int, held_out: Objective):
        self.held_out, self.theta = held_out, torch.zeros(n, dtype=torch.float64)
        self.before = self.after = self._loss(self.theta)

    def begin(self, start: Tensor | None, bounds: Bounds) -> Tensor:
        if start is None:
            return self.theta
        start = within(start, bounds)
        self.offer(start)
        return start

    def offer(self, theta: Tensor) -> None:
        loss = self._loss(theta)
        if loss < self.after:
            self.theta, self.after = theta.clone(), loss

    def calibration(self, n_forward: int) -> Calibration:
        return Calibration(self.theta, self.before, self.after, n_forward)

    @torch.no_grad()
    def _loss(self, theta: Tensor) -> float:
        return float(self.held_out(theta))


def loss_at_steps(
    model: Readable[Q, Any],
    task: Judge[Q],
    sequences: Q,
    make_hook: Callable[[Tensor], Hook],
    steps: Sequence[int] | None = None,
    target_length: Tensor | None = None,
    chunk: int | None = None,
) -> Objective:
    """Mean error of the predictions after some steps, as a function of theta.

    Args:
        sequences: B of them.
        make_hook: factors (M,) -> hook.
        steps: after which steps, ascending; None for the last.
        target_length: (B,) told to a length-adaptive model.
        chunk: steps read at a time; None for the whole sequence.
    """
    steps = list(steps or [sequences.T])
    at = torch.tensor(steps, device=sequences.device)

    def loss(theta: Tensor) -> Tensor:
        hook = make_hook(theta.exp())
        prediction = read_at_steps(model, sequences, steps, target_length, chunk or steps[-1], hook)
        return task.mean_loss(prediction, sequences, at)

    return loss
