"""AdamW or LAMB with weight decay where it belongs, and the learning rate. Glossary: `lgmamba.train`."""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from lgmamba.config.training import LambConfig, TrainConfig
from lgmamba.train.lamb import Lamb

Moments = dict[int, dict[str, Tensor]]
"""What the optimiser keeps for each parameter of one training, by the number that `torch.optim` gives it."""


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimiser for the parameters of a model; see `optimizer_of`."""
    return optimizer_of(dict(model.named_parameters()), decaying(model), config)


def decaying(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that decay: the weights of linear layers.

    Everything else does not: A_log, D, dt_proj.bias, norms, biases, embeddings, cell queries, the short convolution. Decay
    would pull A towards -1 and step sizes towards softplus(0), which changes what the model remembers.
    """
    return frozenset(f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Linear))


def optimizer_of(
    parameters: Mapping[str, Tensor], decay: Collection[str], config: TrainConfig, stacked: int = 0
) -> torch.optim.Optimizer:
    """The configured optimiser in two groups, the parameters whose names are in `decay` and the rest.

    AdamW updates every element of a parameter on its own, so that a parameter with a leading axis of runs is that many
    parameters that know nothing of each other. LAMB takes norms, of each run apart.

    Args:
        stacked: leading axes of the parameters that count runs.
    """
    decayed = [p for name, p in parameters.items() if name in decay]
    rest = [p for name, p in parameters.items() if name not in decay]
    cuda = rest[0].is_cuda
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    # On CUDA a tensor, so that a recorded graph of the step reads the current value.
    lr = torch.tensor(config.lr, device="cuda") if cuda else config.lr
    chosen = config.optimizer
    if isinstance(chosen, LambConfig):
        return Lamb(groups, lr, config.betas, chosen.eps, adapt=chosen.adapt, stacked=stacked)
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, fused=True, capturable=cuda)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up from lr / warmup_steps at step 0 to lr; then constant, or a cosine to final_lr x lr at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    return config.lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Before a step; where the rate lives on the device, it is filled in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def moments_of(optimizer: torch.optim.Optimizer) -> Moments:
    """What an optimiser keeps; its own tensors, not copies."""
    return optimizer.state_dict()["state"]


def load_moments(optimizer: torch.optim.Optimizer, moments: Moments) -> None:
    """Go on from what `moments_of` returned, now or in an earlier attempt."""
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
