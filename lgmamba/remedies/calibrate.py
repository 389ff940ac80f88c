"""Finding a few factors on calibration images, with the model frozen: by zeroth order or by back-propagation.

What is optimised is theta = ln s, from 0, which is no bias to either side of 1. What is kept is whatever was best on images that
were not optimised on. Glossary: `lgmamba.remedies`; M factors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.model import PatchMamba
from lgmamba.model.plan import Plan

Objective = Callable[[Tensor], Tensor]
"""theta (M,) -> loss (); deterministic: the same images and orders at every call."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        theta: (M,) ln of the factors.
        before, after: loss at theta = 0 and at `theta`, on the images held out from optimisation.
        passes: forward passes over the optimised images (one with gradients counts as three).
    """

    theta: Tensor
    before: float
    after: float
    passes: int

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
    rate: float = 0.1,
) -> Calibration:
    """Two-sided simultaneous perturbation with random signs (Spall 1992), radii 0.1 / (1 + k)^0.1, rates 0.1 / (k + 10)^0.6.

    Signs, not Gaussian numbers: dividing by a Gaussian has no mean. Gradients are scaled to the size of the first one, so
    that rates mean the same for any loss.

    Args:
        objective, held_out: loss on the images to optimise on, and on others.
        n: M.
        steps: iterations of two passes each.
        seed: of the signs.
        radius, rate: at the first iteration.
    """
    generator = torch.Generator().manual_seed(seed)
    theta = torch.zeros(n, dtype=torch.float64)
    best = _Best(theta, held_out)
    scale = None
    for k in range(steps):
        c = radius / (1 + k) ** 0.1
        signs = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
        slope = float(objective(theta + c * signs) - objective(theta - c * signs)) / (2 * c)
        scale = scale or abs(slope) or 1.0
        theta = theta - rate * 10**0.6 / (k + 10) ** 0.6 * slope / scale * signs
        best.offer(theta)
    return best.calibration(passes=2 * steps)


def by_gradient(
    objective: Objective, held_out: Objective, n: int, steps: int = 50, rate: float = 0.05, penalty: float = 1e-3
) -> Calibration:
    """Adam on theta through the frozen model, with a small penalty on theta^2. Arguments as in `zeroth_order`."""
    theta = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=rate)
    best = _Best(theta.detach(), held_out)
    for _ in range(steps):
        optimizer.zero_grad()
        (objective(theta) + 0.5 * penalty * theta.square().sum()).backward()
        optimizer.step()
        best.offer(theta.detach())
    return best.calibration(passes=3 * steps)


class _Best:
    """The best theta so far on held-out images."""

    def __init__(self, theta: Tensor, held_out: Objective):
        self.held_out, self.theta = held_out, theta.clone()
        self.before = self.after = self._loss(theta)

    def offer(self, theta: Tensor) -> None:
        loss = self._loss(theta)
        if loss < self.after:
            self.theta, self.after = theta.clone(), loss

    def calibration(self, passes: int) -> Calibration:
        return Calibration(self.theta, self.before, self.after, passes)

    @torch.no_grad()
    def _loss(self, theta: Tensor) -> float:
        return float(self.held_out(theta))


def last_step_loss(
    model: PatchMamba,
    patches: Tensor,
    cells: Tensor,
    targets: Tensor,
    make_plan: Callable[[Tensor], Plan],
    told: Tensor | None = None,
    piece: int | None = None,
) -> Objective:
    """Mean squared error of the reconstruction after the last patch, as a function of theta.

    Args:
        patches, cells: (B, T, K) and (B, T), whole sequences of the length calibrated for.
        targets: (B, C, H, W) in [0, 1].
        make_plan: factors (M,) -> plan.
        told: (B,) length told to a length-adaptive model.
        piece: steps read at a time; None for the whole sequence.
    """
    T = cells.shape[1]

    def loss(theta: Tensor) -> Tensor:
        plan, state = make_plan(theta.exp().to(patches.device, patches.dtype)), None
        for start in range(0, T, piece or T):
            here = slice(start, start + (piece or T))
            outputs, state = model.encode(patches[:, here], cells[:, here], state, told, plan)
        return (model.decode(outputs[:, -1]) - targets).square().mean()

    return loss
