"""AdamW with weight decay where it belongs, and its learning rate. Glossary: `lgmamba.train`."""

import math

import torch
from torch import nn

from lgmamba.config.run import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW, two groups: weights of linear layers decay, everything else does not.

    Everything else: A_log, D, dt_proj.bias, norms, biases, embeddings, cell queries, the short convolution. Decay would
    pull A towards -1 and step sizes towards softplus(0), which changes what the model remembers.
    """
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    decay = [p for p in model.parameters() if id(p) in linear]
    rest = [p for p in model.parameters() if id(p) not in linear]
    cuda = next(model.parameters()).is_cuda
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        # On CUDA a tensor, so that a recorded graph of the step reads the current value.
        lr=torch.tensor(config.lr, device="cuda") if cuda else config.lr,
        betas=config.betas,
        fused=True,
        capturable=cuda,
    )


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up from lr / warmup_steps at step 0 to lr, then a cosine to final_lr x lr at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    return config.lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Before a step; where the rate lives on the device, it is filled in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
