"""Initialisations that mixers share."""

import math

import torch
from torch import Tensor

DT_INIT_FLOOR = 1e-4
"""Smallest step size at initialisation, as in mamba_ssm."""


@torch.no_grad()
def init_step_bias(bias: Tensor, dt_min: float, dt_max: float) -> None:
    """softplus(bias) log-uniform in [dt_min, dt_max]; bias is filled in place."""
    u = torch.rand(bias.shape, device=bias.device)
    dt = torch.exp(u * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)).clamp(min=DT_INIT_FLOOR)
    bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus


@torch.no_grad()
def scale_by_depth(n_layer: int, *out: Tensor) -> None:
    """Divide what a layer adds to the residual stream by the square root of the number of layers, in place: as in mamba_ssm's models.

    The stream then starts with the same scale, however deep the stack is.
    """
    for weight in out:
        weight /= n_layer**0.5
