"""LAMB: Adam's update, scaled for each parameter tensor by the ratio of the norms of the weights and of the update.

Library forms keep step counts and rates on the host, so that a recorded CUDA graph would repeat the first step's, and take norms
over a whole tensor, which in a stack of runs would mix them. Hence an own one, which a test holds to the published update.

Reference: You et al. 2020 (arXiv:1904.00962), algorithm 2, with the scaling function phi(z) = z.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB with decoupled bias correction on the device.

    Args:
        params: tensors or groups.
        lr: learning rate; a tensor where it changes inside a recorded graph.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        weight_decay: added to the update before its norm is taken.
        adapt: tensors whose update is scaled: all, or `decayed` ones alone. As timm's optimiser, which the code of
            arXiv:2603.12499 uses without weight decay, does by default: it is then Adam.
        stacked: leading axes of each tensor that count runs; every run has its own ratio.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        adapt: str = "all",
        stacked: int = 0,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": adapt}
        super().__init__(params, defaults | {"stacked": stacked, "capturable": True})  # loaded counts go to the device

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]  # the loss as a tensor
        """One update of every tensor that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p: Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device, dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        (beta1, beta2), wide = group["betas"], torch.promote_types(p.dtype, torch.float32)
        step = state["step"].add_(1)
        m = state["exp_avg"].lerp_(p.grad, 1 - beta1)
        v = state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        update = (m / (1 - beta1 ** step.to(wide))) / ((v / (1 - beta2 ** step.to(wide))).sqrt() + group["eps"])
        update = update + group["weight_decay"] * p
        if group["adapt"] == "all" or group["weight_decay"]:
            update = update * trust_ratio(p, update, group["stacked"])
        p.sub_(group["lr"] * update)


def trust_ratio(p: Tensor, update: Tensor, stacked: int = 0) -> Tensor:
    """Norm of the weights over norm of the update, for each run; 1 where either is 0."""
    inner = tuple(range(stacked, p.ndim))
    if not inner:  # one number a run
        weight, change = p.abs(), update.abs()
    else:
        weight = torch.linalg.vector_norm(p, dim=inner, keepdim=True)
        change = torch.linalg.vector_norm(update, dim=inner, keepdim=True)
    return torch.where((weight > 0) & (change > 0), weight / change, 1.0)
